"""The tangent kernel at infinite width: six members and the kernel (docs/theory.md §6, N2).

For w ~ N(0, I), a unit vector e and the gate 1{|⟨w,x⟩| ≥ b} with β = b/‖x‖: [D]

    E[He_{2r}(⟨w,e⟩) 1{open}] = c_{2r} ⟨e,x/‖x‖⟩^{2r},  c₀ = 2Φ(−β), c_{2r} = 2 He_{2r−1}(β) φ(β),

because ∫_β^∞ He_n φ = He_{n−1}(β)φ(β). Hence v(w)_j = w*_j He_{2r}(w_j) gives
f(x) = c_{2r} Σ_j w*_j x_j^{2r+1}/‖x‖^{2r}; v = w*(⟨w,w*⟩²/d − 1) gives c₂⟨w*,x⟩³/(d‖x‖²), and
v = w*(‖w‖² − d) gives c₂⟨w*,x⟩.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy import special

from featpur_sim._ground.checks import double, number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey, Scalar
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.polynomial import require_signs

_UNIT_SAMPLES = 4096
# Gauss-Legendre nodes on each half-line of the kernel's integral, cut at ten deviations.
_NODES, _CUT = 400, 10.0


class NTKLimit(Classifier):
    """Σ_t c_t/u_t φ_t(x) over the six members of the module's heading, in the gauge M = I.

    Attributes:
        coefficients: c, [6].
        units: u, [6]: the typical size of each member.
        wstar: w* ∈ {±1}^d.
        bias: b > 0, in units of the standard deviation of the gates.
    """

    coefficients: Float[Array, " 6"]
    units: Float[Array, " 6"]
    wstar: Float[Array, " d"]
    bias: Scalar

    @classmethod
    @steady
    def witness(cls, problem: SparseCoding, bias: float, *, key: PRNGKey) -> "NTKLimit":
        """The member of N2: the sign of the cubic. ``key`` names the samples that set the units.

        Raises:
            ValueError: M ≠ I, w* not ±1 or bias not above 0, where the kernel is linear.
        """
        require_signs(problem)
        level = number("bias", bias, above=0)
        ones = jnp.ones(6, jnp.float32)
        x = problem.sample(key, _UNIT_SAMPLES).x
        model = cls(ones, ones, problem.wstar, level)
        units = jnp.std(model.features(x), 0)
        return cls(2 * jnp.eye(6)[1], units, problem.wstar, level)

    def features(self, x: Float[Array, "n d"]) -> Float[Array, "n 6"]:
        """The six members at x, in their units."""
        square = jnp.maximum(jnp.sum(x**2, -1), 1e-12)
        beta = self.bias / jnp.sqrt(square)
        density = 2 * norm.pdf(beta)
        c0, c2 = 2 * norm.cdf(-beta), density * beta
        c4, c6 = density * (beta**3 - 3 * beta), density * (beta**5 - 10 * beta**3 + 15 * beta)
        u = x * self.wstar
        s1, s3, s5, s7 = (jnp.sum(u**r, -1) for r in (1, 3, 5, 7))
        cross = c2 * s1**3 / (square * x.shape[-1])
        members = (
            c0 * s1,
            c2 * s3 / square,
            c4 * s5 / square**2,
            c6 * s7 / square**3,
            cross,
            c2 * s1,
        )
        return jnp.stack(members, -1) / self.units

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return self.features(x) @ self.coefficients

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return autodiff_input_gradient(self, x, key=key)


def limit_kernel(x: np.ndarray, other: np.ndarray, bias: float) -> float:
    """⟨x,x′⟩ Pr[|⟨w,x⟩| ≥ b and |⟨w,x′⟩| ≥ b], w ~ N(0, I): the kernel at infinite width. [D]

    Args:
        x: an input, [d], not 0.
        other: another one, likewise.
        bias: b ≥ 0.

    Returns:
        The kernel per neuron, to about 1e-8.

    Raises:
        ValueError: an input is 0 or no vector of numbers, or bias is negative.

    >>> x = np.array([1.0, 0.0])
    >>> limit_kernel(x, x, 0.0)
    1.0
    """
    x, other = double("x", x, ndim=1), double("other", other, ndim=1)
    bias = float(double("bias", bias, least=0))
    product = float(x @ other)
    lengths = float(np.linalg.norm(x)), float(np.linalg.norm(other))
    if not min(lengths) > 0:
        raise ValueError("x and other must not be 0: the kernel has no direction there.")
    correlation = min(1.0, max(-1.0, product / (lengths[0] * lengths[1])))
    near, far = bias / lengths[0], bias / lengths[1]
    rest = math.sqrt(1 - correlation**2)
    if rest < 1e-7:
        return product * 2 * float(special.ndtr(-max(near, far)))
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    g = near + (_CUT - near) * (node + 1) / 2
    density = np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    outside = special.ndtr((-far - correlation * g) / rest) + special.ndtr(
        (correlation * g - far) / rest
    )
    # Both signs of g contribute alike.
    return product * 2 * float(np.sum(weight * density * outside)) * (_CUT - near) / 2
