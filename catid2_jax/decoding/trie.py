"""The trie of document IDs as arrays: one table in compressed sparse row form per level.

A node of level l is a prefix of l codes; level 0 is the root, and the nodes of level L are the
documents. The IDs [2, 0], [0, 1], [2, 7], [0, 0] make

    level        0            1              2
    codes        [0, 2]       [0, 1, 0, 7]   codes on the edges from level l to l + 1
    offsets      [0, 2]       [0, 2, 4]      the edges of node n are offsets[n]..offsets[n + 1]-1
    documents                                [3, 1, 0, 2]

Edges are sorted, and the index of an edge is the number of the node that it leads to, so no table
of next states is needed: the children of node 1 of level 1 are nodes 2 and 3 of level 2. The tables
have one entry per edge, about N L in all, for any K.

An ID of fewer than L codes is continued by ends: an end is code K, has log-probability 0 and is
followed by ends only. So an ID may end at any node, even at one with children.

Arrays are padded to capacities, and the most children of a node are rounded up to powers of two.
The search is compiled for these sizes, so a catalogue that changes within them needs no new
compilation.
"""

from typing import TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt

from catid2_jax.errors import InputError

NodeMask: TypeAlias = tuple[Bool[Array, "*batch _"], ...]
"""Per level l, whether a node of level l + 1 has an allowed document beneath: [E_l] or [B, E_l]."""


@flax.struct.dataclass
class Trie:
    """The prefixes of a table of document IDs, level by level and sorted within a level.

    E_l, the capacity of level l, is at least the number of edges from level l to l + 1.

    Attributes:
        codes: per level l, [E_l], the code on the edge into each node of level l + 1, in the
            smallest unsigned type that holds every code.
        offsets: per level l, int32 [nodes + 1]; the edges of node n are offsets[n]..offsets[n+1]-1.
            Level 0 has one node, level l has E_{l-1}, of which those in the padding have no edges.
        documents: int32 [E_{L-1}], the row of the table of each leaf; -1 in the padding.
        codebook_size: K.
        max_children: C_l per level l, an upper bound on the number of a node's children.
        has_ends: whether some ID has fewer than L codes.
    """

    codes: tuple[UInt[Array, " _"], ...]
    offsets: tuple[Int[Array, " _"], ...]
    documents: Int[Array, " _"]
    codebook_size: int = flax.struct.field(pytree_node=False)
    max_children: tuple[int, ...] = flax.struct.field(pytree_node=False)
    has_ends: bool = flax.struct.field(pytree_node=False, default=False)

    @property
    def levels(self) -> int:
        """L, the length of the longest ID."""
        return len(self.max_children)

    def children(
        self, level: int, nodes: Int[Array, "*batch"]
    ) -> tuple[Int[Array, "*batch C"], Int[Array, "*batch C"], Bool[Array, "*batch C"]]:
        """Finds the children of nodes of a level, in ascending order of their codes.

        Args:
            level: the nodes' level, 0..L-1.
            nodes: the nodes' numbers.

        Returns:
            (number in level + 1, code on the edge, valid), the first two int32. `valid` is false
            where a node has fewer than C_l children; the number there is 0 and the code arbitrary.
        """
        offsets, codes = self.offsets[level], self.codes[level]
        slots = jnp.arange(self.max_children[level], dtype=jnp.int32)
        slots = slots.reshape((1,) * nodes.ndim + slots.shape)
        numbers = offsets[nodes][..., None] + slots
        valid = numbers < offsets[nodes + 1][..., None]
        numbers = jnp.where(valid, numbers, 0)
        return numbers, codes[numbers].astype(jnp.int32), valid

    def leaf_starts(self, level: int) -> np.ndarray:
        """Finds the leaves beneath each node of a level, which are consecutive.

        Args:
            level: the nodes' level, 0..L.

        Returns:
            int32 [nodes + 1]; beneath node n are the leaves starts[n]..starts[n + 1]-1, whose rows
            of the table are in `documents`.
        """
        nodes = 1 if level == 0 else len(self.codes[level - 1])
        starts = np.arange(nodes + 1, dtype=np.int32)
        for offsets in self.offsets[level:]:
            starts = np.asarray(offsets)[starts]
        # At level L the nodes in the padding have no leaf either.
        return np.minimum(starts, self.offsets[-1][-1])

    def mask(self, allowed: np.ndarray) -> NodeMask:
        """Marks the nodes that lead to allowed documents, for a search among those only.

        It takes O(N) work and about as many booleans as there are edges, per row of `allowed`.

        Args:
            allowed: booleans for all queries [N] or per query [B, N], one per row of the table.

        Returns:
            The mask for `beam_search` or `search_prefixes`.

        Raises:
            InputError: `allowed` is not one boolean per document of the trie.
        """
        documents = int((np.asarray(self.documents) >= 0).sum())
        if allowed.dtype != bool or allowed.ndim not in (1, 2) or allowed.shape[-1] != documents:
            raise InputError(
                "allowed",
                f"{allowed.dtype} of shape {allowed.shape}",
                f"a boolean for each of the trie's {documents} documents",
            )
        # The leaves in the padding have row -1, the last one here, which is not allowed.
        surplus = len(self.documents) - documents
        padded = np.pad(allowed, (*[(0, 0)] * (allowed.ndim - 1), (0, surplus)))
        return _node_mask(self, jnp.asarray(padded))


@jax.jit
def _node_mask(trie: Trie, allowed: Bool[Array, "*batch _"]) -> NodeMask:
    """Marks, from the leaves up, the nodes of which an edge leads to something allowed."""
    masks = [allowed[..., trie.documents]]
    for offsets in reversed(trie.offsets[1:]):
        counts = jnp.cumsum(masks[0], axis=-1, dtype=jnp.int32)
        before = jnp.concatenate([jnp.zeros_like(counts[..., :1]), counts], axis=-1)[..., offsets]
        masks.insert(0, before[..., 1:] > before[..., :-1])
    return tuple(masks)


def build_trie(codes: np.ndarray, codebook_size: int) -> Trie:
    """Builds the trie of a table of document IDs.

    Args:
        codes: integers [N, L]; row n is the ID of document n, with -1 after its last code where it
            has fewer than L. Rows may be in any order.
        codebook_size: K.

    Returns:
        The trie; `documents` maps its leaves to rows of `codes`.

    Raises:
        InputError: there is no row or no level, a code is outside 0..K-1, codes follow an ID's end,
            an ID has no code, or two rows have the same codes.
    """
    has_ends = _check_codes(codes, codebook_size)
    end = codebook_size
    if has_ends:
        codes = np.where(codes < 0, end, codes)
    levels = codes.shape[1]
    order = _lexicographic_order(codes, end + has_ends)
    ordered = codes[order]
    # A row starts a node of level l + 1 if one of its codes 0..l differs from the row above.
    differs = np.ones(codes.shape, bool)
    differs[1:] = np.logical_or.accumulate(ordered[1:] != ordered[:-1], axis=1)
    _check_unique(differs, order, codes, end)

    code_type = np.min_scalar_type(codebook_size - 1 + has_ends)
    edge_codes, offsets, max_children = [], [], []
    parent_starts = np.zeros(len(codes), bool)
    parent_starts[0] = True
    node_capacity = 1
    for level in range(levels):
        edges = np.flatnonzero(differs[:, level])
        # A node's first edge is the one whose row starts that node.
        first = np.flatnonzero(parent_starts[edges])
        branch = int(np.diff(first, append=len(edges)).max())
        capacity = _capacity(len(edges))
        edge_codes.append(_padded(ordered[edges, level].astype(code_type), capacity, 0))
        offsets.append(_padded(first.astype(np.int32), node_capacity + 1, len(edges)))
        max_children.append(min(1 << (branch - 1).bit_length(), codebook_size + has_ends))
        parent_starts, node_capacity = differs[:, level], capacity
    return Trie(
        codes=tuple(map(jnp.asarray, edge_codes)),
        offsets=tuple(map(jnp.asarray, offsets)),
        documents=jnp.asarray(_padded(order.astype(np.int32), node_capacity, -1)),
        codebook_size=codebook_size,
        max_children=tuple(max_children),
        has_ends=has_ends,
    )


def _lexicographic_order(codes: np.ndarray, symbols: int) -> np.ndarray:
    """Sorts rows by their codes, which are below `symbols`; equal rows are in any order."""
    bits = (symbols - 1).bit_length()
    if codes.shape[1] * bits > 64:
        return np.lexsort(codes.T[::-1])  # lexsort's last key is the first to sort by
    # Sorting one number per row is several times faster than sorting once per level.
    key_type = np.min_scalar_type((1 << codes.shape[1] * bits) - 1).type
    keys = np.zeros(len(codes), key_type)
    for column in codes.T:
        keys <<= key_type(bits)
        keys |= column.astype(key_type)
    return np.argsort(keys)


def _capacity(count: int) -> int:
    """Rounds `count` up by at most an eighth, or to 128; beyond it the search is compiled anew."""
    step = 1 << max(count.bit_length() - 4, 7)
    return -(-count // step) * step


def _padded(array: np.ndarray, length: int, value: int) -> np.ndarray:
    """Pads the end of an array [n] with `value`."""
    return np.pad(array, (0, length - len(array)), constant_values=value)


def _check_codes(codes: np.ndarray, codebook_size: int) -> bool:
    """Returns whether an ID ends before L; raises InputError unless `codes` is a table of IDs."""
    if codes.ndim != 2 or codes.size == 0:
        raise InputError("codes", f"shape {codes.shape}", "at least one row and one level")
    if codes.min() < -1 or codes.max() >= codebook_size:
        row, level = np.argwhere((codes < -1) | (codes >= codebook_size))[0]
        raise InputError(
            "codes",
            f"code {codes[row, level]} in row {row}, level {level}",
            f"0 to {codebook_size - 1}, or -1 after the end of a shorter ID",
        )
    if codes.min() >= 0:
        return False
    ends = codes < 0
    wrong = np.flatnonzero(ends[:, 0] | (ends[:, :-1] & ~ends[:, 1:]).any(axis=1))
    if len(wrong):
        raise InputError(
            "codes",
            f"{codes[wrong[0]].tolist()} in row {wrong[0]}",
            "at least one code, and -1 only after the last",
        )
    return True


def _check_unique(differs: np.ndarray, order: np.ndarray, codes: np.ndarray, end: int) -> None:
    """Raises InputError if a sorted row equals the one above."""
    repeated = np.flatnonzero(~differs[:, -1])
    if len(repeated):
        first, second = sorted(order[repeated[0] - 1 : repeated[0] + 1].tolist())
        found = [code for code in codes[first].tolist() if code != end]
        raise InputError(
            "codes", f"{found} in row {first} and in row {second}", "one document per ID"
        )
