"""A row of the scorecard: a measured interval, a rule, a verdict (docs/claims.md).

A rule judges an interval and says in words how it does: a threshold stands once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from featpur_sim.statistics import fraction_interval, mean_interval, sampling_deviation

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive at this size"
ATTACKED_ONLY = "attacked only"
NO_VERDICT = "no verdict"

Row = dict[str, Any]


class AtLeast(NamedTuple):
    """Supported if the whole interval is at or above the threshold, contradicted if below.

    >>> rule = AtLeast(0.9, "the clean accuracy")
    >>> rule.judge(0.91, 0.95), str(rule)
    ('supported', 'supported if the interval of the clean accuracy lies at or above 0.9, ...')
    """

    threshold: float
    of: str
    note: str = ""

    def judge(self, low: float, high: float) -> str:
        """The verdict on an interval; NaN where there is none."""
        if np.isnan(low) or low < self.threshold <= high:
            return INCONCLUSIVE
        return SUPPORTED if low >= self.threshold else CONTRADICTED

    def __str__(self) -> str:
        return (
            f"supported if the interval of {self.of} lies at or above {self.threshold:g}, "
            f"contradicted if below it.{self.note}"
        )


class AtMost(NamedTuple):
    """Supported if the whole interval is at or below the threshold, contradicted if above."""

    threshold: float
    of: str
    note: str = ""

    def judge(self, low: float, high: float) -> str:
        """The verdict on an interval; NaN where there is none."""
        if np.isnan(low) or low <= self.threshold < high:
            return INCONCLUSIVE
        return SUPPORTED if high <= self.threshold else CONTRADICTED

    def __str__(self) -> str:
        return (
            f"supported if the interval of {self.of} lies at or below {self.threshold:g}, "
            f"contradicted if above it.{self.note}"
        )


class Within(NamedTuple):
    """Supported if the interval lies inside the bounds, contradicted if wholly outside."""

    low: float
    high: float
    words: str
    """Says the bounds: "within a factor 1.5 of k/d"."""
    note: str = ""

    def judge(self, low: float, high: float) -> str:
        """The verdict on an interval; NaN where there is none."""
        if np.isnan(low):
            return INCONCLUSIVE
        if low >= self.low and high <= self.high:
            return SUPPORTED
        return CONTRADICTED if high < self.low or low > self.high else INCONCLUSIVE

    def __str__(self) -> str:
        return (
            f"supported if the interval lies {self.words}, contradicted if outside it.{self.note}"
        )


def within_factor(factor: float, prediction: float, what: str, note: str = "") -> Within:
    """Within a factor of a prediction, either way."""
    words = f"within a factor {factor:g} of {what}"
    return Within(prediction / factor, prediction * factor, words, note)


class Stated(NamedTuple):
    """A rule of its own: its words, and (low, high) → verdict."""

    words: str
    judge: Callable[[float, float], str]
    note: str = ""

    def __str__(self) -> str:
        return self.words + self.note


Rule = AtLeast | AtMost | Within | Stated


class Counted(NamedTuple):
    """What a value is a fraction of: its spread over seeds cannot be less than that of counting."""

    points: float
    """Test points of one seed."""
    least: float = -1.0
    """Of its range: 0 for a fraction; −1 for a difference of fractions; the greatest is 1."""
    over: float | None = None
    """If the value is a difference of fractions divided by another, that other's mean: a share,
    which may leave any range."""


def interval(
    values: Any, counted: Counted | None = None, *, exact: bool = False
) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % t-interval.

    NaN for one seed, an undefined value, or seeds that all tie where no counting error is known
    (but for ``exact`` values, which are computed and not sampled).
    """
    array = np.asarray(values, float)
    if len(array) == 1 or not np.isfinite(array).all():
        return float(array.mean()), float("nan"), float("nan")
    if counted is None:
        if np.ptp(array) == 0 and not exact:
            return float(array.mean()), float("nan"), float("nan")
        return mean_interval(array)
    if counted.over is None:
        return fraction_interval(array, counted.points, least=counted.least)
    over = max(abs(counted.over), 1e-9)
    floor = sampling_deviation(float(array.mean()) * over, counted.points, len(array)) / over
    return mean_interval(array, floor=floor)


def make_row(
    id: str,
    statement: str,
    source: str,
    predicted: Any,
    values: Any,
    rule: Rule,
    counted: Counted | None = None,
) -> Row:
    """A row of the scorecard.

    Args:
        id: as the row shows it; so are the next three.
        statement: what is claimed.
        source: where it is claimed.
        predicted: what the theory says.
        values: one number per seed.
        rule: judges the interval, and says how.
        counted: for values that are fractions of test points.
    """
    mean, low, high = interval(values, counted)
    words = str(rule)
    if np.isnan(low):
        array = np.asarray(values, float)
        if len(array) == 1:
            words += " One seed has"
        elif np.isfinite(array).all():
            words += " Seeds that all tie have no spread to estimate, so"
        else:
            words += " An undefined value in some seed leaves"
        words += " no interval: inconclusive."
    return {
        "id": id,
        "statement": statement,
        "source": source,
        "predicted": predicted,
        "measured": mean,
        "ci": None if np.isnan(low) else [low, high],
        "verdict": rule.judge(low, high),
        "rule": words,
        "seeds": len(np.asarray(values)),
    }
