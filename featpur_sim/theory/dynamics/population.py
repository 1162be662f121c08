"""The heterogeneous closure: every neuron keeps numbers of its own (docs/dynamics.md, step 8).

One value of (α, c, ρ²) for all neurons misses what the lottery at the start leaves behind: some
features get one neuron, some ten, and those with few neurons grow larger. Here neuron i has

    w_i = Σ_{j∈S(i)} C_ij e_j + c_i Σ_{j∉S(i)} ψ_j e_j + q_i,

S(i) the K largest coordinates of its initial weights towards the label, which are followed one by
one, ψ, with mean 1, one profile of the dense mixture for all neurons, and q_i isotropic on the
other d − K with ‖q_i‖² = ρ_i², independent but for two sums over neurons that stay zero (`held`).
The largest followed one is the neuron's feature; which one that will be is open for long, and a
tenth of the purified neurons carry two. Gradient descent moves along the projection on this family:
the batch and the step size are those of the run, so its sampling noise is too (`samples`). Memory
goes with n·m and K·m, and where d is large so do operations (`followed`). The gauge is w* = 1,
M = I; no simulation code is used.
"""

import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.types import Array, Float, Int, PRNGKey, Real, Scalar
from featpur_sim.theory.dynamics.equations import AttackName
from featpur_sim.theory.dynamics.followed import entries, times, transposed_times
from featpur_sim.theory.dynamics.gates import answers, opens
from featpur_sim.theory.dynamics.held import free
from featpur_sim.theory.dynamics.samples import Inputs, Labels, Law, PerNeuron, sample
from featpur_sim.theory.dynamics.trajectory import largest_of

# K: with 2, α of the dense regime comes out 34 % too high, and after purification half of its
# carriers are missing (docs/dynamics.md, "How many coordinates").
FOLLOWED = 16


class Population(NamedTuple):
    """The state: (2K + 2)m + d numbers."""

    carried: Float[Array, "*S K m"]
    """C_ij, j in S(i)"""
    feature: Int[Array, "*S K m"]
    """S(i)"""
    dense: Float[Array, "*S m"]
    """c_i"""
    residual: Float[Array, "*S m"]
    """ρ_i²"""
    profile: Float[Array, "*S d"]
    """ψ"""


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

    α is the largest of a neuron's coordinates; the others count in κ and in ρ², as in `decompose`.
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


def at_start(coordinates: Float[np.ndarray, "m d"], followed: int = FOLLOWED) -> Population:
    """The untrained network; its largest coordinates towards the label are followed.

    Args:
        coordinates: C = WM diag(w*) of the initial weights.
        followed: K, half of all where d is smaller than 2K.
    """
    return _project(coordinates, _largest(coordinates, followed), profile=False)


def of_weights(coordinates: Float[np.ndarray, "m d"], followed: int = FOLLOWED) -> Population:
    """The closest member of the family to a trained network, ψ by alternating least squares.

    Args:
        coordinates: C = WM diag(w*).
        followed: K, half of all where d is smaller than 2K: the largest, and those farthest from
            the mean of the neuron's others.
    """
    rows, first = np.arange(len(coordinates)), np.argmax(np.abs(coordinates), axis=1)
    rest = np.array(coordinates, float)
    rest[rows, first] = np.nan
    far = np.abs(rest - np.nanmean(rest, axis=1, keepdims=True))
    far[rows, first] = np.inf
    return _project(coordinates, _largest(far, followed), profile=True)


def _largest(values: Float[np.ndarray, "m d"], followed: int) -> Int[np.ndarray, "m K"]:
    """The columns of the largest entries of every row, largest first."""
    behind = values.shape[1] - min(followed, values.shape[1] // 2)
    among = np.argpartition(values, behind, axis=1)[:, behind:]
    order = np.argsort(-np.take_along_axis(values, among, axis=1), axis=1)
    return np.take_along_axis(among, order, axis=1)


def _project(
    coordinates: Float[np.ndarray, "m d"], feature: Int[np.ndarray, "m K"], profile: bool
) -> Population:
    m, d = coordinates.shape
    others = np.ones((m, d))
    np.put_along_axis(others, feature, 0, axis=1)
    rest = others * coordinates
    psi = np.ones(d)
    c = (rest @ psi) / (others @ psi**2)
    for _ in range(20 if profile else 0):
        psi = (rest.T @ c) / np.maximum(others.T @ c**2, 1e-30)
        psi /= psi.mean()
        c = (rest @ psi) / (others @ psi**2)
    residual = np.sum((rest - others * c[:, None] * psi) ** 2, axis=1)
    return Population(
        carried=jnp.asarray(np.take_along_axis(coordinates, feature, axis=1).T, jnp.float32),
        feature=jnp.asarray(feature.T, jnp.int32),
        dense=jnp.asarray(c, jnp.float32),
        residual=jnp.asarray(residual, jnp.float32),
        profile=jnp.asarray(psi, jnp.float32),
    )


def largest_coordinate(state: Population) -> Float[Array, " m"]:
    """max_j |C_ij|: a followed one, or the largest of the residual, a Gaussian vector. [D]"""
    # The largest of some Gaussians in absolute value is that of twice as many signed ones, nearly.
    among = largest_of(2 * _others(state)) * jnp.sqrt(state.residual / _others(state))
    followed = jnp.max(jnp.abs(state.carried), axis=0)
    return jnp.maximum(followed, jnp.abs(state.dense) + among)


def _others(state: Population) -> int:
    """d − K"""
    return state.profile.size - len(state.carried)


def _square_of_dense(state: Population) -> Float[Array, " m"]:
    """Σ_{j∉S(i)} ψ_j²"""
    return jnp.sum(state.profile**2) - jnp.sum(state.profile[state.feature] ** 2, axis=0)


def _square_norm(state: Population) -> Float[Array, " m"]:
    """‖w_i‖²"""
    followed = jnp.sum(state.carried**2, axis=0)
    return followed + _square_of_dense(state) * state.dense**2 + state.residual


@jax.jit
def unfollowed(state: Population) -> Scalar:
    """The share of Σ‖w_i‖², over all neurons, that is in their isotropic residuals: how far the
    closure is not to be believed (docs/dynamics.md, "What residuals have in common"). [M]
    """
    return jnp.sum(state.residual) / jnp.sum(_square_norm(state))


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
        samples = sample(own, law, batch, state.profile.size, state.dense.size)
        return _step(current, b, radius, law, samples, adversarial)

    return cast(Population, jax.lax.fori_loop(start, stop, step, state))


def _local(state: Population) -> Float[Array, "K m"]:
    """What stands out of the dense part in S(i)."""
    return state.carried - state.dense * state.profile[state.feature]


def _preactivation(state: Population, x: Inputs, along: PerNeuron) -> PerNeuron:
    """u_i from x in S(i), ⟨ψ, x⟩ and ⟨q_i, x⟩."""
    own = times(_local(state), state.feature, x)
    return own + state.dense[:, None] * (x @ state.profile) + along


def _square_outside(state: Population, x: Inputs) -> PerNeuron:
    """Σ_{j∉S(i)} x_j²"""
    own = times(jnp.ones_like(state.carried), state.feature, x**2)
    return jnp.maximum(jnp.sum(x**2, axis=1) - own, 0.0)


def _openness(state: Population, b: Float[Array, " m"], law: Law) -> Float[Array, " m"]:
    """How often each gate opens: for its feature, or for what the others add up to. [D]"""
    d, square = state.profile.size, 1 + law.p_one + law.sigma_x**2
    others = _square_of_dense(state) * state.dense**2 + state.residual
    return law.k / d + opens(b, others * square / d, law.sigma_rho)


def _along(
    state: Population, x: Inputs, view: PerNeuron, openness: Float[Array, " m"]
) -> PerNeuron:
    """⟨q_i, x⟩ ~ N(0, ρ_i²/(d − K) Σ_{j∉S(i)} x_j²), given that Σ_i c_i q_i = Σ_i g_i q_i = 0."""
    size = jnp.sqrt(state.residual / _others(state))
    seen = size[:, None] * jnp.sqrt(_square_outside(state, x)) * view
    return free(seen, state.residual, state.dense, openness)


def _attack(
    state: Population, gate: PerNeuron, openness: Float[Array, " m"], radius: Real, y: Labels
) -> tuple[Inputs, PerNeuron]:
    """FGM in the family's coordinates: the moves of x and ⟨q_i, x⟩."""
    own = transposed_times(_local(state), state.feature, gate, state.profile.size)
    gradient = own + (state.dense @ gate)[:, None] * state.profile
    # ⟨q_i, r⟩ and ‖r‖² of r = Σ_j g_j q_j, the gradient's part in the residuals.
    common = free(state.residual[:, None] * gate, state.residual, state.dense, openness)
    square = jnp.sum(gradient**2, axis=1) + jnp.maximum(jnp.sum(gate * common, axis=0), 0.0)
    unit = -y * radius / jnp.maximum(jnp.sqrt(square), 1e-12)
    return unit[:, None] * gradient, unit * common


def _step(
    state: Population,
    b: Float[Array, " m"],
    radius: Real,
    law: Law,
    samples: tuple[Inputs, Labels, PerNeuron],
    adversarial: bool,
) -> Population:
    x, y, view = samples
    openness = _openness(state, b, law)
    along = _along(state, x, view, openness)
    u = _preactivation(state, x, along)
    f, gate = answers(u, b, law.sigma_rho)
    if adversarial:
        move, residual_move = _attack(state, gate, openness, radius, y)
        x, along = x + move, along + residual_move
        f, gate = answers(_preactivation(state, x, along), b, law.sigma_rho)
    slope = jax.nn.sigmoid(-y * f) * jnp.abs(y) / jnp.maximum(jnp.sum(jnp.abs(y)), 1.0)
    push = slope * y * gate
    own, whole = state.profile[state.feature], jnp.sum(state.profile**2)
    square = _square_of_dense(state)
    carried = entries(push, state.feature, x)
    dense = (push @ (x @ state.profile) - jnp.sum(own * carried, axis=0)) / square
    residual = jnp.sum(push * along, axis=1)
    loose = free(gate, jnp.ones_like(openness), state.dense, openness)
    noise = jnp.sum((loose * slope) ** 2 * _square_outside(state, x), axis=1)
    # Along ψ: the neurons' pushes on the other features, weighted by c_i, off the profile itself.
    profile = (state.dense @ push) @ x
    profile = profile.at[state.feature].add(-state.dense * carried)
    profile = profile / jnp.maximum(jnp.sum(state.dense**2), 1e-12)
    profile = profile - state.profile * (profile @ state.profile) / whole
    decay, eta = law.decay * (1 + jnp.sqrt(_square_norm(state))), law.rate
    grown = state.residual + 2 * eta * (residual - decay * state.residual) + eta**2 * noise
    return Population(
        state.carried + eta * (carried - decay * state.carried),
        state.feature,
        state.dense + eta * (dense - decay * state.dense),
        jnp.maximum(grown, 0.0),
        state.profile + eta * profile,
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
    first = jnp.argmax(jnp.abs(state.carried), axis=0)
    carried = jnp.take_along_axis(state.carried, first[None], axis=0)[0]
    kappa = (_others(state) * rest + jnp.sum(state.carried, axis=0) - carried) / (d - 1)
    off = jnp.sum((state.carried - kappa) ** 2, axis=0) - (carried - kappa) ** 2
    size = jnp.abs(carried)
    carrier = size >= 0.5 * jnp.max(size)

    def mean(values: Float[Array, " m"]) -> Scalar:
        return jnp.sum(jnp.where(carrier, values, 0.0)) / jnp.sum(carrier)

    alpha = mean(carried)
    # Σ (c_i ψ_j − κ)² over j ∉ S(i)
    around = _square_of_dense(state) * state.dense**2 + _others(state) * kappa * (kappa - 2 * rest)
    return Statistics(
        alpha,
        jnp.sqrt(mean((carried - alpha) ** 2)) / alpha,
        mean(kappa / jnp.where(carried == 0, 1.0, carried)),
        mean(state.residual + around + off),
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
    x, y, view = sample(key, law, n, d, state.dense.size)
    if attack == "dense":
        x = x - radius / d**0.5 * y[:, None]
    openness = _openness(state, b, law)
    along = _along(state, x, view, openness)
    if attack == "fgm":
        _, gate = answers(_preactivation(state, x, along), b, law.sigma_rho)
        move, residual_move = _attack(state, gate, openness, radius, y)
        x, along = x + move, along + residual_move
    u = _preactivation(state, x, along)
    f, _ = answers(u, b, law.sigma_rho)
    right = jnp.sum(y * f > 0) / jnp.maximum(jnp.sum(jnp.abs(y)), 1)
    return right, jnp.mean(jnp.abs(u) > b[:, None])
