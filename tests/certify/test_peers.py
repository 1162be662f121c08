"""Published verifiers as referees of the relaxations (docs/theory.md §8)."""

import numpy as np
import pytest
from scipy.optimize import minimize
from small_networks import exact_minimum, random_network
from test_milp import exact_box_minimum

from experiments.peer_bounds import (
    PUBLISHED,
    alpha_crown,
    best_level,
    crown,
    offset,
    pair_form,
    sdp_bound,
    sdp_crown,
    triangle,
)
from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.linear import linear_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.q2 import complete, q2_dual


def network(seed, width=16, size=8, count=60, bias=0.2, equal=False):
    """A random network in float64; with `equal`, rows of one norm."""
    weights, level, points = random_network(seed, width, size, count, bias)
    weights, level, points = (np.asarray(v, np.float64) for v in (weights, level, points))
    if equal:
        weights = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return weights, level, points


def all_bounds(net):
    tuned = sdp_crown(net, start=best_level(net))
    return {
        "CROWN": crown(net),
        "α-CROWN": alpha_crown(net),
        "SDP-CROWN, default": sdp_crown(net, ascent=PUBLISHED).bound,
        "SDP-CROWN, λ tuned": tuned.bound,
        "SDP-CROWN, slopes free": sdp_crown(net, start=tuned, free=True).bound,
    }


def test_the_offset_in_the_papers_example():
    """−ReLU(z₁) − ReLU(z₂) on the unit disc, slopes −1/2: −1 from the box, −√½ from the disc."""
    half, levels = np.full((200, 2), -0.5), np.geomspace(0.1, 10, 200)[:, None]
    h, _ = offset(-np.ones(2), half, levels, np.zeros((200, 2)), np.ones((200, 1)))
    assert h.max() == pytest.approx(-np.sqrt(0.5), abs=1e-4)


def test_the_offset_is_the_minimum_of_the_lagrangian():
    rng = np.random.default_rng(0)
    output, z = np.repeat([1.0, -1.0], 4), np.linspace(-8, 8, 40001)[:, None]
    for _ in range(20):
        slope, centre = rng.normal(size=(2, 8))
        level, rho = rng.uniform(0.5, 3, 2)
        lagrangian = output * np.maximum(z, 0) - slope * z + level / 2 * (z - centre) ** 2
        least = lagrangian.min(0).sum() - level / 2 * rho**2
        h, place = offset(output, slope[None], np.array([[level]]), centre[None], np.array([[rho]]))
        assert h[0] == pytest.approx(least, abs=1e-5)
        assert np.allclose(place[0], z[lagrangian.argmin(0), 0], atol=1e-3)


@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.2), ("l2", 0.6), ("linf", 0.2)])
def test_published_bounds_are_below_the_minimum(norm, radius):
    weights, bias, points = network(3, width=7, size=4, count=8)
    if norm == "linf":
        exact = np.array([exact_box_minimum(weights, bias, x, radius)[0] for x in points])
    else:
        exact = np.array([exact_minimum(weights, bias, x, radius) for x in points])
    net = pair_form(weights, bias, points, radius, norm)
    bounds = all_bounds(net)
    for name, bound in bounds.items():
        assert np.all(bound <= exact + 1e-7), name
    assert np.all(bounds["CROWN"] <= bounds["α-CROWN"])
    assert np.all(bounds["SDP-CROWN, λ tuned"] <= bounds["SDP-CROWN, slopes free"])
    assert np.all(bounds["SDP-CROWN, default"] <= bounds["SDP-CROWN, slopes free"] + 1e-3)


def test_alpha_crown_reaches_the_least_of_the_convex_relaxation():
    """The primal: every ReLU replaced by its triangle's lower or upper edge, as an epigraph."""
    weights, bias, points = network(5, count=4)
    net = pair_form(weights, bias, points, 0.4)
    lines, size = triangle(net), weights.shape[1]
    for i, found in enumerate(alpha_crown(net)):
        free, fixed = lines.free[i], np.where(lines.free[i], 0, lines.slope[i])
        assert free.sum() >= 3
        rows, centre = net.rows[free], net.centre[i][free]
        below = [
            {"type": "ineq", "fun": lambda v, a=rows, c=centre: v[size:] - c - a @ v[:size]},
            {"type": "ineq", "fun": lambda v: 0.4**2 - v[:size] @ v[:size]},
        ]
        start = np.append(np.zeros(size), np.maximum(centre, 0))
        cost = np.append(fixed @ net.rows, np.ones(free.sum()))
        box = [(None, None)] * size + [(0, None)] * int(free.sum())
        solved = minimize(lambda v, c=cost: c @ v, start, bounds=box, constraints=below)
        least = solved.fun + fixed @ net.centre[i] + lines.constant[i].sum()
        assert found == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.05), ("l2", 0.2), ("linf", 0.05)])
def test_linear_stage_is_crown_or_better(norm, radius):
    weights, bias, points = network(6, count=400)
    net = pair_form(weights, bias, points, radius, norm)
    low, high = net.centre - net.reach, net.centre + net.reach
    both = ((low < 0) & (high > 0)).reshape(400, 2, 16).all(1).any(1)
    assert 10 < both.sum() < 390
    problem = Problem.build(weights, bias, points, radius, norm=norm)
    gain = problem.bound(linear_dual(problem)) - crown(net)
    # Where no neuron spans both kinks, the sum of two relaxations is the relaxation of the sum.
    assert np.allclose(gain[~both], 0, rtol=0, atol=1e-11)
    # Where one does, its chord may end at the second kink and lie higher.
    assert np.mean(gain[both] > 1e-6) > 0.9


def at(problem, slope, curvature):
    """The bound of section 8 at the slopes g of the pair form and q."""
    upper, lower = np.split(slope, 2, axis=1)
    theta = upper - lower
    return problem.bound(complete(problem, theta, np.broadcast_to(curvature, theta.shape)))


@pytest.mark.parametrize(
    ("norm", "radius"), [("l2", 0.1), ("l2", 0.3), ("l2", 1.0), ("linf", 0.05), ("linf", 0.2)]
)
def test_no_published_dual_point_is_better_than_ours_there(norm, radius):
    """Both inequalities hold dual point by dual point, found or random."""
    weights, bias, points = network(1)
    net = pair_form(weights, bias, points, radius, norm)
    problem = Problem.build(weights, bias, points, radius, norm=norm)
    assert np.all(at(problem, triangle(net).slope, 0.0) >= crown(net) - 1e-9)
    rng = np.random.default_rng(2)
    found = sdp_crown(net, start=best_level(net), free=True)
    for noise in (0.0, 0.1, 1.0):
        slope = found.slope + noise * rng.normal(size=found.slope.shape)
        level = found.level * np.exp(noise * rng.normal(size=found.level.shape))
        gain = at(problem, slope, level) - sdp_bound(net, slope, level)[0]
        assert np.all(gain >= -1e-9)
        assert np.median(gain) > 1e-2


def test_sdp_crown_is_below_q1_for_rows_of_one_norm_and_below_q2():
    weights, bias, points = network(2, equal=True)
    net = pair_form(weights, bias, points, 0.3)
    problem = Problem.build(weights, bias, points, 0.3)
    published = sdp_crown(net, start=best_level(net), free=True).bound
    first = q1_dual(problem)
    q1 = problem.bound(first)
    second = q2_dual(
        problem, -problem.reach, problem.reach, first.slope, first.curvature, Pace(300)
    )
    q2 = problem.bound(second)
    # The searches are in float32 and stop early: 1e-3 of bounds of order 1.
    assert np.all(published <= q1 + 1e-3) and np.all(published <= q2 + 1e-3)
    assert np.median(q1 - published) > 0.05 and np.median(q2 - q1) > 0
