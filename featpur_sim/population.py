"""The heterogeneous closure: every neuron keeps its own α, c and ρ² (docs/dynamics.md, step 7).

One value of (α, c, ρ²) for all neurons misses what the lottery at the start leaves behind: some
features get one neuron and some ten, and the few-handed ones grow larger. Here neuron i has

    w_i = α_i e_{j(i)} + c_i Σ_{j'≠j(i)} ψ_{j'} e_{j'} + q_i,   q_i isotropic, ‖q_i‖² = ρ_i²,

where j(i) is the largest coordinate of its initial weights towards the label and ψ, with mean 1, is
one profile of the dense mixture for all neurons. Gradient descent moves along the projection on
this family: the batch and the step size are those of the run, so its sampling noise is too. A step
costs n·m operations, not n·m·d. The gauge is w* = 1, M = I; no simulation code is used.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._types import Array, Float, Int, PRNGKey, Scalar
from featpur_sim.dynamics_run import largest_of


class Population(NamedTuple):
    """The state: 3m + d numbers."""

    alpha: Float[Array, "*S m"]
    dense: Float[Array, "*S m"]
    """c_i"""
    residual: Float[Array, "*S m"]
    """ρ_i²"""
    profile: Float[Array, "*S d"]
    """ψ"""
    feature: Int[Array, "*S m"]
    """j(i)"""


class Law(NamedTuple):
    """What the samples and the steps depend on; all of it is data."""

    k: Scalar
    p_one: Scalar
    sigma_x: Scalar
    rate: Scalar
    """η"""
    decay: Scalar
    """λ"""


class Statistics(NamedTuple):
    """Means over the carriers (|α| at least half the largest), and accuracies."""

    alpha: Scalar
    spread: Scalar
    """standard deviation of α over its mean"""
    ratio: Scalar
    """C/α with C = c·d"""
    residual: Scalar
    """ρ²"""
    carriers: Scalar
    """fraction of the m neurons"""
    active: Scalar
    """fraction of (sample, neuron) pairs, all neurons"""
    accuracy: Scalar
    dense_accuracy: Scalar


def at_start(coordinates: Float[np.ndarray, "m d"]) -> Population:
    """The untrained network: the neuron's feature is its largest coordinate towards the label.

    Args:
        coordinates: C = WM diag(w*) of the initial weights.
    """
    return _project(coordinates, np.argmax(coordinates, axis=1), profile=False)


def of_weights(coordinates: Float[np.ndarray, "m d"]) -> Population:
    """The closest member of the family to a trained network, ψ by alternating least squares.

    Args:
        coordinates: C = WM diag(w*).
    """
    return _project(coordinates, np.argmax(np.abs(coordinates), axis=1), profile=True)


def _project(coordinates, feature, profile: bool) -> Population:
    m, d = coordinates.shape
    rows = np.arange(m)
    alpha = coordinates[rows, feature]
    rest = np.array(coordinates, float)
    rest[rows, feature] = 0
    others = np.ones((m, d))
    others[rows, feature] = 0
    psi = np.ones(d)
    c = (rest @ psi) / (others @ psi**2)
    for _ in range(20 if profile else 0):
        psi = (rest.T @ c) / np.maximum(others.T @ c**2, 1e-30)
        psi /= psi.mean()
        c = (rest @ psi) / (others @ psi**2)
    residual = np.sum((rest - others * c[:, None] * psi) ** 2, axis=1)
    alpha, c, residual, psi = (jnp.asarray(v, jnp.float32) for v in (alpha, c, residual, psi))
    return Population(alpha, c, residual, psi, jnp.asarray(feature, jnp.int32))


def largest_coordinate(state: Population) -> Float[Array, " m"]:
    """max_j |C_ij|: the carried one, or the largest of the residual, a Gaussian vector. [D]"""
    d = state.profile.shape[-1]
    # The largest of d Gaussians in absolute value is that of 2d signed ones, nearly.
    among = largest_of(2 * d) * jnp.sqrt(state.residual / d)
    return jnp.maximum(jnp.abs(state.alpha), jnp.abs(state.dense) + among)


@functools.partial(jax.jit, static_argnames=("batch", "adversarial"))
def evolve(
    state: Population,
    relative: Float[Array, " t"],
    frozen: Float[Array, " m"],
    radius,
    law: Law,
    key: PRNGKey,
    *,
    batch: int,
    adversarial: bool,
) -> Population:
    """Gradient steps on fresh samples, projected on the family.

    Args:
        state: without a leading axis.
        relative: ν of each step, b_i = ν max_j |C_ij|; 0 where the threshold is ``frozen``.
        frozen: b_i where ν is 0.
        radius: τ of FGM; not read by the clean phase.
        law: the constants.
        key: of the samples.
        batch: n.
        adversarial: whether inputs are attacked.
    """

    def step(current, inputs):
        nu, index = inputs
        b = jnp.where(nu > 0, nu * largest_coordinate(current), frozen)
        return _step(
            current, b, radius, law, jax.random.fold_in(key, index), batch, adversarial
        ), None

    return jax.lax.scan(step, state, (relative, jnp.arange(relative.size)))[0]


def _sample(key, law: Law, n: int, d: int, m: int):
    """x [n, d], y [n] and the neurons' views of their residual, standard normal [n, m]."""
    level_key, sign_key, noise_key, residual_key = jax.random.split(key, 4)
    u = jax.random.uniform(level_key, (n, d))
    size = jnp.where(u < (law.p_one + law.k) / d, 1 / jnp.sqrt(law.k), 0.0)
    z = jax.random.rademacher(sign_key, (n, d), dtype=u.dtype) * jnp.where(
        u < law.p_one / d, 1.0, size
    )
    margin = jnp.sum(z, axis=1)
    # A tie is a sum of a few numbers of size 1 and 1/√k: rounding leaves less than 1e-5.
    y = jnp.where(jnp.abs(margin) > 1e-5, jnp.sign(margin), 0.0)
    x = z + law.sigma_x / d**0.5 * jax.random.normal(noise_key, (n, d))
    return x, y, jax.random.normal(residual_key, (n, m))


def _preactivation(state: Population, own, total, along):
    """u_i from x_{j(i)}, ⟨ψ, x⟩ and ⟨q_i, x⟩."""
    local = state.alpha - state.dense * state.profile[state.feature]
    return local * own + state.dense * total[:, None] + along


def _see(state: Population, x, view):
    """x_{j(i)}, ⟨ψ, x⟩ and ⟨q_i, x⟩ ~ N(0, ρ_i²‖x‖²/d)."""
    d = x.shape[1]
    square = jnp.sum(x**2, axis=1)
    along = jnp.sqrt(state.residual * square[:, None] / d) * view
    return x[:, state.feature], x @ state.profile, along


def _attack(state: Population, u, b, radius, y, x):
    """FGM in the family's coordinates: the moves of x, ⟨ψ, x⟩, x_{j(i)} and ⟨q_i, x⟩."""
    gate = (jnp.abs(u) > b).astype(x.dtype)
    local = state.alpha - state.dense * state.profile[state.feature]
    pure = jnp.zeros_like(x).at[:, state.feature].add(gate * local)
    mixed = gate @ state.dense
    gradient = pure + mixed[:, None] * state.profile
    residual = gate * state.residual
    norm = jnp.sqrt(jnp.sum(gradient**2, axis=1) + jnp.sum(residual, axis=1))
    unit = (-y * radius / jnp.maximum(norm, 1e-12))[:, None]
    return unit * gradient, unit * residual


def _step(state: Population, b, radius, law: Law, key, n: int, adversarial: bool) -> Population:
    m, d = state.alpha.size, state.profile.size
    x, y, view = _sample(key, law, n, d, m)
    own, total, along = _see(state, x, view)
    u = _preactivation(state, own, total, along)
    if adversarial:
        move, residual_move = _attack(state, u, b, radius, y, x)
        x, along = x + move, along + residual_move
        own, total = x[:, state.feature], x @ state.profile
        u = _preactivation(state, own, total, along)
    gate = (jnp.abs(u) > b).astype(x.dtype)
    f = jnp.sum(jnp.sign(u) * jnp.maximum(jnp.abs(u) - b, 0.0), axis=1)
    slope = jax.nn.sigmoid(-y * f) * jnp.abs(y) / jnp.maximum(jnp.sum(jnp.abs(y)), 1.0)
    push = (slope * y)[:, None] * gate
    psi = state.profile[state.feature]
    square = jnp.sum(state.profile**2)
    pure = jnp.sum(push * own, axis=0)
    dense = jnp.sum(push * (total[:, None] - psi * own), axis=0) / square
    residual = jnp.sum(push * along, axis=0)
    noise = (slope**2 * jnp.sum(x**2, axis=1)) @ gate
    # Along ψ: the neurons' pushes on the other features, weighted by c_i, off the profile itself.
    profile = (slope * y * (gate @ state.dense)) @ x
    profile = profile.at[state.feature].add(-state.dense * pure)
    profile = profile / jnp.maximum(jnp.sum(state.dense**2), 1e-12)
    profile = profile - state.profile * (profile @ state.profile) / square
    norm = jnp.sqrt(state.alpha**2 + square * state.dense**2 + state.residual)
    decay, eta = law.decay * (1 + norm), law.rate
    grown = state.residual + 2 * eta * (residual - decay * state.residual) + eta**2 * noise
    return Population(
        state.alpha + eta * (pure - decay * state.alpha),
        state.dense + eta * (dense - decay * state.dense),
        jnp.maximum(grown, 0.0),
        state.profile + eta * profile,
        state.feature,
    )


@functools.partial(jax.jit, static_argnames=("n",))
def measure(
    state: Population, b: Float[Array, " m"], radius, law: Law, key: PRNGKey, *, n: int = 4000
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
    m, d = state.alpha.size, state.profile.size
    x, y, view = _sample(key, law, n, d, m)

    def score(x):
        u = _preactivation(state, *_see(state, x, view))
        f = jnp.sum(jnp.sign(u) * jnp.maximum(jnp.abs(u) - b, 0.0), axis=1)
        right = jnp.sum(y * f > 0) / jnp.maximum(jnp.sum(jnp.abs(y)), 1)
        return right, jnp.mean(jnp.abs(u) > b)

    accuracy, active = score(x)
    dense_accuracy, _ = score(x - radius / d**0.5 * y[:, None])
    size = jnp.abs(state.alpha)
    carrier = size >= 0.5 * jnp.max(size)
    c = state.dense * jnp.mean(state.profile)

    def mean(values):
        return jnp.sum(jnp.where(carrier, values, 0.0)) / jnp.sum(carrier)

    alpha = mean(state.alpha)
    return Statistics(
        alpha,
        jnp.sqrt(mean((state.alpha - alpha) ** 2)) / alpha,
        mean(d * c / jnp.where(state.alpha == 0, 1.0, state.alpha)),
        mean(state.residual),
        jnp.mean(carrier.astype(x.dtype)),
        active,
        accuracy,
        dense_accuracy,
    )
