"""GenRet (Sun et al., 2023): IDs from which documents are found, learnt one level after another.

A level's codes are learnt by auto-encoding: a network gives a document its state after the codes of
the levels before, the nearest code vector stands for it, and from that vector the document must be
found again among all with the same earlier codes. Training queries must find it, and its code, too.
Then the level is fixed and the next one is learnt. As in the paper, a level's code vectors start at
clusters of about the same size.

Where this differs: documents are embeddings and not texts, and so the network is an MLP for each
level instead of one T5; distances stand where the paper has inner products, and states learn as
what is to be found, by the loss's own gradient, and not straight through their codes; stage 2 is
trained on the IDs afterwards, not in turn with them; documents of the same codes get IDs by
reassignment.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.constraints import NonNegativeFloat, PositiveFloat, PositiveInt, check_fields
from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import check_room
from catid2_jax.docids.table import DocidTable, check_shape
from catid2_jax.ops.kmeans import balanced_kmeans
from catid2_jax.ops.similarity import squared_distance
from catid2_jax.progress import console
from catid2_jax.schemes.config import DocidsConfig, refuse_previous
from catid2_jax.schemes.genret.step import (
    LevelData,
    PrefixSampler,
    Tokenizer,
    make_level_step,
    match_losses,
)
from catid2_jax.schemes.quantized import Quantized, query_means, unique_docids
from catid2_jax.schemes.scheme import Run
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer

CHECKPOINTS = "genret"
"""Name of the folder of the levels' checkpoints."""

_MEASURED = 4096  # documents whose auto-encoding is measured


@dataclasses.dataclass(frozen=True)
class GenRet:
    """Codes that are learnt by auto-encoding through retrieval, one level after another.

    Attributes:
        levels: L, codes of an ID.
        codebook_size: K, codes that each level learns.
        latent_dim: Z, principal components of the embeddings that are tokenised.
        hidden_dims: widths of the hidden layers of a level's network.
        steps: steps of training for each level.
        batch_size: documents of a step; those with the same earlier codes come together.
        learning_rate: rate of AdamW, which falls to 0 along a cosine.
        temperature: tau of all softmaxes, as a share of the mean squared distance of a document
            from its code when the level starts.
        commitment: weight of the loss that draws a document to its code, beside 1 of the
            auto-encoding.
        retrieval: weight of the loss by which training queries find documents and their codes; it
            is off where the queries have no vectors.
        docids: how collisions are resolved.
    """

    levels: PositiveInt = 4
    codebook_size: PositiveInt = 256
    latent_dim: PositiveInt = 64
    hidden_dims: tuple[PositiveInt, ...] = (256,)
    steps: PositiveInt = 500
    batch_size: PositiveInt = 1024
    learning_rate: PositiveFloat = 1e-3
    temperature: PositiveFloat = 0.3
    commitment: NonNegativeFloat = 0.3
    retrieval: NonNegativeFloat = 0.3
    docids: DocidsConfig = DocidsConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        check_shape(self.levels, self.codebook_size)

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Learns the levels one after another and assigns unique IDs.

        Raises:
            InputError: more documents than IDs, or an earlier state to continue.
        """
        refuse_previous(self.docids)
        check_room(len(corpus), self.levels, self.codebook_size)
        data = self._first_level(corpus)
        codebooks, codes = [], []
        for level in range(1, self.levels + 1):
            state, codebook = self._train(level, data, run)
            states = np.asarray(self._states(state.params, data))
            nearest = _nearest(states, codebook)
            run.figures[f"auto_encoding/level_{level}"] = _auto_encoding(
                states, codebook[nearest], data.groups, float(state.constants), run.seed
            )
            latents = data.prefixes + states
            codebooks.append(codebook)
            codes.append(nearest)
            numbers = data.groups.astype(np.int64) * self.codebook_size + nearest
            _, groups = np.unique(numbers, return_inverse=True)
            data = dataclasses.replace(
                data, prefixes=data.prefixes + codebook[nearest], groups=groups.astype(np.int32)
            )
        found = Quantized(latents, np.stack(codebooks), np.stack(codes, axis=1))
        return unique_docids(corpus, found, self.docids.collisions, run.figures)

    def _first_level(self, corpus: Corpus) -> LevelData:
        """The documents and queries by the principal components of the documents."""
        vectors = np.asarray(corpus.embeddings, np.float64)
        mean = vectors.mean(axis=0)
        _, components = np.linalg.eigh((vectors - mean).T @ (vectors - mean))
        components = components[:, ::-1][:, : self.latent_dim]
        means, searched = query_means(corpus)
        if self.retrieval and not searched.any():
            console.print("no vectors of training queries: the codes learn from products alone")
        projected = ((vectors - mean) @ components).astype(np.float32)
        queries = ((means - mean) @ components).astype(np.float32)
        nothing = np.zeros_like(projected)
        return LevelData(projected, nothing, np.zeros(len(corpus), np.int32), queries, searched)

    def _states(self, params: dict, data: LevelData) -> jax.Array:
        vectors, prefixes = jnp.asarray(data.vectors), jnp.asarray(data.prefixes)
        found: Any = self._model.apply({"params": params}, vectors, prefixes)
        return found[0]

    @property
    def _model(self) -> Tokenizer:
        return Tokenizer(self.codebook_size, self.hidden_dims)

    def _train(self, level: int, data: LevelData, run: Run) -> tuple[TrainState, np.ndarray]:
        """Trains a level; returns its state, whose constant is tau, and its codebook."""
        training = TrainingConfig(
            batch_size=self.batch_size,
            epochs=0,
            steps=self.steps,
            learning_rate=self.learning_rate,
            schedule="cosine",
        )
        sampler = PrefixSampler(
            data.groups, training.batch_size, run.seed + level, jax.device_count()
        )
        optimizer = make_optimizer(training, self.steps)
        step = make_level_step(
            self._model, optimizer, self.commitment, self.retrieval * bool(data.searched.any())
        )
        directory = pathlib.Path(run.directory) / CHECKPOINTS / f"level_{level}"
        with Checkpoints(directory) as checkpoints:
            params, temperature = self._start(level, data, run.seed)
            state = TrainState(jnp.int32(0), params, optimizer.init(params), temperature)
            about = f"training level {level} of {self.levels}"
            state = train(step, state, data, sampler, training, checkpoints, about)
        state = jax.device_get(state)
        return state, state.params["codebook"]

    def _start(self, level: int, data: LevelData, seed: int) -> tuple[dict, jax.Array]:
        """Parameters with clusters of equal size as code vectors, and the level's tau."""
        key, of_clusters = jax.random.split(jax.random.fold_in(jax.random.key(seed), level))
        example = jax.tree.map(jnp.asarray, data.batch(np.arange(1)))
        params = self._model.init(key, example.vectors, example.prefixes)["params"]
        states = self._states(params, data)
        codebook, codes = balanced_kmeans(states, self.codebook_size, of_clusters)
        error = jnp.mean(jnp.sum(jnp.square(states - codebook[codes]), axis=1))
        spread = jnp.mean(jnp.sum(jnp.square(states), axis=1))
        temperature = self.temperature * jnp.maximum(error, 1e-3 * spread + 1e-12)
        return {**params, "codebook": codebook}, temperature


def _nearest(states: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The nearest code of each state, int32 [N]."""
    codes, vectors = np.empty(len(states), np.int32), jnp.asarray(codebook)
    for start in range(0, len(states), _MEASURED):
        part = slice(start, start + _MEASURED)
        distances = squared_distance(jnp.asarray(states[part]), vectors)
        codes[part] = jnp.argmin(distances, axis=1)
    return codes


def _auto_encoding(
    states: np.ndarray, chosen: np.ndarray, groups: np.ndarray, temperature: float, seed: int
) -> float:
    """The mean auto-encoding loss over whole prefixes, of as many as fit into a matrix."""
    order = np.random.default_rng([seed, 3]).permutation(int(groups.max()) + 1)
    sizes = np.cumsum(np.bincount(groups)[order])
    taken = order[: max(1, int(np.searchsorted(sizes, _MEASURED, side="right")))]
    rows = np.flatnonzero(np.isin(groups, taken))[:_MEASURED]
    anchors, own, prefixes = (jnp.asarray(array[rows]) for array in (chosen, states, groups))
    return float(jnp.mean(match_losses(anchors, own, prefixes, temperature)))
