"""DPR's two towers: networks for queries and for products whose vectors are near where they match.

A tower is the encoder of stage 2 (T5's over tokens or over a vector, or a pretrained BERT) and the
mean of its states. Both start from the same parameters and go their own ways.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import Corpus, QuerySet
from catid2_jax.errors import InputError
from catid2_jax.losses import dual_encoder_loss
from catid2_jax.models.t5.network import Transformer
from catid2_jax.models.t5.sharding import partition_specs
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.ops.similarity import normalize
from catid2_jax.progress import console
from catid2_jax.retrievers.bm25 import BM25Index
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import Metrics, StepFunction, TrainState, train
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.training.sharding import data_mesh

TOWERS = "towers"
"""Name of the folder of the towers' checkpoints."""

QUERY, PRODUCT = "query", "product"
"""Names of the towers in the parameters."""

_ROWS = 256  # of a batch that is encoded after training
_MOST_RELEVANT = 128  # of a query's products that are known when others' are its negatives


@dataclasses.dataclass(frozen=True)
class Tower:
    """A network from a source to a unit vector.

    Attributes:
        network: stage 2's, of which the encoder is used.
    """

    network: Transformer

    def initialize(self, key: jax.Array, form: jax.ShapeDtypeStruct) -> Any:
        """Random parameters for sources of this form (without the batch)."""
        example = jnp.zeros((1, *form.shape), form.dtype)
        mask = self.network.source_mask(example)
        return self.network.init(key, example, mask, method="encode")["params"]

    def encode(
        self, params: Any, sources: jax.Array, key: jax.Array | None = None
    ) -> Float[Array, "B E"]:
        """The mean of the states of what is not padding, of unit norm.

        Args:
            params: the parameters.
            sources: tokens or vectors.
            key: key of the dropout; None for none.
        """
        mask = self.network.source_mask(sources)
        states: Any = self.network.apply(
            {"params": params},
            sources,
            mask,
            deterministic=key is None,
            rngs={} if key is None else {"dropout": key},
            method="encode",
        )
        return normalize(jnp.sum(jnp.where(mask[:, :, None], states, 0.0), axis=1))


@flax.struct.dataclass
class TowerData:
    """Queries, each with a relevant product and one that is not; on the host or on devices.

    Attributes:
        queries: sources of the queries, [Q, ...].
        products: sources of the products, [N, ...].
        query: row of `queries` for each pair, int [P].
        positive: row of the relevant product, int [P].
        negative: row of a mined product that is not relevant, int [P].
        relevant: rows of the relevant products of each query, int [Q, R]; -1 where there are fewer.
    """

    queries: Any
    products: Any
    query: Any
    positive: Any
    negative: Any
    relevant: Any

    def batch(self, indices: Any) -> "TowerBatch":
        """The pairs of `indices`."""
        query, positive, negative = (a[indices] for a in (self.query, self.positive, self.negative))
        return TowerBatch(
            self.queries[query],
            self.products[positive],
            self.products[negative],
            positive,
            negative,
            self.relevant[query],
        )


@flax.struct.dataclass
class TowerBatch:
    """Pairs as the towers see them.

    Attributes:
        queries: sources [B, ...].
        positives: sources of the relevant products, [B, ...].
        negatives: sources of the mined ones, [B, ...].
        positive: their rows, int [B].
        negative: their rows, int [B].
        relevant: rows of the products that are relevant to each query, int [B, R], or -1.
    """

    queries: Any
    positives: Any
    negatives: Any
    positive: Any
    negative: Any
    relevant: Any


def make_tower_step(
    tower: Tower, optimizer: optax.GradientTransformation, temperature: float, seed: int
) -> StepFunction:
    """The step of the towers for the training loop, over batches of `TowerData`.

    The negatives of a query are all other products of the batch, the mined ones too, but those that
    are relevant to it.

    Args:
        tower: the network of both.
        optimizer: the optimizer of their parameters.
        temperature: divides the cosines.
        seed: seed of the dropout; each step derives its own keys.
    """

    def loss_function(params: dict, batch: TowerBatch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        query_key, product_key = jax.random.split(key)
        queries = tower.encode(params[QUERY], batch.queries, query_key)
        both = jnp.concatenate([batch.positives, batch.negatives])
        products = tower.encode(params[PRODUCT], both, product_key)
        rows = jnp.concatenate([batch.positive, batch.negative])
        known = (batch.relevant[:, :, None] == rows[None, None, :]).any(axis=1)
        own = jnp.arange(len(rows))[None] == jnp.arange(len(queries))[:, None]
        loss, first = dual_encoder_loss(queries, products, known & ~own, temperature)
        return loss, {"loss": loss, "first": first}

    gradient = jax.grad(loss_function, has_aux=True)

    def step(state: TrainState, batch: TowerBatch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradients, metrics = gradient(state.params, batch, key)
        return state.descend(gradients, optimizer), metrics

    return step


def product_texts(corpus: Corpus) -> list[str]:
    """What a tower of text reads of the products: title, text and categories."""
    return [product_text(product, with_categories=True) for product in corpus.catalog]


def mine_negatives(corpus: Corpus, queries: QuerySet, count: int, seed: int) -> list[list[int]]:
    """The products that BM25 finds for each query though they are not relevant to it.

    Args:
        corpus: the products.
        queries: the training queries and their relevant products.
        count: products per query, best first.
        seed: draws the one product of a query for which BM25 finds none.
    """
    rows, random = corpus.catalog.rows, np.random.default_rng(seed)
    relevant = [{rows[product] for product in queries.qrels.get(q, ())} for q in queries.ids]
    index = BM25Index(product_texts(corpus), "products")
    most = max(map(len, relevant), default=0)
    found, _ = index.search(queries.texts, count + most)
    mined = []
    for known, ranked in zip(relevant, found.tolist(), strict=True):
        kept = [row for row in ranked if row >= 0 and row not in known][:count]
        others = [row for row in range(len(corpus)) if row not in known] if not kept else []
        mined.append(kept or [int(random.choice(others))] if others or kept else [])
    return mined


def make_tower_data(
    corpus: Corpus,
    queries: QuerySet,
    sources: np.ndarray,
    products: np.ndarray,
    mined: Sequence[Sequence[int]],
) -> TowerData:
    """The pairs of all queries; a query's pairs take its mined products in turn.

    Args:
        corpus: the products.
        queries: the training queries and their relevant products.
        sources: of the queries, [Q, ...].
        products: sources of the products, [N, ...].
        mined: rows of products that are not relevant to each query.

    Raises:
        InputError: no query has both a product that is relevant and one that is not.
    """
    rows = corpus.catalog.rows
    judged = [[rows[product] for product in queries.qrels.get(q, ())] for q in queries.ids]
    most = min(max(map(len, judged), default=0), _MOST_RELEVANT)
    relevant = np.full((len(judged), most), -1, np.int32)
    pairs = []
    for query, (found, others) in enumerate(zip(judged, mined, strict=True)):
        relevant[query, : min(len(found), most)] = found[:most]
        pairs += [(query, row, others[n % len(others)]) for n, row in enumerate(found) if others]
    if not pairs:
        raise InputError("queries", "none with a product and another", "a training query with both")
    query, positive, negative = np.array(pairs, np.int32).T.copy()
    return TowerData(sources, products, query, positive, negative, relevant)


def train_towers(
    tower: Tower,
    data: TowerData,
    training: TrainingConfig,
    temperature: float,
    directory: pathlib.Path,
    seed: int,
    starting_params: Callable[[], Any],
    corpus: Corpus,
) -> Any:
    """Trains both towers to the last step, and returns their parameters.

    Args:
        tower: the network of both.
        data: the pairs.
        training: optimizer, batches and epochs; there is no evaluation, the last state is the one.
        temperature: divides the cosines.
        directory: where the checkpoints go, from which an interrupted training goes on.
        seed: seed of everything random.
        starting_params: makes the parameters of one tower, from which both start.
        corpus: the products.
    """
    training = dataclasses.replace(training, best_metric="", patience=0)
    mesh = data_mesh()
    pairs = len(data.query)
    console.print(f"{pairs:,} pairs of {len(data.queries):,} queries, each with a mined negative")
    sampler = EpochSampler(pairs, training.batch_of(pairs), seed, mesh.shape[DATA_AXIS])
    steps = training.total_steps(sampler.steps_per_epoch)
    optimizer = make_optimizer(training, steps)
    with Checkpoints(directory) as checkpoints:
        state = initial_state(starting_params(), optimizer)
        state = train(
            make_tower_step(tower, optimizer, temperature, seed),
            state,
            data,
            sampler,
            training,
            checkpoints,
            "training the towers",
            mesh=mesh,
            specs=partition_specs(state),
            document_ids=lambda chosen: [corpus.catalog.ids[r] for r in data.positive[chosen]],
        )
    return jax.device_get(state.params)


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step: both towers have the same parameters."""
    both = {QUERY: params, PRODUCT: jax.tree.map(jnp.copy, params)}
    return TrainState(jnp.int32(0), both, optimizer.init(both))


def load_towers(
    tower: Tower, form: jax.ShapeDtypeStruct, training: TrainingConfig, directory: pathlib.Path
) -> Any:
    """The trained parameters of both towers.

    Raises:
        InputError: there are none, or they are of another network.
    """
    optimizer = make_optimizer(training, 1)

    def template() -> TrainState:
        return initial_state(tower.initialize(jax.random.key(0), form), optimizer)

    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.restore(jax.eval_shape(template), "last").params


def encode_all(tower: Tower, params: Any, sources: np.ndarray) -> np.ndarray:
    """Vectors of sources of any number, float32 [len(sources), E], on one device."""
    encode = jax.jit(tower.encode)
    params = jax.device_put(params, jax.local_devices()[0])
    found = []
    for start in range(0, len(sources), _ROWS):
        rows = np.minimum(np.arange(start, start + _ROWS), len(sources) - 1)  # one shape
        found.append(np.asarray(encode(params, jnp.asarray(sources[rows])))[: len(sources) - start])
    return np.concatenate(found).astype(np.float32)
