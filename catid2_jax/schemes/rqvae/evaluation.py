"""Measures the IDs of the whole corpus while stage 1 trains, so that a collapse is seen."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.docids.collisions import collision_rate
from catid2_jax.docids.quality import docid_quality, neighbor_pairs, quantization_error
from catid2_jax.losses import OF_CODEBOOKS, TERMS, LossWeights
from catid2_jax.models.residual_quantizer import quantize
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.ops.similarity import normalize
from catid2_jax.progress import console
from catid2_jax.schemes.rqvae.diagnosis import make_diagnosis, term_problems
from catid2_jax.schemes.rqvae.step import RQVAEData, in_batches
from catid2_jax.training.loop import Evaluator, TrainState

_ALARM_USED, _ALARM_PERPLEXITY = 0.5, 0.1  # shares of the codes that could be in use


def corpus_latents(model: RQVAE, params: dict, embeddings: np.ndarray) -> np.ndarray:
    """Computes the latents z [N, Z] of standardised embeddings [N, D]."""
    return in_batches(_encoder(model), embeddings, {"params": params})


def nearest_codes(
    codebooks: np.ndarray, latents: np.ndarray, shrinkage: tuple[float, ...] = ()
) -> np.ndarray:
    """Computes the codes [N, L] that quantisation of latents [N, Z] chooses."""
    return in_batches(_coder(shrinkage), latents, codebooks)


@functools.cache
def _encoder(model: RQVAE) -> Callable[[jax.Array, dict], Any]:
    return lambda batch, variables: model.apply(variables, batch, method=RQVAE.encode)


@functools.cache
def _coder(shrinkage: tuple[float, ...]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda latents, codebooks: quantize(latents, codebooks, shrinkage=shrinkage).codes


def reconstruction_cosine(model: RQVAE, params: dict, embeddings: np.ndarray) -> float:
    """Averages the cosine between standardised embeddings [N, D] and their reconstructions."""
    cosines = in_batches(_cosines(model), embeddings, {"params": params})
    return float(np.mean(cosines, dtype=np.float64))


@functools.cache
def _cosines(model: RQVAE) -> Callable[[jax.Array, dict], Any]:
    def cosines(batch: jax.Array, variables: dict) -> jax.Array:
        output: Any = model.apply(variables, batch)
        reconstructions = normalize(output.reconstructions.astype(batch.dtype))
        return jnp.sum(normalize(batch) * reconstructions, axis=1)

    return cosines


def figure_names(config: RQVAEConfig) -> tuple[str, ...]:
    """Names of the figures that the evaluator of a network of this shape can give."""
    per_level = (
        *("perplexity", "codes_used", "dead_codes", "quantization_error"),
        "usage_correlation",
    )
    per_category = ("category_purity", "category_nmi", "category_ami")
    pairs = ("all_pairs", "within_leaf", "across_leaves", "nearest_neighbors")
    return (
        "collision_rate",
        *(f"{name}/level_{level}" for name in per_level for level in range(1, config.levels + 1)),
        *(
            f"{name}/level_{level}"
            for name in per_category
            for level in range(1, config.category_levels + 1)
        ),
        *(f"common_prefix/{name}" for name in pairs),
        "reconstruction_cosine",
        *(
            f"gradient_norm/{term}"
            for term in ("residual_quantization", *TERMS)
            if term not in OF_CODEBOOKS
        ),
    )


def make_rqvae_evaluator(
    model: RQVAE,
    data: RQVAEData,
    weights: LossWeights,
    seed: int,
    held_out: Sequence[int] | np.ndarray = (),
) -> Evaluator:
    """Makes an evaluator for the training loop: what `docids.quality` says of the nearest codes.

    It adds `collision_rate`, `quantization_error/level_l`, `reconstruction_cosine` and what
    `diagnosis` finds, prints a line, and warns, once of each, of a dying codebook and of a term
    that is idle or rules.

    Args:
        model: the RQ-VAE.
        data: the corpus, on the host.
        weights: the terms of the loss.
        seed: seed of the choice of documents whose neighbours are looked at.
        held_out: rows of the documents that are not trained on, whose `reconstruction_cosine` is
            measured; none for that of all.
    """
    embeddings, categories = np.asarray(data.embeddings), np.asarray(data.categories)
    neighbors = neighbor_pairs(embeddings, seed=seed)
    diagnose = make_diagnosis(model, weights, data, seed)
    warned: set[int | str] = set()

    def evaluate(state: TrainState) -> dict[str, float]:
        latents = corpus_latents(model, state.params, embeddings)
        codebooks = np.asarray(state.params["quantizer"]["codebooks"])
        codes = nearest_codes(codebooks, latents, model.config.code_shrinkage)
        figures = {
            "collision_rate": collision_rate(codes),
            **quantization_error(latents, codebooks, codes),
            **docid_quality(codes, model.config.codebook_size, categories, neighbors),
            **diagnose(state.params),
        }
        rows = embeddings[np.asarray(held_out)] if len(held_out) else embeddings
        figures["reconstruction_cosine"] = reconstruction_cosine(model, state.params, rows)
        _report(int(state.step), figures, model.config.levels)
        _warn(figures, model, len(codes), warned)
        for name, problem in term_problems(figures).items():
            if name not in warned and state.step:
                warned.add(name)
                console.print(f"warning: {problem}", style="yellow", highlight=False)
        return figures

    return evaluate


def _report(step: int, figures: dict[str, float], levels: int) -> None:
    """Prints one line."""

    def each(name: str, form: str, scale: float = 1.0) -> str:
        values = (figures.get(f"{name}/level_{level}") for level in range(1, levels + 1))
        return " ".join(format(scale * value, form) for value in values if value is not None)

    console.print(
        f"step {step:,}: collisions {figures['collision_rate']:.2%}, perplexity "
        f"{each('perplexity', '.0f')}, dead codes {each('dead_codes', '.0f')}, error "
        f"{each('quantization_error', '.3f')}, category AMI {each('category_ami', '.2f')}, "
        f"reconstruction {figures['reconstruction_cosine']:.4f}",
        highlight=False,
    )


def _warn(figures: dict[str, float], model: RQVAE, documents: int, warned: set[int | str]) -> None:
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
                f"{model.config.codebook_size} codes in use, perplexity {perplexity:.0f}. Lower "
                "codebook_size where products are few, set reseed_dead_codes, raise the loss "
                "weight cluster_scale or dispersion, lower hierarchical_class, and check that "
                "embeddings are standardised",
                style="yellow",
                highlight=False,
            )
