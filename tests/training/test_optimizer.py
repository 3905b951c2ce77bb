import math

import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer


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
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.0, warmup_steps=4, decay=True)
    expected = [0.1 * s / 4 for s in range(4)]
    expected += [0.1 * (1 + math.cos(math.pi * s / 6)) / 2 for s in range(6)]
    np.testing.assert_allclose(updates(config, [1.0] * 10, 10), [-r for r in expected], atol=1e-6)


def test_gradients_are_clipped_before_adam():
    # Adam after a gradient of 1 and one of 100 clipped to 1: both count alike.
    clipped = updates(TrainingConfig(weight_decay=0.0, max_gradient_norm=1.0), [1.0, 100.0], 2)
    plain = updates(TrainingConfig(weight_decay=0.0), [1.0, 1.0], 2)
    np.testing.assert_allclose(clipped, plain, rtol=1e-5)


@pytest.mark.parametrize("field", ["batch_size", "epochs", "steps_per_dispatch", "learning_rate"])
def test_what_must_be_positive(field):
    with pytest.raises(InputError, match=f"{field} is 0"):
        TrainingConfig(**{field: 0})
