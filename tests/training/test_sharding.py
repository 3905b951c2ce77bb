"""The same training on 1, 2 and 8 devices, and on 2 processes of 2 devices."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.training.sampler import EpochSampler
from tests.shared import once
from tests.training.processes import free_port, start, wait_for

SCRIPT = pathlib.Path(__file__).parent / "sharded_training.py"


TWO = pytest.param("2", marks=pytest.mark.slow)
EIGHT = pytest.param("8", marks=pytest.mark.slow)
PROCESSES = pytest.param("2 x 2", marks=pytest.mark.slow)


class Results:
    """Everything the script leaves, by the number of devices; "2 x 2" for two processes."""

    def __init__(self, tmp_path_factory):
        self.factory = tmp_path_factory

    def __getitem__(self, name):
        def make(folder):
            port = free_port()
            runs = [(port, 2, 0), (port, 2, 1)] if name == "2 x 2" else [()]
            output = folder / "results.npz"
            wait_for([start(SCRIPT, output, int(name[0]), *run) for run in runs], [output])

        folder = once(self.factory, f"sharding {name}", make)
        return folder, dict(np.load(folder / "results.npz"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(tmp_path_factory)


@pytest.mark.parametrize("devices", [TWO, EIGHT, PROCESSES])
def test_gradients_parameters_and_figures_are_those_of_one_device(results, devices):
    expected, found = results["1"][1], results[devices][1]
    assert found.keys() == expected.keys()
    names = [name for name in expected if name != "rows_per_device"]
    assert len(names) > 20
    for name in names:
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("devices", "rows"),
    [
        pytest.param("1", 160, marks=pytest.mark.slow),
        pytest.param("2", 80, marks=pytest.mark.slow),
        pytest.param("8", 20, marks=pytest.mark.slow),
        pytest.param("2 x 2", 40, marks=pytest.mark.slow),
    ],
)
def test_every_device_has_its_share_of_the_batch(results, devices, rows):
    assert results[devices][1]["rows_per_device"] == rows


@pytest.mark.parametrize("devices", [TWO, EIGHT, PROCESSES])
def test_k_means_is_bit_identical_on_any_number_of_devices(results, devices):
    for name in ("kmeans", "balanced", "balanced_codes"):
        np.testing.assert_array_equal(results[devices][1][name], results["1"][1][name])


@pytest.mark.parametrize("devices", [TWO, EIGHT, PROCESSES])
def test_a_checkpoint_of_several_devices_is_read_on_one(results, devices):
    directory, found = results[devices]
    params = {}
    for name, value in found.items():
        if name.startswith("parameter"):
            *path, leaf = name.removeprefix("parameter['").removesuffix("']").split("']['")
            node = params
            for key in path:
                node = node.setdefault(key, {})
            node[leaf] = value
    optimizer = make_optimizer(TrainingConfig(), 20)
    template = TrainState(jnp.int32(0), params, optimizer.init(params))
    with Checkpoints(directory / "twenty") as checkpoints:
        state = checkpoints.restore(template)
    assert int(state.step) == 20
    jax.tree.map(np.testing.assert_array_equal, state.params, params)


def test_batches_that_devices_cannot_share_are_refused():
    with pytest.raises(InputError, match="batch_size: found 100, expected a multiple of the 8 dev"):
        EpochSampler(1000, 100, 0, 8)
    with pytest.raises(InputError, match="examples: found 5, expected at least one for each of 8"):
        EpochSampler(5, 64, 0, 8)
    assert EpochSampler(21, 64, 0, 8).batch_size == 16
