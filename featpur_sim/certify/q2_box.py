"""Q2 in ℓ∞ (docs/theory.md, section 8).

(θ, q, ν) is searched for in float32 under jit, one Cholesky factorisation of A = diag(ν) − Q a
step: θ and q by Adam, ν by one step of Newton's method, which keeps it near its best. What is
maximised has η(logdet A + Σ log ν_j) added, η annealed: it keeps A ≻ 0, and smooths the kink that T
has wherever A is singular, as the optimum makes it. A step that leaves A ≻ 0 is halved. ν and δ̂ at
the point found are solved for in float64, and A ⪰ −e·I is proved by a shifted Cholesky
factorisation.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, adam_direction, fade
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.relaxation import box_multiplier, neuron_minimum
from featpur_sim.certify.rounding import DualPoint, curvature_excess

# Of a pace's rate: A follows q at once, where the ball's search solves for μ anew.
RATE_SHARE = 0.3
LAST_BARRIER = 3e-3  # η in units of ε²Σν/d at the start; with less, more steps leave A ≻ 0
APPROACH = 25  # Newton steps in ν before the first of Adam's
_NEAR = 0.25  # Newton's decrement below which a step is a full one


class _Point(NamedTuple):
    """θ [n, m], q over its unit [n, m] and ν [n, d]."""

    slope: Array
    level: Array
    multiplier: Array


class _Search(NamedTuple):
    """Where the search is, the last point with A ≻ 0, and the best one with its bound [n]."""

    point: _Point
    inside: _Point
    best_point: _Point
    best: Array
    slope_moments: Moments
    level_moments: Moments


def _chosen(which: Array, one: Moments, other: Moments) -> Moments:
    return Moments(*(jnp.where(which, a, b) for a, b in zip(one, other, strict=True)))


def _point_of(which: Array, one: _Point, other: _Point) -> _Point:
    return _Point(*(jnp.where(which, a, b) for a, b in zip(one, other, strict=True)))


def triangle_inverse(root: Array) -> Array:
    """L⁻¹ of lower triangles L, [n, d, d], by products of blocks that double: d solves with L, as
    LAPACK's triangular solves have them in XLA, take about ten times as long on a processor.

    NaN where L is NaN.
    """
    size = root.shape[-1]
    whole = 1 << (size - 1).bit_length()
    ones = jnp.diag((jnp.arange(whole) >= size).astype(root.dtype))
    root = jnp.pad(root, ((0, 0), (0, whole - size), (0, whole - size))) + ones
    blocks = 1 / jnp.einsum("nii->ni", root)[..., None, None]
    for block in (1 << level for level in range((size - 1).bit_length())):
        grid = root.reshape(-1, *(whole // (2 * block), 2 * block) * 2)
        below = cast(Array, jnp.diagonal(grid[:, :, block:, :, :block], axis1=1, axis2=3))
        below = jnp.moveaxis(below, -1, 1)
        first, second = blocks[:, 0::2], blocks[:, 1::2]
        corner = -second @ below @ first
        upper = jnp.concatenate([first, jnp.zeros_like(first)], 3)
        blocks = jnp.concatenate([upper, jnp.concatenate([corner, second], 3)], 2)
    return blocks[:, 0, :size, :size]


def _newton(
    quadratic: Array, direction: Array, multiplier: Array, radius: Array, barrier: Array
) -> tuple[Array, Array, Array]:
    """A⁻¹ [n, d, d], δ̂ [n, d] and Newton's step in ν [n, d], NaN where A is not positive definite.

    Args:
        quadratic: Q, [n, d, d].
        direction: v, [n, d].
        multiplier: ν, [n, d].
        radius: ε, [n, 1].
        barrier: η, [n, 1].
    """
    one = jnp.eye(quadratic.shape[-1], dtype=quadratic.dtype)
    root = cast(Array, jnp.linalg.cholesky(multiplier[:, None] * one[None] - quadratic))
    factor = triangle_inverse(root)
    inverse = factor.mT @ factor
    delta = -jnp.einsum("nij,nj->ni", inverse, direction) / 2
    spread = delta**2 + barrier * (jnp.einsum("nii->ni", inverse) + 1 / multiplier)
    gradient = spread - radius**2
    bent = (2 * delta[:, :, None] * delta[:, None] + barrier[..., None] * inverse) * inverse
    bent = bent + one[None] * (barrier / multiplier**2)[:, None]
    root = cast(Array, jnp.linalg.cholesky(bent))
    step = jax.scipy.linalg.cho_solve((root, True), gradient[..., None])[..., 0]
    decrement = jnp.sqrt(((gradient * step).sum(1, keepdims=True) / barrier).clip(0))
    return inverse, delta, step / (1 + decrement * (decrement > _NEAR))


@jax.jit
def search_box(
    u: Array,
    low: Array,
    high: Array,
    radius: Array,
    slope: Array,
    level: Array,
    weights: Array,
    bias: Array,
    unit: Array,
    steps: Array,
    rate: Array,
    barrier: Array,
) -> tuple[Array, Array, Array]:
    """Maximises Q2's bound over θ, q = level·unit, both [n, m], and ν [n, d].

    Arguments are those of q2.py's. Rows are [n, ·], bias and unit [1, m]; the barrier's exponent
    runs with the steps.
    """
    epsilon = radius[:, None]

    def parts(slope: Array, level: Array) -> tuple[Array, Array]:
        return jnp.einsum("mi,nm,mj->nij", weights, level * unit, weights), slope @ weights

    quadratic, direction = parts(slope, level)
    # Diagonally dominant, and not 0 where θ and q are.
    typical = (unit * (weights**2).sum(1)).sum() / weights.shape[1]
    begin = jnp.abs(quadratic).sum(2) + jnp.abs(direction) / (2 * epsilon) + typical
    natural = (begin * epsilon**2).mean(1, keepdims=True)

    def approach(_: Array, multiplier: Array) -> Array:
        eta = barrier * natural
        return multiplier + _newton(quadratic, direction, multiplier, epsilon, eta)[2]

    def ascend(i: Array, state: _Search) -> _Search:
        slope, level, multiplier = point = state.point
        count = i.astype(u.dtype)
        eta = natural * barrier * (LAST_BARRIER / barrier) ** (count / steps)
        curvature = level * unit
        phi, t = neuron_minimum(u, low, high, slope, curvature, bias)
        quadratic, direction = parts(slope, level)
        inverse, delta, by_newton = _newton(quadratic, direction, multiplier, epsilon, eta)
        value = phi.sum(1) + (direction * delta).sum(1) / 2
        value = value - (epsilon**2 * multiplier).sum(1)
        inside = (jnp.isfinite(value) & jnp.isfinite(by_newton).all(1))[:, None]
        better = inside[:, 0] & (value > state.best)
        a = delta @ weights.T
        moment = a**2 + eta * jnp.einsum("mi,nij,mj->nm", weights, inverse, weights)
        by_slope, slope_moments = adam_direction(a - t, state.slope_moments, count)
        by_level, level_moments = adam_direction((t**2 - moment) * unit, state.level_moments, count)
        step_size = RATE_SHARE * rate * fade(count, steps)
        ahead = _Point(
            slope + step_size * by_slope, level + step_size * by_level, multiplier + by_newton
        )
        half = _Point(*((a + b) / 2 for a, b in zip(point, state.inside, strict=True)))
        return _Search(
            _point_of(inside, ahead, half),
            _point_of(inside, point, state.inside),
            _point_of(better[:, None], point, state.best_point),
            jnp.where(better, value, state.best),
            _chosen(inside, slope_moments, state.slope_moments),
            _chosen(inside, level_moments, state.level_moments),
        )

    multiplier = cast(Array, jax.lax.fori_loop(0, APPROACH, approach, begin))
    first = _Point(slope, level, multiplier)
    moments = Moments.zero(slope), Moments.zero(level)
    state = _Search(first, first, first, jnp.full_like(radius, -jnp.inf), *moments)
    return cast(_Search, jax.lax.fori_loop(0, steps.astype(int), ascend, state)).best_point


def complete_box(
    problem: Problem, slope: np.ndarray, curvature: np.ndarray, start: np.ndarray | None = None
) -> DualPoint:
    """The best ν and δ̂ for any (θ, q), in float64, with a proof that diag(ν) − Q ⪰ −e·I.

    Args:
        problem: network, points and radii, in ℓ∞.
        slope: θ, [n, m].
        curvature: q, [n, m].
        start: ν to start from, [n, d].

    Returns:
        The dual point.
    """
    weights = problem.weights
    direction = slope @ weights
    multiplier, minimiser = np.empty_like(direction), np.empty_like(direction)
    excess = np.empty(len(problem))
    for i, (q, v, epsilon) in enumerate(zip(curvature, direction, problem.radius, strict=True)):
        quadratic = weights.T @ (q[:, None] * weights)
        nu = box_multiplier(quadratic, v, float(epsilon), None if start is None else start[i])
        multiplier[i] = nu
        minimiser[i] = np.linalg.solve(np.diag(nu) - quadratic, -v / 2)
        excess[i] = curvature_excess(weights, q, nu)
    return DualPoint(slope, curvature, multiplier, minimiser, excess)
