"""A row of the scorecard: a measured interval, a threshold, a verdict (docs/claims.md).

The rules that claims.py states are made of these.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from featpur_sim.statistics import mean_interval

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive at this size"
ATTACKED_ONLY = "attacked only"

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


def interval(values: Any) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % t-interval; NaN for one seed or an undefined value."""
    array = np.asarray(values, float)
    if len(array) == 1 or not np.isfinite(array).all():
        return float(array.mean()), float("nan"), float("nan")
    return mean_interval(array)


def make_row(
    id: str, statement: str, source: str, predicted: Any, values: Any, rule: str, judge: Callable
) -> Row:
    mean, low, high = interval(values)
    if np.isnan(low):
        alone = len(np.asarray(values)) == 1
        rule += " One seed has" if alone else " An undefined value in some seed leaves"
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
