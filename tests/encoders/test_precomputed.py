"""Given vectors are selected block by block; what is written is what NumPy writes of them whole."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from catid2_jax.encoders import precomputed
from catid2_jax.encoders.precomputed import embedding_blocks, read_embeddings
from catid2_jax.errors import InputError
from catid2_jax.files import write_npy_blocks
from catid2_jax.steps.embed import _selected


@hypothesis.given(
    st.integers(1, 12), st.data(), st.sampled_from(["<f2", "<f4", "<f8"]), st.sampled_from("CF")
)
def test_blocks_give_the_bytes_of_the_whole(tmp_path_factory, count, data, kind, layout):
    folder = tmp_path_factory.mktemp("vectors")
    vectors = np.random.default_rng(count).normal(size=(count, 3)).astype(kind)
    np.save(folder / "given.npy", np.asarray(vectors, order=layout))
    kept = data.draw(st.lists(st.integers(0, count - 1), unique=True).map(sorted))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precomputed, "_ROWS_AT_ONCE", 4)
        blocks = list(embedding_blocks(folder / "given.npy", count))
        np.testing.assert_array_equal(
            read_embeddings(folder / "given.npy", count), vectors.astype(np.float32)
        )
    assert [len(block) for block in blocks[:-1]] == [4] * (len(blocks) - 1)
    rows = np.array(kept, np.int64)
    write_npy_blocks(folder / "found.npy", _selected(iter(blocks), rows), (len(rows), 3))
    np.save(folder / "expected.npy", vectors.astype(np.float32)[rows])
    assert (folder / "found.npy").read_bytes() == (folder / "expected.npy").read_bytes()


def test_what_is_not_finite_leaves_nothing_behind(tmp_path, monkeypatch):
    """Also in a row that is not kept."""
    monkeypatch.setattr(precomputed, "_ROWS_AT_ONCE", 4)
    vectors = np.ones((10, 2), np.float32)
    vectors[5], vectors[9] = np.nan, np.inf
    np.save(tmp_path / "given.npy", vectors)
    blocks = embedding_blocks(tmp_path / "given.npy", 10)
    with pytest.raises(InputError, match="NaN or infinity in 2 rows, the first is row 5"):
        write_npy_blocks(tmp_path / "found.npy", _selected(blocks, np.array([0, 1])), (2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["given.npy"]
