import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.decoding.trie import build_trie
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
    nodes = [reference.dict_trie(rows)]
    for level in range(trie.levels):
        offsets, codes = trie.offsets[level].tolist(), trie.codes[level].tolist()
        assert [codes[i:j] for i, j in itertools.pairwise(offsets)] == list(map(sorted, nodes))
        assert (offsets[0], offsets[-1]) == (0, len(codes))
        assert trie.max_children[level] == max(map(len, nodes))
        nodes = [subtree[code] for subtree in nodes for code in sorted(subtree)]
    assert nodes == trie.documents.tolist()


@pytest.mark.parametrize(("levels", "count"), [(1, 3), (3, 20), (4, 1)])
def test_children_and_leaves_are_those_of_a_trie_of_dicts(levels, count):
    every = np.stack(np.meshgrid(*[np.arange(5)] * levels), axis=-1).reshape(-1, levels)
    rows = np.random.default_rng(levels).permutation(every)[:count]
    trie = build_trie(rows, 5)
    # Pairs (number, subtree) of each node of a level, from the root down.
    nodes = [(0, reference.dict_trie(rows.tolist()))]
    for level in range(levels):
        numbers, codes, valid = map(
            np.asarray, trie.children(level, jnp.array([number for number, _ in nodes]))
        )
        assert numbers.shape == (len(nodes), max(len(subtree) for _, subtree in nodes))
        following = []
        for i, (_, subtree) in enumerate(nodes):
            assert codes[i][valid[i]].tolist() == sorted(subtree)
            children = zip(numbers[i][valid[i]].tolist(), sorted(subtree), strict=True)
            following += [(number, subtree[code]) for number, code in children]
        nodes = following
        assert [number for number, _ in nodes] == list(range(len(nodes)))
        assert numbers.min() >= 0
        assert numbers.max() < len(nodes)
    assert [row for _, row in nodes] == trie.documents.tolist()


def test_a_trie_worked_by_hand():
    trie = build_trie(np.array([[2, 0], [0, 1], [2, 300], [0, 0], [2, 7]]), 301)
    assert [codes.tolist() for codes in trie.codes] == [[0, 2], [0, 1, 0, 7, 300]]
    assert [offsets.tolist() for offsets in trie.offsets] == [[0, 2], [0, 2, 5]]
    assert trie.documents.tolist() == [3, 1, 0, 4, 2]
    assert trie.max_children == (2, 3)
    assert trie.levels == 2
    assert trie.codes[0].dtype == jnp.uint16
    assert trie.offsets[0].dtype == trie.documents.dtype == jnp.int32
    numbers, codes, valid = jax.jit(lambda t: t.children(1, jnp.array([[1], [0]])))(trie)
    assert numbers.tolist() == [[[2, 3, 4]], [[0, 1, 0]]]
    assert codes[0].tolist() == [[0, 7, 300]]
    assert valid.tolist() == [[[True] * 3], [[True, True, False]]]


@pytest.mark.parametrize(("codes", "expected"), [(1, "uint8"), (256, "uint8"), (257, "uint16")])
def test_codes_take_the_smallest_type(codes, expected):
    trie = build_trie(np.array([[0], [codes - 1]][: min(codes, 2)]), codes)
    assert trie.codes[0].dtype == expected
    assert trie.codes[0].tolist()[-1] == codes - 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 4), int), r"shape \(0, 4\), expected at least one row"),
        (np.zeros((4, 0), int), r"shape \(4, 0\), expected at least one row"),
        (np.zeros(4, int), r"shape \(4,\), expected at least one row"),
        ([[0, 1], [1, 8]], "code 8 in row 1, level 1, expected 0 to 7"),
        ([[0, 1], [-1, 2]], "code -1 in row 1, level 0, expected 0 to 7"),
        ([[5, 1], [0, 2], [4, 4], [0, 2]], r"codes \[0, 2\] in row 1 and in row 3"),
    ],
)
def test_bad_tables_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        build_trie(np.array(rows), 8)
