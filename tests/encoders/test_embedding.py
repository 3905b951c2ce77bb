import numpy as np
import pytest

from catid2_jax.encoders.lsa import LsaEncoder
from catid2_jax.encoders.precomputed import read_embeddings
from catid2_jax.errors import InputError
from catid2_jax.progress import console

TEXTS = [
    "red cotton shirt",
    "blue cotton shirt",
    "steel kettle",
    "steel tea kettle tea tea",
    "garden hose",
]


def tf_idf(texts):
    """Sublinear TF-IDF with smoothed document frequencies, rows of unit norm."""
    words = sorted({word for text in texts for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in texts], float)
    tf = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    idf = np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0))) + 1
    matrix = tf * idf
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_lsa_is_the_svd_of_tf_idf_written_out():
    u, s, _ = np.linalg.svd(tf_idf(TEXTS), full_matrices=False)
    expected = u[:, :4] * s[:4]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = LsaEncoder(4, seed=0).encode(TEXTS)
    # A singular vector's sign is free, so the cosines are compared.
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=1e-4)
    assert ours.dtype == np.float32


def test_lsa_is_reproducible_and_narrower_where_the_corpus_is_small():
    first = LsaEncoder(100, seed=3).encode(TEXTS)
    np.testing.assert_array_equal(first, LsaEncoder(100, seed=3).encode(TEXTS))
    assert first.shape == (5, 4)
    assert LsaEncoder(8, seed=0).encode(["shoe"]).shape == (1, 1)


def test_precomputed_embeddings_come_back_as_float32(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    y = read_embeddings(tmp_path / "x.npy", 4)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(x, y)


BAD = {
    "found 3 embeddings, expected 4": np.zeros((3, 2)),
    r"NaN or infinity in 2 rows, the first is row 1": np.array(
        [[0.0, 1], [np.nan, 1], [0, 1], [np.inf, 0]]
    ),
    "expected floats": np.zeros((4, 2), int),
    r"found float64 \(4,\), expected floats": np.zeros(4),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_embeddings(tmp_path, message):
    np.save(tmp_path / "x.npy", BAD[message])
    with pytest.raises(InputError, match=message):
        read_embeddings(tmp_path / "x.npy", 4)


def test_embeddings_of_another_width(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 3)))
    assert read_embeddings(tmp_path / "x.npy", 4, "train query", 3).shape == (4, 3)
    with pytest.raises(InputError) as error:
        read_embeddings(tmp_path / "x.npy", 4, "train query", 2)
    assert error.value.where == str(tmp_path / "x.npy")
    assert error.value.found == "embeddings of width 3"
    assert error.value.expected.startswith("2, that of the documents' embeddings")
    with pytest.raises(InputError, match="found 4 embeddings, expected 5, one per train query in"):
        read_embeddings(tmp_path / "x.npy", 5, "train query", 3)


def test_no_embeddings(tmp_path):
    with pytest.raises(InputError, match=r"found no readable file \(No such file"):
        read_embeddings(tmp_path / "x.npy", 4)
    for content in (b"", b"not an array"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"found no \.npy array, expected one of floats"):
            read_embeddings(tmp_path / "x.npy", 4)


def test_lsa_sees_words_inside_of_japanese_titles():
    makers = ["防水", "軽量", "木製", "電動"]
    titles = [f"{maker}{kind}" for kind in ("靴箱", "椅子", "台車", "照明") for maker in makers]
    vectors = LsaEncoder(8, seed=0).encode(titles)
    similar = vectors @ vectors.T - 2 * np.eye(len(titles))
    same_part = [
        titles[row][:2] == titles[near][:2] or titles[row][2:] == titles[near][2:]
        for row, near in enumerate(similar.argmax(axis=1))
    ]
    assert all(same_part)


def test_lsa_counts_texts_without_a_word_and_needs_one():
    with console.capture() as capture:
        vectors = LsaEncoder(4, seed=0).encode([*TEXTS, "\U0001f381"])
    assert capture.get() == f"1 of {len(TEXTS) + 1} texts have no word and a vector of zeros\n"
    assert not vectors[-1].any()
    with pytest.raises(InputError, match="encoder: found 'lsa' and no word in any text"):
        LsaEncoder(4, seed=0).encode(["-", ""])
