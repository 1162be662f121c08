"""Polynomials and a tangent kernel that do defend (docs/theory.md §6, P2, P3, N2; lower-bound.md).

Separable odd polynomials f(x) = Σ_j w*_j h(⟨M_j,x⟩), for w* ∈ {±1}^d and unitary M. In the gauge
w* = 1, M = I (§1, exact in ℓ2) this is Σ_j h(x_j), and the worst case over an ℓ2 ball can be
bracketed for each sample without trusting any attack:

    min_{‖δ‖≤τ} f(x+δ) ≥ max_{μ≥0} Σ_j min_{|t|≤τ} [h(x_j + t) + μt²] − μτ²,

where every μ gives a sound bound and every feasible δ an upper one. The inner minima are bounded
from below rigorously (strong convexity, or a grid with its remainder), not just minimised.
Sampling noise (n points) is apart from the bracket: see `featpur_sim.statistics.wilson_interval`.
"""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.polynomial import Polynomial

from featpur_sim.theory.margin import Floats, check_law, check_sparsity_floor
from featpur_sim.theory.pure_network import labelled_sample

# Far above the rounding of a sum of d terms of order 1, far below any margin that matters.
_ROUNDING = 1e-12
# Entries handled at a time: a cache-sized block, and 64 MB when all of them need a grid.
_BLOCK = 2**15
# Grid cells on [−τ, τ] for coordinates where strong convexity fails.
_CELLS = 256
# Bisection of log μ over [2⁻⁴, 2⁴] times its first-order guess.
_HALVINGS = 14


@dataclass(frozen=True)
class WitnessScore:
    """Robust accuracy of one classifier, bracketed on a sample.

    Attributes:
        lower: fraction of points proved robust at the radius.
        upper: fraction of points on which no failing perturbation was found; lower ≤ upper.
        clean_accuracy: fraction of points with the right sign at radius 0.
        n: number of labelled points.
    """

    lower: float
    upper: float
    clean_accuracy: float
    n: int


def power_sum_basis(degree: int) -> list[tuple[int, ...]]:
    """Basis of the odd symmetric polynomials that P2 reduces robust training to [D] §6, P2.

    The term (r₁, …, r_s) stands for the product of p_{r₁}, …, p_{r_s}, where p_r = Σ_j (w*_j x_j)^r
    in the gauge M = I. Its degree r₁ + … + r_s is odd and at most `degree`. The terms are linearly
    independent for d ≥ `degree`.

    Args:
        degree: largest degree q, an integer ≥ 1.

    Returns:
        The terms, by degree: 1, 4, 11, 26 of them for q = 1, 3, 5, 7.

    Raises:
        ValueError: if degree is not an integer ≥ 1.

    Example:
        >>> power_sum_basis(3)
        [(1,), (3,), (2, 1), (1, 1, 1)]
    """
    if not isinstance(degree, Integral) or degree < 1:
        raise ValueError(f"degree = {degree!r}: must be an integer ≥ 1. Typical: 1, 3, 5 or 7.")
    return [term for total in range(1, degree + 1, 2) for term in _partitions(total, total)]


def cubic_witness() -> Polynomial:
    """h(t) = t³ [D] §6, P3.

    Returns:
        The polynomial h.
    """
    return Polynomial([0, 0, 0, 1])


def septic_witness(k: float) -> Polynomial:
    """h(t) = (k+2)t³ − (2k+1)t⁵ + kt⁷ = (k+2)t³(1 − t²)² + 3t⁵ − 2t⁷ [D] §6, P3.

    The one combination of t³, t⁵, t⁷ with h(1/√k) = 1/√k, h(1) = 1 and h'(1) = 1. It returns both
    sizes of a feature unchanged and cubes what is small, so Σ_j w*_j h(x_j) is nearly ⟨w*,z⟩; its
    robust accuracy tends to 1 whenever τ√k → 0 and k^{3/2}/d → 0.

    Args:
        k: sparsity, k ≥ 1.

    Returns:
        The polynomial h.

    Raises:
        ValueError: if k is not finite and ≥ 1.

    Example:
        >>> h = septic_witness(k=4)
        >>> print(f"{h(0.5):.6f} {h(1.0):.6f} {h(0.01):.6f}")
        0.500000 1.000000 0.000006
    """
    check_sparsity_floor(k)
    return Polynomial([0, 0, 0, k + 2, 0, -(2 * k + 1), 0, k])


def tangent_kernel_witness(x: Floats, bias: float) -> Floats:
    """The tangent-kernel classifier of N2 at infinite width [D] §6, N2.

    f(x) = E⟨v(w),x⟩1{|⟨w,x⟩| ≥ b} over w ~ N(0, I) with v(w)_j = w*_j(w_j² − 1), which equals
    2βφ(β) Σ_j w*_j x_j³/‖x‖², β = b/‖x‖: the sign of the cubic, so its robust accuracy.

    Args:
        x: inputs in the gauge w* = 1, M = I, float, shape [n, d].
        bias: gate threshold b > 0, in units of the standard deviation of the weights.

    Returns:
        f(x), shape [n]; 0 at x = 0.

    Raises:
        ValueError: if x is not 2-D and finite, or bias is out of range.
    """
    _check_inputs(x)
    _check_positive("bias", bias, "at b = 0 every gate is open and the kernel is linear")
    norm = np.linalg.norm(x, axis=1)
    safe = np.where(norm > 0, norm, 1.0)
    beta = bias / safe
    gate = 2 * beta * np.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    return gate * np.sum(x**3, axis=1) / safe**2


# The problem's parameters are those of `pure_network_robust_accuracy`: both are called alike.
def witness_robust_accuracy(
    h: Polynomial,
    d: int,
    k: float,
    sigma_x: float,
    radius: float,
    *,
    p_one: float = 1.0,
    n: int = 2000,
    seed: int = 0,
) -> WitnessScore:
    """Bracket the ℓ2 robust accuracy of f(x) = Σ_j w*_j h(⟨M_j,x⟩) on a sample [D] §6, P3.

    Args:
        h: an odd polynomial, such as `cubic_witness()` or `septic_witness(k)`.
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        n: number of points, all with ⟨w*,z⟩ ≠ 0; they are drawn and scored block by block.
        seed: seed of the numpy generators that draw them.

    Returns:
        The bracket and the clean accuracy, on those points.

    Raises:
        ValueError: if an argument is out of range or h is not odd.

    Example:
        >>> score = witness_robust_accuracy(septic_witness(5), 64, 5, 0.3, radius=0.1, n=100)
        >>> 0 < score.lower <= score.upper <= score.clean_accuracy <= 1
        True
    """
    check_law(d, k, p_one)
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n = {n!r}: must be an integer ≥ 1, the number of points. Pass a count.")
    block = max(1, 8 * _BLOCK // d)
    sizes = [min(block, n - start) for start in range(0, n, block)]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes), np.uint64)
    counts = np.zeros(3)
    for size, block_seed in zip(sizes, seeds, strict=True):
        x = labelled_sample(d, k, sigma_x, p_one, size, int(block_seed))
        lower, upper = separable_bounds(h, x, radius)
        clean = h(x).sum(axis=1)
        counts += [np.sum(value > _ROUNDING) for value in (lower, upper, clean)]
    return WitnessScore(*(counts / n).tolist(), n=n)


def witness_box_accuracy(
    h: Polynomial,
    d: int,
    k: float,
    sigma_x: float,
    radius: float,
    *,
    p_one: float = 1.0,
    n: int = 2000,
    seed: int = 0,
) -> float:
    """ℓ∞ robust accuracy of f(x) = Σ_j w*_j h(x_j) for M = I, on a sample [D] §6, P3.

    An odd h with coefficients ≥ 0 rises, so the worst point of the box takes ε off every
    coordinate: min y f = Σ_j h(w*_j y x_j − ε), exactly.

    Args:
        h: an odd polynomial with coefficients ≥ 0, such as `cubic_witness()`.
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ∞ radius ε > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        n: number of points, all with ⟨w*,z⟩ ≠ 0.
        seed: seed of the numpy generator that draws them.

    Returns:
        The fraction of the points that no perturbation of the box breaks.

    Raises:
        ValueError: if an argument is out of range, h is not odd or has a negative coefficient.

    Example:
        >>> 0.5 < witness_box_accuracy(cubic_witness(), 64, 5, 0.3, radius=0.021, n=100) < 1
        True
    """
    _check_odd(h)
    coefficients: Floats = np.asarray(h.coef, np.float64)
    if np.any(coefficients < 0):
        raise ValueError(
            f"h has coefficients {coefficients.tolist()!r}: must all be ≥ 0, so that h rises and "
            "the worst point of a box is known. Take the cubic."
        )
    _check_positive("radius", radius, "a typical ℓ∞ radius is 0.3/k")
    x = labelled_sample(d, k, sigma_x, p_one, n, seed)
    worst: Floats = h(x - radius).sum(axis=1)
    return float(np.mean(worst > _ROUNDING))


def separable_bounds(h: Polynomial, x: Floats, radius: float) -> tuple[Floats, Floats]:
    """Bracket min_{‖δ‖₂≤τ} Σ_j h(x_j + δ_j) for each point [D] §6, P3.

    The dual is concave in μ with supergradient Σ_j t_j² − τ²; its sign steers a bisection of log μ.
    Each μ on the way gives a lower bound, and its minimiser t, stretched to the sphere and polished
    by a few steps of δ ← −τ∇f(x+δ)/‖∇f(x+δ)‖, an upper bound.

    Args:
        h: an odd polynomial.
        x: inputs times their labels (so the right sign is +), float, shape [n, d].
        radius: ℓ2 radius τ > 0.

    Returns:
        Lower and upper bounds, float64, shape [n] each, up to rounding of about 1e-15·d. A lower
        bound far below zero may be loose.

    Raises:
        ValueError: if h is not odd, x not 2-D and finite, or radius out of range.
    """
    _check_odd(h)
    _check_inputs(x)
    _check_positive("radius", radius, "a typical ℓ2 radius is 0.3/√k")
    rows = max(1, _BLOCK // x.shape[1])
    parts = [_block_bounds(h, x[i : i + rows], radius) for i in range(0, len(x), rows)]
    lower, upper = zip(*parts, strict=True)
    return np.concatenate(lower), np.concatenate(upper)


def _block_bounds(h: Polynomial, x: Floats, radius: float) -> tuple[Floats, Floats]:
    slope = h.deriv()
    guess: Floats = np.maximum(np.linalg.norm(slope(x), axis=1) / (2 * radius), 1e-9)
    low, high = guess / 16, guess * 16
    lower = np.full(len(x), -np.inf)
    upper = h(x).sum(axis=1)
    delta, step = np.zeros_like(x), np.zeros_like(x)
    # Not the bisection of `pure_network`, which returns its two ends: here the ends are thrown away
    # and every price on the way gives bounds, its minimiser the start of the next.
    for _ in range(_HALVINGS):
        price = np.sqrt(low * high)
        value, step = _coordinate_minima(h, x, price[:, None], radius, step)
        lower = np.maximum(lower, value.sum(axis=1) - price * radius**2)
        upper, delta = _keep_better(h, x, radius, step, upper, delta)
        far = np.sum(step**2, axis=1) > radius**2
        low, high = np.where(far, price, low), np.where(far, high, price)
    for _ in range(5):
        upper, delta = _keep_better(h, x, radius, -slope(x + delta), upper, delta)
    return lower, upper


def _keep_better(
    h: Polynomial, x: Floats, radius: float, direction: Floats, upper: Floats, delta: Floats
) -> tuple[Floats, Floats]:
    """Try the point of the sphere in this direction; keep it where it lowers f."""
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    trial = direction * (radius / np.where(length > 0, length, 1.0))
    value = h(x + trial).sum(axis=1)
    better = value < upper
    return np.where(better, value, upper), np.where(better[:, None], trial, delta)


def _coordinate_minima(
    h: Polynomial, x: Floats, price: Floats, radius: float, start: Floats
) -> tuple[Floats, Floats]:
    """Lower bounds on min_{|t|≤τ} g(t), g(t) = h(x + t) + μt², and points t near the minimum.

    If g'' ≥ c > 0 on [−τ, τ], any t there gives g(t + s) ≥ g(t) + g'(t)s + cs²/2, whose least value
    over the window is closed form; Newton steps bring it to the minimum. Elsewhere a grid with
    cells of width ω: g ≥ (its least node) − Mω²/8, M ≥ max g''.
    """
    first, second = h.deriv(), h.deriv(2)
    # |h''| at any point of the window, by the triangle inequality.
    bend = Polynomial(np.abs(second.coef))(np.abs(x) + radius)
    convexity = 2 * price - bend
    convex = convexity > price / 4
    safe = np.where(convex, convexity, 1.0)
    t = start
    for _ in range(3):
        descent = (first(x + t) + 2 * price * t) / np.maximum(second(x + t) + 2 * price, safe)
        t = np.clip(t - descent, -radius, radius)
    tilt = first(x + t) + 2 * price * t
    s = np.clip(-tilt / safe, -radius - t, radius - t)
    value = h(x + t) + price * t**2 + tilt * s + safe * s**2 / 2
    if not convex.all():
        hard = ~convex
        price_of = np.broadcast_to(price, x.shape)[hard]
        value[hard], t[hard] = _grid_minimum(h, x[hard], price_of, bend[hard], radius)
    return value, t


def _grid_minimum(
    h: Polynomial, x: Floats, price: Floats, bend: Floats, radius: float
) -> tuple[Floats, Floats]:
    grid = np.linspace(-radius, radius, _CELLS + 1)
    nodes = h(x[:, None] + grid) + price[:, None] * grid**2
    best = np.argmin(nodes, axis=1)
    remainder = (bend + 2 * price) * (2 * radius / _CELLS) ** 2 / 8
    return np.take_along_axis(nodes, best[:, None], axis=1)[:, 0] - remainder, grid[best]


def _partitions(total: int, largest: int) -> list[tuple[int, ...]]:
    if total == 0:
        return [()]
    return [
        (part, *rest)
        for part in range(min(total, largest), 0, -1)
        for rest in _partitions(total - part, part)
    ]


def _check_odd(h: Polynomial) -> None:
    coefficients = np.asarray(h.coef)
    if np.any(coefficients[::2] != 0) or not np.isfinite(coefficients).all():
        raise ValueError(
            f"h has coefficients {coefficients.tolist()!r}: must be finite with zeros at the even "
            "powers, so that Σ h(x_j) is odd. Drop the even terms."
        )


def _check_inputs(x: Floats) -> None:
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(
            f"x has shape {x.shape}: must be 2-D [n, d] and finite. Pass x[None] for one point."
        )


def _check_positive(name: str, value: float, fix: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} = {value!r}: must be a finite number > 0; {fix}.")
