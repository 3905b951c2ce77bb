"""The objects of a bucket below a URL, by fsspec's libraries for S3 and Google Cloud Storage."""

import contextlib
import importlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from catid2_jax.constraints import BUCKET_URL, Place, check_value
from catid2_jax.errors import InputError
from catid2_jax.files import DIGESTS, temporary_path

_LAST = (DIGESTS, "bundle.json", "index.html")  # what shows the files beside it to be whole
_AT_ONCE = 8  # objects that are sent or fetched


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of something in a bucket."""
    return BUCKET_URL.fullmatch(os.fspath(path)) is not None


def check_place(path: str | os.PathLike[str], where: str) -> str:
    """Returns a path of this machine's file system or of a bucket.

    Raises:
        InputError: any other URL.
    """
    return str(check_value(os.fspath(path), Place, where))


class Bucket:
    """The objects below a URL. What goes wrong with them is an InputError that names it.

    Attributes:
        url: the URL, without a slash at its end.
        name: the last part of it.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        kind, bucket, path = BUCKET_URL.fullmatch(os.fspath(url)).groups()  # type: ignore[union-attr]
        self._root = f"{bucket}/{path}" if path else bucket
        self.url, self.name = f"{kind}://{self._root}", self._root.rpartition("/")[2]
        with self._said():
            self._files = _file_system(kind)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of as many kinds as there are libraries below
            found = " ".join(f"{type(error).__name__} ({error})".split())
            expected = "a bucket that is there, and credentials that may read and write it"
            raise InputError(self.url, f"{found:.300}", expected) from error

    def versions(self, start: str = "") -> dict[str, str]:
        """Path below the URL -> version of the object there, for paths that begin with `start`."""
        with self._said():
            self._files.invalidate_cache()
            found = self._files.find(self._root, prefix=start, detail=True)
        versions = {
            name.removeprefix(f"{self._root}/"): str(about.get("generation") or about["ETag"])
            for name, about in found.items()
            if name.startswith(f"{self._root}/{start}")
        }
        # Consoles make objects for folders; and what lies elsewhere is no file of this place.
        return {path: v for path, v in versions.items() if not {"", ".."} & {*path.split("/")}}

    def get(self, folder: pathlib.Path, paths: Iterable[str]) -> None:
        """Brings objects to a folder, each whole or not at all."""
        targets = {path: folder / path for path in paths}
        parts = {path: temporary_path(target) for path, target in targets.items()}
        try:
            for target in targets.values():
                target.parent.mkdir(parents=True, exist_ok=True)
            names = [f"{self._root}/{path}" for path in targets]
            self._each(self._files.get_file, names, map(os.fspath, parts.values()))
            for path, target in targets.items():
                os.replace(parts[path], target)
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)

    def put(self, folder: pathlib.Path, paths: Iterable[str]) -> None:
        """Sends files of a folder; what says that others are whole goes last."""
        for group in _in_order(paths):
            names = [f"{self._root}/{path}" for path in group]
            self._each(self._files.put_file, [os.fspath(folder / path) for path in group], names)

    def remove(self, paths: Iterable[str]) -> None:
        """Removes objects; what says that others are whole goes first."""
        for group in reversed(_in_order(paths)):
            for path in group:
                with self._said():
                    self._files.rm_file(f"{self._root}/{path}")

    def _each(self, call: Callable[..., object], *arguments: Iterable[str]) -> None:
        """Calls for several objects at once, and waits for all of them, whatever becomes of one."""
        with self._said(), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(call, *arguments))

    def write(self, path: str, value: Any, new: bool = False) -> None:
        """Writes an object of JSON; with `new` only if there is none, or else InputError."""
        with self._said():
            mode = "create" if new else "overwrite"
            self._files.pipe_file(f"{self._root}/{path}", json.dumps(value).encode(), mode=mode)

    def read(self, path: str) -> Any:
        """Reads what `write` wrote."""
        with self._said():
            return json.loads(self._files.cat_file(f"{self._root}/{path}"))


def _file_system(kind: str) -> Any:
    """The library's file system of a kind of bucket; it keeps no listings."""
    try:
        if kind == "s3":
            network = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}}
            options: dict[str, Any] = {"config_kwargs": network}
            found = importlib.import_module("s3fs").S3FileSystem
        else:
            options = {}
            found = importlib.import_module("gcsfs.core").GCSFileSystem
    except ImportError as error:
        raise InputError(
            f"{kind}://", f"no package {error.name}", "it: pip install 'catid2_jax[remote]'"
        ) from error
    for name in ("gcsfs", "s3fs"):  # what is wrong is said once, by InputError
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return found(use_listings_cache=False, **options)


def _in_order(paths: Iterable[str]) -> list[list[str]]:
    """Paths in groups: files, then what says that those beside it are whole, then records."""
    groups: tuple[list[str], ...] = ([], [], [])
    for path in sorted(paths):
        *folders, name = path.split("/")
        is_record = folders[-1:] == ["steps"] and not name.endswith(".metrics.json")
        groups[2 if is_record else name in _LAST].append(path)
    return [group for group in groups if group]
