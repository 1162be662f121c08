"""The stages behind Q1 over the box, by exact and independent referees."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from small_networks import descend, random_network
from test_milp import exact_box_minimum

from featpur_sim.certify import box, certify
from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.box import q1_box_dual, solved
from featpur_sim.certify.branch import half_box_reach
from featpur_sim.certify.linear import linear_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q2 import complete, q2_dual
from featpur_sim.certify.q2_box import triangle_inverse
from featpur_sim.certify.relaxation import box_multiplier
from featpur_sim.certify.rounding import curvature_excess

EPSILON = 0.3


def spent(multiplier, matrix, direction):
    """¼ vᵀA⁻¹v + ε²Σν, infinite where A is not positive definite."""
    difference = np.diag(multiplier) - matrix
    if multiplier.min() < 0 or np.linalg.eigvalsh(difference)[0] <= 0:
        return np.inf
    solved = np.linalg.solve(difference, direction)
    return direction @ solved / 4 + EPSILON**2 * multiplier.sum()


def test_the_multipliers_of_a_separable_term_give_its_minimum():
    """min v δ − c δ² over |δ| ≤ ε, coordinate by coordinate: at an end, or where 2cδ = v."""
    rng = np.random.default_rng(0)
    curvature, direction = rng.uniform(-4, 4, 40), rng.normal(size=40)
    direction[:10] *= 0.1
    grid = np.linspace(-EPSILON, EPSILON, 200_001)[:, None]
    least = (direction * grid - curvature * grid**2).min(0)
    multiplier = box_multiplier(np.diag(curvature), direction, EPSILON)
    inside = (curvature < 0) & (np.abs(direction) < -2 * curvature * EPSILON)
    assert inside.sum() > 5  # the minimum is inside, and ν → 0
    found = spent(multiplier, np.diag(curvature), direction)
    assert -least.sum() - 1e-7 <= found <= -least.sum() * (1 + 1e-3)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_no_other_multipliers_are_better(sign, warm):
    rng = np.random.default_rng(1)
    factor, direction = rng.normal(size=(3, 4)), rng.normal(size=4)
    matrix = factor.T @ np.diag([1.0, sign, 1.0]) @ factor
    start = box_multiplier(matrix, 1.1 * direction, EPSILON) if warm else None
    found = spent(box_multiplier(matrix, direction, EPSILON, start), matrix, direction)
    best = np.inf
    for _ in range(6):
        begin = np.linalg.norm(matrix, 2) + rng.uniform(1, 3, 4)
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-12}
        solved = minimize(spent, begin, (matrix, direction), method="Nelder-Mead", options=options)
        best = min(best, solved.fun)
    assert np.isfinite(best) and found <= best * (1 + 1e-4)


def test_a_start_far_too_low_does_not_crawl(monkeypatch):
    """ν a hundredth of what |v|/2ε asks for: it took 40,000 steps along the edge."""
    rng = np.random.default_rng(0)
    factor, direction = rng.normal(size=(40, 30)) / 300, rng.normal(size=30)
    matrix = factor.T @ factor
    start = np.full(30, 1.1 * np.linalg.norm(matrix, 2))
    assert 100 * start.max() < np.median(np.abs(direction)) / (2 * EPSILON)
    steps, real = [], np.linalg.inv
    monkeypatch.setattr("numpy.linalg.inv", lambda matrix: steps.append(1) or real(matrix))
    found = spent(box_multiplier(matrix, direction, EPSILON, start), matrix, direction)
    assert len(steps) < 100
    afar = spent(box_multiplier(matrix, direction, EPSILON), matrix, direction)
    assert found == pytest.approx(afar, rel=1e-5)


def test_conjugate_gradients_solve_and_descend():
    rng = np.random.default_rng(6)
    factor, direction = rng.normal(size=(50, 30)), rng.normal(size=(4, 30))
    quadratic, level = factor.T @ factor, rng.uniform(0.5, 2, (4, 1))
    multiplier = level * np.linalg.norm(quadratic, 2) * rng.uniform(1.05, 3, (4, 30))
    system = multiplier[:, None] * np.eye(30) - level[..., None] * quadratic
    exact = np.linalg.solve(system, -direction[..., None] / 2)[..., 0]

    def value(delta):
        return (direction * delta).sum(1) + np.einsum("ni,nij,nj->n", delta, system, delta)

    def run(n, start, xp=np):
        return solved(*map(xp.asarray, (quadratic, level, multiplier, direction, start)), n)

    begin = rng.normal(size=exact.shape)
    steps = [value(run(n, begin)) for n in range(8)]
    assert np.all(np.diff(steps, axis=0) < 0)
    assert np.allclose(run(30, begin), exact, rtol=1e-9, atol=0)
    # Beyond the solution nothing moves, and nothing is divided by zero.
    assert np.allclose(run(60, exact), exact, rtol=1e-12, atol=0)
    assert np.allclose(run(30, begin, jnp), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("radius", [0.02, 0.1, 0.5])
def test_q1_ends_at_the_least_of_its_quadratic(radius):
    """So that nothing is lost to a gradient that is not 0."""
    weights, bias, points = random_network(7, width=96, size=24, count=30, bias=0.3)
    problem = Problem.build(weights, bias, points, radius, norm="linf")
    dual = q1_box_dual(problem, enough=0.0)
    bent = dual.curvature * (dual.minimiser @ problem.weights.T)
    gradient = dual.slope @ problem.weights + 2 * (
        dual.multiplier * dual.minimiser - bent @ problem.weights
    )
    assert np.abs(gradient).max() < 1e-9 * np.abs(dual.slope @ problem.weights).max()


def test_the_best_multipliers_are_searched_for_where_they_could_decide(monkeypatch):
    weights, bias, points = random_network(8, width=48, size=16, count=300, bias=0.3)
    searched, gained, real = 0, 0, box.complete_box

    def spy(part, *arguments):
        nonlocal searched
        searched += len(part)
        return real(part, *arguments)

    monkeypatch.setattr(box, "complete_box", spy)
    for radius in (0.05, 0.07, 0.09):
        problem = Problem.build(weights, bias, points, radius, norm="linf")
        before = q1_box_dual(problem, enough=1e9)  # the same search, without that end
        short = problem.bound(before) <= 0
        part = problem.select(np.flatnonzero(short))
        own = before.slope[short], before.curvature[short], before.multiplier[short]
        best = part.bound(real(part, *own)) > 0
        chosen = problem.bound(q1_box_dual(problem)) > 0
        assert chosen[~short].all() and np.array_equal(chosen[short], best)
        gained += best.sum()
    assert 3 <= gained < searched < 0.2 * 3 * len(points)


def test_a_search_goes_on_from_where_it_ended_at_a_larger_radius():
    weights, bias, points = random_network(9, width=48, size=16, count=60, bias=0.3)
    larger, smaller = (Problem.build(weights, bias, points, r, norm="linf") for r in (0.1, 0.07))
    found = q1_box_dual(larger, enough=1e9)
    begun = smaller.bound(q1_box_dual(smaller, 1, 1e9, found))
    fresh = smaller.bound(q1_box_dual(smaller, 1, 1e9))
    end = smaller.bound(q1_box_dual(smaller, 300, 1e9))
    assert (end - begun).mean() < 0.2 * (end - fresh).mean()
    assert np.all(smaller.bound(q1_box_dual(smaller, 300, 1e9, found)) > end - 2e-3)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 100])
def test_triangles_are_inverted(size):
    factor = np.random.default_rng(10).normal(size=(3, 2 * size, size))
    root = np.linalg.cholesky(factor.swapaxes(1, 2) @ factor)
    found = triangle_inverse(jnp.asarray(root, jnp.float32))
    exact = np.linalg.inv(root)
    assert np.allclose(found, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    assert np.isnan(triangle_inverse(jnp.full((1, size, size), jnp.nan))).any()


def test_half_box_reach_is_the_linear_program_and_rounded_up():
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(9, 6)) * (rng.random((9, 6)) < 0.8)
    weights[7], weights[8] = 2 * weights[0], -weights[0]
    weights[0, 2] = weights[8, 2] = 0.0
    rows = [[Fraction(float(v)) for v in row] for row in weights]
    radius = Fraction(EPSILON)
    for share in (-0.9, -0.3, 0.0, 0.4, 1.5):
        threshold = float(share * EPSILON * np.abs(weights[0]).sum())
        reach = half_box_reach(weights, EPSILON, weights[0], threshold)
        for row, exact_row, found in zip(weights, rows, reach, strict=True):
            solved = linprog(
                -row, weights[:1], [threshold], bounds=[(-EPSILON, EPSILON)] * 6, method="highs"
            )
            assert found == pytest.approx(-solved.fun, abs=1e-9)
            # The dual in rational numbers: convex and piecewise linear, least at a place or at 0.
            places = [Fraction(0)]
            places += [w / p for w, p in zip(exact_row, rows[0], strict=True) if p]
            exact = min(
                level * Fraction(threshold)
                + radius * sum(abs(w - level * p) for w, p in zip(exact_row, rows[0], strict=True))
                for level in places
                if level >= 0
            )
            assert exact <= Fraction(float(found)) <= exact + Fraction(1e-13)


def test_a_normal_of_zero_cuts_nothing():
    weights = np.random.default_rng(3).normal(size=(4, 5))
    reach = half_box_reach(weights, EPSILON, np.zeros(5), 0.0)
    assert np.allclose(reach, EPSILON * np.abs(weights).sum(1), rtol=1e-12, atol=0)


def test_each_stage_is_above_the_one_before_and_below_the_minimum():
    gaps = []
    for seed in range(2):
        weights, bias, points = random_network(seed, width=10, size=5, count=8, bias=0.3)
        weights, bias, points = (np.asarray(v, np.float64) for v in (weights, bias, points))
        exact = np.array([exact_box_minimum(weights, bias, x, 0.3)[0] for x in points])
        problem = Problem.build(weights, bias, points, 0.3, norm="linf")
        first = q1_box_dual(problem)
        begin = -problem.reach, problem.reach, first.slope, first.curvature
        duals = linear_dual(problem), first, q2_dual(problem, *begin, Pace())
        bounds = [problem.bound(dual) for dual in duals]
        whole = certify(weights, bias, points, 0.3, norm="linf")
        assert np.all(whole.lower <= exact + 1e-6)
        gaps.append([exact - bound for bound in bounds])
    linear, q1, q2 = np.concatenate(gaps, axis=1)
    assert q2.min() > -1e-6
    # Q1's search stops early and in float32.
    assert np.all(q1 < linear + 1e-3) and np.all(q2 < q1 + 1e-3)
    assert q2.mean() < 0.5 * q1.mean() < 0.25 * linear.mean()


def test_the_cascade_closes_small_networks():
    decided = {"certified": 0, "broken": 0}
    late = 0
    for seed in range(3):
        weights, bias, points = random_network(seed, width=12, size=5, count=12, bias=0.3)
        weights, bias, points = (np.asarray(v, np.float64) for v in (weights, bias, points))
        exact = np.array([exact_box_minimum(weights, bias, x, 0.25)[0] for x in points])
        result = certify(weights, bias, points, 0.25, norm="linf")
        clear = np.abs(exact) > 1e-3
        assert np.array_equal(result.certified[clear], exact[clear] > 0)
        assert np.all(result.lower <= exact + 1e-6) and np.all(result.upper >= exact - 1e-6)
        decided["certified"] += int(result.certified.sum())
        decided["broken"] += int((exact < 0).sum())
        late += result.by_stage()["q2"] + result.by_stage()["branch"]
    assert min(decided.values()) >= 5 and late >= 2


def test_q2_needs_no_stage_before_it():
    weights, bias, points = random_network(2, width=24, size=8, count=40, bias=0.3)
    alone, after = (
        certify(weights, bias, points, 0.1, norm="linf", stages=stages)
        for stages in (["q2"], ["linear", "q1", "q2"])
    )
    assert after.certified.sum() >= alone.certified.sum() >= 0.8 * after.certified.sum() > 0


def test_any_dual_point_is_completed_to_a_sound_bound():
    """Curvatures of both signs, and slopes of any size."""
    weights, bias, points = random_network(4, width=24, size=8, count=40, bias=0.3)
    problem = Problem.build(weights, bias, points, 0.2, norm="linf")
    attacked, _ = descend(weights, bias, points, 0.2, norm="linf")
    rng = np.random.default_rng(5)
    for scale in (0.0, 1.0, 30.0):
        slope = rng.uniform(0, 1, problem.pre_activation.shape)
        dual = complete(problem, slope, scale * rng.normal(size=slope.shape))
        bound = problem.bound(dual)
        assert np.all(np.isfinite(bound)) and np.all(bound <= attacked)
        # Multipliers that are too small prove nothing.
        if scale:
            proof = curvature_excess(problem.weights, dual.curvature[0], 0.1 * dual.multiplier[0])
            assert np.isinf(proof)
