"""The largest certified radius of each point, by bisection (docs/theory.md, section 8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from featpur_sim._ground.checks import count, double
from featpur_sim._ground.switches import steady
from featpur_sim.certify.cascade import DEFAULT_EFFORT, Effort, Ledger, chosen, run_stages
from featpur_sim.certify.problem import Problem


@steady
def certified_radius(
    weights: Any,
    bias: Any,
    points: Any,
    largest: float,
    *,
    norm: str = "l2",
    smoothing: float = 0.0,
    stages: Sequence[str] | None = ("linear", "q1"),
    halvings: int = 10,
    effort: Effort = DEFAULT_EFFORT,
) -> np.ndarray:
    """A radius at which each point is certified, as large as bisection on [0, largest] finds.

    Args:
        weights: W, [m, d].
        bias: b, scalar or [m].
        points: x times its label, [n, d].
        largest: the largest radius to try, positive.
        norm: "l2" or "linf".
        smoothing: as for `certify`.
        stages: as for `certify`.
        halvings: bisection steps, at least 1; the result is within largest/2^halvings of where the
            search fails.
        effort: as for `certify`.

    Returns:
        [n] float64; each radius is proved. 0 where nothing was.

    Raises:
        ValueError: as for `certify`, or halvings or largest out of range.

    >>> import numpy as np
    >>> r = certified_radius(np.eye(1), 0.5, [[1.0]], 1.0, stages=["linear"])
    >>> 0.49 < float(r[0]) < 0.5
    True
    """
    halvings, largest = count("halvings", halvings), float(double("largest", largest, above=0))
    proved = np.zeros(len(double("points", points, ndim=2)))
    trial = np.full_like(proved, largest, dtype=np.float64)
    step = np.full_like(proved, largest, dtype=np.float64)
    names = chosen(stages)
    problem = Problem.build(weights, bias, points, trial, norm=norm, smoothing=smoothing)
    for _ in range(halvings + 1):
        result = run_stages(Ledger(replace(problem, radius=trial)), names, effort)
        proved = np.where(result.certified, np.maximum(proved, trial), proved)
        step = step / 2
        trial = np.where(result.certified, np.minimum(trial + step, largest), trial - step)
    return proved
