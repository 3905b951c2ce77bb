import json

import numpy as np
import pytest

from catid2_jax.files import atomic_write, write_json, write_npy


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted_write():
        with atomic_write(path) as file:
            file.write("half of the new")
            file.flush()
            assert len(list(tmp_path.iterdir())) == 2  # the temporary lies beside the old file
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted_write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_no_file_where_there_was_none(tmp_path):
    def interrupted_write():
        with atomic_write(tmp_path / "file.txt", "wb") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_write()
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_parents_are_made_and_text_is_utf8_with_plain_line_ends(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_write(path) as file:
        file.write("é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"


def test_json_is_written_as_given_and_refuses_nan(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"recall@5": 0.25, "name": "é"})
    assert json.loads(path.read_bytes()) == {"recall@5": 0.25, "name": "é"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"recall@5": float("nan")})
    assert json.loads(path.read_bytes()) == {"recall@5": 0.25, "name": "é"}
    assert list(tmp_path.iterdir()) == [path]


def test_npy_keeps_type_and_values_and_refuses_objects(tmp_path):
    path = tmp_path / "array.npy"
    write_npy(path, np.arange(6, dtype=np.float16).reshape(2, 3))
    array = np.load(path, allow_pickle=False)
    assert array.dtype == np.float16
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npy(path, np.array([{}], dtype=object))
