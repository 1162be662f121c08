"""Norm balls: the dual maximiser, the projection and the random point, at every scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featpur_sim.attacks.balls import L2Ball, LinfBall, ball

NORMS = ["l2", "linf"]
DUAL = {"l2": 2, "linf": 1}
SELF = {"l2": 2, "linf": np.inf}

numbers = st.floats(-1, 1, width=32, allow_subnormal=False)
rows = hnp.arrays(np.float32, (4, 5), elements=numbers)
# Down to 1e-25, whose square is no float32, and up to 1e25, whose square is none either.
scales = st.sampled_from([1e-25, 1e-12, 1.0, 1e12, 1e25])
radii = st.sampled_from([0.0, 1e-3, 0.1, 5.0])
norms = st.sampled_from(NORMS)


def maximise(norm, radius, gradient, how="plain"):
    call = ball(norm, radius).maximise
    if how == "jit":
        call = eqx.filter_jit(call)
    if how == "vmap":
        return jax.vmap(lambda row: call(row[None])[0])(gradient)
    return call(gradient)


@given(norms, radii, rows, scales)
def test_maximiser_attains_the_dual_norm(norm, radius, gradient, scale):
    # Entries below 1e-30 of the largest would be subnormal at the small scales.
    gradient = np.where(np.abs(gradient) < 1e-6, 0, gradient) * np.float32(scale)
    delta = np.asarray(maximise(norm, radius, jnp.asarray(gradient)), float)
    attained = (gradient.astype(float) * delta).sum(-1)
    bound = radius * np.linalg.norm(gradient.astype(float), DUAL[norm], axis=-1)
    np.testing.assert_allclose(attained, bound, rtol=2e-6)
    assert np.all(np.linalg.norm(delta, SELF[norm], axis=-1) <= radius * (1 + 1e-6))


@pytest.mark.parametrize("how", ["plain", "jit", "vmap"])
@pytest.mark.parametrize("norm", NORMS)
def test_zero_and_tiny_gradients(norm, how):
    gradient = jnp.array([[0.0, 0, 0], [1e-25, 0, 0], [3e-25, 0, -4e-25]])
    found = maximise(norm, 0.5, gradient, how)
    expected = {
        "l2": [[0, 0, 0], [0.5, 0, 0], [0.3, 0, -0.4]],
        "linf": [[0, 0, 0], [0.5, 0, 0], [0.5, 0, -0.5]],
    }
    np.testing.assert_allclose(found, expected[norm], rtol=1e-6)


@given(norms, radii, rows, rows, st.sampled_from([1e-3, 1.0, 1e3]))
def test_projection_is_the_nearest_point(norm, radius, delta, other, scale):
    threat = ball(norm, radius)
    point = delta * np.float32(scale)
    found = np.asarray(threat.project(jnp.asarray(point)), float)
    assert np.all(np.linalg.norm(found, SELF[norm], axis=-1) <= radius * (1 + 1e-6))
    # Nearest in a convex set: no point q of it has ⟨p − Pp, q − Pp⟩ > 0.
    inside = np.asarray(threat.project(jnp.asarray(other * np.float32(2 * radius))), float)
    product = ((point - found) * (inside - found)).sum(-1)
    assert np.all(product <= 1e-5 * scale * max(radius, 1e-3))
    again = np.asarray(threat.project(jnp.asarray(found, jnp.float32)), float)
    np.testing.assert_allclose(again, found, rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e22, 1e37])
def test_norm_and_projection_at_any_scale(norm, scale):
    rows = np.array([[3.0, 0, -4], [0.3, 0, 0.4], [0, 0, 0]]) * scale
    given = jnp.asarray(rows, jnp.float32)
    size = np.linalg.norm(rows, SELF[norm], axis=-1)
    np.testing.assert_allclose(ball(norm, 1.0).norm(given), size, rtol=1e-6)
    found = type(ball(norm, 1.0))(jnp.float32(scale)).project(given)
    expected = {"l2": [[0.6, 0, -0.8], [0.3, 0, 0.4], [0, 0, 0]]}
    expected["linf"] = [[1, 0, -1], [0.3, 0, 0.4], [0, 0, 0]]
    np.testing.assert_allclose(found, np.array(expected[norm]) * scale, rtol=1e-6)


@given(norms, rows)
def test_projection_leaves_the_inside_alone(norm, delta):
    threat = ball(norm, 0.3)
    size = np.linalg.norm(delta.astype(float), SELF[norm], axis=-1, keepdims=True)
    inside = np.where(size > 0.29, delta * 0.29 / np.maximum(size, 1e-9), delta).astype(np.float32)
    inside = np.where(np.abs(inside) < 1e-37, 0, inside)  # XLA flushes subnormals to 0
    assert np.array_equal(threat.project(jnp.asarray(inside)), inside)


@given(norms, rows, radii)
def test_projection_under_jit_and_vmap(norm, delta, radius):
    threat, delta = ball(norm, radius), jnp.asarray(delta)
    plain = np.asarray(threat.project(delta))
    np.testing.assert_allclose(eqx.filter_jit(threat.project)(delta), plain, rtol=1e-6)
    one = jax.vmap(lambda row: threat.project(row[None])[0])(delta)
    np.testing.assert_allclose(one, plain, rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_is_numpys(norm):
    delta = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    found = ball(norm, 1.0).norm(jnp.asarray(delta))
    np.testing.assert_allclose(found, np.linalg.norm(delta, SELF[norm], axis=-1), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_lie_on_the_sphere_without_a_preferred_direction(norm):
    points = np.asarray(ball(norm, 0.2).random(jax.random.key(0), (50_000, 4)), float)
    np.testing.assert_allclose(np.linalg.norm(points, SELF[norm], axis=-1), 0.2, rtol=1e-6)
    second = points.T @ points / len(points)
    # E δδᵀ = τ²/d · I on the sphere, τ² · I for random signs; 4.5 standard errors ≤ .02.
    level = 0.04 / 4 if norm == "l2" else 0.04
    np.testing.assert_allclose(second / level, np.eye(4), atol=0.02)
    assert np.abs(points.mean(0)).max() < 4.5 * points.std() / np.sqrt(len(points))


def test_ball_by_name():
    assert isinstance(ball("l2", 0.1), L2Ball)
    assert isinstance(ball("linf", 0.1), LinfBall)
    assert jax.jit(lambda r: ball("l2", r).project(jnp.ones((1, 4))))(0.5).sum() == 1.0


@pytest.mark.parametrize(
    ("norm", "radius", "message"),
    [
        ("l3", 0.1, "norm must be 'l2' or 'linf', got 'l3'"),
        ("l2", -0.1, "radius must be ≥ 0 and finite .*, got -0.1"),
        ("l2", float("nan"), "radius must be ≥ 0 and finite .*, got nan"),
        ("l2", jnp.float32(-0.5), "radius must be ≥ 0 and finite .*, got -0.5"),
        ("l2", 1e39, "radius must be ≥ 0 and finite .*, got 1e\\+39"),
        ("l2", True, "radius must be a number or an array of numbers, got True"),
        ("l2", "0.1", "radius must be a number or an array of numbers, got '0.1'"),
        ("l2", [0.1, 0.2], "radius must be one number, got an array of shape"),
        ("linf", float("inf"), "radius must be ≥ 0 and finite .*, got inf"),
    ],
)
def test_ball_refuses(norm, radius, message, unchecked):
    with pytest.raises(ValueError, match=message):
        ball(norm, radius)
