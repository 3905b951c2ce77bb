"""A whole run with a scheme, a decoder, a retriever and an encoder from outside of the package."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import catid2_jax
from catid2_jax import pipeline
from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.docids.table import read_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.seq2seq.decoder import T5Decoder
from tests.plugins.my_decoder import MyDecoder
from tests.plugins.my_encoder import MyEncoder
from tests.plugins.my_retriever import MyRetriever
from tests.plugins.my_scheme import MyScheme

HERE = pathlib.Path(__file__).parent
SYSTEMS = ("MyScheme", "MyRetriever", "bm25", "MY_SYSTEM")
TRAINED = ("MyScheme", "MY_SYSTEM")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("plugins")
    pipeline.main(["pipeline", f"--config={HERE / 'my_config.py'}", f"--workdir={root}"])
    return root


@pytest.fixture(scope="module")
def catalog(root):
    return Catalog.open(root / "data" / "catalog.parquet")


def queries(root):
    lines = (root / "data" / "queries.test.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["id"]: record["text"] for record in map(json.loads, lines)}


def test_every_system_has_its_files_and_its_recall(root):
    metrics = json.loads((root / "metrics.json").read_text())
    for name in SYSTEMS:
        assert 0 < metrics[f"{name}/recall@5"] <= metrics[f"{name}/recall@10"] <= 1
        assert (root / name / "run.trec").read_text().split()[-1] == name
        assert (root / name / "steps" / "retrieve.json").exists()
        assert (root / name / "docids.jsonl").exists() == (name in TRAINED)
        assert (root / name / "seq2seq").exists() == (name in TRAINED)
        # A run's own embeddings are its folder's only if they are others than all systems'.
        assert (root / name / "embeddings.npy").exists() == (name == "MY_SYSTEM")
    assert not (root / "MyScheme" / "rqvae").exists()
    explained = [metrics[f"{name}/explained"] for name in TRAINED]
    assert all(0 < value < 1 for value in explained)
    assert explained[0] != explained[1]


def test_vectors_are_the_encoder_s(root, catalog):
    encoder = MyEncoder(32)
    for folder, with_path in (root, True), (root / "MY_SYSTEM", False):
        texts = [
            ". ".join([p.title, p.text, *([" > ".join(p.categories)] if with_path else [])])
            for p in catalog
        ]
        found = np.load(folder / "embeddings.npy")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, encoder.encode(texts))
        vectors = np.load(folder / "query_vectors.test.npy")
        np.testing.assert_array_equal(vectors, encoder.encode(list(queries(root).values())))


def test_ids_are_the_scheme_s(root, catalog):
    for name, folder, branches in ("MyScheme", root, 5), ("MY_SYSTEM", root / "MY_SYSTEM", 5):
        corpus = Corpus(catalog, np.load(folder / "embeddings.npy"))
        expected = MyScheme(branches).fit(corpus, catid2_jax.Run(name, root))
        found = read_docids(root / name / "docids.jsonl")
        assert list(found.ids) == catalog.ids
        np.testing.assert_array_equal(found.codes, expected.codes)
        record = json.loads((root / name / "steps" / "docids.json").read_text())
        assert record["result"] == {"levels": 3, "codebook_size": 5}


def test_rankings_are_the_retriever_s(root, catalog):
    texts = queries(root)
    ranking = MyRetriever(Corpus(catalog), category_weight=0.25).search(list(texts.values()), 15)
    run = read_run(root / "MyRetriever" / "run.trec")
    assert run
    for query, rows, scores in zip(texts, ranking.documents, ranking.scores, strict=True):
        expected = [
            (catalog.ids[row], score) for row, score in zip(rows, scores, strict=True) if row >= 0
        ]
        assert run.get(query, []) == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_load_finds_what_the_run_found(root, name):
    retriever = catid2_jax.load(root, name)
    run, texts = read_run(root / name / "run.trec"), queries(root)
    for query, hits in zip(texts, retriever.search(list(texts.values()), k=15), strict=True):
        expected = run.get(query, [])
        assert [hit.product.id for hit in hits] == [document for document, _ in expected]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [score for _, score in expected], rtol=1e-5, atol=1e-5
        )
        assert all(bool(hit.docid) == (name in TRAINED) for hit in hits)


def test_the_first_that_generates_is_the_default(root):
    assert catid2_jax.load(root).name in TRAINED


def test_a_system_that_changes_the_embeddings_has_its_own(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "embeddings.npy").unlink()
    (copy / "steps" / "embed.json").unlink()
    assert len(catid2_jax.load(copy, "MY_SYSTEM").catalog) == 54
    with pytest.raises(InputError) as error:
        catid2_jax.load(copy, "MyScheme")
    assert error.value.found == "no finished step embed"


def test_vectors_may_be_given_or_made(root):
    """Of a query that the network reads as a vector, by the encoder from outside."""
    retriever = catid2_jax.load(root, "MY_SYSTEM")
    np.testing.assert_array_equal(
        retriever.retriever.model.source.of_queries(["tea", "a lamp"]),
        MyEncoder(32).encode(["tea", "a lamp"]),
    )
    made = retriever.search(["tea", "a lamp"], k=3)
    given = retriever.search(["x", "y"], k=3, vectors=MyEncoder(32).encode(["tea", "a lamp"]))
    assert made == given
    alone = retriever.search("x", k=3, vectors=MyEncoder(32).encode(["tea"])[0])
    assert [hit.docid for hit in alone] == [hit.docid for hit in made[0]]
    assert [hit.score for hit in made[0]] != [hit.score for hit in made[1]]


def test_the_decoder_is_the_own_one(root):
    """Its codes compete within their level, whatever the search asks for."""
    decoder = catid2_jax.load(root, "MY_SYSTEM").retriever.model.decoder
    assert type(decoder) is MyDecoder
    assert type(catid2_jax.load(root, "MyScheme").retriever.model.decoder) is T5Decoder
    full, level = (
        [
            hit.score
            for hit in catid2_jax.load(root, "MY_SYSTEM", normalize_over=over).search("tea", k=3)
        ]
        for over in ("full", "level")
    )
    assert full == level


def test_another_run_of_the_same_does_nothing(root, capsys):
    files = [path for path in sorted(root.rglob("*")) if path.name in ("docids.jsonl", "run.trec")]
    before = [path.stat().st_mtime_ns for path in files]
    pipeline.main(["pipeline", f"--config={HERE / 'my_config.py'}", f"--workdir={root}"])
    assert [path.stat().st_mtime_ns for path in files] == before
    assert capsys.readouterr().out.count("done before") == 11


def test_another_option_is_another_run(root, capsys):
    with pytest.raises(SystemExit) as error:
        pipeline.main(
            [
                "pipeline",
                f"--config={HERE / 'my_config.py'}",
                f"--workdir={root}",
                "--config.options.MyScheme.branches=6",
            ]
        )
    assert error.value.code == 2
    assert "options.MyScheme.branches = 5, and now 6" in capsys.readouterr().err
