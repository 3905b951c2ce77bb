"""Verbs whose work directory is in a bucket leave there what they leave in a folder."""

import json
import shutil
import signal
import sys
import time

import pytest

from catid2_jax import convert_checkpoint, import_data, pipeline, prepare, report, reproduce, serve
from catid2_jax.remote.bucket import Bucket
from catid2_jax.remote.mirror import _Mirror, fetched_file
from catid2_jax.training.checkpoint import Checkpoints
from tests.remote.conftest import CREDENTIALS, contents

CONFIG = ("--config=tests/plugins/tiny.py", "--config.seq2seq_training.checkpoint_every=20")
SAME = ("data/", "embeddings.npy", "cat_id2/docids", "vocabulary.model", "metrics.json")


class KilledError(BaseException):
    """As SIGKILL: nothing is sent after it."""


def alike(files):
    """Those that have no times in them."""
    return {
        path: text
        for path, text in files.items()
        if path.startswith(SAME) or path.endswith("run.trec")
    }


@pytest.mark.slow
def test_a_run_that_ends_twice_goes_on_from_the_bucket(s3, mirrors, tiny_workdir, monkeypatch):
    """By SIGTERM, and by SIGKILL as a checkpoint is there; each time the machine is another."""
    ends, restored = {"SIGTERM": 20}, []

    def send(self, lock, real=_Mirror.send):
        if "dead" in ends:
            return
        real(self, lock)
        steps = {int(path.split("/")[3]) for path in self._same if "seq2seq/last/" in path}
        if steps & {*ends.values()}:
            if "SIGTERM" in ends:
                ends.clear()
                signal.raise_signal(signal.SIGTERM)
            else:
                ends["dead"] = 0
                raise KilledError

    def restore(self, *arguments, real=Checkpoints.restore, **options):
        restored.append(self.latest_step)
        return real(self, *arguments, **options)

    monkeypatch.setattr(_Mirror, "send", send)
    monkeypatch.setattr(Checkpoints, "restore", restore)
    words = ["catid2", *CONFIG, f"--workdir={s3}/tiny"]
    with pytest.raises(SystemExit) as ended:
        pipeline.main(words)
    assert ended.value.code == 128 + signal.SIGTERM
    record = json.loads(contents(f"{s3}/tiny")["cat_id2/steps/train_seq2seq.json"])
    assert not record["done"]
    shutil.rmtree(mirrors)
    ends["SIGKILL"] = 40
    with pytest.raises(KilledError):
        pipeline.main(words)
    ends.clear()
    shutil.rmtree(mirrors)
    pipeline.main(words)
    local = {
        path.relative_to(tiny_workdir).as_posix(): path.read_bytes()
        for path in tiny_workdir.rglob("*")
        if path.is_file()
    }
    expected, found = alike(local), alike(contents(f"{s3}/tiny"))
    assert len(expected) > 8
    assert found == expected
    assert 20 in restored
    assert 40 in restored


def test_a_checkpoint_goes_to_a_bucket(s3, tiny_workdir, tmp_path, capsys):
    words = ["catid2", f"--from={tiny_workdir}", "--format=huggingface"]
    convert_checkpoint.main([*words, f"--to={tmp_path / 'local'}"])
    convert_checkpoint.main([*words, f"--to={s3}/grown"])
    local = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert contents(f"{s3}/grown") == local
    with pytest.raises(SystemExit):
        convert_checkpoint.main([*words, f"--to={s3}/grown"])
    assert "found something there already" in capsys.readouterr().err


def test_an_import_goes_to_a_bucket(s3, tmp_path):
    shop = tmp_path / "shop.csv"
    shop.write_text("id,title,categories\n1,cup,Home > Cups\n2,mug,Home > Mugs\n")
    words = ["catid2", "csv", f"--path={shop}", "--separator=>"]
    import_data.main([*words, f"--output={tmp_path / 'set'}"])
    import_data.main([*words, f"--output={s3}/set"])
    local = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    assert contents(f"{s3}/set") == local


def test_data_in_a_bucket_are_those_of_a_folder(s3, tmp_path, mirrors, monkeypatch, capsys):
    data = {"catalog": "catalog.jsonl"}
    for split in ("train", "test"):
        data |= {f"{split}_queries": f"{split}.jsonl", f"{split}_qrels": f"{split}.txt"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"id": "q", "text": "cup"}) + "\n")
        (tmp_path / f"{split}.txt").write_text("q 0 p3 3\n")
    rows = [{"id": f"p{n}", "title": "cup", "categories": ["A", "B", "C"]} for n in range(9)]
    (tmp_path / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Bucket(f"{s3}/set").put(tmp_path, data.values())

    def run(of, workdir):
        fields = [f"--config.data.{name}={of}/{file}" for name, file in data.items()]
        prepare.main(["catid2", CONFIG[0], f"--workdir={workdir}", *fields])
        return {path.name: path.read_bytes() for path in (workdir / "data").iterdir()}

    local = run(tmp_path, tmp_path / "local")
    assert run(f"{s3}/set", tmp_path / "remote") == local
    monkeypatch.setattr(Bucket, "get", lambda *_: pytest.fail("fetched twice"))
    fetched_file.cache_clear()
    run(f"{s3}/set", tmp_path / "remote")
    assert "prepare: done before" in capsys.readouterr().out
    Bucket(f"{s3}/set").remove(["test.txt"])
    fetched_file.cache_clear()
    words = [*(f"--config.data.{name}={s3}/set/{file}" for name, file in data.items())]
    refused(
        prepare.main,
        [CONFIG[0], f"--workdir={tmp_path / 'x'}", *words],
        capsys,
        "/set/test.txt: found no such file",
    )


def test_what_is_served_is_that_of_the_bucket(s3, mirrors, monkeypatch):
    with_bucket = Bucket(f"{s3}/shop")
    with_bucket.write("bundle.json", {"of": "the bucket"})
    served = []
    monkeypatch.setattr(serve, "_serve", lambda folder, _: served.append(folder))
    serve.main(["catid2", f"--workdir={s3}/shop"])
    assert json.loads((served[0] / "bundle.json").read_text()) == {"of": "the bucket"}
    assert served[0].is_relative_to(mirrors)


URL = "s3://no-such-bucket/run"


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (prepare.main, ["--config=quickstart", f"--workdir={URL}"]),
        (report.main, [f"--workdir={URL}"]),
        (serve.main, [f"--workdir={URL}"]),
        (reproduce.main, ["table2", f"--output={URL}"]),
        (convert_checkpoint.main, [f"--from={URL}", "--to=x", "--format=t5x"]),
        (import_data.main, ["csv", "--path=shop.csv", f"--output={URL}"]),
    ],
)
def test_a_bucket_that_is_not_there(s3, main, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(main, words, capsys, "FileNotFoundError (The specified bucket does not exist)")
    assert not list(tmp_path.rglob("*.lock*"))


def refused(main, words, capsys, found):
    """In one line, within the time that docs/launch.md says."""
    begun = time.process_time()
    with pytest.raises(SystemExit) as ended:
        main(["catid2", *words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert found in line
    assert time.process_time() - begun < 30


PREPARE = ["--config=quickstart", f"--workdir={URL}"]


def test_no_credentials(fresh_s3, monkeypatch, capsys):
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    refused(prepare.main, PREPARE, capsys, "NoCredentialsError (Unable to locate credentials)")


def test_no_answer(fresh_s3, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused(prepare.main, PREPARE, capsys, "EndpointConnectionError (Could not connect to the en")


@pytest.mark.parametrize(("kind", "package"), [("s3", "s3fs"), ("gs", "gcsfs.core")])
def test_no_package(kind, package, mirrors, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    words = ["--config=quickstart", f"--workdir={kind}://bucket/run"]
    message = (
        f"{kind}://: found no package {package}, expected it: pip install 'catid2_jax[remote]'"
    )
    refused(prepare.main, words, capsys, message)


def test_google_has_no_such_bucket(gs, capsys):
    words = ["--config=quickstart", "--workdir=gs://none/run"]
    refused(prepare.main, words, capsys, "gs://none/run: found FileNotFoundError (b/none/o), exp")
