"""How often the intervals of `featpur fit` hold the true exponent (docs/how-to/fit.md).

    python experiments/fit_coverage.py

A made-up sweep of 4 d × 3 k whose seeds start from common random numbers. Seed s adds one normal
number to ln y at every point (``level``), two to its growth with ln d and ln k (``growth``), and
one to each of its runs (0.1); runs fail at random (``missing``). Each row is 2000 sweeps, so 4000
intervals. In the last column all runs are taken as independent.
"""

import itertools

import numpy as np
import scipy.stats

from featpur_sim.claims.power_law import half_widths

NOISE, SWEEPS = 0.1, 2000


def main():
    places = itertools.product((32, 64, 128, 256), (4, 6, 9))
    design = np.array([(1, np.log(d), np.log(k)) for d, k in places])
    print("seeds  level  growth  missing   covered  independent")
    for seeds, (level, growth), missing in itertools.product(
        (3, 5, 10), ((0.1, 0.0), (0.3, 0.0), (0.3, 0.2), (1.0, 0.0)), (0.0, 0.05, 0.15)
    ):
        rates = coverage(design, seeds, level, growth, missing)
        print(
            f"{seeds:5d}  {level:5.1f}  {growth:6.1f}  {missing:7.2f}  {rates[0]:8.3f}  "
            f"{rates[1]:11.3f}"
        )


def coverage(design, seeds, level, growth, missing):
    """The fraction of intervals that hold the exponent: those of the package, and independent."""
    rng = np.random.default_rng(0)
    solve = np.linalg.pinv(design)
    centred = design[:, 1:] - design[:, 1:].mean(axis=0)
    shape = len(design), seeds
    covered = []
    while len(covered) < SWEEPS:
        common = level * rng.normal(size=seeds) + growth * centred @ rng.normal(size=(2, seeds))
        samples = common + NOISE * rng.normal(size=shape)  # the true exponents are 0
        samples[rng.random(shape) < missing] = np.nan
        if np.isfinite(samples).sum(axis=1).min() < 2:
            continue  # no interval
        found = np.abs(solve @ np.nanmean(samples, axis=1))[1:]
        both = half_widths(samples, solve), independent(samples, solve)
        covered.append([found <= half for half in both])
    return np.mean(covered, axis=(0, 2))


def independent(samples, solve):
    """Half-widths from the scatter of the runs within each point."""
    counts = np.isfinite(samples).sum(axis=1)
    variances = np.nanvar(samples, axis=1, ddof=1) / counts
    quantile = scipy.stats.t.ppf(0.975, np.sum(counts - 1))
    return quantile * np.sqrt(solve[1:] ** 2 @ variances)


if __name__ == "__main__":
    main()
