"""What no member of a low-complexity class can exceed (docs/theory.md §6; lower-bound-proofs.md).

Robust accuracy (RA) is the probability, given S = ⟨w*,z⟩ ≠ 0, that the label y = sign S is right on
the whole ball of the radius around x = Mz + ξ. Every bound here holds for every member of its
class, whatever trained it, for w* ∈ {±1}^d, unitary M and the two-level law, at the stated d:
nothing is asymptotic and nothing is sampled. Maxima over angle and intercept are taken by branch
and bound with bounds on whole cells, and the mass the joint law leaves out counts against us, so
rounding errors of order 1e-12 are all that separates the printed number from a proof.

This module never touches simulation code, so that agreement between the two is evidence.
Letters: Q = ‖z‖², τ radius in ℓ2, ε radius in ℓ∞, θ angle between a weight and Mw*, b intercept,
σ_x noise level, Φ the standard normal distribution function.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from featpur_sim.theory.joint_law import JointLaw, joint_law
from featpur_sim.theory.margin import Floats, check_size, tie_probability

Corner = tuple[float, ...]

# How far above the true maximum a branch-and-bound maximum may end, by number of variables. The
# number of boxes grows like the inverse power.
_TOLERANCE = {1: 2e-4, 2: 2e-3}


@dataclass(frozen=True)
class ClassBound:
    """An upper bound on the robust accuracy of every member of a class.

    Attributes:
        model_class: the class, in words.
        bound: the bound, in [0, 1].
        d: input dimension.
        k: sparsity; None where the law has none (the Gaussian twin).
        sigma_x: noise level σ_x.
        radius: radius of the attack, ℓ2 unless `model_class` says ℓ∞.
        formula: the bound in the letters of docs/lower-bound-proofs.md.
        source: source tag and section, e.g. "[D] §6, L2".
        kind: always "proved": measured figures have no place here.
    """

    model_class: str
    bound: float
    d: int
    k: float | None
    sigma_x: float
    radius: float
    formula: str
    source: str
    kind: str = "proved"


@dataclass(frozen=True)
class ConvexOptimum:
    """What robust training of a linear model by a convex surrogate leads to.

    Attributes:
        robust_accuracy: RA of f(x) = ⟨Mw*, x⟩, the only direction such an optimum can have.
        mean_margin: E[|S| given S ≠ 0].
        collapses: whether τ√d ≥ E|S|. Then w = 0 is an optimum, and no w ≠ 0 does better.
    """

    robust_accuracy: float
    mean_margin: float
    collapses: bool


def linear_moment_bound(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ClassBound:
    """Every f = ⟨w,x⟩, from the second moment alone [D] §6, L1.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound (1 + p₁ + σ_x²)/(d τ² Pr[S ≠ 0]), at most 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_attack(sigma_x, radius)
    labelled = 1 - tie_probability(d, k, p_one)
    value = (1 + p_one + sigma_x**2) / (d * radius**2 * labelled)
    value = min(1.0, value)
    formula = "(1 + p₁ + σ_x²)/(d τ² Pr[S≠0])"
    return ClassBound("linear", value, d, k, sigma_x, radius, formula, "[D] §6, L1")


def linear_bound(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ClassBound:
    """Every f = ⟨w,x⟩, from the exact joint law of (|S|, Q) [D] §6, L2.

    max_θ E[v/(v + (τ − μ)₊²)], μ = cos θ |S|/√d, v = sin²θ (Q − S²/d)/(d − 1) + σ_x²/d.

    Args:
        d: input dimension, an integer ≥ 2 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound, within 2e-4 above the maximum over the angle.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> linear_bound(64, 5, 0.3, radius=0.5).bound < 0.2
        True
    """
    value = _linear_maximum(d, k, sigma_x, radius, p_one)
    formula = "max_θ E[v/(v + (τ−μ)₊²)]"
    return ClassBound("linear", value, d, k, sigma_x, radius, formula, "[D] §6, L2")


def affine_bound(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ClassBound:
    """Every f = ⟨w,x⟩ + b [D] §6, L3.

    RA = ½Pr[T > τ − b] + ½Pr[T > τ + b] for ‖w‖ = 1; both are bounded as in L2, at a common θ. A
    constant has RA = ½, so this is never below ½.

    Args:
        d: input dimension, an integer ≥ 2 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound, within 2e-3 above the maximum over angle and intercept.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_attack(sigma_x, radius)
    _check_rotatable(d)
    law = joint_law(d, k, p_one)

    def over_cell(low: Corner, high: Corner) -> float:
        near = _cantelli_mean(law, d, sigma_x, low[0], high[0], radius - high[1])
        far = _cantelli_mean(law, d, sigma_x, low[0], high[0], radius + low[1])
        return (near + far) / 2

    value = _maximise(over_cell, (0.0, 0.0), (math.pi / 2, radius))
    formula = "max_{θ,b} ½(C(θ,τ−b) + C(θ,τ+b)), C(θ,t) = E[v/(v + (t−μ)₊²)]"
    return ClassBound("linear with intercept", value, d, k, sigma_x, radius, formula, "[D] §6, L3")


def quadratic_bound(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ClassBound:
    """Every f whose odd part is linear, such as a polynomial of degree 2 [D] §6, P1.

    RA(f) ≤ ½(1 + RA(f_odd)) for every f, and L2 bounds RA(f_odd).

    Args:
        d: input dimension, an integer ≥ 2 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound, never below ½.

    Raises:
        ValueError: if an argument is out of range.
    """
    value = _linear_maximum(d, k, sigma_x, radius, p_one)
    value = (1 + value) / 2
    formula = "½ + ½ max_θ E[v/(v + (τ−μ)₊²)]"
    return ClassBound("quadratic", value, d, k, sigma_x, radius, formula, "[D] §6, P1 and L2")


def linear_linf_bound(
    d: int,
    k: float,
    sigma_x: float,
    radius: float,
    dictionary_norm: float,
    *,
    density: float = 1.0,
    p_one: float = 1.0,
) -> ClassBound:
    """Every f = ⟨w,x⟩ with ‖w‖₁ ≥ r‖w‖₂, against ℓ∞ perturbations [D] §6.

    L2 with a threshold that grows with the angle's cosine: ⟨w,Mw*⟩ ≤ g‖w‖₁ with g = ‖Mw*‖_∞, so

        RA ≤ max_θ E[v/(v + (t − μ)₊²)],  t = ε max(r, √d cos θ/g).

    It implies V/(V + r²(ε − ε₀)²) with ε₀ = gE|S|/d and V ≥ E⟨w,x⟩²/‖w‖². Sparse w (r near 1)
    escape it unless ε is well above 1/√d.

    Args:
        d: input dimension, an integer ≥ 2 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ∞ radius ε > 0.
        dictionary_norm: g = ‖Mw*‖_∞, in [1, √d]; 1 for M = I, about √(2 log d) for a random M.
        density: r in [1, √d]; the default covers every w.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The bound, within 2e-4 above the maximum over the angle.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_attack(sigma_x, radius)
    _check_rotatable(d)
    _check_norm_ratio("dictionary_norm", dictionary_norm, d, "‖Mw*‖_∞ of a unitary M")
    _check_norm_ratio("density", density, d, "‖w‖₁/‖w‖₂")
    law = joint_law(d, k, p_one)

    def over_cell(low: Corner, high: Corner) -> float:
        widest = max(density, math.sqrt(d) * math.cos(high[0]) / dictionary_norm)
        return _cantelli_mean(law, d, sigma_x, low[0], high[0], radius * widest)

    value = _maximise(over_cell, (0.0,), (math.pi / 2,))
    name = f"linear, ℓ∞ attack, ‖w‖₁ ≥ {density:g}‖w‖₂"
    formula = "max_θ E[v/(v + (t−μ)₊²)], t = ε max(r, √d cos θ/‖Mw*‖_∞)"
    return ClassBound(name, value, d, k, sigma_x, radius, formula, "[D] §6, ℓ∞")


def gaussian_twin_bound(d: int, sigma_x: float, radius: float, *, p_one: float = 1.0) -> ClassBound:
    """Every classifier whatsoever, when z is Gaussian instead of sparse [D] §6, P4.

    z ~ N(0, (1 + p₁)/d · I), the Gaussian of the same variance. By Gaussian isoperimetry
    RA ≤ ½ + Φ(−2τ√(d/(1 + p₁))). At σ_x = 0 the linear f = ⟨Mw*,x⟩ + τ√d attains it; noise only
    lowers what can be attained, so σ_x does not enter.

    Args:
        d: input dimension, an integer ≥ 1.
        sigma_x: noise level σ_x ≥ 0; recorded, not used.
        radius: ℓ2 radius τ > 0.
        p_one: p₁ ≥ 0 of the two-level law that the twin matches.

    Returns:
        The bound, in [½, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> bound = gaussian_twin_bound(64, 0.3, radius=0.3 / 5**0.5).bound
        >>> f"{bound:.3f}"
        '0.565'
    """
    check_size("d", d)
    _check_attack(sigma_x, radius)
    if not (p_one >= 0 and math.isfinite(p_one)):
        raise ValueError(f"p_one = {p_one!r}: must be a finite number ≥ 0. The default is 1.")
    value = 0.5 + float(special.ndtr(-2 * radius * math.sqrt(d / (1 + p_one))))
    formula = "½ + Φ(−2τ√(d/(1 + p₁)))"
    return ClassBound(
        "every classifier, Gaussian twin", value, d, None, sigma_x, radius, formula, "[D] §6, P4"
    )


def convex_optimum(
    d: int, k: float, sigma_x: float, radius: float, *, p_one: float = 1.0
) -> ConvexOptimum:
    """Where every convex robust surrogate drives a linear model [D] §6, L4.

    An optimum is w = c·Mw*, b = 0 with c ≥ 0, and c > 0 iff τ√d < E|S|. For c > 0 its robust
    accuracy is E Φ((|S| − τ√d)/σ_x), exactly.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d.
        sigma_x: noise level σ_x ≥ 0.
        radius: ℓ2 radius τ > 0.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The robust accuracy of Mw*, to about 1e-7, and whether training gets there.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> optimum = convex_optimum(64, 5, 0.3, radius=0.3 / 5**0.5)
        >>> f"{optimum.robust_accuracy:.3f}", optimum.collapses
        ('0.487', False)
    """
    _check_attack(sigma_x, radius)
    law = joint_law(d, k, p_one)
    surplus = law.margin - radius * math.sqrt(d)
    right = special.ndtr(surplus / sigma_x) if sigma_x > 0 else (surplus > 0).astype(float)
    mean_margin = law.mean(law.margin)
    return ConvexOptimum(law.mean(right), mean_margin, radius * math.sqrt(d) >= mean_margin)


def _linear_maximum(d: int, k: float, sigma_x: float, radius: float, p_one: float) -> float:
    _check_attack(sigma_x, radius)
    _check_rotatable(d)
    law = joint_law(d, k, p_one)

    def over_cell(low: Corner, high: Corner) -> float:
        return _cantelli_mean(law, d, sigma_x, low[0], high[0], radius)

    return _maximise(over_cell, (0.0,), (math.pi / 2,))


def _cantelli_mean(
    law: JointLaw, d: int, sigma_x: float, low: float, high: float, threshold: float
) -> float:
    """Upper bound on Pr[T > threshold] over all w with angle in [low, high] ⊂ [0, π/2].

    Cantelli's ratio grows with mean and variance: take the mean of the smallest angle and the
    variance of the largest.
    """
    mean = math.cos(low) * law.margin / math.sqrt(d)
    spread = np.maximum(law.energy - law.margin**2 / d, 0) / (d - 1)
    variance = math.sin(high) ** 2 * spread + sigma_x**2 / d
    return law.upper_mean(_cantelli(variance, threshold - mean))


def _cantelli(variance: Floats, gap: Floats) -> Floats:
    """Cantelli's bound v/(v + gap²) on Pr[T ≥ E T + gap]; 1 where gap ≤ 0."""
    above = gap > 0
    return np.where(above, variance / np.where(above, variance + gap**2, 1.0), 1.0)


def _maximise(over_cell: Callable[[Corner, Corner], float], low: Corner, high: Corner) -> float:
    """Upper bound, to within a tolerance, on the maximum over the box [low, high].

    `over_cell(a, b)` bounds the objective on the box [a, b] and is exact when a = b. The box with
    the largest bound is halved along its longest side, relative to the start.
    """
    size = [top - bottom for bottom, top in zip(low, high, strict=True)]
    boxes = [(-over_cell(low, high), low, high)]
    best = 0.0
    while True:
        negative, a, b = heapq.heappop(boxes)
        middle = tuple((bottom + top) / 2 for bottom, top in zip(a, b, strict=True))
        best = max(best, over_cell(middle, middle))
        if -negative <= best + _TOLERANCE[len(size)]:
            return -negative
        side = max(range(len(size)), key=lambda i: (b[i] - a[i]) / size[i])
        cut = middle[side]
        for p, q in (
            (a, (*b[:side], cut, *b[side + 1 :])),
            ((*a[:side], cut, *a[side + 1 :]), b),
        ):
            heapq.heappush(boxes, (-over_cell(p, q), p, q))


def _check_attack(sigma_x: float, radius: float) -> None:
    if not (sigma_x >= 0 and math.isfinite(sigma_x)):
        raise ValueError(
            f"sigma_x = {sigma_x!r}: must be a finite number ≥ 0, a noise level. "
            "The default is 0.3."
        )
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(
            f"radius = {radius!r}: must be a finite number > 0. A typical ℓ2 radius is 0.3/√k."
        )


def _check_rotatable(d: int) -> None:
    check_size("d", d)
    if d < 2:
        raise ValueError(
            f"d = {d!r}: must be at least 2, or a weight has no direction besides w*. Raise d."
        )


def _check_norm_ratio(name: str, value: float, d: int, meaning: str) -> None:
    if not 1 <= value <= math.sqrt(d) * (1 + 1e-9):
        raise ValueError(
            f"{name} = {value!r}: must be in [1, √d] = [1, {math.sqrt(d):g}], it is {meaning}. "
            "Pass 1 if unknown and small is safe, or compute it."
        )
