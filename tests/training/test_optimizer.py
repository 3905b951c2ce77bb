import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.errors import InputError
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer, with_rate_of


def updates(config, gradients, steps):
    """First update per step of AdamW on a constant gradient, where Adam's direction is 1."""
    optimizer = make_optimizer(config, steps)
    params = {"w": jnp.array([2.0])}
    state = optimizer.init(params)
    values = []
    for gradient in gradients:
        update, state = optimizer.update({"w": jnp.array([gradient])}, state, params)
        values.append(float(update["w"][0]))
    return values


def test_adamw_decays_weights_by_the_rate():
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.5)
    # -rate (direction + decay * weight) = -0.1 (1 + 0.5 * 2)
    np.testing.assert_allclose(updates(config, [3.0, 3.0], 10), [-0.2, -0.2], rtol=1e-5)


def test_warm_up_then_cosine():
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.0, warmup_steps=4, schedule="cosine")
    expected = [0.1 * s / 4 for s in range(4)]
    expected += [0.1 * (1 + math.cos(math.pi * s / 6)) / 2 for s in range(6)]
    np.testing.assert_allclose(updates(config, [1.0] * 10, 10), [-r for r in expected], atol=1e-6)


def test_warm_up_then_a_line():
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.0, warmup_steps=4, schedule="linear")
    expected = [0.1 * s / 4 for s in range(4)] + [0.1 * (1 - s / 6) for s in range(6)]
    np.testing.assert_allclose(updates(config, [1.0] * 10, 10), [-r for r in expected], atol=1e-6)


def test_warm_up_then_the_inverse_root_of_the_step():
    config = TrainingConfig(
        learning_rate=0.1, weight_decay=0.0, warmup_steps=4, schedule="inverse_sqrt"
    )
    expected = [0.1 * s / 4 for s in range(4)] + [0.1 * math.sqrt(4 / s) for s in range(4, 10)]
    np.testing.assert_allclose(updates(config, [1.0] * 10, 10), [-r for r in expected], atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_subtree_has_its_share_of_the_rate(optimizer):
    """Its decay too; all else is as if all had the whole rate, the global norm among it."""
    config = TrainingConfig(optimizer=optimizer, weight_decay=0.5, max_gradient_norm=1.0)
    params = {"slow": {"w": jnp.array([2.0, -1.0])}, "w": jnp.array([3.0])}
    gradients = {"slow": {"w": jnp.array([3.0, -4.0])}, "w": jnp.array([12.0])}
    whole = make_optimizer(config, 10)
    shared = with_rate_of(whole, "slow", 0.1)
    states = [whole.init(params), shared.init(params)]
    for _ in range(2):
        expected, states[0] = whole.update(gradients, states[0], params)
        found, states[1] = shared.update(gradients, states[1], params)
        np.testing.assert_allclose(found["slow"]["w"], 0.1 * expected["slow"]["w"], rtol=1e-6)
        np.testing.assert_array_equal(found["w"], expected["w"])
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_adafactor_is_that_of_the_paper():
    """Algorithms 4 and 5 of Shazeer and Stern (2018), a large and a small parameter."""
    config = TrainingConfig(optimizer="adafactor", learning_rate=0.01, weight_decay=0.1)
    generator = np.random.default_rng(0)
    params = {"large": generator.normal(size=(130, 140)), "small": generator.normal(size=(5,))}
    optimizer = make_optimizer(config, 10)
    found = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state = optimizer.init(found)
    rows, columns, whole = np.zeros(130), np.zeros(140), np.zeros(5)
    for step in range(1, 4):
        gradients = {name: generator.normal(size=v.shape) for name, v in params.items()}
        update, state = optimizer.update(
            {name: jnp.asarray(value, jnp.float32) for name, value in gradients.items()},
            state,
            found,
        )
        found = {name: found[name] + update[name] for name in found}
        decay = 1 - step**-0.8
        squares = {name: value**2 + 1e-30 for name, value in gradients.items()}
        rows = decay * rows + (1 - decay) * squares["large"].mean(axis=1)
        columns = decay * columns + (1 - decay) * squares["large"].mean(axis=0)
        whole = decay * whole + (1 - decay) * squares["small"]
        second = {"large": np.outer(rows, columns) / rows.mean(), "small": whole}
        for name, value in params.items():
            direction = gradients[name] / np.sqrt(second[name])
            direction /= max(1.0, np.sqrt(np.mean(direction**2)))
            scale = max(np.sqrt(np.mean(value**2)), 1e-3)
            params[name] = value - 0.01 * (scale * direction + 0.1 * value)
    for name, value in params.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped_before_adam():
    # Adam after a gradient of 1 and one of 100 clipped to 1: both count alike.
    clipped = updates(TrainingConfig(weight_decay=0.0, max_gradient_norm=1.0), [1.0, 100.0], 2)
    plain = updates(TrainingConfig(weight_decay=0.0), [1.0, 1.0], 2)
    np.testing.assert_allclose(clipped, plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "inverse_sqrt"}, "warmup_steps: found 0, expected at least 1"),
        ({"patience": 3}, "patience: found 3 with best_metric ''"),
        ({"patience": -1, "best_metric": "loss"}, "patience: found -1, expected at least 0"),
    ],
)
def test_what_must_go_together(fields, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**fields)


@pytest.mark.parametrize("field", ["batch_size", "steps", "best_margin"])
def test_what_must_not_be_negative(field):
    with pytest.raises(InputError, match=f"{field}: found -1, expected at least 0"):
        TrainingConfig(**{field: -1})


def test_steps_stand_in_the_place_of_epochs():
    assert TrainingConfig(epochs=7).total_steps(5) == 35
    assert TrainingConfig(epochs=0, steps=12).total_steps(5) == 12


@given(st.integers(1, 10**7))
def test_a_batch_is_about_a_32nd(examples):
    config = TrainingConfig(batch_size=0)
    found = config.batch_of(examples)
    assert found in [256 * 2**i for i in range(5)]
    near = min((abs(np.log2(b / (examples / 32))), b) for b in (256, 512, 1024, 2048, 4096))
    assert abs(np.log2(found / (examples / 32))) == pytest.approx(near[0])
    assert TrainingConfig(batch_size=77).batch_of(examples) == 77


@pytest.mark.parametrize(
    ("epochs", "steps", "found"), [(7, 12, "7 with steps = 12"), (0, 0, "0 with steps = 0")]
)
def test_a_training_has_epochs_or_steps(epochs, steps, found):
    with pytest.raises(InputError, match=f"epochs: found {found}, expected one of them"):
        TrainingConfig(epochs=epochs, steps=steps)


@pytest.mark.parametrize("field", ["steps_per_dispatch", "learning_rate"])
def test_what_must_be_positive(field):
    with pytest.raises(InputError, match=f"{field}: found 0, expected"):
        TrainingConfig(**{field: 0})
