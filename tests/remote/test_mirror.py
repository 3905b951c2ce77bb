"""A bucket has what a file system would have; nothing goes twice over the network."""

import pathlib
import shutil

import pytest

from catid2_jax.errors import InputError
from catid2_jax.files import write_sealed
from catid2_jax.records import Record, record_path, write_record
from catid2_jax.remote.bucket import Bucket
from catid2_jax.remote.mirror import fetched, opened, written
from tests.remote.conftest import contents


@pytest.fixture
def moved(monkeypatch):
    """What goes over the network, as it goes: ("put" or "get" or "remove", path)."""
    found = []
    for name in ("put", "get", "remove"):
        real = getattr(Bucket, name)

        def spy(self, *arguments, name=name, real=real):
            paths = list(arguments[-1])
            found.extend((name, path) for path in paths if not path.startswith(".lock"))
            return real(self, *arguments[:-1], paths)

        monkeypatch.setattr(Bucket, name, spy)
    return found


def fill(root, **texts):
    for name, text in texts.items():
        path = root / name.replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(params=["s3", "gs"])
def url(request):
    return f"{request.getfixturevalue(request.param)}/runs/a"


def test_what_is_new_goes_there_and_what_is_gone_goes_away(url, mirrors, moved):
    with opened(url, "workdir") as root:
        fill(root, data_a="1", data_b="2")
    assert contents(url) == {"data/a": b"1", "data/b": b"2"}
    moved.clear()
    with opened(url, "workdir") as root:
        fill(root, data_b="3", c="4")
        (root / "data/a").unlink()
    assert contents(url) == {"data/b": b"3", "c": b"4"}
    assert moved == [("put", "c"), ("put", "data/b"), ("remove", "data/a")]


def test_nothing_is_fetched_twice(url, mirrors, moved):
    with opened(url, "workdir") as root:
        fill(root, a="1", b_c="2")
    shutil.rmtree(mirrors)
    moved.clear()
    for _ in range(2):
        folder = fetched(url, "workdir")
        assert {p.name: p.read_text() for p in folder.rglob("*") if p.is_file()} == {
            "a": "1",
            "c": "2",
        }
    assert moved == [("get", "a"), ("get", "b/c")]


def test_what_another_machine_wrote_replaces_what_is_here(s3, mirrors, monkeypatch, tmp_path):
    with opened(s3, "workdir") as root:
        fill(root, same="1", changed="1", gone="1")
    monkeypatch.setenv("CATID2_MIRRORS", str(tmp_path / "elsewhere"))
    with opened(s3, "workdir") as other:
        fill(other, changed="2", new="2")
        (other / "gone").unlink()
    fill(root, half="made by a run that was killed")
    monkeypatch.setenv("CATID2_MIRRORS", str(mirrors))
    with opened(s3, "workdir") as root:
        here = {path.name: path.read_text() for path in root.iterdir() if path.name != ".lock"}
    assert here == {"same": "1", "changed": "2", "new": "2"}


def test_what_a_killed_run_has_not_sent_is_kept_and_sent(s3, moved):
    with opened(s3, "workdir") as root:
        fill(root, a="1", b="1")
    fill(root, b="2", c="2")
    (root / "a").unlink()  # by whom?
    moved.clear()
    with opened(s3, "workdir"):
        pass
    assert contents(s3) == {"a": b"1", "b": b"2", "c": b"2"}
    assert moved == [("get", "a"), ("put", "b"), ("put", "c")]


def test_each_sealed_file_is_a_moment_to_send(s3):
    with opened(s3, "workdir") as root:
        fill(root, a="1")
        assert contents(s3).keys() == {".lock.1"}
        write_sealed(root / "last" / "digests.json", {})
        assert contents(s3).keys() == {".lock.1", "a", "last/digests.json"}
    write_sealed(root / "later.json", {})
    assert contents(s3).keys() == {"a", "last/digests.json"}


ORDER = ["a", "z/1", "z/digests.json", "steps/embed.metrics.json", "steps/embed.json"]


@pytest.fixture
def fails(fresh_s3, monkeypatch):
    """Names of files that cannot be sent, and of those that could, in their order."""
    import s3fs

    wrong, sent = set(), []

    async def put(self, path, name, real=s3fs.S3FileSystem._put_file, **options):
        if pathlib.Path(path).name in wrong:
            raise OSError(5, "the network is down")
        await real(self, path, name, **options)
        sent.append(name.partition("/")[2])

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", put)
    return wrong, sent


def leave_all(url):
    with opened(url, "workdir") as root:
        for path in ORDER:
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(path)


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_what_says_that_others_are_whole_is_never_there_before_them(s3, fails, first):
    wrong, sent = fails
    wrong.add(pathlib.Path(ORDER[first]).name)
    message = rf"^{s3}: found OSError \(.*the network is down\), expected a bucket"
    with pytest.raises(InputError, match=message):
        leave_all(s3)
    ranks = [0, 0, 1, 0, 2]
    there = [ranks[ORDER.index(path)] for path in contents(s3)]
    assert max(there, default=0) <= ranks[first]
    wrong.clear()
    with opened(s3, "workdir"):
        pass
    assert contents(s3) == {path: path.encode() for path in ORDER}
    assert sorted(sent) == sorted(ORDER)  # each once


def test_a_record_goes_away_before_its_files(fresh_s3, s3, monkeypatch):
    import s3fs

    there = []

    async def rm_file(self, name, real=s3fs.S3FileSystem._rm_file, **options):
        await real(self, name, **options)
        there.append(contents(s3).keys() - {".lock.1"})

    monkeypatch.setattr(s3fs.S3FileSystem, "_rm_file", rm_file)
    leave_all(s3)
    there.clear()
    with opened(s3, "workdir") as root:
        for path in ORDER:
            (root / path).unlink()
    assert there[0] == {*ORDER} - {"steps/embed.json"}
    assert there[1] == there[0] - {"z/digests.json"}


def test_a_step_that_began_is_not_done_in_the_bucket(s3):
    """Its files change under a record that says so."""
    with opened(s3, "workdir") as root:
        path = record_path(root, "embed")
        for done in (True, False):
            write_record(path, Record({}, done=done))
            assert f'"done": {str(done).lower()}'.encode() in contents(s3)["steps/embed.json"]


def test_names_that_lead_elsewhere_are_left_out(s3, mirrors):
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    root = s3.removeprefix("s3://")
    for name in ("run/../../../evil", "run//evil", "run/", "run/good", "running/evil"):
        files.pipe_file(f"{root}/{name}", b"1")
    folder = fetched(f"{s3}/run/", "workdir")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["good"]
    assert not list(mirrors.rglob("evil"))


def test_a_new_folder_is_sent_whole_or_taken_back(s3, fails, monkeypatch):
    wrong, _ = fails
    wrong.add("b")
    with pytest.raises(InputError), written(f"{s3}/x", "to", new=True) as folder:
        fill(folder, a="1", b="2")
    assert not contents(s3)
    wrong.clear()
    with written(f"{s3}/x", "to", new=True) as folder:
        fill(folder, a="1", b="2")
    assert contents(s3) == {"x/a": b"1", "x/b": b"2"}
    with pytest.raises(InputError) as caught, written(f"{s3}/x", "to", new=True):
        pass
    assert caught.value.found == "something there already"
