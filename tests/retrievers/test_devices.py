"""The devices of a process divide the queries of a search, and find what one device finds."""

import pathlib

import numpy as np
import pytest

from tests.retrievers.search_on_devices import searched
from tests.training.processes import start, wait_for

SCRIPT = pathlib.Path(__file__).parent / "search_on_devices.py"


@pytest.mark.slow
def test_three_devices_find_what_one_finds(tmp_path):
    """Batches of four are made six, two queries for each."""
    output = tmp_path / "found.npz"
    process = start(SCRIPT, output, 3)
    expected = searched()
    wait_for([process], [output])
    found = dict(np.load(output))
    assert found.pop("devices") == 3
    assert found.keys() == expected.keys()
    assert not all(found[name].all() for name in found if name.endswith("proven"))
    for name, array in expected.items():
        if name.endswith("scores"):
            np.testing.assert_allclose(found[name], array, rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
