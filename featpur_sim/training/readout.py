"""Readouts: output weights trained anew on hidden weights that stay (docs/theory.md §3, C12, C13).

f(x) = Σ_i a_i S_b(⟨w_i, x⟩), and a alone is trained. The loss is convex in a on clean data. What
comes out is a `SymmetricReLU` again (`featpur_sim.models.symmetric_relu.with_readout`).
"""

import jax
import jax.numpy as jnp

from featpur_sim._ground.checks import number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey, Real
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU, with_readout
from featpur_sim.training.low_complexity import fit

# Samples from which sizes and quantiles of the features are read.
_SAMPLES = 4096


class Readout(Classifier):
    """Σ_i c_i u_i S_b(⟨w_i, x⟩), trained in c: the output weights are a = c·u.

    Features differ in size by orders of magnitude, those of weights at initialisation from those of
    trained ones above all. With u_i, one over the root mean square of feature i, all are alike to
    the optimiser; for a feature that is always 0, u_i = 0 and so a_i = 0.
    """

    features: SymmetricReLU
    unit: Float[Array, " m"]
    coefficients: Float[Array, " m"]

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return _outputs(self.features, x) @ (self.unit * self.coefficients)

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return self.folded().value_and_input_gradient(x)

    @steady
    def folded(self) -> SymmetricReLU:
        """The same function as a network with output weights 1."""
        return with_readout(self.features, self.unit * self.coefficients)


def _outputs(network: SymmetricReLU, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
    """S_b(⟨w_i, x⟩), neuron by neuron."""
    u = network.preactivations(x)
    return jnp.sign(u) * jnp.maximum(jnp.abs(u) - network.bias, 0)


@steady
def train_readout(
    problem: SparseCoding,
    features: SymmetricReLU,
    attack: Attack | None = None,
    *,
    key: PRNGKey,
    steps: int = 1000,
    batch: int = 512,
    learning_rate: float = 0.01,
) -> SymmetricReLU:
    """Logistic loss over the output weights alone, by `featpur_sim.training.low_complexity.fit`.

    All of them start at 0, so that nothing is left of the readout that the features were trained
    with. There is no weight decay.

    Args:
        problem: the data; its w* need not be the one that the features were trained for.
        features: hidden weights and thresholds, which stay.
        attack: perturbs every batch, as seen by the network of that step; None for clean training.
        key: names the samples.
        steps: of Adam, with a rate that falls to 0.
        batch: fresh samples a step.
        learning_rate: at the start, for features of root mean square 1.

    Returns:
        The network with the new readout.

    Raises:
        ValueError: the network smooths its thresholds or is a subclass, its inputs have another d,
            or a number is out of range.
    """
    if type(features) is not SymmetricReLU or features.smoothing != "none":
        raise ValueError(
            f"features is {features!r}: readouts are trained on a SymmetricReLU with "
            "smoothing = 'none'."
        )
    problem.require_dimension(features.weights)
    scale_key, fit_key = jax.random.split(key)
    trained = fit(
        _start(problem, features, scale_key),
        lambda model: model.coefficients,
        problem,
        attack,
        key=fit_key,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
    )
    return trained.folded()


def _start(problem: SparseCoding, features: SymmetricReLU, key: PRNGKey) -> Readout:
    seen = _outputs(features, problem.sample(key, _SAMPLES).x)
    size = jnp.sqrt(jnp.mean(seen**2, axis=0))
    unit = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    return Readout(features, unit, jnp.zeros(features.m))


@steady
def with_open_fraction(
    network: SymmetricReLU, problem: SparseCoding, fraction: Real, *, key: PRNGKey
) -> SymmetricReLU:
    """The network with thresholds that each neuron passes on that fraction of the samples.

    Features of random weights need thresholds of their own: with b = 0 they are linear, and with
    those of trained weights, which are longer, hardly any opens.

    Args:
        network: its weights are kept.
        problem: the data.
        fraction: above 0 and below 1.
        key: names the samples from which the thresholds are read.
    """
    fraction = number("fraction", fraction, above=0, below=1)
    size = jnp.abs(network.preactivations(problem.sample(key, _SAMPLES).x))
    return SymmetricReLU(network.weights, jnp.quantile(size, 1 - fraction, axis=0))
