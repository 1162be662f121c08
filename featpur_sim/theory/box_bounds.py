"""What no linear model or quadratic can keep in a box where M = I (docs/theory.md §6, ℓ∞).

Every bound holds for every member of its class, whatever trained it, at the stated d. The angle
bound of `featpur_sim.theory.class_bounds` lets a weight with few large entries through: Cantelli's
inequality cannot tell its gains, rare because features are, from frequent ones. Here the largest
entries count as gains only when their features are active and agree with the label, and convexity
leaves equal entries as the worst case. Numbers are exact up to rounding errors of order 1e-12.

Letters: n number of largest entries (the head), ψ(u) = (u − θ)₊/(ε − θ) ≥ 1{u > ε}, m number of
equal entries of a weight, T and R sums of z over the tail of these and over all other coordinates.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from featpur_sim.theory.class_bounds import ClassBound, linear_linf_bound
from featpur_sim.theory.margin import Floats, margin_law, tie_probability

# Sizes of the head and values of θ/ε that are tried. Every choice is a bound.
_HEADS, _SHARES = range(0, 41, 2), (0.0, 0.2, 0.4, 0.5)
# Outcomes rarer than this are counted against us instead of being listed.
_RARE = 1e-12
# As in `featpur_sim.theory.margin`: margins as close as this are equal.
_EQUAL = 1e-9


def linear_box_bound(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ClassBound:
    """Every f = ⟨w,x⟩ against ℓ∞ perturbations where M = I [D] §6, L5.

    RA ≤ min_{n,θ} max_m E Ψ(e_m)/Pr[S ≠ 0], e_m with m entries 1/m, where Ψ is ψ(y⟨w,x⟩) if no
    coordinate of the head is active, 1 if two are, and if one is: 1 where its sign is the label,
    else ψ of the others. The bound over the angle instead where that is smaller.

    Args:
        d: input dimension, an integer ≥ 2 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ∞ radius ε > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound, at most 1. It takes a second at d = 128, and longer in proportion to d.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> linear_box_bound(64, 5, 0.3, radius=0.063).bound < 0.5
        True
    """
    angle = linear_linf_bound(d, k, sigma_x, radius, 1.0, p_one=p_one)
    value = _head_bound(d, float(k), float(sigma_x), float(radius), float(p_one))
    formula = "min_{n,θ} max_m E Ψ(e_m)/Pr[S≠0]"
    value, formula = min((value, formula), (angle.bound, angle.formula))
    return ClassBound(
        "linear, ℓ∞ attack, M = I", value, d, k, sigma_x, radius, formula, "[D] §6, L5 and ℓ∞"
    )


def odd_part_bound(linear: ClassBound, model_class: str) -> ClassBound:
    """Every f whose odd part is linear: ½ + ½ × a bound on linear ones [D] §6, P1.

    A ball of any norm is symmetric, which is all that P1 asks of it. Such f are linear ones with an
    intercept and polynomials of degree 2.

    Args:
        linear: of every linear classifier, in either norm.
        model_class: the class, in words.

    Returns:
        The bound, never below ½.
    """
    return ClassBound(
        model_class,
        (1 + linear.bound) / 2,
        linear.d,
        linear.k,
        linear.sigma_x,
        linear.radius,
        f"½ + ½ {linear.formula}",
        f"{linear.source} and P1",
    )


@cache
def _head_bound(d: int, k: float, sigma_x: float, radius: float, p_one: float) -> float:
    """min over n and θ, found on few m, then the maximum over all m for that choice."""
    sums = _Sums(d, k, p_one)
    few = sorted({round(2 ** (i / 2)) for i in range(2 * d.bit_length())} & set(range(1, d + 1)))
    tried = [
        (max(_share(sums, n, share * radius, m, sigma_x, radius) for m in few), n, share * radius)
        for n in _HEADS
        if n < d
        for share in _SHARES
    ]
    _, n, theta = min(tried)
    worst = max(_share(sums, n, theta, m, sigma_x, radius) for m in range(1, d + 1))
    return min(1.0, worst / (1 - tie_probability(d, k, p_one)))


class _Law(NamedTuple):
    """Of a sum of coordinates of z: rising values, masses, their sums from 0, and what is left."""

    values: Floats
    mass: Floats
    below: Floats
    missing: float

    def above(self, x: Floats) -> Floats:
        """Upper bound on Pr[sum > x]; equal is not above."""
        place = np.searchsorted(self.values, x + _EQUAL, side="right")
        return self.below[-1] - self.below[place] + self.missing


class _Sums:
    """The laws of sums of coordinates of z."""

    def __init__(self, d: int, k: float, p_one: float):
        self.d, self.k, self.p_one = d, k, p_one
        self._laws: dict[int, _Law] = {}

    def of(self, terms: int) -> _Law:
        """The law of the sum of so many."""
        if terms not in self._laws:
            ones, smalls, chance = margin_law(self.d, self.k, self.p_one, terms)
            listed = chance > _RARE
            values = (ones + smalls / math.sqrt(self.k))[listed]
            order = np.argsort(values)
            mass = chance[listed][order]
            below = np.concatenate([[0.0], np.cumsum(mass)])
            self._laws[terms] = _Law(values[order], mass, below, abs(1 - float(below[-1])))
        return self._laws[terms]


def _share(sums: _Sums, head: int, theta: float, m: int, sigma_x: float, radius: float) -> float:
    """E Ψ; S ≠ 0 at the weight with m entries 1/m, a head of n, from the laws of T and R."""
    d, k, p_one = sums.d, sums.k, sums.p_one
    tail, rest = sums.of(max(0, m - head)), sums.of(d - max(m, head))
    noise = sigma_x / math.sqrt(d * m)
    gain, loss = (
        _hinge(sign * tail.values / m - theta, noise) / (radius - theta) for sign in (1, -1)
    )
    # |T| ≤ m, so ψ is at most this on what is not listed.
    slack = tail.missing * max(1.0, (1 + sigma_x) / (radius - theta))
    silent = tail.mass @ (rest.above(-tail.values) * gain + rest.above(tail.values) * loss)
    single = 0.0
    for size, rate in ((1 / math.sqrt(k), k), (1.0, p_one)):
        agrees = tail.mass @ rest.above(-tail.values - size)
        differs = tail.mass @ (rest.above(tail.values + size) * loss)
        single += rate / (k + p_one) * (agrees + differs)
    quiet = 1 - (k + p_one) / d
    none = quiet**head
    one = head * quiet ** (head - 1) * (1 - quiet) if head else 0.0
    return float(none * silent + one * single + (1 - none - one) + slack)


def _hinge(mean: Floats, noise: float) -> Floats:
    """E(mean + noise·g)₊ for a standard normal g."""
    if noise == 0:
        return np.maximum(mean, 0)
    z = mean / noise
    return mean * special.ndtr(z) + noise * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
