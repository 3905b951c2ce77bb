"""Stage 2: the pairs, and one step of Eq. 9."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from catid2_jax.docids.vocabulary import PAD
from catid2_jax.losses import sequence_loss
from catid2_jax.models.t5.network import Transformer
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.types import Scalar


@flax.struct.dataclass
class Seq2SeqData:
    """Pairs of a source text and a document; on the host or on devices.

    Attributes:
        sources: token ids of the distinct texts (queries, titles), int [Q, S], 0 where padded.
        targets: vocabulary ids of every document's ID tokens, int [N, L].
        source: row of `sources`, per pair, int [P].
        document: row of `targets`, per pair, int [P].
        weight: of the pair in the loss, float [P].
    """

    sources: Any
    targets: Any
    source: Any
    document: Any
    weight: Any

    def batch(self, indices: Any) -> "Seq2SeqBatch":
        """The pairs of `indices`."""
        return Seq2SeqBatch(
            self.sources[self.source[indices]],
            self.targets[self.document[indices]],
            self.weight[indices],
        )


@flax.struct.dataclass
class Seq2SeqBatch:
    """Pairs as the network sees them.

    Attributes:
        tokens: of the sources, int [B, S], 0 where padded.
        targets: vocabulary ids of the documents' ID tokens, int [B, L].
        weight: of the pair in the loss, float [B].
    """

    tokens: Any
    targets: Any
    weight: Any


def id_tokens(codes: np.ndarray, first_id_token: int, codes_per_level: int) -> np.ndarray:
    """Vocabulary ids of codes [N, L]: `first_id_token + l * K + c`."""
    levels = np.arange(codes.shape[1])
    return (first_id_token + levels * codes_per_level + codes).astype(np.int32)


def make_seq2seq_step(
    model: Transformer, optimizer: optax.GradientTransformation, source_dropout: float, seed: int
) -> StepFunction:
    """The step of stage 2 for the training loop, over batches of `Seq2SeqData`.

    Args:
        model: the network.
        optimizer: of its parameters.
        source_dropout: share of source tokens that the encoder does not see, drawn anew each step.
        seed: of that and of the network's dropout; each step derives its own key.
    """

    def loss_function(params: dict, batch: Seq2SeqBatch, key: jax.Array) -> tuple[Scalar, Metrics]:
        tokens, targets = batch.tokens, batch.targets
        mask_key, dropout_key = jax.random.split(key)
        mask = hide_tokens(tokens, source_dropout, mask_key)
        decoder_input = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        logits: Any = model.apply(
            {"params": params},
            tokens,
            mask,
            decoder_input,
            deterministic=False,
            rngs={"dropout": dropout_key},
        )
        loss = sequence_loss(logits, targets, batch.weight)
        correct = jnp.argmax(logits, axis=-1) == targets
        return loss, {
            "loss": loss,
            "first_token": correct[:, 0].mean(),
            "id": correct.all(1).mean(),
        }

    def step(state: TrainState, batch: Seq2SeqBatch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradients, metrics = jax.grad(loss_function, has_aux=True)(state.params, batch, key)
        return state.descend(gradients, optimizer), metrics

    return step


def hide_tokens(tokens: Int[Array, "B S"], share: float, key: jax.Array) -> jax.Array:
    """Mask [B, S] of the tokens that the encoder sees: no padding, and a random share less.

    The first token always stays, so that no source is empty.
    """
    shown = jax.random.uniform(key, tokens.shape) >= share
    return (tokens != PAD) & shown.at[:, 0].set(True)
