"""The checker finds what is wrong with a network, and nothing wrong with good ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SymmetricReLU, TwoLayer, initialise
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.linear import LinearClassifier
from featpur_sim.models.trainable import Trainable
from featpur_sim.testing.network import check_network

KEY = jax.random.key(70)
W = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


class Good(Trainable):
    """Σ_i tanh⟨w_i, x⟩ + offset."""

    weights: jax.Array
    bias: jax.Array
    offset: jax.Array

    def __call__(self, x, *, key=None):
        return jnp.tanh(x @ self.weights.T - self.bias).sum(1) + self.offset


def make(kind=Good, offset=0.0):
    return kind(jnp.asarray(W), jnp.zeros(()), jnp.asarray(offset))


@pytest.mark.parametrize(
    "network",
    [
        make(),
        TwoLayer(W, 0.1, np.ones(6), degree=3, trained=("weights", "readout")),
        TwoLayer.random(100, 300, key=KEY),
        SymmetricReLU(W, 0.2),
        SymmetricReLU(W, 0.2, sigma_rho=0.3, smoothing="closed"),
        SymmetricReLU(W, 0.2, sigma_rho=0.3, smoothing="sampled"),
        initialise(64, 200, sigma_0=1e-3, key=KEY),
    ],
    ids=lambda network: repr(network)[:40],
)
def test_good_networks_pass(network):
    check_network(network, key=KEY)


def test_a_classifier_that_is_not_trained_needs_inputs():
    linear = LinearClassifier(W[0], 0.5)
    check_network(linear, jax.random.normal(KEY, (5, 8)), key=KEY)
    with pytest.raises(ValueError, match="LinearClassifier has no weights .*: give x"):
        check_network(linear, key=KEY)
    with pytest.raises(ValueError, match="x must hold at least 2 inputs"):
        check_network(linear, jnp.ones((1, 8)), key=KEY)


class Column(Good):
    def __call__(self, x, *, key=None):
        return super().__call__(x)[:, None]


class Labels(Good):
    def __call__(self, x, *, key=None):
        return jnp.sign(super().__call__(x)).astype(jnp.int32)


class Infinite(Good):
    def __call__(self, x, *, key=None):
        return super().__call__(x) / (x[:, 0] > 0)


class Normalised(Good):
    def __call__(self, x, *, key=None):
        return super().__call__(x - x.mean(axis=0))


class Drifting(Good):
    def __call__(self, x, *, key=None):
        return super().__call__(x) + np.random.default_rng().normal()


class NoKey(Good):
    def __call__(self, x):
        return super().__call__(x)


class Branching(Good):
    def __call__(self, x, *, key=None):
        return super().__call__(x if x.sum() > 0 else -x)


class OnTheHost(Good):
    def __call__(self, x, *, key=None):
        return jnp.asarray(np.asarray(x) @ np.asarray(self.weights).sum(0))

    def value_and_input_gradient(self, x, *, key=None):
        return self(x), jnp.broadcast_to(self.weights.sum(0), x.shape)


class Uphill(Good):
    def value_and_input_gradient(self, x, *, key=None):
        value, gradient = autodiff_input_gradient(self, x)
        return value, -gradient


class Halved(Good):
    def value_and_input_gradient(self, x, *, key=None):
        value, gradient = autodiff_input_gradient(self, x)
        return value, 0.5 * gradient


class Skewed(Good):
    """Off by 4 %, less than difference quotients see."""

    def value_and_input_gradient(self, x, *, key=None):
        value, gradient = autodiff_input_gradient(self, x)
        return value, 1.04 * gradient


class Squashed(Good):
    def value_and_input_gradient(self, x, *, key=None):
        value, gradient = autodiff_input_gradient(self, x)
        return jnp.tanh(value), gradient


class GradientAlone(Good):
    def value_and_input_gradient(self, x, *, key=None):
        return autodiff_input_gradient(self, x)[1]


class Unsmooth(Good):
    def smoothed(self, width):
        return super().smoothed(1 / width)


class Unused(Good):
    trained = ("weights", "offset")

    def __call__(self, x, *, key=None):
        return super().__call__(x) - self.offset


class Missing(Good):
    trained = ("weights", "readout")


class Named(Good):
    trained = "weights"


WRONG = [
    (
        lambda: make(Column),
        r"f\(x\) must be .* shape \[16\], .* float32, \[16, 1\]: return one num",
    ),
    (lambda: make(Labels), r"must be an array of floats .* it is an array of int32"),
    (lambda: make(Infinite), r"f\(x\) must be finite, but \d+ numbers"),
    (lambda: make(Normalised), "own row alone, .* over the batch axis"),
    (lambda: make(Drifting), "function of x and key, .* from key"),
    (lambda: make(NoKey), r"raises TypeError: .*'key'.*: a network takes x \[n, d\] and key"),
    (lambda: make(Branching), r"f\(x\) under jax.jit must be computed, .* TracerBoolConversion"),
    (lambda: make(OnTheHost), r"autodiff must be computed, .* TracerArrayConversion"),
    (lambda: make(Uphill), "must be ∇ₓf.*difference quotients of f disagree at 1. of 16"),
    (lambda: make(Halved), "must be ∇ₓf.*difference quotients .* or leave it to autodiff"),
    (lambda: make(Skewed), "must be ∇ₓf.* differs from automatic differentiation at 16 of 16"),
    (lambda: make(Squashed), r"the first of value_and_input_gradient\(x\) must be f\(x\)"),
    (lambda: make(GradientAlone), "must be a pair, but it is an array"),
    (lambda: make(Unsmooth), r"smoothed\(0\) must be computed, .* ZeroDivisionError"),
    (lambda: make(Unused), "the gradient in offset must move it, .* leave it out of trained"),
    (lambda: make(Missing), "trained names 'readout', .* Trainable .* got None"),
    (lambda: make(Named), "trained must be a tuple of different names .* got 'weights'"),
    (lambda: make(offset=jnp.inf), r"f\(x\) must be finite"),
    (lambda: Good, "network must be a Classifier, .* the class Good itself"),
    (lambda: lambda x: x, "network must be a Classifier, .* got the function"),
    (lambda: eqx.tree_at(lambda n: n.weights, make(), jnp.ones(8)), r"Good.weights .* \[m, d\]"),
]


@pytest.mark.parametrize("wrong, message", WRONG, ids=range(len(WRONG)))
def test_wrong_networks_are_told_apart(unchecked, wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_network(wrong(), key=KEY)
    assert "\n" not in str(caught.value)


def test_a_classifier_names_its_own_contract(unchecked):
    class Flat(Classifier):
        def __call__(self, x, *, key=None):
            return 1.0

        value_and_input_gradient = autodiff_input_gradient

    with pytest.raises(ValueError, match=r"Flat breaks Classifier: f\(x\) .* it is 1.0"):
        check_network(Flat(), jnp.ones((3, 2)), key=KEY)
