"""Q1 in ℓ∞ (docs/theory.md, section 8).

Over the box {|δ_j| ≤ ε} the trust-region term is bounded below, for any ν with A = diag(ν) − Q ⪰
0, by

    T(v, Q) = min vᵀδ − δᵀQδ ≥ −¼ vᵀA⁻¹v − ε² Σ ν_j        [D: Lagrange multipliers ν_j of δ_j² ≤
    ε²]

With diag(μ) ⪰ Q, the choice ν = μ + |v|/(2ε) is already at least section 8's −ε‖v‖₁ − ε²Σμ_j,
because then A ⪰ diag(|v|)/(2ε); here ν = λμ + e with e > 0 is searched for together with (θ, λ),
which is tighter. δ̂ is found by conjugate gradients, warm from one step to the next: e keeps A well
conditioned (up to 250 at the presets, scaled by its diagonal), so that a few products do what a
factorisation would. A point that stays open gets the best ν at the (θ, λ) found, in float64, where
that could certify it.
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
from featpur_sim.certify.q1 import GRID, LEVEL_RATE, RATE, TYPICAL
from featpur_sim.certify.q2_box import complete_box
from featpur_sim.certify.relaxation import envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import UNIT, DualPoint

BATCH = 32
_TINY = 1e-30
# Steps of conjugate gradients: in a step of the search, from the last one's δ̂; at its end.
_PRODUCTS, _PRODUCTS_AT_END = 8, 60


class _Search(NamedTuple):
    """What a search knows of its rows, and the best of it: arrays [n, m], [n] and [n, d]."""

    best: Array
    best_slope: Array
    best_level: Array
    best_extra: Array
    slope: Array
    level: Array
    extra: Array
    delta: Array
    slope_moments: Moments
    level_moments: Moments


class _Fixed(NamedTuple):
    """What is the network's: W [m, d], Q₀ [d, d], μ, c and b [1, ·], a scalar."""

    weights: Array
    quadratic: Array
    majorant: Array
    shape: Array
    bias: Array
    unit: Array

    @property
    def floor(self) -> Array:
        """What diag(λμ) − λQ₀ may lack in float32, and e's floor."""
        return 1e-4 * self.unit * self.majorant.mean()


def solved(quadratic: Any, level: Any, multiplier: Any, direction: Any, start: Any, n: int) -> Any:
    """δ̂ = −½ A⁻¹v, A = diag(ν) − λQ₀, by conjugate gradients scaled by A's diagonal.

    Written for NumPy and JAX arrays alike.

    Args:
        quadratic: Q₀, [d, d].
        level: λ, [n, 1].
        multiplier: ν with A ≻ 0, [n, d].
        direction: v, [n, d].
        start: δ to start from, [n, d].
        n: steps, one product with Q₀ each.

    Returns:
        δ, [n, d]; vᵀδ + δᵀAδ falls from step to step towards −¼ vᵀA⁻¹v.
    """

    def times(delta: Any) -> Any:
        return multiplier * delta - level * (delta @ quadratic)

    scale = multiplier - level * quadratic.diagonal()
    delta, residual = start, -direction / 2 - times(start)
    search = scaled = residual / scale
    size = (residual * scaled).sum(1, keepdims=True)
    for _ in range(n):
        image = times(search)
        # Where nothing is left to do, 0/tiny.
        step = size / (search * image).sum(1, keepdims=True).clip(_TINY)
        delta, residual = delta + step * search, residual - step * image
        scaled, before = residual / scale, size
        size = (residual * scaled).sum(1, keepdims=True)
        search = scaled + size / before.clip(_TINY) * search
    return delta


@partial(jax.jit, static_argnames="grid")
def _begin(fixed: _Fixed, grid: tuple[float, ...], *rows: Array) -> _Search:
    """The best λ of a grid, with the θ that is best for each neuron alone and e from section 8."""
    u, reach, radius = rows
    epsilon = radius[:, None]

    def start(level: Array) -> tuple[Array, Array]:
        full = jnp.full((u.shape[0], 1), level * fixed.unit)
        slope = envelope_slope(u, -reach, reach, full * fixed.shape, fixed.bias)
        phi, _ = neuron_minimum(u, -reach, reach, slope, full * fixed.shape, fixed.bias)
        spent = epsilon * jnp.abs(slope @ fixed.weights) + epsilon**2 * full * fixed.majorant
        return phi.sum(1) - spent.sum(1), slope

    levels = jnp.asarray(grid, u.dtype)
    values, slopes = cast(tuple[Array, Array], jax.lax.map(start, levels))
    which = values.argmax(0)
    slope, level = slopes[which, jnp.arange(u.shape[0])], levels[which]
    extra = jnp.abs(slope @ fixed.weights) / (2 * epsilon) + fixed.floor
    moments = Moments.zero(slope), Moments.zero(level)
    # With this e the bound is no worse than what chose it, but for the floor.
    value = values.max(0) - radius**2 * extra.shape[1] * fixed.floor
    corner = -epsilon * jnp.sign(slope @ fixed.weights)
    return _Search(value, slope, level, extra, slope, level, extra, corner, *moments)


@jax.jit
def _ascend(
    fixed: _Fixed, first: Array, last: Array, steps: Array, state: _Search, *rows: Array
) -> _Search:
    """Steps ``first`` to ``last`` of Adam's ``steps``: θ [n, m], e [n, d], λ = level·unit [n]."""
    u, reach, radius = rows
    epsilon, unit, shape = radius[:, None], fixed.unit, fixed.shape

    def bound(
        slope: Array, level: Array, extra: Array, last: Array
    ) -> tuple[Array, Array, Array, Array]:
        scaled = level[:, None] * unit
        phi, t = neuron_minimum(u, -reach, reach, slope, scaled * shape, fixed.bias)
        direction = slope @ fixed.weights
        multiplier = scaled * fixed.majorant + extra
        delta = solved(fixed.quadratic, scaled, multiplier, direction, last, _PRODUCTS)
        bent = delta @ fixed.quadratic
        free = (direction * delta + multiplier * delta**2 - scaled * bent * delta).sum(1)
        dual = free - (epsilon**2 * multiplier).sum(1)
        by_level = (shape * t**2).sum(1) - (bent * delta).sum(1)
        by_level = by_level + (fixed.majorant * (delta**2 - epsilon**2)).sum(1)
        return phi.sum(1) + dual, delta @ fixed.weights.T - t, by_level * unit, delta

    def step(i: Array, state: _Search) -> _Search:
        count = i.astype(u.dtype)
        value, by_slope, by_level, delta = bound(state.slope, state.level, state.extra, state.delta)
        better = value > state.best
        slope_step, slope_moments = adam_direction(by_slope, state.slope_moments, count)
        level_step, level_moments = adam_direction(by_level, state.level_moments, count)
        rate = fade(count, steps)
        # At the best e, |δ_j| = ε or e_j = 0; for a diagonal A this reaches it in one step.
        factor = jnp.clip(jnp.abs(delta) / epsilon, 0.7, 1.4)
        return _Search(
            jnp.where(better, value, state.best),
            jnp.where(better[:, None], state.slope, state.best_slope),
            jnp.where(better, state.level, state.best_level),
            jnp.where(better[:, None], state.extra, state.best_extra),
            state.slope + RATE * rate * slope_step,
            jnp.maximum(state.level + LEVEL_RATE * rate * level_step, 0),
            jnp.maximum(state.extra * factor, fixed.floor),
            delta,
            slope_moments,
            level_moments,
        )

    return cast(_Search, jax.lax.fori_loop(first, last, step, state))


def _from(slope: np.ndarray, level: np.ndarray, extra: np.ndarray, delta: np.ndarray) -> _Search:
    """A search that starts from given θ, λ, e and δ̂; its first step says what they are worth."""
    # Host arrays, as in_batches leaves them, each its own: the search writes into them.
    begin: Any = [a.astype(np.float32) for a in (slope, level, extra, slope, level, extra, delta)]
    zero: Any = [np.zeros_like(a) for a in (*begin[:2], *begin[:2])]
    begin += [Moments(*zero[::2]), Moments(*zero[1::2])]
    worst: Any = np.full(len(level), -np.inf, np.float32)
    return _Search(worst, *begin)


def q1_box_dual(
    problem: Problem,
    steps: int = 300,
    enough: float = math.inf,
    start: DualPoint | None = None,
) -> DualPoint:
    """Searches for Q1's best dual point over the box.

    Args:
        problem: network, points and radii, in ℓ∞.
        steps: Adam steps, `_PRODUCTS` of conjugate gradients each.
        enough: as for `featpur_sim.certify.q1.q1_dual`. Where it is ∞, points that a better ν at
            the (θ, λ) found could certify get the best one.
        start: what this found for the points at other radii.

    Returns:
        The dual point, its excess proved: for ν = λμ + e it is λ times the network's.
    """
    network = problem.network
    majorant = network.majorant
    fixed = _Fixed(
        float32(network.weights),
        float32(network.quadratic),
        float32(majorant)[None],
        float32(network.shape)[None],
        float32(network.bias)[None],
        float32(network.scale),
    )
    rows = problem.pre_activation, problem.reach, problem.radius
    if start is None:
        grid = GRID if math.isinf(enough) else (TYPICAL,)

        def begin(*rows: np.ndarray) -> _Search:
            return cast(_Search, _begin(fixed, grid, *rows))

        state = in_batches(begin, rows, BATCH)
    else:
        level = start.curvature[:, 0] / network.shape[0]
        extra = start.multiplier - level[:, None] * majorant
        state = _from(start.slope, level / network.scale, extra, start.minimiser)

    def ascend(*arguments: Any) -> _Search:
        return cast(_Search, _ascend(fixed, *arguments))

    found = ascended(ascend, state, rows, steps, enough, BATCH)
    slope, extra, delta = (
        np.asarray(part, np.float64) for part in (found.best_slope, found.best_extra, found.delta)
    )
    level = np.asarray(found.best_level, np.float64)[:, None] * network.scale
    multiplier, direction = level * majorant + extra, slope @ network.weights
    minimiser = solved(network.quadratic, level, multiplier, direction, delta, _PRODUCTS_AT_END)
    # The roundings of λ·c, λ·μ and the sum.
    rounding = 8 * UNIT * level[:, 0] * (majorant.max() + network.top)
    excess = level[:, 0] * network.majorant_excess * (1 + 4 * UNIT) + rounding
    dual = DualPoint(slope, level * network.shape, multiplier, minimiser, excess)
    return _completed(problem, dual, direction) if math.isinf(enough) else dual


def _completed(problem: Problem, dual: DualPoint, direction: np.ndarray) -> DualPoint:
    """The same, with the best ν where that could decide: T is no more than at a δ in the box."""
    radius = problem.radius[:, None]
    delta = np.clip(dual.minimiser, -radius, radius)
    bent = (dual.curvature * (delta @ problem.weights.T) ** 2).sum(1)
    reached = (direction * delta).sum(1) - bent
    proved = (direction * dual.minimiser).sum(1) / 2 - (radius**2 * dual.multiplier).sum(1)
    bound = problem.bound(dual)
    short = np.flatnonzero((bound <= 0) & (bound + reached - proved > 0))
    if len(short):
        own = problem.select(short), dual.slope[short], dual.curvature[short]
        better = complete_box(*own, dual.multiplier[short])
        for array, new in zip(dual, better, strict=True):
            array[short] = new
    return dual
