import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.filters import of_categories, of_ids
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from tests.reference import beam_search as reference

B, K, L, N = 4, 5, 3, 60
IDS = [f"p{n}" for n in range(N)]


@pytest.fixture(scope="module")
def rows():
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    rows = np.random.default_rng(4).permutation(every)[:N]
    rows[0, 2] = rows[1, 2] = -1  # shorter IDs, too
    return rows


@pytest.fixture(scope="module")
def gains():
    """Log-probabilities by level and code, [B, L, K]."""
    return np.log(np.random.default_rng(5).dirichlet(np.ones(K), (B, L)))


@pytest.fixture(scope="module")
def search(rows, gains):
    trie = build_trie(rows, K)
    table = jnp.asarray(gains, jnp.float32)

    def step(level, codes, cache):
        width = 1 if codes is None else codes.shape[1]
        return jnp.broadcast_to(table[:, level, None], (B, width, K)), cache

    run = jax.jit(lambda trie, mask: beam_search(step, (), trie, B, 12, 8, mask))
    return lambda allowed: run(trie, trie.mask(allowed))


def scores_of(rows, gains):
    """Of every document, written out: [B, N]."""
    return np.array(
        [
            [sum(gains[b, level, c] for level, c in enumerate(row) if c >= 0) for row in rows]
            for b in range(B)
        ]
    )


@pytest.mark.parametrize("count", [0, 5, 12])
def test_all_that_is_allowed_is_found_and_nothing_else(rows, gains, search, count):
    # No more than the 12 beams, so no allowed document can be lost.
    rng = np.random.default_rng(count)
    allowed = np.stack([rng.permutation(np.arange(N) < count) for _ in range(B)])
    found = search(allowed)
    scores = np.where(allowed, scores_of(rows, gains), -np.inf)
    for query in range(B):
        best = np.argsort(-scores[query], kind="stable")[: min(count, 8)]
        surplus = 8 - len(best)
        assert found.documents[query].tolist() == [*best, *[-1] * surplus]
        expected = [*scores[query, best], *[-np.inf] * surplus]
        np.testing.assert_allclose(found.scores[query], expected, rtol=1e-5)
        assert found.exact[query]


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_filtered_search_is_that_of_the_table_of_the_allowed(rows, gains, search, share):
    allowed = np.random.default_rng(6).random(N) < share
    found = search(allowed)
    kept = np.flatnonzero(allowed)
    # In the reference an end is a sixth code of log-probability 0.
    table = np.where(rows[kept] < 0, K, rows[kept]).tolist()
    for query in range(B):

        def log_probability(prefix, code, query=query):
            return 0.0 if code == K else gains[query, len(prefix), code]

        expected, bound = reference.beam_search(table, log_probability, 12)
        assert found.documents[query].tolist() == [kept[row] for row, _ in expected[:8]]
        np.testing.assert_allclose(found.bound[query], bound, rtol=1e-5)


def test_a_node_is_allowed_if_a_document_beneath_it_is(rows):
    trie = build_trie(rows, K)
    allowed = np.random.default_rng(7).random((2, N)) < 0.1
    masks = trie.mask(allowed)
    codes = np.where(rows < 0, K, rows)
    for query in range(2):
        for level, mask in enumerate(masks):
            prefixes = np.unique(codes[:, : level + 1], axis=0)
            expected = {tuple(row[: level + 1]) for row in codes[allowed[query]]}
            found = {tuple(prefixes[n]) for n in np.flatnonzero(mask[query])}
            assert found == expected
    alone = trie.mask(allowed[1])
    for mask, expected in zip(alone, masks, strict=True):
        np.testing.assert_array_equal(mask, expected[1])


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (np.ones(N - 1, bool), rf"found bool of shape \({N - 1},\), expected a boolean for each"),
        (np.ones((2, 3, N), bool), r"found bool of shape \(2, 3, 60\)"),
        (np.ones(N), r"found float64 of shape \(60,\).* each of the trie's 60 documents"),
    ],
)
def test_a_mask_for_another_table_is_refused(rows, allowed, message):
    with pytest.raises(InputError, match=message):
        build_trie(rows, K).mask(allowed)


def test_rows_of_ids():
    assert np.flatnonzero(of_ids(IDS, ["p7", "p3", "p7"])).tolist() == [3, 7]
    assert not of_ids(IDS, []).any()
    with pytest.raises(InputError, match=r"unknown ids 'p60', 'x', expected ids of the catalogue"):
        of_ids(IDS, ["x", "p1", "p60"])
    with pytest.raises(InputError, match=r"'u10', 'u11', .* 'u19' and 5 more, expected"):
        of_ids(IDS, [f"u{n}" for n in range(10, 25)])


def test_rows_of_categories():
    paths = [("Garden", "Tools"), ("Home", "Tools"), ("Garden",), ("Garden", "Tools", "Saws"), ()]
    assert of_categories(paths, [("Garden", "Tools")]).tolist() == [True, False, False, True, False]
    assert of_categories(paths, [["Home"], ("Garden", "Tools", "Saws")]).tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert of_categories(paths, [("Garden",)]).tolist() == [True, False, True, True, False]
    assert not of_categories(paths, []).any()
    with pytest.raises(InputError, match="unknown categories 'Garden > Saws', 'Tools', expected"):
        of_categories(paths, [("Tools",), ("Home",), ("Garden", "Saws")])
