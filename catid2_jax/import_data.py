"""Turns data that you have into the project's files: a catalogue, queries and judgements.

    python -m catid2_jax.import_data SOURCE --output=DIR [--field=value ...]

The sources are esci, wands, amazon_reviews, huggingface, csv, parquet, sql and the exports of
shopify, woocommerce and google_merchant; SOURCE --help has its fields. A field of several values
takes them with commas between.
"""

import dataclasses
import inspect
import pathlib
import sys
from collections.abc import Sequence

from catid2_jax.cli import ArgumentParser, exit_codes
from catid2_jax.constraints import Place, check_fields, check_value
from catid2_jax.data.sources.dataset import (
    WritingConfig,
    check_sources,
    report,
    write_dataset,
)
from catid2_jax.data.sources.esci import dataset_figures, table_1
from catid2_jax.data.sources.registry import SOURCES
from catid2_jax.progress import console
from catid2_jax.remote.mirror import written


def main(argv: Sequence[str] | None = None) -> None:
    """Imports as the command line asks for; `argv` has the program's name first."""
    program, *words = sys.argv if argv is None else argv
    names: list[str] = []
    with exit_codes(names):
        flags = vars(_parser(program).parse_args(words))
        names += flags
        output, source = check_value(flags.pop("output"), Place, "output"), flags.pop("source")
        config_class, read = SOURCES[source]
        shared = [field.name for field in dataclasses.fields(WritingConfig)]
        writing = WritingConfig(**{name: flags.pop(name) for name in shared})
        config = config_class(**flags)
        check_fields(config)
        with written(output, "output") as folder:
            for dataset in read(config):
                check_sources(flags, folder / dataset.name)
                report(folder / dataset.name, *write_dataset(dataset, folder, writing))
                if source == "esci":
                    figures = dataset_figures(folder / dataset.name)
                    console.print(table_1(dataset.name, figures))


def _parser(program: str) -> ArgumentParser:
    parser = ArgumentParser(prog=pathlib.Path(program).name, description=__doc__)
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, (config_class, _) in SOURCES.items():
        classes = (*config_class.__mro__[:-1], WritingConfig)
        about = "\n\n".join(inspect.getdoc(described) or "" for described in classes)
        flags = sources.add_parser(name, description=about)
        flags.add_argument("--output", required=True, help="folder for the files")
        for field in (*dataclasses.fields(config_class), *dataclasses.fields(WritingConfig)):
            if field.default is dataclasses.MISSING:
                flags.add_argument(f"--{field.name}", required=True)
            else:
                kind = _names if isinstance(field.default, tuple) else type(field.default)
                flags.add_argument(f"--{field.name}", type=kind, default=field.default)
    return parser


def _names(value: str) -> tuple[str, ...]:
    return tuple(filter(None, value.split(",")))


if __name__ == "__main__":
    main()
