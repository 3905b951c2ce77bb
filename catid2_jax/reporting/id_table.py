"""Table 8: IDs of a category's products side by side, their common prefixes marked."""

import collections
from collections.abc import Sequence

import numpy as np

from catid2_jax.docids.table import format_docid
from catid2_jax.errors import InputError
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Marked, Prose, Section, Table

_PRODUCTS = 10


def section(comparison: Comparison) -> Section:
    """Products of one category and their IDs by each system that is shown."""
    title = "IDs of one category (Table 8)"
    main, config = comparison.main, comparison.config
    shown = [(label, run) for label, run in comparison.shown if run in main.systems]
    if not shown:
        return Section(title, [Prose("No system here has document IDs of its own.")])
    category, members = _members(main.catalog.paths, config.category)
    rows = members
    if len(members) > _PRODUCTS:
        rows = np.sort(np.random.default_rng(config.seed).choice(members, _PRODUCTS, False))
    marked = [mark_prefixes(run.table.codes[rows]) for _, run in shown]
    titles = [main.catalog.titles[row] for row in rows]
    # Products of like IDs stand together, by the first system.
    order = np.lexsort(shown[0][1].table.codes[rows].T[::-1])
    cells = [(titles[n], *(ids[n] for ids in marked)) for n in order]
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
    equal &= codes[:, None] >= 0
    shared = np.cumprod(equal, axis=2).sum(axis=2)
    np.fill_diagonal(shared, 0)
    lengths = shared.max(axis=1, initial=0)
    whole = [format_docid(row) for row in codes]
    starts = [format_docid(row[:length]) for row, length in zip(codes, lengths, strict=True)]
    return [Marked(start, text[len(start) :]) for start, text in zip(starts, whole, strict=True)]
