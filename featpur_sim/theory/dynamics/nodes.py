"""Where the expectations of the reduced dynamics are taken (docs/dynamics.md, docs/theory.md §7).

In the gauge w* = 1 a sample of the two-level law enters only through how many of its d coordinates
take each of the five values 1, −1, 1/√k, −1/√k, 0 and through the sum of the noise, Σ_j ξ_j ~
N(0, σ_x²). These six numbers are a *node*. The law is symmetric under x → −x, so every node is
turned to the label y = +1, and ties are left out [D] §1.

Two sets of nodes: `sampled_nodes`, a randomised quasi-Monte Carlo sample whose replicates give the
error of anything computed from it, at any d; and `exact_nodes`, all counts with their exact
probabilities times Gauss-Hermite points of the noise, for small k.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from featpur_sim._ground.switches import x64
from featpur_sim._ground.types import Array, Float
from featpur_sim.theory.margin import Floats, check_law, is_tie

CATEGORIES = 5


_Columns = tuple[Floats, Floats, Floats]
"""Counts, noise and weights of one set of nodes."""


class Nodes(NamedTuple):
    """Samples with label +1, and their weights."""

    counts: Float[Array | np.ndarray, "*R n 5"]
    """How many coordinates are 1, −1, 1/√k, −1/√k and 0."""
    noise: Float[Array | np.ndarray, "*R n"]
    """Σ_j ξ_j/σ_x, standard normal."""
    weight: Float[Array | np.ndarray, "*R n"]
    """Probability given a label: sums to 1, and is 0 for ties."""


def double_precision() -> AbstractContextManager[None]:
    """Float64 inside a ``with`` block, whatever the user's JAX setting.

    Variances of order σ_x²/d are differences of numbers of order 1: float32 loses them at large d.
    """
    return x64(True)


def sampled_nodes(
    d: int, k: float, p_one: float = 1.0, *, n: int = 1024, replicates: int = 4, seed: int = 0
) -> Nodes:
    """Independent scrambled Sobol samples of the counts and of the noise.

    The same seed gives the same uniform variables at every d and k (common random numbers), so that
    differences between parameters are far less noisy than the values themselves.

    Args:
        d: number of coordinates.
        k: sparsity; k + p_one ≤ d.
        p_one: expected number of coordinates of size 1.
        n: nodes per replicate, a power of 2.
        replicates: independent scramblings R; the spread over them is the sampling error.
        seed: names the scramblings.

    Returns:
        Nodes with a leading axis R.

    Raises:
        ValueError: a parameter is out of range.

    Example:
        >>> nodes = sampled_nodes(10**6, 250.0, n=256, replicates=2)
        >>> nodes.counts.shape
        (2, 256, 5)
    """
    check_law(d, k, p_one)
    if n < 2 or n & (n - 1):
        raise ValueError(f"n = {n}: must be a power of 2, which Sobol points need. Try 1024.")
    if replicates < 1:
        raise ValueError(f"replicates = {replicates}: must be at least 1. Two give an error.")
    seeds = np.random.SeedSequence(seed).spawn(replicates)
    parts: list[_Columns] = []
    for child in seeds:
        sobol = stats.qmc.Sobol(CATEGORIES, scramble=True, rng=np.random.default_rng(child))
        # Sobol points may hit 0, where a quantile is infinite.
        u = np.clip(sobol.random(n), 2.0**-31, 1 - 2.0**-31)
        nonzero = stats.binom.ppf(u[:, 0], d, (p_one + k) / d)
        large = stats.binom.ppf(u[:, 1], nonzero, p_one / (p_one + k))
        large_up = stats.binom.ppf(u[:, 2], large, 0.5)
        small_up = stats.binom.ppf(u[:, 3], nonzero - large, 0.5)
        parts.append(
            _labelled(
                d, k, large_up, large - large_up, small_up, nonzero - large - small_up,
                stats.norm.ppf(u[:, 4]), np.ones(n),
            )
        )  # fmt: skip
    return Nodes(*(np.stack(column) for column in zip(*parts, strict=True)))


def exact_nodes(
    d: int, k: float, p_one: float = 1.0, *, points: int = 7, dropped: float = 1e-7
) -> Nodes:
    """Every count with its exact probability, times Gauss-Hermite points of the noise.

    About 7 (6√k + 10)² nodes times ``points``: for k up to some 20.

    Args:
        d: number of coordinates.
        k: sparsity; k + p_one ≤ d.
        p_one: expected number of coordinates of size 1.
        points: Gauss-Hermite points of Σ_j ξ_j.
        dropped: counts are left out, rarest first, until this probability is.

    Returns:
        Nodes without a leading axis.

    Raises:
        ValueError: a parameter is out of range.
    """
    check_law(d, k, p_one)
    if points < 1:
        raise ValueError(f"points = {points}: must be at least 1. Seven converge.")
    most = [int(stats.binom.isf(dropped / 10, d, rate / d)) for rate in (p_one / 2, k / 2)]
    axes: list[NDArray[np.int64]] = [np.arange(top + 1) for top in np.repeat(most, 2)]
    counts = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    counts = counts[counts.sum(axis=1) <= d]
    rates = np.array([p_one / 2, p_one / 2, k / 2, k / 2]) / d
    zeros = d - counts.sum(axis=1, keepdims=True)
    law = stats.multinomial(d, np.append(rates, 1 - rates.sum()))
    mass = law.pmf(np.concatenate([counts, zeros], axis=1))
    order = np.argsort(mass)
    kept = order[np.cumsum(mass[order]) > dropped]
    # By symmetry one side of the law is enough: both sides of each pair carry label +1 in the end.
    right = _margin(counts[kept].T, k) >= 0
    counts, mass = counts[kept][right], mass[kept][right]
    at, weights = np.polynomial.hermite_e.hermegauss(points)
    index = np.repeat(np.arange(len(counts)), points)
    noise = np.tile(at, len(counts))
    weight = np.repeat(mass, points) * np.tile(weights, len(counts))
    one_up, one_down, small_up, small_down = counts[index].T.astype(float)
    return Nodes(*_labelled(d, k, one_up, one_down, small_up, small_down, noise, weight))


def _margin(counts: Sequence[Floats] | NDArray[np.int64], k: float) -> Floats:
    return counts[0] - counts[1] + (counts[2] - counts[3]) / np.sqrt(k)


def _labelled(
    d: int,
    k: float,
    one_up: Floats,
    one_down: Floats,
    small_up: Floats,
    small_down: Floats,
    noise: Floats,
    weight: Floats,
) -> _Columns:
    """Counts turned to label +1; ties get weight 0."""
    flip = _margin((one_up, one_down, small_up, small_down), k) < 0
    one = np.where(flip, one_down, one_up), np.where(flip, one_up, one_down)
    small = np.where(flip, small_down, small_up), np.where(flip, small_up, small_down)
    nonzero = one_up + one_down + small_up + small_down
    counts = np.stack([*one, *small, d - nonzero], axis=1)
    tie = is_tie((one_up - one_down).astype(int), (small_up - small_down).astype(int), k)
    weight = np.where(tie, 0.0, weight)
    return counts, noise, weight / weight.sum()
