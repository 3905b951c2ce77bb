"""The blockwise losses against the definition over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from catid2_jax.ops.info_nce import class_info_nce, instance_info_nce

TEMPERATURES = (0.1, 0.01)
# One row; less than a block of the classes; several blocks; several of the instances too.
SIZES = (1, 2, 90, 700, 1300)


def unit_rows(generator, rows, width=6):
    x = generator.normal(size=(rows, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def pairs(classes, groups):
    """(positives, negatives) as [B, B] masks."""
    known = (classes >= 0)[:, None] & (classes >= 0)[None, :]
    group = known & (groups[:, None] == groups[None, :])
    same = group & (classes[:, None] == classes[None, :])
    return same & ~np.eye(len(classes), dtype=bool), group & ~same


def pair_losses(vectors, negatives, temperature):
    """-log(exp(s) / (exp(s) + sum over the anchor's negatives)) for all pairs, in float64."""
    logits = vectors.astype(np.float64) @ vectors.T.astype(np.float64) / temperature
    with np.errstate(divide="ignore"):
        mass = logsumexp(np.where(negatives, logits, -np.inf), axis=1, keepdims=True)
    return np.logaddexp(0, mass - logits)


def dense_class_loss(vectors, positives, negatives, temperature):
    """The same in jnp, for its derivative; per anchor, 0 where the row is none."""
    anchors = positives.any(axis=1) & negatives.any(axis=1)
    logits = vectors @ vectors.T / temperature
    mass = jax.nn.logsumexp(logits, axis=1, where=negatives | ~anchors[:, None])
    losses = jnp.sum(jax.nn.softplus(mass[:, None] - logits), axis=1, where=positives)
    return jnp.where(anchors, losses / jnp.maximum(positives.sum(axis=1), 1), 0.0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("size", SIZES)
def test_class_losses_are_those_of_the_definition(size, temperature):
    generator = np.random.default_rng(size)
    vectors = unit_rows(generator, size)
    classes = generator.integers(-1, 30, size)
    groups = np.where(generator.random(size) < 0.1, 7, classes // 4)
    positives, negatives = pairs(classes, groups)
    losses, anchors = class_info_nce(
        jnp.asarray(vectors), jnp.asarray(classes), jnp.asarray(groups), temperature
    )
    expected = positives.any(axis=1) & negatives.any(axis=1)
    np.testing.assert_array_equal(anchors, expected)
    each = np.where(positives, pair_losses(vectors, negatives, temperature), 0).sum(axis=1)
    each = np.where(expected, each / np.maximum(positives.sum(axis=1), 1), 0)
    np.testing.assert_allclose(losses, each, rtol=1e-5, atol=1e-6 / temperature)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    "size", [s if s in (2, 1300) else pytest.param(s, marks=pytest.mark.slow) for s in SIZES]
)
def test_class_gradient_is_that_of_all_pairs(size, temperature):
    generator = np.random.default_rng(size)
    vectors = jnp.asarray(unit_rows(generator, size))
    classes, weights = generator.integers(-1, 30, size), generator.normal(size=size)
    groups = classes // 4
    positives, negatives = pairs(classes, groups)

    def ours(vectors):
        c, g = jnp.asarray(classes), jnp.asarray(groups)
        return jnp.sum(class_info_nce(vectors, c, g, temperature)[0] * weights)

    def dense(vectors):
        return jnp.sum(dense_class_loss(vectors, positives, negatives, temperature) * weights)

    gradient, expected = jax.grad(ours)(vectors), jax.grad(dense)(vectors)
    scale = max(float(jnp.abs(expected).max()), 1e-3)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * scale)


def test_a_drawn_positive_is_one_of_the_anchor_s_and_all_come_up():
    generator = np.random.default_rng(0)
    vectors, classes = unit_rows(generator, 40), generator.integers(0, 8, 40)
    groups = classes // 4
    positives, negatives = pairs(classes, groups)
    each = pair_losses(vectors, negatives, 0.1)
    seen = np.zeros((40, 40), bool)
    draw = jax.jit(
        lambda key: class_info_nce(
            jnp.asarray(vectors), jnp.asarray(classes), jnp.asarray(groups), 0.1, key
        )
    )
    for seed in range(80):
        losses, anchors = draw(jax.random.key(seed))
        hit = positives & np.isclose(each, np.asarray(losses)[:, None], rtol=1e-4)
        assert hit.any(axis=1)[np.asarray(anchors)].all()
        seen |= hit
    assert (seen | ~positives).mean() == 1.0


def test_gradient_with_drawn_positives_is_that_of_those_pairs():
    generator = np.random.default_rng(1)
    vectors, classes = jnp.asarray(unit_rows(generator, 30)), generator.integers(0, 6, 30)
    groups = np.zeros_like(classes)
    c, g, key = jnp.asarray(classes), jnp.asarray(groups), jax.random.key(3)
    positives, negatives = pairs(classes, groups)
    losses, _ = class_info_nce(vectors, c, g, 0.1, key)
    each = pair_losses(np.asarray(vectors), negatives, 0.1)
    drawn = positives & np.isclose(each, np.asarray(losses)[:, None], rtol=1e-4)
    assert (drawn.sum(axis=1) == 1).all()
    gradient = jax.grad(lambda v: class_info_nce(v, c, g, 0.1, key)[0].sum())(vectors)
    expected = jax.grad(lambda v: dense_class_loss(v, drawn, negatives, 0.1).sum())(vectors)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def dense_instance_loss(anchors, candidates, temperature):
    logits = anchors @ candidates.T / temperature
    return jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("size", [1, 90, 1300])
def test_instance_loss_and_both_gradients_are_those_of_all_pairs(size, temperature):
    generator = np.random.default_rng(size)
    anchors, candidates = (jnp.asarray(unit_rows(generator, size)) for _ in range(2))
    weights = generator.normal(size=size)
    losses = instance_info_nce(anchors, candidates, temperature)
    logits = np.asarray(anchors, np.float64) @ np.asarray(candidates, np.float64).T / temperature
    expected = logsumexp(logits, axis=1) - np.diagonal(logits)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6 / temperature)

    def gradients(loss):
        total = lambda a, c: jnp.sum(loss(a, c, temperature) * weights)  # noqa: E731
        return jax.grad(total, (0, 1))(anchors, candidates)

    for ours, dense in zip(
        gradients(instance_info_nce), gradients(dense_instance_loss), strict=True
    ):
        np.testing.assert_allclose(ours, dense, atol=1e-5 / temperature)


def test_bfloat16_vectors_differ_by_their_own_rounding_only():
    generator = np.random.default_rng(2)
    x, y = unit_rows(generator, 64, 32), unit_rows(generator, 64, 32)
    short = [jnp.asarray(a, jnp.bfloat16) for a in (x, y)]
    losses = instance_info_nce(*short, 0.1)
    assert losses.dtype == jnp.float32
    exact = instance_info_nce(*(a.astype(jnp.float32) for a in short), 0.1)
    np.testing.assert_allclose(losses, exact, rtol=1e-5)
    gradient = jax.grad(lambda a: instance_info_nce(a, short[1], 0.1).sum())(short[0])
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("loss", ["class", "instance"])
def test_temporaries_at_65536_stay_under_two_gibibytes(loss):
    rows, width = 65_536, {"class": 32, "instance": 768}[loss]
    vectors = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    ids = jax.ShapeDtypeStruct((rows,), jnp.int32)
    if loss == "class":
        function, arguments = lambda v, c, g: class_info_nce(v, c, g, 0.1)[0].mean(), (ids, ids)
    else:
        function, arguments = lambda a, c: instance_info_nce(a, c, 0.1).mean(), (vectors,)
    compiled = jax.jit(jax.value_and_grad(function)).lower(vectors, *arguments).compile()
    memory = compiled.memory_analysis().temp_size_in_bytes
    assert rows * width * 4 < memory + rows * width * 4 < 2 * 2**30
