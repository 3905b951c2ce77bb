"""T5's encoder: the mean of its last hidden states over a text's tokens."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from catid2_jax.checkpoints.folder import read_checkpoint
from catid2_jax.checkpoints.tokenizer import PIECES
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import BatchedEncoder, Encoder, fingerprint
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.ops.mesh import DATA_AXIS, local_mesh


@functools.partial(jax.jit, static_argnames="model")
def mean_of_states(
    model: Transformer, params: Any, tokens: Int[Array, "B S"], lengths: Int[Array, " B"]
) -> Float[Array, "B E"]:
    """Masked mean pooling, float32.

    Args:
        model: the network.
        params: parameters of its embedding and its encoder.
        tokens: token ids, padded with 0.
        lengths: tokens of each text without padding; 0 gives a vector of zeros.
    """
    mask = jnp.arange(tokens.shape[1])[None] < lengths[:, None]
    # By default GPUs and TPUs round what they multiply, to 3 digits or so: more than 1e-5 would
    # depend on the shape of a batch.
    with jax.default_matmul_precision("highest"):
        states: Any = model.apply({"params": params}, tokens, mask, method="encode")
    total = jnp.sum(jnp.where(mask[:, :, None], states, 0.0), axis=1)
    return total / jnp.maximum(lengths, 1)[:, None]


def from_config(section: EmbeddingConfig, seed: int) -> Encoder:
    """The encoder "t5"; it draws nothing, so it needs no seed."""
    network = load_t5_encoder(section.path, section.vocabulary, section.max_tokens)
    return BatchedEncoder(network, section.batch_tokens)


def load_t5_encoder(path: str, vocabulary_path: str, max_tokens: int) -> "T5Encoder":
    """The encoder of a T5 checkpoint, which may have no decoder.

    Args:
        path: a checkpoint in T5X's or Hugging Face's form, or a work directory.
        vocabulary_path: its SentencePiece model; empty for the one beside the checkpoint.
        max_tokens: the length at which longer texts are cut.

    Raises:
        InputError: no such checkpoint, no vocabulary for it, or one with too many pieces.
    """
    checkpoint = read_checkpoint(path, encoder_alone=True)
    pieces = vocabulary_path or checkpoint.vocabulary
    if not pieces:
        raise InputError(path, f"no {PIECES}", "one there, or the path of a vocabulary")
    vocabulary = Vocabulary(pieces, 0, 0)
    if vocabulary.pieces > checkpoint.rows:
        raise InputError(
            pieces, f"{vocabulary.pieces} pieces", f"at most the {checkpoint.rows} rows of {path}"
        )
    return T5Encoder(
        checkpoint.config,
        unflatten(checkpoint.params),
        lambda text: [*vocabulary.text_ids(text), vocabulary.end],
        vocabulary.model,
        max_tokens,
    )


class T5Encoder:
    """A `TokenEncoder` in float32 on all devices of this process, which share the texts of a batch.

    Attributes:
        key: fingerprint of the parameters, the tokens and the length.
        max_tokens: the length at which longer texts are cut; they still end with the end of
            sequence.
    """

    def __init__(
        self,
        config: T5Config,
        params: Mapping[str, Any],
        token_ids: Callable[[str], list[int]],
        token_key: bytes,
        max_tokens: int,
    ) -> None:
        """Places the parameters.

        Args:
            config: shape of the network.
            params: nested parameters, of which `token_embedder` and `encoder` are used.
            token_ids: gives the ids of a text's tokens, with the end of sequence.
            token_key: bytes that differ from those of every other `token_ids`.
            max_tokens: the length at which longer texts are cut, at least 1.
        """
        config = dataclasses.replace(config, dtype="float32", remat=False)
        used = {name: params[name] for name in ("token_embedder", "encoder")}
        used = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), used)
        mesh = local_mesh()
        self._rows = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
        self._params = jax.device_put(used, NamedSharding(mesh, PartitionSpec()))
        self._model = Transformer(config, len(used["token_embedder"]["embedding"]))
        self._token_ids = token_ids
        self.max_tokens = max_tokens
        about = f"T5 {config} {max_tokens}".encode()
        self.key = fingerprint(about, token_key, *jax.tree.leaves(used))

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """Ids of each text, and how many there were before the cut."""
        ids = [self._token_ids(text) for text in texts]
        lengths = np.array([len(text) for text in ids])
        limit = self.max_tokens
        return [t if len(t) <= limit else [*t[: limit - 1], t[-1]] for t in ids], lengths

    def encode_batch(self, items: Sequence[list[int]], rows: int, width: int) -> np.ndarray:
        """Means of the states of tokenised texts, float32 [len(items), E]."""
        tokens, lengths = np.zeros((rows, width), np.int32), np.zeros(rows, np.int32)
        for row, ids in enumerate(items):
            tokens[row, : len(ids)], lengths[row] = ids, len(ids)
        tokens, lengths = jax.device_put((tokens, lengths), self._rows)
        return np.asarray(mean_of_states(self._model, self._params, tokens, lengths))[: len(items)]

    def for_queries(self) -> "T5Encoder":
        """The same encoder: T5 reads queries as it reads documents."""
        return self
