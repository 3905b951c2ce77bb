"""Where everything of a run lies, and which steps are done with which configuration."""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from catid2_jax.config import Config, declared_values
from catid2_jax.errors import InputError
from catid2_jax.records import FORMAT as FORMAT
from catid2_jax.records import Record as Record
from catid2_jax.records import check_files as check_files
from catid2_jax.records import finish as finish
from catid2_jax.records import left_files
from catid2_jax.records import read_record as read_record
from catid2_jax.records import record_path as record_path
from catid2_jax.records import write_record as write_record
from catid2_jax.remote.mirror import fetched_file
from catid2_jax.resolution import ResolvedSystem

BUNDLE = "bundle.json"
"""Name of the file that makes a folder a bundle, see `bundle.py`, and no work directory."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The files that all systems of a run share.

    Attributes:
        root: holds data, embeddings and the vocabulary, and a folder per system.
    """

    root: pathlib.Path

    @property
    def data(self) -> pathlib.Path:
        """Folder of the preprocessed catalogue, queries and qrels."""
        return self.root / "data"

    @property
    def catalog(self) -> pathlib.Path:
        """The preprocessed catalogue as columns."""
        return self.data / "catalog.parquet"

    def queries(self, split: str) -> pathlib.Path:
        """Preprocessed queries of a split, with `source_row`, their row in the file they are of."""
        return self.data / f"queries.{split}.jsonl"

    def qrels(self, split: str) -> pathlib.Path:
        """Preprocessed judgements of a split, in TREC's form."""
        return self.data / f"qrels.{split}.txt"

    @property
    def vocabulary(self) -> pathlib.Path:
        """The SentencePiece model of stage 2, one for all systems."""
        return self.root / "vocabulary.model"

    @property
    def metrics(self) -> pathlib.Path:
        """Figures of all systems."""
        return self.root / "metrics.json"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one system's steps read and write.

    Attributes:
        workdir: the shared files.
        folder: the folder of the system's own files; the root for the shared steps.
        model: the folder of the IDs and the network that it searches with.
        vectors: the folder of the embeddings: the root, or the system's own if it changes them.
    """

    workdir: Workdir
    folder: pathlib.Path
    model: pathlib.Path
    vectors: pathlib.Path

    @property
    def embeddings(self) -> pathlib.Path:
        """float32 [N, D], a row per row of the preprocessed catalogue."""
        return self.vectors / "embeddings.npy"

    def query_vectors(self, split: str) -> pathlib.Path:
        """float32 [Q, D], a row per preprocessed query of a split."""
        return self.vectors / f"query_vectors.{split}.npy"

    @property
    def docids(self) -> pathlib.Path:
        """The table of document IDs."""
        return self.model / "docids.jsonl"

    @property
    def encoder(self) -> pathlib.Path:
        """Shape and tokens of the pretrained encoder of stage 2, if it has one."""
        return self.model / "encoder"

    @property
    def product_vectors(self) -> pathlib.Path:
        """float32 [N, E], the products' vectors by a trained tower."""
        return self.folder / "product_vectors.npy"

    def figures(self, step: str) -> pathlib.Path:
        """Figures that a step leaves for `evaluate`."""
        return self.folder / "steps" / f"{step}.metrics.json"


def has_begun(folder: pathlib.Path, step: str) -> bool:
    """Whether a step that was interrupted has left something that it would go on with.

    Learning curves, profiles and unfinished files are not; where nothing else is there, the step
    may be tried again with another configuration.

    Args:
        folder: the system's folder.
        step: "docids", for which all of the folder counts but the steps after it, or another.
    """
    later = {"steps", "seq2seq", "towers", "encoder", "export"}
    roots = [folder / ("towers" if step == "train_towers" else "seq2seq")]
    if step == "docids":
        roots = [path for path in folder.glob("*") if path.name not in later]
    files = (path for root in roots for path in (root, *root.rglob("*")) if path.is_file())
    unfinished = re.compile(r"/(\.|events\.|plugins/|not_finite\.json|call\.json|[^/]*tmp)")
    return any(not unfinished.search(f"/{path.relative_to(folder)}") for path in files)


def check_names(name: str, output: str) -> None:
    """Checks that a system's folder and run take the place of nothing else.

    Args:
        name: the system's name.
        output: the name of its run.

    Raises:
        InputError: a name that a work directory has for something else.
    """
    if name in ("data", "report", "steps", "synthetic"):
        raise InputError("config.systems", f"a system named {name!r}", "a name that is not taken")
    taken = ("encoder", "export", "product_vectors.npy", "rqvae", "seq2seq", "steps", "towers")
    if output in taken or output.startswith((".", "docids.", "embeddings.", "query_vectors.")):
        raise InputError(
            "config.retrieve.output", repr(output), "another name than those of a system's files"
        )


def shared_place(root: pathlib.Path) -> Place:
    """The place of the steps that all systems share."""
    return Place(Workdir(root), root, root, root)


def place_of(system: ResolvedSystem, config: Config, workdir: Workdir) -> Place:
    """Where a system's steps read and write."""
    root = workdir.root
    check_names(system.name, config.retrieve.output)
    own = system.config.embedding != config.embedding
    return Place(
        workdir,
        root / system.name,
        root / (system.model_name or system.name),
        root / system.plain_name if own else root,
    )


VOCABULARY = "vocabulary"
"""Name of the record of the vocabulary, which the first system that needs it makes for all."""

_READ_LATER = {
    "prepare": ("data/catalog.*", "data/queries.*", "data/qrels.*"),
    "embed": ("embeddings.npy", "query_vectors.*"),
    "docids": ("docids*", "steps/*"),
    VOCABULARY: ("*",),
    "train_seq2seq": ("encoder/*",),  # checkpoints have digests of their own
    "train_towers": ("encoder/*", "product_vectors.npy"),
    "retrieve": ("*",),
}
"""Step -> patterns of those of its files that later steps read, in the order of the steps."""

_BUILT_ON = _READ_LATER | {
    "docids": ("docids*",),
    "train_seq2seq": ("encoder/*", "seq2seq/*/*/digests.json"),
}
"""Step -> patterns of those of its files that later steps' results come from."""


def check_artefacts(place: Place, step: str) -> None:
    """Checks that what the steps before one have left is as they left it, and goes together.

    Args:
        place: where the step reads.
        step: its name.

    Raises:
        InputError: a file is missing or has changed since, or a step was done again after one that
            was built on it.
    """
    for name, path in _earlier(place, step):
        check_files(path, _READ_LATER[name])
        check_built_on(place, name, path)


def built_on(step: str, *places: Place) -> dict[str, str]:
    """The files that a step is built on, as the steps before it have left them.

    Args:
        step: its name.
        *places: where it reads.

    Returns:
        Path in the work directory -> digest.
    """
    found: dict[str, str] = {}
    for place in places:
        for name, path in _earlier(place, step):
            record, folder = read_record(path), path.parent.parent.relative_to(place.workdir.root)
            if record and record.done:
                files = left_files(record, _BUILT_ON[name])
                found |= {(folder / file).as_posix(): digest for file, (_, digest) in files.items()}
    return found


def replaced_file(record: Record, step: str, *places: Place) -> str:
    """A file that a step was built on and that an earlier step has made anew; empty if none is.

    Args:
        record: what is known of it.
        step: its name.
        *places: where it reads.
    """
    now = built_on(step, *places)
    changed = (name for name, digest in record.built_on.items() if now.get(name, digest) != digest)
    return next(changed, "")


def check_built_on(place: Place, step: str, path: pathlib.Path) -> None:
    """Checks that no earlier step was done again, with another result, after a step.

    Args:
        place: where the step reads.
        step: its name.
        path: where its record lies.

    Raises:
        InputError: one was.
    """
    record = read_record(path)
    file = replaced_file(record, step, place) if record else ""
    if file:
        folder = path.parent.parent
        begun = {"docids": f"{folder}", "train_seq2seq": f"{path} and {folder / 'seq2seq'}"}
        raise InputError(
            folder,
            f"its step {step}, which was built on another {file} than that of now",
            f"the earlier one: restore it, or delete {begun.get(step, path)} and run the same "
            "command again, which makes it anew",
        )


def _earlier(place: Place, step: str) -> Iterator[tuple[str, pathlib.Path]]:
    """Yields the steps before one, and where their records lie."""
    root = place.workdir.root
    folders = {"prepare": root, "embed": place.vectors, VOCABULARY: root, "retrieve": place.folder}
    for name in itertools.takewhile(lambda name: name != step, _READ_LATER):
        yield name, record_path(folders.get(name, place.model), name)


def relevant_values(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    """What a step depends on, as it comes back from JSON: declared values, and files they name."""
    values = json.loads(json.dumps(declared_values(config, names)))
    files = {path: fetched_file(path) for path in _texts(values)}
    digests = {path: _digest(file) for path, file in files.items() if pathlib.Path(file).is_file()}
    return values | {"contents of files": digests}


def _texts(value: Any) -> Iterator[str]:
    """All texts among the values of nested dictionaries."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _digest(path: str) -> str:
    """BLAKE2 of a file; one that this process has read before is not read again."""
    found = os.stat(path)
    return _digest_once(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.cache
def _digest_once(path: str, inode: int, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]


def first_difference(old: Any, new: Any, path: str = "config") -> str | None:
    """The first field in which two nested configurations differ, as `path: old, new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = first_difference(old.get(name), new.get(name), f"{path}.{name}")
            if found:
                return found
        return None
    return None if old == new else f"{path} = {old!r}, and now {new!r}"
