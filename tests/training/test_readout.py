"""Readouts on frozen features: the gradient, the scale, what clean and adversarial training do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import FGM, PGD, SymmetricReLU, initialise, robust_accuracy
from featpur_sim.models.losses import logistic_loss
from featpur_sim.training.readout import Readout, _start, train_readout, with_open_fraction

TAU = 0.15


@pytest.fixture(scope="module")
def two_kinds(problem):
    """For every feature a pure neuron, of either sign, and a larger one with a dense mixture."""
    eye, sign = np.eye(problem.d), np.where(np.arange(problem.d) % 2, 1.0, -1.0)
    wstar = np.asarray(problem.wstar)
    mixed = 3 * (eye * wstar[:, None] + 0.2 * wstar)
    return SymmetricReLU(np.concatenate([eye * sign[:, None], mixed]), 0.2), sign * wstar


def test_gradient_in_the_output_weights(problem, batch, two_kinds):
    features, _ = two_kinds
    rng = np.random.default_rng(0)
    start = Readout(features, jnp.asarray(rng.uniform(0.5, 2, features.m)), jnp.zeros(features.m))
    y, x = np.asarray(batch.y, float), np.asarray(batch.x, float)
    u = x @ np.asarray(features.weights, float).T
    outputs = np.sign(u) * np.maximum(np.abs(u) - 0.2, 0) * np.asarray(start.unit, float)
    # At c = 0, where the folded network has no gradient, and elsewhere.
    for c in (np.zeros(features.m), rng.normal(size=features.m)):
        found = jax.grad(
            lambda c: jnp.sum(logistic_loss(batch.y * Readout(features, start.unit, c)(batch.x)))
        )(jnp.asarray(c, jnp.float32))
        expected = -(y / (1 + np.exp(y * (outputs @ c)))) @ outputs
        assert np.abs(expected).min() > 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_readout_is_its_folded_network(batch, two_kinds):
    features, _ = two_kinds
    rng = np.random.default_rng(1)
    unit, c = rng.uniform(0.5, 2, features.m), rng.normal(size=features.m)
    readout = Readout(features, jnp.asarray(unit), jnp.asarray(c))
    np.testing.assert_allclose(readout(batch.x), readout.folded()(batch.x), atol=1e-4)
    value, gradient = readout.value_and_input_gradient(batch.x)
    np.testing.assert_allclose(value, readout(batch.x), atol=1e-4)
    expected = jax.grad(lambda x: jnp.sum(readout(x)))(batch.x)
    np.testing.assert_allclose(gradient, expected, atol=1e-3)


def test_features_enter_at_one_scale_and_dead_ones_not_at_all(problem):
    sizes = np.array([1e-6, 1.0, 1e4, 0.0])
    features = SymmetricReLU(np.eye(4, problem.d) * sizes[:, None], 0.1 * sizes)
    unit = np.asarray(_start(problem, features, jax.random.key(0)).unit)
    assert unit[3] == 0 and 1 < unit[1] < 100
    # The same feature but for its scale, up to the samples' own differences between coordinates.
    np.testing.assert_allclose((unit * sizes)[:3], unit[1], rtol=0.3)
    trained = train_readout(problem, features, key=jax.random.key(1), steps=5)
    assert np.isfinite(trained.weights).all() and not np.asarray(trained.weights[3]).any()


def test_a_clean_readout_finds_the_labels(problem, two_kinds):
    """Pure features of either sign: as they are no better than chance, with a readout the task."""
    features, sign = two_kinds
    pure = SymmetricReLU(features.weights[: problem.d], 0.2)
    key = jax.random.key(3)
    assert robust_accuracy(pure, problem, key=key).value < 0.65
    trained = train_readout(problem, pure, key=jax.random.key(4), steps=300)
    assert robust_accuracy(trained, problem, key=key).value > 0.95
    ratio = np.asarray(jnp.diag(trained.weights) / jnp.diag(pure.weights))
    assert np.array_equal(np.sign(ratio), sign)
    np.testing.assert_allclose(trained.bias, 0.2 * np.abs(ratio), rtol=1e-5)


def test_an_adversarial_readout_leaves_the_mixtures(problem, two_kinds):
    features, _ = two_kinds
    scores, shares = [], []
    for attack in (None, FGM(TAU)):
        trained = train_readout(problem, features, attack, key=jax.random.key(5), steps=300)
        scores.append(robust_accuracy(trained, problem, PGD(TAU), key=jax.random.key(6)).value)
        size = np.linalg.norm(trained.weights, axis=1)
        shares.append(size[problem.d :].sum() / size.sum())
    assert scores[1] > scores[0] + 0.05, scores
    assert shares[1] < shares[0] / 2, shares


def test_thresholds_open_the_gates_as_often_as_asked(problem):
    network = initialise(problem.d, 20, key=jax.random.key(7))
    opened = with_open_fraction(network, problem, 0.3, key=jax.random.key(8))
    active = np.asarray(opened.active(problem.sample(jax.random.key(9), 4096).x)).mean(0)
    # Twice 4,096 samples, once for the quantile.
    assert np.abs(active - 0.3).max() < 4.5 * np.sqrt(2 * 0.3 * 0.7 / 4096)
    assert np.array_equal(opened.weights, network.weights)


def test_bad_input(problem, two_kinds):
    features, _ = two_kinds
    key = jax.random.key(0)
    noisy = SymmetricReLU(np.eye(problem.d), 0.1, sigma_rho=0.1, smoothing="closed")
    with pytest.raises(ValueError, match="smoothing = 'none'"):
        train_readout(problem, noisy, key=key)
    with pytest.raises(ValueError, match="weights of length 3"):
        train_readout(problem, SymmetricReLU(np.eye(3), 0.1), key=key)
    with pytest.raises(ValueError, match="steps must be an integer ≥ 1"):
        train_readout(problem, features, key=key, steps=0)
    for fraction in (0.0, 1.0):
        with pytest.raises(ValueError, match="fraction must be > 0 and < 1"):
            with_open_fraction(features, problem, fraction, key=key)
