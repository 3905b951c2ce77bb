import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from tests.reference import beam_search as reference

B, K, L = 3, 5, 3


@pytest.fixture(scope="module")
def rows():
    """40 of the 125 possible IDs, not sorted; the largest branches are 5, 5 and 4."""
    rng = np.random.default_rng(1)
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    return rng.permutation(every)[:40]


@pytest.fixture(scope="module")
def tables():
    """Log-probabilities by whole prefix: per level [B, K^level, K]."""
    rng = np.random.default_rng(2)
    return [np.log(rng.dirichlet(np.ones(K), (B, K**level))) for level in range(L)]


def step_of(tables):
    """A step whose scores depend on the whole prefix, known from the cache alone.

    The cache is the codes up to the one before last, [B, M, t]; were it not reordered with the
    beams, the scores would be those of another prefix.
    """
    tables = [jnp.asarray(table, jnp.float32) for table in tables]

    def step(level, codes, path):
        if codes is not None:
            path = jnp.concatenate([path, codes[:, :, None]], axis=2)
        assert path.shape[2] == level
        prefix = sum(path[:, :, i] * K ** (level - 1 - i) for i in range(level))
        prefix = jnp.broadcast_to(prefix, path.shape[:2])
        return jnp.take_along_axis(tables[level], prefix[:, :, None], axis=1), path

    return step


def search(rows, tables, beams):
    trie = build_trie(rows, K)
    cache = jnp.zeros((B, 1, 0), jnp.int32)
    run = jax.jit(lambda cache, trie: beam_search(step_of(tables), cache, trie, B, beams))
    return run(cache, trie)


def log_probability_of(tables, query):
    def log_probability(prefix, code):
        number = 0
        for c in prefix:
            number = number * K + int(c)
        return tables[len(prefix)][query, number, code]

    return log_probability


@pytest.mark.parametrize("beams", [40, 1000])
def test_enough_beams_find_every_document(rows, tables, beams):
    found = search(rows, tables, beams)
    width = min(beams, 5 * 5 * 4)
    assert found.documents.shape == found.scores.shape == (B, width)
    for query in range(B):
        log_probability = log_probability_of(tables, query)
        scores = np.array([sum(log_probability(row[:i], row[i]) for i in range(L)) for row in rows])
        order = np.argsort(-scores)
        assert found.documents[query, :40].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[query, :40], scores[order], rtol=1e-5)
        assert found.documents[query, 40:].tolist() == [-1] * (width - 40)
        assert found.scores[query, 40:].tolist() == [-np.inf] * (width - 40)


@pytest.mark.parametrize("beams", [1, 2, 7, 20])
def test_fewer_beams_find_what_a_plain_beam_search_finds(rows, tables, beams):
    found = search(rows, tables, beams)
    for query in range(B):
        expected = reference.beam_search(rows.tolist(), log_probability_of(tables, query), beams)
        assert found.documents[query].tolist() == [row for row, _ in expected]
        np.testing.assert_allclose(found.scores[query], [s for _, s in expected], rtol=1e-5)


def test_fewer_documents_than_beams(tables):
    rows = np.array([[4, 0, 1], [4, 0, 0], [0, 3, 3]])
    found = search(rows, tables, 10)
    # Branches of at most 2, 1 and 2: no more than 4 candidates at the end.
    assert found.documents.shape == (B, 4)
    for query in range(B):
        expected = reference.beam_search(rows.tolist(), log_probability_of(tables, query), 10)
        assert found.documents[query].tolist() == [row for row, _ in expected] + [-1]
        assert found.scores[query, 3] == -np.inf


def test_equal_scores_are_ordered_by_code(rows):
    tables = [np.full((B, K**level, K), -1.0) for level in range(L)]
    found = search(rows, tables, 40)
    in_order = sorted(range(40), key=lambda row: rows[row].tolist())
    assert found.documents.tolist() == [in_order] * B


def test_an_impossible_document_is_no_result(rows, tables):
    impossible = [table.copy() for table in tables]
    impossible[0][:, :, rows[0, 0]] = -np.inf
    found = search(rows, impossible, 40)
    possible = set(np.flatnonzero(rows[:, 0] != rows[0, 0]).tolist())
    for query in range(B):
        documents = found.documents[query].tolist()
        assert set(documents[: len(possible)]) == possible
        assert documents[len(possible) :] == [-1] * (40 - len(possible))


def test_every_leaf_of_the_cache_follows_its_beam(rows, tables):
    step = step_of(tables)
    trie = build_trie(rows, K)
    seen = []

    def recording_step(level, codes, cache):
        path, wide = cache
        log_probabilities, path = step(level, codes, path)
        # A leaf of another rank and type: the path of the step before, twice over.
        seen.append((path, wide))
        return log_probabilities, (path, {"wide": jnp.stack([path, path], -1).astype("bfloat16")})

    @jax.jit
    def caches_seen():
        cache = (jnp.zeros((B, 1, 0), jnp.int32), {"wide": jnp.zeros((B, 1, 0, 2), "bfloat16")})
        beam_search(recording_step, cache, trie, B, 6)
        return list(seen)

    caches = caches_seen()
    for level in range(1, L):
        path, wide = caches[level][0], caches[level][1]["wide"]
        assert path.shape == (B, min(6, 5**level), level)
        np.testing.assert_array_equal(wide[..., 0], path[..., :-1])
        np.testing.assert_array_equal(wide[..., 1], path[..., :-1])


def test_no_beam_is_refused(rows, tables):
    with pytest.raises(InputError, match="beams is 0: expected at least 1"):
        search(rows, tables, 0)
