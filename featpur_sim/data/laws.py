"""Laws of the hidden magnitudes |z_j| (docs/theory.md §1).

Coordinates are independent with a fair sign; a law gives the magnitude as a function of one
uniform variable, so that a law is data (its parameters may be traced) and sampling is one fused
elementwise pass. All laws keep ``|z_j|`` in ``{0} ∪ [1/√k, 1]`` with ``E z_j² = Θ(1/D)``, except
the Gaussian twin, which is the control that leaves sparsity out.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import erfinv

from featpur_sim._ground.checks import number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Numbers, Real, Scalar


class HiddenLaw(eqx.Module):
    """The law of one |z_j|, given the sparsity k and the number of features D."""

    # The k below which the law would leave its class.
    smallest_k: ClassVar[float] = 1.0
    # How a problem names the law; the class's own name by default.
    label: ClassVar[str | None] = None

    @abc.abstractmethod
    def magnitude(self, uniform: Float[Array, "*s"], k: Real, D: int) -> Float[Array, "*s"]:
        """|z_j| as a function of a uniform variable on [0, 1)."""

    @abc.abstractmethod
    def second_moment(self, k: Real, D: int) -> Scalar:
        """E z_j², exactly."""

    @abc.abstractmethod
    def nonzero_rate(self, k: Real, D: int) -> Scalar:
        """Pr[z_j ≠ 0], exactly."""


class TwoLevel(HiddenLaw):
    """|z_j| = 1 with probability p₁/D, 1/√k with probability k/D, else 0. [P]

    The default law: E z_j² = (1 + p₁)/D exactly.
    """

    label: ClassVar[str | None] = "two-level"

    p_one: Scalar

    @steady
    def __init__(self, p_one: float = 1.0):
        self.p_one = number("p_one", p_one, least=0)

    def magnitude(self, uniform: Float[Array, "*s"], k: Real, D: int) -> Float[Array, "*s"]:
        small = jnp.where(uniform < (self.p_one + k) / D, 1 / jnp.sqrt(k), 0.0)
        return jnp.where(uniform < self.p_one / D, 1.0, small)

    def second_moment(self, k: Real, D: int) -> Scalar:
        return (1 + self.p_one) / D

    def nonzero_rate(self, k: Real, D: int) -> Scalar:
        return (self.p_one + k) / D


class UniformMagnitude(HiddenLaw):
    """|z_j| uniform on [1/√k, 1] with probability p₁/D, on [1/√k, 2/√k] with probability k/D.

    The atoms of the two-level law spread out: the large level has a density up to 1 where the
    paper's class has an atom at 1. [D] E z_j² = (p₁(1 + s + s²) + 7ks²)/(3D) with s = 1/√k.
    Needs k ≥ 4, so that 2/√k ≤ 1.
    """

    smallest_k: ClassVar[float] = 4.0
    label: ClassVar[str | None] = "uniform-magnitude"

    p_one: Scalar

    @steady
    def __init__(self, p_one: float = 1.0):
        self.p_one = number("p_one", p_one, least=0)

    def magnitude(self, uniform: Float[Array, "*s"], k: Real, D: int) -> Float[Array, "*s"]:
        low = 1 / jnp.sqrt(k)
        in_large = uniform * D / jnp.maximum(self.p_one, 1e-30)
        in_small = (uniform * D - self.p_one) / k
        large = low + (1 - low) * in_large
        small = jnp.where(in_small < 1, low * (1 + in_small), 0.0)
        return jnp.where(uniform * D < self.p_one, large, small)

    def second_moment(self, k: Real, D: int) -> Scalar:
        low = 1 / jnp.sqrt(k)
        return (self.p_one * (1 + low + low**2) + 7 * k * low**2) / (3 * D)

    def nonzero_rate(self, k: Real, D: int) -> Scalar:
        return (self.p_one + k) / D


class Levels(HiddenLaw):
    """User-given levels: |z_j| = values[l] with probability rates[l]/D, else 0.

    Args:
        values: magnitudes, each in (0, 1].
        rates: expected number of coordinates at each level, each ≥ 0.

    Raises:
        ValueError: shapes differ, or a value or a rate is out of range.
    """

    label: ClassVar[str | None] = "levels"

    values: Float[Array, " l"]
    rates: Float[Array, " l"]

    @steady
    def __init__(self, values: Numbers, rates: Numbers):
        self.values = number("Levels: values", values, above=0, most=1, ndim=1)
        self.rates = number("Levels: rates", rates, least=0, ndim=1)
        if self.values.shape != self.rates.shape:
            raise ValueError(
                "Levels: values and rates must be lists of one length ≥ 1, got shapes "
                f"{self.values.shape} and {self.rates.shape}."
            )

    def magnitude(self, uniform: Float[Array, "*s"], k: Real, D: int) -> Float[Array, "*s"]:
        edges = jnp.cumsum(self.rates) / D
        level = jnp.sum(uniform[..., None] >= edges, axis=-1)
        return jnp.append(self.values, 0.0)[level]

    def second_moment(self, k: Real, D: int) -> Scalar:
        return jnp.sum(self.rates * self.values**2) / D

    def nonzero_rate(self, k: Real, D: int) -> Scalar:
        return jnp.sum(self.rates) / D


class GaussianTwin(HiddenLaw):
    """z_j ~ N(0, (1 + p₁)/D): the variance of the two-level law without its sparsity. [D] §6, P4

    A control: on it no classifier whatever can be robust
    (`featpur_sim.theory.class_bounds.gaussian_twin_bound`, for M unitary). k plays no part.
    """

    label: ClassVar[str | None] = "gaussian-twin"

    p_one: Scalar

    @steady
    def __init__(self, p_one: float = 1.0):
        self.p_one = number("p_one", p_one, least=0)

    def magnitude(self, uniform: Float[Array, "*s"], k: Real, D: int) -> Float[Array, "*s"]:
        # Pr[|N| ≤ t] = erf(t/√2).
        return jnp.sqrt(2 * self.second_moment(k, D)) * erfinv(uniform)

    def second_moment(self, k: Real, D: int) -> Scalar:
        return (1 + self.p_one) / D

    def nonzero_rate(self, k: Real, D: int) -> Scalar:
        return jnp.ones(())
