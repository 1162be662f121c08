import jax
import jax.monitoring
import numpy as np
import pytest
from small_networks import descend, exact_minimum, network_value, random_network, threshold

from featpur_sim._ground.switches import x64
from featpur_sim.certify import (
    DEFAULT_EFFORT,
    HIGH_EFFORT,
    Contradiction,
    Effort,
    NotCertified,
    certified_radius,
    certify,
)
from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.box import q1_box_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.q2 import q2_dual
from featpur_sim.certify.relaxation import box_multiplier

QUICK = Effort(q1_steps=100, q2=Pace(60, 0.1, 0.3), max_nodes=40)


@pytest.fixture
def small():
    return random_network(0, width=24, size=8, count=40)


CASES = [("l2", seed, r) for seed, r in enumerate((0.05, 0.2, 0.4, 1.0, 3.0))]
CASES += [("linf", seed, r) for seed, r in enumerate((0.02, 0.1, 0.3, 1.0))]


@pytest.mark.parametrize(("norm", "seed", "radius"), CASES)
def test_bound_is_below_the_attack(norm, seed, radius):
    weights, bias, points = random_network(seed, width=40, size=10, count=48)
    result = certify(weights, bias, points, radius, norm=norm, effort=QUICK)
    attacked, _ = descend(weights, bias, points, radius, norm, starts=[result.minimiser])
    assert np.all(result.lower <= attacked + 1e-12)
    assert np.all(result.lower <= result.upper + 1e-12)
    assert np.array_equal(result.certified, result.lower > 0)
    order = 2 if norm == "l2" else np.inf
    assert np.all(np.linalg.norm(result.minimiser, axis=1, ord=order) <= radius * (1 + 1e-12))
    wide = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
    value = network_value(wide[0], wide[1], points + result.minimiser)
    assert np.allclose(value, result.upper, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_network_is_certified_exactly(norm):
    weights, _, _ = random_network(0, width=12, size=6, count=30)
    points = np.random.default_rng(1).normal(size=(30, 6))
    points *= np.sign(points @ weights.sum(0, dtype=np.float64))[:, None]
    exact = points @ weights.sum(0, dtype=np.float64)
    total = weights.sum(0, dtype=np.float64)
    exact = exact - 0.2 * (np.abs(total).sum() if norm == "linf" else np.linalg.norm(total))
    result = certify(weights, 0.0, points, 0.2, norm=norm, stages=["linear"])
    assert np.all(result.lower <= exact)
    assert np.allclose(result.lower, exact, rtol=0, atol=1e-11)


def test_cascade_against_the_exact_minimum():
    decided = {"certified": 0, "not": 0}
    for seed in range(4):
        weights, bias, points = random_network(seed, width=7, size=4, count=6, bias=0.2)
        exact = np.array([exact_minimum(weights, bias, x, 0.35) for x in points])
        result = certify(weights, bias, points, 0.35)
        assert np.all(result.lower <= exact + 1e-7)
        assert np.all(result.upper >= exact - 1e-7)
        clear = np.abs(exact) > 1e-3
        assert np.array_equal(result.certified[clear], exact[clear] > 0)
        decided["certified"] += int(result.certified.sum())
        decided["not"] += int((exact < 0).sum())
    assert min(decided.values()) >= 5


def test_q2_closes_most_of_the_gap_q1_leaves():
    gaps = []
    for seed in range(3):
        weights, bias, points = random_network(seed, width=7, size=4, count=5, bias=0.2)
        exact = np.array([exact_minimum(weights, bias, x, 0.6) for x in points])
        problem = Problem.build(weights, bias, points, 0.6)
        first = q1_dual(problem)
        begin = -problem.reach, problem.reach, first.slope, first.curvature
        duals = (
            first,
            *(q2_dual(problem, *begin, effort.q2) for effort in (DEFAULT_EFFORT, HIGH_EFFORT)),
        )
        gaps.append([exact - problem.bound(dual) for dual in duals])
    gaps = np.array(gaps)
    q1_gap, q2_gap, high_gap = gaps.mean(axis=(0, 2))
    assert 0.02 < q1_gap
    assert q2_gap < 0.4 * q1_gap
    assert high_gap < q2_gap and np.all(gaps[:, 2] < gaps[:, 1] + 1e-4)


def test_each_stage_adds_points():
    weights, bias, points = random_network(8, width=48, size=8, count=150, bias=0.2)
    counts = [
        int(certify(weights, bias, points, 0.3, stages=stages).certified.sum())
        for stages in (["linear"], ["linear", "q1"], ["linear", "q1", "q2"], None)
    ]
    assert counts == sorted(counts)
    assert counts[1] > counts[0] and counts[3] > counts[1]


def test_certified_fraction_falls_with_the_radius(small):
    weights, bias, points = small
    # A point certified by the linear stage keeps its weaker bound, so only signs are comparable.
    certified = np.stack(
        [
            certify(weights, bias, points, r, stages=["linear", "q1"]).certified
            for r in (0.05, 0.1, 0.2, 0.4)
        ]
    ).astype(int)
    assert np.all(np.diff(certified, axis=0) <= 0)
    assert certified[0].sum() > certified[-1].sum()


def test_broken_points_cost_nothing_and_are_not_certified(small):
    weights, bias, points = small
    attacked, where = descend(weights, bias, points, 0.4)
    result = certify(weights, bias, points, 0.4, perturbations=3 * where, effort=QUICK)
    broken = attacked <= 0
    assert broken.sum() >= 5
    assert np.all(result.stage[broken] == "broken")
    assert result.evaluated["linear"] == (~broken).sum()
    assert sum(result.by_stage().values()) == len(points)


def test_a_broken_bound_is_reported_not_returned(small, monkeypatch):
    weights, bias, points = small
    attacked, where = descend(weights, bias, points, 0.4)
    monkeypatch.setattr(
        "featpur_sim.certify.problem.lower_bound", lambda *args: np.full(len(args[2]), 1.0)
    )
    with pytest.raises(Contradiction, match="proved lower bound 1,") as caught:
        certify(weights, bias, points, 0.4, perturbations=where, stages=["linear"])
    assert caught.value.lower > caught.value.value == pytest.approx(attacked[caught.value.index])


def test_one_compilation_serves_all_points_and_radii():
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int):
        if "backend_compile" in event:
            compiled.append(event)

    weights, bias, points = random_network(0, width=19, size=7, count=90)
    hasty = Effort(q1_steps=3, q2=Pace(2, 0.1, 0.3), max_nodes=9)  # leaves work for every stage
    certify(weights, bias, points, 0.2, effort=hasty)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = certify(weights, bias, points[:33], 0.3, effort=hasty)
        assert again.evaluated["branch"] > 0
        assert compiled == []
        certify(weights[:-1], bias[:-1], points, 0.2, stages=["q1"])
        assert compiled  # the listener does hear
    finally:
        jax.monitoring.clear_event_listeners()


def test_callers_precision_is_left_alone_and_does_not_matter(small):
    weights, bias, points = small
    before = certify(weights, bias, points, 0.3, effort=QUICK)
    assert not jax.config.read("jax_enable_x64")
    with x64(True), jax.numpy_rank_promotion("raise"):
        with jax.numpy_dtype_promotion("strict"):
            inside = certify(weights, bias, points, 0.3, effort=QUICK)
    assert np.array_equal(before.certified, inside.certified)
    assert np.allclose(before.lower, inside.lower, atol=1e-3)


def test_certified_radius_is_certified_and_the_largest():
    weights, _, _ = random_network(0, width=12, size=6, count=30)
    total = weights.sum(0, dtype=np.float64)
    points = np.random.default_rng(1).normal(size=(30, 6)) * 0.5
    exact = points @ total / np.linalg.norm(total)
    radius = certified_radius(weights, 0.0, points, 1.0, stages=["linear"], halvings=12)
    assert np.all(radius <= np.maximum(exact, 0))
    assert np.all(radius >= np.clip(exact, 0, 1) - 1 / 2**11)
    assert (radius == 0).any() and (radius > 0.1).any()


@pytest.mark.parametrize(
    "norm, decompose",
    [
        ("l2", "numpy.linalg.eigh"),
        ("linf", "featpur_sim.certify.network.box_multiplier"),
    ],
)
def test_the_search_for_the_radius_decomposes_the_network_once(small, monkeypatch, norm, decompose):
    """The radii are those of a bisection by `certify`, to the bit."""
    weights, bias, points = small
    trial, step, expected = np.full(40, 1.0), 1.0, np.zeros(40)
    for _ in range(5):
        proved = certify(
            weights, bias, points, trial, norm=norm, stages=["q1"], effort=QUICK
        ).certified
        expected = np.where(proved, np.maximum(expected, trial), expected)
        step /= 2
        trial = np.where(proved, np.minimum(trial + step, 1.0), trial - step)
    calls = []
    real = {"l2": np.linalg.eigh, "linf": box_multiplier}[norm]
    monkeypatch.setattr(decompose, lambda *given: calls.append(1) or real(*given))
    found = certified_radius(
        weights, bias, points, 1.0, norm=norm, stages=["q1"], halvings=4, effort=QUICK
    )
    assert np.array_equal(found, expected) and len(np.unique(found)) > 3
    assert len(calls) == 1


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_box_bound_is_below_the_attack_and_above_the_separable_one(epsilon):
    weights, bias, points = random_network(2, width=32, size=10, count=60, bias=0.3)
    result = certify(weights, bias, points, epsilon, norm="linf", stages=["linear", "q1"])
    starts = [result.minimiser]
    attacked, _ = descend(weights, bias, points, epsilon, norm="linf", starts=starts)
    assert np.all(result.lower <= attacked + 1e-12)
    assert np.abs(result.minimiser).max() <= epsilon * (1 + 1e-12)
    # Section 8's −ε‖v‖₁ − ε²λΣμ_j for the same (θ, λ), with φ from a grid (so slightly too high).
    problem = Problem.build(weights, bias, points, epsilon, norm="linf")
    dual = q1_box_dual(problem)
    majorant = problem.network.majorant
    level = dual.curvature[:, 0] / problem.network.shape[0]
    u, t = problem.pre_activation, np.linspace(-1, 1, 4001)[:, None, None] * problem.reach
    phi = (threshold(u + t, problem.bias) - dual.slope * t + dual.curvature * t * t).min(0).sum(1)
    spent = epsilon * np.abs(dual.slope @ problem.weights).sum(1)
    separable = phi - spent - epsilon**2 * level * majorant.sum()
    assert np.all(problem.bound(dual) >= separable - 1e-3)
    assert np.median(problem.bound(dual) - separable) > 1e-2


def test_the_majorant_is_close_to_least():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    quadratic = factor @ factor.T
    majorant = box_multiplier(quadratic, np.zeros(len(quadratic)), 1.0)
    assert np.linalg.eigvalsh(np.diag(majorant) - quadratic)[0] > -1e-9
    # Dual certificate: Σμ ≥ ⟨Q, Y⟩ for every correlation matrix Y; the best Y is A⁻¹'s limit.
    inverse = np.linalg.inv(np.diag(majorant) - quadratic)
    scale = 1 / np.sqrt(np.diag(inverse))
    correlation = scale[:, None] * inverse * scale
    assert majorant.sum() <= (quadratic * correlation).sum() * (1 + 1e-4)


@pytest.mark.parametrize(("seed", "rest"), [(3, 1e-3), (6, None), (7, 1e-3)])
def test_a_majorant_of_one_dominating_direction_ends(seed, rest):
    """The mixture of a clean-trained network: the search for it went on for ever, 3 % too high."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=64)
    direction /= np.linalg.norm(direction)
    basis = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    spectrum = np.full(64, rest) if rest else rng.uniform(0, 3, 64) ** 4 / 27
    quadratic = 88 * np.outer(direction, direction) + (basis * spectrum) @ basis.T
    quadratic = (quadratic + quadratic.T) / 2
    majorant = box_multiplier(quadratic, np.zeros(len(quadratic)), 1.0)
    assert np.linalg.eigvalsh(np.diag(majorant) - quadratic)[0] > -1e-9 * 88
    # Least for a direction alone is reached at its signs.
    signs = np.sign(direction)
    assert signs @ quadratic @ signs <= majorant.sum() * (1 + 1e-6)
    assert majorant.sum() <= signs @ quadratic @ signs * (1 + 1e-4)


def test_smoothed_networks_are_bounded_below():
    weights, bias, points = random_network(2, width=24, size=8, count=40, bias=0.3)
    sigma = 0.01
    result = certify(weights, bias, points, 0.2, smoothing=sigma, effort=QUICK)
    sharp = certify(weights, bias, points, 0.2, effort=QUICK)
    problem = Problem.build(weights, bias, points, 0.2, smoothing=sigma)
    _, where = descend(weights, bias, points, 0.2)
    assert np.all(result.lower <= problem.value(where))
    assert 0 < result.certified.sum() <= sharp.certified.sum()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"radius": 0.0}, ValueError, "radius must be > 0 .*got 0.0"),
        ({"radius": -1.0}, ValueError, "radius must be > 0 .*got -1.0"),
        ({"radius": np.ones(3)}, ValueError, r"radius has shape \(3,\)"),
        ({"bias": -0.1}, ValueError, "bias must be ≥ 0 .*got -0.1"),
        ({"points": np.zeros((4, 3))}, ValueError, "points have dimension 3 but weights have 8"),
        ({"points": np.full((4, 8), np.nan)}, ValueError, "points must be finite .*got nan among"),
        ({"norm": "l1"}, NotCertified, "norm is 'l1'; only 'l2' and 'linf'"),
        ({"stages": ["q3"]}, ValueError, "stages contains 'q3'"),
        ({"smoothing": -1.0}, ValueError, "smoothing must be ≥ 0 .*got -1.0"),
        ({"perturbations": np.zeros((2, 8))}, ValueError, r"perturbations has shape \(2, 8\)"),
    ],
)
def test_bad_input_says_what_is_wrong(small, change, error, message):
    weights, bias, points = small
    arguments = {"weights": weights, "bias": bias, "points": points, "radius": 0.1} | change
    with pytest.raises(error, match=message):
        certify(**arguments)
