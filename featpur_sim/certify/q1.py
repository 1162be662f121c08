"""Q1: the quadratic relaxation with one curvature for all neurons, in ℓ2 (docs/theory.md, section
8).

q = λ·c with a shape c fixed per network, so that Wᵀdiag(c)W is decomposed once. (θ, λ) is searched
for by Adam, in float32 under jit, from the best of a grid of λ; μ and δ̂ at the point found are
solved for in float64.
"""

import math
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, adam_direction, fade
from featpur_sim.certify.batching import ascended, float32, in_batches
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.relaxation import ball_multiplier, envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import UNIT, DualPoint

BATCH = 64
RATE = 0.05  # of Adam, in θ; cosine-annealed
GRID = (0.1, 0.3, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0)  # of λ, in units of `Network.scale`
TYPICAL = 1.5  # λ where few points are far from their best
LEVEL_RATE = RATE * max(GRID) / 4  # of Adam, in λ


class _Search(NamedTuple):
    """What a search knows of its rows, and the best of it: arrays [n, m] and [n]."""

    best: Array
    best_slope: Array
    best_level: Array
    slope: Array
    level: Array
    slope_moments: Moments
    level_moments: Moments


class _Fixed(NamedTuple):
    """What is the network's: W rotated to Q₀'s eigenbasis [m, d], arrays [1, ·], scalars."""

    rotated: Array
    gap: Array
    shape: Array
    bias: Array
    top: Array
    unit: Array


class _Rows(NamedTuple):
    """What is the points': [n, m], [n, m] and [n]."""

    u: Array
    reach: Array
    radius: Array


def _bound(rows: _Rows, fixed: _Fixed, slope: Array, level: Array) -> tuple[Array, Array, Array]:
    """Q1's bound and its supergradients in θ [n, m] and in λ [n], where λ = level·unit."""
    u, reach, radius = rows
    scaled = level[:, None] * fixed.unit
    phi, t = neuron_minimum(u, -reach, reach, slope, scaled * fixed.shape, fixed.bias)
    coefficient = slope @ fixed.rotated
    s = ball_multiplier(scaled * fixed.gap, coefficient, radius[:, None])
    delta = -coefficient / (2 * (s + scaled * fixed.gap))
    dual = (coefficient * delta).sum(1) / 2 - (s + scaled * fixed.top)[:, 0] * radius**2
    # Whatever norm δ leaves unused lies along Q₀'s top eigenvector.
    unused = jnp.maximum(radius**2 - (delta**2).sum(1), 0)
    spent = ((fixed.top - fixed.gap) * delta**2).sum(1) + fixed.top * unused
    by_level = ((fixed.shape * t**2).sum(1) - spent) * fixed.unit
    return phi.sum(1) + dual, delta @ fixed.rotated.T - t, by_level


@partial(jax.jit, static_argnames="grid")
def _begin(fixed: _Fixed, grid: tuple[float, ...], *rows: Array) -> _Search:
    """The best λ of a grid, with the θ that is best for each neuron alone."""
    points = _Rows(*rows)

    def start(level: Array) -> tuple[Array, Array]:
        full = jnp.full(points.radius.shape, level)
        curvature = full[:, None] * fixed.unit * fixed.shape
        slope = envelope_slope(points.u, -points.reach, points.reach, curvature, fixed.bias)
        return _bound(points, fixed, slope, full)[0], slope

    levels = jnp.asarray(grid, points.u.dtype)
    values, slopes = cast(tuple[Array, Array], jax.lax.map(start, levels))
    which = values.argmax(0)
    slope, level = slopes[which, jnp.arange(len(which))], levels[which]
    moments = Moments.zero(slope), Moments.zero(level)
    return _Search(values.max(0), slope, level, slope, level, *moments)


@jax.jit
def _ascend(
    fixed: _Fixed, first: Array, last: Array, steps: Array, state: _Search, *rows: Array
) -> _Search:
    """Steps ``first`` to ``last`` of Adam's ``steps``."""
    points = _Rows(*rows)

    def step(i: Array, state: _Search) -> _Search:
        count = i.astype(points.u.dtype)
        value, by_slope, by_level = _bound(points, fixed, state.slope, state.level)
        better = value > state.best
        slope_step, slope_moments = adam_direction(by_slope, state.slope_moments, count)
        level_step, level_moments = adam_direction(by_level, state.level_moments, count)
        rate = fade(count, steps)
        return _Search(
            jnp.where(better, value, state.best),
            jnp.where(better[:, None], state.slope, state.best_slope),
            jnp.where(better, state.level, state.best_level),
            state.slope + RATE * rate * slope_step,
            jnp.maximum(state.level + LEVEL_RATE * rate * level_step, 0),
            slope_moments,
            level_moments,
        )

    return cast(_Search, jax.lax.fori_loop(first, last, step, state))


def _from(slope: np.ndarray, level: np.ndarray) -> _Search:
    """A search that starts from given θ and λ; its first step says what they are worth."""
    # Host arrays, as in_batches leaves them, each its own: the search writes into them.
    zero: Any = [np.zeros_like(a, np.float32) for a in (slope, slope, level, level)]
    worst: Any = np.full(len(level), -np.inf, np.float32)
    begin: Any = [worst, *(a.astype(np.float32) for a in (slope, level, slope, level))]
    begin += [Moments(*zero[:2]), Moments(*zero[2:])]
    return _Search(*begin)


def q1_dual(
    problem: Problem,
    steps: int = 300,
    enough: float = math.inf,
    start: DualPoint | None = None,
) -> DualPoint:
    """Searches for Q1's best dual point.

    Args:
        problem: network, points and radii, in ℓ2.
        steps: Adam steps.
        enough: a bound with which the search for a point ends, as its float32 arithmetic sees it;
            it then starts from a single λ.
        start: what this found for the points at other radii.

    Returns:
        The dual point; the proved λmax(Q₀) keeps its excess at 0.
    """
    network = problem.network
    values, vectors = network.spectrum
    fixed = _Fixed(
        float32(problem.weights @ vectors),
        float32(values[-1] - values)[None],
        float32(network.shape)[None],
        float32(problem.bias)[None],
        float32(values[-1]),
        float32(network.scale),
    )
    rows = problem.pre_activation, problem.reach, problem.radius
    if start is None:
        # Without the grid a point ends a little lower, or takes a few more steps.
        grid = GRID if math.isinf(enough) else (TYPICAL,)

        def begin(*rows: np.ndarray) -> _Search:
            return cast(_Search, _begin(fixed, grid, *rows))

        state = in_batches(begin, rows, BATCH)
    else:
        level = start.curvature[:, 0] / network.shape[0]
        state = _from(start.slope, level / network.scale)

    def ascend(*arguments: Any) -> _Search:
        return cast(_Search, _ascend(fixed, *arguments))

    found = ascended(ascend, state, rows, steps, enough, BATCH)
    slope = np.asarray(found.best_slope, np.float64)
    level = np.asarray(found.best_level, np.float64) * network.scale
    coefficient = (slope @ problem.weights) @ vectors
    gap = level[:, None] * np.maximum(network.top - values, 0)
    s = ball_multiplier(gap, coefficient, problem.radius[:, None], steps=20)
    minimiser = -(coefficient / (2 * (s + gap))) @ vectors.T
    # Up by more than the roundings of λ·c, λ·top and the sum, so that μ ≥ λmax(Q) stays proved.
    multiplier = (s + level[:, None] * network.top) * (1 + 8 * UNIT)
    curvature = level[:, None] * network.shape
    return DualPoint(slope, curvature, multiplier, minimiser, np.zeros(len(problem)))
