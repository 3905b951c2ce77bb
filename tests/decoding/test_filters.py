import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.beam_search import beam_search
from catid2_jax.decoding.filters import Filter, FilterIndex, parse_filter, read_filter
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from tests.reference import beam_search as reference

B, K, L, N = 4, 5, 3, 60
IDS = [f"p{n}" for n in range(N)]


@pytest.fixture(scope="module")
def rows():
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    rows = np.random.default_rng(4).permutation(every)[:N]
    rows[0, 2] = rows[1, 2] = -1  # two shorter IDs
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
    """Scores of every document, written out: [B, N]."""
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


def test_k_are_found_where_k_are_allowed(search):
    rng = np.random.default_rng(8)
    pruned = 0
    for _ in range(50):
        allowed = rng.random((B, N)) < rng.random((B, 1)) ** 2
        found = search(allowed)
        counts = np.sum(found.documents >= 0, axis=1)
        assert counts.tolist() == np.minimum(allowed.sum(axis=1), 8).tolist()
        pruned += int(np.sum(found.bound > -np.inf))
    assert pruned > 50


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
        (
            np.ones(N - 1, bool),
            rf"^allowed: found bool of shape \({N - 1},\), expected a boolean for each",
        ),
        (np.ones((2, 3, N), bool), r"found bool of shape \(2, 3, 60\)"),
        (np.ones(N), r"found float64 of shape \(60,\).* each of the trie's 60 documents"),
    ],
)
def test_a_mask_for_another_table_is_refused(rows, allowed, message):
    with pytest.raises(InputError, match=message):
        build_trie(rows, K).mask(allowed)


def test_a_search_with_another_tries_mask_is_refused(rows):
    every = np.stack(np.meshgrid(*[np.arange(K + 1)] * L), axis=-1).reshape(-1, L)
    larger, trie = build_trie(every, K + 1), build_trie(rows, K)

    def step(level, codes, cache):
        return jnp.zeros((B, 1 if codes is None else codes.shape[1], K)), cache

    message = r"mask: found shapes .*, expected \[\(128,\), \(128,\), \(128,\)\] or \[\(4, 128\), "
    for mask in (
        larger.mask(np.ones(len(every), bool)),
        trie.mask(np.ones((B - 1, N), bool)),
        trie.mask(np.ones(N, bool))[:2],
    ):
        with pytest.raises(InputError, match=message):
            beam_search(step, (), trie, B, 12, 8, mask)


PATHS = [("Garden", "Tools"), ("Home", "Tools"), ("Garden",), ("Garden", "Tools", "Saws"), ("A",)]


@pytest.fixture(scope="module")
def index():
    return FilterIndex(IDS[:5], PATHS)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"allow_ids": ["p4", "p3", "p4"]}, [3, 4]),
        ({"allow_ids": []}, []),
        ({"deny_ids": ["p4", "p0"]}, [1, 2, 3]),
        ({"deny_ids": []}, [0, 1, 2, 3, 4]),
        ({"allow_categories": [("Garden", "Tools")]}, [0, 3]),
        ({"allow_categories": [("Home",), ("Garden", "Tools", "Saws")]}, [1, 3]),
        ({"allow_categories": []}, []),
        ({"deny_categories": [("Garden",)]}, [1, 4]),
        ({"allow_categories": [("Garden",)], "deny_categories": [("Garden", "Tools")]}, [2]),
        ({"allow_ids": ["p1", "p2"], "allow_categories": [("Garden",)]}, [2]),
        ({"allow_ids": ["p1", "p2"], "deny_ids": ["p1", "p2"]}, []),
    ],
)
def test_a_document_must_meet_all_conditions(index, conditions, expected):
    allowed = index.allowed(Filter(**conditions), "here")
    assert allowed.dtype == bool
    assert np.flatnonzero(allowed).tolist() == expected


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"allow_ids": ["x", "p1", "p60"]}, r"^here: found unknown ids 'p60', 'x' in allow_ids, "),
        ({"deny_ids": ["x"]}, r"'x' in deny_ids, expected ids of the catalogue$"),
        ({"allow_ids": [f"u{n}" for n in range(10, 25)]}, r"'u10', .* 'u19' and 5 more in allow"),
        (
            {"deny_categories": [("Tools",), ("Home",), ("Garden", "Saws")]},
            "unknown categories 'Garden > Saws', 'Tools' in deny_categories, expected categories",
        ),
    ],
)
def test_what_no_document_has_is_refused(index, conditions, message):
    with pytest.raises(InputError, match=message):
        index.allowed(Filter(**conditions), "here")


def test_filters_in_files(tmp_path):
    (tmp_path / "ids.txt").write_text("p3 \n\np1\n")
    (tmp_path / "ids.jsonl").write_text('{"id": "p2", "title": "x"}\n{"id": 4}\n')
    (tmp_path / "paths.txt").write_text("Garden>Tools\nHome Goods\n")
    (tmp_path / "paths.jsonl").write_text('{"categories": ["A > B", "C"]}\n')
    (tmp_path / "empty.txt").write_text("")
    found = read_filter(
        {
            "allow_ids": tmp_path / "ids.txt",
            "deny_ids": tmp_path / "ids.jsonl",
            "allow_categories": tmp_path / "paths.txt",
            "deny_categories": tmp_path / "paths.jsonl",
        }
    )
    assert found == Filter(
        ("p3", "p1"), ("p2", "4"), (("Garden", "Tools"), ("Home Goods",)), (("A > B", "C"),)
    )
    assert found.has_categories
    assert read_filter({"allow_ids": "", "deny_ids": ""}) is None
    empty = read_filter({"allow_ids": tmp_path / "empty.txt"})
    assert empty == Filter(allow_ids=())
    assert not empty.has_categories


@pytest.mark.parametrize(
    ("name", "field", "text", "message"),
    [
        (
            "x.txt",
            "allow_ids",
            "p1\ntwo words\n",
            "x.txt:2: found id 'two words', expected no white",
        ),
        ("x.jsonl", "deny_ids", '{"ID": 3}\n', "x.jsonl:1: found the fields 'ID', expected also"),
        ("x.jsonl", "deny_ids", "p1\n", "x.jsonl:1: found invalid JSON"),
        ("x.txt", "deny_categories", "A > > B\n", "x.txt:1: found category ' ', expected text"),
        ("x.jsonl", "deny_categories", '{"categories": 3}', "found category 3, expected a list"),
        ("x.jsonl", "deny_categories", '{"categories": []}', "found category .., expected a list"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, name, field, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_filter({field: tmp_path / name})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"ids\.txt: found no such file"):
        read_filter({"allow_ids": tmp_path / "ids.txt"})


def test_filters_in_fields():
    fields = {"lang": "en", "allow_ids": ["p1", 7], "deny_categories": ["A > B", ["C > D"]]}
    assert parse_filter(fields, "here") == Filter(
        allow_ids=("p1", "7"), deny_categories=(("A", "B"), ("C > D",))
    )
    assert parse_filter({"lang": "en", "categories": ["A"]}, "here") is None
    with pytest.raises(InputError, match="here: found allow_ids 'p1', expected a list"):
        parse_filter({"allow_ids": "p1"}, "here")
