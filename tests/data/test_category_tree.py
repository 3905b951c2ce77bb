import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.category_tree import category_ids, nodes_per_level
from catid2_jax.errors import InputError

# Few names, so that the same one often stands under several parents.
paths_and_depth = st.tuples(
    st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=12), st.integers(1, 4)
)


def test_a_tree_worked_by_hand():
    paths = [
        ("Home", "Cups", "Blue"),
        ("Home", "Cups", "Red"),
        ("Office", "Cups", "Blue"),  # another node than Home's Cups
        ("Home", "Pens"),
        ("Office",),
        ("Home", "Cups", "Blue", "Deeper"),
    ]
    ids = category_ids(paths, depth=3)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(
        ids, [[0, 0, 0], [0, 0, 1], [1, 1, 2], [0, 2, -1], [1, -1, -1], [0, 0, 0]]
    )
    assert nodes_per_level(ids) == [2, 3, 3]


@settings(deadline=None, max_examples=100)
@given(paths_and_depth)
def test_ids_are_equal_where_prefixes_are(case):
    paths, depth = case
    ids = category_ids(paths, depth)
    assert ids.shape == (len(paths), depth)
    for level in range(depth):
        long_enough = [tuple(path[: level + 1]) for path in paths if len(path) > level]
        in_order = list(dict.fromkeys(long_enough))
        expected = [
            in_order.index(tuple(path[: level + 1])) if len(path) > level else -1 for path in paths
        ]
        np.testing.assert_array_equal(ids[:, level], expected)
        assert nodes_per_level(ids)[level] == len(set(long_enough))


def test_depth_below_one_is_refused():
    with pytest.raises(InputError, match="depth: found 0, expected at least 1"):
        category_ids([("Home",)], depth=0)
