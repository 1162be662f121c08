import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import threshold

from featpur_sim.certify.relaxation import ball_multiplier, envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import neuron_minimum_down


def random_neurons(seed, count=300, negative=True):
    rng = np.random.default_rng(seed)
    u = rng.uniform(-1, 1, count)
    b = rng.uniform(0, 0.5, count) * (rng.random(count) < 0.8)
    low, high = -rng.uniform(0, 1, count), rng.uniform(0, 1, count)
    theta = rng.uniform(-0.5, 1.5, count)
    q = rng.uniform(-2 if negative else 0, 4, count) * (rng.random(count) < 0.8)
    return u, low, high, theta, q, b


def brute_force(u, low, high, theta, q, b, cells=20_000):
    """Least value on a grid and the most that the true minimum can be below it."""
    t = low + (high - low) * np.linspace(0, 1, cells + 1)[:, None]
    least = (threshold(u + t, b) - theta * t + q * t * t).min(0)
    reach = np.maximum(-low, high)
    return least, (1 + np.abs(theta) + 2 * np.abs(q) * reach) * (high - low) / (2 * cells)


@pytest.mark.parametrize("seed", range(5))
def test_neuron_minimum_is_the_grid_minimum(seed):
    args = random_neurons(seed)
    least, resolution = brute_force(*args)
    phi, t = map(np.asarray, neuron_minimum(*(jnp.float32(a) for a in args)))
    assert np.all(phi <= least + 2e-6)
    assert np.all(phi >= least - resolution - 2e-6)
    u, _, _, theta, q, b = args
    assert np.allclose(threshold(u + t, b) - theta * t + q * t * t, phi, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_rounded_down_minimum_is_tight_and_below(seed):
    args = random_neurons(seed)
    least, resolution = brute_force(*args)
    phi = neuron_minimum_down(*args)
    assert np.all(phi <= least)
    assert np.all(phi >= least - resolution - 1e-13)


def test_envelope_slope_maximises_phi():
    u, low, high, _, q, b = (jnp.float32(a) for a in random_neurons(1, negative=False))
    slope = envelope_slope(u, low, high, q, b)
    phi = np.asarray(neuron_minimum(u, low, high, slope, q, b)[0])
    for theta in np.linspace(-8, 9, 341, dtype=np.float32):
        flat = jnp.full_like(u, float(theta))
        other = np.asarray(neuron_minimum(u, low, high, flat, q, b)[0])
        assert np.all(phi >= other - 1e-3)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_ball_multiplier_gives_the_trust_region_minimum(seed, hard):
    rng = np.random.default_rng(seed)
    values = np.sort(rng.uniform(-1, 2, 2))
    coefficient, tau = rng.normal(size=2) * 0.5, rng.uniform(0.3, 1.5)
    if hard:  # nothing along the top eigenvector: s has no root for large τ
        coefficient[1] = 0
    top = max(values[-1], 0)
    gap = (top - values)[None]
    s = ball_multiplier(gap, coefficient[None], np.array([[tau]]), steps=20)[0, 0]
    dual = -(coefficient**2 / (4 * (s + gap[0]))).sum() - (s + top) * tau**2
    angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 4001), np.linspace(0, tau, 401))
    delta = np.stack([length * np.cos(angle), length * np.sin(angle)], -1)
    least = (delta @ coefficient - delta**2 @ values).min()
    assert dual <= least + 1e-12
    assert dual >= least - 1e-4
