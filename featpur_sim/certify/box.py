"""Q1 in ℓ∞ (docs/theory.md, section 8).

Over the box {|δ_j| ≤ ε} the trust-region term is bounded below, for any ν with A = diag(ν) − Q ⪰
0, by

    T(v, Q) = min vᵀδ − δᵀQδ ≥ −¼ vᵀA⁻¹v − ε² Σ ν_j        [D: Lagrange multipliers ν_j of δ_j² ≤
    ε²]

With diag(μ) ⪰ Q, the choice ν = μ + |v|/(2ε) is already at least section 8's −ε‖v‖₁ − ε²Σμ_j,
because then A ⪰ diag(|v|)/(2ε); here ν = λμ + e with e > 0 is searched for together with (θ, λ),
which is tighter.
"""

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array

from featpur_sim.certify.ascent import Moments, adam_direction, fade
from featpur_sim.certify.batching import float32, in_batches
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import GRID, RATE
from featpur_sim.certify.relaxation import envelope_slope, neuron_minimum
from featpur_sim.certify.rounding import UNIT, DualPoint

BATCH = 32


class _Search(NamedTuple):
    slope: Array
    level: Array
    extra: Array
    slope_moments: Moments
    level_moments: Moments
    best: Array
    best_slope: Array
    best_level: Array
    best_extra: Array


@partial(jax.jit, static_argnames="grid")
def _search(
    u: Array,
    reach: Array,
    radius: Array,
    weights: Array,
    quadratic: Array,
    majorant: Array,
    shape: Array,
    bias: Array,
    unit: Array,
    steps: Array,
    grid: tuple[float, ...],
) -> tuple[Array, Array, Array]:
    """Maximises the box bound over θ [n, m], λ [n] and e [n, d].

    Rows are [n, ·]; μ, c and b are [1, ·]; λ = level·unit.
    """
    epsilon = radius[:, None]
    # What diag(λμ) − λQ₀ may lack in float32, and e's floor.
    floor = 1e-4 * unit * majorant.mean()
    remainder = jnp.diag(majorant[0]) - quadratic

    def start(level: Array) -> tuple[Array, Array]:
        full = jnp.full((u.shape[0], 1), level * unit)
        slope = envelope_slope(u, -reach, reach, full * shape, bias)
        phi, _ = neuron_minimum(u, -reach, reach, slope, full * shape, bias)
        spent = epsilon * jnp.abs(slope @ weights) + epsilon**2 * full * majorant
        return phi.sum(1) - spent.sum(1), slope

    def bound(slope: Array, level: Array, extra: Array) -> tuple[Array, Array, Array, Array]:
        scaled = level[:, None] * unit
        phi, t = neuron_minimum(u, -reach, reach, slope, scaled * shape, bias)
        direction = slope @ weights
        system = (
            scaled[..., None] * remainder[None] + jnp.eye(remainder.shape[0])[None] * extra[:, None]
        )
        root = cast(Array, jnp.linalg.cholesky(system))
        delta = jax.scipy.linalg.cho_solve((root, True), -direction[..., None] / 2)[..., 0]
        dual = (direction * delta).sum(1) / 2
        dual = dual - (epsilon**2 * (scaled * majorant + extra)).sum(1)
        by_level = (shape * t**2).sum(1) + (delta * (delta @ remainder)).sum(1)
        by_level = (by_level - epsilon[:, 0] ** 2 * majorant.sum()) * unit
        return phi.sum(1) + dual, delta @ weights.T - t, by_level, delta

    levels = jnp.asarray(grid, u.dtype)
    values, slopes = cast(tuple[Array, Array], jax.lax.map(start, levels))
    which = values.argmax(0)
    slope, level = slopes[which, jnp.arange(u.shape[0])], levels[which]
    extra = jnp.abs(slope @ weights) / (2 * epsilon) + floor
    level_rate = RATE * max(grid) / 4

    def ascend(i: Array, state: _Search) -> _Search:
        count = i.astype(u.dtype)
        value, by_slope, by_level, delta = bound(state.slope, state.level, state.extra)
        better = value > state.best
        slope_step, slope_moments = adam_direction(by_slope, state.slope_moments, count)
        level_step, level_moments = adam_direction(by_level, state.level_moments, count)
        rate = fade(count, steps)
        # At the best e, |δ_j| = ε or e_j = 0; for a diagonal A this reaches it in one step.
        factor = jnp.clip(jnp.abs(delta) / epsilon, 0.7, 1.4)
        return _Search(
            state.slope + RATE * rate * slope_step,
            jnp.maximum(state.level + level_rate * rate * level_step, 0),
            jnp.maximum(state.extra * factor, floor),
            slope_moments,
            level_moments,
            jnp.where(better, value, state.best),
            jnp.where(better[:, None], state.slope, state.best_slope),
            jnp.where(better, state.level, state.best_level),
            jnp.where(better[:, None], state.extra, state.best_extra),
        )

    worst = jnp.full_like(level, -jnp.inf)
    moments = Moments.zero(slope), Moments.zero(level)
    first = _Search(slope, level, extra, *moments, worst, slope, level, extra)
    state = cast(_Search, jax.lax.fori_loop(0, steps.astype(int), ascend, first))
    return state.best_slope, state.best_level * unit, state.best_extra


def q1_box_dual(problem: Problem, steps: int = 300) -> DualPoint:
    """Searches for Q1's best dual point over the box.

    Args:
        problem: network, points and radii, in ℓ∞.
        steps: Adam steps, one Cholesky factorisation each.

    Returns:
        The dual point; its excess is λ times the one proved for diag(μ) − Q₀.
    """
    network = problem.network
    quadratic = network.quadratic
    majorant, proved = network.majorant
    fixed = (
        float32(network.weights),
        float32(quadratic),
        float32(majorant)[None],
        float32(network.shape)[None],
        float32(network.bias)[None],
        float32(network.scale),
        float32(steps),
    )
    slope, level, extra = in_batches(
        lambda *rows: cast(tuple[Array, ...], _search(*rows, *fixed, grid=GRID)),
        (problem.pre_activation, problem.reach, problem.radius),
        BATCH,
    )
    direction = slope @ network.weights
    minimiser = np.empty_like(direction)
    for i, (lam, e, v) in enumerate(zip(level, extra, direction, strict=True)):
        minimiser[i] = np.linalg.solve(np.diag(lam * majorant + e) - lam * quadratic, -v / 2)
    # The roundings of λ·c, λ·μ and the sum.
    rounding = 8 * UNIT * level * (majorant.max() + network.top)
    excess = level * proved * (1 + 4 * UNIT) + rounding
    multiplier = level[:, None] * majorant + extra
    return DualPoint(slope, level[:, None] * network.shape, multiplier, minimiser, excess)
