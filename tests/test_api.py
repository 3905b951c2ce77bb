"""What a program calls: `load`, `search`, `learn_docids`, `train_retriever`, and the README's."""

import dataclasses
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest

import catid2_jax
from catid2_jax import api
from catid2_jax.config import Config, freeze
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.table import parse_docid, read_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.files import read_sealed, write_sealed
from catid2_jax.lock import LOCK, locked
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.steps.chain import run_until
from catid2_jax.training.optimizer import TrainingConfig
from catid2_jax.types import Query
from catid2_jax.workdir import Workdir
from tests.plugins import tiny
from tests.plugins.my_encoder import MyEncoder

STAGE_1 = {
    "levels": 3,
    "category_levels": 2,
    "codebook_size": 8,
    "latent_dim": 8,
    "hidden_dims": (16,),
    "batch_size": 32,
    "steps": 10,
    "steps_per_dispatch": 4,
    "warmup_steps": 1,
    "learning_rate": 0.01,
}
STAGE_2 = {
    "emb_dim": 32,
    "num_heads": 2,
    "head_dim": 16,
    "mlp_dim": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "vocabulary_size": 300,
    "epochs": 40,
    "warmup_steps": 10,
    "steps_per_dispatch": 4,
    "beams": 20,
}
VECTORS = {"memory_tokens": 2, "num_encoder_layers": 0, "epochs": 2, "warmup_steps": 1}
"""As `tiny.get_config` says."""


@pytest.fixture(scope="module")
def retriever(tiny_workdir):
    return catid2_jax.load(tiny_workdir)


@pytest.fixture(scope="module")
def bm25(tiny_workdir):
    return catid2_jax.load(tiny_workdir, "bm25")


@pytest.fixture(scope="module")
def catalog(retriever):
    return retriever.catalog


@pytest.fixture(scope="module")
def embeddings(tiny_workdir):
    return np.load(tiny_workdir / "embeddings.npy")


@pytest.fixture(scope="module")
def queries(tiny_workdir):
    return read_queries(tiny_workdir / "data" / "queries.test.jsonl")


def refused(function, *arguments, **settings):
    with pytest.raises(InputError) as error:
        function(*arguments, **settings)
    assert "\n" not in str(error.value)
    return error.value


def scores(hits):
    return [hit.score for hit in hits]


def ids(hits):
    return [hit.product.id for hit in hits]


# load


def test_load_takes_the_system_that_generates(retriever, bm25):
    assert (retriever.name, bm25.name) == ("cat_id2", "bm25")
    assert retriever.table.ids == retriever.catalog.ids
    assert bm25.table is None
    config = freeze(tiny.get_config()).retrieve
    assert dataclasses.replace(retriever.retriever.config, k=config.k) == config


def test_load_takes_a_path_as_text(tiny_workdir, retriever):
    found = catid2_jax.load(str(tiny_workdir), system="cat_id2").search("tea", k=3)
    assert found == retriever.search("tea", k=3)


def test_settings_of_the_search(tiny_workdir, retriever):
    few = catid2_jax.load(tiny_workdir, beams=3, batch_size=7, normalize_over="valid")
    changed = dataclasses.replace(
        retriever.retriever.config, beams=3, batch_size=7, normalize_over="valid"
    )
    assert few.retriever.config == changed
    assert refused(few.search, "tea", k=4).where == "k"
    # What competes over fewer codes has more probability.
    found = few.search("tea", k=3)
    assert len(found) == 3
    assert scores(found) > scores(retriever.search("tea", k=3))


def test_fewer_bits_give_other_scores(tiny_workdir, retriever):
    found = catid2_jax.load(tiny_workdir, param_dtype="bfloat16").search("tea", k=3)
    exact = retriever.search("tea", k=3)
    assert scores(found) != scores(exact)
    assert scores(found) == pytest.approx(scores(exact), abs=0.5)


@pytest.mark.parametrize(
    ("settings", "where", "found"),
    [
        ({"beam": 5}, "load", "the setting 'beam'"),
        ({"allow_ids": "ids.txt"}, "load", "the setting 'allow_ids'"),
        ({"k": 5}, "load", "the setting 'k'"),
        ({"beams": 0}, "config.retrieve.beams", "0"),
        ({"beams": "5"}, "config.retrieve.beams", "'5'"),
        ({"max_beams": 5}, "config.retrieve.max_beams", "5"),
        ({"normalize_over": "all"}, "config.retrieve.normalize_over", "'all'"),
        ({"param_dtype": "float8"}, "config.retrieve.param_dtype", "'float8'"),
        ({"checkpoint": "first"}, "config.retrieve.checkpoint", "'first'"),
    ],
)
def test_settings_that_there_are_not(tiny_workdir, settings, where, found):
    error = refused(catid2_jax.load, tiny_workdir, **settings)
    assert (error.where, error.found) == (where, found)


def test_checkpoint_that_there_is_not(tiny_workdir):
    error = refused(catid2_jax.load, tiny_workdir, checkpoint="best")
    assert error.where.endswith("cat_id2/seq2seq/best")


def test_no_work_directory(tmp_path, tiny_workdir):
    for path, found in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "no steps/"),
        (tiny_workdir / "metrics.json", "no such folder"),
        (tiny_workdir / "data", "no steps/"),
    ):
        error = refused(catid2_jax.load, path)
        assert (error.where, error.found) == (str(path), found)


@pytest.fixture
def copy(tiny_workdir, tmp_path):
    """The work directory, to spoil."""
    return pathlib.Path(shutil.copytree(tiny_workdir, tmp_path / "copy"))


def test_a_work_directory_may_move(copy, retriever):
    assert catid2_jax.load(copy).search("tea", k=3) == retriever.search("tea", k=3)


def test_unknown_system(copy):
    for name in ("tiger", "data", "", "nobody"):
        if name:
            error = refused(catid2_jax.load, copy, name)
            assert error.found == f"no system {name!r}"
            assert error.expected == "one of cat_id2, bm25"
    shutil.rmtree(copy / "cat_id2")
    assert catid2_jax.load(copy).name == "bm25"
    assert refused(catid2_jax.load, copy, "cat_id2").expected == "one of bm25"


def unfinished(path):
    write_sealed(path, read_sealed(path) | {"done": False})


@pytest.mark.parametrize("spoil", [pathlib.Path.unlink, unfinished])
@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("steps/prepare.json", "no finished step prepare"),
        ("steps/embed.json", "no finished step embed"),
        ("cat_id2/steps/docids.json", "no finished step docids of system cat_id2"),
        ("cat_id2/steps/train_seq2seq.json", "no finished step train_seq2seq of system cat_id2"),
    ],
)
def test_unfinished(copy, step, found, spoil):
    spoil(copy / step)
    assert refused(catid2_jax.load, copy, "cat_id2").found == found
    if "prepare" in step:
        assert refused(catid2_jax.load, copy, "bm25").found == found
    else:
        assert catid2_jax.load(copy, "bm25").name == "bm25"


@pytest.mark.parametrize("system", ["", "cat_id2"])
def test_interrupted_before_any_system(copy, system):
    for name in ("cat_id2", "bm25"):
        shutil.rmtree(copy / name)
    assert refused(catid2_jax.load, copy, system).found == "no finished step docids"
    (copy / "steps" / "embed.json").unlink()
    assert refused(catid2_jax.load, copy, system).found == "no finished step embed"
    unfinished(copy / "steps" / "prepare.json")
    assert refused(catid2_jax.load, copy, system).found == "no finished step prepare"


@pytest.mark.parametrize("step", ["steps/prepare.json", "cat_id2/steps/docids.json"])
@pytest.mark.parametrize("version", [1, 4])
def test_another_format(copy, step, version):
    record = read_sealed(copy / step)
    if version == 1:  # which had no number
        del record["format"]
    else:
        record["format"] = version
    write_sealed(copy / step, record)
    error = refused(catid2_jax.load, copy)
    assert error.where == str(copy / step)
    assert error.found.startswith(f"a work directory of format {version}")


def test_damaged_record(copy):
    path = copy / "cat_id2" / "steps" / "train_seq2seq.json"
    path.write_text(path.read_text()[:-9])
    assert refused(catid2_jax.load, copy).where == str(path)


def test_ids_of_another_catalog(copy):
    path = copy / "cat_id2" / "docids.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    assert refused(catid2_jax.load, copy).where == str(path)


# search


def test_hits_are_those_of_the_run(tiny_workdir, retriever, bm25, queries):
    texts = [query.text for query in queries]
    lines = (tiny_workdir / "cat_id2" / "docids.jsonl").read_text().splitlines()
    docids = {record["id"]: record["docid"] for record in map(json.loads, lines)}
    for system, table in ((retriever, docids), (bm25, {})):
        run = read_run(tiny_workdir / system.name / "run.trec")
        found = system.search(texts, k=15)
        assert isinstance(found, list)
        assert len(found) == len(queries)
        for query, hits in zip(queries, found, strict=True):
            expected = run.get(query.id, [])
            assert ids(hits) == [document for document, _ in expected]
            np.testing.assert_allclose(scores(hits), [s for _, s in expected], rtol=1e-5)
            for hit in hits:
                assert hit.docid == table.get(hit.product.id, "")
                row = system.catalog.rows[hit.product.id]
                assert hit.product == system.catalog[row]
                if table:
                    assert parse_docid(hit.docid) == system.table.codes[row].tolist()


def test_hits_are_a_sequence(retriever):
    hits = retriever.search("tea", k=3)
    assert isinstance(hits, catid2_jax.Hits)
    assert len(hits) == 3
    assert hits[0] == next(iter(hits))
    assert hits[1:3] == tuple(hits)[1:3]
    assert hits[-1] in hits
    assert scores(hits) == sorted(scores(hits), reverse=True)
    assert type(hits[0].score) is float
    assert type(hits.proven) is bool


def test_one_query_is_as_in_a_batch(retriever, bm25, queries):
    texts = [query.text for query in queries]
    for system in (retriever, bm25):
        for text, together in zip(texts, system.search(texts, k=15), strict=True):
            alone = system.search(text, k=15)
            assert isinstance(alone, catid2_jax.Hits)
            assert ids(alone) == ids(together)
            np.testing.assert_allclose(scores(alone), scores(together), rtol=1e-5)
            assert alone.proven == together.proven
    assert retriever.search((texts[0],), k=15) == [retriever.search(texts[0], k=15)]


@pytest.fixture(scope="module")
def exhaustive(tiny_workdir, catalog):
    """With as many beams as products nothing is missed."""
    return catid2_jax.load(tiny_workdir, beams=len(catalog))


@pytest.fixture(scope="module")
def whole(exhaustive, catalog, queries):
    """Every query's ranking of all products."""
    return exhaustive.search([query.text for query in queries], k=len(catalog))


def test_proven_is_right(tiny_workdir, whole, bm25, queries):
    texts = [query.text for query in queries]
    assert all(hits.proven for hits in whole)
    narrow = catid2_jax.load(tiny_workdir, beams=5).search(texts, k=3)
    proven = [hits.proven for hits in narrow]
    assert any(proven)
    assert not all(proven)
    for hits, best in zip(narrow, whole, strict=True):
        if hits.proven:
            assert ids(hits) == ids(best)[:3]
    assert [hits.proven for hits in bm25.search(texts, k=3)] == [None] * len(texts)


def brute_force(product, allow_ids=None, deny_ids=(), allow_categories=None, deny_categories=()):
    """Whether a filter lets a product through, by the words of its documentation."""

    def within(paths):
        texts = [" > ".join(path) if not isinstance(path, str) else path for path in paths]
        own = " > ".join(product.categories)
        return any(own == text or own.startswith(f"{text} > ") for text in texts)

    return (
        (allow_ids is None or product.id in allow_ids)
        and product.id not in deny_ids
        and (allow_categories is None or within(allow_categories))
        and not within(deny_categories)
    )


def test_filters_keep_the_order_of_the_whole_ranking(exhaustive, whole, catalog, queries):
    texts = [query.text for query in queries]
    paths = [product.categories for product in catalog]
    filters = [
        {"allow_ids": catalog.ids[::3]},
        {"allow_ids": set(catalog.ids[:9]), "deny_ids": tuple(catalog.ids[4:20])},
        {"deny_ids": np.array(catalog.ids[::2])},
        {"allow_categories": [paths[0]]},
        {"allow_categories": [list(paths[0][:1]), paths[7]]},
        {"allow_categories": [" > ".join(paths[3][:2])], "deny_categories": None},
        {"deny_categories": [paths[1][:1], paths[2][:1]], "deny_ids": catalog.ids[30:]},
        {"allow_categories": [paths[0][:1]], "deny_categories": [paths[0][:2]]},
        {"allow_ids": []},
    ]
    assert {len(hits) for hits in whole} == {len(catalog)}
    for conditions in filters:
        given = {name: value for name, value in conditions.items() if value is not None}
        allowed = {product.id for product in catalog if brute_force(product, **given)}
        assert len(allowed) < len(catalog)
        found = exhaustive.search(texts, k=len(catalog), **conditions)
        for hits, every in zip(found, whole, strict=True):
            expected = [hit for hit in every if hit.product.id in allowed]
            assert ids(hits) == ids(expected)
            np.testing.assert_allclose(scores(hits), scores(expected), rtol=1e-5)


def test_filters_of_bm25(bm25, catalog, queries):
    texts = [query.text for query in queries]
    denied = catalog.ids[::2]
    whole = bm25.search(texts, k=len(catalog))
    for hits, every in zip(bm25.search(texts, k=len(catalog), deny_ids=denied), whole, strict=True):
        kept = {hit.product.id: hit.score for hit in every if hit.product.id not in denied}
        assert dict(zip(ids(hits), scores(hits), strict=True)) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("query", "settings", "where", "found"),
    [
        ("", {}, "query 0", "''"),
        (" \t\n", {}, "query 0", "' \\t\\n'"),
        (["tea", ""], {}, "query 1", "''"),
        (["tea", 5], {}, "query 1", "5"),
        (["tea", None], {}, "query 1", "None"),
        ([], {}, "queries", "none"),
        (5, {}, "queries", "5"),
        (None, {}, "queries", "None"),
        (b"tea", {}, "queries", "b'tea'"),
        ("tea \ud800", {}, "query 0", "a lone surrogate in 'tea \\ud800'"),
        ("tea", {"k": 0}, "k", "0"),
        ("tea", {"k": -1}, "k", "-1"),
        ("tea", {"k": 2.0}, "k", "2.0"),
        ("tea", {"k": "2"}, "k", "'2'"),
        ("tea", {"allow": ["p"]}, "search", "the argument 'allow'"),
        ("tea", {"allow_ids": ["p9", "p8"]}, "filter", "unknown ids 'p8', 'p9' in allow_ids"),
        ("tea", {"deny_ids": ["p9"]}, "filter", "unknown ids 'p9' in deny_ids"),
        ("tea", {"deny_ids": "p0000000"}, "filter", "deny_ids 'p0000000'"),
        ("tea", {"allow_ids": [None]}, "filter", "id None"),
        (
            "tea",
            {"allow_categories": ["Homes"]},
            "filter",
            "unknown categories 'Homes' in allow_categories",
        ),
        (
            "tea",
            {"deny_categories": [("Homes", "X")]},
            "filter",
            "unknown categories 'Homes > X' in deny_categories",
        ),
        ("tea", {"deny_categories": [["Homes", ""]]}, "filter", "category ''"),
        ("tea", {"deny_categories": [[]]}, "filter", "category []"),
    ],
)
def test_what_cannot_be_searched_for(retriever, bm25, query, settings, where, found):
    for system in (retriever, bm25):
        error = refused(system.search, query, **settings)
        assert (error.where, error.found) == (where, found)


def test_more_than_the_beams(retriever, bm25):
    assert len(retriever.search("tea", k=20)) == 20
    error = refused(retriever.search, "tea", k=21)
    assert (error.where, error.found, error.expected) == ("k", "21", "1 to beams = 20")
    assert len(bm25.search("a table lamp for the garden", k=10**6)) <= len(bm25.catalog)
    assert retriever.search("tea", k=np.int64(3)) == retriever.search("tea", k=3)


def test_a_long_query_is_cut(retriever, bm25):
    """To the tokens that the network reads; the rest changes nothing."""
    text = ("green tea " * 10_000)[:100_000]
    assert len(text) == 100_000
    assert retriever.search(text, k=3) == retriever.search(text[:2000], k=3)
    assert len(bm25.search(text, k=3)) <= 3


def test_any_text_is_a_query(retriever, bm25):
    for text in ("\0", "👩‍🦰 \u202e thé", "<a_1><b_2>", "ﷺ" * 50, "%s {} \\"):
        assert len(retriever.search(text, k=3)) == 3
        assert len(bm25.search(text, k=3)) <= 3


# learn_docids


def test_ids_are_those_of_the_pipeline(tiny_workdir, catalog, embeddings):
    expected = read_docids(tiny_workdir / "cat_id2" / "docids.jsonl", 8)
    found = catid2_jax.learn_docids(catalog, embeddings, **STAGE_1)
    assert list(found.ids) == list(expected.ids)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    assert found.codebook_size == 8


@pytest.mark.slow
def test_queries_reach_the_ids_of_the_pipeline_and_of_a_call(tmp_path):
    """With an encoder of queries, which that of `tiny` is not."""
    config = tiny.get_config()
    config.embedding.encoder = "tests.plugins.my_encoder:MyEncoder"
    config.embedding.options = {"dim": 32}
    run_until(freeze(config), Workdir(tmp_path), "docids")
    expected = read_docids(tmp_path / "cat_id2" / "docids.jsonl")
    catalog = catid2_jax.Catalog.open(tmp_path / "data" / "catalog.parquet")
    vectors = np.load(tmp_path / "embeddings.npy")
    texts = {query.id: query.text for query in read_queries(tmp_path / "data/queries.train.jsonl")}
    known = {
        "queries": texts,
        "qrels": read_qrels(tmp_path / "data/qrels.train.txt"),
        "query_vectors": MyEncoder(32).encode(list(texts.values())),
    }
    found = catid2_jax.learn_docids(catalog, vectors, **known, **STAGE_1)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    without = catid2_jax.learn_docids(catalog, vectors, **STAGE_1)
    assert (found.nearest != without.nearest).any()


def test_a_system_changes_the_scheme(tmp_path, tiny_workdir, catalog, embeddings):
    """With settings as parts of sections, as whole ones and as fields."""
    config = tiny.get_config()
    config.systems = ("tiger",)
    for name in ("data", "steps"):
        shutil.copytree(tiny_workdir / name, tmp_path / name)
    shutil.copy(tiny_workdir / "embeddings.npy", tmp_path)
    run_until(freeze(config), Workdir(tmp_path), "docids")
    expected = read_docids(tmp_path / "tiger" / "docids.jsonl")
    settings = {
        "rqvae": {name: STAGE_1[name] for name in ("levels", "category_levels", "codebook_size")},
        "rqvae_training": freeze(config).rqvae_training,
        "latent_dim": 8,
        "hidden_dims": [16],
    }
    found = catid2_jax.learn_docids(catalog, embeddings, "tiger", **settings)
    np.testing.assert_array_equal(found.codes, expected.codes)
    cat_id2 = read_docids(tiny_workdir / "cat_id2" / "docids.jsonl")
    assert (found.codes != cat_id2.codes).any()


def test_a_scheme_or_a_system_of_one_s_own(catalog, embeddings):
    path = "tests.plugins.my_scheme"
    found = catid2_jax.learn_docids(catalog, embeddings, f"{path}:MyScheme", branches=3)
    assert (found.levels, found.codebook_size) == (4, 3)  # 3^4 = 81 products at most
    system = catid2_jax.learn_docids(catalog, embeddings, f"{path}:MY_SYSTEM", branches=3)
    np.testing.assert_array_equal(system.codes, found.codes)


def test_given_ids(tiny_workdir, catalog, embeddings):
    path = tiny_workdir / "cat_id2" / "docids.jsonl"
    found = catid2_jax.learn_docids(catalog, embeddings, "given", path=str(path))
    np.testing.assert_array_equal(found.codes, read_docids(path).codes)


def test_ids_of_an_earlier_state(tiny_workdir, embeddings, catalog):
    """The catalogue has lost a product and has another one: the others keep their IDs."""
    rows = np.array([*range(1, len(catalog)), 0])
    new = dataclasses.replace(catalog[0], id="new")
    changed = catid2_jax.Catalog.from_products([*catalog[1:], new])
    found = catid2_jax.learn_docids(
        changed, embeddings[rows], previous=str(tiny_workdir), **STAGE_1
    )
    before = read_docids(tiny_workdir / "cat_id2" / "docids.jsonl").codes
    np.testing.assert_array_equal(found.codes[:-1], before[1:])
    assert found.ids[-1] == "new"


def learn(catalog, embeddings, scheme="cat_id2", **changes):
    return catid2_jax.learn_docids(catalog, embeddings, scheme, **(STAGE_1 | changes))


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        ({"level": 3}, "settings", "'level'"),
        ({"beams": 3}, "settings", "'beams'"),
        ({"levels": "3"}, "rqvae.levels", "'3'"),
        ({"codebook_size": 1}, "", "54 documents"),
        ({"category_levels": 3}, "rqvae.category_levels", "3 with 3 levels"),
        ({"rqvae": {"depth": 3}}, "rqvae.depth", "no such field"),
        ({"rqvae": 3}, "rqvae", "3"),
        ({"collisions": {"levels": 3}}, "docids.collisions.levels", "no such field"),
        ({"previous": "nowhere"}, "nowhere/cat_id2/docids.jsonl", "no such file"),
        ({"scheme": "nobody"}, "scheme", "'nobody'"),
        ({"scheme": "bm25"}, "scheme", "'bm25'"),
        ({"scheme": "tests.plugins.bad:Nobody"}, "scheme", "no 'Nobody' in tests.plugins.bad"),
        (
            {"scheme": "tests.plugins.my_retriever:MyRetriever"},
            "scheme",
            "'tests.plugins.my_retriever:MyRetriever' without fit",
        ),
    ],
)
def test_ids_that_cannot_be_learnt(catalog, embeddings, changes, where, found):
    error = refused(learn, catalog, embeddings, **changes)
    assert (error.where, error.found) == (where, found)


def test_what_a_setting_may_be_is_said(catalog, embeddings):
    expected = refused(learn, catalog, embeddings, level=3).expected
    assert {"levels", "codebook_size", "epochs", "cluster_scale", "grace"} <= set(
        expected.replace(",", "").split()
    )
    own = refused(learn, catalog, embeddings, "tests.plugins.my_scheme:MyScheme", branch=3)
    assert own.expected == "some of branches"


def test_embeddings_that_do_not_fit(catalog, embeddings):
    spoilt = embeddings.copy()
    spoilt[7, 3] = np.nan
    for array, found in (
        (spoilt, "NaN or infinity in row 7"),
        (embeddings[1:], "float32 (53, 16)"),
        (embeddings.astype(int), "int64 (54, 16)"),
        (embeddings[:, 0], "float32 (54,)"),
        ([["a"]] * len(catalog), "<U1 (54, 1)"),
    ):
        error = refused(learn, catalog, array)
        assert (error.where, error.found) == ("embeddings", found)


def test_queries_without_vectors(catalog, embeddings):
    for known in ({"queries": {"q": "tea"}}, {"qrels": {"q": {catalog.ids[0]: 3}}}):
        error = refused(learn, catalog, embeddings, **known)
        assert (error.where, error.found) == ("query_vectors", "none beside queries")


def test_float16_and_lists_are_embeddings(catalog, embeddings):
    half, scheme = embeddings.astype(np.float16), "tests.plugins.my_scheme:MyScheme"
    expected = catid2_jax.learn_docids(catalog, half.astype(np.float32), scheme).codes
    for array in (half, half.tolist(), half.astype(np.float64)):
        found = catid2_jax.learn_docids(catalog, array, scheme).codes
        np.testing.assert_array_equal(found, expected)


def test_a_directory_keeps_the_training(tmp_path, capsys, catalog, embeddings):
    first = learn(catalog, embeddings, directory=tmp_path, steps=2)
    assert (tmp_path / "rqvae").is_dir()
    capsys.readouterr()
    again = learn(catalog, embeddings, directory=tmp_path, steps=2)
    np.testing.assert_array_equal(again.codes, first.codes)
    assert "k-means" not in capsys.readouterr().out  # which a training begins with
    for changed in (
        {"steps": 3},
        {"seed": 1},
        {"scheme": "tiger"},
        {"embeddings": embeddings + 1},
        {"catalog": catid2_jax.Catalog.from_products(catalog[::-1])},
    ):
        call = {"catalog": catalog, "embeddings": embeddings, "steps": 2} | changed
        error = refused(learn, directory=tmp_path, **call)
        assert error.found == "the work of a call with other arguments"


# train_retriever


@pytest.fixture(scope="module")
def training(tiny_workdir):
    """The training queries and what was judged for them."""
    data = tiny_workdir / "data"
    return read_queries(data / "queries.train.jsonl"), read_qrels(data / "qrels.train.txt")


def fit(catalog, table, training, **changes):
    settings = STAGE_2 | {"seq2seq_training": {"batch_size": 64}} | changes
    return catid2_jax.train_retriever(catalog, table, *training, **settings)


def test_the_network_is_the_pipeline_s(retriever, catalog, training, queries):
    trained = fit(catalog, retriever.table, training)
    texts = [query.text for query in queries]
    for found, expected in zip(
        trained.search(texts, k=15), retriever.search(texts, k=15), strict=True
    ):
        assert found == expected


def test_it_finds_what_it_has_seen(retriever, training):
    """Far more often than the 5 of 54 products that chance finds."""
    queries, qrels = training
    found = retriever.search([query.text for query in queries], k=5)
    seen = [
        bool({*ids(hits)} & qrels[query.id].keys())
        for query, hits in zip(queries, found, strict=True)
    ]
    assert np.mean(seen) > 0.6


def test_a_network_that_reads_vectors(tmp_path, retriever, catalog, embeddings, training):
    """A query's vector is that of a product for which it was judged."""
    queries, qrels = training
    rows = [catalog.rows[next(iter(qrels[query.id]))] for query in queries]
    settings = VECTORS | {"epochs": 80, "warmup_steps": 10, "learning_rate": 5e-3}
    settings |= {"embeddings": embeddings, "directory": tmp_path}
    vectors = embeddings[rows]
    trained = fit(catalog, retriever.table, training, query_vectors=vectors, **settings)
    found = trained.search(["x"] * len(catalog), k=5, vectors=embeddings)
    firsts = [product in ids(hits) for product, hits in zip(catalog.ids, found, strict=True)]
    assert np.mean(firsts) > 0.6

    # A query without a judgement is left out, and its vector too: it is the same training.
    more = ([Query("none", "without a judgement"), *queries], qrels)
    vectors = np.concatenate([np.full((1, 16), 9, np.float32), vectors])
    again = fit(catalog, retriever.table, more, query_vectors=vectors, **settings)
    assert again.search(["x"] * len(catalog), k=5, vectors=embeddings) == found

    assert refused(trained.search, "tea").where == "vectors"
    error = refused(trained.search, "tea", vectors=embeddings[:2])
    assert error.found == "float32 (2, 16) for 1 texts"
    error = refused(trained.search, "tea", vectors=embeddings[0, :5])
    assert error.found == "vectors of width 5"
    nan = np.full(16, np.nan, np.float32)
    assert "NaN" in refused(trained.search, "tea", vectors=nan).found


def test_what_cannot_be_trained(retriever, catalog, embeddings, training):
    queries, qrels = training
    vectors = {"embeddings": embeddings, **VECTORS}
    first = queries[0].id
    table = retriever.table
    for given, changes, where, found in (
        (training, {"emb_dims": 3}, "settings", "'emb_dims'"),
        (training, {"levels": 3}, "settings", "'levels'"),
        (training, {"batch_size": 3}, "batch_size", "3"),
        (training, {"epochs": -1}, "seq2seq_training.epochs", "-1"),
        (training, {"objective": {"z_loss": -1.0}}, "seq2seq.objective.z_loss", "-1.0"),
        (training, {"decoder": "t6"}, "decoder", "'t6'"),
        (training, VECTORS, "embeddings", "none"),
        (training, vectors, "vectors", "none"),
        (
            training,
            vectors | {"query_vectors": embeddings[:3]},
            "encoder",
            f"float32 (3, 16) for {len(queries)} texts",
        ),
        (training, {"embeddings": embeddings[:3]}, "embeddings", "float32 (3, 16)"),
        (
            (queries, qrels | {first: {"p?": 3}}),
            {},
            f"qrels of query '{first}'",
            "product 'p?'",
        ),
        ((queries, {}), {"title_weight": 0.0}, "training pairs", "none with a weight"),
        (training, {"evaluation": {"queries": 3}}, "evaluation.queries", "3 and no dev queries"),
        (
            training,
            {"pretrained": "t5", "vocabulary": "v", "id_rows": "codebooks"},
            "pretrained",
            "'t5' with memory_tokens = 0 and id_rows = 'codebooks'",
        ),
        (training, {"model_devices": 3}, "num_heads", "2"),
    ):
        error = refused(fit, catalog, table, given, **changes)
        assert (error.where, error.found) == (where, found)


def test_one_call_at_a_time_works_in_a_directory(
    tmp_path, retriever, catalog, embeddings, training
):
    with locked(tmp_path):
        for call in (
            (learn, catalog, embeddings),
            (fit, catalog, retriever.table, training),
        ):
            error = refused(*call, directory=tmp_path)
            assert error.where == str(tmp_path)
            assert error.found.startswith(f"a run that is at work there: process {os.getpid()} on ")
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    scheme = "tests.plugins.my_scheme:MyScheme"
    catid2_jax.learn_docids(catalog, embeddings, scheme, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["call.json"]


def test_ids_of_other_products(retriever, catalog, training):
    table = retriever.table
    other = catid2_jax.DocidTable(list(table.ids)[::-1], table.codes)
    assert "p0000000" in refused(fit, catalog, other, training).expected


def test_a_directory_keeps_the_network(tmp_path, retriever, catalog, training):
    """Of a call that learns from the same: a dictionary, and judgements that are left out."""
    queries, qrels = training
    short = {"epochs": 1, "warmup_steps": 1, "directory": tmp_path}
    first = fit(catalog, retriever.table, training, **short).search("tea", k=3)
    made = (tmp_path / "vocabulary.model").stat().st_mtime_ns
    texts = {query.id: query.text for query in queries} | {"unjudged": "x", "irrelevant": "y"}
    more = {
        query: judged | {catalog.ids[0]: judged.get(catalog.ids[0], number % 2)}
        for number, (query, judged) in enumerate(qrels.items())
    }
    more |= {"irrelevant": {catalog.ids[0]: 0}, "unknown": {catalog.ids[0]: 1}}
    again = fit(catalog, retriever.table, (texts, more), **short, beams=19)
    np.testing.assert_allclose(scores(again.search("tea", k=3)), scores(first), rtol=1e-5)
    assert (tmp_path / "vocabulary.model").stat().st_mtime_ns == made

    # Another call may go on from it, here by steps of no length.
    on = short | {"directory": tmp_path / "on", "continue_from": str(tmp_path)}
    found = fit(catalog, retriever.table, training, **on, learning_rate=1e-12).search("tea", k=3)
    np.testing.assert_allclose(scores(found), scores(first), rtol=1e-5)

    ids = list(retriever.table.ids)
    other = catid2_jax.DocidTable(ids, retriever.table.codes[::-1], codebook_size=8)
    more[queries[0].id] = {catalog.ids[1]: 3}
    for table, given in ((other, training), (retriever.table, (texts, more))):
        error = refused(fit, catalog, table, given, **short)
        assert error.found == "the work of a call with other arguments"


# README.md

README = pathlib.Path(__file__).parent.parent / "README.md"


SMALL = RQVAEConfig(latent_dim=8, hidden_dims=(16,))
SHORT = TrainingConfig(epochs=2, steps_per_dispatch=2, warmup_steps=1)


@dataclasses.dataclass(frozen=True)
class ShortConfig(Config):
    """The defaults but for a small network and few epochs."""

    rqvae: RQVAEConfig = SMALL
    rqvae_training: TrainingConfig = SHORT


def test_the_readme_s_lines_run(tiny_workdir, catalog, tmp_path, monkeypatch, capsys):
    """Every block of Python, in order, where its files are."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(tiny_workdir)
    lines = [json.dumps(dataclasses.asdict(p) | {"extra": None, **p.extra}) for p in catalog[:20]]
    (tmp_path / "catalog.jsonl").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    np.save(tmp_path / "embeddings.npy", rng.normal(size=(20, 8)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "Config", ShortConfig)
    namespace = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert len(namespace["catalog"]) == 20
    assert namespace["docids"].codes.shape == (20, 4)
    assert re.search(r"<a_\d><b_\d><c_\d>", capsys.readouterr().out)
