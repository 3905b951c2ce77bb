"""Step 3: stage 1, a unique document ID for every product."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from catid2_jax.config import Config
from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.files import read_npy, write_json
from catid2_jax.loading import load_queries
from catid2_jax.processes import is_first
from catid2_jax.progress import console
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.schemes.scheme import Run, check_table, make_scheme, resolve_scheme
from catid2_jax.workdir import Place

_TABLE = {field.name for field in dataclasses.fields(DocidTable)}


def run(config: Config, place: Place, system: ResolvedSystem) -> Mapping[str, Any]:
    """Fits the system's scheme and writes `docids.jsonl`.

    Returns:
        The shape of the IDs: `levels` and `codebook_size`.
    """
    embeddings = read_npy(place.embeddings, memory_mapped=True)
    queries = load_queries(place, "train") if place.workdir.queries("train").exists() else None
    corpus = Corpus(Catalog.open(place.workdir.catalog), embeddings, queries)
    sections = {name: getattr(config, name) for name in system.sections}
    fit = Run(system.name, place.folder, config.seed)
    try:
        scheme = make_scheme(resolve_scheme(system.row.scheme), sections, system.scheme_options)
        table = check_table(scheme.fit(corpus, fit), corpus, system.row.scheme)
    except InputError as error:
        raise _located(error, sections, system) from error
    for line in figure_lines(fit.figures):
        console.print(line)
    write_docids(place.docids, table)
    if is_first():
        write_json(place.figures("docids"), fit.figures)
    return {"levels": table.levels, "codebook_size": table.codebook_size}


def figure_lines(figures: Mapping[str, float]) -> list[str]:
    """A line per figure of the IDs, with its levels side by side.

    Those before reassignment are left to the table of `evaluate`.
    """
    by_name: dict[str, list[str]] = {}
    for key, value in figures.items():
        name = key.partition("/level_")[0]
        if not name.startswith("before_reassignment/"):
            by_name.setdefault(name.replace("_", " "), []).append(f"{value:.4g}")
    return [f"  {name}: {' '.join(values)}" for name, values in by_name.items()]


def _located(error: InputError, sections: Mapping[str, Any], system: ResolvedSystem) -> InputError:
    """The error with its place: the field of the configuration, or the scheme that made a table."""
    if error.where in system.scheme_options:
        return error.within(f"config.{system.option_names[0]}")
    for name, section in sections.items():
        if hasattr(section, error.where):
            return error.within(f"config.{name}")
    if error.where in _TABLE:
        return error.within(f"scheme {system.row.scheme}")
    return error
