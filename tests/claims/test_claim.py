"""A claim judges what is measured for it, and fills its texts from that."""

import math

import pytest

from featpur_sim.claims.claim import Claim, judge
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import AtLeast, AtMost, WithinDistance, WithinFactor

NAN = math.nan


def rows(rule, measured):
    claim = Claim("C1", rule, lambda subject: measured, "{predicted:.1f}", "[D]", "of {what}")
    return judge([claim], None, "planted", lambda seeds: f"{seeds} seeds", " Noted.")


def test_a_row():
    measured = Measured(0.5, 0.4, 0.6, 3, predicted=0.52, note=" Counted.", words={"what": "a d"})
    assert rows(AtLeast(0.3, "it"), measured) == [
        {
            "id": "C1",
            "regime": "planted",
            "statement": "of a d",
            "source": "[D]",
            "predicted": "0.5",
            "measured": 0.5,
            "ci": [0.4, 0.6],
            "verdict": "supported",
            "rule": "supported if the interval of it lies at or above 0.3, contradicted if below "
            "it. Counted. Noted.",
            "seeds": "3 seeds",
        }
    ]
    assert type(rows(AtLeast(0.3, "it"), measured)[0]["verdict"]) is str


@pytest.mark.parametrize(
    "rule",
    [
        AtLeast(0.0, "it"),
        AtMost(0.0, "it"),
        WithinFactor(2.0, "k/d"),
        WithinDistance(1.0, "the predicted exponent"),
    ],
)
def test_without_an_interval_every_rule_is_inconclusive(rule):
    (row,) = rows(rule, Measured(0.5, NAN, NAN, 1, 0.5, words={"what": "a d"}))
    assert (row["verdict"], row["ci"]) == ("inconclusive at this size", None)


def test_what_the_subject_cannot_speak_to_has_no_row():
    assert rows(AtLeast(0.0, "it"), None) == []


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.98, 1.02, "supported"),
        (0.97, 1.02, "inconclusive at this size"),
        (1.03, 1.04, "contradicted"),
        (0.96, 0.97, "contradicted"),
    ],
)
def test_a_distance_from_the_prediction(low, high, verdict):
    measured = Measured(1.0, low, high, 3, predicted=1.0, words={"what": ""})
    (row,) = rows(WithinDistance(0.025, "the exponent"), measured)
    assert row["verdict"] == verdict and "lies within 0.025 of the exponent," in row["rule"]
