"""Runs T5X's train, infer or eval with the gin files of this package, from any folder.

    python -m catid2_jax.t5x train --gin_file=gin/models/t5_1_1_base.gin ...

It is `python -m t5x.train`, which also looks for gin files where this package has them.
"""

import importlib.util
import runpy
import sys
from collections.abc import Sequence

from catid2_jax.cli import exit_codes
from catid2_jax.errors import InputError
from catid2_jax.resources import packaged

SCRIPTS = ("train", "infer", "eval")
_PATHS = "--gin_search_paths="


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
    sys.argv = [f"t5x.{script}", *with_search_path(words[1:])]
    runpy.run_module(f"t5x.{script}", run_name="__main__", alter_sys=True)


def with_search_path(words: Sequence[str]) -> list[str]:
    """A command line with the package's folder behind the other places of gin files."""
    given = [word.removeprefix(_PATHS) for word in words if word.startswith(_PATHS)]
    others = [word for word in words if not word.startswith(_PATHS)]
    return [f"{_PATHS}{','.join([*given[-1:], str(packaged('gin').parent)])}", *others]


if __name__ == "__main__":
    main()
