"""Stage 2 on vectors, from the user's files to the run."""

import json
import pathlib

import jax
import jaxtyping
import numpy as np
import pytest

from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.folder import write_checkpoint
from catid2_jax.config import default_config, freeze, view
from catid2_jax.data.queries import read_queries, write_queries
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.loading import TRAINED_READS
from catid2_jax.progress import console
from catid2_jax.resolution import resolve_system
from catid2_jax.steps import embed, export, retrieve
from catid2_jax.steps.chain import run_until
from catid2_jax.training.checkpoint import newest_step
from catid2_jax.types import Query
from catid2_jax.workdir import Workdir, place_of, shared_place
from tests.checkpoints.examples import UNTIED, random_checkpoint, write_vocabulary

N, L, K, D = 20, 3, 4, 12
RNG = np.random.default_rng(5)
DOCUMENTS = RNG.normal(size=(N, D)).astype(np.float32)
IDS = [f"p{n}" for n in range(N)]
CODES = np.random.default_rng(1).permutation(
    [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
)[:N]
# Each split's queries: (id, product, grade); a grade of 0 makes preprocessing drop the query.
# p19 is found by no training query, so that preprocessing drops its dev and test queries.
SPLITS = {
    "train": [(f"r{n}", n, 0 if n in (0, 7, 19) else 3) for n in range(N)]
    + [("r20", 0, 3), ("r21", 7, 2)],
    "dev": [(f"d{n}", n, 3) for n in (19, 4, 2, 9)],
    "test": [(f"t{n}", n, 3) for n in (3, 19, 8, 0, 5, 12)],
}


def lines(path, values):
    path.write_text("".join(f"{value}\n" for value in values))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files as a user has them: judgements in another order than queries, blank lines among these.

    A query's vector is its product's, but for noise.
    """
    root = tmp_path_factory.mktemp("data")
    products = [
        {"id": i, "title": f"thing {i}", "categories": ["A", f"B{i[-1]}", "C"]} for i in IDS
    ]
    lines(root / "catalog.jsonl", map(json.dumps, products))
    np.save(root / "catalog.npy", DOCUMENTS)
    for split, queries in SPLITS.items():
        texts = [json.dumps({"id": q, "text": "any"}) for q, _, _ in queries]
        lines(root / f"queries.{split}.jsonl", ["", *texts[:2], "", *texts[2:]])
        judged = [f"{q} 0 p{n} {grade}" for q, n, grade in reversed(queries)]
        lines(root / f"qrels.{split}.txt", judged)
        np.save(root / f"queries.{split}.npy", vectors(split))
    write_docids(root / "ids.jsonl", DocidTable(IDS, CODES))
    return root


def vectors(split):
    """In the order of the split's file."""
    noise = np.random.default_rng(len(split)).normal(0, 0.05, (len(SPLITS[split]), D))
    return (DOCUMENTS[[n for _, n, _ in SPLITS[split]]] + noise).astype(np.float16)


def config(data, systems=("given",), **changes):
    values = default_config()
    values.systems = systems
    for split in SPLITS:
        values.data[f"{split}_queries"] = str(data / f"queries.{split}.jsonl")
        values.data[f"{split}_qrels"] = str(data / f"qrels.{split}.txt")
        values.embedding[f"{split}_query_vectors"] = str(data / f"queries.{split}.npy")
    values.data.catalog = str(data / "catalog.jsonl")
    values.embedding.update(encoder="precomputed", path=str(data / "catalog.npy"))
    values.docids.path = str(data / "ids.jsonl")
    values.t5.update(
        emb_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=32,
        num_encoder_layers=0,
        num_decoder_layers=1,
        memory_tokens=2,
    )
    values.seq2seq_training.update(
        batch_size=13, epochs=40, learning_rate=5e-3, evaluate_every=30, best_metric="dev/recall@1"
    )
    values.seq2seq.evaluation.update(queries=3, beams=20, cutoffs=(1, 5))
    values.retrieve.update(beams=20, k=5, batch_size=4)
    values.evaluate.cutoffs = (1, 5)
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A work directory up to `retrieve`, whose run no test changes, and what was printed."""
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    with console.capture() as capture:
        run_until(config(data), workdir, "retrieve")
    return workdir, capture.get()


def test_vectors_follow_the_queries_that_are_kept(data, tmp_path):
    workdir = Workdir(tmp_path)
    run_until(config(data), workdir, "embed")
    for split, queries in SPLITS.items():
        given = {q: vector for (q, _, _), vector in zip(queries, vectors(split), strict=True)}
        kept = [query.id for query in read_queries(workdir.queries(split))]
        assert 0 < len(kept) < len(queries)
        assert kept != [q for q, _, _ in queries if q in kept]  # another order, too
        found = np.load(shared_place(tmp_path).query_vectors(split))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [given[q] for q in kept])


def test_every_query_finds_its_product(trained):
    workdir, printed = trained
    # p19 is not asked for in training; r0 and r7 are dropped and r20 and r21 stand for them.
    run = read_run(workdir.root / "given/run.trec")
    product = {q: f"p{n}" for q, n, _ in SPLITS["test"]}
    assert run.keys() == {"t3", "t8", "t0", "t5", "t12"}
    assert {q: hits[0][0] for q, hits in run.items()} == {q: product[q] for q in run}
    assert "dev/recall@1 100.0 %" in printed
    assert not workdir.vocabulary.exists()


def test_the_state_of_the_best_dev_recall_searches(trained, data):
    """By default; all dev queries are found long before the last step."""
    workdir, printed = trained
    recall = [float(line.split()[3]) for line in printed.splitlines() if "dev/recall@1 " in line]
    assert len(recall) == 4
    best = newest_step(workdir.root / "given/seq2seq/best")
    assert best == 30 * (1 + recall.index(max(recall))) < 120
    runs = {}
    for which in ("best", "last"):
        changes = {"retrieve.checkpoint": which, "retrieve.output": f"{which}.trec"}
        run_until(config(data, **changes), workdir, "retrieve")
        runs[which] = read_run(workdir.root / f"given/{which}.trec")
    assert read_run(workdir.root / "given/run.trec") == runs["best"] != runs["last"]


def test_products_are_learnt_from_their_own_vectors(trained, data, tmp_path):
    """p19 by its own vector alone; its query comes from a file of others."""
    workdir = trained[0]
    lines(tmp_path / "q.jsonl", ['{"id": "a", "text": "x"}', '{"id": "b", "text": "y"}'])
    np.save(tmp_path / "q.npy", DOCUMENTS[[19, 6]].astype(np.float64))
    others = {
        "retrieve.queries": str(tmp_path / "q.jsonl"),
        "retrieve.query_vectors": str(tmp_path / "q.npy"),
        "retrieve.output": "others.trec",
    }
    run_until(config(data, **others), workdir, "retrieve")
    run = read_run(workdir.root / "given/others.trec")
    assert [run[q][0][0] for q in "ab"] == ["p19", "p6"]

    deny = str(tmp_path / "deny.txt")
    lines(pathlib.Path(deny), ["p19"])
    run_until(config(data, **others, **{"retrieve.deny_ids": deny}), workdir, "retrieve")
    run = read_run(workdir.root / "given/others.trec")
    assert run["b"][0][0] == "p6"
    assert "p19" not in [document for document, _ in run["a"]]

    for array, found, expected in (
        (DOCUMENTS[[19, 6], 1:], "embeddings of width 11", "12, that of the documents' embeddings"),
        (DOCUMENTS[:3], "3 embeddings", "2, one per query"),
    ):
        np.save(tmp_path / "q.npy", array)
        with pytest.raises(InputError) as error:
            run_until(config(data, **others), workdir, "retrieve")
        assert (error.value.where, error.value.found) == (str(tmp_path / "q.npy"), found)
        assert error.value.expected.startswith(expected)


def test_clusters_of_the_test_queries_are_ranked_by_the_same_vectors(trained, data):
    """By a row of one's own, with the IDs and the network of another."""
    workdir = trained[0]
    changes = {"options.clusters.level": 1}
    settings = config(data, ("given", "tests.steps.own:CLUSTERS_OF_GIVEN"), **changes)
    with console.capture() as capture:
        run_until(settings, workdir, "retrieve")
    assert "given train_seq2seq: done before" in capture.get()
    folder = workdir.root / "CLUSTERS_OF_GIVEN"
    assert sorted(path.name for path in folder.iterdir()) == ["run.trec", "steps"]
    run = read_run(folder / "run.trec")
    test = {q: vector for (q, _, _), vector in zip(SPLITS["test"], vectors("test"), strict=True)}
    assert run.keys() == read_run(workdir.root / "given/run.trec").keys()
    for query, hits in run.items():
        dense = DOCUMENTS.astype(np.float64) @ test[query].astype(np.float64)
        best = np.argsort(-dense)[:5]
        assert [document for document, _ in hits] == [IDS[n] for n in best]
        np.testing.assert_allclose([score for _, score in hits], dense[best], rtol=1e-4)


def test_the_exported_retrieval_takes_vectors(trained, data):
    workdir, settings = trained[0], config(data)
    system = resolve_system("given", settings)
    place = place_of(system, settings, workdir)
    # Checks at run time know no shape with a symbol for the batch size.
    jaxtyping.config.update("jaxtyping_disable", True)
    export.run(view(settings, ("retrieve", *TRAINED_READS), "export"), place, system)
    jaxtyping.config.update("jaxtyping_disable", False)
    folder = workdir.root / "given/export"
    description = json.loads((folder / "export.json").read_text())
    assert description["vector_width"] == D
    assert not (folder / "vocabulary.model").exists()
    function = jax.export.deserialize(bytearray((folder / "retrieve.stablehlo").read_bytes()))
    with np.load(folder / "arrays.npz") as arrays:
        found = jax.jit(function.call)(dict(arrays), np.load(place.query_vectors("test")))
    run = read_run(workdir.root / "given/run.trec")
    kept = [query.id for query in read_queries(workdir.queries("test"))]
    for query, documents in zip(kept, found["documents"].tolist(), strict=True):
        assert [IDS[document] for document in documents] == [d for d, _ in run[query]]


@pytest.mark.parametrize("folder", ["", "given"])
def test_a_network_on_vectors_is_no_t5_to_convert(trained, tmp_path, capsys, folder):
    source, target = trained[0].root / folder, tmp_path / "x"
    with pytest.raises(SystemExit):
        convert_checkpoint.main(["program", f"--from={source}", f"--to={target}", "--format=t5x"])
    assert "found a network that reads vectors (memory_tokens = 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("split", "array", "found", "expected"),
    [
        ("train", vectors("train")[1:], "21 embeddings", "22, one per train query in its order"),
        ("dev", vectors("dev")[:, 1:], "embeddings of width 11", "12, that of the documents'"),
        (
            "test",
            np.full((6, D), np.nan),
            "NaN or infinity in 6 rows, the first is row 0 (from 0)",
            "finite numbers",
        ),
        ("test", None, "no readable file (No such file or directory)", "an .npy array of floats"),
    ],
)
def test_bad_vectors_stop_the_step_before_it_writes(data, tmp_path, split, array, found, expected):
    path = tmp_path / "v.npy"
    if array is not None:
        np.save(path, array)
    workdir = Workdir(tmp_path / "work")
    with pytest.raises(InputError) as error:
        run_until(config(data, **{f"embedding.{split}_query_vectors": str(path)}), workdir, "embed")
    assert (error.value.where, error.value.found) == (str(path), found)
    assert error.value.expected.startswith(expected)
    assert not list(workdir.root.glob("*.npy"))


def test_an_encoder_of_text_makes_the_vectors_of_any_queries(data, tmp_path):
    vocabulary = Vocabulary(write_vocabulary(tmp_path / "spiece.model"), 0, 0)
    write_checkpoint(tmp_path / "t5", "huggingface", random_checkpoint(UNTIED), vocabulary)
    paths = [f"embedding.{split}_query_vectors" for split in SPLITS]
    changes = dict.fromkeys(paths, "") | {
        "embedding.encoder": "t5",
        "embedding.path": str(tmp_path / "t5"),
        "seq2seq_training.epochs": 1,
        "retrieve.batch_size": 2,
    }
    workdir, settings = Workdir(tmp_path / "work"), config(data, **changes)
    run_until(settings, workdir, "retrieve")
    queries = read_queries(workdir.queries("test"))
    texts = ["red shoe", "tea mug", "garden hose", "steel kettle", "cotton lamp"]
    others = tmp_path / "q.jsonl"
    write_queries(others, [Query(q.id, t) for q, t in zip(queries, texts, strict=True)])
    # What the network reads of these queries is what the step `embed` makes of the same texts.
    write_queries(workdir.queries("test"), read_queries(others))
    embed.run(view(settings, ("embedding",), "embed"), shared_place(workdir.root))
    runs = []
    for named in ("", str(others)):
        system = resolve_system("given", config(data, **changes, **{"retrieve.queries": named}))
        place = place_of(system, settings, workdir)
        retrieve.run(view(system.config, retrieve.reads(system), "retrieve"), place, system)
        runs.append(read_run(place.folder / "run.trec"))
    assert runs[0].keys() == runs[1].keys()
    for query, hits in runs[0].items():
        assert [d for d, _ in hits] == [d for d, _ in runs[1][query]]
        np.testing.assert_allclose(*([s for _, s in r[query]] for r in runs), atol=1e-5)


def test_words_alone_need_no_vectors(data, tmp_path):
    changes = {f"embedding.{split}_query_vectors": "" for split in SPLITS}
    for split, queries in SPLITS.items():
        path = tmp_path / f"{split}.jsonl"
        lines(path, [json.dumps({"id": q, "text": f"that thing p{n}"}) for q, n, _ in queries])
        changes[f"data.{split}_queries"] = str(path)
    changes |= {"seq2seq.word_features": 256, "seq2seq.evaluation.queries": 0}
    changes |= {"seq2seq_training.best_metric": ""}
    workdir = Workdir(tmp_path / "work")
    with console.capture() as capture:
        run_until(config(data, **changes), workdir, "retrieve")
    assert "vectors of 256 features of words" in capture.get()
    wanted = {q: f"p{n}" for q, n, _ in SPLITS["test"]}
    run = read_run(workdir.root / "given/run.trec")
    assert len(run) > 2
    assert {query: hits[0][0] for query, hits in run.items()} == {q: wanted[q] for q in run}


def test_vectors_of_queries_that_there_are_not(data, tmp_path):
    changes = {"data.dev_queries": "", "data.dev_qrels": "", "seq2seq.evaluation.queries": 0}
    with pytest.raises(InputError) as error:
        run_until(config(data, **changes), Workdir(tmp_path), "embed")
    assert error.value.where == "config.embedding.dev_query_vectors"
    assert error.value.found.endswith("queries.dev.npy' and no dev queries")
    assert error.value.expected == "config.data.dev_queries"


NO_VECTORS = "'' with t5.memory_tokens = 2"


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        ({"embedding.train_query_vectors": ""}, "embedding.train_query_vectors", NO_VECTORS),
        ({"embedding.dev_query_vectors": ""}, "embedding.dev_query_vectors", NO_VECTORS),
        ({"embedding.test_query_vectors": ""}, "embedding.test_query_vectors", NO_VECTORS),
        ({"retrieve.queries": "q"}, "retrieve.query_vectors", NO_VECTORS),
        ({"retrieve.query_vectors": "q"}, "retrieve.queries", "'' with query_vectors 'q'"),
        (
            {"embedding.encoder": "lsa", "embedding.path": "", "embedding.dev_query_vectors": ""},
            "embedding.train_query_vectors",
            "queries.train.npy' with encoder 'lsa'",
        ),
        (
            {
                "embedding.encoder": "lsa",
                "embedding.path": "",
                **{f"embedding.{split}_query_vectors": "" for split in SPLITS},
            },
            "t5.memory_tokens",
            "2 with encoder 'lsa', which encodes no queries",
        ),
        (
            {"seq2seq.pretrained": "a", "seq2seq.vocabulary": "b"},
            "seq2seq.pretrained",
            "'a' with t5.memory_tokens = 2",
        ),
    ],
)
def test_impossible_configurations_are_refused(data, changes, where, found):
    with pytest.raises(InputError) as error:
        config(data, **changes)
    assert error.value.where == f"config.{where}"
    assert error.value.found.endswith(found)
