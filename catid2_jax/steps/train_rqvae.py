"""Step 3: stage 1, DocID learning (Eq. 8)."""

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.category_tree import category_ids
from catid2_jax.docids.collisions import check_room
from catid2_jax.schemes.rqvae.standardization import (
    Standardization,
    fit_standardization,
    no_standardization,
)
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints, Which
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, make_rqvae_evaluator
from catid2_jax.schemes.rqvae.step import RQVAEData, initialize_codebooks, make_rqvae_step
from catid2_jax.training.sampler import EpochSampler


def run(config: Config, workdir: Workdir) -> None:
    """Trains the RQ-VAE to its last epoch; the checkpoint holds the standardisation too."""
    embeddings = np.load(workdir.embeddings, allow_pickle=False)
    check_room(len(embeddings), config.rqvae.levels, config.rqvae.codebook_size)
    standardization = (
        fit_standardization(embeddings)
        if config.embedding.standardize
        else no_standardization(embeddings.shape[1])
    )
    paths = [product.categories for product in read_catalog(workdir.data / "catalog.jsonl")]
    categories = training_categories(config, paths)
    data = RQVAEData(standardization(embeddings), categories)

    model = RQVAE(config.rqvae, embeddings.shape[1])
    training = config.rqvae_training
    sampler = EpochSampler(len(embeddings), training.batch_size, config.seed, jax.device_count())
    optimizer = make_optimizer(training, training.epochs * sampler.steps_per_epoch)
    params = model.init(jax.random.key(config.seed), jnp.zeros((1, embeddings.shape[1])))["params"]
    with Checkpoints(
        workdir.checkpoints("rqvae"), training.best_metric, training.best_mode
    ) as checkpoints:
        if checkpoints.latest_step is None and config.rqvae.codebook_start == "kmeans":
            console.print("k-means initialisation of the codebooks over the whole corpus ...")
            latents = corpus_latents(model, params, data.embeddings)
            params = initialize_codebooks(params, latents, jax.random.key(config.seed + 1))
        state = TrainState(jnp.int32(0), params, optimizer.init(params), standardization)
        step = make_rqvae_step(model, optimizer, config.loss_weights, config.seed)
        evaluator = make_rqvae_evaluator(
            model, optimizer, data, config.rqvae.reseed_dead_codes, config.seed
        )
        train(step, state, data, sampler, training, checkpoints, "training the RQ-VAE", evaluator)


def training_categories(config: Config, paths: list[tuple[str, ...]]) -> np.ndarray:
    """Category ids [N, H] as L_HCC sees them."""
    levels, share = config.rqvae.category_levels, config.rqvae.masked_categories
    categories = category_ids(paths, max(levels, 1), config.rqvae.category_identity)[:, :levels]
    if share:
        generator = np.random.default_rng([config.seed, 5])
        nodes = np.unique(categories[:, -1])
        masked = generator.choice(nodes, round(share * len(nodes)), replace=False)
        categories[np.isin(categories[:, -1], masked), -1] = -1
    return categories


def load_trained(
    config: Config, workdir: Workdir, width: int, which: Which = "last"
) -> tuple[RQVAE, TrainState]:
    """The model of stage 1 and its trained state, for embeddings of this width."""
    model = RQVAE(config.rqvae, width)
    optimizer = make_optimizer(config.rqvae_training, 1)

    def template() -> TrainState:
        params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
        constants = Standardization(jnp.zeros(width), jnp.zeros(width))
        return TrainState(jnp.int32(0), params, optimizer.init(params), constants)

    with Checkpoints(workdir.checkpoints("rqvae")) as checkpoints:
        return model, checkpoints.restore(jax.eval_shape(template), which)
