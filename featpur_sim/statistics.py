"""Confidence intervals: Student's t over seeds, Wilson's over samples, an exact lower limit.

Models nothing; it is the error bar that docs/theory.md asks for beside every measured figure
(opening paragraphs). Seeds are independent runs, so their spread is the uncertainty of a training
outcome; the Wilson interval covers only the finite test set of a single run.

By hand, and compared with SciPy's in the tests: ``binomtest`` and ``ttest_1samp`` take a hundred
times as long per call, their import more than half a second, and the latter knows no floor.
"""

import math
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


def mean_interval(
    values: ArrayLike,
    level: float = 0.95,
    *,
    floor: float = 0.0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float, float]:
    """Mean and two-sided Student-t interval: mean ± t·s/√n, with n − 1 degrees of freedom.

    Args:
        values: One finite number a seed, shape [n], n ≥ 2. Nothing is dropped.
        level: Coverage, in (0, 1).
        floor: A standard deviation that one value is known to have at least: s is not taken to be
            smaller. In units of `values`.
        bounds: Where the true mean must lie; the interval is cut to it, which costs no coverage.

    Returns:
        (mean, low, high), in the units of `values`.

    Raises:
        ValueError: If `values` is not 1-D, has fewer than 2 entries or a non-finite one, or `level`
            is out of range.

    Example:
        >>> mean, low, high = mean_interval([0.80, 0.82, 0.84])
        >>> f"{mean:.3f} {low:.3f} {high:.3f}"
        '0.820 0.770 0.870'
    """
    _check_level(level)
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or data.size < 2:
        raise ValueError(
            f"values has shape {data.shape}: must be 1-D with at least 2 entries, or there is no "
            "spread to estimate. Run more seeds."
        )
    if not np.isfinite(data).all():
        raise ValueError(
            f"values = {data.tolist()!r}: must be finite. A failed run is a result of its own: "
            "report it, do not average over it."
        )
    mean = float(data.mean())
    quantile = float(special.stdtrit(data.size - 1, (1 + level) / 2))
    half = quantile * max(float(data.std(ddof=1)), floor) / math.sqrt(data.size)
    low, high = np.clip([mean - half, mean + half], *bounds).tolist()
    return mean, low, high


def fraction_interval(
    values: ArrayLike, points: float, *, least: float = 0.0, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of fractions over seeds with a t-interval that knows they were counted on few points.

    Seeds that tie, or nearly so, do not have a spread of 0: each value is a mean over its own
    test points and scatters by at least `sampling_deviation`. The spread over seeds contains that
    scatter, so it is an estimate of something that is no smaller, and the larger of the two is
    taken [D]. The true mean is a fraction, so the interval is cut to [least, 1].

    Args:
        values: One fraction, or difference of two fractions of the same points, a seed: shape [n],
            n ≥ 2.
        points: Points that one seed's fraction was counted on, ≥ 1.
        least: 0 for fractions, −1 for differences of fractions.
        level: Coverage, in (0, 1).

    Returns:
        (mean, low, high), all in [least, 1].

    Raises:
        ValueError: As for `mean_interval`; or ``points`` is less than 1.

    Example:
        >>> mean, low, high = fraction_interval([1.0, 1.0, 1.0], 20)
        >>> f"{mean:.3f} {low:.3f} {high:.3f}"
        '1.000 0.903 1.000'
    """
    data = np.asarray(values, dtype=float)
    floor = sampling_deviation(float(data.mean()), points, data.size)
    return mean_interval(data, level, floor=floor, bounds=(least, 1.0))


def sampling_deviation(mean: float, points: float, seeds: int) -> float:
    """The least standard deviation of one seed's fraction, or difference of fractions. [D]

    A point adds −1, 0 or 1 to a difference of counts (0 or 1 to a count), so its variance is at
    least q(1 − q) with q = |mean|: that is where all changes have one sign. Over all N = seeds ·
    points, q is moved towards ½ by two successes and two failures (Agresti and Coull), which
    keeps it off 0 and 1: q = (N·|mean| + 2)/(N + 4).

    Args:
        mean: Over all seeds, in [−1, 1].
        points: Points of one seed, ≥ 1.
        seeds: Number of seeds.

    Returns:
        √(q(1 − q)/points).

    Raises:
        ValueError: ``points`` is less than 1.
    """
    if not points >= 1:
        raise ValueError(f"points = {points!r}: must be at least 1, the test points of one seed.")
    total = seeds * points
    q = (total * min(abs(mean), 1.0) + 2) / (total + 4)
    return math.sqrt(q * (1 - q) / points)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a probability p, from p̂ = successes/n.

    The interval is the set of p with |p̂ − p| ≤ q·√(p(1−p)/n), q the normal quantile. Unlike
    p̂ ± q·s it stays inside [0, 1] and has positive width at p̂ = 0 and 1.

    Args:
        successes: Number of successes, an integer in 0 … n.
        n: Number of independent samples, an integer ≥ 1.
        level: Coverage, in (0, 1).

    Returns:
        (low, high), each in [0, 1]; p̂ lies between them.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> f"{low:.3f} {high:.3f}"
        '0.490 0.943'
    """
    _check_level(level)
    _check_count(successes, n)
    fraction = successes / n
    q = float(special.ndtri((1 + level) / 2))
    centre = fraction + q**2 / (2 * n)
    half = q * math.sqrt(fraction * (1 - fraction) / n + (q / (2 * n)) ** 2)
    scale = 1 + q**2 / n
    # At p̂ = 0 or 1 one end is p̂ itself; rounding would carry it a hair out of [0, 1].
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def exact_lower_limit(successes: int, n: int, level: float = 0.95) -> float:
    """Clopper and Pearson's one-sided lower limit for a probability p: where "proved" leans on it.

    The least p with Pr[Bin(n, p) ≥ successes] > 1 − level. It lies below the true p with at
    least the stated probability at every n and p, which Wilson's interval does on average only.

    Args:
        successes: Number of successes, an integer in 0 … n.
        n: Number of independent samples, an integer ≥ 1.
        level: Coverage, in (0, 1).

    Returns:
        The limit, in [0, 1].

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> f"{exact_lower_limit(8, 10):.3f}"
        '0.493'
    """
    _check_level(level)
    _check_count(successes, n)
    return float(special.betaincinv(successes, n - successes + 1, 1 - level)) if successes else 0.0


def _check_count(successes: int, n: int) -> None:
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n = {n!r}: must be an integer ≥ 1, the number of samples. Pass a count.")
    if not isinstance(successes, Integral) or not 0 <= successes <= n:
        raise ValueError(
            f"successes = {successes!r}: must be an integer from 0 to n = {n!r}. "
            "Pass the count, not the fraction."
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: must be in (0, 1), a coverage. The default is 0.95.")
