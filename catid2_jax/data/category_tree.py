"""Category paths as integers: one node per path prefix."""

from collections.abc import Iterable, Sequence

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.types import CategoryIdentity

NO_CATEGORY = -1
"""Node number at the levels below the end of a category path."""


def category_ids(
    paths: Iterable[Sequence[str]], depth: int, identity: CategoryIdentity = "path"
) -> np.ndarray:
    """Numbers the nodes of the category tree, level by level.

    A node is a whole path prefix, so that the same name under two parents makes two nodes. Each
    level numbers its nodes from 0, in order of first appearance.

    Args:
        paths: N category paths, root first; names beyond `depth` are ignored.
        depth: number of levels H, at least 1.
        identity: "path" for the nodes described here; "name" makes one node of all categories
            with the same name at the same level.

    Returns:
        int32 [N, H], node numbers; NO_CATEGORY where the path is shorter.

    Raises:
        InputError: `depth` is below 1.
    """
    if depth < 1:
        raise InputError("depth", depth, "at least 1")
    nodes: list[dict[tuple[int, str], int]] = [{} for _ in range(depth)]
    rows = []
    for path in paths:
        row = [NO_CATEGORY] * depth
        parent = 0
        for level, name in enumerate(path[:depth]):
            key = (parent if identity == "path" else 0, name)
            parent = nodes[level].setdefault(key, len(nodes[level]))
            row[level] = parent
        rows.append(row)
    return np.array(rows, dtype=np.int32).reshape(len(rows), depth)


def nodes_per_level(ids: np.ndarray) -> list[int]:
    """Counts the nodes of each level.

    Args:
        ids: int32 [N, H], the node numbers that `category_ids` returns.

    Returns:
        H counts, root level first.
    """
    return [int(count) for count in ids.max(axis=0, initial=NO_CATEGORY) + 1]
