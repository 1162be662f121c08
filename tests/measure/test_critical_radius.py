"""Critical radii: exact along a line, bisected elsewhere, with the right sampling error."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from canned import CannedProblem

from featpur_sim import PGD, SymmetricReLU, robust_accuracy
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.measure import critical_radius as radii_of
from featpur_sim.models.symmetric_relu import pure_network

KEY = jax.random.key(60)

# Compiled once for all tests: dozens of small operations would each be a program of their own.
flip_radii = eqx.filter_jit(radii_of.flip_radii)
dense_critical_radius = eqx.filter_jit(radii_of.dense_critical_radius)


@eqx.filter_jit
def bisect(network, problem, norm, *, n, low, high, **settings):
    """The dense attack by bisection, as if nothing were known about it."""
    return radii_of.bisect_critical_radius(
        network, problem, lambda r: DenseMixture.of(problem, r, norm),
        key=KEY, n=n, low=jnp.float32(low), high=jnp.float32(high), **settings,
    )  # fmt: skip


def margins(network, batch, direction, radius):
    """y f(x − r y·direction) in float64, for one r per sample."""
    W, x, y = (np.asarray(a, float) for a in (network.weights, batch.x, batch.y))
    u = (x - radius[:, None] * y[:, None] * np.asarray(direction, float)) @ W.T
    b = np.asarray(network.bias, float)
    return y * (np.sign(u) * np.maximum(np.abs(u) - b, 0)).sum(1)


def odd_network(wstar, key):
    """Slopes of both signs and a threshold per neuron: margins that fall, rise and rest."""
    weight_key, bias_key = jax.random.split(key)
    weights = jax.random.normal(weight_key, (12, len(wstar))) / 6 + 0.02 * wstar
    return SymmetricReLU(weights, jax.random.uniform(bias_key, (12,), maxval=0.3))


@pytest.mark.parametrize("seed", range(3))
def test_flip_radii_are_the_first_zeros(problem, batch, seed):
    network = odd_network(problem.wstar, jax.random.key(seed))
    direction = problem.dense_direction() / 32**0.5
    found = np.asarray(flip_radii(network, batch, direction))
    start = margins(network, batch, direction, np.zeros(200))
    assert (found[start <= 0] == 0).all() and 30 < (start > 0).sum() < 170
    hit = np.isfinite(found) & (start > 0)
    at_zero = margins(network, batch, direction, np.where(hit, found, 0.0))
    np.testing.assert_allclose(at_zero[hit], 0, atol=3e-5)
    # Nothing on a fine grid before the zero is wrong already; without a zero, nothing at all is.
    fractions = np.linspace(0, 0.999, 800)
    end = np.where(hit, found, 50.0)
    least = np.min([margins(network, batch, direction, f * end) for f in fractions], axis=0)
    assert (least[start > 0] > -3e-5).all() and hit.sum() >= 20


def test_a_neuron_that_does_not_move_and_one_that_only_switches_off(problem):
    direction = jnp.zeros(32).at[0].set(1.0)
    still = jnp.zeros((1, 32)).at[0, 1].set(2.0)
    moving = jnp.zeros((1, 32)).at[0, 0].set(1.0)
    x = jnp.zeros((1, 32)).at[0, :2].set(jnp.asarray([0.5, 1.0]))
    batch = problem.sample(KEY, 1)._replace(x=x, y=jnp.ones(1))
    # f = (2 − ½) + (½ − ½): the still neuron keeps the margin above 0 until the other is at −2.
    both = SymmetricReLU(jnp.concatenate([still, moving]), 0.5)
    assert float(flip_radii(both, batch, direction)[0]) == pytest.approx(0.5 + 2.0, rel=1e-6)
    assert float(flip_radii(SymmetricReLU(still, 0.5), batch, direction)[0]) == np.inf


def test_smoothed_networks_are_refused(batch, mixed_network):
    smooth = SymmetricReLU(mixed_network.weights, 0.2, sigma_rho=0.1, smoothing="closed")
    with pytest.raises(ValueError, match="smoothing='closed'.*bisect_critical_radius"):
        flip_radii(smooth, batch, jnp.ones(32))


@pytest.mark.parametrize("norm", ["l2", pytest.param("linf", marks=pytest.mark.slow)])
def test_bisection_agrees_with_the_exact_radius_along_a_line(problem, mixed_network, norm):
    exact = dense_critical_radius(mixed_network, problem, norm, key=KEY, n=1100)
    found = bisect(mixed_network, problem, norm, n=1100, low=0.001, high=4.0, halvings=12)
    # Twelve halvings leave 0.2 %; 1100 points over two blocks are the same points in both.
    assert float(found.value) == pytest.approx(float(exact.value), rel=3e-3)
    for bisected, ordered in zip(found[1:], exact[1:], strict=True):
        assert float(bisected) == pytest.approx(float(ordered), rel=0.02)


def test_half_of_what_is_right_stands_at_the_critical_radius(problem, mixed_network):
    def attack(radius):
        return PGD(radius, steps=8)

    found = jax.jit(
        lambda network: radii_of.bisect_critical_radius(
            network, problem, attack, key=KEY, n=1100, low=0.01, high=10.0, level=0.7
        )
    )(mixed_network)
    clean = robust_accuracy(mixed_network, problem, key=KEY, n=1100)
    there = robust_accuracy(mixed_network, problem, attack(found.value), key=KEY, n=1100)
    assert there.value / clean.value == pytest.approx(0.7, abs=0.01)
    dense = dense_critical_radius(mixed_network, problem, key=KEY, n=1100, level=0.7)
    assert float(found.low) < float(found.value) < float(found.high)
    assert float(found.value) <= float(dense.value)


def test_the_interval_covers_the_radius_of_many_points(problem):
    network = pure_network(problem.wstar, 0.1)
    truth = dense_critical_radius(network, problem, key=jax.random.key(61), n=60_000)

    def one(key):
        return dense_critical_radius(network, problem, key=key, n=400)

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(62), 300))
    covered = np.mean((found.low <= truth.value) & (truth.value <= found.high))
    assert 0.91 < covered < 0.99
    assert float(truth.high - truth.low) < 0.2 * float(jnp.mean(found.high - found.low))


def test_a_radius_outside_the_bracket_is_not_invented(problem, mixed_network):
    def found(low, high):
        return bisect(mixed_network, problem, "l2", n=1100, low=low, high=high, halvings=12)

    assert np.isnan(found(1e-4, 1e-3)).all() and np.isnan(found(5.0, 9.0)).all()
    assert np.isfinite(found(0.01, 5.0)).all()


def test_wrong_and_unlabelled_points_do_not_count(problem, batch, mixed_network):
    canned = CannedProblem(problem, batch)
    direction = problem.dense_direction() / 32**0.5
    radii = np.asarray(flip_radii(mixed_network, batch, direction))
    counted = np.asarray(batch.labelled) & (radii > 0)
    found = dense_critical_radius(mixed_network, canned, key=KEY, n=200)
    assert abs(float(found.value) - np.median(radii[counted])) < 0.005
    # One point right from the start, every other one wrong.
    chosen = int(np.flatnonzero(counted)[5])
    wrong = (-batch.y).at[chosen].set(batch.y[chosen])
    found = dense_critical_radius(
        mixed_network, CannedProblem(problem, batch._replace(y=wrong)), key=KEY, n=200
    )
    assert float(found.value) == pytest.approx(radii[chosen], rel=1e-6)


def test_exactly_the_first_n_points_count(problem, mixed_network):
    """1100 points are two blocks, the second of them mostly padding."""
    batch = problem.sample(jax.random.split(KEY)[0], 1100)
    radii = np.asarray(flip_radii(mixed_network, batch, problem.dense_direction() / 32**0.5))
    right = np.sort(radii[radii > 0])
    found = dense_critical_radius(mixed_network, problem, key=KEY, n=1100)
    rank = np.argmin(np.abs(right - float(found.value)))
    assert right[rank] == pytest.approx(float(found.value), rel=1e-6)
    assert abs(rank - (len(right) - 1) / 2) <= 1
