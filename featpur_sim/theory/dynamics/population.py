"""The heterogeneous closure: every neuron keeps its own α, β, c and ρ² (docs/dynamics.md, step 8).

One value of (α, c, ρ²) for all neurons misses what the lottery at the start leaves behind: some
features get one neuron, some ten, and those with few neurons grow larger. Here neuron i has

    w_i = α_i e_{j(i)} + β_i e_{l(i)} + c_i Σ_{j'≠j(i),l(i)} ψ_{j'} e_{j'} + q_i,

with q_i isotropic and ‖q_i‖² = ρ_i², where j(i) and l(i) are the two largest coordinates of its
initial weights towards the label and ψ, with mean 1, is one profile of the dense mixture for all
neurons. The second feature matters late: a tenth of the purified neurons carry two. Gradient
descent moves along the projection on this family: the batch and the step size are those of the run,
so its sampling noise is too (`samples`). A step costs n·m operations, not n·m·d. The gauge is w* =
1, M = I; no simulation code is used.
"""

import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.types import Array, Float, Int, PRNGKey, Real, Scalar
from featpur_sim.theory.dynamics.equations import AttackName
from featpur_sim.theory.dynamics.samples import Inputs, Labels, Law, PerNeuron, sample
from featpur_sim.theory.dynamics.trajectory import largest_of


class Population(NamedTuple):
    """The state: 4m + d numbers."""

    alpha: Float[Array, "*S m"]
    dense: Float[Array, "*S m"]
    """c_i"""
    residual: Float[Array, "*S m"]
    """ρ_i²"""
    profile: Float[Array, "*S d"]
    """ψ"""
    feature: Int[Array, "*S m"]
    """j(i)"""
    beta: Float[Array, "*S m"]
    """β_i, the whole coordinate like α_i"""
    second: Int[Array, "*S m"]
    """l(i) ≠ j(i)"""


class Thresholds(NamedTuple):
    """b of every neuron at each step of a phase: relative to its weights, common, or frozen."""

    relative: Float[Array, " t"]
    """ν: b_i = ν max_j |C_ij|, at most the ceiling; 0 where the others hold"""
    absolute: Float[Array, " t"]
    """one b for all neurons, on top of the frozen ones"""
    frozen: Float[Array, " m"]
    ceiling: Scalar


class Statistics(NamedTuple):
    """Means over the carriers (|α| at least half the largest), and accuracies.

    α is the larger of a neuron's two coordinates; the other counts in κ and in ρ², as in
    `decompose`.
    """

    alpha: Scalar
    spread: Scalar
    """standard deviation of α over its mean"""
    ratio: Scalar
    """κ/α, κ the mean of the d − 1 other coordinates, as in `decompose`"""
    residual: Scalar
    """ρ²"""
    carriers: Scalar
    """fraction of the m neurons"""
    active: Scalar
    """fraction of (sample, neuron) pairs, all neurons"""
    accuracy: Scalar
    dense_accuracy: Scalar


def at_start(coordinates: Float[np.ndarray, "m d"]) -> Population:
    """The untrained network: the neuron's features are its largest coordinates towards the label.

    Args:
        coordinates: C = WM diag(w*) of the initial weights.
    """
    order = np.argsort(coordinates, axis=1)
    return _project(coordinates, order[:, -1], order[:, -2], profile=False)


def of_weights(coordinates: Float[np.ndarray, "m d"]) -> Population:
    """The closest member of the family to a trained network, ψ by alternating least squares.

    Args:
        coordinates: C = WM diag(w*).
    """
    rows, feature = np.arange(len(coordinates)), np.argmax(np.abs(coordinates), axis=1)
    rest = np.array(coordinates, float)
    rest[rows, feature] = np.nan
    rest = np.abs(rest - np.nanmean(rest, axis=1, keepdims=True))
    return _project(coordinates, feature, np.nanargmax(rest, axis=1), profile=True)


def _project(
    coordinates: Float[np.ndarray, "m d"],
    feature: Int[np.ndarray, " m"],
    second: Int[np.ndarray, " m"],
    profile: bool,
) -> Population:
    m, d = len(coordinates), coordinates.shape[1]
    rows = np.arange(m)
    alpha, beta = coordinates[rows, feature], coordinates[rows, second]
    others = np.ones((m, d))
    others[rows, feature] = others[rows, second] = 0
    rest = others * coordinates
    psi = np.ones(d)
    c = (rest @ psi) / (others @ psi**2)
    for _ in range(20 if profile else 0):
        psi = (rest.T @ c) / np.maximum(others.T @ c**2, 1e-30)
        psi /= psi.mean()
        c = (rest @ psi) / (others @ psi**2)
    residual = np.sum((rest - others * c[:, None] * psi) ** 2, axis=1)
    return Population(
        alpha=jnp.asarray(alpha, jnp.float32),
        dense=jnp.asarray(c, jnp.float32),
        residual=jnp.asarray(residual, jnp.float32),
        profile=jnp.asarray(psi, jnp.float32),
        feature=jnp.asarray(feature, jnp.int32),
        beta=jnp.asarray(beta, jnp.float32),
        second=jnp.asarray(second, jnp.int32),
    )


def largest_coordinate(state: Population) -> Float[Array, " m"]:
    """max_j |C_ij|: a carried one, or the largest of the residual, a Gaussian vector. [D]"""
    d = state.profile.shape[-1]
    # The largest of d Gaussians in absolute value is that of 2d signed ones, nearly.
    among = largest_of(2 * d) * jnp.sqrt(state.residual / d)
    carried = jnp.maximum(jnp.abs(state.alpha), jnp.abs(state.beta))
    return jnp.maximum(carried, jnp.abs(state.dense) + among)


def threshold(
    state: Population, thresholds: Thresholds, step: Int[Array, ""] | int
) -> Float[Array, " m"]:
    """b_i before a step."""
    nu = thresholds.relative[step]
    relative = jnp.minimum(nu * largest_coordinate(state), thresholds.ceiling)
    return jnp.where(nu > 0, relative, thresholds.absolute[step] + thresholds.frozen)


@functools.partial(jax.jit, static_argnames=("batch", "adversarial"))
def evolve(
    state: Population,
    thresholds: Thresholds,
    radius: Real,
    law: Law,
    key: PRNGKey,
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    *,
    batch: int,
    adversarial: bool,
) -> Population:
    """Gradient steps on fresh samples, projected on the family.

    One compiled program for every part of a phase; the parts of a phase that is cut give what the
    whole does.

    Args:
        state: without a leading axis.
        thresholds: of the phase.
        radius: τ of FGM; not read by the clean phase.
        law: the constants.
        key: of the samples of the phase; a step's depend on it and the step alone.
        start: first step.
        stop: behind the last one.
        batch: n.
        adversarial: whether inputs are attacked.
    """

    def step(index: Int[Array, ""], current: Population) -> Population:
        b, own = threshold(current, thresholds, index), jax.random.fold_in(key, index)
        samples = sample(own, law, batch, state.profile.size, state.alpha.size)
        return _step(current, b, radius, law, samples, adversarial)

    return cast(Population, jax.lax.fori_loop(start, stop, step, state))


def _local(state: Population) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """What stands out of the dense part at j(i) and at l(i)."""
    return (
        state.alpha - state.dense * state.profile[state.feature],
        state.beta - state.dense * state.profile[state.second],
    )


def _preactivation(state: Population, x: Inputs, along: PerNeuron) -> PerNeuron:
    """u_i from x_{j(i)}, x_{l(i)}, ⟨ψ, x⟩ and ⟨q_i, x⟩."""
    first, second = (part[:, None] for part in _local(state))
    carried = first * x.T[state.feature] + second * x.T[state.second]
    return carried + state.dense[:, None] * (x @ state.profile) + along


def _along(state: Population, x: Inputs, view: PerNeuron) -> PerNeuron:
    """⟨q_i, x⟩ ~ N(0, ρ_i²‖x‖²/d)."""
    square = jnp.sum(x**2, axis=1)
    return jnp.sqrt(state.residual / x.shape[1])[:, None] * jnp.sqrt(square) * view


def _attack(
    state: Population, u: PerNeuron, b: Float[Array, " m"], radius: Real, y: Labels, x: Inputs
) -> tuple[Inputs, PerNeuron]:
    """FGM in the family's coordinates: the moves of x and ⟨q_i, x⟩."""
    gate = (jnp.abs(u) > b[:, None]).astype(x.dtype)
    first, second = _local(state)
    pure = jnp.zeros_like(x.T).at[state.feature].add(gate * first[:, None])
    pure = pure.at[state.second].add(gate * second[:, None]).T
    mixed = state.dense @ gate
    gradient = pure + mixed[:, None] * state.profile
    norm = jnp.sqrt(jnp.sum(gradient**2, axis=1) + state.residual @ gate)
    unit = -y * radius / jnp.maximum(norm, 1e-12)
    return unit[:, None] * gradient, unit * gate * state.residual[:, None]


def _step(
    state: Population,
    b: Float[Array, " m"],
    radius: Real,
    law: Law,
    samples: tuple[Inputs, Labels, PerNeuron],
    adversarial: bool,
) -> Population:
    x, y, view = samples
    along = _along(state, x, view)
    u = _preactivation(state, x, along)
    if adversarial:
        move, residual_move = _attack(state, u, b, radius, y, x)
        x, along = x + move, along + residual_move
        u = _preactivation(state, x, along)
    gate = (jnp.abs(u) > b[:, None]).astype(x.dtype)
    f = jnp.sum(jnp.sign(u) * jnp.maximum(jnp.abs(u) - b[:, None], 0.0), axis=0)
    slope = jax.nn.sigmoid(-y * f) * jnp.abs(y) / jnp.maximum(jnp.sum(jnp.abs(y)), 1.0)
    push = slope * y * gate
    square = jnp.sum(state.profile**2)
    first = jnp.sum(push * x.T[state.feature], axis=1)
    second = jnp.sum(push * x.T[state.second], axis=1)
    carried = state.profile[state.feature] * first + state.profile[state.second] * second
    dense = (push @ (x @ state.profile) - carried) / square
    residual = jnp.sum(push * along, axis=1)
    noise = gate @ (slope**2 * jnp.sum(x**2, axis=1))
    # Along ψ: the neurons' pushes on the other features, weighted by c_i, off the profile itself.
    profile = (state.dense @ push) @ x
    profile = profile.at[state.feature].add(-state.dense * first)
    profile = profile.at[state.second].add(-state.dense * second)
    profile = profile / jnp.maximum(jnp.sum(state.dense**2), 1e-12)
    profile = profile - state.profile * (profile @ state.profile) / square
    norm = jnp.sqrt(state.alpha**2 + state.beta**2 + square * state.dense**2 + state.residual)
    decay, eta = law.decay * (1 + norm), law.rate
    grown = state.residual + 2 * eta * (residual - decay * state.residual) + eta**2 * noise
    return Population(
        state.alpha + eta * (first - decay * state.alpha),
        state.dense + eta * (dense - decay * state.dense),
        jnp.maximum(grown, 0.0),
        state.profile + eta * profile,
        state.feature,
        state.beta + eta * (second - decay * state.beta),
        state.second,
    )


@functools.partial(jax.jit, static_argnames=("n",))
def measure(
    state: Population, b: Float[Array, " m"], radius: Real, law: Law, key: PRNGKey, *, n: int = 4000
) -> Statistics:
    """Order parameters, and accuracies on n samples of the family itself.

    Args:
        state: without a leading axis.
        b: thresholds.
        radius: τ of the dense attack.
        law: the constants.
        key: of the samples.
        n: samples.
    """
    d = state.profile.size
    accuracy, active = _score(state, b, 0.0, law, key, "none", n)
    dense_accuracy, _ = _score(state, b, radius, law, key, "dense", n)
    rest = state.dense * jnp.mean(state.profile)
    swapped = jnp.abs(state.beta) > jnp.abs(state.alpha)
    carried = jnp.where(swapped, state.beta, state.alpha)
    other = jnp.where(swapped, state.alpha, state.beta)
    kappa = ((d - 2) * rest + other) / (d - 1)
    size = jnp.abs(carried)
    carrier = size >= 0.5 * jnp.max(size)

    def mean(values: Float[Array, " m"]) -> Scalar:
        return jnp.sum(jnp.where(carrier, values, 0.0)) / jnp.sum(carrier)

    alpha = mean(carried)
    return Statistics(
        alpha,
        jnp.sqrt(mean((carried - alpha) ** 2)) / alpha,
        mean(kappa / jnp.where(carried == 0, 1.0, carried)),
        mean(state.residual + (d - 2) * (rest - kappa) ** 2 + (other - kappa) ** 2),
        jnp.mean(carrier.astype(jnp.float32)),
        active,
        accuracy,
        dense_accuracy,
    )


@functools.partial(jax.jit, static_argnames=("attack", "n"))
def accuracy(
    state: Population,
    b: Float[Array, " m"],
    radius: Real,
    law: Law,
    key: PRNGKey,
    *,
    attack: AttackName,
    n: int = 4000,
) -> Scalar:
    """Accuracy on n samples of the family itself, under an attack at one radius.

    Args:
        state: without a leading axis.
        b: thresholds.
        radius: τ; not read without an attack.
        law: the constants.
        key: of the samples.
        attack: ``"none"``, ``"dense"`` or ``"fgm"``.
        n: samples.
    """
    return _score(state, b, radius, law, key, attack, n)[0]


def _score(
    state: Population,
    b: Float[Array, " m"],
    radius: Real,
    law: Law,
    key: PRNGKey,
    attack: AttackName,
    n: int,
) -> tuple[Scalar, Scalar]:
    """Accuracy, and the fraction of open gates."""
    d = state.profile.size
    x, y, view = sample(key, law, n, d, state.alpha.size)
    if attack == "dense":
        x = x - radius / d**0.5 * y[:, None]
    along = _along(state, x, view)
    if attack == "fgm":
        move, residual_move = _attack(state, _preactivation(state, x, along), b, radius, y, x)
        x, along = x + move, along + residual_move
    u = _preactivation(state, x, along)
    f = jnp.sum(jnp.sign(u) * jnp.maximum(jnp.abs(u) - b[:, None], 0.0), axis=0)
    right = jnp.sum(y * f > 0) / jnp.maximum(jnp.sum(jnp.abs(y)), 1)
    return right, jnp.mean(jnp.abs(u) > b[:, None])
