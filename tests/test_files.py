import contextlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xxhash

from catid2_jax import files
from catid2_jax.errors import InputError
from catid2_jax.files import (
    atomic_folder,
    atomic_write,
    file_digest,
    read_sealed,
    temporary_path,
    write_json,
    write_npy,
    write_sealed,
)


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted_write():
        with atomic_write(path) as file:
            file.write("half of the new")
            file.flush()
            assert len(list(tmp_path.iterdir())) == 2  # the temporary lies beside the old file
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted_write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_no_file_where_there_was_none(tmp_path):
    def interrupted_write():
        with atomic_write(tmp_path / "file.txt", "wb") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_write()
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_parents_are_made_and_text_is_utf8_with_plain_line_ends(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_write(path) as file:
        file.write("é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"


def test_json_is_written_as_given_and_refuses_nan(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"recall@5": 0.25, "name": "é"})
    assert json.loads(path.read_bytes()) == {"recall@5": 0.25, "name": "é"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"recall@5": float("nan")})
    assert json.loads(path.read_bytes()) == {"recall@5": 0.25, "name": "é"}
    assert list(tmp_path.iterdir()) == [path]


def test_npy_keeps_type_and_values_and_refuses_objects(tmp_path):
    path = tmp_path / "array.npy"
    write_npy(path, np.arange(6, dtype=np.float16).reshape(2, 3))
    array = np.load(path, allow_pickle=False)
    assert array.dtype == np.float16
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npy(path, np.array([{}], dtype=object))


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def replace(path, names=None, **texts):
    with atomic_folder(path, names) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path, monkeypatch, exchanges):
    if not exchanges:  # a system without renameat2
        monkeypatch.setattr(files.ctypes, "CDLL", lambda _: object())
    path = tmp_path / "set"
    replace(path, a="old", b="old")
    (path / "notes").write_text("mine")
    replace(path, ("a", "b"), a="new")
    assert contents(path) == {"a": "new", "notes": "mine"}
    replace(path, a="newest")
    assert contents(path) == {"a": "newest"}
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "set"
    replace(path, a="old")

    def fail():
        with atomic_folder(path) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert contents(path) == {"a": "old"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", [".", "..", "/proc", "file"])
def test_what_cannot_be_exchanged_is_refused_first(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError), atomic_folder(place):
        pytest.fail("it was begun")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]


KILLED = """
import os, pathlib, signal, sys
from catid2_jax.files import atomic_folder
stop = int(sys.argv[2])
events = 0
def hook(event, arguments):
    global events
    changes = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
    if event in changes or event == "open" and arguments[2] & os.O_WRONLY:
        events += 1
        if events == stop:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with atomic_folder(sys.argv[1], ("a", "b", "c")) as folder:
    for name in "ab":
        (folder / name).write_text("new")
print(events)
"""


def test_a_kill_before_any_change_leaves_one_set(tmp_path):
    path, stop, seen = tmp_path / "set", 0, set()
    while True:
        replace(path, a="old", b="old", c="old")
        (path / "notes").write_text("mine")
        stop += 1
        process = subprocess.run([sys.executable, "-c", KILLED, path, str(stop)])
        found = contents(path)
        texts = frozenset(text for name, text in found.items() if name != "notes")
        assert texts in ({"old"}, {"new"})
        seen.add(texts)
        replace(path, ("a", "b", "c"), a="newest")
        assert contents(path) == {"a": "newest", "notes": "mine"}
        assert list(tmp_path.iterdir()) == [path]
        if process.returncode == 0:
            break
    assert len(seen) == 2
    assert stop > 5


def test_a_write_is_on_disk_before_its_name_and_its_name_before_the_end(tmp_path, monkeypatch):
    done = []

    def sync(descriptor):
        done.append(pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    rename = os.replace
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), rename(a, b)))
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as file:
        file.write("text")
    assert done == [tmp_path.name, temporary_path(path).name, "rename", "new"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    path = tmp_path / "file.txt"
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    mine = f".{os.getpid()}."
    left = temporary_path(path).name.replace(mine, f".{int(dead.stdout)}.")
    others = temporary_path(path).name.replace(mine, f".{os.getppid()}.")
    (tmp_path / left).touch()
    (tmp_path / others).touch()
    with atomic_write(path) as file:
        file.write("text")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([others, "file.txt"])


def test_a_digest_is_that_of_the_file_as_it_is_now(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"a" * 3_000_000, b"a" * 2_999_999 + b"b"):
        path.write_bytes(content)
        assert file_digest(path) == xxhash.xxh3_64(content).hexdigest()


@pytest.mark.parametrize("position", range(0, 90, 7))
def test_a_sealed_file_is_read_as_it_was_written_or_not_at_all(tmp_path, position):
    path = tmp_path / "sealed.json"
    values = {"name": "é", "numbers": [1, 2.5, 1e-300], "nothing": None}
    write_sealed(path, values)
    assert read_sealed(path) == values
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert read_sealed(path) == values  # where it is a space of the layout
