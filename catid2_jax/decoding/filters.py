"""Which documents a request may find: rows of the table by product id or by category.

Both functions give booleans for `Trie.mask`. A deny-list is the complement, `~of_ids(...)`;
conditions are combined with `&` and `|`.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from catid2_jax.errors import InputError

_NAMED = 10  # unknown names in a message


def of_ids(ids: Sequence[str], wanted: Iterable[str]) -> np.ndarray:
    """Booleans [N], True for the documents whose id is among `wanted`.

    Args:
        ids: of the N documents, in the table's order.
        wanted: some of them.

    Raises:
        InputError: `wanted` has ids that no document has.
    """
    wanted = set(wanted)
    _check_known(wanted - set(ids), "ids", "ids of the catalogue")
    return np.fromiter((name in wanted for name in ids), bool, len(ids))


def of_categories(paths: Sequence[Sequence[str]], wanted: Iterable[Sequence[str]]) -> np.ndarray:
    """Booleans [N], True for the documents in one of the categories or below it.

    Args:
        paths: category path of the N documents, root first, in the table's order.
        wanted: path prefixes; `["Garden", "Tools"]` is not the Tools of another branch.

    Raises:
        InputError: `wanted` has paths beneath which there is no document.
    """
    prefixes = {tuple(path) for path in wanted}
    lengths = sorted({len(prefix) for prefix in prefixes})
    inside = np.zeros(len(paths), bool)
    seen: set[tuple[str, ...]] = set()
    for row, path in enumerate(paths):
        own = {tuple(path[:length]) for length in lengths} & prefixes
        inside[row] = bool(own)
        seen |= own
    unknown = {" > ".join(path) for path in prefixes - seen}
    _check_known(unknown, "categories", "categories of the catalogue")
    return inside


def _check_known(unknown: set[str], found: str, expected: str) -> None:
    """Raises InputError naming the unknown, the first few of them if they are many."""
    if unknown:
        named = ", ".join(map(repr, sorted(unknown)[:_NAMED]))
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise InputError(f"filter: found unknown {found} {named}{more}, expected {expected}")
