"""The pure network: what ideal purification can reach at finite d (docs/theory.md §5.2).

One neuron per feature and nothing else, f(x) = Σ_j w*_j S_b(⟨M_j,x⟩) for w* ∈ {±1}^d, unitary M. In
the gauge w* = 1, M = I (§1, exact in ℓ2) this is f(x) = Σ_j S_b(x_j) with the soft threshold
S_b(u) = sign(u)·max(|u| − b, 0). Its ℓ2 worst case is separable, so it can be bracketed per sample
from both sides without any attack heuristic (the separable case of §8):

    min_{‖δ‖≤τ} f(x+δ) ≥ max_{μ>0} Σ_j min_t [S_b(x_j − t) + μt²] − μτ²,

and every feasible δ is an upper bound. The two differ only by what one coordinate can do when its
step crosses the dead zone, where the dual minimiser jumps. Sampling noise (n points) is apart from
the bracket: see `featpur_sim.statistics.wilson_interval`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from featpur_sim.theory.margin import Floats, check_law, is_tie

# Far above the rounding of a sum of d terms of order 1, far below any margin that matters.
_ROUNDING = 1e-12
# Bisection of a ratio √d: 30 halvings of its logarithm leave 1e-8 for any d below 1e9.
_HALVINGS = 30


@dataclass(frozen=True)
class PureNetwork:
    """Robust accuracy of a pure network, bracketed on a sample.

    Attributes:
        lower: fraction of points proved robust at the radius.
        upper: fraction of points on which no failing perturbation was found; lower ≤ upper.
        clean_accuracy: fraction of points with the right sign at radius 0.
        bias: threshold b of S_b, in units of x.
        n: number of labelled points.
    """

    lower: float
    upper: float
    clean_accuracy: float
    bias: float
    n: int


def pure_network_robust_accuracy(
    d: int,
    k: float,
    sigma_x: float,
    radius: float,
    bias: float,
    *,
    p_one: float = 1.0,
    n: int = 4000,
    seed: int = 0,
) -> PureNetwork:
    """Bracket the ℓ2 robust accuracy of the pure network with threshold b [D] §5.2.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0; the noise has standard deviation σ_x/√d a coordinate.
        radius: ℓ2 radius τ > 0.
        bias: threshold b ≥ 0, in units of x; 1/√k is the size of a small feature.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        n: number of points, all with ⟨w*,z⟩ ≠ 0.
        seed: seed of the numpy generator that draws them.

    Returns:
        The bracket and the clean accuracy, on those points.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> net = pure_network_robust_accuracy(64, 5, 0.3, radius=0.13, bias=0.2, n=500)
        >>> 0 < net.lower <= net.upper <= net.clean_accuracy <= 1
        True
    """
    x = labelled_sample(d, k, sigma_x, p_one, n, seed)
    return _score(x, radius, bias)


def best_pure_network(
    d: int,
    k: float,
    sigma_x: float,
    radius: float,
    *,
    p_one: float = 1.0,
    multiples: Sequence[float] = tuple(i / 20 for i in range(2, 20)),
    n: int = 4000,
    seed: int = 0,
) -> PureNetwork:
    """The pure network with the best threshold on a grid, by its proved robust accuracy [D] §5.2.

    All thresholds are scored on the same points. The winner's figure is therefore optimistic by
    the selection, less than its sampling error; score its `bias` with another seed to remove that.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0; the noise has standard deviation σ_x/√d a coordinate.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        multiples: thresholds to try, in units of 1/√k, each ≥ 0.
        n: number of points, all with ⟨w*,z⟩ ≠ 0.
        seed: seed of the numpy generator that draws them.

    Returns:
        The bracket, clean accuracy and threshold of the winner.

    Raises:
        ValueError: if an argument is out of range.
    """
    if len(multiples) == 0:
        raise ValueError("multiples is empty: must name at least one threshold, e.g. [0.5].")
    x = labelled_sample(d, k, sigma_x, p_one, n, seed)
    scores = [_score(x, radius, float(multiple) / math.sqrt(k)) for multiple in multiples]
    return max(scores, key=lambda score: score.lower)


def worst_case_bounds(x: Floats, radius: float, bias: float) -> tuple[Floats, Floats]:
    """Bracket min_{‖δ‖₂≤τ} Σ_j S_b(x_j + δ_j) for each point [D] §5.2, §8.

    With s = 1/(2μ) the inner minimum has two candidates a coordinate: move by min(s, x_j − b)
    towards the dead zone (or not at all), or move by s through it. The dual is concave in μ and
    its slope Σ_j t_j² − τ² changes sign for s in [τ/√d, τ]; bisection finds the place. On both
    sides of it the set of crossing coordinates is frozen and the budget spent in full: two
    feasible points, of which the better is the upper bound.

    Args:
        x: inputs times their labels (so the right sign is +), float, shape [n, d].
        radius: ℓ2 radius τ > 0.
        bias: threshold b ≥ 0.

    Returns:
        Lower and upper bounds, float64, shape [n] each, up to rounding of about 1e-15·d. A lower
        bound far below zero may be loose: it is sharp where the sign is in question.

    Raises:
        ValueError: if x is not 2-D and finite, or radius or bias is out of range.
    """
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(
            f"x has shape {x.shape}: must be 2-D [n, d] and finite. Pass x[None] for one point."
        )
    _check_positive("radius", radius, "a typical ℓ2 radius is 0.3/√k")
    _check_nonnegative("bias", bias, "a typical threshold is 0.5/√k")
    n, d = x.shape
    # A dead coordinate that cannot gain by crossing at s = τ never moves and adds 0: drop it.
    row, column = np.nonzero((x > bias) | (x < radius / 2 - bias))
    u = x[row, column]

    def total(per_coordinate: Floats) -> Floats:
        return _sum_by_point(row, per_coordinate, n)

    def dual_slope(s: Floats) -> Floats:
        return total(np.minimum(s[row], _reach(u, s[row], bias)) ** 2) - radius**2

    small, large = _bisect(dual_slope, radius, n, d)
    lower = np.full(n, -np.inf)
    upper = np.full(n, np.inf)
    for s in (small, large):
        value = _coordinate_dual(u, s[row], bias)
        lower = np.maximum(lower, total(value) - radius**2 / (2 * s))
        reach = _reach(u, s[row], bias)
        step = np.minimum(_fill_ball(reach, row, radius, n, d)[row], reach)
        upper = np.minimum(upper, total(_soft(u - step, bias)))
    return lower, upper


def labelled_sample(d: int, k: float, sigma_x: float, p_one: float, n: int, seed: int) -> Floats:
    """Inputs times their labels, y·x, in the gauge w* = 1, M = I [P] §1.

    Samples without a label are drawn again.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        n: number of points.
        seed: seed of the numpy generator that draws them.

    Returns:
        y·x, float64, shape [n, d].

    Raises:
        ValueError: if an argument is out of range.
    """
    check_law(d, k, p_one)
    _check_nonnegative("sigma_x", sigma_x, "the default is 0.3")
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n = {n!r}: must be an integer ≥ 1, the number of points. Pass a count.")
    rng = np.random.default_rng(seed)
    z, margin = np.zeros((n, d)), np.zeros(n)
    open_rows = np.arange(n)
    while open_rows.size:
        u = rng.random((open_rows.size, d))
        sign = rng.choice([-1, 1], size=u.shape)
        ones = sign * (u < p_one / d)
        smalls = sign * (u >= 1 - k / d)
        z[open_rows] = ones + smalls / math.sqrt(k)
        a, b = ones.sum(axis=1), smalls.sum(axis=1)
        margin[open_rows] = a + b / math.sqrt(k)
        open_rows = open_rows[is_tie(a, b, k)]
    x = z + rng.normal(scale=sigma_x / math.sqrt(d), size=z.shape)
    return np.sign(margin)[:, None] * x


def _score(x: Floats, radius: float, bias: float) -> PureNetwork:
    lower, upper = worst_case_bounds(x, radius, bias)
    clean: Floats = _soft(x, bias).sum(axis=1)
    return PureNetwork(
        lower=float(np.mean(lower > _ROUNDING)),
        upper=float(np.mean(upper > _ROUNDING)),
        clean_accuracy=float(np.mean(clean > _ROUNDING)),
        bias=bias,
        n=len(x),
    )


def _sum_by_point(row: NDArray[np.int64], values: Floats, n: int) -> Floats:
    return np.bincount(row, weights=values, minlength=n).astype(np.float64)


def _soft(u: Floats, bias: float) -> Floats:
    return np.sign(u) * np.maximum(np.abs(u) - bias, 0)


def _coordinate_dual(u: Floats, s: Floats, bias: float) -> Floats:
    """min_t [S_b(u − t) + t²/(2s)], the least of the two candidates."""
    stay = np.minimum(s, np.maximum(u - bias, 0))
    return np.minimum(_soft(u, bias) - stay + stay**2 / (2 * s), u + bias - s / 2)


def _reach(u: Floats, s: Floats, bias: float) -> Floats:
    """How far a coordinate goes at price s: ∞ if it crosses, else to the edge of the dead zone."""
    edge = np.maximum(u - bias, 0)
    stay = np.minimum(s, edge)
    crosses = u + bias - s / 2 < _soft(u, bias) - stay + stay**2 / (2 * s)
    return np.where(crosses, np.inf, edge)


def _fill_ball(reach: Floats, row: NDArray[np.int64], radius: float, n: int, d: int) -> Floats:
    """Largest common step s ≤ τ with Σ_j min(s, reach_j)² ≤ τ², shape [n]."""

    def excess(s: Floats) -> Floats:
        return _sum_by_point(row, np.minimum(s[row], reach) ** 2, n) - radius**2

    return _bisect(excess, radius, n, d)[0]


def _bisect(
    excess: Callable[[Floats], Floats], radius: float, n: int, d: int
) -> tuple[Floats, Floats]:
    """Shrink [τ/√d, τ] around the sign change of a function, ≤ 0 at τ/√d and rising, [n]."""
    low: Floats = np.full(n, radius / math.sqrt(d))
    high: Floats = np.full(n, radius)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        over = excess(middle) > 0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return low, high


def _check_positive(name: str, value: float, fix: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} = {value!r}: must be a finite number > 0; {fix}.")


def _check_nonnegative(name: str, value: float, fix: str) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} = {value!r}: must be a finite number ≥ 0; {fix}.")
