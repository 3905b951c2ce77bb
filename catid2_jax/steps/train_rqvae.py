"""Step 3: stage 1, DocID learning (Eq. 8)."""

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.catalog import read_catalog
from catid2_jax.data.category_tree import category_ids
from catid2_jax.docids.collisions import check_room
from catid2_jax.embedding.standardization import (
    Standardization,
    fit_standardization,
    no_standardization,
)
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState, train
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.training.rqvae_step import (
    RQVAEData,
    in_batches,
    initialize_codebooks,
    make_rqvae_step,
)
from catid2_jax.training.sampler import EpochSampler


def run(config: Config, workdir: Workdir) -> None:
    """Trains the RQ-VAE to its last epoch; the checkpoint holds the standardisation too."""
    embeddings = np.load(workdir.embeddings, allow_pickle=False)
    check_room(len(embeddings), config.rqvae.levels, config.rqvae.codes)
    standardization = (
        fit_standardization(embeddings)
        if config.embedding.standardize
        else no_standardization(embeddings.shape[1])
    )
    levels = config.rqvae.category_levels
    paths = [product.categories for product in read_catalog(workdir.data / "catalog.jsonl")]
    data = RQVAEData(standardization(embeddings), category_ids(paths, max(levels, 1))[:, :levels])

    model = RQVAE(config.rqvae, embeddings.shape[1])
    training = config.rqvae_training
    sampler = EpochSampler(len(embeddings), training.batch_size, config.seed)
    optimizer = make_optimizer(training, training.epochs * sampler.steps_per_epoch)
    params = model.init(jax.random.key(config.seed), jnp.zeros((1, embeddings.shape[1])))["params"]
    with Checkpoints(workdir.checkpoints("rqvae")) as checkpoints:
        if checkpoints.latest_step is None:
            console.print("k-means initialisation of the codebooks over the whole corpus ...")
            latents = encode(model, params, data.embeddings)
            key = jax.random.key(config.seed + 1)
            params = initialize_codebooks(params, jnp.asarray(latents), key)
        state = TrainState(jnp.int32(0), params, optimizer.init(params), standardization)
        step = make_rqvae_step(model, optimizer, config.loss_weights)
        train(step, state, data, sampler, training, checkpoints, "training the RQ-VAE")


def encode(model: RQVAE, params: dict, embeddings: np.ndarray | jax.Array) -> np.ndarray:
    """Latents [N, Z] of standardised embeddings [N, D]."""
    function = jax.jit(lambda batch: model.apply({"params": params}, batch, method=RQVAE.encode))
    return in_batches(function, np.asarray(embeddings))


def load_trained(config: Config, workdir: Workdir, width: int) -> tuple[RQVAE, TrainState]:
    """The model of stage 1 and its trained state, for embeddings of this width."""
    model = RQVAE(config.rqvae, width)
    optimizer = make_optimizer(config.rqvae_training, 1)

    def template() -> TrainState:
        params = model.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
        constants = Standardization(jnp.zeros(width), jnp.zeros(width))
        return TrainState(jnp.int32(0), params, optimizer.init(params), constants)

    with Checkpoints(workdir.checkpoints("rqvae")) as checkpoints:
        return model, checkpoints.restore_latest(jax.eval_shape(template))
