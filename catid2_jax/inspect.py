"""Looks for what is odd in the catalogue, the queries and the judgements before anyone trains.

    python -m catid2_jax.inspect --config=configs/quickstart.py [--workdir=DIR] [--config.x=y ...]

Reads them as they were given, before preprocessing; leaves DIR/inspect.json and DIR/inspect.html,
and in DIR/inspect.rejected.jsonl the records of the catalogue that cannot be read.
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Sequence

from catid2_jax import cli
from catid2_jax.config import Config
from catid2_jax.data.catalog import CatalogReader, stream_products
from catid2_jax.data.config import SPLITS, DataConfig
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.data.synthetic import generate_products, generate_queries
from catid2_jax.errors import InputError
from catid2_jax.processes import first_alone
from catid2_jax.progress import console
from catid2_jax.types import Qrels, Query
from catid2_jax.workdir import Workdir


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb as the command line asks for."""
    cli.main(run, __doc__ or "", argv)


def run(config: Config, workdir: Workdir) -> None:
    """Inspects the configured data, or the synthetic catalogue if none is configured."""
    first_alone(functools.partial(_inspect, config, workdir))  # it reads the rejects that it writes


def _inspect(config: Config, workdir: Workdir) -> None:
    try:
        from catid2_jax.data.health.inspection import Split, inspect_data
        from catid2_jax.data.health.report import print_health, write_health
    except ImportError as error:
        raise InputError(
            "inspect", f"no package {error.name}", "it: pip install 'catid2_jax[inspect]'"
        ) from error
    data = config.data.fetched()
    splits = {name: Split(*split) for name, split in _splits(data, config.seed)}
    if data.catalog:
        rejects = workdir.root / "inspect.rejected.jsonl"
        reader = stream_products(data.catalog, "skip", rejects)
        health = inspect_data(reader, splits, data.preprocessing, lambda: _errors(reader))
    else:
        products = generate_products(data.synthetic, config.seed)
        health = inspect_data(products, splits, data.preprocessing)
    print_health(health, console, "--config.rqvae.")
    write_health(health, workdir.root, pathlib.Path(data.catalog).parent.name or "the catalogue")


def _splits(data: DataConfig, seed: int) -> Iterator[tuple[str, tuple[list[Query], Qrels]]]:
    """Queries and judgements by split; those of a split that is not there are left out."""
    for split in SPLITS:
        if not data.catalog:
            generated = list(generate_queries(data.synthetic, seed, split))
            if generated:
                qrels = {query.id: grades for query, grades in generated}
                yield split, ([query for query, _ in generated], qrels)
        elif getattr(data, f"{split}_queries"):
            queries = read_queries(getattr(data, f"{split}_queries"))
            yield split, (queries, read_qrels(getattr(data, f"{split}_qrels")))


def _errors(reader: CatalogReader) -> Iterator[str]:
    """What was wrong with each record that the reader left out."""
    with open(reader.rejects or "", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["error"]


if __name__ == "__main__":
    main()
