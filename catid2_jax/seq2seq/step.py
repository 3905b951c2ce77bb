"""Stage 2: the pairs, and one step of Eq. 9."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool

from catid2_jax.docids.vocabulary import PAD
from catid2_jax.errors import InputError
from catid2_jax.losses import sequence_loss
from catid2_jax.models.t5.network import Transformer
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.types import Scalar


@flax.struct.dataclass
class Seq2SeqData:
    """Pairs of a source and a document; on the host or on devices.

    Attributes:
        sources: token ids of the distinct texts (queries, titles), int [Q, S], 0 where padded; or
            vectors of queries and documents, float [Q, D].
        targets: vocabulary ids of every document's ID tokens, int [N, L].
        source: row of `sources`, per pair, int [P].
        document: row of `targets`, per pair, int [P].
        weight: of the pair in the loss, float [P].
        packed_tokens: see `Seq2SeqBatch`.
    """

    sources: Any
    targets: Any
    source: Any
    document: Any
    weight: Any
    packed_tokens: int = flax.struct.field(pytree_node=False, default=0)

    def batch(self, indices: Any) -> "Seq2SeqBatch":
        """The pairs of `indices`."""
        return Seq2SeqBatch(
            self.sources[self.source[indices]],
            self.targets[self.document[indices]],
            self.weight[indices],
            self.packed_tokens,
        )


@flax.struct.dataclass
class Seq2SeqBatch:
    """Pairs as the network sees them.

    Attributes:
        sources: token ids, int [B, S], 0 where padded; or vectors, float [B, D].
        targets: vocabulary ids of the documents' ID tokens, int [B, L].
        weight: of the pair in the loss, float [B].
        packed_tokens: the most tokens without padding that a device has of a batch, or of a microbatch,
            from `count_packed_tokens`; 0: padding is encoded, too.
    """

    sources: Any
    targets: Any
    weight: Any
    packed_tokens: int = flax.struct.field(pytree_node=False, default=0)


@dataclasses.dataclass(frozen=True)
class Seq2SeqObjective:
    """What is minimised: Eq. 9, and what is usual beside it.

    Attributes:
        source_dropout: share of source tokens (memory tokens, of vectors) hidden from the encoder,
            drawn anew each step: a title with words missing is much like a query.
        position_weights: of each of an ID's codes in the loss; empty for 1 each.
        label_smoothing: share of the target's probability that all tokens get in equal parts.
        z_loss: weight of the squared log-normalizer of each position.
        microbatches: parts that a batch is worked through in, one after the other, which take as
            much less memory; loss and gradient are the whole batch's.
    """

    source_dropout: float = 0.0
    position_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    microbatches: int = 1

    def __post_init__(self) -> None:
        for name in ("source_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}: expected at least 0 and less than 1"
                )
        if self.z_loss < 0:
            raise InputError(f"z_loss is {self.z_loss}: expected at least 0")
        weights = self.position_weights
        if weights and (min(weights) < 0 or not any(weights)):
            raise InputError(
                f"position_weights is {weights}: expected none below 0 and one above it"
            )
        if self.microbatches < 1:
            raise InputError(f"microbatches is {self.microbatches}: expected at least 1")


def count_packed_tokens(
    data: Seq2SeqData, sampler: EpochSampler, epochs: int, devices: int, microbatches: int = 1
) -> int:
    """The `packed_tokens` that the sources' tokens need, over all batches that training will see.

    0 where packing would save less than a tenth of the encoder's work (vectors have no padding), or
    where the devices' parts of a microbatch would not be alike.

    Args:
        data: the pairs, on the host.
        sampler: of the batches.
        epochs: of the training.
        devices: that share the rows of a batch.
        microbatches: as of `Seq2SeqObjective`.
    """
    rows, rest = divmod(sampler.batch_size, devices * microbatches)
    if rest or np.issubdtype(data.sources.dtype, np.floating):
        return 0
    lengths = np.sum(data.sources != PAD, axis=1)[data.source]
    most, steps = 0, sampler.steps_per_epoch
    for epoch in range(epochs):
        batches = lengths[sampler(epoch * steps, steps)]
        # As `_sum_over_microbatches` splits what a device has.
        parts = batches.reshape(steps, devices, rows, microbatches)
        most = max(most, int(parts.sum(axis=2).max()))
    packed_tokens = -(-most // 16) * 16  # whole tiles of an accelerator, in either type
    return packed_tokens if packed_tokens <= 0.9 * rows * data.sources.shape[1] else 0


def make_seq2seq_step(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    objective: Seq2SeqObjective,
    seed: int,
) -> StepFunction:
    """The step of stage 2 for the training loop, over batches of `Seq2SeqData`.

    Args:
        model: the network.
        optimizer: of its parameters.
        objective: what is minimised.
        seed: of what is hidden and of the network's dropout; each step derives its own key.
    """
    position_weights = jnp.array(objective.position_weights) if objective.position_weights else None

    def loss_function(
        params: dict, batch: Seq2SeqBatch, key: jax.Array, total_weight: Scalar
    ) -> tuple[Scalar, Metrics]:
        """The part of the batch's loss that these pairs are."""
        mask_key, dropout_key = jax.random.split(key)
        mask = model.source_mask(batch.sources)
        mask = hide_tokens(mask, objective.source_dropout, mask_key)
        decoder_input = jnp.pad(batch.targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        logits: Any = model.apply(
            {"params": params},
            batch.sources,
            mask,
            decoder_input,
            deterministic=False,
            packed_tokens=batch.packed_tokens,
            rngs={"dropout": dropout_key},
        )
        share = jnp.sum(batch.weight) / jnp.maximum(total_weight, 1e-9)
        loss = share * sequence_loss(
            logits,
            batch.targets,
            batch.weight,
            position_weights,
            objective.label_smoothing,
            objective.z_loss,
        )
        correct = jnp.argmax(logits, axis=-1) == batch.targets
        parts = objective.microbatches
        return loss, {
            "loss": loss,
            "first_token": correct[:, 0].mean() / parts,
            "id": correct.all(1).mean() / parts,
        }

    gradient = jax.grad(loss_function, has_aux=True)

    def step(state: TrainState, batch: Seq2SeqBatch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        total_weight = jnp.sum(batch.weight)
        gradients, metrics = _sum_over_microbatches(
            lambda part, key: gradient(state.params, part, key, total_weight),
            batch,
            key,
            objective.microbatches,
        )
        return state.descend(gradients, optimizer), metrics

    return step


def _sum_over_microbatches(
    function: Callable[[Seq2SeqBatch, jax.Array], Any],
    batch: Seq2SeqBatch,
    key: jax.Array,
    parts: int,
) -> Any:
    """Sum of `function(part, its own key)` over equal parts of the batch, one after the other."""
    if parts == 1:
        return function(batch, key)
    size = len(batch.weight)
    if size % parts:
        raise InputError(f"batch_size is {size}: expected a multiple of {parts} microbatches")
    # Pairs taken in turn, so that each part lies as evenly over the devices as the batch.
    split = jax.tree.map(
        lambda a: a.reshape(size // parts, parts, *a.shape[1:]).swapaxes(0, 1), batch
    )
    keys = jax.random.split(key, parts)

    def add(sums: Any, part: tuple[Seq2SeqBatch, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*part)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda a: a[0], split), keys[0])
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return jax.lax.scan(add, zeros, (split, keys))[0]


def hide_tokens(mask: Bool[Array, "B S"], share: float, key: jax.Array) -> Bool[Array, "B S"]:
    """Mask of the tokens that the encoder sees: those of `mask`, and a random share less.

    The first token always stays, so that no source is empty.
    """
    shown = jax.random.uniform(key, mask.shape) >= share
    return mask & shown.at[:, 0].set(True)
