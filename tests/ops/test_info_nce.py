import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.ops.info_nce import masked_info_nce


def test_agrees_with_the_definition_under_random_masks():
    generator = np.random.default_rng(0)
    for _ in range(20):
        logits = generator.normal(size=(6, 6)) * 3
        positives = generator.random((6, 6)) < 0.3
        negatives = ~positives & (generator.random((6, 6)) < 0.4)
        anchors = []
        for row, pos, neg in zip(logits, positives, negatives, strict=True):
            if pos.any() and neg.any():
                total = np.exp(row[neg]).sum()
                anchors.append(
                    np.mean([-np.log(np.exp(s) / (np.exp(s) + total)) for s in row[pos]])
                )
        value = masked_info_nce(
            jnp.asarray(logits, jnp.float32), jnp.asarray(positives), jnp.asarray(negatives)
        )
        np.testing.assert_allclose(value, np.mean(anchors) if anchors else 0.0, rtol=1e-5)


def test_no_nan_on_the_way_where_an_anchor_has_no_negative():
    logits = jnp.zeros((2, 2))
    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(masked_info_nce)(
            logits, jnp.ones((2, 2), bool), jnp.zeros((2, 2), bool)
        )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_finite_at_logits_that_overflow_exp():
    logits = jnp.array([[0.0, 500.0], [-500.0, 0.0]])
    identity = jnp.eye(2, dtype=bool)
    value, gradient = jax.value_and_grad(masked_info_nce)(logits, identity, ~identity)
    np.testing.assert_allclose(value, 250.0)  # anchors: 500 and 0
    assert np.isfinite(gradient).all()
