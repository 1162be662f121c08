from decimal import Decimal, getcontext

import numpy as np
import pytest
from scipy.special import ndtr
from small_networks import descend, network_value, random_network, threshold

from featpur_sim.certify.branch import half_ball_reach
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.rounding import (
    DualPoint,
    curvature_excess,
    float32_inference_error,
    lower_bound,
    norms_up,
    semidefinite_excess,
    smoothing_excess,
)

getcontext().prec = 60


@pytest.fixture
def small():
    return random_network(0, width=24, size=8, count=40)


def decimals(array):
    return np.vectorize(Decimal, otypes=[object])(np.asarray(array, np.float64))


def exact_bound(problem, dual, low, high, i):
    """The module's formula for sample i in 60 digits (the floats are exact decimals)."""
    w, b, x = decimals(problem.weights), decimals(problem.bias), decimals(problem.points[i])
    theta, q, nu, delta = (
        decimals(part[i]) for part in (dual.slope, dual.curvature, dual.multiplier, dual.minimiser)
    )
    tau, zero = Decimal(float(problem.radius[i])), Decimal(0)
    u, a = w @ x, w @ delta
    total = zero
    for k in range(len(b)):
        lo, hi = Decimal(float(low[i, k])), Decimal(float(high[i, k]))
        candidates = [lo, hi, -b[k] - u[k], b[k] - u[k]]
        if q[k] != 0:
            candidates += [(theta[k] - 1) / (2 * q[k]), theta[k] / (2 * q[k])]
        values = []
        for c in candidates:
            t = min(max(c, lo), hi)
            v = u[k] + t
            values.append(v - min(max(v, -b[k]), b[k]) - theta[k] * t + q[k] * t * t)
        total += min(values) + theta[k] * a[k] - q[k] * a[k] ** 2
    gradient = w.T @ theta + 2 * (nu * delta - w.T @ (q * a))
    excess = Decimal(float(dual.excess[i]))
    if problem.box:
        spread = tau + abs(delta)
        total += (nu * (delta**2 - tau**2)).sum() - (abs(gradient) * spread).sum()
        return total - excess * (spread**2).sum()
    shift = (delta @ delta).sqrt()
    total += nu[0] * (shift**2 - tau**2) - (gradient @ gradient).sqrt() * (tau + shift)
    return total - excess * (tau + shift) ** 2


def random_dual(problem, seed):
    rng = np.random.default_rng(seed)
    n, m = problem.pre_activation.shape
    slope = rng.uniform(-0.5, 1.5, (n, m))
    curvature = rng.uniform(-1, 3, (n, m)) * (rng.random((n, m)) < 0.8)
    multiplier = rng.uniform(3, 30, (n, problem.points.shape[1] if problem.box else 1))
    minimiser = rng.normal(size=problem.points.shape)
    excess = rng.uniform(0, 1, n) * (rng.random(n) < 0.5)
    return DualPoint(slope, curvature, multiplier, minimiser, excess)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_float_bound_is_below_the_exact_formula_and_close(scale, norm):
    weights, bias, points = random_network(3, width=7, size=5, count=20)
    problem = Problem.build(weights, bias * scale, points * scale, 0.3 * scale, norm=norm)
    dual = random_dual(problem, 4)
    # A dual point of arbitrary scale: the formula scales with x only where q does with 1/x.
    dual = dual._replace(
        curvature=dual.curvature / scale,
        multiplier=dual.multiplier / scale,
        minimiser=dual.minimiser * scale,
        excess=dual.excess / scale,
    )
    low, high = -problem.reach, problem.reach
    bound = problem.bound(dual)
    for i in range(len(points)):
        exact = exact_bound(problem, dual, low, high, i)
        assert Decimal(float(bound[i])) <= exact
        assert float(exact) - bound[i] <= 1e-11 * scale


def test_bound_without_its_rounding_terms_would_be_wrong(monkeypatch):
    weights, bias, points = random_network(3, width=7, size=5, count=60)
    problem = Problem.build(weights, bias, points, 0.3)
    dual = random_dual(problem, 4)
    monkeypatch.setattr("featpur_sim.certify.rounding.UNIT", 0.0)
    monkeypatch.setattr("featpur_sim.certify.rounding.gamma", lambda terms, unit=0.0: 0.0)
    bound = problem.bound(dual)
    exact = [exact_bound(problem, dual, -problem.reach, problem.reach, i) for i in range(60)]
    assert any(Decimal(float(v)) > e for v, e in zip(bound, exact, strict=True))


def test_cancelled_pre_activations_are_covered():
    rng = np.random.default_rng(0)
    weights, points = rng.normal(size=(3, 400)), rng.normal(size=(20, 400))
    points -= points @ np.linalg.pinv(weights) @ weights  # ⟨w, x⟩ is all rounding error
    problem = Problem.build(weights, 0.0, 1e3 * points, 1e-12)
    zero = np.zeros((20, 3))
    dual = DualPoint(zero + 1, zero, zero[:, :1], 0 * problem.points, zero[:, 0])
    bound, low, high = problem.bound(dual), -problem.reach, problem.reach
    exact = [exact_bound(problem, dual, low, high, i) for i in range(20)]
    assert all(Decimal(float(v)) <= e for v, e in zip(bound, exact, strict=True))


def test_bound_at_radius_zero_is_the_value(small):
    weights, bias, points = (np.asarray(v, np.float64) for v in small)
    nothing = np.zeros((len(points), len(weights)))
    dual = DualPoint(
        nothing, nothing, np.zeros((len(points), 1)), np.zeros_like(points), np.zeros(len(points))
    )
    bound = lower_bound(weights, bias, points, np.zeros(len(points)), nothing, nothing, dual)
    value = network_value(weights, bias, points)
    assert np.all(bound <= value)
    assert np.allclose(bound, value, rtol=0, atol=1e-12)


def test_bound_falls_with_the_radius(small):
    weights, bias, points = small
    wide = Problem.build(weights, bias, points, 0.3)
    dual = q1_dual(wide)
    bounds = [Problem.build(weights, bias, points, r).bound(dual) for r in (0.1, 0.2, 0.25, 0.3)]
    assert np.all(np.diff(bounds, axis=0) < 0)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_semidefinite_excess_knows_a_planted_negative_eigenvalue(size):
    rng = np.random.default_rng(size)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    values = rng.uniform(0, 1, size)
    values[0] = 0
    matrix = basis @ np.diag(values) @ basis.T
    matrix = (matrix + matrix.T) / 2
    assert 0 < semidefinite_excess(matrix, 0.0) < 1e-10
    assert semidefinite_excess(matrix, 0.5) > 0.5
    values[0] = -1e-8
    broken = basis @ np.diag(values) @ basis.T
    assert semidefinite_excess((broken + broken.T) / 2, 0.0) == np.inf


def test_understated_top_eigenvalue_is_caught_and_would_be_unsound(small):
    weights, bias, points = small
    problem = Problem.build(weights, bias, points, 0.4)
    dual = q1_dual(problem)
    attacked, _ = descend(weights, bias, points, 0.4)
    shrunk = 0.2 * dual.multiplier  # as if λmax had come out five times too small
    lie = dual._replace(multiplier=shrunk, minimiser=0 * dual.minimiser)
    curvature = dual.curvature * 4
    lie = lie._replace(curvature=curvature, slope=0 * dual.slope)
    assert np.any(problem.bound(lie) > attacked)
    proof = [
        curvature_excess(problem.weights, q, nu) for q, nu in zip(curvature, shrunk, strict=True)
    ]
    assert np.all(np.isinf(proof))
    assert np.all(problem.bound(lie._replace(excess=np.array(proof))) == -np.inf)


def test_infeasible_or_nan_dual_points_prove_nothing(small):
    weights, bias, points = small
    problem = Problem.build(weights, bias, points, 0.2)
    dual = random_dual(problem, 0)
    assert np.all(problem.bound(dual._replace(multiplier=-dual.multiplier)) == -np.inf)
    assert np.all(problem.bound(dual._replace(slope=dual.slope * np.nan)) == -np.inf)


def test_norms_are_rounded_up():
    rows = np.random.default_rng(0).normal(size=(200, 30))
    exact = [sum((Decimal(float(v)) ** 2 for v in row), Decimal(0)).sqrt() for row in rows]
    assert all(Decimal(float(n)) >= e for n, e in zip(norms_up(rows), exact, strict=True))


def smooth_neuron(v, b, s):
    def relu(a):
        return a * ndtr(a / s) + s * np.exp(-((a / s) ** 2) / 2) / np.sqrt(2 * np.pi)

    return relu(v - b) - relu(-v - b)


@pytest.mark.parametrize("s", [0.01, 0.1, 1.0])
def test_smoothing_excess_covers_the_smoothed_neuron(s):
    rng = np.random.default_rng(0)
    u, b = rng.uniform(-1, 1, 300), rng.uniform(0, 0.5, 300)
    low, high = -rng.uniform(0, 0.3, 300), rng.uniform(0, 0.3, 300)
    t = low + (high - low) * np.linspace(0, 1, 2001)[:, None]
    deficit = (threshold(u + t, b) - smooth_neuron(u + t, b, s)).max(0)
    excess = smoothing_excess(u, low, high, b, s)
    assert np.all(excess >= deficit - 1e-15)  # the rounding of `deficit` itself
    assert np.all(excess <= 0.4 * s)
    if s == 0.01:  # b ≫ s, so the bound is nearly attained
        assert np.median((excess - np.maximum(deficit, 0))[excess > 1e-4]) < 1e-4


@pytest.mark.parametrize("width, size", [(16, 8), (256, 64)])
def test_float32_error_covers_what_is_seen(width, size):
    weights, bias, points = random_network(5, width, size, count=400)
    u = points @ weights.T
    half = np.maximum(u - bias, 0) - np.maximum(-u - bias, 0)
    assert half.dtype == np.float32
    computed = half.sum(1, dtype=np.float32)
    wide = (np.asarray(v, np.float64) for v in (weights, bias, points))
    seen = np.abs(computed - network_value(*wide))
    allowed = float32_inference_error(weights, bias, np.linalg.norm(points, axis=1))
    assert np.all(seen <= allowed)
    assert np.all(allowed <= 1e4 * seen.max())


def test_half_ball_reach_is_the_sampled_maximum():
    rng = np.random.default_rng(0)
    size, tau = 3, 0.7
    weights = rng.normal(size=(6, size))
    weights[4] = 2 * weights[0]
    weights[5] = -weights[0]
    norms = norms_up(weights)
    delta = rng.normal(size=(400_000, size))
    delta *= (
        tau
        * rng.uniform(0, 1, (len(delta), 1)) ** (1 / 3)
        / np.linalg.norm(delta, axis=1, keepdims=True)
    )
    surface = tau * delta / np.linalg.norm(delta, axis=1, keepdims=True)
    delta = np.concatenate([delta, surface])
    for share in (-0.6, -0.1, 0.0, 0.5):
        s = float(share * tau * np.linalg.norm(weights[0]))
        inside = delta[delta @ weights[0] <= s]
        seen = (inside @ weights.T).max(0)
        reach = half_ball_reach(weights, norms, tau, weights[0], s)
        assert np.all(reach >= seen)
        assert np.all(reach <= seen + 0.02 * tau * norms)
