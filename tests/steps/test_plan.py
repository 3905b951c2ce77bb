"""Which steps a configuration asks for, where they work, and what they may read; nothing trains."""

import numpy as np
import pytest

from catid2_jax.config import UndeclaredSectionError, default_config, freeze, view
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_queries
from catid2_jax.docids.table import read_docids
from catid2_jax.errors import InputError
from catid2_jax.steps import embed
from catid2_jax.steps.chain import plan, run_until
from catid2_jax.workdir import Workdir, read_record, record_path
from tests.steps.own import WordEncoder

OWN, WITHOUT = "tests.steps.own:SORTED", "tests.steps.own:SORTED_WITHOUT_CATEGORIES"
TABLE_4 = "table4_tiger_without_categories"


def config(*systems, **changes):
    values = default_config()
    values.systems = systems
    values.data.synthetic.update(products=60, train_queries=120, dev_queries=0, test_queries=20)
    values.embedding.encoder = "tests.steps.own:WordEncoder"
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.mark.parametrize(
    ("systems", "last", "changes", "expected"),
    [
        (
            "cat_id2 tiger bm25",
            "evaluate",
            {},
            "prepare, embed, cat_id2 docids, cat_id2 train_seq2seq, cat_id2 retrieve, tiger docids,"
            " tiger train_seq2seq, tiger retrieve, bm25 retrieve, evaluate",
        ),
        (
            "clusters cat_id2",
            "evaluate",
            {},
            "prepare, embed, cat_id2 docids, cat_id2 train_seq2seq, clusters retrieve,"
            " cat_id2 retrieve, evaluate",
        ),
        ("clusters", "train_seq2seq", {}, "prepare, embed, cat_id2 docids, cat_id2 train_seq2seq"),
        (
            f"{TABLE_4} cat_id2",
            "docids",
            {},
            f"prepare, {TABLE_4} embed, {TABLE_4} docids, embed, cat_id2 docids",
        ),
        (
            f"{TABLE_4} {TABLE_4}@1 clusters@2",
            "train_seq2seq",
            {},
            f"prepare, {TABLE_4} embed, {TABLE_4} docids, {TABLE_4} train_seq2seq,"
            f" {TABLE_4}@1 docids, {TABLE_4}@1 train_seq2seq,"
            " embed, cat_id2@2 docids, cat_id2@2 train_seq2seq",
        ),
        ("bm25", "evaluate", {}, "prepare, bm25 retrieve, evaluate"),
        ("bm25", "embed", {}, "prepare, embed"),
        ("cat_id2 bm25", "prepare", {}, "prepare"),
        (
            "given bm25",
            "evaluate",
            {"docids.path": "x.jsonl", "evaluate.retrieval": False},
            "prepare, embed, given docids, evaluate",
        ),
        (
            "given bm25",
            "retrieve",  # by that verb, whatever is to be measured
            {"docids.path": "x.jsonl", "evaluate.retrieval": False},
            "prepare, embed, given docids, given train_seq2seq, given retrieve, bm25 retrieve",
        ),
    ],
)
def test_every_step_is_there_once_and_after_those_it_needs(
    tmp_path, systems, last, changes, expected
):
    steps = plan(config(*systems.split(), **changes), Workdir(tmp_path), last)
    assert [step.label for step in steps] == expected.split(", ")
    assert not list(tmp_path.iterdir())


def test_a_system_that_searches_with_anothers_model_has_what_that_one_changes(tmp_path):
    steps = plan(config("tests.steps.own:OF_ANOTHER"), Workdir(tmp_path), "retrieve")
    assert [step.label for step in steps] == [
        *("prepare", "embed", "SMALL_MODEL docids", "SMALL_MODEL train_seq2seq"),
        "OF_ANOTHER retrieve",
    ]
    assert steps[-1].place.model == tmp_path / "SMALL_MODEL"
    assert {(s.config.t5.emb_dim, s.config.rqvae.levels) for s in steps[2:]} == {(24, 5)}


def test_an_unknown_system_is_told_which_there_are(tmp_path):
    with pytest.raises(InputError) as error:
        run_until(config("cat_id2", "lightgcn"), Workdir(tmp_path), "embed")
    assert (error.value.where, error.value.found) == ("config.systems", "'lightgcn'")
    assert (
        "cat_id2, cat_id2_literal, tiger, cost, bm25, rq_kmeans, rq_kmeans_balanced"
        in error.value.expected
    )
    assert "table3_hccl" in error.value.expected
    assert "package.module:Name" in error.value.expected
    assert not list(tmp_path.iterdir())


def test_ids_made_elsewhere_need_the_system_that_reads_them(tmp_path):
    with pytest.raises(InputError) as error:
        plan(config("cat_id2", **{"docids.path": "x.jsonl"}), Workdir(tmp_path), "embed")
    assert error.value.where == "config.docids.path"
    assert error.value.expected == "the system 'given' among them, which reads it"


def test_other_queries_are_not_measured(tmp_path):
    with pytest.raises(InputError) as error:
        run_until(config("bm25", **{"retrieve.queries": "q"}), Workdir(tmp_path), "evaluate")
    assert (error.value.where, error.value.found) == ("config.retrieve.queries", "'q'")


def test_a_system_that_changes_the_embeddings_has_its_own(tmp_path, monkeypatch):
    workdir, encoded, encode = Workdir(tmp_path), [], WordEncoder.encode
    monkeypatch.setattr(
        WordEncoder, "encode", lambda self, texts: encoded.append(texts) or encode(self, texts)
    )
    stale = tmp_path / TABLE_4 / "query_vectors.dev.npy"  # of an unfinished run
    stale.parent.mkdir()
    stale.touch()
    run_until(config(OWN, WITHOUT, TABLE_4), workdir, "embed")
    assert not stale.exists()
    monkeypatch.undo()
    catalog, encoder = Catalog.open(workdir.catalog), WordEncoder()
    whole = [f"{p.title}. {p.text}. {' > '.join(p.categories)}" for p in catalog]
    parts = [f"{p.title}. {p.text}" for p in catalog]
    queries = encoder.encode([query.text for query in read_queries(workdir.queries("test"))])
    folders = {".": whole, "SORTED_WITHOUT_CATEGORIES": parts, TABLE_4: parts}
    for name, texts in folders.items():
        found = np.load(tmp_path / name / "embeddings.npy")
        np.testing.assert_allclose(found, encoder.encode(texts), atol=1e-6)
        vectors = np.load(tmp_path / name / "query_vectors.test.npy")
        np.testing.assert_allclose(vectors, queries, atol=1e-6)
        with_categories = read_record(record_path(tmp_path / name, "embed")).config["embedding"]
        assert with_categories["with_categories"] == (name == ".")
    assert {path.parent.name for path in tmp_path.rglob("embeddings.npy")} == {
        tmp_path.name,
        "SORTED_WITHOUT_CATEGORIES",
        TABLE_4,
    }

    # What has been made before is not made again.
    assert len(encoded) == 2 * len(("products", "train queries", "test queries"))
    one, other = (tmp_path / name for name in ("SORTED_WITHOUT_CATEGORIES", TABLE_4))
    assert (one / "embeddings.npy").samefile(other / "embeddings.npy")
    records = [read_record(record_path(folder, "embed")) for folder in (one, other)]
    assert records[0].files == records[1].files
    assert len(records[0].files) == 4  # with the figures

    run_until(config(OWN, WITHOUT), workdir, "docids")
    for name, texts in (("SORTED", whole), ("SORTED_WITHOUT_CATEGORIES", parts)):
        table = read_docids(tmp_path / name / "docids.jsonl")
        order = np.argsort(encoder.encode(texts)[:, 0])
        assert np.argsort(table.codes[:, 0]).tolist() == order.tolist()


@pytest.mark.parametrize("section", ["t5", "data", "retrieve", "systems", "options"])
def test_a_step_that_reads_what_it_does_not_declare_fails(tmp_path, monkeypatch, section):
    run_until(config("bm25"), Workdir(tmp_path), "prepare")
    with monkeypatch.context() as patched:
        patched.setattr(embed, "run", lambda config, place: getattr(config, section))
        with pytest.raises(UndeclaredSectionError, match=f"step embed reads '{section}'"):
            run_until(config("bm25"), Workdir(tmp_path), "embed")
    assert not read_record(record_path(tmp_path, "embed")).done
    run_until(config("bm25"), Workdir(tmp_path), "embed")
    assert read_record(record_path(tmp_path, "embed")).done


def test_a_step_that_declares_a_field_does_not_see_its_neighbours():
    seen = view(config("bm25"), ("data.preprocessing", "docids.checkpoint"), "step")
    assert seen.seed == 0
    assert seen.data.preprocessing == config("bm25").data.preprocessing
    assert seen.docids.checkpoint == "last"
    for read in (lambda: seen.data.catalog, lambda: seen.docids.path, lambda: seen.t5):
        with pytest.raises(UndeclaredSectionError):
            read()


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding.encoder": "lsa"},
        {"embedding.encoder": "precomputed", "embedding.path": "x.npy"},
        {
            "embedding.encoder": "precomputed",
            "embedding.path": "x.npy",
            "embedding.test_query_vectors": "t.npy",
            "retrieve.queries": "q.jsonl",
        },
    ],
)
def test_clusters_without_query_vectors_are_refused_before_any_work(tmp_path, changes):
    with pytest.raises(InputError) as error:
        plan(config("cat_id2", "clusters", **changes), Workdir(tmp_path), "retrieve")
    assert error.value.where == "config.systems"
    assert error.value.found.startswith("'clusters' with encoder")
    if "retrieve.queries" in changes:
        given = changes | {"retrieve.query_vectors": "v.npy"}
        assert plan(config("clusters", **given), Workdir(tmp_path), "retrieve")
