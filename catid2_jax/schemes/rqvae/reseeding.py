"""Moves dead codes, which no document uses, onto documents while stage 1 trains."""

import jax
import numpy as np
import optax

from catid2_jax.models.rqvae import RQVAE
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, nearest_codes
from catid2_jax.training.loop import StateHook, TrainState
from catid2_jax.training.sharding import data_mesh, place


def make_reseeding_hook(
    model: RQVAE, optimizer: optax.GradientTransformation, embeddings: np.ndarray, seed: int
) -> StateHook:
    """Makes a hook for the training loop that reseeds the dead codes of the whole corpus.

    Args:
        model: the RQ-VAE.
        optimizer: the optimizer of its training.
        embeddings: standardised embeddings of the corpus, [N, D].
        seed: seed of the draws.
    """

    def hook(state: TrainState) -> TrainState:
        latents = corpus_latents(model, state.params, embeddings)
        codebooks = np.asarray(state.params["quantizer"]["codebooks"])
        codes = nearest_codes(codebooks, latents, model.config.code_shrinkage)
        return reseed(state, optimizer, latents, codes, seed)

    return hook


def reseed(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    latents: np.ndarray,
    codes: np.ndarray,
    seed: int,
) -> TrainState:
    """Moves the codes that no document uses onto residuals that are quantised badly.

    A dead code of level l becomes r^l of a document drawn with probability ~ ||r^l - e_{c^l}||^2,
    and the optimizer forgets what it had gathered for it.

    Args:
        state: a state of the training.
        optimizer: the optimizer of the training.
        latents: z of the corpus, [N, Z].
        codes: c of the corpus, [N, L].
        seed: seed of the draw, together with the step.
    """
    codebooks = np.array(state.params["quantizer"]["codebooks"])
    alive = np.ones((*codebooks.shape[:2], 1), np.float32)
    generator = np.random.default_rng([seed, int(state.step)])
    residuals = latents
    for level, codebook in enumerate(codebooks):
        left = residuals - codebook[codes[:, level]]
        dead = np.flatnonzero(np.bincount(codes[:, level], minlength=len(codebook)) == 0)
        error = np.sum(left.astype(np.float64) ** 2, axis=1)
        drawable = np.count_nonzero(error)
        dead = dead[:drawable]
        if dead.size:
            chosen = generator.choice(len(error), dead.size, replace=False, p=error / error.sum())
            codebook[dead], alive[level, dead] = residuals[chosen], 0.0
        residuals = left
    if alive.all():
        return state
    params = {**state.params, "quantizer": {"codebooks": codebooks}}
    keep = jax.tree.map(lambda _: np.float32(1), state.params) | {"quantizer": {"codebooks": alive}}
    optimizer_state = optax.tree_utils.tree_map_params(
        optimizer, _forget, state.optimizer_state, keep
    )
    return place(state.replace(params=params, optimizer_state=optimizer_state), data_mesh())


def _forget(moments: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Sets moments of dead codes to zero; what Adafactor keeps for a whole codebook stays."""
    moments = np.asarray(moments)
    return moments * keep if moments.ndim >= keep.ndim else moments
