"""Seeing a collapse while stage 1 trains: the IDs of the whole corpus, as they are now."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from catid2_jax.docids.collisions import collision_rate
from catid2_jax.docids.quality import docid_quality, neighbor_pairs, quantization_error
from catid2_jax.models.residual_quantizer import quantize
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.progress import console
from catid2_jax.training.loop import Evaluator, TrainState
from catid2_jax.schemes.rqvae.step import RQVAEData, in_batches
from catid2_jax.training.sharding import data_mesh, place

_ALARM_USED, _ALARM_PERPLEXITY = 0.5, 0.1  # shares of the codes that could be in use


def corpus_latents(model: RQVAE, params: dict, embeddings: np.ndarray) -> np.ndarray:
    """Latents z [N, Z] of standardised embeddings [N, D]."""
    return in_batches(_encoder(model), embeddings, {"params": params})


def nearest_codes(codebooks: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """The codes [N, L] that quantisation of latents [N, Z] chooses."""
    return in_batches(_codes, latents, codebooks)


@functools.cache
def _encoder(model: RQVAE) -> Callable[[jax.Array, dict], Any]:
    return lambda batch, variables: model.apply(variables, batch, method=RQVAE.encode)


def _codes(latents: jax.Array, codebooks: jax.Array) -> jax.Array:
    return quantize(latents, codebooks).codes


def make_rqvae_evaluator(
    model: RQVAE,
    optimizer: optax.GradientTransformation,
    data: RQVAEData,
    reseed_dead_codes: bool,
    seed: int,
) -> Evaluator:
    """An evaluator for the training loop: what `docids.quality` says of the nearest codes.

    It adds `collision_rate` and `quantization_error/level_l`, prints a line, and warns once per
    level whose codebook is dying.

    Args:
        model: of stage 1.
        optimizer: of its training.
        data: the corpus, on the host.
        reseed_dead_codes: whether training goes on with codes that no document uses moved onto
            documents, see `reseed`.
        seed: of that, and of the documents whose neighbours are looked at.
    """
    embeddings = np.asarray(data.embeddings)
    neighbors = neighbor_pairs(embeddings, seed=seed)
    warned: set[int] = set()

    def evaluate(state: TrainState) -> tuple[TrainState, dict[str, float]]:
        latents = corpus_latents(model, state.params, embeddings)
        codebooks = np.asarray(state.params["quantizer"]["codebooks"])
        codes = nearest_codes(codebooks, latents)
        figures = {
            "collision_rate": collision_rate(codes),
            **quantization_error(latents, codebooks, codes),
            **docid_quality(codes, model.config.codebook_size, np.asarray(data.categories), neighbors),
        }
        _report(int(state.step), figures, model.config.levels)
        _warn(figures, model, len(codes), warned)
        if reseed_dead_codes:
            state = reseed(state, optimizer, latents, codes, seed)
        return state, figures

    return evaluate


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
        state: with the codebooks.
        optimizer: whose state it has.
        latents: z of the corpus, [N, Z].
        codes: c of the corpus, [N, L].
        seed: of the draw, together with the step.
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
    """Zeros for the dead codes; what Adafactor keeps for a whole codebook stays."""
    moments = np.asarray(moments)
    return moments * keep if moments.ndim >= keep.ndim else moments


def _report(step: int, figures: dict[str, float], levels: int) -> None:
    """One line."""

    def each(name: str, form: str, scale: float = 1.0) -> str:
        values = (figures.get(f"{name}/level_{level}") for level in range(1, levels + 1))
        return " ".join(format(scale * value, form) for value in values if value is not None)

    console.print(
        f"step {step:,}: collisions {figures['collision_rate']:.2%}, perplexity "
        f"{each('perplexity', '.0f')}, dead codes {each('dead_codes', '.0f')}, error "
        f"{each('quantization_error', '.3f')}, category AMI {each('category_ami', '.2f')}",
        highlight=False,
    )


def _warn(figures: dict[str, float], model: RQVAE, documents: int, warned: set[int]) -> None:
    """Names each level whose codebook is dying, once, and what to change."""
    possible = min(model.config.codebook_size, documents)
    for level in range(1, model.config.levels + 1):
        perplexity = figures[f"perplexity/level_{level}"]
        used = model.config.codebook_size - figures[f"dead_codes/level_{level}"]
        dying = used < _ALARM_USED * possible or perplexity < _ALARM_PERPLEXITY * possible
        if dying and level not in warned:
            warned.add(level)
            console.print(
                f"warning: the codebook of level {level} is dying: {used:.0f} of "
                f"{model.config.codebook_size} codes in use, perplexity {perplexity:.0f}. Set "
                "rqvae.reseed_dead_codes, raise loss_weights.cluster_scale or .dispersion, lower "
                "loss_weights.hierarchical_class, and see that embedding.standardize is on",
                style="yellow",
                highlight=False,
            )
