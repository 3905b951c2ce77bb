"""Each equation against NumPy written out, in value and gradient (float64)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from catid2_jax import losses
from catid2_jax.errors import InputError
from catid2_jax.models.residual_quantizer import quantize
from catid2_jax.ops.kmeans import even_clusters
from catid2_jax.ops.letter import collaborative_loss, diversity_loss
from catid2_jax.seq2seq.r_drop import r_drop_loss
from tests.reference import losses as reference

CATEGORIES = np.array(
    [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, -1], [1, 2, 3], [0, 0, 0], [1, 3, 4], [0, 1, 2]],
    np.int32,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def check(function, oracle, x):
    """Value and gradient of `function` at x against the oracle and its finite differences."""
    value, gradient = jax.value_and_grad(function)(jnp.asarray(x))
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, oracle(x), rtol=1e-10)
    np.testing.assert_allclose(
        gradient, reference.finite_difference(oracle, x), rtol=1e-5, atol=1e-8
    )


def test_reconstruction_loss():
    d = draw(5, 7)
    check(
        lambda x: losses.reconstruction_loss(jnp.asarray(d), x),
        lambda x: reference.reconstruction(d, x),
        draw(5, 7, seed=1),
    )


def test_residual_quantization_loss_value_and_where_its_gradient_goes():
    r, e, eta = draw(4, 3, 5), draw(4, 3, 5, seed=1), 0.25
    np.testing.assert_allclose(
        losses.residual_quantization_loss(jnp.asarray(r), jnp.asarray(e), eta),
        reference.residual_quantization(r, e, eta),
        rtol=1e-12,
    )
    to_residual, to_code = jax.grad(losses.residual_quantization_loss, argnums=(0, 1))(
        jnp.asarray(r), jnp.asarray(e), eta
    )
    # d/dr eta (r - sg e)^2 and d/de (sg r - e)^2, over 4 * 3 * 5 elements.
    np.testing.assert_allclose(to_residual, eta * 2 * (r - e) / 60, rtol=1e-12)
    np.testing.assert_allclose(to_code, -2 * (r - e) / 60, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduction_of_the_residual_quantization_loss(reduction):
    r, e = draw(4, 3, 5), draw(4, 3, 5, seed=1)
    np.testing.assert_allclose(
        losses.residual_quantization_loss(jnp.asarray(r), jnp.asarray(e), 0.25, reduction),
        reference.residual_quantization(r, e, 0.25, reduction),
        rtol=1e-12,
    )
    gradient = jax.grad(losses.residual_quantization_loss)(
        jnp.asarray(r), jnp.asarray(e), 0.25, reduction
    )
    count = r.size if reduction == "mean" else len(r)
    np.testing.assert_allclose(gradient, 0.25 * 2 * (r - e) / count, rtol=1e-12)


def test_rqvae_loss_is_the_sum():
    np.testing.assert_allclose(losses.rqvae_loss(jnp.float64(1.25), jnp.float64(0.5)), 1.75)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("negatives", ["hard", "global"])
def test_hierarchical_class_constraint_loss(level, negatives):
    check(
        lambda x: losses.hierarchical_class_constraint_loss(
            x, jnp.asarray(CATEGORIES), level, 0.1, negatives
        ),
        lambda x: reference.hierarchical_class(x, CATEGORIES, level, 0.1, negatives),
        draw(8, 6),
    )


@pytest.mark.parametrize(
    ("categories", "level"),
    [
        ([[0], [1], [2]], 0),  # no positive
        ([[0], [0], [0]], 0),  # no negative
        pytest.param([[0]], 0, marks=pytest.mark.slow),  # one document
        pytest.param([[-1], [-1]], 0, marks=pytest.mark.slow),  # no category at all
        ([[0, 0], [0, 0], [1, 1], [1, 1]], 1),  # no negative within a parent
    ],
)
def test_hierarchical_class_constraint_loss_without_an_anchor_is_zero(categories, level):
    categories = jnp.array(categories, jnp.int32)
    value, gradient = jax.value_and_grad(losses.hierarchical_class_constraint_loss)(
        jnp.asarray(draw(len(categories), 4)), categories, level, 0.1
    )
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_drawn_positives_have_the_loss_of_all_as_their_mean():
    """Categories of 4, 3 and 1 documents: an anchor draws among 3, 2 or none."""
    categories = jnp.array([[0], [0], [0], [0], [1], [1], [1], [2]], jnp.int32)
    x = jnp.asarray(draw(8, 6))

    def loss(key):
        return losses.hierarchical_class_constraint_loss(x, categories, 0, 0.5, key=key)

    drawn = np.asarray(jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 2000)))
    expected = reference.hierarchical_class(np.asarray(x), np.asarray(categories), 0, 0.5, "hard")
    error = drawn.std() / np.sqrt(len(drawn))
    assert 0 < error < 0.01
    assert abs(drawn.mean() - expected) < 4 * error
    # One term per anchor, so 3^4 * 2^3 values at most, and all within the terms' own range.
    assert 50 < len(np.unique(drawn.round(9))) <= 3**4 * 2**3


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(InputError, match=f"temperature: found {temperature}, expected more than 0"):
        losses.LossWeights(temperature=temperature)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_losses_of_identical_documents_are_finite(level):
    x = jnp.zeros((8, 6))
    for function in (
        lambda x: losses.hierarchical_class_constraint_loss(x, jnp.asarray(CATEGORIES), level, 0.1),
        lambda x: losses.dispersion_loss(x, x, 0.1),
        lambda x: losses.cluster_scale_constraint_loss(
            quantize(x, jnp.zeros((1, 4, 6))).log_probabilities[:, 0]
        ),
    ):
        value, gradient = jax.value_and_grad(function)(x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_cluster_scale_constraint_loss_through_the_distances():
    codebook = draw(4, 5, seed=2)

    def ours(x):
        output = quantize(x, jnp.asarray(codebook)[None], temperature=0.7)
        return losses.cluster_scale_constraint_loss(output.log_probabilities[:, 0])

    check(
        ours,
        lambda x: reference.cluster_scale(reference.code_probabilities(x, codebook, 0.7)),
        draw(6, 5),
    )


def test_dual_encoder_loss_is_numpys_info_nce():
    """DPR's Eq. 2 of cosines: one sum over the documents that count for each query."""
    rng = np.random.default_rng(0)
    queries, documents = (rng.normal(size=(n, 5)) for n in (4, 7))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    excluded = rng.random((4, 7)) < 0.4
    excluded[np.arange(4), np.arange(4)] = False
    assert 0 < excluded.sum() < 24
    expected, first = [], []
    for i, query in enumerate(queries):
        scores = {j: query @ documents[j] / 0.1 for j in range(7) if not excluded[i, j]}
        expected.append(-np.log(np.exp(scores[i]) / sum(map(np.exp, scores.values()))))
        first.append(scores[i] == max(scores.values()))
    arrays = (jnp.asarray(array, jnp.float32) for array in (queries, documents))
    loss, share = losses.dual_encoder_loss(*arrays, jnp.asarray(excluded), 0.1)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(share) == pytest.approx(np.mean(first))


def test_cluster_scale_constraint_loss_reaches_the_codebook():
    r = draw(6, 5)

    def ours(codebook):
        output = quantize(jnp.asarray(r), codebook[None])
        return losses.cluster_scale_constraint_loss(output.log_probabilities[:, 0])

    check(
        ours,
        lambda e: reference.cluster_scale(reference.code_probabilities(r, e)),
        draw(4, 5, seed=2),
    )


def test_cluster_scale_constraint_loss_where_probabilities_underflow():
    # One document, codes at log p = 0 and -1000: KL(u || p) alone is log(1/2) + 500.
    log_p = jnp.array([[0.0, -1000.0]])
    expected = np.log(2) + 0.5 * np.log(0.5) + 0.5 * (np.log(0.5) + 1000)
    np.testing.assert_allclose(losses.cluster_scale_constraint_loss(log_p), expected, rtol=1e-12)


def test_cluster_scale_constraint_loss_in_float32_near_uniform():
    mean = (1 + 1e-3 * draw(1, 256)) / 256
    mean /= mean.sum()
    value = losses.cluster_scale_constraint_loss(jnp.log(jnp.asarray(mean, jnp.float32)))
    np.testing.assert_allclose(value, reference.cluster_scale(mean), rtol=2e-3)


def test_dispersion_losses():
    d = draw(6, 5)
    check(
        lambda x: losses.dispersion_loss(x, jnp.asarray(d), 0.1),
        lambda x: reference.dispersion(x, d, 0.1),
        draw(6, 5, seed=1),
    )
    check(
        lambda x: losses.self_dispersion_loss(x, 0.5),
        lambda x: reference.dispersion(x, x, 0.5),
        draw(6, 5, seed=1),
    )


def test_docid_loss_weighs_its_terms():
    weights = losses.LossWeights(
        reconstruction=2.0, dispersion=3.0, hierarchical_class=5.0, cluster_scale=7.0
    )
    value = losses.docid_loss(
        weights,
        residual_quantization=jnp.float64(1.0),
        reconstruction=jnp.float64(10.0),
        dispersion=jnp.float64(100.0),
        hierarchical_class=jnp.float64(1000.0),
        cluster_scale=jnp.float64(10000.0),
    )
    assert value == 1 + 20 + 300 + 5000 + 70000


def test_terms_that_are_left_out_are_zero():
    weights = losses.LossWeights(dispersion=3.0)
    value = losses.docid_loss(
        weights, residual_quantization=jnp.float64(1.0), dispersion=jnp.float64(100.0)
    )
    assert value == 301


def test_every_term_has_a_weight():
    assert losses.TERMS.keys() <= {field.name for field in dataclasses.fields(losses.LossWeights)}


def query_alignment(queries, quantized, searched, temperature):
    """Each searched product's query among all products, by plain exponentials."""
    cosines = unit(queries) @ unit(quantized).T / temperature
    own = np.exp(np.diag(cosines)) / np.exp(cosines).sum(axis=1)
    return -np.mean(np.log(own[searched]))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_query_alignment_loss():
    queries, quantized = draw(8, 6), draw(8, 6, seed=1)
    searched, known = np.arange(8) % 3 == 0, jnp.arange(8) % 3 == 0
    check(
        lambda x: losses.query_alignment_loss(x, jnp.asarray(quantized), known, 0.2),
        lambda x: query_alignment(x, quantized, searched, 0.2),
        queries,
    )
    check(
        lambda x: losses.query_alignment_loss(jnp.asarray(queries), x, known, 0.2),
        lambda x: query_alignment(queries, x, searched, 0.2),
        quantized,
    )


def test_query_alignment_of_unknown_queries_says_nothing():
    queries, quantized = draw(8, 6), draw(8, 6, seed=1)
    searched = np.arange(8) % 3 == 0

    def loss(queries, searched):
        return losses.query_alignment_loss(
            jnp.asarray(queries), jnp.asarray(quantized), jnp.asarray(searched), 0.2
        )

    value = loss(queries, searched)
    other = np.where(searched[:, None], queries, draw(8, 6, seed=2))
    assert loss(other, searched) == value
    gradient = jax.grad(lambda q: loss(q, searched))(jnp.asarray(queries))
    assert np.array_equal(np.abs(gradient).sum(axis=1) > 0, searched)
    assert loss(queries, np.zeros(8, bool)) == 0


def collaborative(quantized, vectors, related, temperature):
    """Each related product's vector among those of all related ones."""
    cosines = np.exp(unit(quantized) @ unit(vectors).T / temperature)
    return -np.mean(
        [np.log(cosines[i, i] / cosines[i, related].sum()) for i in np.flatnonzero(related)]
    )


def test_collaborative_loss():
    vectors, related = draw(8, 6), np.arange(8) % 3 > 0

    def loss(z, h, of=related):
        return collaborative_loss(z, jnp.asarray(h), jnp.asarray(of), 0.2)

    check(
        lambda z: loss(z, vectors),
        lambda z: collaborative(z, vectors, related, 0.2),
        draw(8, 6, seed=1),
    )
    z = jnp.asarray(draw(8, 6, seed=1))
    other = np.where(related[:, None], vectors, 0.0)
    assert loss(z, other) == loss(z, vectors)
    assert loss(z, vectors, np.zeros(8, bool)) == 0


def diversity(codebook, codes, groups):
    """The mean, over the documents and over all draws of another code of the group."""
    total = []
    for code in codes:
        others = [k for k in range(len(codebook)) if k != code]
        scores = np.exp(codebook[others] @ codebook[code])
        own = [scores[n] for n, k in enumerate(others) if groups[k] == groups[code]]
        if own:
            total.append(-np.mean(np.log(own / scores.sum())))
    return np.mean(total)


def test_diversity_loss():
    """A code that is alone in its group (4) says nothing, nor does one that nobody has."""
    groups, codes = np.array([0, 0, 1, 1, 2, 0]), np.array([0, 4, 3, 0, 5, 4, 2])
    check(
        lambda e: diversity_loss(e, jnp.asarray(codes), jnp.asarray(groups)),
        lambda e: diversity(e, codes, groups),
        draw(6, 4),
    )
    alone = diversity_loss(jnp.asarray(draw(6, 4)), jnp.array([4, 4]), jnp.asarray(groups))
    assert alone == 0


def test_terms_are_sums_over_their_levels():
    """Three category levels, four code levels."""
    key = jax.random.key(5)
    codebook, levels = draw(4, 6, seed=3), [draw(8, 6, seed=seed) for seed in range(4)]
    probabilities = [reference.code_probabilities(r, codebook) for r in levels]
    d, reconstructions = draw(8, 7), draw(8, 7, seed=1)
    quantized, queries = draw(8, 6, seed=6), draw(8, 6, seed=7)
    searched = np.array([True, False, True, True, False, True, False, True])
    codebooks, codes = draw(4, 4, 6, seed=8), np.random.default_rng(0).integers(4, size=(8, 4))
    groups = [np.asarray(even_clusters(jnp.asarray(codebook), 2)) for codebook in codebooks]
    vectors, related = draw(8, 6, seed=9), ~searched
    inputs = losses.TermInputs(
        jnp.asarray(d),
        jnp.asarray(reconstructions),
        [jnp.asarray(r) for r in levels],
        [jnp.log(p) for p in probabilities],
        jnp.asarray(quantized),
        jnp.asarray(CATEGORIES),
        key,
        jnp.asarray(queries),
        jnp.asarray(searched),
        jnp.asarray(codebooks),
        jnp.asarray(codes),
        jnp.asarray(vectors),
        jnp.asarray(related),
    )
    weights = losses.LossWeights(norm_floor=0.0, temperature=0.3, negatives="global", code_groups=2)
    expected = {
        "reconstruction": reference.reconstruction(d, reconstructions),
        "dispersion": reference.dispersion(reconstructions, d, 0.3),
        "hierarchical_class": sum(
            reference.hierarchical_class(levels[level], CATEGORIES, level, 0.3, "global")
            for level in range(3)
        ),
        "cluster_scale": sum(map(reference.cluster_scale, probabilities)),
        "query_alignment": query_alignment(queries, quantized, searched, 0.3),
        "collaborative": collaborative(quantized, vectors, related, 0.3),
        "diversity": np.mean(
            [diversity(*level) for level in zip(codebooks, codes.T, groups, strict=True)]
        ),
    }
    found = {name: term(inputs, weights) for name, term in losses.TERMS.items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, err_msg=name)
    drawn = dataclasses.replace(weights, positives="one")
    assert losses.TERMS["hierarchical_class"](inputs, drawn) != found["hierarchical_class"]
    none = dataclasses.replace(inputs, categories=inputs.categories[:, :0])
    assert losses.TERMS["hierarchical_class"](none, weights) == 0


def test_literal_weights_are_those_of_section_4_1():
    weights = losses.LITERAL
    assert (weights.dispersion, weights.hierarchical_class, weights.cluster_scale) == (0.1, 1e-4, 1)
    assert weights.reconstruction == weights.query_alignment == weights.norm_floor == 0


def test_sequence_loss():
    targets = np.array([[1, 4], [0, 2], [3, 3]], np.int32)
    weights = np.array([1.0, 0.5, 0.0])
    check(
        lambda x: losses.sequence_loss(x, jnp.asarray(targets), jnp.asarray(weights)),
        lambda x: reference.sequence(x, targets, weights),
        draw(3, 2, 5),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"position_weights": (1.0, 0.25)},
        {"label_smoothing": 0.2},
        {"z_loss": 0.1},
        {"position_weights": (0.5, 2.0), "label_smoothing": 0.1, "z_loss": 0.3},
    ],
)
def test_what_is_usual_beside_the_sequence_loss(fields):
    targets = np.array([[1, 4], [0, 2], [3, 3]], np.int32)
    weights = np.array([1.0, 0.5, 2.0])
    ours = {name: jnp.array(v) if isinstance(v, tuple) else v for name, v in fields.items()}
    check(
        lambda x: losses.sequence_loss(x, jnp.asarray(targets), jnp.asarray(weights), **ours),
        lambda x: reference.sequence(x, targets, weights, **fields),
        draw(3, 2, 5),
    )


def test_r_drop_loss():
    """Against the divergences of Kullback and Leibler, some tokens not competing."""
    second, weights = draw(3, 2, 5, seed=1), np.array([1.0, 0.5, 2.0])
    scored = np.array([[True, True], [True, False], [True, True]])

    def oracle(first):
        total = 0.0
        for n, t in zip(*np.nonzero(scored), strict=True):
            p, q = softmax(first[n, t]), softmax(second[n, t])
            total += weights[n] * (rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2
        return total / weights.sum()

    def ours(first):
        return r_drop_loss(first, jnp.asarray(second), jnp.asarray(weights), jnp.asarray(scored))

    check(ours, oracle, draw(3, 2, 5))
    second[:, 0, 3] = -np.inf
    first = draw(3, 2, 5)
    first[:, 0, 3] = -np.inf
    value, gradient = jax.value_and_grad(ours)(jnp.asarray(first))
    np.testing.assert_allclose(value, oracle(first), rtol=1e-10)
    assert np.isfinite(gradient).all()
