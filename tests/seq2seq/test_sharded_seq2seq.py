"""Stage 2 on meshes of 8 devices, and of 2 processes of 2, beside one device."""

import pathlib

import numpy as np
import pytest

from tests.training.processes import free_port, start, wait_for

SCRIPT = pathlib.Path(__file__).parent / "sharded_seq2seq.py"


def load(output, model_devices):
    """What the script leaves of a mesh."""
    prefix = f"{model_devices} "
    with np.load(output) as arrays:
        names = [name for name in arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): arrays[name] for name in names}


def check(found, expected, runs):
    """Dropout, hidden words and microbatches are drawn alike, whatever the mesh."""
    assert found.keys() == expected.keys()
    for run in runs:
        assert sum(name.startswith(run) for name in found) == 29
    for name in found.keys() - {"columns_per_device"}:
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        if name.startswith("adamw"):
            # As a norm: Adam's first step is the gradient's sign, also where that is rounding. Of
            # 4,096 gradients around 1e-2 one is 3e-7, and moves by 2e-5 of the largest parameter.
            error = np.linalg.norm(found[name] - expected[name])
            scale = np.linalg.norm(expected[name])
            assert error <= 1e-5 * scale, (name, error, scale)
        else:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * scale, err_msg=name)


def test_parameters_are_those_of_one_device(tmp_path):
    outputs, runs = [tmp_path / name / "results.npz" for name in ("1", "8")], "level"
    wait_for(
        [start(SCRIPT, outputs[0], 1, 1, runs), start(SCRIPT, outputs[1], 8, 2, runs)], outputs
    )
    one, eight = load(outputs[0], 1), load(outputs[1], 2)
    check(eight, one, ["level"])
    assert (one["columns_per_device"], eight["columns_per_device"]) == (16, 8)


@pytest.mark.slow
def test_gradients_parameters_and_recall_are_those_of_one_device_on_any_mesh(tmp_path):
    names = ("gradient", "level", "adamw", "adafactor")
    runs = ",".join(names)
    outputs = [tmp_path / name / "results.npz" for name in ("1", "8", "2 x 2")]
    wait_for(
        [start(SCRIPT, outputs[0], 1, 1, runs), start(SCRIPT, outputs[1], 8, "1,2,8", runs)],
        outputs[:2],
    )
    port = free_port()
    wait_for([start(SCRIPT, outputs[2], 2, 2, runs, port, 2, i) for i in range(2)], outputs)
    expected = load(outputs[0], 1)
    meshes = [(outputs[1], 1, 16), (outputs[1], 2, 8), (outputs[1], 8, 2), (outputs[2], 2, 8)]
    for output, model_devices, columns in meshes:
        found = load(output, model_devices)
        check(found, expected, names)
        assert found["columns_per_device"] == columns
