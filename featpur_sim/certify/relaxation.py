"""One neuron's quadratic relaxation, and the trust-region term that couples the neurons
(docs/theory.md, section 8).

With u = ⟨w,x⟩ and t = ⟨w,δ⟩ every neuron obeys, for any slope θ and curvature q,

    S_b(u + t) ≥ φ(θ, q) + θ t − q t²,      φ = min_{low ≤ t ≤ high} S_b(u + t) − θ t + q t²

and the sum of the right-hand sides over the neurons is a quadratic in δ, minimised over the ball
by `ball_multiplier` and bounded over the box by `box_multiplier`. Nothing here needs to be exact
for a certificate to be sound: these functions search for a good dual point (θ, q, μ), in any
precision; `rounding.py` evaluates the bound at the point found.
"""

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# η of `box_multiplier`: the last over Σ ντ²/d at its start, and the factor from one to the next.
_LAST, _FALL = 1e-6, 0.1
# Newton's decrement, over √η, from which on the next η may come; the share of the promised descent
# that a step has to bring; the shortest one that is tried.
_NEAR, _DESCENT, _SHORTEST = 1.0, 0.1, 1e-6


def soft_threshold(pre_activation: Any, bias: Any) -> Any:
    """S_b(u) = sign(u)·max(|u| − b, 0) [P], written for NumPy and JAX arrays alike.

    It is u less its clip to [−b, b], which is how it is computed.

    Args:
        pre_activation: u, [..., m].
        bias: b ≥ 0, broadcastable to u.

    Returns:
        S_b(u), shape and dtype of u.

    >>> import numpy as np
    >>> soft_threshold(np.array([-3.0, -0.5, 2.0]), 1.0).tolist()
    [-2.0, 0.0, 1.0]
    """
    return pre_activation - pre_activation.clip(-bias, bias)


def neuron_minimum(
    u: Array, low: Array, high: Array, slope: Array, curvature: Array, bias: Array
) -> tuple[Array, Array]:
    """φ(θ, q) and a t that attains it, exact up to rounding [D].

    The function is quadratic between its two kinks, so the minimum is the least of five candidates:
    the ends, the kink at b and the stationary points of the pieces of slope 1 and 0, each clipped
    to [low, high]. At the kink at −b the slope falls, so no minimum is there.

    Args:
        u: pre-activations, [..., m].
        low: lower ends of t, broadcastable to u.
        high: upper ends of t, broadcastable to u.
        slope: θ, broadcastable to u.
        curvature: q, broadcastable to u; either sign.
        bias: b ≥ 0, broadcastable to u.

    Returns:
        (φ, t*), both of the shape of u.
    """
    double = jnp.where(curvature == 0, 1.0, 2 * curvature)

    def value(t: Array) -> Array:
        return soft_threshold(u + t, bias) + (curvature * t - slope) * t

    argument = jnp.broadcast_to(low, u.shape)
    least = value(argument)
    for candidate in (high, bias - u, (slope - 1) / double, slope / double):
        t = jnp.clip(candidate, low, high)
        height = value(t)
        argument = jnp.where(height < least, t, argument)
        least = jnp.minimum(least, height)
    return least, argument


def envelope_slope(
    u: Array, low: Array, high: Array, curvature: Array, bias: Array, iterations: int = 16
) -> Array:
    """The θ that maximises φ(θ, q): the slope at t = 0 of the convex envelope of S_b(u + t) + q t²
    [D].

    φ is concave in θ with supergradient −t*, so the sign of t* is bisected. For low ≤ 0 ≤ high and
    q ≥ 0.

    Args:
        u: pre-activations, [..., m].
        low: lower ends of t, broadcastable to u.
        high: upper ends of t, broadcastable to u.
        curvature: q ≥ 0, broadcastable to u.
        bias: b ≥ 0, broadcastable to u.
        iterations: halvings; the error is (1 + 2q(high − low))/2^(iterations + 1).

    Returns:
        θ, the shape of u.
    """
    below = jnp.broadcast_to(2 * curvature * low, u.shape)
    above = jnp.broadcast_to(1 + 2 * curvature * high, u.shape)

    def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        below, above = bracket
        middle = (below + above) / 2
        _, t = neuron_minimum(u, low, high, middle, curvature, bias)
        return jnp.where(t < 0, middle, below), jnp.where(t < 0, above, middle)

    below, above = cast(
        tuple[Array, Array], jax.lax.fori_loop(0, iterations, halve, (below, above))
    )
    return (below + above) / 2


def ball_multiplier(
    gap: Any, coefficient: Any, radius: Any, barrier: Any = 0.0, steps: int = 10
) -> Any:
    """The multiplier of ‖δ‖ ≤ τ in T = min vᵀδ − δᵀQδ, measured from λmax(Q) [D].

    In Q's eigenbasis, with gap_j = λmax⁺ − λ_j and w_j = 1/(s + gap_j), δ_j = −c_j w_j/2 and s = μ
    − λmax⁺ ≥ 0 solves

        Σ δ_j² + ε Σ w_j = τ²        (ε: weight of the log-barrier; ε = 0 is T itself)

    or s ↓ 0 where that has no root (the hard case). Newton's method on (left side)^(−1/2), which
    is concave in s, from below the root: monotone, and a handful of steps suffices. Written for
    NumPy and JAX arrays alike.

    Args:
        gap: λmax⁺ − λ_j ≥ 0, [n, d].
        coefficient: v in the eigenbasis, [n, d].
        radius: τ > 0, [n, 1].
        barrier: ε ≥ 0, scalar or [n, 1].
        steps: Newton steps.

    Returns:
        s, [n, 1], positive.
    """
    magnitude = abs(coefficient) / (2 * radius)
    floor = 1e-6 * (magnitude.max(-1, keepdims=True) + gap.max(-1, keepdims=True)) + 1e-30
    s = (magnitude - gap).max(-1, keepdims=True).clip(floor).clip(barrier / radius**2)
    for _ in range(steps):
        inverse = 1 / (s + gap)
        square = (coefficient * inverse / 2) ** 2
        total = (square + barrier * inverse).sum(-1, keepdims=True)
        fall = (inverse * (square + barrier * inverse / 2)).sum(-1, keepdims=True)
        step = (total**0.5 / radius - 1) * total / fall.clip(1e-30)
        s = (s + step).clip(floor)
    return s


def box_multiplier(
    matrix: np.ndarray, direction: np.ndarray, radius: float, start: np.ndarray | None = None
) -> np.ndarray:
    """The multipliers of |δ_j| ≤ τ in T over the box: ν ≥ 0 with A = diag(ν) − Q ≻ 0 and

        ¼ vᵀA⁻¹v + τ² Σ ν_j − η(logdet A + Σ log ν_j)

    least, by Newton's method, η falling [D].

    At the least, the first two terms are within 2dη of their best. From a given ν, η begins where
    that is the gap to what a δ in the box reaches; from a smaller one, steps crawl along the edge.
    With v = 0 and τ = 1 it is the ν of least sum with diag(ν) ⪰ Q.

    Args:
        matrix: Q, symmetric, [d, d] float64.
        direction: v, [d] float64.
        radius: τ > 0.
        start: a ν near the best, [d]; by default from afar.

    Returns:
        ν, [d]. Not a proof: `rounding.curvature_excess` gives that.
    """
    square, tiny = radius**2, 1e-30
    near = np.abs(direction) / (2 * radius) if start is None else start
    lack = -float(np.linalg.eigvalsh(np.diag(near) - matrix)[0])
    multiplier: np.ndarray = near + 2 * max(lack, 0.0) + 1e-9 * (near.max() + abs(lack)) + tiny
    unit = square * float(multiplier.mean())
    barrier = unit
    if start is not None:
        delta = -np.linalg.solve(np.diag(multiplier) - matrix, direction) / 2
        inside = np.clip(delta, -radius, radius)
        reached = direction @ inside - inside @ matrix @ inside
        gap = reached - direction @ delta / 2 + square * multiplier.sum()
        barrier = max(float(gap) / (2 * len(multiplier)), _LAST * unit)
    while True:
        multiplier = _centred(matrix, direction, square, barrier, multiplier)
        if barrier <= _LAST * unit:
            return multiplier
        barrier = max(_FALL * barrier, _LAST * unit)


def _centred(
    matrix: np.ndarray, direction: np.ndarray, square: float, barrier: float, multiplier: np.ndarray
) -> np.ndarray:
    """ν [d] at one η from ν [d], by Newton's method, steps halved until inside and descending."""

    def height(at: np.ndarray) -> float:
        if at.min() <= 0:
            return math.inf
        try:
            factor: np.ndarray = np.linalg.cholesky(np.diag(at) - matrix)
        except np.linalg.LinAlgError:
            return math.inf
        half = np.linalg.solve(factor, direction)
        log = 2 * np.log(np.diag(factor)).sum() + np.log(at).sum()
        return float(half @ half / 4 + square * at.sum() - barrier * log)

    now = height(multiplier)
    while True:
        inverse: np.ndarray = np.linalg.inv(np.diag(multiplier) - matrix)
        delta = -inverse @ direction / 2
        gradient = delta**2 + barrier * (np.diag(inverse) + 1 / multiplier) - square
        bent = 2 * np.outer(delta, delta) * inverse + barrier * inverse**2
        step: np.ndarray = np.linalg.solve(bent + np.diag(barrier / multiplier**2), gradient)
        descent = float(gradient @ step)
        share, then = 1.0, height(multiplier + step)
        while not then <= now - _DESCENT * share * descent and share > _SHORTEST:
            share /= 2
            then = height(multiplier + share * step)
        if not then < now:  # what is left is rounding
            return multiplier
        multiplier, now = multiplier + share * step, then
        if descent <= _NEAR**2 * barrier:
            return multiplier
