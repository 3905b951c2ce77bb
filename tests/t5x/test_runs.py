"""T5X's train, infer and eval with the gin files, on a tiny model: minutes."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.tree import Checkpoint, parameter_shapes, unflatten
from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import DocidTable, format_docid, read_docids, write_docids
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.models.t5.config import T5Config
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.steps import prepare
from catid2_jax.workdir import Record, Workdir, record_path, shared_place, write_record

pytestmark = [pytest.mark.t5x, pytest.mark.slow]
pytest.importorskip("t5x")

ROOT = pathlib.Path(__file__).parents[2]
L, K, BEAMS, STEPS = 4, 8, 20, 40
SYSTEM = "tiger"
TINY = T5Config(
    emb_dim=64, num_heads=4, head_dim=16, mlp_dim=128, num_encoder_layers=2, num_decoder_layers=2
)  # as gin/models/tiny.gin


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """As `assign` leaves it, with random IDs of two systems, and a vocabulary.

    The system that the gin files take by themselves is not the one that the runs are of.
    """
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "work")
    values = default_config()
    values.data.synthetic.update(products=120, train_queries=200, dev_queries=20, test_queries=40)
    place = shared_place(workdir.root)
    prepare.run(freeze(values), place)
    write_record(record_path(workdir.root, "prepare"), Record({}, done=True))
    catalog = Catalog.open(workdir.catalog)
    texts = [*catalog.titles, *(q.text for q in read_queries(workdir.queries("train")))]
    workdir.vocabulary.write_bytes(train_vocabulary(texts, 400))
    for seed, system in enumerate((SYSTEM, "cat_id2")):
        numbers = np.random.default_rng(seed).permutation(K**L)[: len(catalog)]
        codes = np.stack([numbers // K**level % K for level in range(L)], axis=1)
        folder = workdir.root / system
        write_docids(folder / "docids.jsonl", DocidTable(catalog.ids, codes))
        record = Record({}, system, True, 1.0, {"levels": L, "codebook_size": K})
        write_record(record_path(folder, "docids"), record)
    return workdir


@pytest.fixture(scope="module")
def grown(workdir):
    """A random checkpoint of T5X's of step 1000, with rows for the ID tokens."""
    place = workdir.root.parent
    rows = Vocabulary(workdir.vocabulary, 0, 0).rows
    rng = np.random.default_rng(0)
    params = {
        name: rng.normal(0, 0.1, shape).astype(np.float32) + name.endswith("scale")
        for name, shape in parameter_shapes(TINY, rows).items()
    }
    write_checkpoint(place / "random", "t5x", Checkpoint(params, TINY, 1000))
    flags = [f"--vocabulary={workdir.vocabulary}", f"--levels={L}", f"--codebook_size={K}"]
    paths = [f"--from={place / 'random'}", f"--to={place / 'grown'}", "--format=t5x"]
    convert_checkpoint.main(["convert_checkpoint", *paths, *flags])
    return place / "grown/checkpoint_1000"


def run(script, workdir, processes=1, **bindings):
    """Runs `t5x.<script>`, on several processes of two devices each as the launcher starts them.

    Returns:
        What it logs.
    """
    values = {"WORKDIR": workdir.root, "SYSTEM": SYSTEM, "BEAMS": BEAMS} | bindings
    flags = [
        f"--gin.{name}={value}" if isinstance(value, int | float) else f"--gin.{name}='{value}'"
        for name, value in values.items()
    ]
    files = ["--gin_file=gin/models/tiny.gin", f"--gin_file=gin/runs/{script}.gin"]
    module = script if script in ("infer", "eval") else "train"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    start = ["-m", f"t5x.{module}"]
    if processes > 1:
        start = ["launch/local.py", f"--processes={processes}", "--devices=2", f"t5x.{module}"]
    done = subprocess.run(
        [sys.executable, *start, *files, *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def read_lines(path):
    """What T5X writes as JSON Lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(workdir, grown):
    """T5X's folder after fine-tuning, and its log."""
    model = workdir.root.parent / "model"
    periods = {"STEPS": STEPS, "EVAL_PERIOD": STEPS // 2, "CHECKPOINT_PERIOD": STEPS // 2}
    paths = {"MODEL_DIR": model, "INITIAL_CHECKPOINT_PATH": grown}
    weights = {"TITLE_WEIGHT": 0.5, "SUBSTITUTE_WEIGHT": 0.8}
    return model, run("finetune", workdir, **paths, **periods, **weights, BATCH_SIZE=32)


def test_training_from_random_parameters(workdir):
    model = workdir.root.parent / "scratch"
    periods = {"EVAL_PERIOD": 2, "CHECKPOINT_PERIOD": 2}
    run("scratch", workdir, MODEL_DIR=model, STEPS=2, BATCH_SIZE=32, **periods)
    assert read_checkpoint(model / "checkpoint_2").step == 2


def test_the_loss_falls(trained):
    losses = re.findall(
        r"\[(\d+)\] collection=train .*cross_ent_loss_per_all_target_tokens=([\d.]+)", trained[1]
    )
    assert [int(step) for step, _ in losses] == [1000 + STEPS // 2, 1000 + STEPS]
    first, last = (float(loss) for _, loss in losses)
    assert last < first - 0.1


def test_checkpoints_pass_both_ways(trained, grown):
    """T5X starts from what was written for it; what it writes is read."""
    model, _ = trained
    before, after = read_checkpoint(grown), read_checkpoint(model / f"checkpoint_{1000 + STEPS}")
    assert after.step == 1000 + STEPS
    assert after.params.keys() == before.params.keys()
    start = read_checkpoint(model / "checkpoint_1000").params
    for name, leaf in before.params.items():
        np.testing.assert_array_equal(start[name], leaf)
        moved = np.abs(after.params[name] - leaf).max()
        assert 0 < moved < 1, name  # Adafactor's steps of 0.001, relative to the parameter


def test_inferred_products_and_scores_are_those_of_the_native_search(workdir, trained):
    folder = trained[0] / f"checkpoint_{1000 + STEPS}"
    output = workdir.root.parent / "infer"
    run("infer", workdir, CHECKPOINT_PATH=folder, INFER_OUTPUT_DIR=output)
    lines = read_lines(next(output.glob("*.jsonl*")))
    table = read_docids(workdir.root / SYSTEM / "docids.jsonl")
    vocabulary = Vocabulary(workdir.vocabulary, L, K)
    queries = vocabulary.encode([line["inputs"]["inputs_pretokenized"] for line in lines], 32)
    params = unflatten(read_checkpoint(folder).params)
    decoder = make_decoder("t5", TINY, vocabulary)
    found = jax.jit(
        lambda params, tokens, trie: retrieve(decoder, params, tokens, trie, BEAMS, BEAMS)
    )(params, jnp.asarray(queries), build_trie(table.codes, K))
    texts = np.array([format_docid(row) for row in table.codes.tolist()])
    assert len(lines) == len(read_qrels(workdir.qrels("test")))
    for query, line in enumerate(lines):
        assert line["prediction"][::-1] == texts[found.documents[query]].tolist()
        np.testing.assert_allclose(line["aux"]["scores"][::-1], found.scores[query], atol=1e-4)


@pytest.mark.parametrize("script", ["infer", "eval"])
def test_two_processes_find_what_one_finds(workdir, trained, script):
    folder = trained[0] / f"checkpoint_{1000 + STEPS}"
    lines = []
    for processes in (1, 2):
        output = workdir.root.parent / f"{script}_{processes}"
        place = {f"{script.upper()}_OUTPUT_DIR": output, "CHECKPOINT_PATH": folder}
        run(script, workdir, processes, **place)
        pattern = "*.jsonl-*-of-00001" if script == "infer" else "*-metrics.jsonl"
        lines.append(read_lines(next(output.rglob(pattern))))
    one, two = lines
    assert len(one) == len(two) > 0
    for expected, found in zip(one, two, strict=True):
        if script == "infer":
            assert found["inputs"] == expected["inputs"]
            assert found["prediction"] == expected["prediction"]
            scores = [line["aux"]["scores"] for line in (found, expected)]
            np.testing.assert_allclose(*scores, atol=1e-4)
        else:
            assert found == pytest.approx(expected)


def test_evaluated_recall_is_that_of_the_inferred_products(workdir, trained):
    folder = trained[0] / f"checkpoint_{1000 + STEPS}"
    output = workdir.root.parent / "eval"
    run("eval", workdir, CHECKPOINT_PATH=folder, EVAL_OUTPUT_DIR=output)
    metrics = read_lines(next(output.rglob("*-metrics.jsonl")))[-1]
    lines = read_lines(next((workdir.root.parent / "infer").glob("*.jsonl*")))
    table = read_docids(workdir.root / SYSTEM / "docids.jsonl")
    products = dict(zip(map(format_docid, table.codes.tolist()), table.ids, strict=True))
    texts = {query.text: query.id for query in read_queries(workdir.queries("test"))}
    ranked = {
        texts[line["inputs"]["inputs_pretokenized"]]: [
            products[p] for p in line["prediction"][::-1]
        ]
        for line in lines
    }
    expected = recall_at_k(ranked, read_qrels(workdir.qrels("test")), (5, 10, 20))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
