"""Polynomials in the reduced family of P2 (docs/theory.md §6; docs/lower-bound.md).

f(x) = Σ_t c_t Π_{r∈t} p_r(x), with the power sums p_r(x) = Σ_j (w*_j x_j)^r, in the gauge M = I.
The odd terms of degree ≤ q span a family that holds an optimum of every convex robust surrogate
over all polynomials of degree q. [D]
"""

import functools
import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.theory.witnesses import power_sum_basis

Term = tuple[int, ...]
# Samples that set the units of the terms; only training speed depends on them.
_UNIT_SAMPLES = 4096


class PolynomialClassifier(Classifier):
    """Σ_t c_t/u_t Π_{r∈t} p_r(x).

    Attributes:
        coefficients: c, [T], in units that make every term of order 1.
        units: u, [T]: the typical size of each term.
        wstar: w* ∈ {±1}^d.
        terms: powers of each term; () is the constant.
    """

    coefficients: Float[Array, " T"]
    units: Float[Array, " T"]
    wstar: Float[Array, " d"]
    terms: tuple[Term, ...] = eqx.field(static=True)

    @classmethod
    @steady
    def start(
        cls, problem: SparseCoding, degree: int, weights: dict[Term, float], *, key: PRNGKey
    ) -> "PolynomialClassifier":
        """The member with the given weights c_t/u_t on some terms, and 0 on the others.

        Args:
            problem: the data, with M = I and w* ∈ {±1}^d.
            degree: largest degree q ≥ 1. Even q adds the even terms, which P2 drops.
            weights: term → weight; at least one.
            key: names the samples from which the units are read.

        Raises:
            ValueError: M ≠ I, w* not ±1, a term outside the family, weights that are not numbers or
                all 0, or a wrong degree.
        """
        require_signs(problem)
        terms = symmetric_terms(degree)
        unknown = set(weights) - set(terms)
        if unknown:
            raise ValueError(f"weights name {sorted(unknown)}; the terms are {terms}.")
        values = [float(number(f"the weight of {term}", w)) for term, w in weights.items()]
        if not any(values):
            raise ValueError(f"weights must give a term a weight that is not 0, got {weights}.")
        x = problem.sample(key, _UNIT_SAMPLES).x
        ones = jnp.ones(len(terms), jnp.float32)
        size = jnp.std(cls(ones, ones, problem.wstar, terms).features(x), 0)
        units = jnp.where(size > 0, size, 1.0)  # the constant does not vary
        given = jnp.asarray([weights.get(term, 0.0) for term in terms], jnp.float32) * units
        # Outputs of order 1: where the surrogates bend.
        scale = 2 / jnp.std(cls(given, units, problem.wstar, terms)(x))
        return cls(scale * given, units, problem.wstar, terms)

    def features(self, x: Float[Array, "n d"]) -> Float[Array, "n T"]:
        """The terms at x, in their units."""
        u = x * self.wstar
        powers = itertools.accumulate([u] * max(map(sum, self.terms)), jnp.multiply)
        sums = [jnp.sum(power, -1) for power in powers]
        ones = jnp.ones(x.shape[:-1], x.dtype)
        # Plain products: the gradient of jnp.prod is slow to compile, and compiling is most of the
        # cost.
        columns = [
            functools.reduce(jnp.multiply, (sums[r - 1] for r in term), ones) for term in self.terms
        ]
        return jnp.stack(columns, -1) / self.units

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return self.features(x) @ self.coefficients

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return autodiff_input_gradient(self, x, key=key)


def symmetric_terms(degree: int) -> tuple[Term, ...]:
    """Terms of the family: the odd ones; for an even degree all of degree ≤ q, the constant too.

    >>> symmetric_terms(3)
    ((1,), (3,), (2, 1), (1, 1, 1))
    >>> symmetric_terms(2)
    ((), (1,), (2,), (1, 1))

    Raises:
        ValueError: degree is not an integer ≥ 1.
    """
    degree = count("degree", degree)
    odd = tuple(power_sum_basis(degree))
    if degree % 2:
        return odd
    # Partitions of an even total are those of the odd total above with a 1 taken away.
    above = power_sum_basis(degree + 1)
    even = {tuple(t[:-1]) for t in above if t[-1] == 1}
    return tuple(sorted({*odd, *even}, key=lambda t: (sum(t), len(t))))


def require_signs(problem: SparseCoding) -> None:
    """Refuse a problem outside the gauge M = I, w* ∈ {±1}^d, in which the family is symmetric.

    Raises:
        ValueError: M ≠ I, or w* not ±1.
    """
    if problem.M is not None or not np.all(np.abs(np.asarray(problem.wstar)) == 1):
        raise ValueError(
            "the symmetric family needs M = I and w* ∈ {±1}^d: pass problem.gauge() of a problem "
            "with a unitary dictionary and wstar='signs'."
        )
