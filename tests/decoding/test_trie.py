import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.decoding.trie import Trie, build_trie
from catid2_jax.errors import InputError
from tests.reference import beam_search as reference

TABLES = st.integers(1, 4).flatmap(
    lambda levels: st.lists(
        st.tuples(*[st.integers(0, 4)] * levels), min_size=1, max_size=25, unique=True
    )
)


@given(rows=TABLES)
@settings(max_examples=50, deadline=None)
def test_arrays_are_those_of_a_trie_of_dicts(rows):
    trie = build_trie(np.array(rows), 5)
    assert not trie.has_ends
    nodes = [reference.dict_trie(rows)]
    for level in range(trie.levels):
        offsets, codes = trie.offsets[level].tolist(), trie.codes[level].tolist()
        own = offsets[: len(nodes) + 1]
        assert [codes[i:j] for i, j in itertools.pairwise(own)] == list(map(sorted, nodes))
        # Surplus nodes have no edges.
        assert set(offsets[len(nodes) :]) == {own[-1]}
        assert len(offsets) == (len(trie.codes[level - 1]) if level else 1) + 1
        branch = max(map(len, nodes))
        assert trie.max_children[level] == min(5, {1: 1, 2: 2, 3: 4, 4: 4, 5: 8}[branch])
        nodes = [subtree[code] for subtree in nodes for code in sorted(subtree)]
    assert nodes == trie.documents.tolist()[: len(rows)]
    assert set(trie.documents.tolist()[len(rows) :]) <= {-1}


@pytest.mark.parametrize(("levels", "count"), [(1, 3), (3, 20), (4, 1)])
def test_children_and_leaves_are_those_of_a_trie_of_dicts(levels, count):
    every = np.stack(np.meshgrid(*[np.arange(5)] * levels), axis=-1).reshape(-1, levels)
    rows = np.random.default_rng(levels).permutation(every)[:count]
    trie = build_trie(rows, 5)
    children_of = jax.jit(Trie.children, static_argnums=1)
    # Pairs (number, subtree) of each node of a level, from the root down.
    nodes = [(0, reference.dict_trie(rows.tolist()))]
    for level in range(levels):
        numbers, codes, valid = map(
            np.asarray, children_of(trie, level, jnp.array([number for number, _ in nodes]))
        )
        assert numbers.shape == (len(nodes), trie.max_children[level])
        following = []
        for i, (_, subtree) in enumerate(nodes):
            assert codes[i][valid[i]].tolist() == sorted(subtree)
            children = zip(numbers[i][valid[i]].tolist(), sorted(subtree), strict=True)
            following += [(number, subtree[code]) for number, code in children]
        nodes = following
        assert [number for number, _ in nodes] == list(range(len(nodes)))
        assert numbers.min() >= 0
        assert numbers.max() < len(nodes)
    assert [row for _, row in nodes] == trie.documents.tolist()[:count]


def test_a_trie_worked_by_hand():
    trie = build_trie(np.array([[2, 0], [0, 1], [2, 300], [0, 0], [2, 7]]), 301)
    assert [codes[:5].tolist() for codes in trie.codes] == [[0, 2, 0, 0, 0], [0, 1, 0, 7, 300]]
    assert trie.offsets[0].tolist() == [0, 2]
    assert trie.offsets[1].tolist() == [0, 2, *[5] * 127]
    assert trie.documents.tolist() == [3, 1, 0, 4, 2, *[-1] * 123]
    assert trie.max_children == (2, 4)
    assert trie.levels == 2
    assert trie.codes[0].dtype == jnp.uint16
    assert trie.offsets[0].dtype == trie.documents.dtype == jnp.int32
    numbers, codes, valid = jax.jit(lambda t: t.children(1, jnp.array([[1], [0]])))(trie)
    assert numbers[0].tolist() == [[2, 3, 4, 0]]
    assert codes[0].tolist() == [[0, 7, 300, 0]]
    assert numbers[1, 0, :2].tolist() == [0, 1]
    assert valid.tolist() == [[[True, True, True, False]], [[True, True, False, False]]]


def test_ids_of_several_lengths_worked_by_hand():
    # The first ends where the third goes on; 3 is the end.
    trie = build_trie(np.array([[2, -1, -1], [0, 1, -1], [2, 0, 1]]), 3)
    assert trie.has_ends
    assert [codes[:3].tolist() for codes in trie.codes] == [[0, 2, 0], [1, 0, 3], [3, 1, 3]]
    assert [offsets[:4].tolist() for offsets in trie.offsets] == [
        [0, 2],
        [0, 1, 3, 3],
        [0, 1, 2, 3],
    ]
    assert trie.documents[:3].tolist() == [1, 2, 0]
    assert trie.max_children == (2, 2, 1)
    assert trie.codes[0].dtype == jnp.uint8
    assert build_trie(np.array([[255, 1], [0, -1]]), 256).codes[0].dtype == jnp.uint16


@pytest.mark.parametrize(
    ("codes", "levels"),
    [(2, 3), (256, 4), (1 << 16, 4), (65537, 4), (1 << 20, 3), (1 << 20, 4), (3, 40)],
)
def test_any_width_of_codes_gives_lexicographic_order(codes, levels):
    # 16 bits x 4 fill a 64-bit number, 17 x 4, 20 x 4 and 2 x 40 do not fit.
    rng = np.random.default_rng(codes)
    rows = np.unique(rng.choice([0, 1, codes // 2, codes - 1], (90, levels)), axis=0)
    rows = rng.permutation(rows.astype(np.int32))
    expected = sorted(range(len(rows)), key=lambda n: rows[n].tolist())
    assert build_trie(rows, codes).documents[: len(rows)].tolist() == expected


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1025, 4096, 40_000])
def test_capacities_grow_in_steps_of_at_most_an_eighth(count):
    codes = np.arange(count)[:, None]
    trie = build_trie(codes, 40_001)
    capacity = len(trie.documents)
    assert count <= capacity < max(count + 128, count * 9 / 8)
    assert len(trie.codes[0]) == capacity
    # All tables up to the capacity have these shapes.
    assert len(build_trie(np.arange(capacity)[:, None], 40_960).documents) == capacity


@pytest.mark.parametrize(("codes", "expected"), [(1, "uint8"), (256, "uint8"), (257, "uint16")])
def test_codes_take_the_smallest_type(codes, expected):
    trie = build_trie(np.array([[0], [codes - 1]][: min(codes, 2)]), codes)
    assert trie.codes[0].dtype == expected
    assert trie.codes[0].max() == codes - 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 4), int), r"shape \(0, 4\), expected at least one row"),
        (np.zeros((4, 0), int), r"shape \(4, 0\), expected at least one row"),
        (np.zeros(4, int), r"shape \(4,\), expected at least one row"),
        ([[0, 1], [1, 8]], "code 8 in row 1, level 1, expected 0 to 7"),
        ([[0, 1], [-2, 2]], "code -2 in row 1, level 0, expected 0 to 7, or -1 after the end"),
        ([[0, 1], [-1, 2]], r"\[-1, 2\] in row 1, expected at least one code, and -1 only"),
        ([[0, 1], [-1, -1]], r"\[-1, -1\] in row 1, expected at least one code"),
        ([[0, 1, 1], [1, -1, 2]], r"\[1, -1, 2\] in row 1, expected at least one code"),
        ([[5, 1], [3, -1], [4, 4], [3, -1]], r"\[3\] in row 1 and in row 3"),
        ([[5, 1], [0, 2], [4, 4], [0, 2]], r"\[0, 2\] in row 1 and in row 3"),
    ],
)
def test_bad_tables_are_refused(rows, message):
    with pytest.raises(InputError, match=f"^codes: found {message}"):
        build_trie(np.array(rows), 8)
