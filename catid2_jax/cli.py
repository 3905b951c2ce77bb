"""What every entry point does around its work: flags, one clear line for bad input, exit codes."""

import argparse
import ast
import contextlib
import hashlib
import importlib
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict

from catid2_jax import processes, signals
from catid2_jax.config import Config, default_config, freeze
from catid2_jax.config_file import flag_error, load_config, override
from catid2_jax.config_help import field_help, paragraph
from catid2_jax.constraints import Place, check_local, check_value
from catid2_jax.errors import InputError, system_error
from catid2_jax.progress import console as output
from catid2_jax.remote.mirror import opened
from catid2_jax.resources import config_path
from catid2_jax.workdir import BUNDLE, Workdir

VERBS = (
    "pipeline",
    "prepare",
    "embed",
    "train",
    "assign",
    "retrieve",
    "evaluate",
    "reproduce",
    "report",
    "export",
    "serve",
    "inspect",
    "import_data",
    "convert_checkpoint",
)
"""The entry points: `catid2 <verb>` and `python -m catid2_jax.<verb>` are the same."""

FLAGS: Mapping[str, str] = {
    "config": "a configuration: a file, or a name such as quickstart or paper/table2; what follows "
    "a colon, as in quickstart:tiger, is given to its get_config.",
    "workdir": "where everything goes: a folder, gs://BUCKET/PATH or s3://BUCKET/PATH; "
    "runs/<configuration> without it.",
    "distributed": "this is one of several processes: on SLURM, on a TPU pod, or as "
    f"{', '.join(processes.VARIABLES)} say; see launch/.",
    "help": "prints this, with the values of the configuration that --config names.",
}
"""Flags beside the fields of the configuration, and what they mean."""


def console(argv: Sequence[str] | None = None) -> None:
    """The command `catid2 <verb> ...`."""
    arguments = list(sys.argv if argv is None else argv)
    # As `python -m` does, so that a dotted path may name a module of the user's folder.
    sys.path.insert(0, os.getcwd())
    with exit_codes():
        verb = arguments[1] if len(arguments) > 1 else ""
        if verb in ("-h", "--help"):
            print(_verbs())
            return
        if verb not in VERBS:
            found = f"the verb {verb!r}" if verb else "no verb"
            raise InputError("catid2", found, f"one of {', '.join(VERBS)}")
    importlib.import_module(f"catid2_jax.{verb}").main([f"catid2 {verb}", *arguments[2:]])


def _verbs() -> str:
    """What `catid2 --help` prints: each verb with the first line of its module's docstring."""
    lines = ["catid2 <verb> [--help]", ""]
    for verb in VERBS:
        source = pathlib.Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
        about = ast.get_docstring(ast.parse(source)) or ""
        lines.append(f"    {verb:<20}{about.partition(chr(10))[0]}")
    return "\n".join(lines)


@contextlib.contextmanager
def exit_codes(names: Collection[str] = ()) -> Iterator[None]:
    """Ends a command as a shell expects it: bad input by one line on standard error and code 2.

    So do the operating system's errors. An interrupt ends it by 130, SIGTERM by 143.

    Args:
        names: names of flags; an error in the place of one says it as a flag, with dashes.
    """
    try:
        with signals.raised():
            yield
    except InputError as error:
        _fail(error, "--" if error.where in names else "")
    except KeyboardInterrupt:
        signals.end(signal.SIGINT)
    except signals.Terminated:
        signals.end(signal.SIGTERM)
    except BrokenPipeError:  # `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        found = system_error(error)
        if found is None:  # a fault of ours
            raise
        _fail(found)


class ArgumentParser(argparse.ArgumentParser):
    """Reads the flags of a verb without a configuration; what is wrong with them is one line."""

    def __init__(self, **options: Any) -> None:
        """Has the lines of descriptions kept; otherwise as argparse's."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raises InputError, where argparse prints how the verb is used."""
        raise InputError("command line", message, "flags as --help says")


def _fail(error: InputError, dashes: str = "") -> NoReturn:
    lines = filter(None, map(str.strip, str(error).splitlines()))
    print(f"error: {dashes}{' '.join(lines)}", file=sys.stderr)
    sys.exit(2)


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
        given, words = _read_flags(list(sys.argv if argv is None else argv))
        config, name = _load(given)
        rest = override(config, words)
        if rest:
            raise InputError("command line", f"the argument {rest[0]!r}", "flags only, see --help")
        if given.help:
            print(_help(about, config), flush=True)
            return
        frozen, workdir = freeze(config), given.workdir or f"runs/{name}"
        check_value(workdir, Place, "--workdir")
        if given.distributed:
            _join(frozen)
        with opened(workdir, "--workdir") as root:
            if (root / BUNDLE).is_file():
                expected = "a work directory; `serve` and `load` take bundles"
                raise InputError("--workdir", f"{workdir}, a bundle", expected)
            run(frozen, Workdir(root))
        output.print(f"everything is in {workdir}")


def _read_flags(argv: list[str]) -> tuple[flags.FlagValues, list[str]]:
    """The flags of `FLAGS`, and the command line without them.

    Raises:
        InputError: a flag without the value that it needs, or with one of another type.
    """
    given = flags.FlagValues()
    given.set_gnu_getopt(True)
    for name in ("config", "workdir"):
        flags.DEFINE_string(name, "", FLAGS[name], flag_values=given)
    flags.DEFINE_bool("distributed", False, FLAGS["distributed"], flag_values=given)
    flags.DEFINE_bool("help", False, FLAGS["help"], short_name="h", flag_values=given)
    try:
        return given, given(argv, known_only=True)
    except flags.Error as error:
        raise flag_error(error) from error


def _load(given: flags.FlagValues) -> tuple[ConfigDict, str]:
    """The configuration that is named, or the defaults for --help; and a name for its runs."""
    if not given.config:
        if given.help:
            return default_config(), "default"
        raise InputError("--config", "none", "a file or a name, such as --config=quickstart")
    check_local(given.config, "--config")
    name, _, argument = given.config.partition(":")
    try:
        path = config_path(name)
    except InputError as error:
        raise InputError("--config", error.found, error.expected) from error
    runs = "-".join(filter(None, (path.stem, argument)))
    return load_config(path, argument), runs.replace(":", "-")


def _join(config: Config) -> None:
    """Makes this process one of several of one configuration, of which the first one speaks."""
    digest = hashlib.blake2b(repr(config).encode(), digest_size=4).hexdigest()
    try:
        processes.join({"the configuration's digest": digest})
    except InputError as error:
        raise error.within("--distributed") from error
    output.quiet = not processes.is_first()


def _help(about: str, config: ConfigDict) -> str:
    """What --help prints."""
    own = [f"    --{name}\n{paragraph(text)}" for name, text in FLAGS.items()]
    return "\n".join((about.strip(), "\nFlags:", *own, "", field_help(config)))
