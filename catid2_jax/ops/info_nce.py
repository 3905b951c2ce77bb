"""Computes InfoNCE over a whole batch block by block, so that nothing of size [B, B] is kept.

Anchors are taken in blocks, which the devices of the mesh share. What a backward pass needs of the
[B, B] logits is either computed in the forward pass, where it is of size [B, D], or computed again
block by block. Vectors are unit rows, so that logits are their dot products over the temperature;
products run in the vectors' own type and accumulate in float32.

Masks are arithmetic on float32 (see `_equal`): on CPUs XLA vectorises a reduction over products,
and not one over selects.
"""

import functools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.ops.mesh import (
    data_devices,
    map_row_blocks,
    on_every_device,
    replicate,
    replicate_together,
)

# Rows of a block on CPUs and on accelerators, which are fastest with few, large kernels. For
# instances, a block of anchors meets all candidates, in products that should be large. For classes,
# it meets blocks of negatives and, of its own size, blocks of positives: their logits should stay
# in a CPU's cache, and few of them should lie outside the group.
_INSTANCE_BLOCK = (512, 2048)
_CLASS_BLOCK, _NEGATIVE_BLOCK = (32, 4096), (64, 4096)
_CLASS_BLOCK_OF_ONE_GROUP, _NEGATIVE_BLOCK_OF_ONE_GROUP = (256, 4096), (2048, 16384)
_FAR = 1e9  # beyond any logit


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def instance_info_nce(
    anchors: Float[Array, "B D"], candidates: Float[Array, "B D"], temperature: float
) -> Float[Array, " B"]:
    """Computes -log softmax_j(a_i c_j / temperature) at j = i (van den Oord et al., 2018).

    Args:
        anchors: unit rows a_i.
        candidates: unit rows c_j; the positive of anchor i is candidate i.
        temperature: more than 0.

    Returns:
        The loss of each anchor, in nats.
    """
    return _instance_forward(anchors, candidates, temperature)[0]


def _instance_forward(
    anchors: jax.Array, candidates: jax.Array, temperature: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Computes the losses and, from the same logits, each anchor's gradient of its own loss."""

    def block(rows: Any, candidates: jax.Array) -> tuple[jax.Array, ...]:
        anchors, positives = rows
        logits = _logits(anchors, candidates, temperature)
        one_top = _one_top(temperature)
        top = 1.0 / temperature if one_top else jnp.max(logits, axis=1, keepdims=True)
        weights = jnp.exp(logits - top)
        total = jnp.sum(weights, axis=1, keepdims=True)
        expected = _weighted_sum(weights, candidates) / total
        normalizers = (top + jnp.log(total))[:, 0]
        own = jnp.sum(anchors.astype(_wide(anchors)) * positives, axis=1) / temperature
        return normalizers - own, (expected - positives) / temperature, normalizers

    losses, gradients, normalizers = map_row_blocks(
        block, (anchors, candidates), replicate(candidates), _here(_INSTANCE_BLOCK)
    )
    return losses, (gradients, normalizers, anchors, candidates)


def _instance_backward(
    temperature: float, saved: tuple[jax.Array, ...], cotangents: jax.Array
) -> tuple[jax.Array, jax.Array]:
    gradients, normalizers, anchors, candidates = saved

    def block(rows: Any, columns: Any) -> jax.Array:
        candidates, positives, own_cotangents = rows
        anchors, normalizers, cotangents = columns
        logits = _logits(candidates, anchors, temperature)
        weights = jnp.exp(logits - normalizers[None, :]) * cotangents[None, :]
        pulled = _weighted_sum(weights, anchors)
        return (pulled - own_cotangents[:, None] * positives) / temperature

    # Compiled away if nothing asks for the candidates' gradient, as in Eq. 7.
    to_candidates = map_row_blocks(
        block,
        (candidates, anchors, cotangents),
        (anchors, normalizers, cotangents),
        _here(_INSTANCE_BLOCK),
    )
    to_anchors = cotangents[:, None] * gradients
    return to_anchors.astype(anchors.dtype), to_candidates.astype(candidates.dtype)


instance_info_nce.defvjp(_instance_forward, _instance_backward)


def class_info_nce(
    vectors: Float[Array, "B Z"],
    classes: Int[Array, " B"],
    groups: Int[Array, " B"] | None,
    temperature: float,
    key: jax.Array | None = None,
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """Computes InfoNCE between the members of a class; the rest of its group are the negatives.

    Positives of an anchor are the others of its group and class, negatives those of its group with
    another class. A positive's denominator holds itself and the negatives; several positives
    are averaged outside the logarithm ("out" of Khosla et al., 2020). With N the log-sum-exp of the
    negatives, -log(exp(s) / (exp(s) + exp(N))) = softplus(N - s).

    Rows are sorted by group and class, so that a block of anchors meets only the candidates of its
    own groups: pairs that are neither positive nor negative cost nothing.

    Args:
        vectors: unit rows.
        classes: the class of each row; a row with -1 is in no pair.
        groups: the group of each row; None puts all rows into one.
        temperature: more than 0.
        key: if given, one positive per anchor is drawn instead of the mean over all of them.

    Returns:
        (losses in nats, which rows are anchors): a row without a positive or without a negative is
        no anchor, and its loss is 0.
    """
    count, devices = len(classes), data_devices()
    if groups is None:
        block, wide = _here(_CLASS_BLOCK_OF_ONE_GROUP), _here(_NEGATIVE_BLOCK_OF_ONE_GROUP)
    else:
        block, wide = _here(_CLASS_BLOCK), _here(_NEGATIVE_BLOCK)
    block = min(block, -(-count // devices))
    padding = -count % (devices * block)
    wide = block * math.gcd((count + padding) // block, max(wide // block, 1))
    classes = jnp.pad(classes, (0, padding), constant_values=-1)
    groups = jnp.zeros_like(classes) if groups is None else jnp.pad(groups, (0, padding))
    # Dividing the sort would take many messages between the devices.
    order, layout = on_every_device(_layout, classes, groups, key)
    ordered = replicate(jnp.pad(replicate(vectors), ((0, padding), (0, 0)))[order])
    losses, anchors = _sorted_class_info_nce(ordered, layout, temperature, block, wide)
    losses = jnp.zeros_like(losses).at[order].set(losses, unique_indices=True)
    anchors = jnp.zeros_like(anchors).at[order].set(anchors, unique_indices=True)
    return losses[:count], anchors[:count]


def _here(sizes: tuple[int, int]) -> int:
    """Returns the size for CPUs or the one for accelerators, whichever JAX runs on."""
    return sizes[jax.default_backend() != "cpu"]


@flax.struct.dataclass
class _Layout:
    """Rows sorted by group and class; arrays [B], float32 where masks are computed from them.

    Attributes:
        group: rank of the row's group; a row that is in no pair has a group of its own.
        label: rank of the row's class, over all groups.
        place: the row's index.
        positive: index of the row's one positive; -1 if it has none or all of its class count.
        group_start, group_end: the range of the rows of its group, int32.
        class_start, class_end: the range of the rows of its class, int32.
        drawn: whether each row has only one positive.
    """

    group: Any
    label: Any
    place: Any
    positive: Any
    group_start: Any
    group_end: Any
    class_start: Any
    class_end: Any
    drawn: bool = flax.struct.field(pytree_node=False)


def _negatives(anchors: _Layout, candidates: _Layout) -> jax.Array:
    """Returns 1 where a candidate is a negative of the anchor, [anchors, candidates]."""
    return _equal(anchors.group, candidates.group) - _equal(anchors.label, candidates.label)


def _positives(anchors: _Layout, candidates: _Layout) -> jax.Array:
    """Returns 1 where a candidate is a positive of the anchor, [anchors, candidates]."""
    if anchors.drawn:
        return _equal(anchors.positive, candidates.place)
    return _equal(anchors.label, candidates.label) - _equal(anchors.place, candidates.place)


def _equal(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns 1.0 where two whole numbers are equal, else 0.0, for all pairs."""
    return jnp.maximum(1.0 - jnp.abs(rows[:, None] - columns[None, :]), 0.0)


def _layout(
    classes: jax.Array, groups: jax.Array, key: jax.Array | None
) -> tuple[jax.Array, _Layout]:
    """Returns the order that sorts the rows, and where groups and classes lie in it."""
    count = len(classes)
    absent = classes < 0
    order = jnp.lexsort((classes, groups, absent))
    absent, classes, groups = absent[order], classes[order], groups[order]

    def starts(values: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]]) | absent

    new_group = starts(groups)
    group = jnp.cumsum(new_group)
    label = jnp.cumsum(new_group | starts(classes))
    group_start, group_end = _bounds(group)
    class_start, class_end = _bounds(label)
    place = jnp.arange(count)
    positive = jnp.full(count, -1)
    if key is not None:
        others = jnp.maximum(class_end - class_start - 1, 1)
        step = 1 + jax.random.randint(key, (count,), 0, others)
        drawn = class_start + (place - class_start + step) % (others + 1)
        positive = jnp.where(class_end - class_start > 1, drawn, -1)
    return order, _Layout(
        group=group.astype(jnp.float32),
        label=label.astype(jnp.float32),
        place=place.astype(jnp.float32),
        positive=positive.astype(jnp.float32),
        group_start=group_start,
        group_end=group_end,
        class_start=class_start,
        class_end=class_end,
        drawn=key is not None,
    )


def _bounds(ranks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the start and the end of each row's run of equal ranks."""
    return jnp.searchsorted(ranks, ranks), jnp.searchsorted(ranks, ranks, side="right")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _sorted_class_info_nce(
    vectors: jax.Array, layout: _Layout, temperature: float, block_size: int, wide: int
) -> tuple[jax.Array, jax.Array]:
    """Computes losses of sorted rows; blocks of negatives have `wide` rows, others `block_size`."""
    return _class_forward(vectors, layout, temperature, block_size, wide)[0]


def _class_forward(
    vectors: jax.Array, layout: _Layout, temperature: float, block_size: int, wide: int
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
    """Sweeps, per block of anchors, over its groups for N and over its classes for the losses."""

    def block(rows: Any, columns: Any) -> tuple[jax.Array, ...]:
        anchors, own = rows

        def find_top(top: jax.Array, mask: Any, candidates: jax.Array, _: Any) -> jax.Array:
            logits = _logits(anchors, candidates, temperature)
            return jnp.maximum(top, jnp.max(logits - _FAR * (1.0 - mask), axis=1))

        def add_negatives(total: jax.Array, mask: Any, candidates: jax.Array, _: Any) -> jax.Array:
            logits = _logits(anchors, candidates, temperature)
            weights = jnp.exp(jnp.minimum(logits - top[:, None], 0.0))
            return total + jnp.sum(weights * mask, axis=1)

        def add_positives(carry: Any, mask: Any, candidates: jax.Array, _: Any) -> Any:
            count, loss, slope = carry
            mask = mask[0]
            gap = negative_mass[:, None] - _logits(anchors, candidates, temperature)
            small = jnp.exp(-jnp.abs(gap))
            softplus = jnp.maximum(gap, 0.0) + jnp.log1p(small)
            return (
                count + jnp.sum(mask, axis=1),
                loss + jnp.sum(mask * softplus, axis=1),
                slope + jnp.sum(mask * _sigmoid(gap), axis=1),
            )

        zero = jnp.zeros(len(anchors), _wide(anchors))
        if _one_top(temperature):
            top = zero + 1.0 / temperature
        else:
            top = _sweep_negatives(find_top, zero - _FAR, own, columns, wide)
        total = _sweep_negatives(add_negatives, zero, own, columns, wide)
        has_negative = total > 0
        negative_mass = jnp.where(has_negative, top + jnp.log(jnp.where(has_negative, total, 1)), 0)
        count, loss, slope = _sweep_positives(add_positives, (zero, zero, zero), own, columns)
        is_anchor = has_negative & (count > 0)
        share = is_anchor / jnp.maximum(count, 1.0)
        return loss * share, is_anchor, negative_mass, slope, share

    rows = (vectors, layout)
    found = map_row_blocks(block, rows, (vectors, layout, ()), block_size)
    losses, is_anchor, *statistics = replicate_together(found)
    return (losses, is_anchor > 0), (vectors, layout, *statistics)


def _class_backward(
    temperature: float,
    block_size: int,
    wide: int,
    saved: tuple[Any, ...],
    cotangents: tuple[jax.Array, Any],
) -> tuple[jax.Array, None]:
    """Computes each row's gradient as an anchor and as a candidate: the logits are symmetric."""
    vectors, layout, negative_mass, slope, share = saved
    # The derivative of anchor i's loss by its logits: -weight_i sigmoid(N_i - s_ip) for a positive
    # p, pull_i exp(s_in - N_i) for a negative n.
    weight = cotangents[0] * share
    pull = weight * slope

    def block(rows: Any, columns: Any) -> jax.Array:
        anchors, own, mass, weight, pull = (
            rows[0],
            rows[1],
            *(a[:, None] for a in rows[2:]),
        )

        def from_negatives(
            carry: jax.Array, mask: Any, candidates: jax.Array, statistics: Any
        ) -> jax.Array:
            their_mass, _, their_pull = (a[None, :] for a in statistics)
            logits = _logits(anchors, candidates, temperature)
            if _one_top(temperature):
                top = 1.0 / temperature
                both = pull * jnp.exp(top - mass) + their_pull * jnp.exp(top - their_mass)
                weights = both * jnp.exp(logits - top)
            else:
                mine = pull * jnp.exp(jnp.minimum(logits - mass, 0.0))
                weights = mine + their_pull * jnp.exp(jnp.minimum(logits - their_mass, 0.0))
            return carry + _weighted_sum(weights * mask, candidates)

        def from_positives(
            carry: jax.Array, mask: Any, candidates: jax.Array, statistics: Any
        ) -> jax.Array:
            their_mass, their_weight, _ = (a[None, :] for a in statistics)
            mask, their_mask = mask
            logits = _logits(anchors, candidates, temperature)
            mine = weight * mask * _sigmoid(mass - logits)
            others = their_weight * their_mask * _sigmoid(their_mass - logits)
            return carry - _weighted_sum(mine + others, candidates)

        zero = jnp.zeros(anchors.shape, _wide(anchors))
        gradient = _sweep_negatives(from_negatives, zero, own, columns, wide)
        return _sweep_positives(from_positives, gradient, own, columns)

    statistics = (negative_mass, weight, pull)
    gradients = map_row_blocks(
        block, (vectors, layout, *statistics), (vectors, layout, statistics), block_size
    )
    return (gradients / temperature).astype(vectors.dtype), None


_sorted_class_info_nce.defvjp(_class_forward, _class_backward)


def _one_top(temperature: float) -> bool:
    """Returns whether exp(logit - 1 / temperature) never underflows: then no maximum is needed.

    Unit rows have logits from -1 / temperature to 1 / temperature, and float32 reaches exp(-87).
    """
    return 2.0 / temperature < 80.0


def _sweep_negatives(function: Any, carry: Any, own: _Layout, columns: Any, block: int) -> Any:
    """Folds `function(carry, mask, vectors, rest)` over the blocks of columns with negatives."""

    def one(carry: Any, candidates: jax.Array, theirs: _Layout, rest: Any) -> Any:
        first, last = theirs.place[0], theirs.place[-1]
        same_group = (jnp.max(own.group_start) <= first) & (last < jnp.min(own.group_end))
        other_class = (last < jnp.min(own.class_start)) | (jnp.max(own.class_end) <= first)
        return jax.lax.cond(
            same_group & other_class,
            lambda: function(carry, 1.0, candidates, rest),  # most blocks, at half the work
            lambda: function(carry, _negatives(own, theirs), candidates, rest),
        )

    return _sweep(one, carry, columns, own.group_start, own.group_end, block)


def _sweep_positives(function: Any, carry: Any, own: _Layout, columns: Any) -> Any:
    """Folds `function(carry, masks, vectors, rest)` over the blocks of columns with positives.

    The masks are of candidates that are the anchors' positives, and of anchors that are theirs.
    """

    def one(carry: Any, candidates: jax.Array, theirs: _Layout, rest: Any) -> Any:
        mine = _positives(own, theirs)
        others = _positives(theirs, own).T if own.drawn else mine
        return function(carry, (mine, others), candidates, rest)

    return _sweep(one, carry, columns, own.class_start, own.class_end, len(own.place))


def _sweep(
    function: Any, carry: Any, columns: Any, start: jax.Array, end: jax.Array, block: int
) -> Any:
    """Folds `function(carry, *columns)` over the blocks of columns that hold start..end-1."""

    def one(i: jax.Array, carry: Any) -> Any:
        part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * block, block), columns)
        return function(carry, *part)

    return jax.lax.fori_loop(jnp.min(start) // block, (jnp.max(end) - 1) // block + 1, one, carry)


def _logits(rows: jax.Array, columns: jax.Array, temperature: float) -> jax.Array:
    """Returns the dot products of all pairs over the temperature, [rows, columns]."""
    return jnp.matmul(rows, columns.T, preferred_element_type=_wide(rows)) / temperature


def _weighted_sum(weights: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns `weights` [rows, columns] @ `vectors` [columns, D]."""
    narrow = weights.astype(vectors.dtype)
    return jnp.matmul(narrow, vectors, preferred_element_type=_wide(vectors))


def _wide(array: jax.Array) -> jnp.dtype:
    """Returns the type in which products of the array accumulate: float32 or wider."""
    return jnp.promote_types(array.dtype, jnp.float32)


def _sigmoid(x: jax.Array) -> jax.Array:
    """Computes the logistic function in a form whose exponential cannot overflow."""
    return 1.0 / (1.0 + jnp.exp(jnp.minimum(-x, 80.0)))
