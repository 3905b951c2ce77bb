"""Hashed words against MurmurHash3 counted by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import murmurhash3_32

from catid2_jax.encoders.hashed_words import hashed_words

F = 64


def counted(tokens):
    """Signed counts of tokens in F features, of unit length; as Weinberger et al. write them."""
    vector = np.zeros(F)
    for token in tokens:
        value = murmurhash3_32(token)
        vector[abs(value) % F] += 1 if value >= 0 else -1
    return vector / (np.linalg.norm(vector) or 1)


def ngrams(word):
    padded = f" {word} "
    return [padded[s : s + n] for n in (3, 4, 5) for s in range(len(padded) - n + 1)]


def test_words_and_ngrams_have_equal_shares():
    expected = counted(["usb", "cafe"]) + counted(ngrams("usb") + ngrams("cafe"))
    (found,) = hashed_words(["USB Café"], F)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_what_shares_a_word_or_its_beginning_is_near():
    one, inflected, other = hashed_words(["dishwasher", "dishwashers", "umbrella"], 4096)
    assert one @ inflected > 0.3
    assert abs(one @ other) < 0.1


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_rows_stand_alone_and_have_unit_norm(texts):
    found = hashed_words(texts, F)
    for text, row in zip(texts, found, strict=True):
        np.testing.assert_array_equal(row, hashed_words([text], F)[0])
        norm = np.linalg.norm(row)
        assert norm == 0 if not text.strip() else (abs(norm - 1) < 1e-5 or norm == 0)
