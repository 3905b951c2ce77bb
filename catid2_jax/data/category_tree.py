"""Category paths as integers: one node per path prefix."""

from collections.abc import Iterable, Sequence

import numpy as np

from catid2_jax.errors import InputError
from catid2_jax.types import CategoryIdentity

NO_CATEGORY = -1
"""Stands where a path is shorter than the level."""


def category_ids(
    paths: Iterable[Sequence[str]], depth: int, identity: CategoryIdentity = "path"
) -> np.ndarray:
    """Numbers the nodes of the category tree, level by level.

    A node is the whole path prefix: the same name under two parents is two nodes. Nodes are
    numbered per level from 0, in order of first appearance.

    Args:
        paths: N category paths, root first; names beyond `depth` are not used.
        depth: number of levels H, at least 1.
        identity: "name" makes one node of all that have a name and a level in common instead.

    Returns:
        int32 [N, H]; NO_CATEGORY where the path is shorter.

    Raises:
        InputError: `depth` is below 1.
    """
    if depth < 1:
        raise InputError(f"found category depth {depth}, expected at least 1")
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
        ids: int32 [N, H] as `category_ids` gives them.

    Returns:
        H counts, root level first.
    """
    return [int(count) for count in ids.max(axis=0, initial=NO_CATEGORY) + 1]
