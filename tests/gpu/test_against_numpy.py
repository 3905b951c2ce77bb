"""Both training steps and the search, as the device computes them, beside NumPy in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.trie import build_trie
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.models.t5.config import T5Config
from catid2_jax.schemes.rqvae.step import RQVAEData, make_rqvae_step
from catid2_jax.seq2seq.config import Seq2SeqObjective
from catid2_jax.seq2seq.decoder import T5Decoder
from catid2_jax.seq2seq.step import Seq2SeqData, make_seq2seq_step
from catid2_jax.training.loop import TrainState
from tests.plain import plain_rqvae, plain_weights
from tests.reference import losses, t5

pytestmark = pytest.mark.gpu

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def in_float64(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def losses_of_two_steps(step, params, optimizer, batch):
    """The loss and the parameters before each of two steps."""
    state, found = TrainState(jnp.int32(0), params, optimizer.init(params)), []
    for _ in range(2):
        before = in_float64(state.params)
        state, metrics = step(state, batch)
        found.append((float(metrics["loss"]), before))
    return found


LEVELS, CATEGORY_LEVELS = 3, 2
WEIGHTS = plain_weights(
    reconstruction=0.5, dispersion=0.3, hierarchical_class=0.2, cluster_scale=0.7, commitment=0.4
)


def perceptron(params, x):
    for i in range(len(params)):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if i + 1 < len(params) else x
    return x


def equation_8(params, x, categories):
    """The loss of a batch, the network written out."""
    residual, residuals, selected, loss = perceptron(params["encoder"], x), [], [], 0.0
    for codebook in params["quantizer"]["codebooks"]:
        chances = losses.code_probabilities(residual, codebook)
        loss += WEIGHTS.cluster_scale * losses.cluster_scale(chances)
        residuals.append(residual)
        selected.append(codebook[chances.argmax(axis=1)])
        residual = residual - selected[-1]
    made = perceptron(params["decoder"], sum(selected))
    stacked = np.stack(residuals, axis=1), np.stack(selected, axis=1)
    loss += losses.residual_quantization(*stacked, WEIGHTS.commitment)
    loss += WEIGHTS.reconstruction * losses.reconstruction(x, made)
    loss += WEIGHTS.dispersion * losses.dispersion(made, x, WEIGHTS.temperature)
    for level in range(CATEGORY_LEVELS):
        loss += WEIGHTS.hierarchical_class * losses.hierarchical_class(
            residuals[level], categories, level, WEIGHTS.temperature, WEIGHTS.negatives
        )
    return loss


def test_a_step_of_stage_1(case):
    full, dtype = case
    documents, width, codes, latent = (256, 768, 256, 64) if full else (12, 8, 6, 4)
    shape = plain_rqvae(
        levels=LEVELS,
        codebook_size=codes,
        category_levels=CATEGORY_LEVELS,
        latent_dim=latent,
        hidden_dims=(512, 128) if full else (12,),
        dtype=dtype,
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(documents, width)).astype(np.float32)
    numbers = np.arange(documents)
    categories = np.stack([numbers % 2, numbers % 4], axis=1).astype(np.int32)
    model, optimizer = RQVAE(shape, width), optax.sgd(0.05)
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    books = generator.normal(size=(LEVELS, codes, latent)).astype(np.float32)
    params = {**params, "quantizer": {"codebooks": jnp.asarray(books)}}
    step = jax.jit(make_rqvae_step(model, optimizer, WEIGHTS))
    found = losses_of_two_steps(step, params, optimizer, RQVAEData(x, categories))
    for loss, before in found:
        expected = equation_8(before, x.astype(np.float64), categories)
        assert loss == pytest.approx(expected, rel=TOLERANCE[dtype])
    assert found[1][0] < found[0][0]


def test_a_step_of_stage_2(case):
    full, dtype = case
    heads, width, rows = (8, 64, 1024) if full else (2, 8, 40)
    shape = T5Config(
        emb_dim=heads * width,
        num_heads=heads,
        head_dim=width,
        mlp_dim=2 * heads * width,
        num_encoder_layers=1 + full,
        num_decoder_layers=1 + full,
        dtype=dtype,
    )
    first, codes = rows // 2, rows // 8
    decoder = T5Decoder(shape, rows, first_id_token=first, levels=3, codebook_size=codes)
    generator, length = np.random.default_rng(0), 24 if full else 4
    sources = generator.integers(2, first, (4, length)).astype(np.int32)
    sources[1, length // 2 :] = 0
    targets = (first + codes * np.arange(3) + generator.integers(codes, size=(4, 3))).astype(int)
    weight, pairs = np.array([1.0, 0.5, 2.0, 1.0], np.float32), np.arange(4)
    data = Seq2SeqData(sources, targets.astype(np.int32), pairs, pairs, weight)
    optimizer = optax.sgd(0.05)
    source = jax.ShapeDtypeStruct((length,), jnp.int32)
    params = jax.jit(decoder.initialize, static_argnums=1)(jax.random.key(0), source)
    objective = Seq2SeqObjective(normalize_over="full")
    step = jax.jit(make_seq2seq_step(decoder, optimizer, objective, seed=0))
    found = losses_of_two_steps(step, params, optimizer, data.batch(pairs))
    buckets = shape.relative_attention_num_buckets, shape.relative_attention_max_distance
    for loss, before in found:
        logits = [
            t5.logits(before, source[source > 0], np.array([0, *target[:-1]]), heads, *buckets)
            for source, target in zip(sources, targets, strict=True)
        ]
        expected = losses.sequence(logits, targets, weight)
        assert loss == pytest.approx(expected, rel=TOLERANCE[dtype])
    assert found[1][0] < found[0][0]


@dataclasses.dataclass
class LinearScores:
    """log p of a level's codes: a softmax of W^l (query + the vectors of the codes before)."""

    queries: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray

    def step(self, dtype):
        vectors, weights = jnp.asarray(self.vectors), jnp.asarray(self.weights, dtype)

        def step(level, codes, states):
            states = states if codes is None else states + vectors[level - 1][codes]
            product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
            return jax.nn.log_softmax(product(states.astype(dtype), weights[level])), states

        return step

    def brute_force(self, ids):
        """The scores of all documents, [queries, documents]."""
        found = []
        for query in self.queries.astype(np.float64):
            states, total = np.broadcast_to(query, (len(ids), len(query))), np.zeros(len(ids))
            for level, codes in enumerate(ids.T):
                logits = states @ self.weights[level].astype(np.float64)
                logits -= logits.max(axis=1, keepdims=True)
                chosen = np.take_along_axis(logits, codes[:, None], axis=1)[:, 0]
                total += chosen - np.log(np.exp(logits).sum(axis=1))
                states = states + self.vectors[level][codes]
            found.append(total)
        return np.array(found)


def test_the_search_finds_what_a_brute_force_over_all_documents_finds(case):
    full, dtype = case
    queries, prefixes, children, codes, width = (
        (8, 700, 30, 256, 128) if full else (3, 40, 6, 8, 16)
    )
    generator = np.random.default_rng(0)
    pairs = np.unique(generator.integers(codes, size=(prefixes, 2)), axis=0)
    ids = np.array(
        [(*pair, c) for pair in pairs for c in generator.choice(codes, children, replace=False)],
        np.int32,
    )
    spread = 2 / np.sqrt(width)
    scores = LinearScores(
        *(
            generator.normal(scale=scale, size=size).astype(np.float32)
            for size, scale in (
                ((queries, width), 1),
                ((3, codes, width), 1),
                ((3, width, codes), spread),
            )
        )
    )
    beams, k = (512, 10) if full else (24, 5)
    states = jnp.asarray(scores.queries)[:, None]
    search = jax.jit(functools.partial(beam_search, scores.step(dtype)), static_argnums=(2, 3, 4))
    found = search(states, build_trie(ids, codes), queries, beams, k)
    expected = scores.brute_force(ids)
    own = np.take_along_axis(expected, np.asarray(found.documents), axis=1)
    near = TOLERANCE[dtype] * np.abs(own).max()
    np.testing.assert_allclose(found.scores, own, atol=near, rtol=0)
    assert found.exact.any()
    for row in np.flatnonzero(found.exact):
        best = -np.sort(-expected[row])[:k]
        np.testing.assert_allclose(-np.sort(-own[row]), best, atol=near, rtol=0)
