"""The bound at a given dual point, in float64, with every rounding error accounted for
(docs/theory.md, section 8).

All stages of the cascade end here; no number computed elsewhere decides a certificate. NumPy, not
XLA, so that the arithmetic is IEEE 754 binary64; dot products may be summed in any order, with or
without fused multiply-add.

The bound. Let A = diag(ν) − Q with Q = Wᵀ diag(q) W, and let A ⪰ −e·I. For ANY θ, q, ν ≥ 0 and any
point δ̂, with a = Wδ̂ and g = Wᵀθ + 2Aδ̂, convexity gives for every δ in the ball {‖δ‖ ≤ τ} (ν a
multiple of 1) or in the box {|δ_j| ≤ τ}

    f(x + δ) ≥ Σ_i [φ_i + θ_i a_i − q_i a_i²] + Σ_j ν_j δ̂_j² − budget(ν) − gᵀ-term − e·spread²
    [D]

    budget: ν τ² (ball), τ² Σ ν_j (box);  g-term: ‖g‖(τ + ‖δ̂‖) (ball), Σ |g_j|(τ + |δ̂_j|) (box);
    spread = τ + ‖δ̂‖ (ball), ‖τ·1 + |δ̂|‖ (box).

At the optimal δ̂ = −A⁻¹Wᵀθ/2 the g-term vanishes and this is the dual value; an inexact solve only
loosens it.

Rounding. With the unit roundoff u = 2⁻⁵³ and γ_n = nu/(1 − nu), a computed dot product of length n
is within γ_n Σ|a_i b_i| ≤ γ_n ‖a‖‖b‖ of the exact one. S_b is 1-Lipschitz, so an error of u_i
moves φ_i by no more. Every error term below is a sum of non-negative floats with relative error
far under 1 %: the total is multiplied by SAFETY = 1.02.
"""

from typing import NamedTuple, cast

import numpy as np

# SciPy makes these at run time, so that a checker does not see them.
from scipy.linalg.lapack import (
    dpotrf,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
)
from scipy.special import ndtr

from featpur_sim._ground.checks import double
from featpur_sim.certify.relaxation import soft_threshold

UNIT = 2.0**-53
SAFETY = 1.02
UNDERFLOW = 1e-140  # far above √2⁻¹⁰²², what a norm can lose when squares flush to zero
SMOOTHING_ERROR = 1e-12  # allowed to exp and erfc, in units of σ_ρ; they are good to 1e-15


class DualPoint(NamedTuple):
    """What a stage hands over for evaluation; any values are sound, good ones are tight.

    Attributes:
        slope: θ, [n, m].
        curvature: q, [n, m].
        multiplier: ν ≥ 0, [n, 1] for the ball, [n, d] for the box.
        minimiser: δ̂, [n, d].
        excess: e ≥ 0 with diag(ν) − Q ⪰ −e·I, proved; [n].
    """

    slope: np.ndarray
    curvature: np.ndarray
    multiplier: np.ndarray
    minimiser: np.ndarray
    excess: np.ndarray


def gamma(terms: int, unit: float = UNIT) -> float:
    """γ_n = nu/(1 − nu), the relative error of n roundings (Higham, Accuracy and Stability, 2002,
    section 3.1).

    >>> gamma(10) > 10 * 2.0**-53
    True
    """
    return terms * unit / (1 - terms * unit)


def norms_up(rows: np.ndarray, order: int = 2) -> np.ndarray:
    """Upper bounds on the ℓ2 (order 2) or ℓ1 (order 1) norms of the rows.

    Args:
        rows: [m, d] float64.
        order: 2 or 1.

    Returns:
        [m], never below the exact norm.
    """
    norm = np.linalg.norm(rows, ord=order, axis=-1)
    return norm * (1 + gamma(rows.shape[-1] + 4)) + UNDERFLOW


def semidefinite_excess(matrix: np.ndarray, error: float) -> float:
    """An e ≥ 0 with X ⪰ −e·I for every symmetric X within `error` (spectral norm) of `matrix`.

    If the floating-point Cholesky factorisation of Y = matrix + σI runs to its end, Y ⪰ −γ/(1 −
    γ)·tr Y · I with γ = γ_{d+1} (Demmel 1989; Rump, BIT 46, 2006). Twice that length is used, to
    cover blocked factorisations.

    Args:
        matrix: [d, d] float64, exactly symmetric in its lower triangle's reading (only that is
            read).
        error: bound on the spectral norm of what the matrix misses.

    Returns:
        e, or infinity where the factorisation fails.

    >>> semidefinite_excess(np.eye(3), 0.0) < 1e-12
    True
    >>> semidefinite_excess(np.diag([1.0, -1e-6]), 0.0)
    inf
    """
    size = len(matrix)
    share = 2 * gamma(2 * size + 8)
    trace = np.abs(np.diag(matrix)).sum()
    shift = 2 * share * trace + error + UNDERFLOW
    shifted = matrix + shift * np.eye(size)
    failed = cast(tuple[np.ndarray, int], dpotrf(shifted, lower=1))[1]
    if failed or not np.isfinite(trace):
        return float("inf")
    return float(SAFETY * (shift + share * (trace + size * shift) + error)) + UNDERFLOW


def curvature_excess(weights: np.ndarray, curvature: np.ndarray, multiplier: np.ndarray) -> float:
    """An e ≥ 0 with diag(ν) − Wᵀ diag(q) W ⪰ −e·I in real arithmetic.

    The computed Q is within γ_{m+8} Σ|q_i|‖w_i‖² of the exact one in spectral norm (the trace of
    |W|ᵀ|q||W|).

    Args:
        weights: W, [m, d] float64.
        curvature: q, [m].
        multiplier: ν, scalar, [1] or [d].

    Returns:
        e, infinity if not proved.
    """
    size = weights.shape[1]
    product = weights.T @ (curvature[:, None] * weights)
    difference = np.diag(np.broadcast_to(multiplier, (size,))) - product
    trace = (np.abs(curvature) * np.square(weights).sum(1)).sum()
    error = gamma(len(weights) + 8) * trace + 2 * UNIT * np.abs(np.diag(difference)).sum()
    return semidefinite_excess((difference + difference.T) / 2, float(SAFETY * error))


def smoothing_excess(
    u: np.ndarray, low: np.ndarray, high: np.ndarray, bias: np.ndarray, smoothing: float
) -> np.ndarray:
    """How far the ρ-smoothed neuron can fall below S_b over the interval [D].

    E ReLU(a + ρ) exceeds ReLU(a) by e(a) = sφ(a/s) − |a|Φ(−|a|/s), which falls with |a|. The
    smoothed neuron is S_b(v) + e(v − b) − e(v + b), so it lies below S_b only for v < 0, by at
    most e at the least |v + b|.

    Args:
        u: pre-activations, [n, m].
        low: lower ends of t, broadcastable to u.
        high: upper ends of t, broadcastable to u.
        bias: b ≥ 0, broadcastable to u.
        smoothing: s = σ_ρ ≥ 0, in units of the pre-activation.

    Returns:
        A bound on max(S_b − smoothed, 0) over [low, high], [n, m].
    """
    if smoothing == 0:
        return np.zeros_like(u)
    slack = 8 * UNIT * (np.abs(u) + np.abs(low) + np.abs(high) + bias)
    distance = np.maximum(np.maximum(u + low + bias, -(u + high + bias)) - slack, 0) / smoothing
    density = np.exp(-(distance**2) / 2) / np.sqrt(2 * np.pi)
    # e is falling in the distance, so rounding the distance down keeps this an upper bound.
    excess = smoothing * (density - distance * ndtr(-distance)) + smoothing * SMOOTHING_ERROR
    return np.where(u + low >= slack, 0.0, excess)


def neuron_minimum_down(
    u: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    slope: np.ndarray,
    curvature: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    """A lower bound on φ(θ, q) for the floats given, read as real numbers.

    The least of the five candidates of `relaxation.neuron_minimum`. A candidate is off by at most
    4u(|u| + b + R), R the largest |t|; the function has Lipschitz constant 1 + |θ| + 2|q|R there;
    its evaluation costs 8u of its terms.

    Args:
        u: pre-activations, [n, m].
        low: lower ends of t, broadcastable to u.
        high: upper ends of t, broadcastable to u.
        slope: θ, [n, m].
        curvature: q, [n, m].
        bias: b, broadcastable to u.

    Returns:
        [n, m], never above the exact φ.
    """
    double = np.where(curvature == 0, 1.0, 2 * curvature)
    least = np.full(u.shape, np.inf)
    with np.errstate(over="ignore"):
        candidates = (low, high, bias - u, (slope - 1) / double, slope / double)
    for candidate in candidates:
        t = np.clip(candidate, low, high)
        least = np.minimum(least, soft_threshold(u + t, bias) + (curvature * t - slope) * t)
    reach = np.maximum(np.abs(low), np.abs(high))
    lipschitz = 1 + np.abs(slope) + 2 * np.abs(curvature) * reach
    return least - 16 * UNIT * lipschitz * (np.abs(u) + bias + reach)


def lower_bound(
    weights: np.ndarray,
    bias: np.ndarray,
    points: np.ndarray,
    radius: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    dual: DualPoint,
    box: bool = False,
    smoothing: float = 0.0,
) -> np.ndarray:
    """A rigorous lower bound on the minimum of f(x + δ) over the ball or box, t = Wδ within [low,
    high].

    Holds in real arithmetic for the network and points given.

    Args:
        weights: W, [m, d] float64.
        bias: b ≥ 0, [m] float64.
        points: x (times its label), [n, d] float64.
        radius: τ ≥ 0, [n] float64.
        low: [n, m]; valid lower bounds of t over the region.
        high: [n, m]; valid upper bounds of t over the region.
        dual: the dual point; its `excess` must have been proved.
        box: ℓ∞ instead of ℓ2.
        smoothing: σ_ρ of the closed-form smoothed network; 0 for the soft threshold.

    Returns:
        [n]; −inf where the dual point is not feasible or not finite.
    """
    width, size = weights.shape
    slope, curvature, multiplier, minimiser, excess = dual
    norms = norms_up(weights)
    tau = radius[:, None]
    u = points @ weights.T
    a = minimiser @ weights.T
    shift = np.linalg.norm(minimiser, axis=1)
    u_error = gamma(size) * np.linalg.norm(points, axis=1)[:, None] * norms
    a_error = gamma(size) * shift[:, None] * norms
    with np.errstate(invalid="ignore", over="ignore"):
        phi = neuron_minimum_down(u, low, high, slope, curvature, bias)
        phi = phi - smoothing_excess(u, low - u_error, high + u_error, bias, smoothing)
        bent = curvature * a
        per_neuron = phi + slope * a - bent * a
        gradient = slope @ weights + 2 * (multiplier * minimiser - bent @ weights)
        if box:
            spread = tau + np.abs(minimiser)
            budget = (multiplier * (minimiser**2 - tau**2)).sum(1)
            budget_terms = (multiplier * (minimiser**2 + tau**2)).sum(1)
            first_order = (np.abs(gradient) * spread).sum(1)
        else:
            spread = tau + shift[:, None]
            budget = (multiplier * (shift**2 - radius**2)[:, None])[:, 0]
            budget_terms = (multiplier * (shift**2 + radius**2)[:, None])[:, 0]
            first_order = np.linalg.norm(gradient, axis=1) * spread[:, 0]
        reach = np.linalg.norm(spread, axis=1)
        magnitude = (np.abs(slope) + 2 * np.abs(bent)) * norms
        gradient_error = (
            gamma(width + 8) * magnitude.sum(1)
            + 2 * (np.abs(curvature) * a_error * norms).sum(1)
            + 8 * UNIT * np.linalg.norm(multiplier * minimiser, axis=1)
        )
        error = (
            (
                u_error + a_error * (np.abs(slope) + np.abs(curvature) * (2 * np.abs(a) + a_error))
            ).sum(1)
            + gamma(width + 8) * (np.abs(phi) + np.abs(slope * a) + np.abs(bent * a)).sum(1)
            + gamma(2 * size + 16) * (budget_terms + first_order)
            + gradient_error * reach
        )
        indefinite = excess * reach**2 * (1 + gamma(2 * size + 16))
        bound = per_neuron.sum(1) + budget - first_order - indefinite
        bound = bound - SAFETY * error - UNDERFLOW
    feasible = np.isfinite(bound) & (multiplier >= 0).all(1)
    return np.where(feasible, bound, -np.inf)


def float32_inference_error(
    weights: np.ndarray,
    bias: float | np.ndarray,
    point_norm: float | np.ndarray,
    smoothing: float = 0.0,
) -> np.ndarray:
    """How far f computed in float32 can be from f in real arithmetic, for any input of norm ≤
    `point_norm` [D].

    Holds for IEEE float32 (not TF32 or bfloat16) and any summation order, for S_b(u) and for the
    two-ReLU form: a dot product errs by γ_d‖w‖‖x‖, the threshold by 2u(‖w‖‖x‖ + b), the sum over
    2m terms by γ_{2m} of its terms, at most Σ|⟨w_i,x⟩| ≤ √m‖W‖₂‖x‖; flushed subnormals add 2⁻¹²⁶
    an operation. A point is certified for float32 inference where its lower bound exceeds this at
    ‖x‖ + τ.

    With smoothing, aΦ(a/σ_ρ) + σ_ρφ(a/σ_ρ) replaces ReLU(a): it is 1-Lipschitz and at most
    |a| + σ_ρ, and where exp and erf are good to 8u, as those of XLA are, a neuron errs by 64u of
    |u| + b + σ_ρ beyond that.

    Args:
        weights: W, [m, d].
        bias: b, scalar or [m].
        point_norm: ‖x‖ + τ, scalar or [n].
        smoothing: σ_ρ of the closed-form smoothed network; 0 for the soft threshold.

    Returns:
        The error, float64, the shape of point_norm.

    Raises:
        ValueError: an argument is not a number, negative or not finite.

    >>> error = float32_inference_error(np.eye(4), 0.1, 2.0)
    >>> bool(0 < error < 1e-4)
    True
    """
    unit = 2.0**-24
    rows = double("weights", weights, ndim=2)
    norm = double("point_norm", point_norm, least=0, most=np.inf, ndim=None)
    level = double("bias", bias, least=0, ndim=None)
    smoothing = float(double("smoothing", smoothing, least=0))
    width, size = len(rows), rows.shape[1]
    reach = norms_up(rows) * norm[..., None]
    level = np.broadcast_to(level, (width,))
    each = (gamma(size + 1, unit) * reach + 2 * unit * (reach + level)).sum(-1)
    top = np.linalg.eigvalsh(rows.T @ rows)[-1]
    top = top + curvature_excess(rows, np.ones(width), np.array(top))
    total = np.minimum(reach.sum(-1), np.sqrt(width * top) * norm)
    each = each + gamma(2 * width + 2, unit) * (total + each)
    if smoothing > 0:
        terms = (reach + level + smoothing).sum(-1)
        each = each + (64 * unit + gamma(2 * width + 2, unit)) * terms
    return np.asarray(SAFETY * (each + width * (size + 4) * 2.0**-126))
