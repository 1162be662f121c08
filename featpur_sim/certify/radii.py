"""Certificates at several radii, with no work on what a larger radius has settled (docs/theory.md,
section 8).

What is certified in a ball is certified in every smaller one, so the largest radius comes first;
what it leaves open starts at the next one from where its search ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featpur_sim._ground.blas import one_blas_thread
from featpur_sim._ground.checks import double
from featpur_sim._ground.switches import steady
from featpur_sim.certify.box import q1_box_dual
from featpur_sim.certify.cascade import DEFAULT_EFFORT, Contradiction, Effort, require_consistent
from featpur_sim.certify.linear import linear_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.rounding import DualPoint


@dataclass(frozen=True)
class RadiiCertificate:
    """What was proved at each radius.

    Attributes:
        lower: proved lower bound on the least f over each ball, [r, n] float64: good enough to
            decide, not the best there is. −∞ where nothing was tried.
        weakest: for each radius, the points left open and where f seems least in their balls, [i]
            and [i, d]. A start for attacks.
    """

    lower: np.ndarray
    weakest: list[tuple[np.ndarray, np.ndarray]]

    @property
    def certified(self) -> np.ndarray:
        """lower > 0, [r, n]."""
        return self.lower > 0


@steady
@one_blas_thread()
def certify_radii(
    weights: Any,
    bias: Any,
    points: Any,
    radii: Sequence[float],
    *,
    norm: str = "l2",
    smoothing: float = 0.0,
    broken: Any = None,
    enough: float = 0.0,
    effort: Effort = DEFAULT_EFFORT,
) -> RadiiCertificate:
    """Proves f(x + δ) > 0 for every δ of norm at most τ, for each τ of ``radii``, where it can.

    By the linear relaxation and Q1. A search ends as soon as its bound is enough.

    Args:
        weights: W, [m, d].
        bias: b ≥ 0, scalar or [m].
        points: x times its label, [n, d].
        radii: τ > 0, strictly rising.
        norm: "l2" or "linf".
        smoothing: as for `featpur_sim.certify.certify`.
        broken: points that need no work at a radius, as they are known to be broken there, [r, n].
        enough: a bound with which a point is done. 0 decides; more leaves room for rounding when f
            is evaluated in float32, see `featpur_sim.certify.float32_inference_error`.
        effort: ``q1_steps`` at a point that stays open, for each radius.

    Returns:
        Bounds and the points left open, by radius.

    Raises:
        ValueError: bad shapes or values, or radii that do not rise.
        NotCertified: a norm without a certificate.
        Contradiction: where f seems least it lies below its bound.

    >>> found = certify_radii(np.eye(2), 0.1, [[1.0, 1.0]], [0.2, 2.0])
    >>> found.certified[:, 0].tolist()
    [True, False]
    """
    tau = double("radii", radii, above=0, ndim=1)
    if (np.diff(tau) <= 0).any():
        raise ValueError(f"radii must rise strictly, got {tau.tolist()}: sort them.")
    problem = Problem.build(weights, bias, points, tau[-1], norm=norm, smoothing=smoothing)
    shape = len(tau), len(problem)
    known = np.zeros(shape, bool) if broken is None else np.asarray(broken, bool)
    if known.shape != shape:
        raise ValueError(f"broken has shape {known.shape}; it must be [r, n] = {shape}.")
    lower = np.full(shape, -np.inf)
    weakest: list[tuple[np.ndarray, np.ndarray]] = []
    search = _Search(problem, effort.q1_steps, enough)
    for r in reversed(range(len(tau))):
        if r + 1 < len(tau):
            lower[r] = lower[r + 1]
        index = np.flatnonzero((lower[r] <= enough) & ~known[r])
        bound, minimiser = search.at(float(tau[r]), index)
        lower[r, index] = np.maximum(lower[r, index], bound)
        left = lower[r, index] <= 0
        weakest.append((index[left], minimiser[left]))
    return RadiiCertificate(lower, weakest[::-1])


class _Search:
    """The points of a problem at one radius after another; it keeps where Q1 ended at each."""

    def __init__(self, problem: Problem, steps: int, enough: float) -> None:
        self.problem, self.steps, self.enough = problem, steps, enough
        count, (width, size) = len(problem), problem.weights.shape
        own = size if problem.box else 1
        shapes = (count, width), (count, width), (count, own), (count, size), (count,)
        self.dual = DualPoint(*(np.zeros(shape) for shape in shapes))

    def at(self, radius: float, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Proved bounds for the points ``index``, and where f seems least in their balls."""
        part = replace(self.problem.select(index), radius=np.full(len(index), radius))
        minimiser = np.zeros_like(part.points)
        bound = np.full(len(index), -np.inf)

        def record(rows: np.ndarray, dual: DualPoint) -> None:
            own = part.select(rows)
            bound[rows] = np.maximum(bound[rows], own.bound(dual))
            try:
                require_consistent(own, bound[rows], own.value(dual.minimiser), dual.minimiser)
            except Contradiction as error:
                raise Contradiction(int(index[rows[error.index]]), error.evidence) from None
            minimiser[rows] = own.project(dual.minimiser)

        begun = self.dual.curvature[index, 0] > 0
        # Where Q1 has been, it starts from more than the linear relaxation gives.
        fresh, again = np.flatnonzero(~begun), np.flatnonzero(begun)
        if len(fresh):
            record(fresh, linear_dual(part.select(fresh)))
            fresh = fresh[bound[fresh] <= self.enough]
        for rows in filter(len, (fresh, again)):
            record(rows, self._q1(part.select(rows), index[rows]))
        return bound, minimiser

    def _q1(self, part: Problem, index: np.ndarray) -> DualPoint:
        known = DualPoint(*(array[index] for array in self.dual))
        start = known if known.curvature[0, 0] > 0 else None
        found = (q1_box_dual if part.box else q1_dual)(part, self.steps, self.enough, start)
        for array, new in zip(self.dual, found, strict=True):
            array[index] = new
        return found
