"""Retrievers that train nothing, from the configuration to the run and back from its folder."""

import dataclasses

import numpy as np
import pytest

import catid2_jax
from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.resolution import resolve_systems
from catid2_jax.steps.chain import plan, run_until
from catid2_jax.workdir import Workdir
from tests.steps.own import NARROW_DENSE, WordEncoder

OWN = "tests.steps.own:NARROW_DENSE"
SYSTEMS = ("bm25", "nearest_query", "dense", OWN, "fused")
NAMES = ("bm25", "nearest_query", "dense", "NARROW_DENSE", "fused")


def config(systems=SYSTEMS, fused=("dense", OWN, "bm25"), **changes):
    values = default_config()
    values.systems = systems
    values.data.synthetic.update(products=60, train_queries=120, dev_queries=0, test_queries=20)
    values.embedding.encoder = "tests.steps.own:WordEncoder"
    values.retrieve.update(k=12, beams=12)
    values.evaluate.cutoffs = (5, 10)
    values.options.fused.systems = fused
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    found = Workdir(tmp_path_factory.mktemp("work"))
    run_until(config(), found, "evaluate")
    return found


@pytest.fixture(scope="module")
def runs(workdir):
    return {name: read_run(workdir.root / name / "run.trec") for name in NAMES}


@pytest.mark.parametrize(("name", "dim"), [("dense", 16), ("NARROW_DENSE", 8)])
def test_dense_finds_the_highest_cosines_of_the_encoder_s_vectors(workdir, runs, name, dim):
    encoder, catalog = WordEncoder(dim), Catalog.open(workdir.catalog)
    texts = [f"{p.title}. {p.text}. {' > '.join(p.categories)}" for p in catalog]
    queries = read_queries(workdir.queries("test"))
    cosines = encoder.encode([q.text for q in queries]) @ encoder.encode(texts).T
    for query, scores in zip(queries, cosines, strict=True):
        order = np.argsort(-scores, kind="stable")[:12]
        assert [p for p, _ in runs[name][query.id]] == [catalog.ids[row] for row in order]
        found = [score for _, score in runs[name][query.id]]
        np.testing.assert_allclose(found, scores[order], rtol=1e-5)


def test_fused_sums_the_reciprocal_ranks_of_the_others(runs):
    for query, found in runs["fused"].items():
        sums = {}
        for name in ("dense", "NARROW_DENSE", "bm25"):
            for rank, (product, _) in enumerate(runs[name].get(query, ()), 1):
                sums[product] = sums.get(product, 0.0) + 1 / (60 + rank)
        assert [s for _, s in found] == pytest.approx(sorted(sums.values(), reverse=True)[:12])
        assert all(score == pytest.approx(sums[product]) for product, score in found)


def test_nearest_query_finds_what_training_queries_have(workdir, runs):
    qrels = read_qrels(workdir.qrels("train"))
    known = {product for judged in qrels.values() for product in judged}
    found = {product for run in runs["nearest_query"].values() for product, _ in run}
    assert len(found) > 10
    assert found <= known


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_loaded_and_finds_the_same(workdir, runs, name):
    queries = read_queries(workdir.queries("test"))[:5]
    found = catid2_jax.load(workdir.root, name).search([q.text for q in queries], k=12)
    for query, hits in zip(queries, found, strict=True):
        expected = runs[name].get(query.id, [])
        assert [hit.product.id for hit in hits] == [product for product, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], rel=1e-5)


def test_the_parts_of_a_fused_system_are_made_before_it(tmp_path):
    wanted = config(("fused",), fused=("clusters", OWN))
    assert [step.label for step in plan(wanted, Workdir(tmp_path), "evaluate")] == [
        *("prepare", "embed", "cat_id2 docids", "cat_id2 train_seq2seq"),
        *("NARROW_DENSE embed", "fused retrieve", "evaluate"),
    ]


@pytest.mark.parametrize(
    ("fused", "where", "found"),
    [
        (("bm25", "lightgcn"), "config.options.fused.systems", "'lightgcn'"),
        (("bm25", "fused"), "config.options.fused.systems", "'fused'"),
        (("bm25", "bm25"), "config.options.fused.systems", "('bm25', 'bm25')"),
    ],
)
def test_systems_that_cannot_be_fused(fused, where, found):
    with pytest.raises(InputError) as error:
        resolve_systems(config(("fused",), fused))
    assert (error.value.where, error.value.found) == (where, found)


def test_queries_need_vectors_to_be_searched_by(tmp_path):
    for systems in (("dense",), ("fused",)):
        lsa = config(systems, ("dense", "bm25"), **{"embedding.encoder": "lsa"})
        with pytest.raises(InputError, match="'dense' with encoder 'lsa' and no vectors"):
            run_until(lsa, Workdir(tmp_path), "retrieve")


def test_sentence_encoders_are_the_row_s(tmp_path):
    wanted = dataclasses.replace(config(("sentence_t5", "mpnet")))
    for system in resolve_systems(wanted).values():
        assert system.config.embedding.encoder == "sentence_transformers"
        assert system.config.embedding.path.startswith("sentence-transformers/")
        assert system.needs_embeddings
    assert NARROW_DENSE.retriever == "dense"
