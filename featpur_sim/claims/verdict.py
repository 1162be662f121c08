"""A row of the scorecard: a measured interval, a threshold, a verdict (docs/claims.md).

The rules that claims.py states are made of these.
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


def above(low: float, high: float, threshold: float) -> str:
    """Supported if the whole interval is at or above the threshold."""
    if np.isnan(low) or low < threshold <= high:
        return INCONCLUSIVE
    return SUPPORTED if low >= threshold else CONTRADICTED


def below(low: float, high: float, threshold: float) -> str:
    """Supported if the whole interval is at or below the threshold."""
    if np.isnan(low) or low <= threshold < high:
        return INCONCLUSIVE
    return SUPPORTED if high <= threshold else CONTRADICTED


def between(low: float, high: float, bounds: tuple[float, float]) -> str:
    """Supported if the interval lies inside the bounds, contradicted if wholly outside."""
    if np.isnan(low):
        return INCONCLUSIVE
    if low >= bounds[0] and high <= bounds[1]:
        return SUPPORTED
    return CONTRADICTED if high < bounds[0] or low > bounds[1] else INCONCLUSIVE


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
    rule: str,
    judge: Callable,
    counted: Counted | None = None,
) -> Row:
    """A row of the scorecard.

    Args:
        id, statement, source, predicted, rule: as the row shows them.
        values: one number a seed.
        judge: (low, high) → verdict; NaN where there is no interval.
        counted: for values that are fractions of test points.
    """
    mean, low, high = interval(values, counted)
    if np.isnan(low):
        array = np.asarray(values, float)
        if len(array) == 1:
            rule += " One seed has"
        elif np.isfinite(array).all():
            rule += " Seeds that all tie have no spread to estimate, so"
        else:
            rule += " An undefined value in some seed leaves"
        rule += " no interval: inconclusive."
    return {
        "id": id,
        "statement": statement,
        "source": source,
        "predicted": predicted,
        "measured": mean,
        "ci": None if np.isnan(low) else [low, high],
        "verdict": judge(low, high),
        "rule": rule,
        "seeds": len(np.asarray(values)),
    }
