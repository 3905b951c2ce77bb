"""Words beside the vectors that stage 2 reads."""

import numpy as np
import pytest

import catid2_jax
from catid2_jax.data.catalog import Product
from catid2_jax.data.corpus import Catalog
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.encoders.hashed_words import hashed_words
from catid2_jax.errors import InputError
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.source import VectorSource

TITLES = ("red kettle", "green lamp", "oak table", "steel spoon", "wool scarf", "paper cup")
CATALOG = Catalog.from_products(Product(f"p{i}", title, "", ()) for i, title in enumerate(TITLES))
CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]])
SAME = np.full((len(TITLES), 8), 2.0, np.float32)
"""Vectors that tell no product from another."""


def trained(word_features, embeddings=SAME, query_vectors=SAME[:1]):
    return catid2_jax.train_retriever(
        CATALOG,
        DocidTable(CATALOG.ids, CODES),
        {"q": "a red kettle"},
        {"q": {"p0": 3}},
        embeddings=embeddings,
        query_vectors=query_vectors,
        word_features=word_features,
        memory_tokens=2,
        num_encoder_layers=0,
        num_decoder_layers=1,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=16,
        dropout_rate=0.0,
        seq2seq_training={"batch_size": 7, "epochs": 60, "learning_rate": 0.02, "warmup_steps": 1},
        beams=6,
    )


@pytest.mark.parametrize(
    "known",
    [
        pytest.param((SAME, SAME[:1]), id="beside"),
        pytest.param((None, None), id="alone", marks=pytest.mark.slow),
    ],
)
def test_words_find_what_vectors_cannot_tell_apart(known):
    queries = ["a steel spoon", "the green lamp", "paper cups"]
    found = trained(256, *known).search(queries, 1, vectors=None if known[0] is None else SAME[:3])
    assert [hits[0].product.id for hits in found] == ["p3", "p1", "p5"]


def test_vectors_and_words_count_alike():
    source = VectorSource(CodeVocabulary(2, 3), 8, word_features=32)
    found = source.of_queries(["wool"], 7 * SAME[:1])
    assert source.form.shape == (40,)
    np.testing.assert_allclose(found[:, :8], np.full((1, 8), 8**-0.5), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 8:], hashed_words(["wool"], 32))


def test_a_network_that_reads_text_has_words_already():
    with pytest.raises(InputError) as error:
        catid2_jax.train_retriever(
            CATALOG, DocidTable(CATALOG.ids, CODES), {"q": "a"}, {"q": {"p0": 3}}, word_features=8
        )
    assert (error.value.where, error.value.found) == ("word_features", "8 with memory_tokens = 0")
    with pytest.raises(InputError, match="word_features: found -1, expected at least 0"):
        Seq2SeqConfig(word_features=-1)
