import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from tests.reference import beam_search as reference

B, K, L = 3, 5, 3
CACHE = np.zeros((B, 1, 0), np.int32)


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


def search(rows, tables, beams, k=None, **options):
    trie = build_trie(rows, K)
    k = beams if k is None else k
    run = jax.jit(
        lambda cache, trie: beam_search(step_of(tables), cache, trie, B, beams, k, **options)
    )
    return run(CACHE, trie)


def log_probability_of(tables, query):
    def log_probability(prefix, code):
        number = 0
        for c in prefix:
            number = number * K + int(c)
        return tables[len(prefix)][query, number, code]

    return log_probability


@pytest.mark.parametrize("beams", [40, 150])
def test_enough_beams_find_every_document(rows, tables, beams):
    found = search(rows, tables, beams)
    assert found.documents.shape == found.scores.shape == (B, beams)
    for query in range(B):
        log_probability = log_probability_of(tables, query)
        scores = np.array([sum(log_probability(row[:i], row[i]) for i in range(L)) for row in rows])
        order = np.argsort(-scores)
        assert found.documents[query, :40].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[query, :40], scores[order], rtol=1e-5)
        assert found.documents[query, 40:].tolist() == [-1] * (beams - 40)
        assert found.scores[query, 40:].tolist() == [-np.inf] * (beams - 40)
    assert found.bound.tolist() == [-np.inf] * B
    assert found.exact.tolist() == [True] * B


@pytest.mark.parametrize(
    ("beams", "k", "renormalize"),
    [(1, 1, False), (7, 3, True), (20, 2, False)],
)
def test_fewer_beams_find_what_a_plain_beam_search_finds(rows, tables, beams, k, renormalize):
    found = search(rows, tables, beams, k, renormalize=renormalize)
    for query in range(B):
        expected, bound = reference.beam_search(
            rows.tolist(), log_probability_of(tables, query), beams, renormalize
        )
        assert found.documents[query].tolist() == [row for row, _ in expected[:k]]
        np.testing.assert_allclose(found.scores[query], [s for _, s in expected[:k]], rtol=1e-5)
        np.testing.assert_allclose(found.bound[query], bound, rtol=1e-5)
        assert found.exact[query] == (expected[k - 1][1] >= bound)


def test_scores_over_the_children_alone_give_an_only_child_no_loss(tables):
    found = search(np.array([[4, 0, 1], [0, 3, 3]]), tables, 2, renormalize=True)
    np.testing.assert_allclose(np.exp(found.scores).sum(axis=1), 1.0, rtol=1e-6)
    first = [np.log(t / t.sum()) for t in np.exp(tables[0][:, 0, [4, 0]])]
    for query in range(B):
        assert found.documents[query].tolist() == np.argsort(-first[query]).tolist()
        np.testing.assert_allclose(found.scores[query], -np.sort(-first[query]), rtol=1e-5)


@pytest.mark.parametrize("renormalize", [False, True])
def test_shorter_ids_have_the_scores_of_the_codes_they_have(rows, tables, renormalize):
    shorter = rows.copy()
    shorter[3, 1:] = -1
    shorter[4, 2:] = -1
    ids = [[code for code in row if code >= 0] for row in shorter.tolist()]
    assert ids[3] in [row[:1] for row in ids if row != ids[3]]  # a document at an inner node
    found = search(shorter, tables, 40, renormalize=renormalize)
    for query in range(B):
        log_probability = log_probability_of(tables, query)

        def gain(row, level, log_probability=log_probability):
            siblings = {other[level] for other in ids if other[:level] == row[:level] != other}
            assert row[level] in siblings
            total = sum(np.exp(log_probability(row[:level], code)) for code in siblings)
            return log_probability(row[:level], row[level]) - renormalize * np.log(total)

        scores = np.array([sum(gain(row, level) for level in range(len(row))) for row in ids])
        order = np.argsort(-scores)
        assert found.documents[query].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[query], scores[order], atol=1e-5)


def test_the_model_is_asked_for_no_code_beyond_its_own(rows, tables):
    step, seen = step_of(tables), []

    def recording_step(level, codes, cache):
        seen.append(codes)
        return step(level, codes, cache)

    @jax.jit
    def codes_seen():
        trie = build_trie(np.array([[0, -1, -1], [3, 4, 1]]), K)
        beam_search(recording_step, jnp.asarray(CACHE), trie, B, 2, 2)
        return seen[1:]

    after_first, after_second = codes_seen()
    assert set(after_first.ravel().tolist()) == {0, 3}
    assert after_second.max() == 4


def test_fewer_documents_than_beams(tables):
    rows = np.array([[4, 0, 1], [4, 0, 0], [0, 3, 3]])
    found = search(rows, tables, 10, 5)
    assert found.documents.shape == (B, 5)
    for query in range(B):
        expected, _ = reference.beam_search(rows.tolist(), log_probability_of(tables, query), 10)
        assert found.documents[query].tolist() == [*(row for row, _ in expected), -1, -1]
        assert found.scores[query, 3:].tolist() == [-np.inf] * 2
        assert found.exact[query]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA does it on a CPU")
def test_candidates_are_not_sorted(rows, tables):
    # Sorting all candidates, as XLA does where it does not see a top-k, takes ten times as long.
    trie = build_trie(rows, K)
    search = jax.jit(lambda cache: beam_search(step_of(tables), cache, trie, B, 3, 3))
    text = search.lower(CACHE).compile().as_text()
    assert text.count('custom_call_target="TopK"') == L
    assert " sort(" not in text


def test_a_changed_catalogue_needs_no_new_compilation(rows, tables):
    traces = []

    @jax.jit
    def run(cache, trie):
        traces.append(1)
        return beam_search(step_of(tables), cache, trie, B, 100, 100)

    ordered = rows[np.lexsort(rows.T[::-1])]
    fourth = np.pad((ordered[3:, :2] == ordered[:-3, :2]).all(axis=1), (3, 0))
    assert fourth.any()  # without these, the largest branch is 3
    added = np.append(rows[:30], [[4, 4, 4]], axis=0)
    for changed in (rows, rows[:-3], rows[5:], added, ordered[~fourth]):
        found = run(CACHE, build_trie(np.unique(changed, axis=0), K))
        assert (
            np.sum(found.documents >= 0, axis=1).tolist() == [len(np.unique(changed, axis=0))] * B
        )
    assert len(traces) == 1


def test_equal_scores_are_ordered_by_code(rows):
    tables = [np.full((B, K**level, K), -1.0) for level in range(L)]
    found = search(rows, tables, 40)
    in_order = sorted(range(40), key=lambda row: rows[row].tolist())
    assert found.documents.tolist() == [in_order] * B


@pytest.mark.parametrize(("level", "renormalize"), [(0, False), (1, True)])
def test_an_impossible_document_is_no_result(rows, tables, level, renormalize):
    impossible = [table.copy() for table in tables]
    # The first code itself, or every code after it.
    impossible[level][np.s_[:, 0, rows[0, 0]] if level == 0 else np.s_[:, rows[0, 0]]] = -np.inf
    found = search(rows, impossible, 40, renormalize=renormalize)
    possible = set(np.flatnonzero(rows[:, 0] != rows[0, 0]).tolist())
    for query in range(B):
        documents = found.documents[query].tolist()
        assert set(documents[: len(possible)]) == possible
        assert documents[len(possible) :] == [-1] * (40 - len(possible))
        assert found.exact[query]


def test_children_that_are_all_impossible_make_no_nan():
    def step(level, codes, cache):
        return jnp.full((1, 1, 2), -jnp.inf), cache

    with jax.debug_nans(True):
        found = beam_search(step, (), build_trie(np.array([[0], [1]]), 2), 1, 2, 2, None, True)
    assert found.documents.tolist() == [[-1, -1]]


def test_every_leaf_of_the_cache_follows_its_beam(rows, tables):
    step = step_of(tables)
    trie = build_trie(rows, K)
    seen = []

    def recording_step(level, codes, cache):
        path, wide = cache
        log_probabilities, path = step(level, codes, path)
        # A leaf of another rank and type: the path of the previous step, twice.
        seen.append((path, wide))
        return log_probabilities, (path, {"wide": jnp.stack([path, path], -1).astype("bfloat16")})

    @jax.jit
    def caches_seen():
        cache = (jnp.asarray(CACHE), {"wide": jnp.zeros((B, 1, 0, 2), "bfloat16")})
        beam_search(recording_step, cache, trie, B, 6, 6)
        return list(seen)

    caches = caches_seen()
    for level in range(1, L):
        path, wide = caches[level][0], caches[level][1]["wide"]
        assert path.shape == (B, min(6, 5**level), level)
        np.testing.assert_array_equal(wide[..., 0], path[..., :-1])
        np.testing.assert_array_equal(wide[..., 1], path[..., :-1])


@pytest.mark.parametrize(
    ("beams", "k", "fields"),
    [
        (0, 1, ("beams", "0", "at least 1")),
        (5, 6, ("k", "6", "1 to beams = 5")),
        (5, 0, ("k", "0", "1 to beams = 5")),
    ],
)
def test_impossible_numbers_are_refused(rows, tables, beams, k, fields):
    with pytest.raises(InputError) as error:
        search(rows, tables, beams, k)
    assert error.value.args == fields
