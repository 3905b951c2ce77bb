"""Operations counted by hand and by XLA's own analysis; figures that follow from them."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from catid2_jax.training import flops
from catid2_jax.training.flops import PEAK_FLOPS, compute_figures, count_flops

B, D, H, Z = 5, 7, 11, 3
ROWS = jax.ShapeDtypeStruct((B, D), jnp.float32)
WEIGHTS = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((D, H), (H, Z)))


def loss(weights, rows):
    """A network of two layers."""
    return jnp.sum(jnp.tanh(rows @ weights[0]) @ weights[1])


FORWARD = 2 * B * D * H + 2 * B * H * Z
# For the gradient, each layer has a product for its weights, and the second one for its input.
TRAINED = FORWARD + 2 * D * B * H + 2 * H * B * Z + 2 * B * Z * H


def count(function, *arguments):
    return count_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def test_a_network_of_two_layers():
    assert count(loss, WEIGHTS, ROWS) == FORWARD
    assert count(jax.grad(loss), WEIGHTS, ROWS) == TRAINED


def test_products_of_every_form_as_xla_counts_them():
    def products(left, right):
        batched = jnp.einsum("bij,bkj->bik", left, right)
        return jnp.einsum("bik,bk->i", batched, right[:, :, 0])

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 3, 5), (2, 7, 5))]
    found = jax.jit(products).lower(*shapes).cost_analysis()["flops"]
    assert count(products, *shapes) == found == 2 * 2 * 3 * 7 * 5 + 2 * 3 * 2 * 7


def test_a_loop_counts_as_often_as_it_runs():
    def steps(weights, rows):
        return jax.lax.scan(lambda w, row: (jax.jit(jax.grad(loss))(w, row), None), weights, rows)

    rows = jax.ShapeDtypeStruct((9, B, D), jnp.float32)
    assert count(steps, WEIGHTS, rows) == 9 * TRAINED
    assert count(lambda w, r: jax.lax.map(lambda x: loss(w, x), r), WEIGHTS, rows) == 9 * FORWARD


def test_what_is_computed_again_counts_again():
    again = TRAINED + FORWARD - 2 * B * H * Z  # the last product is not needed
    assert count(jax.grad(jax.checkpoint(loss)), WEIGHTS, ROWS) == again


def test_the_longer_branch_counts():
    def either(weights, rows):
        return jax.lax.cond(rows[0, 0] > 0, loss, lambda w, r: jnp.sum(r @ w[0]), weights, rows)

    assert count(either, WEIGHTS, ROWS) == FORWARD


def test_all_devices_count():
    shard = jax.shard_map(
        lambda rows, weights: rows @ weights,
        mesh=AbstractMesh((4,), ("data",)),
        in_specs=(PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
    )
    rows = jax.ShapeDtypeStruct((4 * B, D), jnp.float32)
    jaxpr = jax.make_jaxpr(shard)(rows, WEIGHTS[0]).jaxpr
    assert count_flops(jaxpr) == 2 * 4 * B * D * H


def mesh_of(kind, devices):
    found = np.array([types.SimpleNamespace(device_kind=kind)] * devices)
    return types.SimpleNamespace(devices=found, size=devices)


def test_the_share_of_the_peak_is_that_of_all_devices():
    """4 devices of 989 Tflop/s that take 2 s for half of what they could."""
    figures = compute_figures(4 * 989 * 10**12, 2.0, mesh_of("NVIDIA H200", 4))
    assert figures == pytest.approx({"compute/tflops": 2 * 989, "compute/mfu": 0.5})


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_an_unknown_device_has_no_share(kind):
    assert compute_figures(3 * 10**12, 2.0, mesh_of(kind, 1)) == {"compute/tflops": 1.5}


@pytest.mark.parametrize(("count", "seconds"), [(0, 1.0), (1, 0.0)])
def test_without_products_or_time_there_is_nothing_to_tell(count, seconds):
    assert compute_figures(count, seconds, mesh_of("cpu", 1)) == {}


def test_peaks_are_in_operations_per_second():
    assert all(1e13 < peak < 1e16 for peak in PEAK_FLOPS.values())
    assert flops.PEAK_FLOPS["TPU v5 lite"] == 197e12
