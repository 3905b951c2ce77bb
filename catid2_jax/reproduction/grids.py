"""The paper's Tables 2 to 7 and Figure 5 as rows of `systems.SYSTEMS`."""

import dataclasses
from collections.abc import Iterable, Mapping

from catid2_jax.errors import InputError
from catid2_jax.systems import SYSTEMS

CUTOFFS = (5, 10, 20, 50, 100)

PAPER_HOURS: Mapping[str, str] = {
    "dsi_naive": "28.2",
    "dsi_semantic": "15.7",
    "tiger": "19.9",
    "nci": "32.5",
    "genret": "35.1, on eight",
    "cat_id2": "24.8",
}
"""System -> hours of both stages on an A100 (Table 7)."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of the paper.

    Attributes:
        name: what it is called on the command line, such as "table2".
        title: what it compares.
        systems: its rows, entries of `config.systems`.
        reference: the row that each other is tested against; empty for no tests.
        cutoffs: values of k of its Recall@k; none where it is about time alone.
        tested: those cutoffs whose differences are tested.
    """

    name: str
    title: str
    systems: tuple[str, ...]
    reference: str = ""
    cutoffs: tuple[int, ...] = CUTOFFS
    tested: tuple[int, ...] = (10, 100)


def _table_2() -> tuple[str, ...]:
    """The systems that the paper has figures of for every cutoff, and two that it leaves out."""
    paper = [
        name
        for name, row in SYSTEMS.items()
        if not name.startswith("table") and set(CUTOFFS) <= set(row.paper.get("us", {}))
    ]
    return (*paper, "nearest_query", "fused")


def _rows(prefix: str) -> tuple[str, ...]:
    return tuple(name for name in SYSTEMS if name.startswith(f"{prefix}_"))


def grids() -> dict[str, Grid]:
    """The tables by name."""
    timed = tuple(name for name in PAPER_HOURS if name in SYSTEMS)
    found = (
        Grid("table2", "all systems", _table_2(), "cat_id2"),
        Grid("table3", "terms of the loss", _rows("table3"), "table3_cat_id2", (10, 50, 100)),
        Grid("table4", "category text", _rows("table4"), "table4_cat_id2"),
        Grid("table5", "category levels and sampling", _rows("table5"), "table5_3_level"),
        Grid("table6", "length of the IDs", _rows("table6"), "table6_cat_id2_4_layers"),
        Grid("table7", "time and memory", timed, "", (), ()),
        Grid("figure5", "weights, codebooks and depth", _rows("figure5"), "", (10, 100), ()),
    )
    return {grid.name: grid for grid in found}


def find_grid(name: str, systems: Iterable[str] = ()) -> Grid:
    """A table by its name, with other rows if any are given.

    Raises:
        InputError: there is none of that name, or a row is given twice.
    """
    known = grids()
    if name not in known:
        found = repr(name) if name else "no table"
        raise InputError("reproduce", found, f"one of {', '.join(known)}")
    rows = tuple(systems) or known[name].systems
    if len(set(rows)) < len(rows):
        raise InputError("--systems", ",".join(rows), "each system once")
    return dataclasses.replace(known[name], systems=rows)
