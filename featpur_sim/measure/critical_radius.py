"""The critical radius of a network: where an attack flips half of what it gets right (§5, §5.1).

Every test point that a network classifies right has a least radius at which the attack flips it.
The critical radius at ``level`` is the radius at which that fraction of those points still stands:
at ½, the median of the least radii. A point that a smaller radius flips counts as flipped at every
larger one (the smaller ball lies inside the larger), so the standing fraction falls with the radius
by construction. An attack can only miss: against the true worst case this is an upper bound.

Along one fixed direction the least radius of a point is exact, since f is piecewise linear there;
any other attack is bisected, on common test points and with common random starts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.checks import count, is_concrete, number
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey, Scalar
from featpur_sim.attacks.accuracy import CHUNK, attacked_margin
from featpur_sim.attacks.balls import ball
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.problem import Problem
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU

# Units of x, where ‖x‖ is of order 1: a direction that has not flipped a point by here never does.
_FAR = 1e4
_QUANTILE_95 = 1.96


class CriticalRadius(NamedTuple):
    """A radius with its 95 % interval over the test points; NaN where no radius tried does it."""

    value: Scalar
    low: Scalar
    high: Scalar


@steady
def flip_radii(
    network: SymmetricReLU, batch: Batch, direction: Float[Array, " d"]
) -> Float[Array, " n"]:
    """The least r ≥ 0 with y f(x − r y·direction) ≤ 0, exactly [D].

    With v_i = y⟨w_i, x⟩ and t_i = ⟨w_i, direction⟩ the margin is Σ_i S_b(v_i − r t_i). Neuron i
    switches off and on again where v_i − r t_i = ±b: between these 2m radii the margin is linear.

    Args:
        network: without smoothing; only then is f piecewise linear.
        batch: n labelled samples.
        direction: of unit norm in the threat model, so that r is a radius.

    Returns:
        Radii, 0 where the network is wrong already, ∞ where no radius flips the point.

    Raises:
        ValueError: the network smooths its thresholds, or is of a subclass.

    >>> import jax
    >>> from featpur_sim import SparseCoding, SymmetricReLU
    >>> problem = SparseCoding(d=32, k=4, sigma_x=0.3)
    >>> sum_of_all = SymmetricReLU(problem.wstar[None], 0.0)  # f = ⟨w*, x⟩
    >>> batch = problem.sample(jax.random.key(1), 3)
    >>> margin = batch.y * (batch.x @ problem.wstar)
    >>> flips = flip_radii(sum_of_all, batch, problem.wstar / 32**0.5)
    >>> bool(jnp.allclose(flips, jnp.maximum(margin, 0) / 32**0.5, atol=1e-6))
    True
    """
    if type(network) is not SymmetricReLU:
        raise ValueError(
            f"flip_radii needs SymmetricReLU itself, got a {type(network).__name__}, whose kinks "
            "may lie elsewhere: use bisect_critical_radius with DenseMixture."
        )
    if network.smoothing != "none":
        raise ValueError(
            f"flip_radii needs a network without smoothing, got smoothing="
            f"'{network.smoothing}': use bisect_critical_radius with DenseMixture."
        )
    v = batch.y[:, None] * network.preactivations(batch.x)
    t = network.weights @ direction
    b = network.bias
    ends = jnp.stack([(v - b) / jnp.where(t == 0, 1, t), (v + b) / jnp.where(t == 0, 1, t)])
    off, on = jnp.min(ends, axis=0), jnp.max(ends, axis=0)
    moves = jnp.broadcast_to(t != 0, v.shape)
    # The slope of the margin is −Σ t_i over the active neurons; at rest, all that is not inside
    # (off, on) is active. A neuron that does not move never changes the slope.
    slope = -jnp.sum(jnp.where(moves & ((off > 0) | (on <= 0)), t, 0), axis=-1)
    at = jnp.concatenate([off, on], axis=-1)
    change = jnp.concatenate([jnp.broadcast_to(t, v.shape), -jnp.broadcast_to(t, v.shape)], axis=-1)
    ahead = jnp.concatenate([moves, moves], axis=-1) & (at > 0)
    at, change = jnp.where(ahead, jnp.minimum(at, _FAR), 0), jnp.where(ahead, change, 0)
    at, change = lax.sort((at, change), dimension=-1, num_keys=1)
    margin = network.output_and_gate(v)[0]
    return _first_zero(margin, slope, at, change)


def _first_zero(margin, slope, at, change):
    """First zero of a piecewise linear function on [0, ∞) from its start and its rising kinks."""
    slopes = slope[:, None] + jnp.cumsum(change, axis=-1)
    before = jnp.concatenate([slope[:, None], slopes[:, :-1]], axis=-1)
    falls = before * jnp.diff(at, axis=-1, prepend=jnp.zeros_like(at[:, :1]))
    values = margin[:, None] + jnp.cumsum(falls, axis=-1)
    # Segment s runs from kink s − 1 (or 0) to kink s; the last one has no end.
    start = jnp.concatenate([jnp.zeros_like(at[:, :1]), at], axis=-1)
    level = jnp.concatenate([margin[:, None], values], axis=-1)
    steep = jnp.concatenate([before, slopes[:, -1:]], axis=-1)
    ends = jnp.concatenate([values <= 0, slopes[:, -1:] < 0], axis=-1)
    first = jnp.argmax(ends, axis=-1)[:, None]
    r, g, s = (jnp.take_along_axis(a, first, axis=-1)[:, 0] for a in (start, level, steep))
    zero = r + jnp.maximum(g, 0) / jnp.where(s < 0, -s, jnp.inf)
    flipped = jnp.any(ends, axis=-1) & (zero < _FAR)
    return jnp.where(margin <= 0, 0, jnp.where(flipped, zero, jnp.inf))


@steady
def dense_critical_radius(
    network: SymmetricReLU,
    problem: SparseCoding,
    norm: Norm = "l2",
    *,
    key: PRNGKey,
    n: int,
    level: float = 0.5,
) -> CriticalRadius:
    """Critical radius along the dense mixture −y·Mw* (claim C2), from exact radii per point.

    Args:
        network: without smoothing.
        problem: the data.
        norm: ``"l2"`` or ``"linf"``.
        key: names the test points, the same as in `featpur_sim.attacks.accuracy.count_robust`.
        n: points drawn; those that have a label and are classified right count.
        level: fraction of them that still stands at the critical radius, in (0, 1).

    Returns:
        The quantile of the points' radii; its interval is that of the order statistics.

    Raises:
        ValueError: the network smooths its thresholds, ``n`` is no whole number ≥ 1, or ``level``
            is not inside (0, 1).
    """
    n, share = count("n", n), number("level", level, above=0, below=1)
    sample_key, _ = jax.random.split(key)
    direction = ball(norm, 1.0).maximise(problem.dense_direction()[None])[0]
    radii, right = _in_blocks(
        lambda i, batch: (r := flip_radii(network, batch, direction), r > 0), problem, sample_key, n
    )
    total = jnp.sum(right)
    error = _QUANTILE_95 * jnp.sqrt(share * (1 - share) / jnp.maximum(total, 1))
    flipped = jnp.clip(1 - share + jnp.stack([jnp.float32(0), -error, error]), 0, 1)
    found = jnp.nanquantile(jnp.where(right, radii, jnp.nan), flipped, method="nearest")
    return CriticalRadius(*jnp.where(jnp.isfinite(found), found, jnp.nan))


@steady
def bisect_critical_radius(
    model: Classifier,
    problem: Problem,
    attack_at: Callable[[Scalar], Attack],
    *,
    key: PRNGKey,
    n: int,
    low: float | Scalar,
    high: float | Scalar,
    level: float = 0.5,
    halvings: int = 9,
) -> CriticalRadius:
    """Critical radius of any model under any attack, by bisection of log r between two radii.

    Every radius meets the same points with the same random starts. Nine halvings between τ/32 and
    16τ leave a ratio of 1.2 %; between the last two radii the standing fraction is interpolated.
    Traceable: vmap it over networks.

    Args:
        model: any classifier.
        problem: the data.
        attack_at: radius → attack.
        key: names the test points, the same as in `featpur_sim.attacks.accuracy.count_robust`.
        n: points drawn; those that have a label and are classified right count.
        low: a radius > 0 below the critical one; may be traced.
        high: a radius above it.
        level: fraction of the points that still stands at the critical radius, in (0, 1).
        halvings: bisection steps, one attack on all points each.

    Returns:
        The radius, NaN if it is not between ``low`` and ``high``. Its interval is where the
        standing fraction crosses level ± 1.96 √(level(1 − level)/points), cut to [low, high].

    Raises:
        ValueError: ``n`` or ``halvings`` is no whole number ≥ 1, ``level`` is not inside (0, 1), or
            the radii are not 0 < low < high.
    """
    n, halvings = count("n", n), count("halvings", halvings)
    share = number("level", level, above=0, below=1)
    ends = number("low", low, above=0), number("high", high, above=0)
    if is_concrete(ends) and not ends[0] < ends[1]:
        raise ValueError(f"low must be < high, got {low} and {high}: swap them.")
    sample_key, attack_key = jax.random.split(key)

    def margins(attack):
        def one(i, batch):
            block_key = jax.random.fold_in(attack_key, i)
            margin = attacked_margin(model, batch, attack, key=block_key)
            return margin, margin > 0

        return _in_blocks(one, problem, sample_key, n)

    right = margins(None)[1]
    total = jnp.maximum(jnp.sum(right), 1)

    def halve(carry, _):
        lower, upper, broken = carry
        radius = jnp.sqrt(lower * upper)
        margin, _ = margins(attack_at(radius))
        broken = jnp.where(margin > 0, broken, jnp.minimum(broken, radius))
        stands = jnp.sum(right & (broken > radius)) / total > share
        carry = (jnp.where(stands, radius, lower), jnp.where(stands, upper, radius), broken)
        return carry, radius

    start = (*ends, jnp.full(right.shape, jnp.inf))
    (_, _, broken), radii = lax.scan(halve, start, length=halvings)
    radii = jnp.sort(radii)[::-1]
    standing = jnp.sum(right & (broken > radii[:, None]), axis=-1) / total
    error = _QUANTILE_95 * jnp.sqrt(share * (1 - share) / total)
    crossing = jnp.stack([share, share + error, share - error])
    found = jnp.exp(jnp.interp(crossing, standing, jnp.log(radii), *jnp.log(jnp.stack(ends))[::-1]))
    inside = jnp.any(standing > share) & jnp.any(standing <= share) & jnp.any(right)
    return CriticalRadius(*jnp.where(inside, found, jnp.nan))


def _in_blocks(one, problem, sample_key, n):
    """``one(i, batch)`` → (values, right) over n points, blockwise; ``right`` needs a label."""
    size = min(CHUNK, n)

    def block(i):
        batch = problem.sample(sample_key, size, start=i * size)
        values, right = one(i, batch)
        counted = batch.labelled & (jnp.arange(size) + i * size < n)
        return values, right & counted

    values, right = lax.map(block, jnp.arange(-(-n // size)))
    return values.reshape(-1), right.reshape(-1)
