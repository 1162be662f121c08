"""One-sided gates: f and its gradients against float64 NumPy and autodiff; what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SparseCoding, TwoLayer
from featpur_sim.measure.both_sides import NotCertified, require_certifiable
from featpur_sim.measure.critical_radius import flip_radii
from featpur_sim.models.classifier import autodiff_input_gradient
from featpur_sim.models.losses import decay_gradient, loss_sum_and_gradient
from featpur_sim.models.symmetric_relu import with_readout
from featpur_sim.models.trainable import trained_arrays, with_trained
from featpur_sim.training.readout import train_readout

RNG = np.random.default_rng(7)
M, D, N = 9, 5, 40
W, A, B = RNG.normal(size=(M, D)), RNG.normal(size=M), RNG.uniform(-0.4, 0.4, size=M)
X = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32)
Y = jnp.asarray(RNG.choice([-1.0, 0.0, 1.0], size=N), jnp.float32)
BOTH = ("weights", "readout")


def make(degree=1, **settings):
    return TwoLayer(W, B, A, degree=degree, **settings)


def exact(network, x=X):
    """f, ∂f/∂u_i and the powers that the readout weighs, in float64."""
    parts = (network.weights, network.bias, network.readout, x)
    w, b, a, x = (np.asarray(part, np.float64) for part in parts)
    excess = np.maximum(x @ w.T - b, 0)
    power = excess**network.degree
    slope = a * network.degree * np.where(excess > 0, excess, 1) ** (network.degree - 1)
    return power @ a, np.where(excess > 0, slope, 0), power


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_value_and_input_gradient(degree):
    network = make(degree)
    value, slope, _ = exact(network)
    found, gradient = network.value_and_input_gradient(X)
    np.testing.assert_allclose(network(X), value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found, network(X))
    np.testing.assert_allclose(gradient, slope @ W, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, autodiff_input_gradient(network, X)[1], atol=1e-4)
    assert np.abs(gradient).max() > 1


def test_a_kink_and_what_lies_below_it_do_not_push():
    network = TwoLayer(np.eye(2), 0.5, [1.0, 1.0])
    value, gradient = network.value_and_input_gradient(jnp.array([[0.5, -3.0], [0.6, 0.5]]))
    np.testing.assert_allclose(value, [0, 0.1], atol=1e-7)
    assert gradient.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("trained", [("weights",), ("readout",), BOTH])
def test_gradients_of_training_in_float64(trained):
    network = make(2, trained=trained)
    value, slope, power = exact(network)
    y, x = np.asarray(Y, float), np.asarray(X, float)
    push = np.where(y != 0, -y / (1 + np.exp(y * value)), 0)
    expected = {"weights": (push[:, None] * slope).T @ x, "readout": push @ power}
    loss, found, count = loss_sum_and_gradient(network, X, Y)
    found = found if len(trained) > 1 else {trained[0]: found}
    assert set(found) == set(trained) and int(count) == (y != 0).sum()
    np.testing.assert_allclose(loss, np.log1p(np.exp(-y * value))[y != 0].sum(), rtol=1e-4)
    for name in trained:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-3)


def test_decay_is_the_theorems_on_weights_and_plain_on_the_readout():
    rows = (1 + np.linalg.norm(W, axis=1, keepdims=True)) * W
    np.testing.assert_allclose(decay_gradient(make()), rows, rtol=1e-5)
    np.testing.assert_allclose(decay_gradient(make(trained=("readout",))), A, rtol=1e-6)
    both = decay_gradient(make(trained=BOTH))
    np.testing.assert_allclose(both["weights"], rows, rtol=1e-5)
    np.testing.assert_allclose(both["readout"], A, rtol=1e-6)


@pytest.mark.parametrize("trained", [("weights",), BOTH])
def test_the_trained_arrays_go_out_and_back(trained):
    network = make(trained=trained)
    twice = with_trained(network, jax.tree.map(lambda array: 2 * array, trained_arrays(network)))
    assert np.array_equal(twice.weights, 2 * network.weights)
    assert np.array_equal(twice.readout, (1 + (trained == BOTH)) * network.readout)
    assert np.array_equal(twice.bias, network.bias)


def test_random_start():
    network = TwoLayer.random(
        400, 50, degree=3, sigma_0=0.1, size=0.02, per_neuron_bias=True, key=jax.random.key(0)
    )
    assert np.std(network.weights) == pytest.approx(0.1, rel=0.02)
    np.testing.assert_allclose(network.readout, [0.02, -0.02] * 25)
    assert network.bias.shape == (50,) and network.degree == 3
    assert repr(network) == "TwoLayer(50 neurons, d=400, p=3, b=0)"
    assert "trains weights and readout" in repr(make(trained=BOTH))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"readout": np.ones(M - 1)}, "readout must have one entry for each of the 9 neurons"),
        ({"bias": np.ones(M + 1)}, r"bias must have shape \(\) or \(9,\)"),
        ({"weights": [np.nan, 1.0]}, "weights must be .* 2 dimensions"),
        ({"degree": 0}, "degree must be an integer ≥ 1"),
        ({"degree": 1.5}, "degree must be an integer ≥ 1"),
        ({"trained": ()}, "TwoLayer.trained must be a tuple"),
        ({"trained": "weights"}, "TwoLayer.trained must be a tuple"),
        ({"trained": ("weights", "bias")}, "names 'bias', which the schedule"),
        ({"trained": ("weights", "degree")}, "names 'degree', .* array of floats, got 1"),
    ],
)
def test_bad_arguments(unchecked, changes, message):
    settings = {"weights": W, "bias": B, "readout": A, **changes}
    with pytest.raises(ValueError, match=message) as caught:
        TwoLayer(**settings)
    assert "\n" not in str(caught.value)


def test_what_rests_on_soft_thresholds_refuses_it(unchecked):
    network, key = make(), jax.random.key(0)
    problem = SparseCoding(d=D, k=2, sigma_x=0.1)
    batch = problem.sample(key, 4)
    for refused in (
        lambda: require_certifiable(network),
        lambda: with_readout(network, A),
        lambda: flip_radii(network, batch, problem.wstar),
        lambda: train_readout(problem, network, key=key),
    ):
        with pytest.raises((ValueError, NotCertified), match="SymmetricReLU") as caught:
            refused()
        assert "TwoLayer" in str(caught.value)
        assert "\n" not in str(caught.value)
