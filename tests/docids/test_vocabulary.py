import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.errors import InputError

WORDS = ("red", "shoe", "cotton", "kettle", "steel", "lamp", "garden", "hose", "tea", "mug")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 5)) for _ in range(200)]
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.model"
    path.write_bytes(train_vocabulary(texts, 60))
    return path


def test_id_tokens_follow_the_text_and_extra_ids(path):
    plain, extra = Vocabulary(path, 4, 256), Vocabulary(path, 4, 256, extra_ids=100)
    assert extra.first_id_token == plain.first_id_token + 100
    assert extra.rows % 128 == 0
    assert 0 <= extra.rows - (extra.first_id_token + 4 * 256) < 128


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
def test_encode_and_decode_are_inverse(path, words):
    vocabulary = Vocabulary(path, 4, 16)
    tokens = vocabulary.encode([" ".join(words)], 64)
    assert tokens.max() < vocabulary.first_id_token
    assert vocabulary.decode(tokens[0]) == " ".join(words)


def test_long_text_is_cut_and_ends_in_the_end_id_then_padding(path):
    tokens = Vocabulary(path, 4, 16).encode(["tea " * 50, "tea"], 8)
    assert tokens[0, -1] == 1
    assert (tokens[0] != 0).all()
    end = tokens[1].tolist().index(1)
    assert (tokens[1, end + 1 :] == 0).all()


def test_case_does_not_matter(path):
    vocabulary = Vocabulary(path, 4, 16)
    np.testing.assert_array_equal(
        vocabulary.encode(["Red SHOE"], 8), vocabulary.encode(["red shoe"], 8)
    )


def test_training_is_reproducible():
    texts = ["a red shoe", "a steel kettle"] * 20
    assert train_vocabulary(texts, 40) == train_vocabulary(texts, 40)


def test_not_a_model(tmp_path):
    bad = tmp_path / "bad.model"
    bad.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no SentencePiece model"):
        Vocabulary(bad, 4, 16)
    with pytest.raises(InputError, match="cannot be read"):
        Vocabulary(tmp_path / "missing.model", 4, 16)
