"""One level of GenRet: the network that tokenises, its losses and its training step."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.models.mlp import MLP
from catid2_jax.ops.similarity import squared_distance
from catid2_jax.training.loop import Metrics, StepFunction, TrainState
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.types import Latents, Scalar

_NEVER = -1e9  # finite, so that a row of them is no NaN


@flax.struct.dataclass
class LevelData:
    """What a level sees of the corpus or a batch of it.

    Attributes:
        vectors: the documents, float [N, Z].
        prefixes: sum of the code vectors of each document's earlier levels, float [N, Z].
        groups: number of the documents with the same earlier codes, int [N].
        queries: mean vector of each document's training queries, float [N, Z].
        searched: whether a document has training queries, bool [N].
    """

    vectors: Any
    prefixes: Any
    groups: Any
    queries: Any
    searched: Any

    def batch(self, indices: Any) -> "LevelData":
        """Returns the documents of `indices`."""
        return jax.tree.map(lambda rows: rows[indices], self)


class Tokenizer(nn.Module):
    """State s of a document or a query after a prefix, and the codebook e of the level.

    s = v - p + MLP(v, p) of the vector v and the prefix p; the last layer of the MLP starts at
    zero, so that a level starts where residual quantisation is.

    Attributes:
        codebook_size: K.
        hidden_dims: widths of the MLP's hidden layers.
    """

    codebook_size: int
    hidden_dims: tuple[int, ...]

    @nn.compact
    def __call__(self, vectors: Latents, prefixes: Latents) -> tuple[Latents, Float[Array, "K Z"]]:
        """Computes the states [B, Z], and returns them with the codebook [K, Z]."""
        width = vectors.shape[-1]
        codebook = self.param("codebook", nn.initializers.zeros, (self.codebook_size, width))
        mlp = MLP((*self.hidden_dims, width), starts_at_zero=True, name="mlp")
        both = jnp.concatenate([vectors, prefixes], axis=-1)
        return vectors - prefixes + mlp(both), codebook


def match_losses(
    anchors: Latents,
    states: Latents,
    groups: Int[Array, " B"],
    temperature: Scalar | float,
) -> Float[Array, " B"]:
    """Computes how hard each anchor finds its own document among those of the same prefix.

    -log of exp(-|a_i - s_i|^2 / tau) over its sum over all documents j with the prefix of i.
    """
    logits = -squared_distance(anchors, states) / temperature
    logits = jnp.where(groups[:, None] == groups[None], logits, _NEVER)
    return -jnp.diag(jax.nn.log_softmax(logits, axis=1))


def level_losses(
    states: Latents,
    of_queries: Latents,
    codebook: Float[Array, "K Z"],
    groups: Int[Array, " B"],
    searched: Bool[Array, " B"],
    temperature: Scalar | float,
) -> dict[str, Scalar]:
    """The losses of a level, each a mean over the documents (or those that were searched for).

    "auto_encoding" has the code vectors find their documents, "commitment" is -log Q(c | s) of the
    codes, and "retrieval" has the queries find the document and its code. Q is a softmax of
    -|s - e|^2 / tau.

    Args:
        states: s of the documents, [B, Z].
        of_queries: s of their queries after the same prefixes, [B, Z].
        codebook: e.
        groups: number of the documents with the same earlier codes.
        searched: whether a document has queries.
        temperature: tau.
    """
    logits = -squared_distance(states, codebook) / temperature
    codes = jnp.argmax(logits, axis=1)
    of_code = -squared_distance(of_queries, codebook) / temperature
    found = _cross_entropy(of_code, codes) + match_losses(of_queries, states, groups, temperature)
    return {
        "auto_encoding": jnp.mean(match_losses(codebook[codes], states, groups, temperature)),
        "commitment": jnp.mean(_cross_entropy(logits, codes)),
        "retrieval": jnp.sum(jnp.where(searched, found, 0.0)) / jnp.maximum(jnp.sum(searched), 1),
    }


def _cross_entropy(logits: Float[Array, "B K"], codes: Int[Array, " B"]) -> Float[Array, " B"]:
    log_p = jax.nn.log_softmax(logits, axis=1)
    return -jnp.take_along_axis(log_p, codes[:, None], axis=1)[:, 0]


def make_level_step(
    model: Tokenizer,
    optimizer: optax.GradientTransformation,
    commitment: float,
    retrieval: float,
) -> StepFunction:
    """Makes the step of a level for the training loop, over batches of `LevelData`.

    Args:
        model: the level's network.
        optimizer: the optimizer of its parameters.
        commitment: weight of the commitment loss, beside 1 of the auto-encoding.
        retrieval: weight of the retrieval loss.
    """

    def loss_function(
        params: dict, batch: LevelData, temperature: Scalar
    ) -> tuple[Scalar, Metrics]:
        variables = {"params": params}
        of_documents: Any = model.apply(variables, batch.vectors, batch.prefixes)
        of_queries: Any = model.apply(variables, batch.queries, batch.prefixes)
        terms = level_losses(
            of_documents[0],
            of_queries[0],
            of_documents[1],
            batch.groups,
            batch.searched,
            temperature,
        )
        loss = terms["auto_encoding"] + commitment * terms["commitment"]
        loss += retrieval * terms["retrieval"]
        return loss, {"loss": loss, **terms}

    def step(state: TrainState, batch: LevelData) -> tuple[TrainState, Metrics]:
        gradients, metrics = jax.grad(loss_function, has_aux=True)(
            state.params, batch, state.constants
        )
        return state.descend(gradients, optimizer), metrics

    return step


class PrefixSampler(EpochSampler):
    """Batches in which documents of the same prefix stand together, whose order is drawn anew."""

    def __init__(self, groups: np.ndarray, batch_size: int, seed: int, devices: int = 1) -> None:
        """Plans the batches; see `EpochSampler`.

        Args:
            groups: number of each document's prefix, int [N].
            batch_size: documents of a step, over all devices.
            seed: seed of the order of the prefixes, and of the documents of each.
            devices: number of devices that share a batch evenly.
        """
        super().__init__(len(groups), batch_size, seed, devices)
        self._groups = groups

    def _new_order(self, generator: np.random.Generator) -> np.ndarray:
        order = super()._new_order(generator)
        ranks = generator.permutation(int(self._groups.max()) + 1)
        return order[np.argsort(ranks[self._groups[order]], kind="stable")]
