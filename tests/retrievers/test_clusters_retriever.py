"""The retriever of section 4.7, beside prefixes and inner products written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.retrievers.clusters import ClusterRetriever
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.generative import make_model
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.source import VectorSource
from catid2_jax.types import Product

N, L, K, D, Q = 24, 3, 4, 6, 5
RNG = np.random.default_rng(0)
CODES = RNG.permutation(list(itertools.product(range(K), repeat=L)))[:N]
CORPUS = Corpus(
    Catalog.from_products(Product(f"p{n}", "t", "", ("c",)) for n in range(N)),
    RNG.normal(size=(N, D)).astype(np.float32),
)
VECTORS = RNG.normal(size=(Q, D)).astype(np.float32)
QUERIES = [f"q{n}" for n in range(Q)]
CONFIG = RetrieveConfig(k=6, beams=3, batch_size=2)
T5 = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    memory_tokens=2,
    num_encoder_layers=0,
    num_decoder_layers=1,
)


@pytest.fixture(scope="module")
def model():
    """With parameters large enough for queries to differ."""
    table, source = DocidTable(CORPUS.catalog.ids, CODES), VectorSource(CodeVocabulary(L, K), D)
    decoder = make_decoder("t5", T5, source.vocabulary)
    shapes = jax.eval_shape(lambda: decoder.initialize(jax.random.key(0), source.form))
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), jnp.float32), shapes)
    return make_model(decoder, params, source, table, "float32", "full")


@pytest.fixture(scope="module")
def probabilities(model):
    """Log-probability of every code of every product's ID, float [Q, N, L]."""
    targets = model.source.vocabulary.encode_codes(CODES)
    sources = jnp.repeat(jnp.asarray(VECTORS), N, axis=0)
    logits = model.decoder.logits(model.params, sources, jnp.tile(targets, (Q, 1)))
    found = log_softmax(np.asarray(logits, np.float64).reshape(Q, N, L, -1), axis=-1)
    return np.take_along_axis(found, targets[None, :, :, None], axis=-1)[..., 0]


def best_prefixes(scores, codes, level, beams):
    """The prefixes that a beam search of some products keeps, level by level."""
    kept = {()}
    for depth in range(1, level + 1):
        prefixes = {}
        for row, prefix in enumerate(map(tuple, codes[:, :depth].tolist())):
            if prefix[:-1] in kept:
                prefixes[prefix] = scores[row, :depth].sum()
        kept = set(sorted(prefixes, key=lambda p: -prefixes[p])[:beams])
    return kept


def written_out(probabilities, query, allowed, level, beams, k):
    """(row, inner product) of the best products beneath the best prefixes."""
    rows = np.flatnonzero(allowed)
    kept = best_prefixes(probabilities[query, rows], CODES[rows], level, beams)
    beneath = [row for row in rows if tuple(CODES[row, :level].tolist()) in kept]
    scores = CORPUS.embeddings[beneath] @ VECTORS[query]
    order = np.argsort(-scores)[:k]
    return [(beneath[i], scores[i]) for i in order]


def check(ranking, probabilities, allowed, level, beams, k):
    assert ranking.documents.shape[0] == Q
    assert ranking.documents.shape[1] <= k
    for query in range(Q):
        expected = written_out(probabilities, query, allowed[query], level, beams, k)
        there = ranking.documents[query] >= 0
        assert ranking.documents[query][there].tolist() == [row for row, _ in expected]
        np.testing.assert_allclose(
            ranking.scores[query][there], [s for _, s in expected], rtol=1e-5, atol=1e-6
        )
        assert (ranking.scores[query][~there] == -np.inf).all()


EVERYTHING = np.ones((Q, N), bool)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("beams", [1, 3])
def test_products_beneath_the_best_prefixes(model, probabilities, level, beams):
    config = RetrieveConfig(k=6, beams=beams, batch_size=2, max_beams=64)  # is never widened
    ranking = ClusterRetriever(CORPUS, model, config, level).search(QUERIES, 6, vectors=VECTORS)
    check(ranking, probabilities, EVERYTHING, level, beams, 6)
    assert ranking.proven is None


def test_prefixes_and_products_are_those_that_are_allowed(model, probabilities):
    retriever = ClusterRetriever(CORPUS, model, CONFIG)
    assert retriever.level == 2
    of_each = np.random.default_rng(1).random((Q, N)) < 0.4
    of_each[3] = False
    for allowed in (of_each, of_each[0]):
        ranking = retriever.search(QUERIES, 6, vectors=VECTORS, allowed=allowed)
        check(ranking, probabilities, np.broadcast_to(allowed, (Q, N)), 2, 3, 6)


def test_more_results_than_beams(model, probabilities):
    ranking = ClusterRetriever(CORPUS, model, CONFIG, 1).search(QUERIES, 20, vectors=VECTORS)
    check(ranking, probabilities, EVERYTHING, 1, 3, 20)
    assert (ranking.documents >= 0).sum(axis=1).max() > 6


@pytest.mark.parametrize("level", [0, 4, -1])
def test_levels_that_there_are_not(model, level):
    with pytest.raises(InputError) as error:
        ClusterRetriever(CORPUS, model, CONFIG, level)
    assert (error.value.where, error.value.found) == ("level", str(level))
    assert error.value.expected == "1 to 3, the length of an ID"


def test_embeddings_are_needed(model):
    with pytest.raises(InputError) as error:
        ClusterRetriever(Corpus(CORPUS.catalog), model, CONFIG)
    assert (error.value.where, error.value.found) == ("embeddings", "none")


@pytest.mark.parametrize(
    ("vectors", "where", "found"),
    [
        (None, "vectors", "none"),
        (VECTORS[:, 1:], "vectors", "width 5"),
        (VECTORS[1:], "encoder", "float32 (4, 6) for 5 texts"),
        (VECTORS.astype(int), "encoder", "int64 (5, 6) for 5 texts"),
        (VECTORS * np.nan, "encoder", "NaN or infinity in the vector of 'q0'"),
    ],
)
def test_vectors_that_do_not_fit(model, vectors, where, found):
    with pytest.raises(InputError) as error:
        ClusterRetriever(CORPUS, model, CONFIG).search(QUERIES, 6, vectors=vectors)
    assert (error.value.where, error.value.found) == (where, found)
