import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.decoding.generate import retrieve
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from tests.reference import beam_search as reference

FIRST, K, L, N = 17, 6, 3, 60
MODEL = Transformer(
    T5Config(
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=1,
        num_decoder_layers=1,
    ),
    vocabulary_size=40,
)


@pytest.fixture(scope="module")
def setting():
    """Parameters, two queries (one padded) and 60 of the 216 possible IDs."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(1, FIRST, (2, 7)), jnp.int32)
    mask = jnp.arange(7)[None, :] < jnp.array([[7], [4]])
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), tokens, mask, tokens)["params"]
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), jnp.float32), shapes
    )
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    return params, tokens, mask, rng.permutation(every)[:N]


@pytest.fixture(scope="module")
def log_probabilities(setting):
    """Of each ID's tokens given those before, teacher-forced, whole vocabulary: [2, N, L]."""
    params, tokens, mask, rows = setting
    ids = rows + FIRST + K * np.arange(L)
    inputs = np.pad(ids, ((0, 0), (1, 0)))[:, :L]  # token 0 first
    forward = jax.jit(functools.partial(MODEL.apply, {"params": params}))
    result = []
    for query in range(2):
        logits = forward(
            jnp.repeat(tokens[query : query + 1], N, axis=0),
            jnp.repeat(mask[query : query + 1], N, axis=0),
            jnp.asarray(inputs, jnp.int32),
        )
        full = log_softmax(np.asarray(logits, np.float64), axis=-1)
        result.append(np.take_along_axis(full, ids[:, :, None], axis=-1)[:, :, 0])
    return np.stack(result)


def search(setting, beams, first=FIRST):
    params, tokens, mask, rows = setting
    run = jax.jit(retrieve, static_argnames=("model", "first_id_token", "beams"))
    return run(MODEL, params, tokens, mask, build_trie(rows, K), first, beams)


def test_full_beams_give_every_document_its_log_probability(setting, log_probabilities):
    found = search(setting, N)
    scores = log_probabilities.sum(-1)
    assert found.documents.shape == (2, N)
    for query in range(2):
        assert sorted(found.documents[query].tolist()) == list(range(N))
        np.testing.assert_allclose(
            found.scores[query], scores[query][found.documents[query]], atol=1e-4
        )
        np.testing.assert_allclose(found.scores[query], np.sort(scores[query])[::-1], atol=1e-4)


def test_fewer_beams_give_the_beam_search_of_the_teacher_forced_model(setting, log_probabilities):
    rows = setting[3].tolist()
    found = search(setting, 5)
    for query in range(2):
        by_prefix = {
            tuple(row[: level + 1]): log_probabilities[query, n, level]
            for n, row in enumerate(rows)
            for level in range(L)
        }
        expected = reference.beam_search(
            rows, lambda prefix, code, table=by_prefix: table[(*prefix, code)], 5
        )
        assert found.documents[query].tolist() == [row for row, _ in expected]
        np.testing.assert_allclose(found.scores[query], [s for _, s in expected], atol=1e-4)


def test_a_vocabulary_without_room_for_the_ids_is_refused(setting):
    # 23 + 3 x 6 = 41 rows are needed, 22 + 18 = 40 are there.
    jax.make_jaxpr(lambda: search(setting, 1, first=22))()
    with pytest.raises(InputError, match="has 40 rows, expected at least 41 for 3 levels of 6"):
        search(setting, 1, first=23)
