"""Work directories in buckets, gs:// and s3://: a run works in a mirror, a folder of this machine.

The mirror first gets what the bucket has. Whenever a step or a checkpoint is finished, what is new
goes to the bucket: files first, then what says that they are whole; and what is gone here is then
removed there. An object is there whole or not at all, so that the bucket has at any moment what a
file system has after a kill.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator

from catid2_jax.errors import InputError
from catid2_jax.files import file_digest, read_json, watched, write_json
from catid2_jax.lock import LOCK, locked
from catid2_jax.processes import refuse_several
from catid2_jax.progress import console
from catid2_jax.remote.bucket import Bucket, check_place, is_remote
from catid2_jax.remote.lock import BucketLock

MIRRORS = "CATID2_MIRRORS"
"""Environment variable that names the folder of all mirrors; ~/.cache/catid2_jax without it."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], where: str) -> Iterator[pathlib.Path]:
    """Keeps other runs from a work directory until the block ends, as `lock.locked` does.

    Args:
        path: the work directory, which is made if it is missing: a folder or a URL.
        where: the name of the argument that has it.

    Yields:
        The folder to work in. The mirror of a bucket goes there as it grows.

    Raises:
        InputError: another run has the lock; or, of a bucket, it is not there, may not be read or
            written, or this is one of several processes.
    """
    path = check_place(path, where)
    if not is_remote(path):
        with locked(pathlib.Path(path)):
            yield pathlib.Path(path)
        return
    refuse_several(f"the work directory {path}", "a folder that all share: mount the bucket")
    mirror = _Mirror(Bucket(path))
    with locked(mirror.folder), BucketLock(mirror.bucket, mirror.name) as lock:
        mirror.fetch()
        with watched(lambda: mirror.send(lock)):
            try:
                yield mirror.folder
            finally:
                mirror.send(lock)


def fetched(path: str | os.PathLike[str], where: str) -> pathlib.Path:
    """A folder to be read: the path itself, or the mirror of what a bucket has now.

    Raises:
        InputError: a URL of another kind; or the bucket is not there, or may not be read; or a run
            of this machine is at work in the mirror.
    """
    path = check_place(path, where)
    if not is_remote(path):
        return pathlib.Path(path)
    mirror = _Mirror(Bucket(path))
    with locked(mirror.folder):
        mirror.fetch()
    return mirror.folder


@functools.cache
def fetched_file(path: str) -> str:
    """A file to be read: the path itself, or a copy of an object as this process first finds it.

    Raises:
        InputError: there is no such object, or the bucket may not be read.
    """
    if not is_remote(path):
        return path
    folder, _, name = path.rpartition("/")
    place = _place(path)
    version = Bucket(folder).versions(name).get(name, "") if is_remote(folder) else ""
    if not version:
        raise InputError(path, "no such file", "a file to read")
    note, file = place / "version.json", place / name
    if not (file.is_file() and note.is_file() and read_json(note) == version):
        note.unlink(missing_ok=True)
        Bucket(folder).get(place, [name])
        write_json(note, version)
    return str(file)


@contextlib.contextmanager
def written(path: str | os.PathLike[str], where: str, new: bool = False) -> Iterator[pathlib.Path]:
    """A folder to be written: the path itself, or one that goes to a bucket when the block ends.

    Args:
        path: a folder or a URL.
        where: the name of the argument that has it.
        new: whether there may be nothing in the bucket yet, and so nothing after an exception.

    Raises:
        InputError: a URL of another kind, or the bucket is not there or may not be written.
    """
    path = check_place(path, where)
    if not is_remote(path):
        yield pathlib.Path(path)
        return
    bucket = Bucket(path)
    if bucket.versions() and new:  # now, not after the work
        raise InputError(bucket.url, "something there already", "a URL with nothing below it")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / bucket.name
        yield folder
        try:
            bucket.put(folder, _paths(folder))
        except BaseException:
            with contextlib.suppress(InputError):
                bucket.remove(bucket.versions() if new else ())
            raise


class _Mirror:
    """The folder of this machine in which a bucket's work directory is worked on.

    Attributes:
        bucket: the bucket.
        folder: where the work directory is.
        name: tells this mirror from those of other machines.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        place = _place(bucket.url)
        self.folder, self._note = place / bucket.name, place / "mirror.json"
        note = read_json(self._note) if self._note.exists() else {}
        self.name: str = note.get("name") or str(uuid.uuid4())
        # path -> (version in the bucket, digest of the same file here)
        self._same: dict[str, list[str]] = note.get("same", {})

    def fetch(self) -> None:
        """Brings what the bucket has and the mirror has not.

        Where nobody else has written since the mirror was sent, what is newer here is kept.
        """
        there = {path: version for path, version in self.bucket.versions().items() if _counts(path)}
        changed = there != {path: version for path, (version, _) in self._same.items()}
        new = [path for path in there if not self._has(path, there[path] if changed else "")]
        count = f"{len(new):,} of {len(there):,} files are to be fetched"
        console.print(f"{self.bucket.url}: mirrored in {self.folder}; {count}", markup=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bucket.get(self.folder, new)
        for path in set(_paths(self.folder)) - there.keys() if changed else ():
            (self.folder / path).unlink()
        self._same |= {path: [there[path], file_digest(self.folder / path)] for path in new}
        self._same = {path: self._same[path] for path in there}
        self._write_note()

    def _has(self, path: str, version: str) -> bool:
        """Whether the file of an object is here, and as it was in a version if one is given."""
        file = self.folder / path
        if not version or not file.is_file():
            return file.is_file()
        return self._same.get(path) == [version, file_digest(file)]

    def send(self, lock: BucketLock) -> None:
        """Sends what is new here to the bucket, and then removes there what is gone here.

        Raises:
            InputError: another run has taken over, or the bucket cannot be written.
        """
        lock.check()
        here = {path: file_digest(self.folder / path) for path in _paths(self.folder)}
        sent = {path: digest for path, (_, digest) in self._same.items()}
        if here == sent:
            return
        try:
            self.bucket.put(self.folder, [path for path in here if here[path] != sent.get(path)])
            self.bucket.remove(sent.keys() - here.keys())
        finally:
            there = self.bucket.versions()
            for path in here.keys() & there.keys():
                if self._same.get(path, [""])[0] != there[path]:
                    self._same[path] = [there[path], here[path]]
            for path in self._same.keys() - there.keys():
                del self._same[path]
            self._write_note()

    def _write_note(self) -> None:
        write_json(self._note, {"name": self.name, "same": self._same})


def _place(url: str) -> pathlib.Path:
    """The folder of a mirror, and of what is known of it."""
    root = os.environ.get(MIRRORS) or pathlib.Path.home() / ".cache" / "catid2_jax"
    return pathlib.Path(root) / hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def _counts(path: str) -> bool:
    """Whether a path is of a file that is sent: no lock, and none that is still being written."""
    return not any(
        part.startswith(LOCK) or part.endswith(".tmp") or "orbax-checkpoint-tmp" in part
        for part in path.split("/")
    )


def _paths(folder: pathlib.Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(filter(_counts, files))
