"""The seqio tasks, beside the arrays that the native training reads."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus, QuerySet, write_columns
from catid2_jax.data.queries import read_qrels, read_queries, write_qrels, write_queries
from catid2_jax.docids.table import DocidTable, format_docid, write_docids
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.source import TextSource
from catid2_jax.seq2seq.training import Stage2, make_data
from catid2_jax.types import Product, Query
from catid2_jax.workdir import Record, Workdir, record_path, write_record

pytestmark = pytest.mark.seqio
pytest.importorskip("seqio")

import seqio
import tensorflow_datasets as tfds

from catid2_jax.data.tfds.catalog_folder import CatalogFolder
from catid2_jax.t5x import tasks
from catid2_jax.t5x.seqio_tasks import register_tasks
from catid2_jax.t5x.tasks import recall
from catid2_jax.t5x.vocabulary import IdVocabulary

L, K, SOURCE = 3, 5, 6
TITLES = ["red shoe", "steel tea kettle", "lamp", "a garden hose of steel, red", "tea mug"]
CODES = np.array([[0, 0, 0], [0, 4, 1], [4, 4, 4], [3, 0, 2], [0, 0, 1]], np.int32)
IDS = [f"p{n}" for n in range(len(TITLES))]
DOCIDS = {i: format_docid(row) for i, row in zip(IDS, CODES.tolist(), strict=True)}
QUERIES = {
    "train": {"red": {"p0": 3, "p3": 2}, "Tea for two and two more of it": {"p1": 3}},
    "dev": {"kettle": {"p1": 2, "p4": 3, "p0": 0}, "nothing": {"p2": 1}},
    "test": {"hose": {"p3": 3}, "shoe": {"p0": 3}},
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    products = [Product(i, title, "", ("A", "B")) for i, title in zip(IDS, TITLES, strict=True)]
    write_columns(workdir.catalog, enumerate(products))
    for split, judged in QUERIES.items():
        queries = [Query(f"{split}{n}", text) for n, text in enumerate(judged)]
        write_queries(workdir.data / f"queries.{split}.jsonl", queries)
        qrels = {q.id: grades for q, grades in zip(queries, judged.values(), strict=True)}
        write_qrels(workdir.data / f"qrels.{split}.txt", qrels)
    workdir.vocabulary.write_bytes(train_vocabulary(TITLES * 5, 50))
    return workdir


def register(workdir, **options):
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    return register_tasks("shop", workdir.data, DOCIDS, vocabulary, [recall], **options)


def examples(name, split="train", **options):
    """The features of a task's examples, as T5X gets them."""
    data = seqio.get_mixture_or_task(name).get_dataset(
        {"inputs": SOURCE, "targets": L}, split, use_cached=False, **options
    )
    return list(data.as_numpy_iterator())


def tokens(rows):
    """Examples without the padding, as often as they come."""
    return collections.Counter(
        (tuple(row["inputs"].tolist()), tuple(row["targets"].tolist())) for row in rows
    )


def native(workdir, **weights):
    """The same from the arrays of native training: how often, and with which weight in all."""
    vocabulary = Vocabulary(workdir.vocabulary, L, K)
    queries, qrels = read_queries(workdir.queries("train")), read_qrels(workdir.qrels("train"))
    stage = Stage2(
        Corpus(Catalog.open(workdir.catalog)),
        DocidTable(IDS, CODES, codebook_size=K),
        TextSource(vocabulary, SOURCE),
        make_decoder("t5", T5Config(), vocabulary),
    )
    data = make_data(stage, QuerySet(queries, qrels), Seq2SeqConfig(**weights))
    count, weight = collections.Counter(), collections.defaultdict(float)
    pairs = zip(data.sources[data.source], data.targets[data.document], data.weight, strict=True)
    for source, target, w in pairs:
        pair = tuple(source[source > 0].tolist()), tuple(target.tolist())
        count[pair] += 1
        weight[pair] += float(w)
    return count, weight


def test_the_examples_are_those_of_native_training(workdir):
    register(workdir)
    queries = examples("shop_query_to_id", shuffle=False)
    titles = examples("shop_title_to_id", shuffle=False)
    assert (len(queries), len(titles)) == (3, 5)
    assert tokens(queries) == native(workdir, title_weight=0.0)[0]
    assert tokens(queries + titles) == native(workdir)[0]
    longest = max(queries, key=lambda row: len(row["inputs"]))["inputs"]
    assert (len(longest), longest[-1]) == (SOURCE, 1)  # cut, and still ended
    assert "shop_substitute_to_id" not in seqio.TaskRegistry.names()


def test_without_substitutes(workdir):
    register(workdir, substitute_weight=0.0)
    found = tokens(examples("shop_query_to_id"))
    assert found == native(workdir, substitute_weight=0.0, title_weight=0.0)[0]
    assert found.total() == 2
    assert "shop_substitute_to_id" not in seqio.TaskRegistry.names()


def test_substitutes_of_another_weight_are_a_task_of_their_own(workdir):
    register(workdir, substitute_weight=0.4)
    exact, substitutes = examples("shop_query_to_id"), examples("shop_substitute_to_id")
    assert (len(exact), len(substitutes)) == (2, 1)
    weights = {"substitute_weight": 0.4, "title_weight": 0.0}
    assert tokens(exact + substitutes) == native(workdir, **weights)[0]
    assert substitutes[0]["targets_pretokenized"].decode() == DOCIDS["p3"]
    assert seqio.TaskRegistry.get("shop_substitute_to_id").splits == ("train",)
    # The names of an earlier registration do not outlive it.
    register(workdir)
    assert "shop_substitute_to_id" not in seqio.TaskRegistry.names()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, {"query": 3.0, "title": 5.0}),
        ({"title_weight": 0.2}, {"query": 3.0, "title": 1.0}),
        ({"title_weight": 0.0}, {"query": 3.0}),
        ({"substitute_weight": 0.0}, {"query": 2.0, "title": 5.0}),
        (
            {"substitute_weight": 2.5, "title_weight": 0.4},
            {"query": 2.0, "substitute": 2.5, "title": 2.0},
        ),
    ],
)
def test_the_mixtures_rates(workdir, weights, expected):
    assert rates(register(workdir, **weights)) == pytest.approx(
        {f"shop_{kind}_to_id": rate for kind, rate in expected.items()}
    )


def rates(name):
    """Rate of each task of a mixture."""
    mixture = seqio.MixtureRegistry.get(name)
    return {task.name: mixture.get_rate(task) for task in mixture.tasks}


@pytest.mark.parametrize("title_weight", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("substitute_weight", [0.0, 0.25, 1.0, 3.0])
def test_the_mixture_draws_a_pair_as_often_as_it_weighs_natively(
    workdir, title_weight, substitute_weight
):
    """A task is drawn in proportion to its rate, and then each of its examples equally often."""
    weights = {"title_weight": title_weight, "substitute_weight": substitute_weight}
    found = rates(register(workdir, **weights))
    drawn = collections.defaultdict(float)
    for name, rate in found.items():
        rows = tokens(examples(name))
        for pair, count in rows.items():
            drawn[pair] += rate / sum(found.values()) * count / rows.total()
    _, weight = native(workdir, **weights)
    total = sum(weight.values())
    assert drawn == pytest.approx({pair: w / total for pair, w in weight.items()})


def test_training_queries_with_substitutes_alone(workdir, tmp_path):
    """Weighed otherwise than 1 they leave the task of queries its evaluation alone."""
    shutil.copytree(workdir.data, tmp_path / "data")
    few = Workdir(tmp_path)
    write_qrels(few.qrels("train"), {"train0": {"p3": 2}})
    few.vocabulary.write_bytes(workdir.vocabulary.read_bytes())
    found = rates(register(few, substitute_weight=0.5))
    assert found == {"shop_substitute_to_id": 0.5, "shop_title_to_id": 5.0}
    assert set(seqio.TaskRegistry.get("shop_query_to_id").splits) == {"validation", "test"}
    with pytest.raises(InputError) as error:
        register(few, substitute_weight=0.0, title_weight=0.0)
    assert (error.value.where, error.value.found) == ("training pairs", "none with a weight")


@pytest.fixture(scope="module")
def built(workdir):
    """The same data as tensorflow_datasets keeps it."""
    builder = CatalogFolder(data_dir=str(workdir.root / "tfds"))
    manual = tfds.download.DownloadConfig(manual_dir=str(workdir.data))
    builder.download_and_prepare(download_config=manual)
    return pathlib.Path(builder.data_dir)


def everything(name):
    """All that a task's examples hold, of each split, in whatever order they come."""
    return {
        split: collections.Counter(
            tuple((key, tuple(np.ravel(row[key]).tolist())) for key in sorted(row))
            for row in examples(name, split, shuffle=False)
        )
        for split in seqio.TaskRegistry.get(name).splits
    }


@pytest.mark.parametrize("substitute_weight", [1.0, 0.0, 0.5])
def test_a_built_data_set_has_the_examples_of_the_files(workdir, built, substitute_weight):
    found = []
    for data in (workdir.data, built):
        vocabulary = IdVocabulary(workdir.vocabulary, L, K)
        # IDs of products that are in none of the data change nothing.
        docids = DOCIDS | {"elsewhere": format_docid([4, 0, 0])}
        name = register_tasks("shop", data, docids, vocabulary, substitute_weight=substitute_weight)
        found.append((rates(name), {task: everything(task) for task in rates(name)}))
    assert found[0] == found[1]
    kinds = found[1][1]
    assert {split: rows.total() for split, rows in kinds["shop_query_to_id"].items()} == {
        "train": 3 if substitute_weight == 1 else 2,
        "validation": 1,
        "test": 2,
    }
    assert kinds["shop_title_to_id"]["train"].total() == 5
    assert ("shop_substitute_to_id" in kinds) == (substitute_weight == 0.5)


def write_ids(root, system, codes, trained=False, **result):
    """What `assign`, and maybe `train`, leaves of a system."""
    folder = root / system
    (root / "steps").mkdir(parents=True, exist_ok=True)
    write_docids(folder / "docids.jsonl", DocidTable(IDS, codes))
    result = {"levels": codes.shape[1], "codebook_size": K} | result
    write_record(record_path(folder, "docids"), Record({}, system, True, 1.0, result))
    if trained:
        write_record(record_path(folder, "train_seq2seq"), Record({}, system, True, 1.0))


def test_a_work_directory_without_data_takes_a_built_data_set(workdir, built, tmp_path):
    register(workdir)
    expected = everything("shop_query_to_id")
    write_ids(tmp_path, "cat_id2", CODES)
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    mixture = tasks.register(str(tmp_path), vocabulary, "shop", data=str(built))
    assert everything(tasks.queries(mixture)) == expected


def test_the_system_of_a_work_directory(workdir, tmp_path):
    """The first that is trained, or else the first with IDs; or the one that is named."""
    other, longer = CODES[:, ::-1].copy(), np.pad(CODES, ((0, 0), (0, 1)))
    shutil.copytree(workdir.data, tmp_path / "data")
    (tmp_path / "vocabulary.model").write_bytes(workdir.vocabulary.read_bytes())
    write_ids(tmp_path, "tiger", other, codebook_size=9)
    write_ids(tmp_path, "given", longer)
    write_record(record_path(tmp_path / "bm25", "retrieve"), Record({}, "bm25", True))
    shapes = {"": (L, 9), "tiger": (L, 9), "given": (L + 1, K)}
    root = str(tmp_path)
    for system, shape in shapes.items():
        ids = tasks.vocabulary(root, system=system).ids
        assert (ids.levels, ids.codebook_size) == shape
    np.testing.assert_array_equal(tasks.table(root).codes, other)
    np.testing.assert_array_equal(tasks.table(root, "given").codes, longer)

    mixture = tasks.register(root, tasks.vocabulary(root), "shop", substitute_weight=0.5)
    rows = examples(tasks.queries(mixture), shuffle=False)
    assert [row["targets_pretokenized"].decode() for row in rows] == [
        format_docid(other[n]) for n in (0, 1)
    ]
    assert rates(mixture)["shop_substitute_to_id"] == 0.5
    vocabulary = tasks.vocabulary(root, system="given")
    mixture = tasks.register(root, vocabulary, title_weight=0.0, system="given")
    assert mixture == f"{tmp_path.name}_to_id"
    rows = examples(tasks.queries(mixture), shuffle=False)
    assert rows[0]["targets_pretokenized"].decode() == format_docid(longer[0])

    tasks.table.cache_clear()
    write_ids(tmp_path, "given", longer, trained=True)
    np.testing.assert_array_equal(tasks.table(root).codes, longer)
    with pytest.raises(InputError, match="no system 'cat_id2', expected one of tiger, bm25, given"):
        tasks.vocabulary(root, system="cat_id2")
    with pytest.raises(InputError, match="bm25: found no finished step docids"):
        tasks.table(root, "bm25")


def test_ids_of_unequal_length_are_refused(tmp_path):
    codes = CODES.copy()
    codes[3, 2] = -1
    write_ids(tmp_path, "cat_id2", codes)
    with pytest.raises(InputError) as error:
        tasks.table(str(tmp_path))
    assert error.value.where == str(tmp_path / "cat_id2/docids.jsonl")
    assert error.value.found == "an ID of fewer codes than others, <a_3><b_0>"
    assert error.value.expected.startswith("3 codes in each: T5X cannot learn where an ID ends")
    with pytest.raises(InputError, match="T5X cannot learn where an ID ends"):
        tasks.register(str(tmp_path), tasks.vocabulary, "shop")


def test_a_bad_built_data_set(workdir, built, tmp_path):
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    few = {i: text for i, text in DOCIDS.items() if i != "p4"}
    with pytest.raises(InputError, match=r"^dev0: found product 'p4' without an ID"):
        register_tasks("shop", built, few, vocabulary)
    shutil.copy(workdir.catalog, tmp_path)
    builder = CatalogFolder(data_dir=str(tmp_path / "tfds"))
    manual = tfds.download.DownloadConfig(manual_dir=str(tmp_path))
    builder.download_and_prepare(download_config=manual)
    with pytest.raises(
        InputError, match=r"1\.0\.0: found the splits catalog, expected catalog and"
    ):
        register_tasks("shop", pathlib.Path(builder.data_dir), DOCIDS, vocabulary)


def test_the_mixture_draws_by_its_rates(workdir):
    register(workdir, title_weight=1.8)  # 3 to 9
    data = seqio.MixtureRegistry.get("shop_to_id").get_dataset(
        {"inputs": SOURCE, "targets": L}, "train", use_cached=False, seed=0, num_epochs=None
    )
    drawn = tokens(data.take(2000).as_numpy_iterator())
    queries = tokens(examples("shop_query_to_id"))
    share = sum(count for row, count in drawn.items() if row in queries) / 2000
    assert share == pytest.approx(0.25, abs=0.04)  # four standard deviations


def test_shuffled_every_example_comes_once_an_epoch(workdir):
    register(workdir)
    once = tokens(examples("shop_title_to_id", shuffle=False))
    twice = tokens(examples("shop_title_to_id", shuffle=True, seed=1, num_epochs=2))
    assert twice == collections.Counter(dict.fromkeys(once, 2))


def test_judged_queries(workdir):
    register(workdir)
    rows = examples("shop_query_to_id", "validation", shuffle=False)
    # "nothing" has no relevant product.
    assert [row["inputs_pretokenized"].decode() for row in rows] == ["kettle"]
    assert rows[0]["targets_pretokenized"].decode() == DOCIDS["p4"]
    assert [text.decode() for text in rows[0]["relevant"]] == [DOCIDS["p4"], DOCIDS["p1"]]
    assert len(examples("shop_query_to_id", "test")) == 2


def evaluate(workdir, rankings):
    """Recall through seqio's evaluator, of products predicted best first for the test queries."""
    register(workdir)
    evaluator = seqio.Evaluator(
        "shop_query_to_id",
        seqio.EncDecFeatureConverter(pack=False),
        eval_split="test",
        sequence_length={"inputs": SOURCE, "targets": L},
        logger_cls=[],
    )
    ids = IdVocabulary(workdir.vocabulary, L, K).ids
    token_of = dict(zip(IDS, ids.encode_codes(CODES).tolist(), strict=True))
    token_of |= {"no product": ids.encode_codes([1, 1, 1]).tolist(), None: [0] * L}
    # Worst first, as T5X gives them.
    predicted = [(n, [token_of[p] for p in r[::-1]]) for n, r in enumerate(rankings)]
    metrics, _ = evaluator.evaluate(
        compute_metrics=True, predict_fn=lambda *args, **kwargs: predicted
    )
    return metrics.result()["shop_query_to_id"]


def test_recall_through_seqios_evaluator(workdir):
    # "hose" wants p3, which is sixth; "shoe" wants p0, which is second.
    rankings = [
        ["p0", "p1", "p2", "p4", "no product", "p3", None, None, None, None],
        ["p1", "p0", *[None] * 8],
    ]
    assert evaluate(workdir, rankings) == {"recall@5": 0.5, "recall@10": 1.0}


def test_recall_of_fewer_than_the_papers_k(workdir):
    found = evaluate(workdir, [["p3", "p1"], ["p1", "p2"]])
    assert found == {"recall@2": 0.5}


def test_bad_input(workdir, tmp_path):
    for name in ("title_weight", "substitute_weight"):
        with pytest.raises(InputError) as error:
            register(workdir, **{name: -1})
        assert error.value.args == (name, "-1", "at least 0")
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    few = {i: text for i, text in DOCIDS.items() if i != "p4"}
    with pytest.raises(InputError, match=r"dev0: found product 'p4' without an ID"):
        register_tasks("shop", workdir.data, few, vocabulary)
    with pytest.raises(InputError, match=r"qrels\.train\.txt: found no such file"):
        register_tasks("shop", tmp_path, DOCIDS, vocabulary)
    for name in ("queries.train.jsonl", "qrels.train.txt"):
        shutil.copy(workdir.data / name, tmp_path)
    with pytest.raises(InputError, match=r"catalog\.parquet: found no such file"):
        register_tasks("shop", tmp_path, DOCIDS, vocabulary)


MODULE = """
import pathlib

from catid2_jax.t5x.seqio_tasks import register_tasks
from catid2_jax.t5x.vocabulary import IdVocabulary

place = pathlib.Path({root!r})
vocabulary = IdVocabulary(place / "vocabulary.model", {L}, {K})
register_tasks("cached", place / "data", {docids!r}, vocabulary)
"""


@pytest.mark.slow
def test_seqios_cache_has_the_same_examples(workdir, tmp_path):
    pytest.importorskip("apache_beam")
    pytest.importorskip("google_crc32c")
    text = MODULE.format(root=str(workdir.root), L=L, K=K, docids=DOCIDS)
    (tmp_path / "shop_tasks.py").write_text(text)
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "seqio.scripts.cache_tasks_main", "--tasks=cached_.*"]
    flags = [f"--output_cache_dir={cache}", "--module_import=shop_tasks", "--min_shards=2"]
    paths = [str(tmp_path), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command + flags, env=environment, check=True, capture_output=True)
    for kind, splits in (("query", ("train", "validation", "test")), ("title", ("train",))):
        for split in splits:
            info = json.loads((cache / f"cached_{kind}_to_id/info.{split}.json").read_text())
            assert info["num_shards"] == 2

    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    register_tasks("cached", workdir.data, DOCIDS, vocabulary)
    seqio.set_global_cache_dirs([str(cache)])
    for name in ("cached_query_to_id", "cached_title_to_id"):
        task = seqio.get_mixture_or_task(name)
        lengths = {"inputs": SOURCE, "targets": L}
        kept = list(task.get_dataset(lengths, "train", use_cached=True).as_numpy_iterator())
        assert tokens(kept) == tokens(examples(name))
        assert len(kept) > 2
