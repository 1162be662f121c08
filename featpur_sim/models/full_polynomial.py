"""Every polynomial of a degree, for small d: what P2 reduces (docs/theory.md §6).

f(x) = Σ T_{i₁…i_q} x̄_{i₁}…x̄_{i_q} with x̄ = (1, x) and T any tensor: its (d+1)^q entries span all
monomials of degree ≤ q, odd and even. It is here to check the reduction, not to compete.
"""

import functools

import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.polynomial import PolynomialClassifier


class FullPolynomial(Classifier):
    """Σ T_{i₁…i_q} x̄_{i₁}…x̄_{i_q}, x̄ = (1, x).

    Attributes:
        tensor: T, [d+1]·q, not symmetrised: (d+1)^q numbers, so d ≤ 32 or so.
    """

    tensor: Array

    @classmethod
    def zero(cls, d: int, degree: int) -> "FullPolynomial":
        """f = 0.

        Raises:
            ValueError: d or degree is no whole number ≥ 1.

        >>> FullPolynomial.zero(3, 2).tensor.shape
        (4, 4)
        """
        d, degree = count("d", d), count("degree", degree)
        return cls(jnp.zeros((d + 1,) * degree, jnp.float32))

    @classmethod
    def embed(cls, reduced: PolynomialClassifier, degree: int) -> "FullPolynomial":
        """The member that equals ``reduced``, of a degree ≤ ``degree``.

        Raises:
            ValueError: ``degree`` is no whole number, or below that of ``reduced``.
        """
        degree = count("degree", degree, max(map(sum, reduced.terms)))
        wstar = np.asarray(reduced.wstar)
        d = len(wstar)
        one = np.eye(d + 1)[0]
        tensor = np.zeros((d + 1,) * degree)
        weights = np.asarray(reduced.coefficients / reduced.units, float)
        for weight, term in zip(weights, reduced.terms, strict=True):
            factors = [_power_sum(wstar, r) for r in term] + [one] * (degree - sum(term))
            tensor += weight * functools.reduce(np.multiply.outer, factors)
        return cls(jnp.asarray(tensor, jnp.float32))

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        padded = jnp.concatenate([jnp.ones_like(x[:, :1]), x], -1)
        value = jnp.tensordot(padded, self.tensor, 1)
        for _ in range(self.tensor.ndim - 1):
            value = jnp.einsum("ni,ni...->n...", padded, value)
        return value

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return autodiff_input_gradient(self, x, key=key)


def _power_sum(wstar: np.ndarray, power: int) -> np.ndarray:
    """The tensor of Σ_j (w*_j x_j)^r, [d+1]·r."""
    tensor = np.zeros((len(wstar) + 1,) * power)
    at = np.arange(1, len(wstar) + 1)
    tensor[(at,) * power] = wstar**power
    return tensor
