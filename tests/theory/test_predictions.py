"""Predictions, the exact margin law and the pure network (docs/theory.md §1, §5.1, §5.2)."""

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from featpur_sim.theory import predictions as theory
from featpur_sim.theory.margin import is_tie, margin_law, margin_probability, tie_probability
from featpur_sim.theory.predictions import margin_ceiling
from featpur_sim.theory.pure_network import (
    best_pure_network,
    labelled_sample,
    pure_network_robust_accuracy,
    worst_case_bounds,
)


def soft(u, bias):
    return np.sign(u) * np.maximum(np.abs(u) - bias, 0)


# --- scalings ----------------------------------------------------------------------------------

# Worked by hand at d = 10⁴, k = 16, τ = 0.1, where no two predictions agree.
SCALINGS = [
    (theory.clean_dense_ratio, {"d": 10_000, "k": 16}, 0.0016),
    (theory.clean_dense_norm_ratio, {"d": 10_000, "k": 16}, 0.16),
    (theory.adversarial_dense_ratio, {"d": 10_000, "k": 16, "radius": 0.1}, 0.00025),
    (theory.purification_factor, {"k": 16, "radius": 0.1}, 6.4),
    (theory.clean_interference, {"d": 10_000, "k": 16}, 0.0256),
    (theory.dense_attack_strength, {"d": 10_000, "k": 16, "radius": 0.1}, 0.256),
    (theory.dense_radius, {"d": 10_000, "k": 16}, 0.390625),
    (theory.critical_radius, {"k": 16}, 0.25),
]


@pytest.mark.parametrize(("predict", "arguments", "expected"), SCALINGS)
def test_scaling_value_and_pedigree(predict, arguments, expected):
    prediction = predict(**arguments)
    assert prediction.value == pytest.approx(expected, rel=1e-12)
    assert prediction.source.startswith(("[P]", "[D] §5"))
    assert prediction.name and prediction.formula and prediction.holds
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.value = 0.0


def test_scalings_fit_together():
    d, k, radius = 5000, 30.0, 0.04
    low, high = theory.window(d)
    clean, adversarial = (
        theory.clean_dense_ratio(d, k).value,
        theory.adversarial_dense_ratio(d, k, radius).value,
    )
    assert clean / adversarial == pytest.approx(theory.purification_factor(k, radius).value)
    biting = theory.dense_radius(d, k).value
    assert theory.dense_attack_strength(d, k, biting).value == pytest.approx(1)
    # The ends of the window are where the two consequences of §5.1 begin and end.
    assert theory.dense_radius(d, low).value == pytest.approx(theory.critical_radius(low).value)
    assert theory.clean_interference(d, high).value == pytest.approx(1)
    assert theory.sparsity_exponent(d, low) == pytest.approx(1 / 3)
    assert theory.sparsity_exponent(d, high) == pytest.approx(1 / 2)


# --- exact margin law --------------------------------------------------------------------------


def enumerate_law(D, k, p_one):
    """Yield (probability, a, b) over all 5^D outcomes of the D coordinates."""
    outcomes = [(1 - (k + p_one) / D, 0, 0)]
    for sign in (1, -1):
        outcomes += [(p_one / D / 2, sign, 0), (k / D / 2, 0, sign)]
    for combination in itertools.product(outcomes, repeat=D):
        chances, ones, smalls = zip(*combination, strict=True)
        yield math.prod(chances), sum(ones), sum(smalls)


# k, p₁ and √k as a fraction (None: irrational); k + p₁ = D has no zero coordinates.
LAWS = [
    (1, 1, 0.0, Fraction(1)),
    (2, 1, 1.0, Fraction(1)),
    (5, 4, 1.0, Fraction(2)),
    (6, 4, 0.5, Fraction(2)),
    (5, 2.25, 2.0, Fraction(3, 2)),
    (5, 2.56, 1.0, Fraction(8, 5)),
    (5, 2, 1.0, None),
    (4, 3, 1.0, None),
]


@pytest.mark.parametrize(("D", "k", "p_one", "root"), LAWS)
def test_probabilities_equal_enumeration(D, k, p_one, root):
    def tied(a, b):
        return a == b == 0 if root is None else a + b / root == 0

    law = list(enumerate_law(D, k, p_one))
    tie = sum(p for p, a, b in law if tied(a, b))
    assert tie_probability(D, k, p_one) == pytest.approx(tie, abs=1e-14)
    for threshold in (0.0, 0.1, 1 / math.sqrt(k), 0.9, 1.0, 1.7, D + 1.0):
        above = sum(
            p for p, a, b in law if not tied(a, b) and abs(a + b / math.sqrt(k)) - threshold > 1e-12
        )
        measured = margin_probability(D, k, p_one, threshold)
        assert measured == pytest.approx(above / (1 - tie), abs=1e-13)


@pytest.mark.parametrize(("D", "k"), [(64, 5), (100, 9)])
def test_probabilities_match_monte_carlo(D, k):
    n = 200_000
    rng = np.random.default_rng(7)
    nonzero = rng.multinomial(D, [1 / D, k / D, 1 - (k + 1) / D], size=n)
    # A sum of c random signs is 2·Binomial(c, ½) − c.
    a, b = (2 * rng.binomial(nonzero[:, i], 0.5) - nonzero[:, i] for i in (0, 1))
    tied = (a == 0) & (b == 0) if k == 5 else 3 * a + b == 0
    tie = tie_probability(D, k)
    assert abs(tied.mean() - tie) < 4 * math.sqrt(tie * (1 - tie) / n)
    margins = np.abs(a + b / math.sqrt(k))[~tied]
    for threshold in (0.4, 0.7, 1.2):
        p = margin_probability(D, k, 1.0, threshold)
        assert abs(np.mean(margins > threshold) - p) < 4 * math.sqrt(p * (1 - p) / margins.size)


@pytest.mark.parametrize(("D", "k", "p_one"), [(64, 5, 1.0), (100, 9, 2.5), (7, 6, 1.0)])
def testmargin_law_is_a_symmetric_law_with_the_right_moments(D, k, p_one):
    a, b, probability = margin_law(D, k, p_one)
    joint = {
        (i, j): probability[row, column]
        for row, i in enumerate(a[:, 0].tolist())
        for column, j in enumerate(b[0].tolist())
    }
    assert probability.sum() == pytest.approx(1, abs=1e-13)
    assert probability.min() > -1e-15
    assert all(p == pytest.approx(joint[-i, j], abs=1e-15) for (i, j), p in joint.items())
    assert all(p == pytest.approx(joint[i, -j], abs=1e-15) for (i, j), p in joint.items())
    assert (probability * a**2).sum() == pytest.approx(p_one, rel=1e-11)
    assert (probability * b**2).sum() == pytest.approx(k, rel=1e-11)


@pytest.mark.parametrize("k", [50, 1000])
def test_ties_approach_the_poisson_limit_at_rate_one_over_D(k):
    # a and b become independent differences of Poisson counts (Skellam laws).
    limit = special.ive(0, 1.0) * special.ive(0, k)
    errors = [1 - tie_probability(D, k) / limit for D in (10_000, 100_000)]
    assert 0 < errors[0] < 2e-4
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.01)


def test_margin_probability_at_thresholds_that_are_margins():
    # √k = 3: margins are multiples of 1/3, so the law steps exactly there and "above" is strict.
    below, at = (margin_probability(100, 9, 1.0, t) for t in (1 / 3 - 1e-6, 1 / 3))
    assert below == 1.0
    assert at < 0.8
    assert margin_probability(100, 9, 1.0, 0.1 * 3 + 1 / 3 - 0.3) == at  # rounded differently
    assert margin_probability(100, 9, 1.0, 0) == 1.0


def test_margin_ceiling_is_the_margin_probability_at_the_scaled_radius():
    ceilings = [margin_ceiling(256, 12, 1.0, radius).value for radius in (0.02, 0.1, 0.3)]
    assert ceilings == [
        margin_probability(256, 12, 1.0, r * math.sqrt(12)) for r in (0.02, 0.1, 0.3)
    ]
    assert ceilings[0] > ceilings[1] > ceilings[2]
    assert "§5.2" in margin_ceiling(256, 12, 1.0, 0.1).source


def test_is_tie_broadcasts_and_reads_decimals():
    a = np.arange(-8, 9)[:, None]
    b = np.arange(-8, 9)[None, :]
    assert np.array_equal(is_tie(a, b, 2.56), 8 * a + 5 * b == 0)
    assert np.array_equal(is_tie(a, b, 2.57), (a == 0) & (b == 0))
    assert np.array_equal(is_tie(a, b, 4), 2 * a + b == 0)


# --- the pure network --------------------------------------------------------------------------


def directions(d):
    """Unit vectors of the non-negative orthant; the worst δ is −τ times one, f being monotone."""
    angle = np.linspace(0, np.pi / 2, 4001 if d == 2 else 201)
    if d == 1:
        return np.ones((1, 1))
    if d == 2:
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    s, t = np.meshgrid(angle, angle)
    grid = np.stack([np.sin(s) * np.cos(t), np.sin(s) * np.sin(t), np.cos(s)], axis=-1)
    return grid.reshape(-1, 3)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(("radius", "bias"), [(0.3, 0.2), (0.5, 0.1), (0.2, 0.4), (1.0, 0.2)])
def test_bounds_enclose_exhaustive_minimum(d, radius, bias):
    x = np.random.default_rng(d).uniform(-1, 1, size=(150, d))
    lower, upper = worst_case_bounds(x, radius, bias)
    exact = np.array([soft(row - radius * directions(d), bias).sum(axis=1).min() for row in x])
    # The grid is feasible, so `exact` is never below the minimum, and above it by its spacing only.
    spacing = {1: 0.0, 2: 4e-4, 3: 8e-3}[d]
    assert np.all(lower <= exact + 1e-12)
    assert np.all(upper >= exact - radius * spacing - 1e-9)
    assert np.all(lower <= upper + 1e-12)
    # The bracket is a bracket of the sign: it leaves no point of this sample undecided.
    assert np.array_equal(lower > 1e-12, upper > 1e-12)
    # Where the minimum is positive the feasible point behind the upper bound attains it.
    assert not np.any((exact > 0) & (upper > exact + 1e-6))


def test_bounds_are_exact_for_a_linear_network():
    x = np.random.default_rng(0).normal(size=(200, 40))
    lower, upper = worst_case_bounds(x, 0.7, 0.0)
    exact = x.sum(axis=1) - 0.7 * math.sqrt(40)
    np.testing.assert_allclose(lower, exact, atol=1e-12)
    np.testing.assert_allclose(upper, exact, atol=1e-6)


def test_bounds_are_exact_for_equal_active_coordinates():
    x = np.zeros((1, 30))
    x[0, :7] = 0.9
    lower, upper = worst_case_bounds(x, 0.5, 0.2)
    exact = 7 * (0.9 - 0.2) - 0.5 * math.sqrt(7)
    assert lower[0] == pytest.approx(exact, abs=1e-12)
    assert upper[0] == pytest.approx(exact, abs=1e-7)


def test_bounds_hold_against_gradient_attack():
    d, k = 64, 5
    radius, bias = 0.3 / math.sqrt(k), 0.2 / math.sqrt(k)
    x = labelled_sample(d, k, 0.3, 1.0, 1500, seed=3)
    lower, upper = worst_case_bounds(x, radius, bias)
    rng = np.random.default_rng(4)
    attacked = soft(x, bias).sum(axis=1)
    for _ in range(3):
        shift = rng.normal(size=x.shape)
        shift *= radius / np.linalg.norm(shift, axis=1, keepdims=True)
        for _ in range(40):
            gradient = (np.abs(x + shift) > bias).astype(float)
            length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
            shift -= 0.1 * radius * gradient / length
            shift *= np.minimum(1, radius / np.linalg.norm(shift, axis=1, keepdims=True))
            attacked = np.minimum(attacked, soft(x + shift, bias).sum(axis=1))
    assert np.all(lower <= attacked + 1e-12)
    # As an attack, the feasible point behind the upper bound breaks at least as many points.
    assert np.mean(upper > 1e-12) <= np.mean(attacked > 1e-12)
    # Near the decision the bracket is narrow: it is a measurement, not two far-apart bounds.
    assert np.max((upper - lower)[np.abs(lower) < 0.3]) < 0.02


def test_robust_accuracy_falls_with_the_radius():
    x = labelled_sample(100, 5, 0.3, 1.0, 1000, seed=0)
    bounds = [worst_case_bounds(x, radius, 0.1) for radius in (0.02, 0.1, 0.2, 0.4)]
    for side in (0, 1):
        values = np.array([pair[side] for pair in bounds])
        assert np.all(np.diff(values, axis=0) <= 1e-6)
        assert np.all(np.diff((values > 1e-12).mean(axis=1)) < 0)


def test_robust_accuracy_meets_clean_accuracy_at_radius_zero_and_vanishes_at_large_radius():
    tiny = pure_network_robust_accuracy(64, 5, 0.3, 1e-9, 0.1, n=1000)
    assert tiny.lower == tiny.upper == tiny.clean_accuracy < 1
    huge = pure_network_robust_accuracy(64, 5, 0.3, 5.0, 0.1, n=1000)
    assert huge.lower == huge.upper == 0
    assert huge.clean_accuracy == tiny.clean_accuracy


# From 40,000 points of another seed: d, k, b√k, robust accuracy at τ = 0.3/√k, clean accuracy.
REFERENCE = [(100, 5, 0.2, 0.8579, 0.9983), (196, 9, 0.5, 0.7870, 0.9650)]


@pytest.mark.parametrize(("d", "k", "multiple", "robust", "clean"), REFERENCE)
def test_robust_accuracy_is_reproduced(d, k, multiple, robust, clean):
    root = math.sqrt(k)
    net = pure_network_robust_accuracy(d, k, 0.3, 0.3 / root, multiple / root, n=4000, seed=0)
    assert net.lower <= net.upper <= net.lower + 0.001
    error = math.sqrt(robust * (1 - robust) / 4000)
    assert abs(net.lower - robust) < 3 * error
    assert abs(net.clean_accuracy - clean) < 3 * math.sqrt(clean * (1 - clean) / 4000)
    assert net.n == 4000 and net.bias == multiple / root


def test_best_pure_network_is_the_best_of_its_grid():
    arguments = {"n": 1000, "seed": 5, "p_one": 2.0}
    multiples = (0.1, 0.2, 0.5, 0.9)
    best = best_pure_network(64, 5, 0.3, 0.13, multiples=multiples, **arguments)
    singles = [
        pure_network_robust_accuracy(64, 5, 0.3, 0.13, t / math.sqrt(5), **arguments)
        for t in multiples
    ]
    assert best == max(singles, key=lambda net: net.lower)
    assert len({net.lower for net in singles}) == 4


def test_sample_depends_on_the_seed_only():
    nets = [
        pure_network_robust_accuracy(64, 5, 0.3, 0.13, 0.1, n=500, seed=seed) for seed in (1, 1, 2)
    ]
    assert nets[0] == nets[1] != nets[2]


@pytest.mark.parametrize("k", [5, 9])
def test_sample_follows_the_exactmargin_law(k):
    n, d = 20_000, 64
    margins = labelled_sample(d, k, 0.0, 1.0, n, seed=1).sum(axis=1)
    assert margins.min() > 1e-6  # labelled, and turned so that the right sign is +
    for threshold in (0.4, 0.7, 1.2):
        p = margin_probability(d, k, 1.0, threshold)
        assert abs(np.mean(margins > threshold) - p) < 4 * math.sqrt(p * (1 - p) / n)
    noisy = labelled_sample(d, k, 0.3, 1.0, n, seed=1)
    clean = labelled_sample(d, k, 0.0, 1.0, n, seed=1)
    assert np.std(noisy - clean) == pytest.approx(0.3 / math.sqrt(d), rel=0.01)


# --- bad input ---------------------------------------------------------------------------------

BAD = [
    (theory.clean_dense_ratio, (0, 1), "d = 0"),
    (theory.clean_dense_ratio, (10, 0.5), "k = 0.5"),
    (theory.clean_dense_ratio, (10, math.nan), "k = nan"),
    (theory.clean_dense_ratio, (10, 11), "k = 11"),
    (theory.clean_dense_norm_ratio, (10, 11), "k = 11"),
    (theory.clean_interference, (10, 11), "k = 11"),
    (theory.dense_radius, (10, 11), "k = 11"),
    (theory.critical_radius, (math.inf,), "k = inf"),
    (theory.adversarial_dense_ratio, (10, 2, 0.0), "radius = 0.0"),
    (theory.purification_factor, (2, -1.0), "radius = -1.0"),
    (theory.dense_attack_strength, (10, 2, math.nan), "radius = nan"),
    (theory.window, (-3,), "d = -3"),
    (theory.sparsity_exponent, (1, 1), "d = 1"),
    (tie_probability, (0, 1), "D = 0"),
    (tie_probability, (10, 2, -0.1), "p_one = -0.1"),
    (tie_probability, (10, 9.5, 1.0), r"k \+ p_one = 10.5"),
    (margin_probability, (10, 2, 1.0, -0.1), "threshold = -0.1"),
    (margin_probability, (10, 2, 1.0, math.nan), "threshold = nan"),
    (margin_ceiling, (10, 2, 1.0, 0.0), "radius = 0.0"),
    (pure_network_robust_accuracy, (10, 10, 0.3, 0.1, 0.1), r"k \+ p_one = 11"),
    (pure_network_robust_accuracy, (10, 2, -0.3, 0.1, 0.1), "sigma_x = -0.3"),
    (pure_network_robust_accuracy, (10, 2, 0.3, 0.0, 0.1), "radius = 0.0"),
    (pure_network_robust_accuracy, (10, 2, 0.3, 0.1, -0.1), "bias = -0.1"),
    (worst_case_bounds, (np.zeros(3), 0.1, 0.1), r"x has shape \(3,\)"),
]


@pytest.mark.parametrize(("call", "arguments", "message"), BAD)
def test_bad_input_is_named(call, arguments, message):
    with pytest.raises(ValueError, match=rf"{message}.*must"):
        call(*arguments)


def test_bad_counts_and_grids_are_named():
    with pytest.raises(ValueError, match=r"n = 0: must"):
        pure_network_robust_accuracy(10, 2, 0.3, 0.1, 0.1, n=0)
    with pytest.raises(ValueError, match=r"multiples is empty: must"):
        best_pure_network(10, 2, 0.3, 0.1, multiples=())
