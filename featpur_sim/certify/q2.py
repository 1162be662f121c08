"""Q2: the quadratic relaxation with a curvature for each neuron (docs/theory.md, section 8).

In ℓ2 here, in ℓ∞ by q2_box.py.

(θ, q) is searched for by Adam, in float32 under jit, one eigendecomposition a step; T's multiplier
is smoothed by a log-barrier ε·logdet(μI − Q), annealed, because T has a kink wherever λmax is
multiple, and the optimum makes it so. μ and δ̂ at the point found are solved for in float64, and
μI − Q ⪰ 0 is proved by a shifted Cholesky factorisation.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, Pace, adam_direction, fade
from featpur_sim.certify.batching import float32, in_batches
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q2_box import complete_box, search_box
from featpur_sim.certify.relaxation import ball_multiplier, neuron_minimum
from featpur_sim.certify.rounding import DualPoint, curvature_excess

BATCH = 8
LAST_BARRIER = 3e-4  # ε in units of τ²(λmax + ‖v‖/2τ)/d


class _Search(NamedTuple):
    slope: Array
    level: Array
    slope_moments: Moments
    level_moments: Moments
    best: Array
    best_slope: Array
    best_level: Array


@jax.jit
def _search(
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
) -> tuple[Array, Array]:
    """Maximises Q2's bound over θ and q = level·unit, both [n, m].

    Rows are [n, ·], bias and unit [1, m]; the barrier's exponent runs with the steps.
    """
    tau = radius[:, None]
    size = weights.shape[1]

    def bound(slope: Array, level: Array, share: Array) -> tuple[Array, Array, Array]:
        curvature = level * unit
        phi, t = neuron_minimum(u, low, high, slope, curvature, bias)
        direction = slope @ weights
        quadratic = jnp.einsum("mi,nm,mj->nij", weights, curvature, weights)
        values, vectors = cast(tuple[Array, Array], jnp.linalg.eigh(quadratic))
        coefficient = jnp.einsum("nji,nj->ni", vectors, direction)
        top = values[:, -1:].clip(0)
        gap = top - values
        s = ball_multiplier(gap, coefficient, tau)
        dual = (s + top) * tau**2 + (coefficient**2 / (4 * (s + gap))).sum(1, keepdims=True)
        length = cast(Array, jnp.linalg.norm(direction, axis=1, keepdims=True))
        natural = top + length / (2 * tau)
        epsilon = share * tau**2 * natural / size
        inverse = 1 / (ball_multiplier(gap, coefficient, tau, epsilon) + gap)
        rotated = jnp.einsum("mi,nij->nmj", weights, vectors)
        a = jnp.einsum("nmj,nj->nm", rotated, -coefficient * inverse / 2)
        moment = a**2 + epsilon * jnp.einsum("nmj,nj->nm", rotated**2, inverse)
        return phi.sum(1) - dual[:, 0], a - t, (t**2 - moment) * unit

    def ascend(i: Array, state: _Search) -> _Search:
        count = i.astype(u.dtype)
        share = barrier * (LAST_BARRIER / barrier) ** (count / steps)
        value, by_slope, by_level = bound(state.slope, state.level, share)
        better = value > state.best
        slope_step, slope_moments = adam_direction(by_slope, state.slope_moments, count)
        level_step, level_moments = adam_direction(by_level, state.level_moments, count)
        step_size = rate * fade(count, steps)
        return _Search(
            state.slope + step_size * slope_step,
            state.level + step_size * level_step,
            slope_moments,
            level_moments,
            jnp.where(better, value, state.best),
            jnp.where(better[:, None], state.slope, state.best_slope),
            jnp.where(better[:, None], state.level, state.best_level),
        )

    worst = jnp.full_like(radius, -jnp.inf)
    moments = Moments.zero(slope), Moments.zero(level)
    first = _Search(slope, level, *moments, worst, slope, level)
    state = cast(_Search, jax.lax.fori_loop(0, steps.astype(int), ascend, first))
    return state.best_slope, state.best_level


def q2_dual(
    problem: Problem,
    low: np.ndarray,
    high: np.ndarray,
    slope: np.ndarray,
    curvature: np.ndarray,
    pace: Pace,
) -> DualPoint:
    """Searches for Q2's best dual point from a given one.

    Args:
        problem: network, points and radii.
        low: lower ends of t, [n, m].
        high: upper ends of t, [n, m].
        slope: θ to start from, [n, m].
        curvature: q to start from, [n, m].
        pace: steps, rate and barrier.

    Returns:
        The dual point, its excess proved.
    """
    network = problem.network
    unit = network.scale * network.shape
    values = (network.weights, network.bias[None], unit[None], *pace)
    fixed = tuple(float32(value) for value in values)
    rows = (problem.pre_activation, low, high, problem.radius, slope, curvature / unit)
    search = search_box if problem.box else _search
    found = in_batches(lambda *batch: cast(tuple[Array, ...], search(*batch, *fixed)), rows, BATCH)
    slopes, level, *multiplier = (np.asarray(part, np.float64) for part in found)
    return complete(problem, slopes, level * unit, *multiplier)


def complete(
    problem: Problem, slope: np.ndarray, curvature: np.ndarray, near: np.ndarray | None = None
) -> DualPoint:
    """The best μ (ν in ℓ∞) and δ̂ for any (θ, q), in float64, with a proof that μI − Q ⪰ −e·I.

    Args:
        problem: network, points and radii.
        slope: θ, [n, m].
        curvature: q, [n, m].
        near: in ℓ∞ a ν to start from, [n, d].

    Returns:
        The dual point.
    """
    if problem.box:
        return complete_box(problem, slope, curvature, near)
    weights = problem.weights
    quadratic = np.stack([weights.T @ (q[:, None] * weights) for q in curvature])
    values, vectors = np.linalg.eigh(quadratic)
    coefficient = np.einsum("nji,nj->ni", vectors, slope @ weights)
    top = values[:, -1:].clip(0)
    gap = top - values
    s = ball_multiplier(gap, coefficient, problem.radius[:, None], steps=20)
    minimiser = np.einsum("nij,nj->ni", vectors, -coefficient / (2 * (s + gap)))
    multiplier = s + top
    excess = [curvature_excess(weights, q, nu) for q, nu in zip(curvature, multiplier, strict=True)]
    return DualPoint(slope, curvature, multiplier, minimiser, np.array(excess))
