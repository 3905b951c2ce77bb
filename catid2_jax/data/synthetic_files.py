"""The built-in synthetic catalogue as files, in the form that users' own data have."""

import pathlib

from catid2_jax.data.catalog import write_catalog
from catid2_jax.data.config import SPLITS
from catid2_jax.data.queries import write_qrels, write_queries
from catid2_jax.data.synthetic import SyntheticConfig, generate_products, generate_queries
from catid2_jax.progress import track
from catid2_jax.types import Qrels, Query


def write_synthetic(config: SyntheticConfig, directory: pathlib.Path, seed: int) -> dict[str, str]:
    """Generates the catalogue, queries and judgements.

    Returns:
        Name of a field of `DataConfig` -> path; splits without queries have none.
    """
    paths = {"catalog": directory / "catalog.jsonl"}
    products = generate_products(config, seed)
    write_catalog(paths["catalog"], track(products, "synthetic products", config.products))
    for split in SPLITS:
        queries: list[Query] = []
        qrels: Qrels = {}
        total = getattr(config, f"{split}_queries")
        generated = generate_queries(config, seed, split)
        for query, grades in track(generated, f"synthetic {split} queries", total):
            queries.append(query)
            qrels[query.id] = grades
        if queries:
            paths[f"{split}_queries"] = directory / f"queries.{split}.jsonl"
            paths[f"{split}_qrels"] = directory / f"qrels.{split}.txt"
            write_queries(paths[f"{split}_queries"], queries)
            write_qrels(paths[f"{split}_qrels"], qrels)
    return {name: str(path) for name, path in paths.items()}
