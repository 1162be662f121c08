"""A stiff integrator for a handful of variables: ROS2 with an exact Jacobian (docs/dynamics.md).

During adversarial training the dense mode relaxes some N² times faster than the pure one, so an
explicit step is bounded by stability, not accuracy. Two-stage Rosenbrock method of order 2,
L-stable for γ = 1 − 1/√2 (Verwer, Spee, Blom and Hundsdorfer, SIAM J. Sci. Comput. 20:1456, 1999):

    (I − γhJ)k₁ = F(u),  (I − γhJ)k₂ = F(u + hk₁) − 2k₁,  u ← u + (3k₁ + k₂)h/2,

with u + hk₁, of order 1, as the error estimate. With three order parameters the Jacobian is three
forward derivatives and a step is two evaluations and a 4×4 solve: twenty lines, against a
dependency. The tests hold it to SciPy's Radau.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.types import Array, Bool, Float, Int, Scalar

_GAMMA = 1 - 0.5**0.5

_State = Float[Array, " n"]
_Progress = tuple[_State, Scalar, Int[Array, ""] | int]
"""(t, u), the next step size and the steps tried."""


class Arrival(NamedTuple):
    """Where `advance` ended."""

    state: Float[Array, " n"]
    step: Scalar
    """The step size to go on with."""
    steps: Int[Array, ""]
    """Steps tried."""
    arrived: Array
    """False if ``max_steps`` did not suffice or the state left the finite numbers."""
    kept: "Kept | None"
    """What was passed, filled in between ``start`` and ``stop``."""


class Kept(NamedTuple):
    """States on the way, for drawing: interpolated between the integrator's own steps.

    Steps are chosen so that their curvature is within the tolerance, so straight lines between
    them are too. Keeping states changes no step.
    """

    times: Float[Array, " g"]
    states: Float[Array, "g n"]


def advance(
    field: Callable[[Scalar, Float[Array, " n"]], Float[Array, " n"]],
    state: Float[Array, " n"],
    start: Scalar,
    stop: Scalar,
    *,
    step: Scalar,
    scale: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    tolerance: float = 1e-3,
    max_steps: int = 2000,
    kept: Kept | None = None,
) -> Arrival:
    """Integrate u̇ = F(t, u) from ``start`` to ``stop`` with adaptive steps.

    Args:
        field: F(t, u).
        state: u at ``start``, shape [n].
        start: time to begin at.
        stop: time to end at, not before ``start``.
        step: first step to try, > 0.
        scale: u ↦ the size of error, per component, that counts as 1/tolerance.
        tolerance: largest error of the embedded first-order solution in one step.
        max_steps: give up after so many.
        kept: times at which states are wanted, anywhere, and those found so far.

    Returns:
        An `Arrival`.
    """

    def autonomous(u: _State) -> _State:
        return jnp.concatenate([jnp.ones(1, u.dtype), field(u[0], u[1:])])

    def twice(u: _State) -> tuple[_State, _State]:
        value = autonomous(u)
        return value, value

    def attempt(carry: _Progress) -> _Progress:
        u, h, tried = carry
        h_now = jnp.minimum(h, stop - u[0])
        jacobian, here = cast(
            tuple[Float[Array, "n n"], _State], jax.jacfwd(twice, has_aux=True)(u)
        )
        matrix = jnp.eye(u.size) - _GAMMA * h_now * jacobian
        inverse = cast(Array, jnp.linalg.inv(matrix))
        k1 = inverse @ here
        k2 = inverse @ (autonomous(u + h_now * k1) - 2 * k1)
        new = u + h_now * (1.5 * k1 + 0.5 * k2)
        error = jnp.max(jnp.abs(0.5 * h_now * (k1 + k2))[1:] / scale(u[1:])) / tolerance
        error = jnp.where(jnp.isfinite(error), error, 1e6)
        accept = error <= 1
        factor = jnp.clip(0.9 / jnp.sqrt(jnp.maximum(error, 1e-8)), 0.2, 4.0)
        # A last step cut short by ``stop`` says nothing against the longer one.
        grown = jnp.where(accept & (h_now < h), jnp.maximum(h, h_now * factor), h_now * factor)
        return jnp.where(accept, new, u), grown, tried + 1

    def unfinished(carry: tuple[_Progress, Kept | None]) -> Bool[Array, ""]:
        u, _, tried = carry[0]
        return (u[0] < stop) & (tried < max_steps)

    begin = jnp.concatenate([jnp.reshape(start, 1).astype(state.dtype), state])
    # Landing within rounding of the end must count as having arrived.
    stop = jnp.asarray(stop, state.dtype)

    def move(carry: tuple[_Progress, Kept | None]) -> tuple[_Progress, Kept | None]:
        now, kept = carry
        then = _snap(attempt(now), stop)
        return then, None if kept is None else _between(kept, now[0], then[0])

    first: tuple[_Progress, Kept | None] = (begin, jnp.asarray(step, state.dtype), 0), kept
    (u, h, tried), kept = lax.while_loop(unfinished, move, first)
    arrived = (u[0] >= stop) & jnp.all(jnp.isfinite(u))
    return Arrival(u[1:], h, jnp.asarray(tried), arrived, kept)


def _between(kept: Kept, before: _State, after: _State) -> Kept:
    """The states at the times of one step, from its ends (t, u)."""
    times, states = kept
    length = jnp.maximum(after[0] - before[0], 1e-300)
    share = ((times - before[0]) / length)[:, None]
    line = jnp.where(share < 1, before[1:] + share * (after - before)[1:], after[1:])
    inside = (times > before[0]) & (times <= after[0])
    return Kept(times, jnp.where(inside[:, None], line, states))


def _snap(carry: _Progress, stop: Scalar) -> _Progress:
    u, h, tried = carry
    near = stop - u[0] <= 1e-12 * jnp.maximum(1.0, jnp.abs(stop))
    return u.at[0].set(jnp.where(near, stop, u[0])), h, tried
