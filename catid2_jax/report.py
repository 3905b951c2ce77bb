"""Writes a page that shows what is in a work directory, and its figures as files.

    python -m catid2_jax.report --workdir=DIR [--compare=DIR2,DIR3 ...]

Leaves DIR/report/index.html, which needs no other file and no network, and beside it every chart as
PNG and SVG. Directories that are compared must have the same test queries. Nothing is trained or
searched here: what is not in the work directory is not in the report.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

from catid2_jax.cli import ArgumentParser, exit_codes
from catid2_jax.config_help import descriptions
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.records import systems_in
from catid2_jax.remote.bucket import check_place, is_remote
from catid2_jax.remote.mirror import fetched, opened
from catid2_jax.reporting.config import ReportConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Reports as the command line asks for; `argv` has the program's name first."""
    program, *words = sys.argv if argv is None else argv
    names = [field.name for field in dataclasses.fields(ReportConfig)]
    with exit_codes(["workdir", "compare", *names]):
        flags = vars(_parser(program).parse_args(words))
        workdir, compared = flags.pop("workdir"), flags.pop("compare")
        _report([workdir, *filter(None, compared.split(","))], ReportConfig(**flags))


def _report(paths: Sequence[str], config: ReportConfig) -> None:
    try:
        from catid2_jax.reporting.comparison import compare
        from catid2_jax.reporting.writing import PAGE, write_report
    except ImportError as error:
        raise InputError(
            "report", f"no package {error.name}", "it: pip install 'catid2_jax[report]'"
        ) from error
    if not is_remote(check_place(paths[0], "workdir")):
        systems_in(paths[0])  # a lock would make the folder
    with opened(paths[0], "workdir") as root:
        others = [fetched(path, "compare") for path in paths[1:]]
        write_report(compare([root, *others], config), root / "report")
    console.print(f"the report is {os.path.join(paths[0], 'report', PAGE)}", soft_wrap=True)


def _parser(program: str) -> ArgumentParser:
    parser = ArgumentParser(prog=pathlib.Path(program).name, description=__doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="what it is about")
    parser.add_argument("--compare", default="", metavar="DIR2,...", help="what it is compared to")
    texts = descriptions(ReportConfig)
    for field in dataclasses.fields(ReportConfig):
        kind = int if isinstance(field.default, int) else str
        about = f"{texts[field.name]} Default: {field.default!r}.".replace("%", "%%")
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, help=about)
    return parser


if __name__ == "__main__":
    main()
