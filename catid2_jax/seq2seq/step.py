"""Stage 2: the pairs of a batch, and one step of Eq. 9."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.docids.vocabulary import PAD
from catid2_jax.errors import InputError
from catid2_jax.losses import sequence_loss
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import Decoder, level_columns
from catid2_jax.seq2seq.r_drop import r_drop_loss
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.types import Scalar


@flax.struct.dataclass
class Seq2SeqData:
    """Pairs of a source and a document; on the host or on devices.

    Attributes:
        sources: token ids of the distinct texts (queries, titles), int [Q, S], 0 where padded; or
            vectors of queries and documents, float [Q, D].
        targets: ID tokens of every document, int [N, L], 0 after the end of a shorter ID.
        source: row of `sources` for each pair, int [P].
        document: row of `targets` for each pair, int [P].
        weight: weight of each pair in the loss, float [P].
        packed_tokens: see `Seq2SeqBatch`.
        ends: see `Seq2SeqBatch`.
    """

    sources: Any
    targets: Any
    source: Any
    document: Any
    weight: Any
    packed_tokens: int = flax.struct.field(pytree_node=False, default=0)
    ends: bool = flax.struct.field(pytree_node=False, default=False)

    def batch(self, indices: Any) -> "Seq2SeqBatch":
        """The pairs of `indices`."""
        return Seq2SeqBatch(
            self.sources[self.source[indices]],
            self.targets[self.document[indices]],
            self.weight[indices],
            self.packed_tokens,
            self.ends,
        )


@flax.struct.dataclass
class Seq2SeqBatch:
    """Pairs as the network sees them.

    Attributes:
        sources: token ids, int [B, S], 0 where padded; or vectors, float [B, D].
        targets: ID tokens of the documents, int [B, L], 0 after the end of a shorter ID.
        weight: weight of each pair in the loss, float [B].
        packed_tokens: the most tokens without padding that a device has of a batch, or of a
            microbatch, by `count_packed_tokens`; 0 to encode padding, too.
        ends: whether some document's ID is shorter than L, so that an ID's end competes with codes.
    """

    sources: Any
    targets: Any
    weight: Any
    packed_tokens: int = flax.struct.field(pytree_node=False, default=0)
    ends: bool = flax.struct.field(pytree_node=False, default=False)


def count_packed_tokens(
    data: Seq2SeqData, sampler: EpochSampler, steps: int, devices: int, microbatches: int = 1
) -> int:
    """The `packed_tokens` that the sources need, over all batches that training will see.

    It is 0 where packing would save less than a tenth of the encoder's work (vectors have no
    padding), or where the devices' parts of a microbatch would not be alike.

    Args:
        data: the pairs, on the host.
        sampler: gives the batches.
        steps: steps of the whole training.
        devices: devices that share the rows of a batch.
        microbatches: parts of a batch, see `Seq2SeqObjective`.
    """
    rows, rest = divmod(sampler.batch_size, devices * microbatches)
    if rest or np.issubdtype(data.sources.dtype, np.floating):
        return 0
    lengths = np.sum(data.sources != PAD, axis=1)[data.source]
    most = 0
    for start in range(0, steps, sampler.steps_per_epoch):
        count = min(sampler.steps_per_epoch, steps - start)
        batches = lengths[sampler(start, count)]
        # As `_sum_over_microbatches` splits what a device has.
        parts = batches.reshape(count, devices, rows, microbatches)
        most = max(most, int(parts.sum(axis=2).max()))
    packed_tokens = -(-most // 16) * 16  # whole tiles of an accelerator, in either type
    return packed_tokens if packed_tokens <= 0.9 * rows * data.sources.shape[1] else 0


def scored_positions(targets: Int[Array, "B L"]) -> Bool[Array, "B L"]:
    """The positions whose token is learnt: the codes of an ID and its end, not what follows."""
    ended = targets == PAD
    return ~jnp.pad(ended[:, :-1], ((0, 0), (1, 0)))


def make_seq2seq_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    objective: Seq2SeqObjective,
    seed: int,
) -> StepFunction:
    """The step of stage 2 for the training loop, over batches of `Seq2SeqData`.

    Args:
        decoder: the network.
        optimizer: the optimizer of its parameters.
        objective: what is minimised.
        seed: seed of what is hidden and of the network's dropout; each step derives its own key.
    """

    def loss_function(
        params: dict, batch: Seq2SeqBatch, key: jax.Array, total_weight: Scalar
    ) -> tuple[Scalar, Metrics]:
        """The part of the batch's loss that these pairs are."""
        keys = jax.random.split(key) if objective.r_drop else (key,)
        passes, (targets, *_) = zip(
            *(_logits_and_targets(decoder, params, batch, key, objective) for key in keys),
            strict=True,
        )
        scored, logits = scored_positions(batch.targets), passes[0]
        share = jnp.sum(batch.weight) / jnp.maximum(total_weight, 1e-9)
        loss = share * _objective(passes, targets, batch.weight, scored, objective)
        correct = (jnp.argmax(logits, axis=-1) == targets) | ~scored
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


def _objective(
    passes: Sequence[Float[Array, "B L n"]],
    targets: Int[Array, "B L"],
    weights: Float[Array, " B"],
    scored: Bool[Array, "B L"],
    objective: Seq2SeqObjective,
) -> Scalar:
    """Eq. 9 as a mean over the passes, and how far these are from each other."""
    positions = objective.weights_of_positions(targets.shape[1])
    position_weights = jnp.array(positions) if positions else None
    smoothing, z_loss = objective.label_smoothing, objective.z_loss
    losses = [
        sequence_loss(logits, targets, weights, position_weights, smoothing, z_loss, scored)
        for logits in passes
    ]
    loss = sum(losses[1:], start=losses[0]) / len(losses)
    if objective.r_drop:
        loss += objective.r_drop * r_drop_loss(passes[0], passes[1], weights, scored)
    return loss


def _logits_and_targets(
    decoder: Decoder,
    params: Any,
    batch: Seq2SeqBatch,
    key: jax.Array,
    objective: Seq2SeqObjective,
) -> tuple[Float[Array, "B L n"], Int[Array, "B L"]]:
    """Logits of the n tokens that compete at each position, and the columns of the targets."""
    over, ends = objective.normalize_over, batch.ends
    logits = decoder.logits(
        params,
        batch.sources,
        batch.targets,
        key,
        objective.source_dropout,
        batch.packed_tokens,
        normalize_over=over,
        ends=ends,
    )
    if over == "full":
        return logits, batch.targets
    expected = (*batch.targets.shape, decoder.codebook_size + ends)
    if logits.shape != expected:
        raise InputError(f"logits of {type(decoder).__name__} over 'level'", logits.shape, expected)
    return logits, level_columns(decoder, batch.targets)


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
        raise InputError("batch_size", size, f"a multiple of {parts} microbatches")
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
