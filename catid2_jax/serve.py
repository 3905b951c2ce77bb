"""Serves a finished work directory, or a bundle that `export` wrote, over HTTP.

    python -m catid2_jax.serve --workdir=DIR [--port=8080 --beams=50 ...]

The page is at /, the API at /v1, its description at /openapi.json. It listens on this machine
alone unless --host says otherwise. The environment variable CATID2_API_KEY is the key that clients
must send, CATID2_ADMIN_KEY the one of those who change products, stock and versions, which nobody
may do without it.
"""

import argparse
import dataclasses
import pathlib
import sys
import textwrap
from collections.abc import Sequence

from catid2_jax.cli import exit_codes
from catid2_jax.config_help import descriptions
from catid2_jax.errors import InputError
from catid2_jax.remote.mirror import fetched
from catid2_jax.serving.config import ServeConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Serves as the command line asks for; `argv` has the program's name first."""
    program, *words = sys.argv if argv is None else argv
    flags = vars(_parser(program).parse_args(words))
    with exit_codes([*flags]):
        workdir, config = flags.pop("workdir"), ServeConfig(**flags)
        _serve(fetched(workdir, "workdir"), config)


def _serve(workdir: pathlib.Path, config: ServeConfig) -> None:
    try:
        from catid2_jax.serving.server import serve
    except ImportError as error:
        raise InputError(
            "serve", f"no package {error.name}", "it: pip install 'catid2_jax[serve]'"
        ) from error
    serve(workdir, config)


def _parser(program: str) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter  # keeps the docstring's lines
    parser = argparse.ArgumentParser(
        pathlib.Path(program).name, description=__doc__, formatter_class=layout
    )
    parser.add_argument("--workdir", required=True, help="the work directory, or the bundle")
    texts = descriptions(ServeConfig)
    for field in dataclasses.fields(ServeConfig):
        about = textwrap.shorten(f"{texts[field.name]} Default: {field.default!r}.", 500)
        kind = _truth if isinstance(field.default, bool) else type(field.default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, help=about.replace("%", "%%")
        )
    return parser


def _truth(value: str) -> bool:
    """`true` and `false`, whatever their case."""
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


if __name__ == "__main__":
    main()
