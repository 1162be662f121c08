"""Reduced dynamics: three order parameters instead of m·d weights (docs/dynamics.md).

The ansatz, in the gauge w* = 1 and M = I: feature j is carried by r equal neurons
w = α e_j + c Σ_{j'≠j} e_{j'} + q_j with q_j isotropic and ‖q_j‖² = ρ². With C = c·d and the time
t′ = η·step/d, gradient descent on the objective of docs/theory.md §3 becomes three differential
equations. On a node of `featpur_sim.theory.dynamics.nodes` the output is a sum over features that
are independent given the node, so it is Gaussian up to 1/√(active features); everything linear in a
gate is regressed on it. This module imports no simulation code, so that agreement with a run is
evidence.
"""

from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.types import Array, Float, Int, Real, Scalar
from featpur_sim.theory.dynamics.nodes import Nodes

AttackName = Literal["none", "fgm", "dense"]

_PerNode = Float[Array, " n"]
_PerCategory = Float[Array, "n 5"]
_PerPiece = Float[Array, "P n 5"]
_Affine = tuple[float | Array, float | Array]
"""a and b of a + bζ, broadcast to [P, n, 5]."""

# Gauss-Hermite rule for the Gaussian part of the output.
_HERMITE_AT, _hermite_mass = np.polynomial.hermite_e.hermegauss(9)
_HERMITE_WEIGHT = _hermite_mass / _hermite_mass.sum()


class Order(NamedTuple):
    """The state: α, C = c·d and ρ²."""

    alpha: Scalar
    dense: Scalar
    residual: Scalar


class Setting(NamedTuple):
    """What the equations depend on besides the state; all of it is data."""

    d: Scalar
    k: Scalar
    sigma_x: Scalar
    copies: Scalar
    """r, neurons per feature."""
    decay: Scalar
    """λd"""
    noise: Scalar
    """η/n with batch size n: sampling noise feeds ρ²."""


class Moments(NamedTuple):
    """Given each node, the output and the three sums over features that drive the state."""

    mean: Float[Array, " n"]
    """of f/r"""
    variance: Float[Array, " n"]
    """of f/r"""
    sums: Float[Array, "3 n"]
    """Means of N = Σ1_j, T = Σ1_j x_j and R = Σ1_j⟨q_j, x⟩ at the perturbed input."""
    covariances: Float[Array, "3 n"]
    """of N, T and R with f/r"""
    total: Float[Array, " n"]
    """X = Σ_j x_j at the perturbed input"""


def moments(
    order: Order,
    bias: Real,
    radius: Real,
    nodes: Nodes,
    setting: Setting,
    attack: AttackName = "none",
) -> Moments:
    """Output and gated sums on every node. [D] docs/dynamics.md, steps 3-5

    Args:
        order: α, C, ρ².
        bias: threshold b.
        radius: τ; not read without an attack.
        nodes: without a leading axis.
        setting: the rest.
        attack: "fgm" moves x along the network's own gradient, "dense" along −y(1, …, 1)/√d.
    """
    d, sigma2 = setting.d, setting.sigma_x**2
    c = order.dense / d
    a = order.alpha - c
    small = 1 / jnp.sqrt(setting.k)
    value = jnp.stack([jnp.ones_like(small), -jnp.ones_like(small), small, -small, 0 * small])
    noise = setting.sigma_x * nodes.noise
    counts = jnp.asarray(nodes.counts)
    total = counts @ value + noise
    square = (counts @ value**2 + sigma2)[:, None]
    own = value + noise[:, None] / d
    # u_j = centre + scale·ζ; the two parts of the noise are correlated with ζ.
    centre = a * own + c * total[:, None]
    scale = jnp.sqrt(a**2 * sigma2 / d + order.residual * square / d)
    scale = jnp.maximum(scale, 1e-12 * jnp.abs(order.alpha) + 1e-300)
    with_own = a * sigma2 / d / scale * jnp.ones_like(centre)
    with_residual = order.residual * square / d / scale * jnp.ones_like(centre)
    active = _below((centre - bias) / scale) + _below((-centre - bias) / scale)
    push = _perturbation(attack, order, radius, jnp.sum(counts * active, 1), setting)
    own_push, dense_push, residual_push, carried = (p[:, None] for p in push)
    moved = own_push * carried + dense_push * d
    # How far u_j moves where the feature is inactive, and how much further where it is active.
    everywhere = a * dense_push + c * moved
    if_active = a * own_push + residual_push
    # The pieces of ζ are a leading axis, summed away: one small program instead of six.
    side, low, high, inside = (column[:, None, None] for column in _pieces(attack, bias))
    shift = everywhere + inside * if_active
    edge = shift + side * bias
    low = jnp.where(side > 0, jnp.maximum(low, edge), low)
    high = jnp.where(side > 0, high, jnp.minimum(high, edge))
    z = _truncated((low - centre) / scale, (high - centre) / scale)
    output = (centre - shift - side * bias, scale)
    observables = (
        (1.0, 0.0),
        (own - inside * own_push - dense_push, with_own),
        (-inside * residual_push, with_residual),
    )
    sums = _expectations(z, output, observables)
    return _collect(
        sums, with_own, with_residual, counts, setting, total - moved[:, 0], order.alpha
    )


def _perturbation(
    attack: AttackName, order: Order, radius: Real, active: _PerNode, setting: Setting
) -> tuple[_PerNode, _PerNode, _PerNode, _PerNode]:
    """(p, q, s, N): x_j moves by −y(p·1_j + q), ⟨q_j, x⟩ by −y·s·1_j. [D] docs/dynamics.md"""
    zero = 0 * active
    if attack == "none":
        return zero, zero, zero, active
    if attack == "dense":
        return zero, zero + radius / jnp.sqrt(setting.d), zero, active
    c = order.dense / setting.d
    a = order.alpha - c
    square = (a**2 + order.residual) * active + (2 * a * c + c**2 * setting.d) * active**2
    # Without an active neuron there is no gradient and the attack stays put.
    unit = jnp.where(active > 1e-6, radius / jnp.sqrt(jnp.maximum(square, 1e-60)), 0.0)
    return unit * a, unit * c * active, unit * order.residual, active


def _pieces(attack: AttackName, bias: Real) -> list[Float[Array, " P"]]:
    """Sign of the gate after the attack, range of u before it, active before it: arrays [P]."""
    infinite = 1e30  # finite, so that derivatives are
    ranges: list[tuple[Real, Real, float]] = [(-infinite, infinite, 0.0)]
    if attack == "fgm":
        ranges = [(bias, infinite, 1.0), (-infinite, -bias, 1.0), (-bias, bias, 0.0)]
    rows = [(side, *piece) for piece in ranges for side in (1.0, -1.0)]
    return [jnp.stack([jnp.asarray(v) for v in column]) for column in zip(*rows, strict=True)]


def _below(t: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Φ(t): one special function, where `ndtr` compiles three."""
    return 0.5 * lax.erfc(-t / 2**0.5)


def _truncated(low: _PerPiece, high: _PerPiece) -> tuple[_PerPiece, _PerPiece, _PerPiece]:
    """∫ (1, ζ, ζ²) φ(ζ) dζ over [low, high]; 0 where the range is empty."""
    low = jnp.clip(low, -37.0, 37.0)
    high = jnp.clip(jnp.maximum(high, low), -37.0, 37.0)
    # From the nearer tail, so that small probabilities keep their digits.
    right = low > 0
    mass = _below(jnp.where(right, -low, high)) - _below(jnp.where(right, -high, low))
    at_low, at_high = (jnp.exp(-0.5 * t**2) / jnp.sqrt(2 * jnp.pi) for t in (low, high))
    return mass, at_low - at_high, mass + low * at_low - high * at_high


class _Expectations(NamedTuple):
    """Per node and category: S the output of a neuron, O one of three observables times the gate,
    ζ the noise.
    """

    s: Array  # E S
    ss: Array  # E S²
    zs: Array  # E ζS
    o: Array  # E O [3, n, 5]
    os: Array  # E OS
    zo: Array  # E ζO
    mass: Array  # Pr[gate]


def _expectations(
    z: tuple[_PerPiece, _PerPiece, _PerPiece], output: _Affine, observables: tuple[_Affine, ...]
) -> _Expectations:
    """Everything is affine in ζ on a piece; the pieces are the leading axis."""
    (z0, z1, z2), (s0, s1) = z, output
    s, zs = s0 * z0 + s1 * z1, s0 * z1 + s1 * z2
    o = jnp.stack([jnp.sum(o0 * z0 + o1 * z1, 0) for o0, o1 in observables])
    os = jnp.stack([jnp.sum(o0 * s + o1 * zs, 0) for o0, o1 in observables])
    zo = jnp.stack([jnp.sum(o0 * z1 + o1 * z2, 0) for o0, o1 in observables])
    ss = jnp.sum(s0 * s + s1 * zs, 0)
    return _Expectations(jnp.sum(s, 0), ss, jnp.sum(zs, 0), o, os, zo, jnp.sum(z0, 0))


def _collect(
    e: _Expectations,
    with_own: _PerCategory,
    with_residual: _PerCategory,
    counts: _PerCategory,
    setting: Setting,
    total: _PerNode,
    alpha: Scalar,
) -> Moments:
    """Sums over the d coordinates; the own noises ξ_j add up to a known number, so one direction of
    them is taken out of every covariance.
    """
    own_variance = setting.sigma_x**2 / setting.d
    noise_s = jnp.sum(counts * with_own * e.zs, -1)
    spread = jnp.stack([0 * e.mass, own_variance * e.mass, 0 * e.mass])
    # Var(ξ|ζ) and Cov(ξ, ⟨q,x⟩|ζ), for the observables that hold ξ or ⟨q,x⟩.
    explained = jnp.stack([0 * e.mass, with_own**2 * e.mass, with_own * with_residual * e.mass])
    noise_o = jnp.sum(counts * (with_own * e.zo + spread - explained), -1)
    per_variance = 1 / jnp.maximum(setting.sigma_x**2, 1e-300)
    variance = jnp.sum(counts * (e.ss - e.s**2), -1) - per_variance * noise_s**2
    covariance = jnp.sum(counts * (e.os - e.o * e.s), -1) - per_variance * noise_s * noise_o
    return Moments(
        mean=jnp.sum(counts * e.s, -1),
        variance=jnp.maximum(variance, 1e-14 * alpha**2 + 1e-300),
        sums=jnp.sum(counts * e.o, -1),
        covariances=covariance,
        total=total,
    )


class Drive(NamedTuple):
    """Expectations over the data at one state; g = σ(−y f)."""

    pure: Scalar
    """E[g y T]"""
    mixed: Scalar
    """E[g y (N X − T)]"""
    residual: Scalar
    """E[g y R]"""
    noise: Scalar
    """E[g² N ‖x‖²], clean input"""
    active: Scalar
    """E N/d"""
    loss: Scalar


def drive(
    order: Order,
    bias: Real,
    radius: Real,
    nodes: Nodes,
    setting: Setting,
    attack: AttackName = "none",
) -> Drive:
    """What the data do to the state: the expectations in the equations of motion. [D] §7"""
    m = moments(order, bias, radius, nodes, setting, attack)
    at, weight = jnp.asarray(_HERMITE_AT), jnp.asarray(_HERMITE_WEIGHT)
    deviation = jnp.sqrt(m.variance)[:, None] * at
    f = setting.copies * (m.mean[:, None] + deviation)
    g = jax.nn.sigmoid(-f)
    mean_g = g @ weight
    # E[g·O] with O regressed on f.
    tilted = (g * deviation) @ weight / m.variance
    n, t, r = m.sums * mean_g + m.covariances * tilted
    one, small = setting.k / setting.k, 1 / setting.k
    value2 = jnp.stack([one, one, small, small, 0 * small])
    square = jnp.asarray(nodes.counts) @ value2 + setting.sigma_x**2
    chance = jnp.asarray(nodes.weight)
    return Drive(
        pure=chance @ t,
        mixed=chance @ (n * m.total - t),
        residual=chance @ r,
        noise=chance @ ((g**2) @ weight * m.sums[0] * square),
        active=chance @ m.sums[0] / setting.d,
        loss=chance @ (jax.nn.softplus(-f) @ weight),
    )


def velocity(order: Order, force: Drive, setting: Setting) -> Order:
    """The equations of motion, per unit of t′ = η·step/d. [D] §7

    α̇ = E[g y T] − λd(1+‖w‖)α,  Ċ = d/(d−1)·E[g y (N X − T)] − λd(1+‖w‖)C,
    (ρ²)˙ = 2E[g y R] + (η/n)E[g² N ‖x‖²] − 2λd(1+‖w‖)ρ².
    """
    d = setting.d
    norm2 = order.alpha**2 + order.dense**2 * (d - 1) / d**2 + order.residual
    decay = setting.decay * (1 + jnp.sqrt(jnp.maximum(norm2, 1e-60)))
    return Order(
        force.pure - decay * order.alpha,
        d / (d - 1) * force.mixed - decay * order.dense,
        2 * force.residual + setting.noise * force.noise - 2 * decay * order.residual,
    )


def accuracy(
    order: Order,
    bias: Real,
    radius: Real,
    nodes: Nodes,
    setting: Setting,
    attack: AttackName = "none",
) -> Scalar:
    """Pr[y f(x + δ) > 0] given a label: E Φ(mean/standard deviation). [D] docs/dynamics.md step 6

    Inactive neurons that the attack switches on are in the mean and in the variance.
    """
    m = moments(order, bias, radius, nodes, setting, attack)
    return jnp.asarray(nodes.weight) @ _below(m.mean / jnp.sqrt(m.variance))


def radius_at(
    level: float, order: Order, bias: Real, nodes: Nodes, setting: Setting, attack: AttackName
) -> Scalar:
    """The radius at which the accuracy under an attack falls to ``level``, by bisection in log τ.

    Searched between 1e-6 and 10; the upper end if the accuracy stays above the level.
    """

    def halve(_: Int[Array, ""], ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = ends
        middle = (low + high) / 2
        above = accuracy(order, bias, jnp.exp(middle), nodes, setting, attack) > level
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    widest = jnp.log(jnp.asarray([1e-6, 10.0]))
    low, high = cast(tuple[Scalar, Scalar], lax.fori_loop(0, 24, halve, (widest[0], widest[1])))
    return jnp.exp((low + high) / 2)
