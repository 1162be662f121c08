"""Where an interval ends exactly on a threshold, the words of the rule decide."""

import math

import pytest

from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import AtLeast, AtMost, FromBothSides, WithinDistance, WithinFactor
from featpur_sim.claims.verdict import Verdict

YES, OPEN, NO = Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.CONTRADICTED
BELOW, ABOVE = (math.nextafter(0.5, side) for side in (0.0, 1.0))


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (AtLeast(0.5, "x"), 0.5, 0.6, YES),
        (AtLeast(0.5, "x"), BELOW, 0.6, OPEN),
        (AtLeast(0.5, "x"), 0.4, 0.5, OPEN),
        (AtLeast(0.5, "x"), 0.4, BELOW, NO),
        (AtMost(0.5, "x"), 0.4, 0.5, YES),
        (AtMost(0.5, "x"), 0.4, ABOVE, OPEN),
        (AtMost(0.5, "x"), 0.5, 0.6, OPEN),
        (AtMost(0.5, "x"), ABOVE, 0.6, NO),
        (WithinFactor(2.0, "x"), 0.5, 2.0, YES),
        (WithinFactor(2.0, "x"), BELOW, 2.0, OPEN),
        (WithinFactor(2.0, "x"), 0.4, 0.5, OPEN),
        (WithinFactor(2.0, "x"), 0.4, BELOW, NO),
        (WithinDistance(0.5, "x"), 0.5, 1.5, YES),
        (WithinDistance(0.5, "x"), BELOW, 1.5, OPEN),
        (WithinDistance(0.5, "x"), 0.4, BELOW, NO),
    ],
)
def test_the_edge(rule, low, high, verdict):
    assert rule.judge(Measured((low + high) / 2, low, high, seeds=5, predicted=1.0)) == verdict


@pytest.mark.parametrize(
    ("low", "most", "verdict"),
    [(-0.5, 1.0, YES), (-ABOVE, 1.0, OPEN), (-ABOVE, -0.5, OPEN), (-ABOVE, -ABOVE, NO)],
)
def test_the_edge_of_what_is_bounded_from_both_sides(low, most, verdict):
    assert FromBothSides(0.5).judge(Measured(0.0, low, 1.0, seeds=5, most=most)) == verdict
