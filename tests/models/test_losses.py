"""The objective and its gradient, written out, against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import doubtful_gates

from featpur_sim import SymmetricReLU
from featpur_sim.models.losses import (
    hinge_loss,
    logistic_loss,
    loss_sum_and_gradient,
    regulariser,
    regulariser_gradient,
    squared_loss,
)

KEY = jax.random.key(40)


def data(n=50, d=7, m=11, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = rng.choice([-1.0, 0.0, 1.0], size=n).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(y), rng.normal(size=(m, d)).astype(np.float32)


def make(weights, smoothing):
    rho = 0.0 if smoothing == "none" else 0.3
    return SymmetricReLU(weights, 0.5, sigma_rho=rho, smoothing=smoothing)


def test_logistic_loss_at_the_ends():
    margin = jnp.array([-1000.0, -3.0, 0.0, 3.0, 1000.0])
    expected = [1000.0, np.log1p(np.exp(3.0)), np.log(2), np.log1p(np.exp(-3.0)), 0.0]
    np.testing.assert_allclose(logistic_loss(margin), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "loss, value, slope",
    [
        (hinge_loss, lambda m: np.maximum(1 - m, 0), lambda m: -1.0 * (m < 1)),
        (squared_loss, lambda m: (1 - m) ** 2, lambda m: 2 * (m - 1)),
        # A function of one's own, through which only autodiff can see.
        (lambda m: jnp.exp(-m), lambda m: np.exp(-m), lambda m: -np.exp(-m)),
    ],
    ids=["hinge", "squared", "own"],
)
def test_other_losses_in_float64(loss, value, slope):
    """Against NumPy: f and ∂f/∂w written out for soft thresholds."""
    x, y, weights = data()
    wide, x64, y64 = (np.asarray(a, float) for a in (weights, x, y))
    u = x64 @ wide.T
    gate = np.abs(u) > 0.5
    margin = y64 * (np.sign(u) * (np.abs(u) - 0.5) * gate).sum(1)
    keep = y64 != 0
    pull = np.where(keep, y64 * slope(margin), 0)
    total, gradient, _ = loss_sum_and_gradient(make(weights, "none"), x, y, loss=loss)
    np.testing.assert_allclose(total, value(margin)[keep].sum(), rtol=1e-5)
    expected = (pull[:, None] * gate).T @ x64
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_regulariser_by_hand():
    # ‖(3, 4)‖ = 5: 25/2 + 125/3; ‖(0, 1)‖ = 1: 1/2 + 1/3.
    weights = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    assert float(regulariser(weights)) == pytest.approx(12.5 + 125 / 3 + 5 / 6)
    np.testing.assert_allclose(regulariser_gradient(weights), [[18, 24], [0, 2]], rtol=1e-6)


def test_regulariser_gradient_is_autodiffs():
    weights = jnp.asarray(data()[2])
    found = regulariser_gradient(weights)
    np.testing.assert_allclose(found, jax.grad(regulariser)(weights), rtol=1e-5)
    # Where autodiff of the norm gives NaN, the formula gives the limit.
    assert not np.asarray(regulariser_gradient(jnp.zeros((2, 3)))).any()


@pytest.mark.parametrize("smoothing", ["none", "sampled", "closed"])
def test_gradient_is_autodiffs_and_ties_do_not_count(smoothing):
    x, y, weights = data()
    keep = y != 0
    # The two forms sum ⟨w_i,x⟩ in different orders; a gate that this opens is no rounding.
    assert not doubtful_gates(weights, 0.5, x).any()

    def naive(weights):
        value = make(weights, smoothing)(x, key=KEY)
        return jnp.sum(jnp.where(keep, jnp.log1p(jnp.exp(-y * value)), 0))

    expected, slope = jax.value_and_grad(naive)(jnp.asarray(weights))
    loss, gradient, count = loss_sum_and_gradient(make(weights, smoothing), x, y, key=KEY)
    assert int(count) == int(keep.sum()) < len(y)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)


def test_a_tie_contributes_nothing_wherever_it_lies():
    x, y, weights = data()
    moved = jnp.where((y == 0)[:, None], 1e6 * x, x)
    assert not np.array_equal(x, moved)
    here, there = (loss_sum_and_gradient(make(weights, "none"), v, y) for v in (x, moved))
    assert float(here[0]) == float(there[0])
    np.testing.assert_allclose(here[1], there[1], atol=1e-5)


def test_chunks_add_up():
    x, y, weights = data()
    network = make(weights, "closed")
    whole = loss_sum_and_gradient(network, x, y)
    parts = [loss_sum_and_gradient(network, x[s], y[s]) for s in (np.s_[:13], np.s_[13:])]
    for total, a, b in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(total, a + b, rtol=1e-5, atol=1e-5)
