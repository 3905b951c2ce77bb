"""seqio's vocabulary and, where they are there, Hugging Face's, beside the package's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.checkpoints.tokenizer import write_tokenizer
from catid2_jax.data.catalog import product_text
from catid2_jax.data.synthetic import SyntheticConfig, generate_products, generate_queries
from catid2_jax.docids.table import format_docid
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.errors import InputError

pytestmark = pytest.mark.seqio
pytest.importorskip("seqio")

import tensorflow as tf

from catid2_jax.t5x.vocabulary import IdVocabulary

L, K = 4, 256
LINES = SyntheticConfig(products=5000, train_queries=5000)


@pytest.fixture(scope="module")
def lines():
    texts = [product_text(product, True) for product in generate_products(LINES, 1)]
    return texts + [query.text for query, _ in generate_queries(LINES, 1, "train")]


@pytest.fixture(scope="module")
def path(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    path.write_bytes(train_vocabulary(lines[::10], 1000))
    return path


@pytest.fixture(scope="module")
def vocabulary(path):
    return IdVocabulary(path, L, K, extra_ids=7)


@pytest.fixture(scope="module")
def encode_tf(vocabulary):
    """The tokens that a tf.data pipeline makes of texts."""

    def encode(texts):
        data = tf.data.Dataset.from_tensor_slices(texts).map(vocabulary.encode_tf)
        return [tokens.tolist() for tokens in data.as_numpy_iterator()]

    return encode


def check_same(found, expected):
    """But for a few lines, where of two equally likely ways to cut a word one took the other."""
    other = [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]]
    assert all(sorted(one) == sorted(two) for one, two in other)
    assert len(other) <= 20


def test_ten_thousand_lines_have_the_same_ids(path, vocabulary, encode_tf, lines):
    own = Vocabulary(path, L, K, extra_ids=7)
    assert len(lines) == 10_000
    expected = [own.text_ids(line) for line in lines]
    check_same(encode_tf(lines), expected)
    assert [list(vocabulary.encode(line)) for line in lines[::10]] == expected[::10]
    for ids in expected[::100]:
        if own.unknown not in ids:
            assert vocabulary.decode(ids) == own.decode(ids)


def test_hugging_faces_tokenizer_has_the_same_ids(path, encode_tf, lines, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    write_tokenizer(tmp_path, Vocabulary(path, L, K, extra_ids=7))
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    check_same([encoding.ids[:-1] for encoding in tokenizer.encode_batch(lines)], encode_tf(lines))


CODES = st.lists(st.integers(0, K - 1), min_size=L, max_size=L)


@settings(deadline=None, max_examples=50)
@given(codes=st.lists(CODES, min_size=1, max_size=8))
def test_ids_go_there_and_back(vocabulary, codes):
    texts = [format_docid(row) for row in codes]
    tokens = vocabulary.ids.encode_codes(np.array(codes))
    np.testing.assert_array_equal([vocabulary.encode(text) for text in texts], tokens)
    np.testing.assert_array_equal([vocabulary.encode_tf(text) for text in texts], tokens)
    assert [vocabulary.decode(row) for row in tokens.tolist()] == texts
    decoded = vocabulary.decode_tf(tf.constant(tokens[None, :, :])).numpy()
    assert decoded.shape == (1, len(codes))
    assert [text.decode() for text in decoded[0]] == texts


@pytest.mark.parametrize(
    "text",
    [
        "<a_65>",
        "<a_1><b_2><c_3>",
        "<a_1><b_2><c_3><d_256>",
        "<a_1><b_2><c_3><d_04>",
        "<b_1><a_2><c_3><d_4>",
        "<a_1><b_2><c_3><d_4><e_5>",
        "tea <a_1><b_2><c_3><d_4>",
        "<extra_id_3>",
        "</s>",
        "",
    ],
)
def test_what_is_no_id_is_text(vocabulary, encode_tf, text):
    expected = vocabulary.ids.text_ids(text)
    assert encode_tf([text]) == [expected]
    assert vocabulary.encode(text) == expected


def test_decoding_stops_at_the_end_and_knows_what_stands_for_nothing(vocabulary):
    ids = vocabulary.ids
    first = ids.first_id_token
    tea, mug = ids.text_ids("tea"), ids.text_ids("mug")
    assert vocabulary.decode([*tea, ids.end, *mug]) == ids.decode(tea)
    both = [first + 3, first + K + 9, *tea, first + 2 * K]
    assert vocabulary.decode(both) == f"<a_3><b_9>{ids.decode(tea)}<c_0>"
    unknown = vocabulary.decode([ids.unknown])
    for token in (ids.pieces, first + L * K):  # an extra id, and beyond the last code
        assert vocabulary.decode([token]) == unknown
    assert vocabulary.decode_tf(tf.constant([0, 0, 0])).numpy() == b""


def test_sizes_and_special_ids(path, vocabulary):
    assert vocabulary.vocab_size == vocabulary.ids.pieces + 7 + L * K
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
    assert vocabulary.bos_id is None


def test_equal_vocabularies(path, vocabulary, lines, tmp_path):
    same = IdVocabulary(path, L, K, extra_ids=7)
    assert vocabulary == same
    assert hash(vocabulary) == hash(same)
    (tmp_path / "other.model").write_bytes(train_vocabulary(lines[::20], 500))
    for other in (
        IdVocabulary(path, L, K, extra_ids=8),
        IdVocabulary(path, L - 1, K, extra_ids=7),
        IdVocabulary(path, L, K - 1, extra_ids=7),
        IdVocabulary(tmp_path / "other.model", L, K, extra_ids=7),
        vocabulary.ids,
    ):
        assert vocabulary != other


def test_no_model(tmp_path):
    with pytest.raises(InputError, match=r"none\.model: found no readable file"):
        IdVocabulary(tmp_path / "none.model", L, K)
