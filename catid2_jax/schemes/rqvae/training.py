"""Trains the RQ-VAE of stage 1 (Eq. 8), and loads what was trained."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.data.category_tree import category_ids
from catid2_jax.data.corpus import Corpus, QuerySet
from catid2_jax.errors import InputError
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.progress import console
from catid2_jax.schemes.co_relevance import co_relevance
from catid2_jax.schemes.quantized import query_means
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, make_rqvae_evaluator
from catid2_jax.schemes.rqvae.reseeding import make_reseeding_hook
from catid2_jax.schemes.rqvae.standardization import (
    Standardization,
    fit_standardization,
    no_standardization,
)
from catid2_jax.schemes.rqvae.step import (
    RQVAEData,
    initialize_codebooks,
    make_rqvae_step,
    start_at_principal_components,
)
from catid2_jax.training.checkpoint import Checkpoints, Which
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler


def train_rqvae(
    corpus: Corpus,
    config: RQVAEConfig,
    weights: LossWeights,
    training: TrainingConfig,
    directory: pathlib.Path,
    seed: int,
) -> None:
    """Trains to a plateau or the last step; the checkpoint holds the standardisation, too.

    Args:
        corpus: the products, their category paths and embeddings [N, D].
        config: shape of the network.
        weights: terms of the loss.
        training: optimizer, batches, steps and plateau.
        directory: where the checkpoints go, from which an interrupted training goes on.
        seed: seed of everything random.
    """
    embeddings = np.asarray(corpus.embeddings)
    _check_spread(embeddings)
    width = embeddings.shape[1]
    standardization = (
        fit_standardization(embeddings) if config.standardize else no_standardization(width)
    )
    categories = training_categories(config, corpus.catalog.paths, seed)
    weights = acting(weights, categories, corpus.queries)
    data = _data(corpus, config, weights, standardization, categories, seed)

    model = RQVAE(config, width)
    held_out = held_out_rows(len(embeddings), config.held_out, seed)
    rows = np.setdiff1d(np.arange(len(embeddings)), held_out)
    sampler = EpochSampler(len(rows), training.batch_of(len(rows)), seed, jax.device_count())
    optimizer = make_optimizer(training, training.total_steps(sampler.steps_per_epoch))
    params = model.init(jax.random.key(seed), jnp.zeros((1, width)))["params"]
    best = training.best_metric, training.best_mode, training.best_margin
    with Checkpoints(directory, *best) as checkpoints:
        if checkpoints.latest_step is None:
            params = _start(model, params, data.embeddings, seed)
        reseed = None
        if config.reseed_dead_codes:
            reseed = make_reseeding_hook(model, optimizer, data.embeddings, seed)
        train(
            make_rqvae_step(model, optimizer, weights, seed),
            TrainState(jnp.int32(0), params, optimizer.init(params), standardization),
            data.batch(rows),
            sampler,
            training,
            checkpoints,
            "training the RQ-VAE",
            make_rqvae_evaluator(model, data, weights, seed, held_out),
            after_evaluation=reseed,
            document_ids=lambda batch: [corpus.catalog.ids[row] for row in rows[batch]],
        )


def _data(
    corpus: Corpus,
    config: RQVAEConfig,
    weights: LossWeights,
    standardization: Standardization,
    categories: np.ndarray,
    seed: int,
) -> RQVAEData:
    """What the terms that act need to know of each product."""
    queries = searched = collaborative = related = None
    if weights.query_alignment:
        means, searched = query_means(corpus)
        queries = standardization(means)
    if weights.collaborative:
        collaborative, related = co_relevance(corpus, config.latent_dim, seed)
    embeddings = standardization(np.asarray(corpus.embeddings))
    return RQVAEData(embeddings, categories, queries, searched, collaborative, related)


def _start(model: RQVAE, params: dict, embeddings: np.ndarray, seed: int) -> dict:
    """The parameters with which training starts, from random ones, as the configuration says."""
    if model.config.linear_path == "pca":
        params = start_at_principal_components(params, embeddings)
    if model.config.codebook_start == "kmeans":
        console.print("k-means initialisation of the codebooks over the whole corpus ...")
        latents = corpus_latents(model, params, embeddings)
        params = initialize_codebooks(params, latents, jax.random.key(seed + 1))
    return params


def _check_spread(embeddings: np.ndarray) -> None:
    """Raises InputError for embeddings that tell no product from another."""
    if len(embeddings) > 1 and (embeddings == embeddings[:1]).all():
        raise InputError(
            "embeddings", f"{len(embeddings):,} equal rows", "vectors that tell products apart"
        )


def acting(weights: LossWeights, categories: np.ndarray, queries: QuerySet | None) -> LossWeights:
    """The weights without those of terms that have nothing to act on, which it says.

    Args:
        weights: as configured.
        categories: category ids, [N, H].
        queries: the training queries, if there are any.
    """
    off: dict[str, Any] = {}
    told_apart = [bool(np.unique(level[level >= 0]).size > 1) for level in categories.T]
    if weights.hierarchical_class and not any(told_apart):
        if categories.shape[1]:
            console.print("no two products have different categories: L_HCC is off")
        off["hierarchical_class"] = 0.0
    elif weights.hierarchical_class and not all(told_apart):
        kept = ", ".join(str(level) for level, there in enumerate(told_apart, 1) if there)
        console.print(f"the categories tell products apart at level {kept} only: so does L_HCC")
    if weights.query_alignment and (queries is None or queries.vectors is None):
        console.print("no vectors of training queries: the codes learn from the products alone")
        off["query_alignment"] = 0.0
    if weights.collaborative and (queries is None or len(queries.qrels) < 2):
        count = len(queries.qrels) if queries else 0
        console.print(
            f"the products of {count} training queries tell no two apart: the "
            "collaborative term is off"
        )
        off["collaborative"] = 0.0
    return dataclasses.replace(weights, **off)


def held_out_rows(documents: int, share: float, seed: int) -> np.ndarray:
    """Draws the rows of the documents that are not trained on, in rising order."""
    count = min(max(round(share * documents), int(share > 0)), 4096, documents - 1)
    generator = np.random.default_rng([seed, 11])
    return np.sort(generator.choice(documents, count, replace=False))


def training_categories(config: RQVAEConfig, paths: list[tuple[str, ...]], seed: int) -> np.ndarray:
    """Category ids [N, H] as L_HCC sees them, -1 where there is none or it is masked."""
    levels, share = config.category_levels, config.masked_categories
    categories = category_ids(paths, max(levels, 1), config.category_identity)[:, :levels]
    if share:
        generator = np.random.default_rng([seed, 5])
        nodes = np.unique(categories[:, -1])
        masked = generator.choice(nodes, round(share * len(nodes)), replace=False)
        categories[np.isin(categories[:, -1], masked), -1] = -1
    return categories


def load_rqvae(
    config: RQVAEConfig,
    training: TrainingConfig,
    width: int,
    directory: pathlib.Path,
    which: Which = "last",
) -> tuple[RQVAE, TrainState]:
    """The network and its trained state, for embeddings of this width.

    Raises:
        InputError: there is no such checkpoint, or it is of another network.
    """
    model = RQVAE(config, width)
    optimizer = make_optimizer(training, 1)

    def template() -> TrainState:
        params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
        constants = Standardization(jnp.zeros(width), jnp.zeros(width))
        return TrainState(jnp.int32(0), params, optimizer.init(params), constants)

    with Checkpoints(directory, read_only=True) as checkpoints:
        return model, checkpoints.restore(jax.eval_shape(template), which)
