"""Confidence intervals against scipy, against their definition, and by coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from featpur_sim.statistics import (
    exact_lower_limit,
    fraction_interval,
    mean_interval,
    wilson_interval,
)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_mean_interval_equals_scipy(n, level):
    values = np.random.default_rng(n).normal(3, 2, size=n)
    mean, low, high = mean_interval(values, level)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(
        stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values)), rel=1e-9
    )


def test_mean_interval_covers_at_its_level():
    # With n = 3 a normal quantile would cover .82 only; the standard error of 4000 trials is .0034.
    samples = np.random.default_rng(0).normal(size=(4000, 3))
    intervals = np.array([mean_interval(row)[1:] for row in samples])
    coverage = np.mean((intervals[:, 0] < 0) & (intervals[:, 1] > 0))
    assert abs(coverage - 0.95) < 0.0103


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (831, 1000), (1, 1)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_interval_equals_scipy(successes, n, level):
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    low, high = wilson_interval(successes, n, level)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(3, 10), (400, 1000)])
def test_wilson_ends_solve_the_score_equation(successes, n):
    for end in wilson_interval(successes, n, 0.95):
        score = (successes / n - end) / math.sqrt(end * (1 - end) / n)
        assert abs(score) == pytest.approx(stats.norm.ppf(0.975), rel=1e-9)


def test_wilson_interval_stays_in_range_at_the_ends():
    for n in range(1, 60):
        assert wilson_interval(0, n)[0] == 0.0 < wilson_interval(0, n)[1] < 1
        assert wilson_interval(n, n)[1] == 1.0 > wilson_interval(n, n)[0] > 0


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (831, 1000), (1, 1)])
@pytest.mark.parametrize("level", [0.8, 0.9875])
def test_exact_lower_limit_equals_scipy(successes, n, level):
    expected = stats.binomtest(successes, n, alternative="greater").proportion_ci(level, "exact")
    assert exact_lower_limit(successes, n, level) == pytest.approx(expected.low, abs=1e-12)


def excess(limit, n, p):
    """Pr[limit(X, n) > p] for X ~ Bin(n, p), by summation over all counts."""
    limits = np.array([limit(x, n) for x in range(n + 1)])
    return stats.binom.pmf(np.arange(n + 1), n, p)[limits > p].sum()


def test_exact_lower_limit_covers_at_every_p():
    for n in (5, 20, 100):
        for p in (0.02, 0.5, 0.66, 0.9):
            assert excess(exact_lower_limit, n, p) <= 0.05
    # As Wilson's lower end does not.
    assert excess(lambda x, n: wilson_interval(x, n, 0.9)[0], 20, 0.5) > 0.055


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5], r"values has shape \(1,\): must"),
        ([[0.5, 0.6]], r"values has shape \(1, 2\): must"),
        ([0.5, math.nan, 0.6], r"values = .*nan.*must be finite"),
        ([0.5, math.inf], r"values = .*inf.*must be finite"),
    ],
)
def test_mean_interval_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "n = 0: must"),
        ((-1, 5), "successes = -1: must"),
        ((6, 5), "successes = 6: must"),
        ((1, 5, 1.0), "level = 1.0: must"),
        ((1, 5, math.nan), "level = nan: must"),
    ],
)
@pytest.mark.parametrize("interval", [wilson_interval, exact_lower_limit])
def test_intervals_of_counts_refuse(interval, arguments, message):
    with pytest.raises(ValueError, match=message):
        interval(*arguments)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_mean_interval_refuses_level(level):
    with pytest.raises(ValueError, match=f"level = {level}: must"):
        mean_interval([0.1, 0.2], level)


@pytest.mark.parametrize(
    ("p", "points", "seeds"),
    [(0.5, 20, 2), (0.97, 20, 3), (0.98, 200, 5), (0.02, 50, 5), (0.995, 1000, 5), (0.9, 10, 5)],
)
def test_intervals_of_fractions_cover_and_stay_in_range(p, points, seeds):
    # The standard error of 2000 trials at .95 is .0049. Where the counts are few the t-interval
    # alone covers much less: at p = .98 on 20 points most seeds tie at 1.
    counted = np.random.default_rng(1).binomial(points, p, size=(2000, seeds)) / points
    found = np.array([fraction_interval(row, points)[1:] for row in counted])
    assert ((found >= 0) & (found <= 1)).all() and (found[:, 1] > found[:, 0]).all()
    assert np.mean((found[:, 0] <= p) & (p <= found[:, 1])) > 0.94


def test_differences_of_fractions_that_tie_have_an_interval_with_a_width():
    mean, low, high = fraction_interval([0.0, 0.0], 20, least=-1.0)
    assert mean == 0 and -0.5 < low < -0.3 and high == -low
    assert fraction_interval([0.9, 0.7, 1.0], 20)[2] == 1.0
    with pytest.raises(ValueError, match="points = 0"):
        fraction_interval([0.5, 0.6], 0)
