"""One phase in the reduced model: threshold in, trajectory out (docs/dynamics.md)."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import integrate as quadrature
from scipy import stats

from featpur_sim._ground.types import Array, Float, Real, Scalar
from featpur_sim.theory.dynamics.equations import (
    AttackName,
    Drive,
    Order,
    Setting,
    drive,
    velocity,
)
from featpur_sim.theory.dynamics.nodes import Nodes
from featpur_sim.theory.dynamics.rosenbrock import Kept, advance


class Schedule(NamedTuple):
    """The threshold as a function of time and of α: b = ν(t′)·(|α| if ``relative`` else 1).

    ``monotone`` never lets it fall; ``ceiling`` caps it.
    """

    times: Float[Array | np.ndarray, "*S p"]
    values: Float[Array | np.ndarray, "*S p"]
    relative: Float[Array | np.ndarray, "*S"]
    monotone: Float[Array | np.ndarray, "*S"]
    ceiling: Float[Array | np.ndarray, "*S"]

    def bias(
        self,
        time: float | Float[Array, "*t"],
        alpha: float | Float[Array, "*t"],
        before: float | Float[Array, "*t"],
    ) -> Float[Array, "*t"]:
        """The threshold at a time, given the one so far."""
        value = jnp.interp(time, self.times, self.values)
        value = value * jnp.where(self.relative > 0, jnp.abs(alpha), 1.0)
        kept = jnp.where(self.monotone > 0, jnp.maximum(before, value), value)
        return jnp.minimum(kept, self.ceiling)


_State = Float[Array, "3"]
_Carry = tuple[_State, Scalar, Scalar, Array, Kept | None]
"""The state, the threshold, the next step size, whether all is fine, and the states kept."""


class Trajectory(NamedTuple):
    """One phase; arrays [T], or [R, T] with replicates."""

    time: Float[Array, "*R T"]
    order: Order
    bias: Float[Array, "*R T"]
    drive: Drive
    arrived: Array
    """Whether the integrator reached the end."""


def largest_of(count: int) -> float:
    """E max of ``count`` independent standard normals: α at the start over σ₀. [D]

    >>> round(largest_of(2) * np.pi**0.5, 6)
    1.0
    """
    density = cast(Callable[[float], float], stats.norm.pdf)
    log_below = cast(Callable[[float], float], stats.norm.logcdf)

    def integrand(t: float) -> float:
        return t * count * density(t) * np.exp((count - 1) * log_below(t))

    return cast(tuple[float, float], quadrature.quad(integrand, -8, 12, limit=200, epsabs=1e-10))[0]


def initial_order(d: int, sigma_0: float) -> Order:
    """The untrained network in the ansatz: each neuron carries its largest coordinate. [D]"""
    alpha = sigma_0 * largest_of(d)
    return Order(
        jnp.asarray(alpha), jnp.asarray(0.0), jnp.asarray(max(sigma_0**2 * d - alpha**2, 0.0))
    )


@functools.partial(jax.jit, static_argnames=("attack", "tolerance"))
def integrate_phase(
    order: Order,
    before: Array,
    schedule: Schedule,
    radius: Real,
    times: Float[Array, " T"],
    nodes: Nodes,
    setting: Setting,
    *,
    attack: AttackName = "none",
    tolerance: float = 1e-3,
    recorded: Float[Array, " F"] | None = None,
) -> Trajectory:
    """Integrate the equations of motion over one phase. vmappable in every argument.

    Args:
        order: the state at ``times[0]``.
        before: the threshold so far.
        schedule: of the threshold.
        radius: τ; not read without an attack.
        times: t′ at which steps of the integrator end and the state is kept, rising.
        nodes: without a leading axis.
        setting: the constants.
        attack: "fgm" or "none".
        tolerance: of the integrator, per step.
        recorded: t′ at which the state is kept in place of ``times``, rising, from the first of
            these to the last. In between the state is interpolated, and no step changes.
    """

    def field_with(memory: Scalar) -> Callable[[Scalar, _State], _State]:
        def field(time: Scalar, u: _State) -> _State:
            state = Order(u[0], u[1], jnp.maximum(u[2], 0.0))
            b = schedule.bias(time, state.alpha, memory)
            return jnp.stack(
                velocity(state, drive(state, b, radius, nodes, setting, attack), setting)
            )

        return field

    def scale(u: _State) -> _State:
        size = jnp.abs(u[0]) + 1e-9
        return jnp.stack([size, jnp.abs(u[1]) + 0.1 * size, jnp.abs(u[2]) + 0.1 * size**2])

    def segment(carry: _Carry, ends: Float[Array, "2"]) -> tuple[_Carry, tuple[_State, Scalar]]:
        u, memory, step, fine, kept = carry
        went = advance(
            field_with(memory), u, ends[0], ends[1], step=step, scale=scale, tolerance=tolerance,
            kept=kept,
        )  # fmt: skip
        u = went.state.at[2].max(0.0)
        memory = schedule.bias(ends[1], u[0], memory)
        fine = fine & went.arrived
        return (u, memory, went.step, fine, went.kept), (u, memory)

    u = jnp.stack(order)
    memory = schedule.bias(times[0], order.alpha, before)
    first = 1e-3 * (times[-1] - times[0])
    ends = jnp.stack([times[:-1], times[1:]], axis=1)
    kept = None if recorded is None else Kept(recorded, jnp.tile(u, (len(recorded), 1)))
    carry: _Carry = u, memory, first, jnp.asarray(True), kept
    (_, _, _, fine, kept), (states, biases) = lax.scan(segment, carry, ends)
    biases = jnp.concatenate([memory[None], biases])
    if kept is None:
        states = jnp.concatenate([u[None], states])
    else:
        states = kept.states.at[:, 2].max(0.0)
        end = jnp.searchsorted(times, kept.times)
        between = schedule.bias(kept.times, states[:, 0], biases[jnp.maximum(end - 1, 0)])
        biases = jnp.where(times[end] == kept.times, biases[end], between)
        times = kept.times
    orders = Order(*states.T)

    def force(at: tuple[Order, Scalar]) -> Drive:
        return drive(at[0], at[1], radius, nodes, setting, attack)

    forces = cast(Drive, lax.map(force, (orders, biases)))
    return Trajectory(times, orders, biases, forces, fine)


def constant(bias: Real) -> Schedule:
    """The frozen threshold of the adversarial phase."""
    no = jnp.asarray(0.0)
    return Schedule(jnp.asarray([0.0, 1.0]), jnp.ones(2) * bias, no, no, no + jnp.inf)


def recording_times(times: Float[np.ndarray, " T"], corners: Sequence[float] = ()) -> np.ndarray:
    """Times at which a trajectory shows its transient and the corners of its threshold.

    The dense part grows and settles between the first two of ``times``: that interval gets 16
    more, each √2 after the last, and every other one three at equal distances. The nearest of these
    moves to each corner.

    Args:
        times: equally spaced, rising; all are kept.
        corners: t′ at which the threshold has one; those within ``times`` count.

    Returns:
        Rising, 4T + 10 times.

    >>> recording_times(np.array([0.0, 1.0, 2.0]), [1.3])[-5:]
    array([1.  , 1.3 , 1.5 , 1.75, 2.  ])
    """
    first = times[0] + (times[1] - times[0]) * 0.5 ** np.arange(8, 0, -0.5)
    shares = np.array([0.25, 0.5, 0.75])
    between = np.ravel(times[1:-1, None] + np.diff(times)[1:, None] * shares)
    moved = np.concatenate([first, between])
    for corner in corners:
        if times[0] < corner < times[-1] and corner not in times:
            moved[np.argmin(np.abs(moved - corner))] = corner
    return np.sort(np.concatenate([times, moved]))
