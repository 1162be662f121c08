"""What was measured for a claim: a mean over seeds, its interval, and what it is held against."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from featpur_sim.statistics import fraction_interval, mean_interval, sampling_deviation


class Condition(NamedTuple):
    """What a prediction takes for granted, with its value in this run."""

    of: str
    value: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        """Whether the prediction covers the run as far as this goes."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        least = f"{self.least:g} ≤ " if self.least > 0 else ""
        return f"{least}{self.of} ≤ {self.most:g} (here {self.value:.3g})"


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
    conditions: tuple[Condition, ...] = ()
    """Where one is not met, the claim does not cover the run."""
    at: "Callable[[float], Measured] | None" = None
    """The same with intervals of another level; None where no verdict hangs on the interval."""


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
    values: ArrayLike,
    counted: Counted | None = None,
    *,
    exact: bool = False,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Mean over seeds with its t-interval.

    NaN for one seed, an undefined value, or seeds that all tie where no counting error is known
    (but for ``exact`` values, which are computed and not sampled).
    """
    array = np.asarray(values, float)
    if len(array) == 1 or not np.isfinite(array).all():
        return float(array.mean()), float("nan"), float("nan")
    if counted is None:
        if np.ptp(array) == 0 and not exact:
            return float(array.mean()), float("nan"), float("nan")
        return mean_interval(array, level)
    if counted.over is None:
        return fraction_interval(array, counted.points, least=counted.least, level=level)
    over = max(abs(counted.over), 1e-9)
    floor = sampling_deviation(float(array.mean()) * over, counted.points, len(array)) / over
    return mean_interval(array, level, floor=floor)


def ring_interval(
    values: ArrayLike, counted: Counted, *, level: float = 0.95
) -> tuple[float, float, float]:
    """`interval` for values on a ring of seeds, each of a seed and the one before it. [D]

    NaN for fewer than three values, of which none needs to be independent of another.
    """
    mean, low, high = interval(values, counted, level=level)
    n = np.size(values)
    if n < 3:
        return mean, float("nan"), float("nan")
    wider = ring_widening(n, level)
    least, most = (-math.inf, math.inf) if counted.over is not None else (counted.least, 1.0)
    return mean, max(mean - wider * (mean - low), least), min(mean + wider * (high - mean), most)


def ring_widening(n: int, level: float) -> float:
    """How much wider than Student's the interval of n ≥ 3 neighbours on a ring is. [D]

    Neighbours may have any correlation ρ up to ½: each is h(X_{s−1}, X_s) with independent X, so
    their covariance is at most half of their variance (Hoeffding). The mean then has the variance
    (σ²/n)(1 + 2ρ), and s² is σ²(1 − 2ρ/(n − 1)) on average. At ρ = ½ the quotient is
    2(n − 1)/(n − 2), and s², whose eigenvalues are 1 + cos(2πj/n), has (n − 2)²/(3n/2 − 4) degrees
    of freedom instead of n − 1 (Satterthwaite).
    """
    freedom = (n - 2) ** 2 / (1.5 * n - 4)
    upper = (1 + level) / 2
    quantiles = special.stdtrit(freedom, upper) / special.stdtrit(n - 1, upper)
    return math.sqrt(2 * (n - 1) / (n - 2)) * float(quantiles)


def over_seeds(
    values: ArrayLike,
    counted: Counted | None = None,
    *,
    above: ArrayLike | None = None,
    predicted: float = float("nan"),
    note: str = "",
    conditions: tuple[Condition, ...] = (),
    **words: Any,
) -> Measured:
    """The mean of one number per seed; where it has no interval, the note says why.

    Args:
        values: one number per seed.
        counted: for values that are fractions of test points.
        above: for values that are lower bounds: the upper bounds, one per seed.
        predicted: see `Measured`; so are the rest.
        note: where the values are from.
        conditions: of the prediction.
        words: by name.
    """
    array = np.asarray(values, float)
    if np.isnan(interval(array, counted)[1]):
        note += f" {_why_none(array)} no interval: inconclusive."

    def at(level: float) -> Measured:
        most = float("nan") if above is None else interval(above, counted, level=level)[2]
        mean, low, high = interval(array, counted, level=level)
        seeds = len(array)
        return Measured(mean, low, high, seeds, predicted, most, note, words, conditions, at)

    return at(0.95)


def over_ring(values: ArrayLike, counted: Counted) -> Measured:
    """The mean of one number per pair of neighbours on a ring of seeds (`ring_interval`)."""
    array = np.asarray(values, float)
    if len(array) < 3:
        note = " Fewer than three neighbours on the ring of seeds have no interval: inconclusive."
    else:
        note = (
            " Seed s is attacked with what works on the clean network of its neighbour on a ring, "
            "so that neighbours share a network and are not independent: the interval is "
            f"{ring_widening(len(array), 0.95):.2f} times Student's, which allows for the greatest "
            "dependence that neighbours can have."
        )

    def at(level: float) -> Measured:
        found = ring_interval(array, counted, level=level)
        return Measured(*found, len(array), note=note, at=at)

    return at(0.95)


def _why_none(values: np.ndarray) -> str:
    if len(values) == 1:
        return "One seed has"
    if np.isfinite(values).all():
        return "Seeds that all tie have no spread to estimate, so"
    return "An undefined value in some seed leaves"
