"""What every entry point does around its work: flags, one clear line for bad input, exit codes."""

import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from catid2_jax import processes
from catid2_jax.config import Config, freeze
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.steps.chain import run_until
from catid2_jax.steps.workdir import Workdir


def main(last_step: Callable[[Config], str], argv: Sequence[str] | None = None) -> None:
    """Runs the chain up to `last_step(config)`, as `main_with` runs anything."""
    main_with(lambda config, workdir: run_until(config, workdir, last_step(config)), argv)


def main_with(run: Callable[[Config, Workdir], None], argv: Sequence[str] | None = None) -> None:
    """Runs `run` as the command line asks for; exits with 2 after one line about bad input."""
    try:
        config, workdir, distributed = _parse(list(sys.argv if argv is None else argv))
        if distributed:
            processes.join()
            console.quiet = not processes.is_first()
        run(config, Workdir(workdir))
        console.print(f"everything is in {workdir}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _parse(argv: list[str]) -> tuple[Config, pathlib.Path, bool]:
    """The frozen configuration, the work directory, whether this is one process of several."""
    parser = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", None, "Configuration file, configs/*.py.", flag_values=parser, sys_argv=argv
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
    if any(argument in ("--help", "-h") for argument in argv[1:]):
        print((sys.modules["__main__"].__doc__ or "").strip())
        sys.exit(0)
    try:
        rest = parser(argv)[1:]
        if not parser["config"].present:
            raise InputError("--config is missing, expected a file such as configs/quickstart.py")
        path = config_flags.get_config_filename(parser["config"])
        if not pathlib.Path(path.split(":")[0]).is_file():
            raise FileNotFoundError(path)
    except OSError as error:
        raise InputError(f"--config: no such file ({error})") from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, ImportError) as error:
        # ml_collections passes a KeyError's message on as it prints: quoted and escaped.
        message = str(error).replace("\\n", " ").replace("\\'", "'")
        raise InputError(" ".join(message.split()).strip("'")) from error
    if rest:
        raise InputError(f"found argument {rest[0]!r}, expected flags only (--config, --workdir)")
    file, _, preset = path.partition(":")
    name = "-".join(filter(None, (pathlib.Path(file).stem, preset)))
    place = pathlib.Path(workdir.value or os.path.join("runs", name))
    return freeze(config.value), place, bool(distributed.value)
