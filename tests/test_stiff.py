"""The Rosenbrock integrator: order, stability, and SciPy's Radau as a referee."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from featpur_sim.lattice import double_precision
from featpur_sim.stiff import advance


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
