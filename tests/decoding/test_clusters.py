"""Prefixes of the search and the ranking beneath them, beside dicts and loops written out."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.decoding.beam_search import Prefixes, search_prefixes
from catid2_jax.decoding.clusters import Clusters
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError

B, K, L, N = 4, 5, 3, 60


def table(seed, shorter):
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    rows = np.random.default_rng(seed).permutation(every)[:N]
    if shorter:
        rows[0, 2] = -1
        rows[1, 1:] = -1
    return rows


def clusters_of(rows, depth):
    """Maps prefixes to rows by a loop; an ended ID is continued by K."""
    found = collections.defaultdict(list)
    for number, row in enumerate(np.where(rows < 0, K, rows).tolist()):
        found[tuple(row[:depth])].append(number)
    return dict(found)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("shorter", [False, True])
def test_leaves_of_a_node_are_the_documents_with_its_prefix(depth, shorter):
    rows = table(1, shorter)
    trie = build_trie(rows, K)
    starts = trie.leaf_starts(depth)
    nodes = sorted(clusters_of(rows, depth).items())
    assert len(nodes) + 1 <= len(starts)
    for node, (_, members) in enumerate(nodes):
        leaves = np.asarray(trie.documents)[starts[node] : starts[node + 1]]
        assert sorted(leaves.tolist()) == members
    assert set(starts[len(nodes) :].tolist()) == {N}


def search(rows, gains, depth, beams, mask=None):
    """The trie of the rows, and the best prefixes that the search finds in it."""
    trie = build_trie(rows, K)
    scores = jnp.asarray(gains, jnp.float32)

    def step(level, codes, cache):
        width = 1 if codes is None else codes.shape[1]
        return jnp.broadcast_to(scores[:, level, None], (B, width, K)), cache

    run = jax.jit(lambda trie, mask: search_prefixes(step, (), trie, B, beams, depth, mask))
    return trie, run(trie, None if mask is None else trie.mask(mask))


@pytest.fixture(scope="module")
def gains():
    """Log-probabilities by level and code, [B, L, K]."""
    return np.log(np.random.default_rng(5).dirichlet(np.ones(K), (B, L)))


def score(gains, query, prefix):
    return sum(gains[query, level, c] for level, c in enumerate(prefix) if c < K)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_enough_beams_find_every_prefix(gains, depth):
    rows = table(2, True)
    _, found = search(rows, gains, depth, N)
    clusters = clusters_of(rows, depth)
    numbers = {prefix: node for node, prefix in enumerate(sorted(clusters))}
    for query in range(B):
        best = sorted(clusters, key=lambda prefix, q=query: -score(gains, q, prefix))
        count = int(np.sum(found.scores[query] > -np.inf))
        assert found.nodes[query, :count].tolist() == [numbers[prefix] for prefix in best]
        expected = [score(gains, query, prefix) for prefix in best]
        np.testing.assert_allclose(found.scores[query, :count], expected, rtol=1e-5)
    assert found.bound.tolist() == [-np.inf] * B


def test_the_bound_is_of_prefixes_that_were_left_out(gains):
    rows = table(2, False)
    _, found = search(rows, gains, 1, 2)
    every = np.sort(gains[:, 0], axis=1)[:, ::-1]
    np.testing.assert_allclose(found.scores, every[:, :2], rtol=1e-5)
    np.testing.assert_allclose(found.bound, every[:, 2], rtol=1e-5)


@pytest.mark.parametrize(("depth", "beams"), [(0, 3), (4, 3), (2, 0)])
def test_impossible_numbers_are_refused(gains, depth, beams):
    expected = ("depth", str(depth), "1 to 3, the length of an ID")
    with pytest.raises(InputError) as error:
        search(table(2, False), gains, depth, beams)
    assert error.value.args == (expected if beams else ("beams", "0", "at least 1"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    depth=st.integers(1, L),
    k=st.integers(1, 80),
    share=st.sampled_from([None, 0.0, 0.1, 0.7]),
    shorter=st.booleans(),
)
def test_members_are_ranked_by_inner_products(seed, depth, k, share, shorter):
    rng = np.random.default_rng(seed)
    rows = table(seed, shorter)
    trie = build_trie(rows, K)
    members = clusters_of(rows, depth)
    prefixes = sorted(members)
    width = rng.integers(1, len(prefixes) + 1)
    nodes = np.stack([rng.permutation(len(prefixes))[:width] for _ in range(B)])
    kept = rng.random(nodes.shape) < 0.8
    embeddings = rng.normal(size=(N, 6)).astype(np.float32)
    queries = rng.normal(size=(B, 6)).astype(np.float32)
    allowed = None if share is None else rng.random((B, N)) < share
    found = Prefixes(
        jnp.asarray(nodes, jnp.int32), jnp.asarray(np.where(kept, -1.0, -np.inf)), jnp.zeros(B)
    )
    documents, scores = Clusters(trie, depth, embeddings).rank(
        found.nodes, found.scores, queries, k, allowed
    )
    assert documents.shape == scores.shape == (B, k)
    for query in range(B):
        pool = [row for n in nodes[query][kept[query]] for row in members[prefixes[n]]]
        if allowed is not None:
            pool = [row for row in pool if allowed[query, row]]
        dense = {row: float(np.dot(embeddings[row], queries[query])) for row in pool}
        best = sorted(pool, key=lambda row, dense=dense: -dense[row])[:k]
        surplus = k - len(best)
        assert documents[query].tolist() == [*best, *[-1] * surplus]
        expected = [*(dense[row] for row in best), *[-np.inf] * surplus]
        np.testing.assert_allclose(scores[query], expected, rtol=1e-4, atol=1e-5)


def test_equal_scores_keep_the_order_of_the_clusters():
    trie = build_trie(np.array([[2, 1], [0, 0], [2, 0], [1, 0], [0, 1]]), 3)
    clusters = Clusters(trie, 1, np.ones((5, 2), np.float32))
    found = Prefixes(jnp.array([[2, 0, 1]]), jnp.array([[-1.0, -2.0, -3.0]]), jnp.zeros(1))
    allowed = np.array([True, True, True, True, False])
    documents, scores = clusters.rank(
        found.nodes, found.scores, np.ones((1, 2), np.float32), 4, allowed
    )
    assert documents.tolist() == [[2, 0, 1, 3]]
    assert scores.tolist() == [[2.0] * 4]


def test_a_prefix_is_found_for_the_allowed_only(gains):
    rows = table(3, False)
    allowed = np.zeros((B, N), bool)
    allowed[np.arange(B), [3, 14, 15, 9]] = True
    trie, found = search(rows, gains, 2, 4, allowed)
    embeddings = np.ones((N, 2), np.float32)
    documents, _ = Clusters(trie, 2, embeddings).rank(
        found.nodes, found.scores, np.ones((B, 2), np.float32), 3, allowed
    )
    assert documents.tolist() == [[row, -1, -1] for row in (3, 14, 15, 9)]
    assert np.sum(found.scores > -np.inf, axis=1).tolist() == [1] * B


def test_embeddings_of_another_table_are_refused():
    trie = build_trie(table(3, False), K)
    with pytest.raises(InputError) as error:
        Clusters(trie, 1, np.ones((59, 2), np.float32))
    assert error.value.args == ("embeddings", "59 rows", "60, one per document of the trie")
