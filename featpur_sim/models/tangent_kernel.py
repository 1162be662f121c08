"""The tangent kernel of the network at finite width (docs/theory.md §6, N1-N3).

f(x) = Σ_i ⟨v_i,x⟩ 1{|⟨w_i,x⟩| ≥ b} with the gates w_i ~ N(0, I) frozen and v trained: the network
of §2 to first order in the change v of its weights, in units of σ₀. At b = 0 it is linear (N1).
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from featpur_sim._ground.checks import count, double, number
from featpur_sim._ground.norms import length
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Numbers, PRNGKey, Real
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient

_LEAST_SIGMA = 1e-12


class NTKClassifier(Classifier):
    """f(x) = Σ_i ⟨v_i,x⟩ 1{|⟨w_i,x⟩| ≥ b}.

    Attributes:
        v: trained, [m, d].
        gates: w, frozen, [m, d].
        bias: b ≥ 0, [].
    """

    v: Float[Array, "m d"]
    gates: Float[Array, "m d"]
    bias: Float[Array, ""]

    def __init__(self, v: Numbers, gates: Numbers, bias: Numbers):
        self.v, self.gates = number("v", v, ndim=2), number("gates", gates, ndim=2)
        self.bias = number("bias", bias, least=0)
        if self.v.shape != self.gates.shape:
            raise ValueError(f"v and gates differ in shape: {self.v.shape}, {self.gates.shape}.")

    @classmethod
    def witness(
        cls, problem: SparseCoding, gates: Float[Array, "m d"], bias: Real
    ) -> "NTKClassifier":
        """v_i = w*∘(w_i² − 1)/m: the cubic's sign at infinite width. [D] §6, N2. Needs M = I."""
        if problem.M is not None:
            raise ValueError("the tangent-kernel witness needs M = I: pass problem.gauge().")
        return cls(problem.wstar * (gates**2 - 1) / len(gates), gates, bias)

    def open_gates(self, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        """1{|⟨w_i,x⟩| ≥ b}."""
        return (jnp.abs(x @ self.gates.T) >= self.bias).astype(x.dtype)

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return jnp.sum(self.open_gates(x) * (x @ self.v.T), -1)

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        """The gradient where it exists: no gate at its edge."""
        if type(self) is not NTKClassifier:
            return autodiff_input_gradient(self, x, key=key)
        open_gates = self.open_gates(x)
        return jnp.sum(open_gates * (x @ self.v.T), -1), open_gates @ self.v

    def smoothed(self, width: Real) -> Classifier:
        """E f(x + width·g), exactly; see `SmoothedNTK`."""
        if type(self) is not NTKClassifier:
            return super().smoothed(width)
        return SmoothedNTK(self, jnp.asarray(width, jnp.float32))


class SmoothedNTK(Classifier):
    """E f(x + s g), g ~ N(0, I), for an `NTKClassifier` f. [D]

    With u = ⟨w,x⟩, a = ⟨v,x⟩, σ = s‖w‖ and P(u) = Φ((u−b)/σ) + Φ((−u−b)/σ) the chance of an open
    gate, Stein's identity gives E[⟨v,x+sg⟩ 1{open}] = a P(u) + s²⟨v,w⟩ P′(u) for each gate.
    """

    model: NTKClassifier
    width: Float[Array, ""]

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return self.value_and_input_gradient(x)[0]

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        v, w, b = self.model.v, self.model.gates, self.model.bias
        sigma = jnp.maximum(self.width * length(w), _LEAST_SIGMA)
        u, a = x @ w.T, x @ v.T
        up, down = (u - b) / sigma, (-u - b) / sigma
        density_up, density_down = norm.pdf(up) / sigma, norm.pdf(down) / sigma
        chance = norm.cdf(up) + norm.cdf(down)
        slope = density_up - density_down
        bend = -(up * density_up + down * density_down) / sigma
        stein = self.width**2 * jnp.sum(v * w, -1)
        value = jnp.sum(a * chance + stein * slope, -1)
        return value, chance @ v + (a * slope + stein * bend) @ w


@steady
def random_gates(d: int, m: int, *, key: PRNGKey) -> Float[Array, "m d"]:
    """w_i ~ N(0, I): the network's start over σ₀.

    Raises:
        ValueError: d or m is no whole number ≥ 1.
    """
    d, m = count("d", d), count("m", m)
    return jax.random.normal(key, (m, d))


def gate_bias(d: int, k: float) -> float:
    """b = √(2 log d/k), in units of σ₀: a choice of scale within b⁽⁰⁾ = Θ(σ₀√log d). [P?] §3

    Pre-activations are N(0, ‖x‖²); among order d gates a feature of size 1/√k moves its best ones
    by about √(2 log d/k). A larger b closes the gates to single small features.

    Raises:
        ValueError: d is no whole number ≥ 1, or k not above 0.
    """
    return math.sqrt(2 * math.log(count("d", d)) / float(double("k", k, above=0)))
