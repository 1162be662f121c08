"""Q1 in ℓ∞ (docs/theory.md, section 8).

Over the box {|δ_j| ≤ ε} the trust-region term is bounded below, for any ν with A = diag(ν) − Q ⪰
0, by

    T(v, Q) = min vᵀδ − δᵀQδ ≥ −¼ vᵀA⁻¹v − ε² Σ ν_j        [D: Lagrange multipliers ν_j of δ_j² ≤
    ε²]

With diag(μ) ⪰ Q, the choice ν = μ + |v|/(2ε) is already at least section 8's −ε‖v‖₁ − ε²Σμ_j,
because then A ⪰ diag(|v|)/(2ε); here ν = λμ + e with e > 0 is searched for together with (θ, λ),
which is tighter. The best ν at the (θ, λ) found takes longer than this search and decides few
points more: that is left to Q2.
"""

import math
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, adam_direction, fade
from featpur_sim.certify.batching import ascended, float32, in_batches
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import GRID, LEVEL_RATE, RATE
from featpur_sim.certify.relaxation import envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import UNIT, DualPoint

BATCH = 32


class _Search(NamedTuple):
    """What a search knows of its rows, and the best of it: arrays [n, m], [n] and [n, d]."""

    best: Array
    best_slope: Array
    best_level: Array
    best_extra: Array
    slope: Array
    level: Array
    extra: Array
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
    def remainder(self) -> Array:
        """diag(μ) − Q₀."""
        return jnp.diag(self.majorant[0]) - self.quadratic

    @property
    def floor(self) -> Array:
        """What diag(λμ) − λQ₀ may lack in float32, and e's floor."""
        return 1e-4 * self.unit * self.majorant.mean()


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
    return _Search(value, slope, level, extra, slope, level, extra, *moments)


@jax.jit
def _ascend(
    fixed: _Fixed, first: Array, last: Array, steps: Array, state: _Search, *rows: Array
) -> _Search:
    """Steps ``first`` to ``last`` of Adam's ``steps``: θ [n, m], e [n, d], λ = level·unit [n]."""
    u, reach, radius = rows
    epsilon, unit, shape = radius[:, None], fixed.unit, fixed.shape
    remainder = fixed.remainder

    def bound(slope: Array, level: Array, extra: Array) -> tuple[Array, Array, Array, Array]:
        scaled = level[:, None] * unit
        phi, t = neuron_minimum(u, -reach, reach, slope, scaled * shape, fixed.bias)
        direction = slope @ fixed.weights
        system = (
            scaled[..., None] * remainder[None] + jnp.eye(remainder.shape[0])[None] * extra[:, None]
        )
        root = cast(Array, jnp.linalg.cholesky(system))
        delta = jax.scipy.linalg.cho_solve((root, True), -direction[..., None] / 2)[..., 0]
        dual = (direction * delta).sum(1) / 2
        dual = dual - (epsilon**2 * (scaled * fixed.majorant + extra)).sum(1)
        by_level = (shape * t**2).sum(1) + (delta * (delta @ remainder)).sum(1)
        by_level = (by_level - epsilon[:, 0] ** 2 * fixed.majorant.sum()) * unit
        return phi.sum(1) + dual, delta @ fixed.weights.T - t, by_level, delta

    def step(i: Array, state: _Search) -> _Search:
        count = i.astype(u.dtype)
        value, by_slope, by_level, delta = bound(state.slope, state.level, state.extra)
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
            slope_moments,
            level_moments,
        )

    return cast(_Search, jax.lax.fori_loop(first, last, step, state))


def q1_box_dual(problem: Problem, steps: int = 300, enough: float = math.inf) -> DualPoint:
    """Searches for Q1's best dual point over the box.

    Args:
        problem: network, points and radii, in ℓ∞.
        steps: Adam steps, one Cholesky factorisation each.
        enough: as for `featpur_sim.certify.q1.q1_dual`.

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

    def begin(*rows: np.ndarray) -> _Search:
        return cast(_Search, _begin(fixed, GRID, *rows))

    def ascend(*arguments: Any) -> _Search:
        return cast(_Search, _ascend(fixed, *arguments))

    state = in_batches(begin, rows, BATCH)
    found = ascended(ascend, state, rows, steps, enough, BATCH)
    slope, extra = (np.asarray(part, np.float64) for part in (found.best_slope, found.best_extra))
    level = np.asarray(found.best_level, np.float64) * network.scale
    multiplier = level[:, None] * majorant + extra
    direction = slope @ network.weights
    minimiser = np.empty_like(direction)
    for i, (lam, nu, v) in enumerate(zip(level, multiplier, direction, strict=True)):
        minimiser[i] = np.linalg.solve(np.diag(nu) - lam * network.quadratic, -v / 2)
    # The roundings of λ·c, λ·μ and the sum.
    rounding = 8 * UNIT * level * (majorant.max() + network.top)
    excess = level * network.majorant_excess * (1 + 4 * UNIT) + rounding
    return DualPoint(slope, level[:, None] * network.shape, multiplier, minimiser, excess)
