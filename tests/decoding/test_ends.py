"""IDs of unequal length: the search beside a brute force over all documents.

A model says how likely each code is after each prefix and, maybe, how likely it is that the ID ends
there. Both are drawn per prefix.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import beam_search, search_prefixes
from catid2_jax.decoding.trie import build_trie

B, K, L = 3, 4, 4


@functools.cache
def probabilities():
    """Log-probabilities of K codes and the end by whole prefix, [B, K^l, K + 1] for each level."""
    rng = np.random.default_rng(0)
    return [np.log(rng.dirichlet(np.ones(K + 1), (B, K**level))) for level in range(L)]


def without_ends():
    """Log-probabilities of the K codes alone, [B, K^l, K] for each level."""
    return [table[..., :K] for table in probabilities()]


def step_of(tables):
    """The model as the search sees it; the cache is the codes before the last, [B, M, l]."""
    tables = [jnp.asarray(table, jnp.float32) for table in tables]

    def step(level, codes, path):
        if codes is not None:
            path = jnp.concatenate([path, codes[:, :, None]], axis=2)
        number = sum(path[:, :, i] * K ** (level - 1 - i) for i in range(level))
        number = jnp.broadcast_to(number, path.shape[:2])
        return jnp.take_along_axis(tables[level], number[:, :, None], axis=1), path

    return step


def catalogue(seed, count=60):
    """IDs of 1 to L codes, some of which begin others, in no order; -1 after a shorter one."""
    every = [
        [*codes, *[-1] * (L - length)]
        for length in range(1, L + 1)
        for codes in itertools.product(range(K), repeat=length)
    ]
    rng = np.random.default_rng(seed)
    # Short IDs are few, so all of them are as likely as all long ones.
    weight = np.array([1 / K ** sum(code >= 0 for code in row) for row in every])
    chosen = rng.choice(len(every), count, replace=False, p=weight / weight.sum())
    return np.array(every, np.int32)[chosen]


def symbols(row):
    """The codes of an ID and, where it is shorter than L, its end, which is K."""
    codes = [int(code) for code in row if code >= 0]
    return codes + [K] * (len(codes) < L)


def first_two(row):
    """An ID's first two symbols; what follows an end is an end."""
    return (*symbols(row), K)[:2]


def brute_force(rows, tables, renormalize):
    """Score of every document for every query, [B, N], one symbol after the other.

    A table of K columns knows no end: it is certain, and competes with no code.
    """
    ids = [symbols(row) for row in rows.tolist()]
    scores = np.zeros((B, len(ids)))
    for (query, document), level in itertools.product(np.ndindex(*scores.shape), range(L)):
        row = ids[document]
        if level >= len(row):
            continue  # it has ended
        table = tables[level][query, int(np.dot(row[:level], K ** np.arange(level)[::-1]))]
        if row[level] == len(table):
            continue  # a certain end
        competing = {other[level] for other in ids if other[:level] == row[:level]}
        total = np.exp(table[sorted(competing - {len(table)})]).sum() if renormalize else 1.0
        scores[query, document] += table[row[level]] - np.log(total)
    return scores


def search(rows, tables, beams, renormalize=False, mask=None, k=None):
    trie = build_trie(rows, K)
    allowed = None if mask is None else trie.mask(mask)
    cache = jnp.zeros((B, 1, 0), jnp.int32)
    step, k = step_of(tables), k or beams
    run = jax.jit(lambda t, m: beam_search(step, cache, t, B, beams, k, m, renormalize))
    return run(trie, allowed)


def check_everything(found, scores):
    """That all documents were found, best first, with these scores; some may be equal."""
    for query in range(B):
        documents = found.documents[query]
        assert sorted(documents.tolist()) == list(range(scores.shape[1]))
        np.testing.assert_allclose(found.scores[query], scores[query, documents], atol=1e-5)
        np.testing.assert_allclose(found.scores[query], -np.sort(-scores[query]), atol=1e-5)
    assert found.exact.all()


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_end_has_the_models_probability(seed, renormalize):
    rows = catalogue(seed)
    lengths = (rows >= 0).sum(axis=1)
    assert set(lengths.tolist()) == {1, 2, 3, 4}
    # Some IDs begin others, and some nodes have nothing but an end.
    begins = [
        (rows[:, :length] == row[:length]).all(axis=1).sum() > 1
        for row, length in zip(rows, lengths, strict=True)
    ]
    assert 0 < sum(begins) < len(rows)
    scores = brute_force(rows, probabilities(), renormalize)
    check_everything(search(rows, probabilities(), len(rows), renormalize), scores)
    if renormalize:  # the documents share all of the probability
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("renormalize", [False, True])
def test_without_a_column_for_it_an_end_is_certain(renormalize):
    rows = catalogue(3)
    scores = brute_force(rows, without_ends(), renormalize)
    check_everything(search(rows, without_ends(), len(rows), renormalize), scores)
    # An ID scores at least what those that it begins do.
    lengths = (rows >= 0).sum(axis=1)
    for row, n, own in zip(rows, lengths, scores.T, strict=True):
        assert (scores[:, (rows[:, :n] == row[:n]).all(1)] <= own[:, None] + 1e-9).all()


@pytest.mark.parametrize("renormalize", [False, True])
def test_the_first_level_needs_no_column_for_the_end(renormalize):
    """No ID ends before its first code."""
    rows, tables = catalogue(4), probabilities()
    tables = [tables[0][..., :K], *tables[1:]]
    scores = brute_force(rows, tables, renormalize)
    check_everything(search(rows, tables, len(rows), renormalize), scores)


@pytest.mark.parametrize("renormalize", [False, True])
def test_ids_of_one_length_do_not_look_at_the_column(renormalize):
    rows = np.array(list(itertools.product(range(K), repeat=L)), np.int32)[::5]
    assert not build_trie(rows, K).has_ends
    found = search(rows, probabilities(), len(rows), renormalize)
    expected = search(rows, without_ends(), len(rows), renormalize)
    np.testing.assert_array_equal(found.documents, expected.documents)
    np.testing.assert_array_equal(found.scores, expected.scores)
    check_everything(found, brute_force(rows, probabilities(), renormalize))


@pytest.mark.parametrize("renormalize", [False, True])
def test_fewer_beams_are_bounded_by_what_they_leave_out(renormalize):
    proven = wrong = 0
    for seed in range(20, 30):
        rows = catalogue(seed)
        scores = brute_force(rows, probabilities(), renormalize)
        found = search(rows, probabilities(), 4, renormalize, k=2)
        for query in range(B):
            documents = found.documents[query]
            np.testing.assert_allclose(found.scores[query], scores[query, documents], atol=1e-5)
            rest = np.delete(scores[query], documents).max()
            assert rest <= max(found.bound[query], found.scores[query, -1]) + 1e-5
            is_best = np.allclose(found.scores[query], -np.sort(-scores[query])[:2], atol=1e-5)
            assert is_best or not found.exact[query]
            proven, wrong = proven + found.exact[query], wrong + (not is_best)
    assert min(proven, wrong) > 0  # the claim could have failed


def test_a_mask_chooses_among_ends_and_changes_no_score():
    rows = catalogue(9)
    lengths = (rows >= 0).sum(axis=1)
    allowed = np.zeros((B, len(rows)), bool)
    for query in range(B):
        allowed[query, np.flatnonzero(lengths == query + 1)[:4]] = True
    scores = np.where(allowed, brute_force(rows, probabilities(), True), -np.inf)
    found = search(rows, probabilities(), 4, True, allowed)
    for query, count in enumerate(allowed.sum(axis=1)):
        order = np.argsort(-scores[query])[:count]
        assert found.documents[query].tolist() == [*order, *[-1] * (4 - count)]
        np.testing.assert_allclose(found.scores[query, :count], scores[query, order], atol=1e-5)


def test_prefixes_that_have_ended_are_prefixes():
    """Of two symbols: two codes, or a code and the end."""
    rows = catalogue(10)
    trie = build_trie(rows, K)
    starts = trie.leaf_starts(2)
    cache = jnp.zeros((B, 1, 0), jnp.int32)
    found = search_prefixes(step_of(probabilities()), cache, trie, B, 30, 2)
    expected = set(map(first_two, rows))
    for query in range(B):
        scores = {
            (first, second): probabilities()[0][query, 0, first]
            + probabilities()[1][query, first, second]
            for first, second in expected
        }
        count = len(expected)
        nodes = found.nodes[query, :count]
        prefixes = [first_two(rows[trie.documents[starts[node]]]) for node in nodes]
        assert sorted(prefixes) == sorted(expected)
        np.testing.assert_allclose(
            found.scores[query, :count], [scores[p] for p in prefixes], atol=1e-5
        )
