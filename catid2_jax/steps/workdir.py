"""Where everything of a run lies, and which steps are done with which configuration."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from catid2_jax.config import Config, as_nested_dict
from catid2_jax.errors import InputError
from catid2_jax.files import write_json


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run.

    Attributes:
        root: holds data and embeddings, which baselines share.
        variant: "" for the configured IDs; a baseline's name for its own stage 1 and 2 beneath.
    """

    root: pathlib.Path
    variant: str = ""

    @property
    def data(self) -> pathlib.Path:
        """The preprocessed catalogue, queries and qrels."""
        return self.root / "data"

    @property
    def embeddings(self) -> pathlib.Path:
        """float32 [N, D], in the order of the preprocessed catalogue; ids beside it."""
        return self.root / "embeddings.npy"

    def query_vectors(self, split: str) -> pathlib.Path:
        """float32 [Q, D], in the order of the preprocessed queries of a split."""
        return self.root / f"query_vectors.{split}.npy"

    @property
    def models(self) -> pathlib.Path:
        """Where the files of this variant's steps lie."""
        return self.root / self.variant

    @property
    def docids(self) -> pathlib.Path:
        """The table of document IDs."""
        return self.models / "docids.jsonl"

    @property
    def vocabulary(self) -> pathlib.Path:
        """The SentencePiece model of stage 2; one for all variants."""
        return self.root / "vocabulary.model"

    def checkpoints(self, stage: str) -> pathlib.Path:
        """Checkpoints of "rqvae" or "seq2seq"."""
        return self.models / stage

    def metrics(self, step: str) -> pathlib.Path:
        """Figures that a step leaves for `evaluate`."""
        return self.models / "steps" / f"{step}.metrics.json"

    def record(self, step: str) -> pathlib.Path:
        """The record of a step: its configuration, whether it is done, how long it took."""
        return self.models / "steps" / f"{step}.json"


def relevant_config(config: Config, sections: tuple[str, ...]) -> dict[str, Any]:
    """What a step depends on, as it comes back from JSON: fields, and the files they name."""
    nested = as_nested_dict(config)
    relevant = json.loads(json.dumps({name: nested[name] for name in ("seed", *sections)}))
    digests = {path: _digest(path) for path in _texts(relevant) if pathlib.Path(path).is_file()}
    return relevant | {"contents of files": digests}


def _texts(value: Any) -> Iterator[str]:
    """All texts among the values of nested dictionaries."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]


def read_record(path: pathlib.Path) -> dict[str, Any] | None:
    """A step's record, or None if it has none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: found no JSON, expected the record of a step") from error


def write_record(path: pathlib.Path, config: dict[str, Any], seconds: float | None) -> None:
    """Records a step as under way (`seconds` None) or as done."""
    write_json(path, {"config": config, "done": seconds is not None, "seconds": seconds})


def first_difference(old: Any, new: Any, path: str = "config") -> str | None:
    """The first field in which two nested configurations differ, as `path: old, new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = first_difference(old.get(name), new.get(name), f"{path}.{name}")
            if found:
                return found
        return None
    return None if old == new else f"{path} = {old!r}, and now {new!r}"
