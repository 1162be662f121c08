"""The Rosenbrock integrator: order, stability, and SciPy's Radau as a referee."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from featpur_sim.theory.dynamics.nodes import double_precision
from featpur_sim.theory.dynamics.rosenbrock import Kept, advance


def run(field, start, stop, tolerance, scale=lambda u: jnp.abs(u) + 1e-3, step=1e-3):
    with double_precision():
        went = jax.jit(
            lambda u: advance(
                field, u, jnp.asarray(0.0), jnp.asarray(stop), step=jnp.asarray(step),
                scale=scale, tolerance=tolerance, max_steps=20_000,
            )
        )(jnp.asarray(start, jnp.float64))  # fmt: skip
        return np.asarray(went.state), int(went.steps), bool(went.arrived)


def robertson(t, u):
    x, y, z = u
    slow, fast = 0.04 * x, 1e4 * y * z
    return jnp.stack([-slow + fast, slow - fast - 3e7 * y**2, 3e7 * y**2])


def test_a_forced_oscillator_converges_at_second_order():
    def field(t, u):
        return jnp.stack([u[1], -u[0] + jnp.cos(2 * t)])

    # ü + u = cos 2t from rest: u = (cos t − cos 2t)/3.
    exact = (np.cos(3.0) - np.cos(6.0)) / 3
    errors, steps = [], []
    for tolerance in (1e-2, 1e-3, 1e-4):
        state, taken, arrived = run(
            field, [0.0, 0.0], 3.0, tolerance, scale=lambda u: jnp.ones_like(u)
        )
        assert arrived
        errors.append(abs(state[0] - exact))
        steps.append(taken)
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -2.5 < order < -1.6


def test_robertson_against_radau():
    state, steps, arrived = run(
        robertson, [1.0, 0.0, 0.0], 100.0, 1e-4, lambda u: jnp.abs(u) + 1e-6, 1e-6
    )
    expected = solve_ivp(
        lambda t, u: np.asarray(robertson(t, u)), (0, 100), [1.0, 0, 0], method="Radau", rtol=1e-6,
        atol=[1e-8, 1e-10, 1e-8],
    )  # fmt: skip
    assert arrived and steps < 1500
    np.testing.assert_allclose(state, expected.y[:, -1], rtol=2e-3)


def test_stiff_decay_needs_few_steps():
    state, steps, arrived = run(lambda t, u: -1e8 * (u - jnp.cos(t)), [0.0], 1.0, 1e-3)
    assert arrived and steps < 200
    assert state[0] == pytest.approx(np.cos(1.0), rel=1e-3)


def test_a_state_that_leaves_the_finite_numbers_does_not_arrive():
    _, _, arrived = run(lambda t, u: u**2, [1.0], 2.0, 1e-3)
    assert not arrived


def test_states_on_the_way_are_within_the_tolerance_and_change_no_step():
    def field(t, u):
        return jnp.stack([u[1], -u[0] + jnp.cos(2 * t)])

    times = np.array([0.0, 1e-3, 0.2, 1.0, 1.03, 2.9, 3.0, 4.0])

    def both(u):
        at = {"step": jnp.asarray(1e-3), "scale": jnp.ones_like, "tolerance": 1e-3}
        kept = Kept(jnp.asarray(times), jnp.full((len(times), 2), jnp.nan))
        first = advance(field, u, jnp.asarray(0.0), jnp.asarray(1.0), kept=kept, **at)
        rest = advance(
            field, first.state, jnp.asarray(1.0), jnp.asarray(3.0), kept=first.kept, **at
        )
        alone = advance(field, u, jnp.asarray(0.0), jnp.asarray(1.0), **at)
        return first, rest, alone

    with double_precision():
        first, rest, alone = jax.tree.map(np.asarray, jax.jit(both)(jnp.zeros(2)))
    assert alone.kept is None and alone.steps == first.steps
    np.testing.assert_array_equal(first.state, alone.state)
    states = rest.kept.states
    # What no step passed stays as it was: the start, and what comes after the end.
    assert np.isnan(states[[0, -1]]).all()
    np.testing.assert_array_equal(states[[3, 6]], [first.state, rest.state])
    inside = times[1:-1]
    exact = (np.cos(inside) - np.cos(2 * inside)) / 3
    np.testing.assert_allclose(states[1:-1, 0], exact, atol=3e-3)
    # Held at the ends of the steps, they would be off by a step's length.
    assert rest.steps < 60
