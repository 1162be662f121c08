"""Q1: the quadratic relaxation with one curvature for all neurons, in ℓ2 (docs/theory.md, section
8).

q = λ·c with a shape c fixed per network, so that Wᵀdiag(c)W is decomposed once. (θ, λ) is searched
for by Adam, in float32 under jit, from the best of a grid of λ; μ and δ̂ at the point found are
solved for in float64.
"""

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, adam_direction, fade
from featpur_sim.certify.batching import float32, in_batches
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.relaxation import ball_multiplier, envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import UNIT, DualPoint

BATCH = 64
RATE = 0.05  # of Adam, in θ and in λ over a quarter of the grid's largest; cosine-annealed
GRID = (0.1, 0.3, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0)  # of λ, in units of `Network.scale`


class _Search(NamedTuple):
    slope: Array
    level: Array
    slope_moments: Moments
    level_moments: Moments
    best: Array
    best_slope: Array
    best_level: Array


@partial(jax.jit, static_argnames="grid")
def _search(
    u: Array,
    reach: Array,
    radius: Array,
    rotated: Array,
    gap: Array,
    shape: Array,
    bias: Array,
    top: Array,
    unit: Array,
    steps: Array,
    grid: tuple[float, ...],
) -> tuple[Array, Array]:
    """Maximises Q1's bound over θ [n, m] and λ [n].

    Rows are [n, ·], network arrays [1, ·]; W is rotated to Q₀'s eigenbasis; λ = level·unit.
    """

    def bound(slope: Array, level: Array) -> tuple[Array, Array, Array]:
        scaled = level[:, None] * unit
        phi, t = neuron_minimum(u, -reach, reach, slope, scaled * shape, bias)
        coefficient = slope @ rotated
        s = ball_multiplier(scaled * gap, coefficient, radius[:, None])
        delta = -coefficient / (2 * (s + scaled * gap))
        dual = (coefficient * delta).sum(1) / 2 - (s + scaled * top)[:, 0] * radius**2
        # Whatever norm δ leaves unused lies along Q₀'s top eigenvector.
        unused = jnp.maximum(radius**2 - (delta**2).sum(1), 0)
        spent = ((top - gap) * delta**2).sum(1) + top * unused
        by_level = ((shape * t**2).sum(1) - spent) * unit
        return phi.sum(1) + dual, delta @ rotated.T - t, by_level

    def start(level: Array) -> tuple[Array, Array]:
        full = jnp.full(u.shape[0], level)
        slope = envelope_slope(u, -reach, reach, full[:, None] * unit * shape, bias)
        return bound(slope, full)[0], slope

    levels = jnp.asarray(grid, u.dtype)
    values, slopes = cast(tuple[Array, Array], jax.lax.map(start, levels))
    which = values.argmax(0)
    slope, level = slopes[which, jnp.arange(u.shape[0])], levels[which]
    level_rate = RATE * max(grid) / 4

    def ascend(i: Array, state: _Search) -> _Search:
        count = i.astype(u.dtype)
        value, by_slope, by_level = bound(state.slope, state.level)
        better = value > state.best
        slope_step, slope_moments = adam_direction(by_slope, state.slope_moments, count)
        level_step, level_moments = adam_direction(by_level, state.level_moments, count)
        rate = fade(count, steps)
        return _Search(
            state.slope + RATE * rate * slope_step,
            jnp.maximum(state.level + level_rate * rate * level_step, 0),
            slope_moments,
            level_moments,
            jnp.where(better, value, state.best),
            jnp.where(better[:, None], state.slope, state.best_slope),
            jnp.where(better, state.level, state.best_level),
        )

    worst = jnp.full_like(level, -jnp.inf)
    moments = Moments.zero(slope), Moments.zero(level)
    first = _Search(slope, level, *moments, worst, slope, level)
    state = cast(_Search, jax.lax.fori_loop(0, steps.astype(int), ascend, first))
    return state.best_slope, state.best_level * unit


def q1_dual(problem: Problem, steps: int = 300) -> DualPoint:
    """Searches for Q1's best dual point.

    Args:
        problem: network, points and radii, in ℓ2.
        steps: Adam steps.

    Returns:
        The dual point; the proved λmax(Q₀) keeps its excess at 0.
    """
    network = problem.network
    values, vectors = network.spectrum
    fixed = (
        float32(problem.weights @ vectors),
        float32(values[-1] - values)[None],
        float32(network.shape)[None],
        float32(problem.bias)[None],
        float32(values[-1]),
        float32(network.scale),
        float32(steps),
    )
    slope, level = in_batches(
        lambda *rows: cast(tuple[Array, ...], _search(*rows, *fixed, grid=GRID)),
        (problem.pre_activation, problem.reach, problem.radius),
        BATCH,
    )
    coefficient = (slope @ problem.weights) @ vectors
    gap = level[:, None] * np.maximum(network.top - values, 0)
    s = ball_multiplier(gap, coefficient, problem.radius[:, None], steps=20)
    minimiser = -(coefficient / (2 * (s + gap))) @ vectors.T
    # Up by more than the roundings of λ·c, λ·top and the sum, so that μ ≥ λmax(Q) stays proved.
    multiplier = (s + level[:, None] * network.top) * (1 + 8 * UNIT)
    curvature = level[:, None] * network.shape
    return DualPoint(slope, curvature, multiplier, minimiser, np.zeros(len(problem)))
