"""Table 8: IDs of a category's products side by side, their common prefixes marked."""

import collections
from collections.abc import Sequence

import numpy as np

from catid2_jax.docids.table import format_docid
from catid2_jax.errors import InputError
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Marked, Prose, Section, Table
from catid2_jax.reporting.runs import rows_in

_PRODUCTS = 10


def section(comparison: Comparison) -> Section:
    """Products of one category and their IDs by each system that is shown."""
    title = "IDs of one category (Table 8)"
    main, config = comparison.main, comparison.config
    if not comparison.shown:
        return Section(title, [Prose("No system here has document IDs of its own.")])
    category, members = _members(main.catalog.paths, config.category)
    rows = members
    if len(members) > _PRODUCTS:
        rows = np.sort(np.random.default_rng(config.seed).choice(members, _PRODUCTS, False))
    ids = [main.catalog.ids[row] for row in rows]
    found = [(label, run.table.codes, rows_in(run, ids)) for label, run in comparison.shown]
    shown = [(label, codes[places]) for label, codes, places in found if places is not None]
    if not shown:
        return Section(title, [Prose("The systems that are shown lack some of these products.")])
    # Products of like IDs stand together, by the first system.
    order = np.lexsort(shown[0][1].T[::-1])
    marked = [mark_prefixes(codes) for _, codes in shown]
    cells = [(main.catalog.titles[rows[n]], *(texts[n] for texts in marked)) for n in order]
    about = (
        f"{len(rows)} of the {len(members):,} products of {' > '.join(category)}, drawn with seed "
        f"{config.seed}. What an ID shares with another one of this table is marked."
    )
    columns = ("title", *(label for label, _ in shown))
    texts = tuple(range(1, len(columns)))
    return Section(title, [Prose(about), Table("Document IDs", columns, cells, texts)])


def _members(paths: Sequence[tuple[str, ...]], wanted: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The category that is asked for, or the path of most products; and the rows beneath it."""
    if wanted:
        category = tuple(name.strip() for name in wanted.split(">"))
    else:
        category = collections.Counter(paths).most_common(1)[0][0]
    rows = [row for row, path in enumerate(paths) if path[: len(category)] == category]
    if not rows:
        raise InputError("category", repr(wanted), "a category of the catalogue")
    return category, np.array(rows)


def mark_prefixes(codes: np.ndarray) -> list[Marked]:
    """Texts of IDs [n, L], each with the longest prefix marked that another of them has."""
    equal = codes[:, None] == codes[None]
    shared = np.cumprod(equal, axis=2).sum(axis=2)
    np.fill_diagonal(shared, 0)
    lengths = shared.max(axis=1, initial=0)
    whole = [format_docid(row) for row in codes]
    starts = [format_docid(row[:length]) for row, length in zip(codes, lengths, strict=True)]
    return [Marked(start, text[len(start) :]) for start, text in zip(starts, whole, strict=True)]
