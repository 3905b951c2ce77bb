"""The whole chain on 60 synthetic products: what each step leaves, and a kill at any moment."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from catid2_jax import evaluate, pipeline, retrieve
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.table import read_docids
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.progress import console
from catid2_jax.workdir import read_record, record_path
from tests.shared import once
from tests.steps.own import WordEncoder

ROOT = pathlib.Path(__file__).parent.parent.parent
SMALL = {
    "systems": "('cat_id2','tiger','bm25')",
    "data.synthetic.products": 60,
    "data.synthetic.train_queries": 120,
    "data.synthetic.dev_queries": 0,
    "data.synthetic.test_queries": 20,
    "embedding.encoder": "tests.steps.own:WordEncoder",
    "rqvae.levels": 3,
    "rqvae.category_levels": 2,
    "rqvae.codebook_size": 8,
    "rqvae.latent_dim": 8,
    "rqvae.hidden_dims": "(16,)",
    "rqvae_training.batch_size": 32,
    "rqvae_training.steps": 30,
    "rqvae_training.warmup_steps": 1,
    "rqvae_training.learning_rate": 0.01,
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
TRAINED = ("cat_id2", "tiger")
RUNS = (*TRAINED, "bm25")


def arguments(workdir, **changes):
    """A command line, without the program."""
    fields = [f"--config.{name}={value}" for name, value in (SMALL | changes).items()]
    return [f"--config={ROOT / 'configs/quickstart.py'}", f"--workdir={workdir}", *fields]


def run(workdir, verb=pipeline, **changes):
    """Runs a verb in this process; returns what it printed."""
    with console.capture() as capture:
        verb.main([verb.__name__, *arguments(workdir, **changes)])
    return capture.get()


def start(workdir, **changes):
    """Runs the whole chain in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "catid2_jax.pipeline", *arguments(workdir, **changes)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def files(folder):
    """Contents of all files, by their path in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def done(tmp_path_factory):
    """A finished run, which no test changes, and what it printed; one for all processes."""

    def make(folder):
        (folder.with_suffix(".txt")).write_text(run(folder))

    workdir = once(tmp_path_factory, "chain", make)
    return workdir, workdir.with_suffix(".txt").read_text()


@pytest.fixture
def copy(done, tmp_path):
    """A copy of it for a test to change."""
    shutil.copytree(done[0], tmp_path / "work")
    return tmp_path / "work"


def test_each_system_has_a_folder_and_shares_data_and_embeddings(done):
    workdir, output = done
    for step in ("prepare", "embed", "evaluate"):
        assert output.count(f"\n{step}: done in") == 1
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *RUNS,
        "data",
        "embeddings.npy",
        "metrics.json",
        "query_vectors.test.npy",
        "query_vectors.train.npy",
        "steps",
        "synthetic",
        "vocabulary.model",
    }
    folders = {name: {path.name for path in (workdir / name).iterdir()} for name in RUNS}
    trained = {"docids.jsonl", "rqvae", "run.trec", "seq2seq", "steps"}
    assert folders == {"cat_id2": trained, "tiger": trained, "bm25": {"run.trec", "steps"}}
    assert len(list(workdir.rglob("embeddings.npy"))) == 1
    assert len(list(workdir.rglob("catalog.parquet"))) == 1


@pytest.mark.parametrize("system", TRAINED)
def test_ids_are_unique_and_complete(done, system):
    workdir, _ = done
    table = read_docids(workdir / system / "docids.jsonl")
    assert list(table.ids) == Catalog.open(workdir / "data/catalog.parquet").ids
    assert len({tuple(row) for row in table.codes}) == len(table.ids)
    assert table.codes.shape[1] == 3
    assert table.codes.max() < 8


def test_the_systems_learn_ids_of_their_own(done):
    codes = [read_docids(done[0] / system / "docids.jsonl").codes for system in TRAINED]
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize("system", RUNS)
def test_run_ranks_products_of_the_catalogue_for_every_test_query(done, system):
    workdir, _ = done
    ids = set(Catalog.open(workdir / "data/catalog.parquet").ids)
    run = read_run(workdir / system / "run.trec")
    queries = {query.id for query in read_queries(workdir / "data/queries.test.jsonl")}
    if system == "bm25":  # it finds what has a word of the query, which may be nothing
        assert 0 < len(set(run) & queries) == len(run)
    else:
        assert set(run) == queries
        assert {len(hits) for hits in run.values()} == {min(15, len(ids))}
    assert {document for hits in run.values() for document, _ in hits} <= ids


def test_metrics_are_those_of_the_run_files(done):
    workdir, output = done
    metrics = json.loads((workdir / "metrics.json").read_text())
    qrels = read_qrels(workdir / "data/qrels.test.txt")
    for system in RUNS:
        hits = read_run(workdir / system / "run.trec")
        ranking = {q: [d for d, _ in found] for q, found in hits.items()}
        for name, value in recall_at_k(ranking, qrels, (5, 10)).items():
            assert metrics[f"{system}/{name}"] == value
    for system in TRAINED:
        assert 0 <= metrics[f"{system}/collision_rate"] <= 1
    assert {name.partition("/")[0] for name in metrics} == set(RUNS)
    for text in ("synthetic", f"everything is in {workdir}", "CAT-ID2", "TIGER", "BM25"):
        assert text in output
    for system in RUNS:
        assert f"{100 * metrics[f'{system}/recall@10']:.1f}" in output


DOCIDS = {"rqvae", "loss_weights", "rqvae_training", "docids", "options.rqvae"}
STAGE_2 = {"embedding", "seq2seq", "t5", "seq2seq_training"}
RECORDS = {
    "prepare": {"data"},
    "embed": {"embedding"},
    "vocabulary": {"seq2seq.vocabulary_size"},
    "evaluate": {
        "systems",
        "evaluate",
        "data.catalog",
        "data.preprocessing",
        "retrieve.output",
        "retrieve.k",
    },
    **{f"{system}/docids": DOCIDS for system in TRAINED},
    **{
        f"{system}/train_seq2seq": STAGE_2 | {"docids.checkpoint", "data.preprocessing"}
        for system in TRAINED
    },
    **{f"{system}/retrieve": STAGE_2 | {"retrieve", "options.generative"} for system in TRAINED},
    "bm25/retrieve": {"retrieve", "options.bm25"},
}


def test_a_record_holds_what_its_step_declares_and_nothing_else(done):
    """So what a training depends on is no setting of the search or of what is measured."""
    workdir, found = done[0], {}
    for path in workdir.rglob("steps/*.json"):
        if not path.name.endswith(".metrics.json"):
            name = path.relative_to(workdir).as_posix().replace("steps/", "").removesuffix(".json")
            record = read_record(path)
            assert record.done
            assert record.system == name.rpartition("/")[0]
            found[name] = set(record.config) - {"seed", "contents of files"}
    assert found == RECORDS
    for system in TRAINED:
        sections = {name.partition(".")[0] for name in found[f"{system}/train_seq2seq"]}
        assert not sections & {"retrieve", "evaluate", "systems", "options"}


def test_systems_differ_in_what_their_rows_change(done):
    own, tiger = (read_record(record_path(done[0] / system, "docids")).config for system in TRAINED)
    assert {name for name in own if own[name] != tiger[name]} == {"loss_weights"}
    ours, theirs = own["loss_weights"], tiger["loss_weights"]
    assert (ours["reconstruction"], theirs["reconstruction"]) == (0.0, 1.0)


def test_finished_steps_are_skipped_and_results_stay(copy):
    before = files(copy)
    output = run(copy)
    steps = ["prepare", "embed", "bm25 retrieve"]
    steps += [f"{s} {step}" for s in TRAINED for step in ("docids", "train_seq2seq", "retrieve")]
    for step in steps:
        assert f"{step}: done before" in output
    after = files(copy)
    # What is measured is measured again.
    assert {name for name in after if after[name] != before.get(name)} <= {"steps/evaluate.json"}
    assert after.keys() == before.keys()


def test_a_change_of_what_was_built_on_is_refused(copy, capsys):
    before = files(copy)
    with pytest.raises(SystemExit) as end:
        run(copy, **{"rqvae.latent_dim": 4})
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert f"{copy / 'cat_id2'}: found its step docids" in message
    assert "config.rqvae.latent_dim = 8, and now 4" in message
    assert files(copy) == before


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
        p.name.isdigit() and int(p.name) >= step
        for p in (workdir / "cat_id2" / stage / "last").glob("*")
    )


MOMENTS = {
    "in prepare": lambda workdir: (workdir / "synthetic").exists(),
    "in stage 1": checkpoint_of("rqvae", 8),
    "in stage 2": checkpoint_of("seq2seq", 8),
    "writing the run": lambda workdir: bool(list(workdir.glob("cat_id2/.run.trec*"))),
}
RESULTS = ("cat_id2/run.trec", "cat_id2/docids.jsonl", "bm25/run.trec", "vocabulary.model")
FEW = {"systems": "('cat_id2','bm25')"}


def check_results(done, workdir):
    """They are, bit by bit, those of the run of three systems in one process."""
    for name in RESULTS:
        assert (workdir / name).read_bytes() == (done[0] / name).read_bytes(), name
    whole, found = (json.loads((w / "metrics.json").read_text()) for w in (done[0], workdir))
    assert found == {n: v for n, v in whole.items() if not n.startswith("tiger/")}
    assert not [p for p in workdir.rglob("*") if "tmp" in p.name]


def check_kills(done, tmp_path, moments):
    workdir = tmp_path / "work"
    for moment in moments:
        process = start(workdir, **FEW)
        kill_when(process, lambda moment=moment: MOMENTS[moment](workdir))
        assert not (workdir / "metrics.json").exists()
    output = finish(start(workdir, **FEW))
    assert f"everything is in {workdir}" in output
    check_results(done, workdir)


@pytest.mark.slow
def test_a_kill_in_stage_2_changes_nothing(done, tmp_path):
    check_kills(done, tmp_path, ["in stage 2"])


@pytest.mark.slow
def test_kills_at_every_kind_of_moment_change_nothing(done, tmp_path):
    check_kills(done, tmp_path, list(MOMENTS))


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(done, tmp_path):
    generator = np.random.default_rng(0)
    workdir = tmp_path / "work"
    for delay in generator.uniform(2, 9, size=6):
        process = start(workdir, **FEW)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(workdir, **FEW))
    check_results(done, workdir)


def test_other_queries_need_nothing_but_a_search(copy, tmp_path):
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "mine", "text": "a lamp"}\n')
    before = files(copy)
    changes = {"retrieve.queries": queries, "retrieve.output": "mine.trec"}
    output = run(copy, retrieve, **changes)
    assert "cat_id2 train_seq2seq: done before" in output
    for system in TRAINED:
        assert list(read_run(copy / system / "mine.trec")) == ["mine"]
    after = files(copy)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        f"{system}/{name}" for system in RUNS for name in ("mine.trec", "steps/retrieve.json")
    }


def test_clusters_come_later_and_train_nothing(done, copy):
    """They search with CAT-ID2's IDs and network, and rank by the encoder's vectors."""
    before = files(copy)
    added = {"systems": "('cat_id2','tiger','bm25','clusters')", "options.clusters.level": 1}
    output = run(copy, **added)
    for system in TRAINED:
        for step in ("docids", "train_seq2seq", "retrieve"):
            assert f"{system} {step}: done before" in output
    assert "clusters retrieve: done in" in output
    assert "CAT-ID2, clusters" in output
    after = files(copy)
    assert {name for name in after if after[name] != before.get(name)} == {
        "clusters/run.trec",
        "clusters/steps/retrieve.json",
        "metrics.json",
        "steps/evaluate.json",
    }
    old, metrics = (json.loads((w / "metrics.json").read_text()) for w in (done[0], copy))
    added = {"clusters/recall@5", "clusters/recall@10"}
    assert metrics.keys() == old.keys() | added
    assert {name: metrics[name] for name in old} == old

    catalog = Catalog.open(copy / "data/catalog.parquet")
    embeddings, run_of = np.load(copy / "embeddings.npy"), read_run(copy / "clusters/run.trec")
    queries = read_queries(copy / "data/queries.test.jsonl")
    vectors = WordEncoder().encode([query.text for query in queries])
    # 8 first codes and 20 beams: the clusters are the whole catalogue.
    for query, scores in zip(queries, vectors @ embeddings.T, strict=True):
        best = np.argsort(-scores)[:15]
        assert [document for document, _ in run_of[query.id]] == [catalog.ids[n] for n in best]


def test_ids_of_another_run_and_their_figures_alone(done, tmp_path):
    workdir, other = done[0], tmp_path / "other"
    changes = {
        "systems": "('given',)",
        "docids.path": workdir / "tiger/docids.jsonl",
        "docids.path_codebook_size": 8,
        "evaluate.retrieval": False,
    }
    output = run(other, evaluate, **changes)
    assert "Recall" not in output
    assert (other / "given/docids.jsonl").read_bytes() == (
        workdir / "tiger/docids.jsonl"
    ).read_bytes()
    assert {path.name for path in (other / "given").iterdir()} == {"docids.jsonl", "steps"}
    theirs, figures = (json.loads((w / "metrics.json").read_text()) for w in (workdir, other))
    for name in ("perplexity/level_1", "category_nmi/level_2", "common_prefix/within_leaf"):
        assert figures[f"given/{name}"] == theirs[f"tiger/{name}"]
    assert not any("recall" in name for name in figures)


LEARNING_NOTHING = {
    "systems": "('cat_id2',)",
    "seq2seq_training.epochs": 1,
    "seq2seq_training.learning_rate": 1e-12,
}


def continued(earlier):
    return LEARNING_NOTHING | {"docids.previous": earlier, "seq2seq.continue_from": earlier}


def test_stage_2_goes_on_where_an_earlier_one_ended(done, tmp_path):
    """With steps of no length it finds what that one finds, to the last digit."""
    earlier, root = done[0], tmp_path / "tuesday"
    output = run(root, **continued(earlier))
    assert "54 of 54 products have the IDs" in output
    assert "training a SentencePiece vocabulary" not in output
    for name in ("vocabulary.model", "cat_id2/run.trec"):
        assert (root / name).read_bytes() == (earlier / name).read_bytes(), name


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"seq2seq.continue_from": "nowhere"}, "'nowhere', with no finished stage 2 of 'cat_id2'"),
        ({"t5.emb_dim": 16}, "a stage 2 that was made with config.t5.emb_dim = 32, and now 16"),
        ({"seq2seq.source_tokens": 8}, "config.seq2seq.source_tokens = 16, and now 8"),
        ({"seq2seq.vocabulary": "other.model"}, "config.seq2seq.vocabulary: found other.model"),
        ({"seq2seq.pretrained": "t5", "seq2seq.vocabulary": "v"}, "beside pretrained 't5'"),
    ],
)
def test_stage_2_does_not_go_on_from_another_network(
    done, tmp_path, capsys, monkeypatch, changes, found
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("other.model").write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "tuesday", **(continued(done[0]) | changes))
    assert end.value.code == 2
    assert found in capsys.readouterr().err
    assert not (tmp_path / "tuesday/cat_id2").exists()
