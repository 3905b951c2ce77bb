"""The seqio tasks, beside the arrays that the native training reads."""

import collections
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from catid2_jax.config import default_config, freeze
from catid2_jax.data.catalog import write_catalog
from catid2_jax.data.queries import write_qrels, write_queries
from catid2_jax.docids.table import DocidTable, format_docid, write_docids
from catid2_jax.docids.vocabulary import train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.steps.train_seq2seq import build_pairs, load_vocabulary
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Product, Query

pytestmark = pytest.mark.seqio
pytest.importorskip("seqio")

import seqio
import tensorflow_datasets as tfds

from catid2_jax.t5x.seqio_tasks import register_tasks
from catid2_jax.data.tfds.catalog_folder import CatalogFolder
from catid2_jax.t5x import tasks
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


def config(**changes):
    values = default_config()
    values.rqvae.update(levels=L, codebook_size=K, category_levels=2)
    values.seq2seq.update(source_tokens=SOURCE, **changes)
    return freeze(values)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    write_catalog(
        workdir.data / "catalog.jsonl",
        [Product(i, title, "", ("A", "B", "C")) for i, title in zip(IDS, TITLES, strict=True)],
    )
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


def native(workdir, section):
    """The same from the arrays."""
    table = DocidTable(IDS, CODES)
    data = build_pairs(section, workdir, table, load_vocabulary(section, workdir))
    rows = zip(data.sources[data.source], data.targets[data.document], strict=True)
    return collections.Counter((tuple(s[s > 0].tolist()), tuple(t.tolist())) for s, t in rows)


def test_the_examples_are_those_of_native_training(workdir):
    register(workdir)
    queries = examples("shop_query_to_id", shuffle=False)
    titles = examples("shop_title_to_id", shuffle=False)
    assert (len(queries), len(titles)) == (3, 5)
    assert tokens(queries) == native(workdir, config(title_weight=0.0))
    assert tokens(queries + titles) == native(workdir, config())
    longest = max(queries, key=lambda row: len(row["inputs"]))["inputs"]
    assert (len(longest), longest[-1]) == (SOURCE, 1)  # cut, and still ended


def test_without_substitutes(workdir):
    register(workdir, substitutes=False)
    found = tokens(examples("shop_query_to_id"))
    assert found == native(workdir, config(substitute_weight=0.0, title_weight=0.0))
    assert found.total() == 2


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(1.0, {"query": 3.0, "title": 5.0}), (0.2, {"query": 3.0, "title": 1.0}), (0, {"query": 3.0})],
)
def test_the_mixtures_rates(workdir, weight, expected):
    mixture = seqio.MixtureRegistry.get(register(workdir, title_weight=weight))
    assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == pytest.approx(
        {f"shop_{kind}_to_id": rate for kind, rate in expected.items()}
    )


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


@pytest.mark.parametrize("substitutes", [True, False])
def test_a_built_data_set_has_the_examples_of_the_files(workdir, built, substitutes):
    found = []
    for data in (workdir.data, built):
        vocabulary = IdVocabulary(workdir.vocabulary, L, K)
        name = register_tasks("shop", data, DOCIDS, vocabulary, substitutes=substitutes)
        mixture = seqio.MixtureRegistry.get(name)
        rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
        found.append((rates, [everything(task) for task in sorted(rates)]))
    assert found[0] == found[1]
    queries, titles = found[1][1]
    assert {split: rows.total() for split, rows in queries.items()} == {
        "train": 3 if substitutes else 2,
        "validation": 1,
        "test": 2,
    }
    assert titles["train"].total() == 5


def test_a_work_directory_without_data_takes_a_built_data_set(workdir, built, tmp_path):
    register(workdir)
    expected = everything("shop_query_to_id")
    write_docids(Workdir(tmp_path).docids, DocidTable(IDS, CODES))
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    mixture = tasks.register(str(tmp_path), vocabulary, "shop", data=str(built))
    assert everything(tasks.queries(mixture)) == expected


def test_a_bad_built_data_set(workdir, built, tmp_path):
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    few = {i: text for i, text in DOCIDS.items() if i != "p4"}
    with pytest.raises(InputError, match=r"^dev0: found product 'p4' without an ID"):
        register_tasks("shop", built, few, vocabulary)
    (tmp_path / "catalog.jsonl").write_bytes((workdir.data / "catalog.jsonl").read_bytes())
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


def test_bad_input(workdir):
    with pytest.raises(InputError, match=r"title_weight is -1: expected at least 0"):
        register(workdir, title_weight=-1)
    vocabulary = IdVocabulary(workdir.vocabulary, L, K)
    few = {i: text for i, text in DOCIDS.items() if i != "p4"}
    with pytest.raises(InputError, match=r"dev0: found product 'p4' without an ID"):
        register_tasks("shop", workdir.data, few, vocabulary)


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
