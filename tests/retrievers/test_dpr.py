"""DPR's towers: what they are trained on, their loss beside NumPy's, and a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import catid2_jax
from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.data.queries import read_queries
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.files import read_json
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.resolution import resolve_system
from catid2_jax.retrievers import towers
from catid2_jax.retrievers.towers import (
    Tower,
    encode_all,
    initial_state,
    make_tower_data,
    make_tower_step,
    mine_negatives,
)
from catid2_jax.steps.chain import plan, run_until
from catid2_jax.types import Product, Query
from catid2_jax.workdir import Workdir
from tests.plugins import tiny
from tests.retrievers.test_bm25 import lucene_bm25

TITLES = ("red shirt", "blue shirt", "shirt button", "steel kettle", "garden hose")
CORPUS = Corpus(
    Catalog.from_products(Product(f"p{n}", title, "", ("c",)) for n, title in enumerate(TITLES))
)
QUERIES = QuerySet(
    [Query("a", "blue shirt"), Query("b", "kettle"), Query("c", "tea"), Query("d", "none")],
    {"a": {"p0": 3, "p1": 2}, "b": {"p3": 3}, "c": {"p4": 3}},
)
SMALL = T5Config(
    emb_dim=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.0,
)


def test_negatives_are_bm25_s_best_that_are_not_relevant():
    texts = [(n, f"{title} c") for n, title in enumerate(TITLES)]
    mined = mine_negatives(CORPUS, QUERIES, 2, seed=0)
    ranked = [row for row, _ in lucene_bm25("blue shirt", texts)]
    assert ranked[:2] == [1, 0]  # both relevant
    assert mined[0] == ranked[2:]
    assert len(mined[1]) == len(mined[2]) == 1  # BM25 finds no other: one is drawn
    assert mined[1][0] != 3
    assert mined[2][0] != 4
    assert mine_negatives(CORPUS, QUERIES, 2, seed=0) == mined


def test_every_pair_has_a_negative():
    sources, products = np.arange(4)[:, None], np.arange(5)[:, None]
    data = make_tower_data(CORPUS, QUERIES, sources, products, [[2, 3, 4], [], [0], [1]])
    pairs = zip(data.query.tolist(), data.positive.tolist(), data.negative.tolist(), strict=True)
    assert list(pairs) == [(0, 0, 2), (0, 1, 3), (2, 4, 0)]
    assert data.relevant.tolist() == [[0, 1], [3, -1], [4, -1], [-1, -1]]
    with pytest.raises(InputError, match="queries: found none with a product and another"):
        make_tower_data(CORPUS, QUERIES, sources, products, [[]] * 4)


@pytest.mark.slow
def test_the_loss_of_a_step_is_numpy_s_over_the_batch():
    """A product that is relevant to a query is no negative of it, wherever it comes from."""
    tower = Tower(Transformer(SMALL, 128))
    rng = np.random.default_rng(0)
    sources, products = (rng.integers(1, 99, (n, 3)).astype(np.int32) for n in (4, 5))
    data = make_tower_data(CORPUS, QUERIES, sources, products, [[3, 2], [0], [1], []])
    params = tower.initialize(jax.random.key(0), jax.ShapeDtypeStruct((3,), jnp.int32))
    optimizer = optax.sgd(0.1)
    state = initial_state(params, optimizer)
    batch = jax.tree.map(jnp.asarray, data.batch(np.arange(4)))
    _, metrics = make_tower_step(tower, optimizer, 0.5, seed=0)(state, batch)
    queries = encode_all(tower, params, sources[[0, 0, 1, 2]])
    rows = [0, 1, 3, 4, 3, 2, 0, 1]  # the positives, then the negatives
    found = encode_all(tower, params, products[rows])
    relevant = [{0, 1}, {0, 1}, {3}, {4}]
    losses = []
    for i, query in enumerate(queries):
        kept = [j for j, row in enumerate(rows) if j == i or row not in relevant[i]]
        scores = np.exp(found[kept] @ query / 0.5)
        losses.append(-np.log(scores[kept.index(i)] / scores.sum()))
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_padding_does_not_change_a_vector(monkeypatch):
    tower = Tower(Transformer(SMALL, 128))
    params = tower.initialize(jax.random.key(1), jax.ShapeDtypeStruct((4,), jnp.int32))
    monkeypatch.setattr(towers, "_ROWS", 2)
    found = encode_all(tower, params, np.array([[5, 7, 0, 0], [5, 7, 9, 0], [3, 0, 0, 0]]))
    alone = [encode_all(tower, params, np.array([ids])) for ids in ([5, 7], [5, 7, 9], [3])]
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def config(reads, **changes):
    values = tiny.get_config()
    values.systems = ("dpr",)
    values.seq2seq_training.epochs = 6
    if reads == "vectors":
        values.embedding.encoder = "tests.steps.own:WordEncoder"
        values.t5.update(memory_tokens=2, num_encoder_layers=0)
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.mark.parametrize("reads", ["vectors", pytest.param("text", marks=pytest.mark.slow)])
def test_a_run_finds_more_than_chance_and_can_be_loaded(tmp_path, reads):
    workdir = Workdir(tmp_path)
    run_until(config(reads), workdir, "evaluate")
    run = read_run(tmp_path / "dpr/run.trec")
    recall = read_json(workdir.metrics)["dpr/recall@10"]
    products = len(Catalog.open(workdir.catalog))
    assert recall > 2 * 10 / products
    queries = read_queries(workdir.queries("test"))[:4]
    vectors = None
    if reads == "vectors":
        vectors = np.load(tmp_path / "query_vectors.test.npy")[:4]
    retriever = catid2_jax.load(tmp_path, "dpr")
    hits = retriever.search([query.text for query in queries], k=15, vectors=vectors)
    for query, found in zip(queries, hits, strict=True):
        assert [hit.product.id for hit in found] == [product for product, _ in run[query.id]]
    documents = np.load(tmp_path / "dpr/product_vectors.npy")
    assert documents.shape == (products, 32)


def test_the_steps_of_dpr(tmp_path):
    steps = plan(config("text", systems=("dpr", "fused"), **FUSED), Workdir(tmp_path), "retrieve")
    assert [step.label for step in steps] == [
        *("prepare", "embed", "dpr train_towers", "dpr retrieve", "fused retrieve"),
    ]
    assert resolve_system("dpr", config("text")).is_seeded
    with pytest.raises(InputError) as error:
        resolve_system("dpr", freeze(pretrained()))
    assert error.value.where == "config.seq2seq.pretrained"


FUSED = {"options.fused.systems": ("dpr", "bm25")}


def pretrained():
    values = default_config()
    values.seq2seq.update(pretrained="t5", vocabulary="t5.model")
    return values
