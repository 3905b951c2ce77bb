"""The trie of document IDs as arrays: one compressed sparse row table per level."""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt

from catid2_jax.errors import InputError


@flax.struct.dataclass
class Trie:
    """The prefixes of a table of document IDs, level by level and sorted within a level.

    A node of level l is a prefix of l codes; level 0 is the root. Nodes of level l + 1 are numbered
    in the order of the edges that lead to them, so an edge's position is its child's number, and
    no table of next states is needed. The size is that of the edges: about N L entries.

    Attributes:
        codes: per level l, the code on the edge into each node of level l + 1; the smallest
            unsigned type that holds K - 1.
        offsets: per level l, int32 [nodes + 1]: node n's edges are offsets[n]..offsets[n + 1]-1.
        documents: int32 [N], leaf -> row of the table.
        codes_per_level: K.
        max_children: per level, C_l, the most children of a node.
    """

    codes: tuple[UInt[Array, " _"], ...]
    offsets: tuple[Int[Array, " _"], ...]
    documents: Int[Array, " N"]
    codes_per_level: int = flax.struct.field(pytree_node=False)
    max_children: tuple[int, ...] = flax.struct.field(pytree_node=False)

    @property
    def levels(self) -> int:
        """L."""
        return len(self.max_children)

    def children(
        self, level: int, nodes: Int[Array, "*batch"]
    ) -> tuple[Int[Array, "*batch C"], Int[Array, "*batch C"], Bool[Array, "*batch C"]]:
        """The children of nodes of a level, by rising code.

        Args:
            level: of `nodes`, 0..L-1.
            nodes: their numbers.

        Returns:
            (number in level + 1, code on the edge, valid), the first two int32. Nodes with fewer
            than C_l children have the surplus flagged; its number is 0, its code is of no meaning.
        """
        offsets, codes = self.offsets[level], self.codes[level]
        slots = jnp.arange(self.max_children[level], dtype=jnp.int32)
        slots = slots.reshape((1,) * nodes.ndim + slots.shape)
        numbers = offsets[nodes][..., None] + slots
        valid = numbers < offsets[nodes + 1][..., None]
        numbers = jnp.where(valid, numbers, 0)
        return numbers, codes[numbers].astype(jnp.int32), valid


def build_trie(codes: np.ndarray, codes_per_level: int) -> Trie:
    """Builds the trie of a table of document IDs.

    Args:
        codes: integers [N, L], row n the ID of document n; in any order.
        codes_per_level: K.

    Returns:
        The trie; `documents` maps its leaves to rows of `codes`.

    Raises:
        InputError: no row or no level, a code outside 0..K-1, or two rows with the same codes.
    """
    _check_codes(codes, codes_per_level)
    levels = codes.shape[1]
    order = np.lexsort(codes.T[::-1])  # the last key is the first to sort by
    ordered = codes[order]
    # A row starts a node of level l + 1 where one of its codes 0..l differs from the row above.
    differs = np.ones(codes.shape, bool)
    differs[1:] = np.logical_or.accumulate(ordered[1:] != ordered[:-1], axis=1)
    _check_unique(differs, order, codes)

    starts = [np.zeros(1, np.intp), *(np.flatnonzero(differs[:, level]) for level in range(levels))]
    code_type = np.min_scalar_type(codes_per_level - 1)
    edge_codes, offsets = [], []
    for level in range(levels):
        parents, edges = starts[level], starts[level + 1]
        edge_codes.append(ordered[edges, level].astype(code_type))
        offsets.append(np.append(np.searchsorted(edges, parents), len(edges)).astype(np.int32))
    return Trie(
        codes=tuple(map(jnp.asarray, edge_codes)),
        offsets=tuple(map(jnp.asarray, offsets)),
        documents=jnp.asarray(order, jnp.int32),
        codes_per_level=codes_per_level,
        max_children=tuple(int(np.diff(offset).max()) for offset in offsets),
    )


def _check_codes(codes: np.ndarray, codes_per_level: int) -> None:
    """Raises InputError unless `codes` is a table of codes in 0..K-1."""
    if codes.ndim != 2 or codes.size == 0:
        raise InputError(
            f"document IDs: found a table of shape {codes.shape}, expected at least one row and "
            "one level"
        )
    wrong = np.argwhere((codes < 0) | (codes >= codes_per_level))
    if len(wrong):
        row, level = wrong[0]
        raise InputError(
            f"document IDs: found code {codes[row, level]} in row {row}, level {level}, expected "
            f"0 to {codes_per_level - 1}"
        )


def _check_unique(differs: np.ndarray, order: np.ndarray, codes: np.ndarray) -> None:
    """Raises InputError where a sorted row differs from the one above in no code."""
    repeated = np.flatnonzero(~differs[:, -1])
    if len(repeated):
        first, second = sorted(order[repeated[0] - 1 : repeated[0] + 1].tolist())
        raise InputError(
            f"document IDs: found codes {codes[first].tolist()} in row {first} and in row "
            f"{second}, expected one document per ID"
        )
