"""What was measured for a claim: a mean over seeds, its interval, and what it is held against."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from featpur_sim.statistics import fraction_interval, mean_interval, sampling_deviation


class Measured(NamedTuple):
    """A value and its 95 % interval."""

    mean: float
    low: float
    """NaN where there is no interval, and so is ``high``."""
    high: float
    seeds: int
    """How many values the mean is of."""
    predicted: float = float("nan")
    """What a rule compares with, if it compares with a prediction."""
    most: float = float("nan")
    """If the values are lower bounds: upper end of the interval of the upper bounds beside them."""
    note: str = ""
    """What it adds to the rule."""
    words: Mapping[str, Any] = MappingProxyType({})
    """What the ``{names}`` in the texts of a claim stand for."""


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
    values: ArrayLike, counted: Counted | None = None, *, exact: bool = False
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


def over_seeds(
    values: ArrayLike,
    counted: Counted | None = None,
    *,
    above: ArrayLike | None = None,
    predicted: float = float("nan"),
    note: str = "",
    **words: Any,
) -> Measured:
    """The mean of one number per seed; where it has no interval, the note says why.

    Args:
        values: one number per seed.
        counted: for values that are fractions of test points.
        above: for values that are lower bounds: the upper bounds, one per seed.
        predicted: see `Measured`; so are the rest.
        note: where the values are from.
        words: by name.
    """
    array = np.asarray(values, float)
    mean, low, high = interval(array, counted)
    most = float("nan") if above is None else interval(above, counted)[2]
    if np.isnan(low):
        note += f" {_why_none(array)} no interval: inconclusive."
    return Measured(mean, low, high, len(array), predicted, most, note, words)


def _why_none(values: np.ndarray) -> str:
    if len(values) == 1:
        return "One seed has"
    if np.isfinite(values).all():
        return "Seeds that all tie have no spread to estimate, so"
    return "An undefined value in some seed leaves"
