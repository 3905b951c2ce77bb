"""When the search says that a result is exact, a brute force over all documents agrees.

The model is a hash of the path and of the model's number. Its log-probabilities are multiples of
1/16 down to -64, so that sums are without rounding and scores can be compared for equality.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import SearchResult, beam_search, widen_until_exact
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError

MODELS, DOCUMENTS, K, L = 125, 2000, 16, 4


def mixed(state, code, lib):
    """A new state from a state and a code (murmur3's last steps), in 32 bits."""
    state = state ^ ((code + lib.uint32(1)) * lib.uint32(0x9E3779B1))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ (state >> lib.uint32(shift))) * lib.uint32(factor)
    return state ^ (state >> lib.uint32(16))


def log_probability(state, kind, lib):
    """0 to -64; how they spread depends on the kind of model, 0 to 3."""
    steps = state & lib.uint32(1023)
    # Squares are mostly near 0; coarse steps make equal scores common.
    steps = lib.where(kind & 1, steps * steps >> lib.uint32(10), steps)
    steps = lib.where(kind & 2, steps & lib.uint32(0x380), steps)
    return -steps.astype("float32") / np.float32(16)


def model_states(first):
    numbers = np.arange(first, first + MODELS, dtype=np.uint32)
    return mixed(numbers, np.full(1, 12345, "uint32"), np)[:, None], (numbers % 4)[:, None]


def brute_force(rows, states, kinds):
    """Scores of every document, [models, documents]."""
    total = np.zeros((MODELS, len(rows)), np.float32)
    path = np.broadcast_to(states, total.shape)
    for codes in rows.T.astype(np.uint32):
        path = mixed(path, codes[None], np)
        total += log_probability(path, kinds, np)
    return total


@functools.partial(jax.jit, static_argnames=("beams", "k"))
def search(states, kinds, trie, beams, k, mask=None):
    def step(level, codes, path):
        if codes is not None:
            path = mixed(path, codes.astype("uint32"), jnp)
        following = mixed(path[:, :, None], jnp.arange(K, dtype="uint32")[None, None], jnp)
        return log_probability(following, kinds[:, :, None], jnp), path

    return beam_search(step, states, trie, len(states), beams, k, mask)


def catalogue(seed):
    """Skewed codes, so that branches differ: 2,000 of the 65,536 IDs."""
    rng = np.random.default_rng(seed)
    rows = (K * rng.random((8 * DOCUMENTS, L)) ** rng.uniform(1, 3)).astype(int)
    return rng.permutation(np.unique(rows, axis=0))[:DOCUMENTS]


@pytest.mark.parametrize(("beams", "k"), [(8, 1), (32, 10)])
def test_what_is_called_exact_is(beams, k):
    proven = wrong = ties = 0
    for seed in range(4):  # x 125 models x 2 settings = 1,000 cases
        rows, allowed = catalogue(seed), None
        states, kinds = model_states(seed * MODELS)
        trie, scores = build_trie(rows, K), brute_force(rows, states, kinds)
        if seed % 2:  # a filter per request, of 1 % to all of the documents
            rng = np.random.default_rng(seed)
            allowed = rng.random(scores.shape) < 10 ** rng.uniform(-2, 0, (MODELS, 1))
            scores[~allowed] = -np.inf
        mask = None if allowed is None else trie.mask(allowed)
        found = jax.tree.map(
            np.asarray, search(jnp.asarray(states), jnp.asarray(kinds), trie, beams, k, mask)
        )
        best = -np.sort(-scores, axis=1)[:, :k]
        assert found.documents.min() >= 0
        assert all(len(set(row)) == k for row in found.documents.tolist())
        np.testing.assert_array_equal(
            found.scores, np.take_along_axis(scores, found.documents, axis=1)
        )
        correct = (found.scores == best).all(axis=1)
        assert correct[found.exact].all()
        # Whatever may be found and was not is below the bound or below what was.
        rest = scores.copy()
        np.put_along_axis(rest, found.documents, -np.inf, axis=1)
        assert (rest.max(axis=1) <= np.maximum(found.bound, found.scores[:, -1])).all()
        proven += found.exact.sum()
        wrong += (~correct).sum()
        ties += (found.exact & (found.scores[:, -1] == found.bound)).sum()
    # There were many of each kind: the claim could have failed.
    assert min(proven, wrong, ties) > 50


def searcher(rows, states, kinds, calls):
    """A search for one result that notes queries, beams and what was proven."""
    trie = build_trie(rows, K)

    def run(queries, beams):
        found = search(jnp.asarray(states[queries]), jnp.asarray(kinds[queries]), trie, beams, 1)
        calls.append((queries, beams, np.asarray(found.exact)))
        return found

    return run


def test_widening_proves_every_query_and_repeats_only_the_others():
    rows, calls = catalogue(0), []
    states, kinds = model_states(0)
    found = widen_until_exact(searcher(rows, states, kinds, calls), MODELS, 50, 16, 96)
    assert isinstance(found, SearchResult)
    assert found.exact.all()
    scores = brute_force(rows, states, kinds)
    np.testing.assert_array_equal(found.scores[:, 0], scores.max(axis=1))
    np.testing.assert_array_equal(
        scores[np.arange(MODELS), found.documents[:, 0]], found.scores[:, 0]
    )
    pending = set(range(MODELS))
    for beams in (16, 32, 64, 96):
        batches = [(queries, exact) for queries, width, exact in calls if width == beams]
        assert [len(queries) for queries, _ in batches] == [50] * -(-len(pending) // 50)
        assert {query for queries, _ in batches for query in queries.tolist()} == pending
        for queries, exact in batches:
            pending -= set(queries[exact].tolist())
    assert pending == set()


def test_widening_keeps_to_its_budget():
    rows, calls = catalogue(0), []
    states, kinds = model_states(0)
    run = searcher(rows, states, kinds, calls)
    once = widen_until_exact(run, MODELS, 50, 8, 8)
    assert {width for _, width, _ in calls} == {8}
    assert 0 < once.exact.sum() < MODELS
    del calls[:]
    twice = widen_until_exact(run, MODELS, 50, 8, 15)
    assert {width for _, width, _ in calls} == {8, 15}
    assert once.exact.sum() < twice.exact.sum()


@pytest.mark.parametrize(
    ("queries", "batch_size", "max_beams", "where", "found"),
    [
        (0, 5, 8, "", "0 queries in batches of 5"),
        (5, 0, 8, "", "5 queries in batches of 0"),
        (5, 5, 7, "max_beams", "7"),
    ],
)
def test_impossible_budgets_are_refused(queries, batch_size, max_beams, where, found):
    with pytest.raises(InputError) as error:
        widen_until_exact(lambda queries, beams: None, queries, batch_size, 8, max_beams)
    assert (error.value.where, error.value.found) == (where, found)
    expected = "at least beams = 8" if where else "at least 1 query and batches of at least 1"
    assert error.value.expected == expected


def run_small(step, rows, codes, beams, k):
    trie = build_trie(np.array(rows), codes)
    return jax.jit(lambda trie: beam_search(step, (), trie, 1, beams, k))(trie)


def test_a_tie_with_what_was_pruned_is_exact():
    # Both documents have score 0; one beam keeps the first, and the bound is 0.
    def step(level, codes, cache):
        return jnp.zeros((1, 1, 2)), cache

    found = run_small(step, [[0], [1]], 2, 1, 1)
    assert (found.scores.tolist(), found.bound.tolist()) == ([[0.0]], [0.0])
    assert found.exact.tolist() == [True]


def test_a_model_that_gives_no_number_proves_nothing():
    def step(level, codes, cache):
        return jnp.array([[[0.0, np.nan, -1.0]]]), cache

    found = run_small(step, [[0], [1], [2]], 3, 2, 2)
    assert found.documents.tolist() == [[-1, 0]]
    assert found.scores.tolist() == [[-np.inf, 0.0]]
    assert found.exact.tolist() == [False]


def test_log_probabilities_that_rounding_lifts_above_zero_prove_nothing():
    # Level 0 prunes code 1 at -1e-3; were its child's gain of 1e-2 not cut, it would be best.
    def step(level, codes, cache):
        if level == 0:
            return jnp.array([[[0.0, -1e-3]]]), cache
        return jnp.broadcast_to(jnp.array([-5e-4, 1e-2]), (1, codes.shape[1], 2)), cache

    found = run_small(step, [[0, 0], [1, 1]], 2, 1, 1)
    assert found.exact.tolist() == [True]
    everything = run_small(step, [[0, 0], [1, 1]], 2, 2, 2)
    np.testing.assert_allclose(everything.scores, [[-5e-4, -1e-3]], rtol=1e-5)
