"""Runs T5X's train, infer or eval with the gin files of this package, from any folder.

    python -m catid2_jax.t5x train --gin_file=gin/models/t5_1_1_base.gin ...

It is `python -m t5x.train`, which also looks for gin files where this package has them, and takes
folders that are named from where it is run. With --distributed it is one of several processes, as
the verbs of catid2_jax are.
"""

import importlib.util
import os
import re
import runpy
import sys
from collections.abc import Iterable, Sequence

from catid2_jax.cli import exit_codes
from catid2_jax.errors import InputError
from catid2_jax.processes import join
from catid2_jax.resources import packaged

SCRIPTS = ("train", "infer", "eval")
DISTRIBUTED = "--distributed"
_PATHS = "--gin_search_paths="
_PLACE = re.compile(
    r"(?P<name>--gin\.(MODEL_DIR|WORKDIR|(INITIAL_)?CHECKPOINT_PATH|(INFER|EVAL)_OUTPUT_DIR))"
    r"=(?P<quote>['\"])(?P<path>.+)(?P=quote)"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the script; `argv` has the program's name first."""
    _, *words = sys.argv if argv is None else argv
    with exit_codes():
        script = words[0] if words else ""
        if script not in SCRIPTS:
            found = f"the script {script!r}" if script else "no script"
            raise InputError("catid2_jax.t5x", found, f"one of {', '.join(SCRIPTS)}")
        if importlib.util.find_spec("t5x") is None:
            raise InputError("catid2_jax.t5x", "no package t5x", "it: see docs/t5x.md")
        if DISTRIBUTED in words:
            words.remove(DISTRIBUTED)
            join({"the script": script})
    sys.argv = [f"t5x.{script}", *with_search_path(map(with_whole_path, words[1:]))]
    runpy.run_module(f"t5x.{script}", run_name="__main__", alter_sys=True)


def with_whole_path(word: str) -> str:
    """A word of the command line; where it names a place, from the root on, as Orbax asks for."""
    found = _PLACE.fullmatch(word)
    if not found or "://" in found["path"]:
        return word
    return f"{found['name']}={found['quote']}{os.path.abspath(found['path'])}{found['quote']}"


def with_search_path(words: Iterable[str]) -> list[str]:
    """A command line with the package's folder behind the other places of gin files."""
    words = list(words)
    given = [word.removeprefix(_PATHS) for word in words if word.startswith(_PATHS)]
    others = [word for word in words if not word.startswith(_PATHS)]
    return [f"{_PATHS}{','.join([*given[-1:], str(packaged('gin').parent)])}", *others]


if __name__ == "__main__":
    main()
