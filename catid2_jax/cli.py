"""What every entry point does around its work: flags, one clear line for bad input, exit codes."""

import contextlib
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import flags
from ml_collections import config_flags

from catid2_jax import processes
from catid2_jax.config import Config, freeze
from catid2_jax.config_help import field_help
from catid2_jax.errors import InputError
from catid2_jax.progress import console as output
from catid2_jax.resources import config_path
from catid2_jax.workdir import Workdir

VERBS = (
    "pipeline",
    "prepare",
    "embed",
    "train",
    "assign",
    "retrieve",
    "evaluate",
    "export",
    "inspect",
    "import_data",
    "convert_checkpoint",
)
"""The entry points: `catid2 <verb>` and `python -m catid2_jax.<verb>` are the same."""


def console(argv: Sequence[str] | None = None) -> None:
    """The command `catid2 <verb> ...`."""
    arguments = list(sys.argv if argv is None else argv)
    # As `python -m` does, so that a dotted path may name a module of the user's folder.
    sys.path.insert(0, os.getcwd())
    with exit_codes():
        verb = arguments[1] if len(arguments) > 1 else ""
        if verb in ("", "-h", "--help"):
            print(f"catid2 <verb> [--help], verbs: {', '.join(VERBS)}")
            sys.exit(0 if verb else 2)
        if verb not in VERBS:
            raise InputError("catid2", f"the verb {verb!r}", f"one of {', '.join(VERBS)}")
    importlib.import_module(f"catid2_jax.{verb}").main([f"catid2 {verb}", *arguments[2:]])


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turns bad input into one line on standard error and exit code 2, an interrupt into 130."""
    try:
        yield
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def main(
    run: Callable[[Config, Workdir], None], about: str, argv: Sequence[str] | None = None
) -> None:
    """Runs `run` with the configuration and the work directory that the command line names.

    Args:
        run: the work.
        about: what the verb does, for --help.
        argv: the command line, the program's name first; `sys.argv` if None.
    """
    with exit_codes():
        config, workdir, distributed = _parse(list(sys.argv if argv is None else argv), about)
        if distributed:
            try:
                processes.join()
            except InputError as error:
                raise error.within("--distributed") from error
            output.quiet = not processes.is_first()
        run(config, Workdir(workdir))
        output.print(f"everything is in {workdir}")


def _parse(argv: list[str], about: str) -> tuple[Config, pathlib.Path, bool]:
    """The frozen configuration, the work directory, whether this is one process of several."""
    wants_help = any(argument in ("--help", "-h") for argument in argv[1:])
    argv = [argument for argument in argv if argument not in ("--help", "-h")]
    path, preset = _find_config(argv)
    if wants_help and not path:
        print(f"{about.strip()}\n\n{field_help()}")
        sys.exit(0)
    if not path:
        raise InputError("--config", "none", "a file or a name, such as --config=quickstart")
    parser = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration: a file or a packaged name.",
        flag_values=parser,
        sys_argv=argv,
    )
    workdir = flags.DEFINE_string(
        "workdir", "", "Where everything goes; runs/<configuration> if empty.", flag_values=parser
    )
    distributed = flags.DEFINE_bool(
        "distributed",
        False,
        "Whether this is one of several processes: on SLURM, on a TPU pod, or as "
        f"{', '.join(processes.VARIABLES)} say; see launch/.",
        flag_values=parser,
    )
    try:
        rest = parser(argv)[1:]
    except InputError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise _as_input_error(error) from error
    if rest:
        raise InputError("", f"the argument {rest[0]!r}", "flags only (--config, --workdir)")
    if wants_help:
        print(f"{about.strip()}\n\n{field_help(config.value)}")
        sys.exit(0)
    name = "-".join(filter(None, (path.stem, preset)))
    place = pathlib.Path(workdir.value or os.path.join("runs", name))
    return freeze(config.value), place, bool(distributed.value)


def _find_config(argv: list[str]) -> tuple[pathlib.Path | None, str]:
    """The configuration's file, whose path replaces its name in `argv`, and its preset."""
    for place, argument in enumerate(argv[1:], 1):
        found = re.fullmatch(r"--?config(?:=(.*))?", argument)
        if found is None:
            continue
        given = found[1]
        if given is None and place + 1 < len(argv):
            given = argv.pop(place + 1)
        name, _, preset = (given or "").partition(":")
        try:
            path = config_path(name)
        except InputError as error:
            raise InputError("--config", error.found, error.expected) from error
        argv[place] = f"--config={path}" + (f":{preset}" if preset else "")
        return path, preset
    return None, ""


def _as_input_error(error: BaseException) -> InputError:
    """What a configuration file or a flag went wrong with, from whatever it was wrapped in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    # ml_collections passes a KeyError's message on as it prints: quoted and escaped.
    message = str(error).replace("\\n", " ").replace("\\'", "'")
    return InputError(
        "command line", " ".join(message.split()).strip("'"), "fields as --help lists"
    )
