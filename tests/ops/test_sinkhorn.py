import jax.numpy as jnp
import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment, linprog

from catid2_jax.ops.sinkhorn import column_potentials, sinkhorn


def scaled_kernel(cost, rows, columns, epsilon, iterations):
    """Cuturi's algorithm 1 as printed: K = exp(-cost / epsilon), u and v in turn; float64."""
    kernel = np.exp(-cost / epsilon)
    v = np.ones(len(columns))
    for _ in range(iterations):
        u = rows / (kernel @ v)
        v = columns / (kernel.T @ u)
    return u[:, None] * kernel * v[None, :]


@pytest.mark.parametrize("epsilon", [1.0, 0.1])
def test_agrees_with_the_scaling_form_where_that_does_not_underflow(epsilon):
    generator = np.random.default_rng(0)
    cost = generator.uniform(size=(5, 7))
    rows, columns = generator.dirichlet(np.ones(5)), generator.dirichlet(np.ones(7))
    plan = np.exp(
        sinkhorn(*(jnp.asarray(x, jnp.float32) for x in (cost, rows, columns)), epsilon, 50)
    )
    np.testing.assert_allclose(plan, scaled_kernel(cost, rows, columns, epsilon, 50), rtol=2e-4)


def test_small_epsilon_reaches_the_optimal_assignment():
    cost = np.random.default_rng(1).uniform(size=(8, 8)).astype(np.float32)
    assert np.exp(np.float32(-cost.max() / 0.003)) == 0  # the plain form would divide by zero
    ones = jnp.ones(8)
    plan = np.exp(sinkhorn(jnp.asarray(cost), ones, ones, 0.003, 2000))
    rows, columns = linear_sum_assignment(cost)
    np.testing.assert_array_equal(plan.argmax(axis=1), columns[np.argsort(rows)])


def test_unequal_masses_reach_the_linear_program():
    generator = np.random.default_rng(2)
    cost = generator.uniform(size=(4, 5))
    rows, columns = np.array([1.0, 2, 1, 1]), np.array([2.0, 1, 1, 0.5, 0.5])
    equalities = [np.repeat(np.eye(4), 5, axis=1), np.tile(np.eye(5), (1, 4))]
    optimum = linprog(cost.ravel(), A_eq=np.vstack(equalities), b_eq=np.r_[rows, columns]).fun
    plan = np.exp(
        sinkhorn(*(jnp.asarray(x, jnp.float32) for x in (cost, rows, columns)), 0.003, 3000)
    )
    np.testing.assert_allclose(plan.sum(axis=0), columns, rtol=1e-4)
    np.testing.assert_allclose(np.sum(plan * cost), optimum, rtol=1e-2)


def test_masses_of_zero_take_no_part():
    cost = jnp.asarray(np.random.default_rng(3).uniform(size=(3, 4)), jnp.float32)
    rows, columns = jnp.array([1.0, 0, 1]), jnp.array([1.0, 1, 0, 0])
    plan = np.exp(sinkhorn(cost, rows, columns, 0.1, 50))
    np.testing.assert_array_equal(plan[1], 0)
    np.testing.assert_array_equal(plan[:, 2:], 0)
    np.testing.assert_allclose(plan.sum(axis=0), columns, atol=1e-5)


def transport(cost, rows, columns, epsilon, iterations):
    """POT's log plan in float64.

    It ends with the rows where ours ends with the columns: hence the other way round.
    """
    with np.errstate(over="ignore"):  # it also returns the exponentials of the potentials
        _, log = ot.bregman.sinkhorn_log(
            columns, rows, cost.T, epsilon, numItermax=iterations, stopThr=0, log=True, warn=False
        )
    return -cost / epsilon + log["log_v"][:, None] + log["log_u"][None, :]


@pytest.mark.parametrize("epsilon", [0.02, 0.003])
@pytest.mark.parametrize("iterations", [1, 50, 500])
def test_agrees_with_pot_where_the_scaling_form_overflows(epsilon, iterations):
    generator = np.random.default_rng(4)
    # Costs below 0 overflow exp(-cost / epsilon), those above underflow it.
    cost = generator.uniform(-3, 3, size=(9, 6))
    rows, columns = generator.dirichlet(np.ones(9)), generator.dirichlet(np.ones(6))
    arguments = [np.asarray(x, np.float32) for x in (cost, rows, columns)]
    with np.errstate(over="ignore"):
        kernel = np.exp(-arguments[0] / np.float32(epsilon))
    assert np.isinf(kernel).any()
    assert (kernel == 0).any()
    ours = np.asarray(sinkhorn(*map(jnp.asarray, arguments), epsilon, iterations), np.float64)

    cost, rows, columns = (x.astype(np.float64) for x in arguments)
    theirs = transport(cost, rows, columns, epsilon, iterations)
    # A logarithm is of the size of cost / epsilon, of which float32 keeps about seven digits; in
    # the potentials the roundings of all iterations add up.
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * 3 / epsilon)
    np.testing.assert_allclose(np.exp(ours), np.exp(theirs), atol=1e-3)
    np.testing.assert_allclose(np.exp(ours).sum(axis=0), columns, rtol=1e-6 * 3 / epsilon)


def test_both_marginals_once_it_has_converged():
    generator = np.random.default_rng(5)
    cost = generator.uniform(size=(6, 4)).astype(np.float32)
    rows, columns = np.ones(6, np.float32), np.full(4, 1.5, np.float32)
    assert cost.max() / 0.008 > 100
    plan = np.exp(sinkhorn(*map(jnp.asarray, (cost, rows, columns)), 0.008, 3000))
    np.testing.assert_allclose(plan.sum(axis=1), rows, rtol=2e-4)
    np.testing.assert_allclose(plan.sum(axis=0), columns, rtol=2e-4)


@pytest.mark.parametrize("iterations", [1, 30])
def test_column_potentials_in_blocks_are_those_of_the_whole_plan(iterations):
    """Up to a constant, which the rows' potentials take up; rows of mass 0 are padding."""
    generator = np.random.default_rng(6)
    cost = generator.uniform(size=(10, 5))
    rows, columns = np.full(10, 0.1), generator.dirichlet(np.ones(5))
    plan = scaled_kernel(cost, rows, columns, 0.1, iterations)
    expected = np.log(plan[0]) + cost[0] / 0.1

    padded = np.concatenate([cost, np.zeros((2, 5))]).reshape(3, 4, 5)
    masses = np.append(rows, [0, 0]).reshape(3, 4)
    arguments = [jnp.asarray(x, jnp.float32) for x in (padded, masses, columns)]
    found = column_potentials(*arguments, 0.1, iterations, jnp.zeros(5))
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-4)
    half = column_potentials(*arguments, 0.1, iterations // 2, jnp.zeros(5))
    on = column_potentials(*arguments, 0.1, iterations - iterations // 2, half)
    np.testing.assert_allclose(on, found, atol=1e-4)
