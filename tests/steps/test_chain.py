"""The whole chain on 60 synthetic products: what each step leaves, and a kill at any moment."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.table import read_docids
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.evaluation.run_file import read_run

ROOT = pathlib.Path(__file__).parent.parent.parent
SMALL = {
    "data.synthetic.products": 60,
    "data.synthetic.train_queries": 120,
    "data.synthetic.dev_queries": 0,
    "data.synthetic.test_queries": 20,
    "embedding.dim": 16,
    "rqvae.levels": 3,
    "rqvae.category_levels": 2,
    "rqvae.codebook_size": 8,
    "rqvae.latent_dim": 8,
    "rqvae.hidden_dims": "(16,)",
    "rqvae_training.batch_size": 32,
    "rqvae_training.epochs": 30,
    "rqvae_training.checkpoint_every": 8,
    "rqvae_training.steps_per_dispatch": 4,
    "seq2seq.vocabulary_size": 300,
    "t5.emb_dim": 32,
    "t5.num_heads": 2,
    "t5.head_dim": 16,
    "t5.mlp_dim": 32,
    "t5.num_encoder_layers": 1,
    "t5.num_decoder_layers": 1,
    "seq2seq_training.batch_size": 64,
    "seq2seq_training.epochs": 40,
    "seq2seq_training.warmup_steps": 10,
    "seq2seq_training.checkpoint_every": 8,
    "seq2seq_training.steps_per_dispatch": 4,
    "retrieve.beams": 20,
    "retrieve.k": 15,
    "evaluate.cutoffs": "(5,10)",
}
RESULTS = ("metrics.json", "run.trec", "docids.jsonl", "bm25/run.trec")


def start(workdir, verb="pipeline", **changes):
    fields = [f"--config.{name}={value}" for name, value in (SMALL | changes).items()]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            f"catid2_jax.{verb}",
            "--config=configs/quickstart.py",
            f"--workdir={workdir}",
            *fields,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run and what it printed."""
    workdir = tmp_path_factory.mktemp("chain") / "work"
    return workdir, finish(start(workdir))


def test_ids_are_unique_and_complete(done):
    workdir, _ = done
    table = read_docids(workdir / "docids.jsonl")
    assert list(table.ids) == [p.id for p in stream_products(workdir / "data/catalog.jsonl")]
    assert len({tuple(row) for row in table.codes}) == len(table.ids)
    assert table.codes.shape[1] == 3
    assert table.codes.max() < 8


def test_run_ranks_products_of_the_catalogue_for_every_test_query(done):
    workdir, _ = done
    ids = {p.id for p in stream_products(workdir / "data/catalog.jsonl")}
    run = read_run(workdir / "run.trec")
    assert set(run) == {q.id for q in read_queries(workdir / "data/queries.test.jsonl")}
    for hits in run.values():
        assert len(hits) == min(15, len(ids))
        assert {document for document, _ in hits} <= ids


def test_metrics_are_those_of_the_run_files(done):
    workdir, output = done
    metrics = json.loads((workdir / "metrics.json").read_text())
    qrels = read_qrels(workdir / "data/qrels.test.txt")
    for prefix, path in (("", "run.trec"), ("bm25/", "bm25/run.trec")):
        run = {q: [d for d, _ in hits] for q, hits in read_run(workdir / path).items()}
        for name, value in recall_at_k(run, qrels, (5, 10)).items():
            assert metrics[prefix + name] == value
    assert 0 <= metrics["collision_rate"] <= 1
    assert "synthetic" in output
    assert f"everything is in {workdir}" in output
    assert f"{100 * metrics['bm25/recall@10']:.1f}" in output


def test_finished_steps_are_skipped_and_results_stay(done):
    workdir, _ = done
    before = {name: (workdir / name).read_bytes() for name in RESULTS}
    output = finish(start(workdir))
    for step in ("prepare", "embed", "train_rqvae", "assign", "train_seq2seq", "retrieve"):
        assert f"{step}: done before" in output
    assert {name: (workdir / name).read_bytes() for name in RESULTS} == before


def kill_when(process, condition, timeout=120):
    """kill -9 as soon as `condition()` holds; fails if the process ends first."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checkpoint_of(stage, step):
    return lambda workdir: any(
        p.name.isdigit() and int(p.name) >= step for p in (workdir / stage / "last").glob("*")
    )


MOMENTS = {
    "in prepare": lambda workdir: (workdir / "synthetic").exists(),
    "in stage 1": checkpoint_of("rqvae", 8),
    "in stage 2": checkpoint_of("seq2seq", 8),
    "writing the run": lambda workdir: bool(list(workdir.glob(".run.trec*"))),
}


def check_kills(done, tmp_path, moments):
    workdir = tmp_path / "work"
    for moment in moments:
        process = start(workdir)
        kill_when(process, lambda moment=moment: MOMENTS[moment](workdir))
        assert not (workdir / "metrics.json").exists()
    finish(start(workdir))
    for name in RESULTS:
        assert (workdir / name).read_bytes() == (done[0] / name).read_bytes(), name
    assert not [p for p in workdir.rglob("*") if "tmp" in p.name]


def test_a_kill_in_stage_2_changes_nothing(done, tmp_path):
    check_kills(done, tmp_path, ["in stage 2"])


@pytest.mark.slow
def test_kills_at_every_kind_of_moment_change_nothing(done, tmp_path):
    check_kills(done, tmp_path, list(MOMENTS))


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(done, tmp_path):
    generator = np.random.default_rng(0)
    workdir = tmp_path / "work"
    for delay in generator.uniform(2, 20, size=6):
        process = start(workdir)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(workdir))
    for name in RESULTS:
        assert (workdir / name).read_bytes() == (done[0] / name).read_bytes(), name


def test_tiger_and_own_ids_and_other_queries(done, tmp_path):
    workdir, _ = done
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "mine", "text": "a lamp"}\n')
    changes = {"retrieve.queries": queries, "retrieve.output": "mine.trec"}
    finish(start(workdir, verb="retrieve", **changes))
    assert list(read_run(workdir / "mine.trec")) == ["mine"]

    output = finish(start(workdir, **{"evaluate.baselines": "('bm25','tiger')"}))
    assert "TIGER" in output
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert "tiger/recall@10" in metrics
    assert "tiger/collision_rate" in metrics
    tiger = read_docids(workdir / "tiger/docids.jsonl")
    assert (tiger.codes != read_docids(workdir / "docids.jsonl").codes).any()

    other = tmp_path / "other"
    given = {"docids.path": workdir / "tiger/docids.jsonl", "evaluate.retrieval": False}
    finish(start(other, verb="evaluate", **given))
    assert (other / "docids.jsonl").read_bytes() == (workdir / "tiger/docids.jsonl").read_bytes()
    assert not (other / "rqvae").exists()
    assert not (other / "seq2seq").exists()
    figures = json.loads((other / "metrics.json").read_text())
    for name in ("perplexity/level_1", "category_nmi/level_2", "common_prefix/within_leaf"):
        assert figures[name] == metrics[f"tiger/{name}"]
