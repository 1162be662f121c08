"""The cascade: cheap certificates first, costly ones on what is left undecided (docs/theory.md,
section 8).

What is certified is the function in real arithmetic: weights and points are exact numbers.
`float32_inference_error` says how much more a lower bound needs for inference in float32 to be
certified too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featpur_sim._ground.blas import one_blas_thread
from featpur_sim._ground.checks import ConfigError, count, double
from featpur_sim._ground.switches import steady
from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.box import q1_box_dual
from featpur_sim.certify.branch import branch_and_bound
from featpur_sim.certify.linear import linear_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.q2 import complete, q2_dual
from featpur_sim.certify.rounding import DualPoint

STAGES = ("linear", "q1", "q2", "branch")


Evidence = dict[str, Any]
"""Arrays, numbers and words by name."""


class Contradiction(RuntimeError):
    """A perturbation breaks a certified point: one of the two computations is wrong.

    Attributes:
        index: the point.
        lower: its certified lower bound.
        value: f at the perturbation.
        evidence: what it takes to look into it elsewhere, as plain arrays: ``weights, bias, point``
            (times its label), ``perturbation, radius, norm, smoothing, lower, value``.
    """

    def __init__(self, index: int, evidence: Evidence) -> None:
        self.index, self.evidence = index, evidence
        self.lower, self.value = float(evidence["lower"]), float(evidence["value"])
        super().__init__(
            f"a point has the proved lower bound {self.lower:.9g}, but a perturbation in its ball "
            f"reaches f = {self.value:.9g}. The certificate or the arithmetic is wrong: keep the "
            "point and the network, and report them."
        )


def require_consistent(
    problem: Problem, lower: np.ndarray, upper: np.ndarray, minimiser: np.ndarray
) -> None:
    """Refuses bounds that contradict each other.

    Args:
        problem: network, points and radii.
        lower: proved lower bounds, [n].
        upper: f at the worst perturbation seen, [n].
        minimiser: that perturbation, [n, d].

    Raises:
        Contradiction: upper + its rounding error < lower somewhere.
    """
    wrong = np.flatnonzero(lower > upper + problem.value_error())
    if len(wrong):
        i = int(wrong[0])
        evidence: Evidence = {
            "weights": problem.weights,
            "bias": problem.bias,
            "point": problem.points[i],
            "perturbation": minimiser[i],
            "radius": problem.radius[i],
            "norm": "linf" if problem.box else "l2",
            "smoothing": problem.smoothing,
            "lower": lower[i],
            "value": upper[i],
        }
        raise Contradiction(i, evidence)


@dataclass(frozen=True)
class Effort:
    """How much the cascade spends.

    Attributes:
        q1_steps: Adam steps of Q1.
        q2: pace of Q2 at the root.
        max_nodes: branch-and-bound nodes for a point.

    Raises:
        ValueError: a number of steps or nodes is no whole number ≥ 0, or a rate is not above 0.
    """

    q1_steps: int = 300
    q2: Pace = Pace()  # noqa: RUF009 - frozen, so that one default serves all
    max_nodes: int = 200

    def __post_init__(self) -> None:
        for name in ("q1_steps", "max_nodes"):
            object.__setattr__(self, name, count(name, getattr(self, name), 0))
        q2 = Pace(
            count("q2.steps", self.q2.steps, 0),
            *(
                float(double(f"q2.{name}", getattr(self.q2, name), above=0))
                for name in ("rate", "barrier")
            ),
        )
        object.__setattr__(self, "q2", q2)


DEFAULT_EFFORT = Effort()
HIGH_EFFORT = Effort(q2=Pace(steps=2000))  # Q2 close to its optimum
EFFORTS = {"default": DEFAULT_EFFORT, "high": HIGH_EFFORT}


@dataclass(frozen=True)
class Certificate:
    """What the cascade proved.

    Attributes:
        lower: proved lower bound on the least f over each ball, [n] float64.
        upper: f at the worst perturbation seen, [n] float64; not rounded rigorously.
        certified: lower > 0, [n].
        stage: what decided each point, [n]: a stage's name, "broken" (upper ≤ 0) or "undecided".
        minimiser: the worst perturbation seen (the dual minimiser, or one that was handed in), [n,
            d] float64, inside the ball up to rounding. A start for attacks.
        slope: θ of the best dual point, [n, m]. With ``curvature`` a start for later stages.
        curvature: q of the same, [n, m].
        seconds: wall time by stage, compilation included.
        evaluated: points that entered each stage.
    """

    lower: np.ndarray
    upper: np.ndarray
    certified: np.ndarray
    stage: np.ndarray
    minimiser: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    seconds: dict[str, float]
    evaluated: dict[str, int]

    def by_stage(self) -> dict[str, int]:
        """How many points each stage decided, with "broken" and "undecided"."""
        names = (*self.seconds, "broken", "undecided")
        return {name: int((self.stage == name).sum()) for name in names}


class Ledger:
    """The best of everything known about each point, and its best dual point.

    Args:
        problem: network, n points and radii.
        perturbations: as for `certify`, [n, d] float64.

    Attributes:
        problem: the same.
        lower: proved lower bounds, [n] float64; −∞ at first. One that an earlier ledger proved for
            the same question may be put in, with its dual point.
        slope: θ of the dual point that proves it, [n, m]; where Q2 starts. 0 at first.
        curvature: q of the same, [n, m].
        upper: f at the worst perturbation seen, [n] float64.
        minimiser: that perturbation, [n, d] float64.
        stage: the stage that certified each point, [n], else "undecided".
        seconds: wall time by stage.
        evaluated: points that entered each stage.
    """

    def __init__(self, problem: Problem, perturbations: np.ndarray | None = None) -> None:
        count, width = len(problem), len(problem.bias)
        self.problem = problem
        self.lower = np.full(count, -np.inf)
        self.minimiser = np.zeros_like(problem.points)
        self.upper = problem.value(self.minimiser)
        self.slope = np.zeros((count, width))
        self.curvature = np.zeros((count, width))
        self.stage = np.full(count, "undecided", dtype="<U9")
        self.seconds: dict[str, float] = {}
        self.evaluated: dict[str, int] = {}
        if perturbations is not None:
            self.see(np.arange(count), problem.value(perturbations), perturbations)

    def see(self, index: np.ndarray, value: np.ndarray, perturbation: np.ndarray) -> None:
        """Takes in perturbations of some points, f at them known."""
        lower = value < self.upper[index]
        self.upper[index[lower]] = value[lower]
        self.minimiser[index[lower]] = self.problem.select(index).project(perturbation)[lower]

    def undecided(self) -> np.ndarray:
        """The points that are neither certified nor broken."""
        return np.flatnonzero((self.lower <= 0) & (self.upper > 0))

    def record(self, index: np.ndarray, dual: DualPoint) -> None:
        """Takes in dual points of some points; their bounds are proved here."""
        part = self.problem.select(index)
        bound = part.bound(dual)
        better = bound > self.lower[index]
        self.lower[index] = np.maximum(bound, self.lower[index])
        self.slope[index[better]] = dual.slope[better]
        self.curvature[index[better]] = dual.curvature[better]
        self.see(index, part.value(dual.minimiser), dual.minimiser)

    def run(self, name: str, stage: Callable[[np.ndarray], None], skip: bool) -> None:
        """Runs a stage on the undecided points; on none where it is to be skipped."""
        index = np.zeros(0, int) if skip else self.undecided()
        start = time.perf_counter()
        if len(index):
            stage(index)
        self.seconds[name] = time.perf_counter() - start
        self.evaluated[name] = len(index)
        self.stage[index[self.lower[index] > 0]] = name

    def certificate(self) -> Certificate:
        """What is known by now.

        Raises:
            Contradiction: a perturbation breaks a certified point.
        """
        require_consistent(self.problem, self.lower, self.upper, self.minimiser)
        self.stage[(self.upper <= 0) & (self.lower <= 0)] = "broken"
        return Certificate(
            self.lower,
            self.upper,
            self.lower > 0,
            self.stage,
            self.minimiser,
            self.slope,
            self.curvature,
            self.seconds,
            self.evaluated,
        )


def _require_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must have shape {shape}.")


def chosen(stages: Sequence[str] | None) -> tuple[str, ...]:
    """The stages to run, in their order.

    Args:
        stages: names, or None for all.

    Raises:
        ConfigError: an unknown stage, or one name instead of a list.
    """
    if stages is None:
        return STAGES
    if isinstance(stages, str):
        raise ConfigError(f"stages must be a list of names, got {stages!r}: write [{stages!r}].")
    for name in stages:
        if name not in STAGES:
            raise ConfigError(f"stages contains {name!r}: choose among {', '.join(STAGES)}.")
    return tuple(name for name in STAGES if name in stages)


@steady
def certify(
    weights: Any,
    bias: Any,
    points: Any,
    radius: Any,
    *,
    norm: str = "l2",
    smoothing: float = 0.0,
    stages: Sequence[str] | None = None,
    perturbations: Any = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    effort: Effort = DEFAULT_EFFORT,
    stop: Callable[[], bool] = lambda: False,
) -> Certificate:
    """Proves f(x + δ) > 0 for every δ of norm at most τ, where it can.

    Args:
        weights: W, [m, d].
        bias: b ≥ 0, scalar or [m].
        points: x times its label (f is odd), [n, d].
        radius: τ > 0, scalar or [n].
        norm: "l2" or "linf".
        smoothing: σ_ρ of the closed-form smoothed network, in units of the pre-activation; its
            distance to the soft threshold is charged to the bound, which is only worth having for
            σ_ρ well below b.
        stages: which of "linear", "q1", "q2", "branch" to run; by default all.
        perturbations: perturbations found by an attack, [n, d], scaled back into the ball if need
            be. Points they break are not worked on, and a contradiction with a bound is an error.
        start: (θ, q) of an earlier certificate, each [n, m]: Q2 and branch and bound go on from
            there. Its bound is proved again.
        effort: what to spend.
        stop: asked before each stage and each batch of nodes. Once it says True, what is proved by
            then is returned.

    Returns:
        The certificate.

    Raises:
        ValueError: bad shapes or values, or an unknown stage.
        NotCertified: a norm without a certificate.
        Contradiction: a perturbation breaks a certified point.

    >>> import numpy as np
    >>> result = certify(np.eye(2), 0.1, [[1.0, 1.0]], 0.2, stages=["linear"])
    >>> bool(result.certified[0]), round(float(result.lower[0]), 6)  # 2(1 − 0.1) − 0.2√2
    (True, 1.517157)
    """
    names = chosen(stages)
    problem = Problem.build(weights, bias, points, radius, norm=norm, smoothing=smoothing)
    if perturbations is not None:
        perturbations = double("perturbations", perturbations, ndim=2)
        _require_shape("perturbations", perturbations, problem.points.shape)
    if start is not None:
        slope, curvature = (double("start", part, ndim=2) for part in start)
        for part in (slope, curvature):
            _require_shape("start", part, problem.pre_activation.shape)
        start = slope, curvature
    ledger = Ledger(problem, perturbations)
    if start is not None:
        ledger.record(np.arange(len(problem)), complete(problem, *start))
    return run_stages(ledger, names, effort, stop)


@one_blas_thread()
def run_stages(
    ledger: Ledger,
    names: tuple[str, ...],
    effort: Effort = DEFAULT_EFFORT,
    stop: Callable[[], bool] = lambda: False,
) -> Certificate:
    """`certify` with its arguments checked, from what is known already.

    Stages run in turn on ledgers that hand on bounds and dual points give what they give in one.

    Args:
        ledger: what is known; what is found is added.
        names: from `chosen`.
        effort: as for `certify`.
        stop: as for `certify`.

    Returns:
        The certificate.

    Raises:
        Contradiction: a perturbation breaks a certified point.
    """
    problem = ledger.problem
    first = q1_box_dual if problem.box else q1_dual

    def free(index: np.ndarray) -> None:
        part = problem.select(index)
        start = ledger.slope[index], ledger.curvature[index]
        ledger.record(index, q2_dual(part, -part.reach, part.reach, *start, effort.q2))

    def branch(index: np.ndarray) -> None:
        outcome = branch_and_bound(
            problem.select(index),
            ledger.slope[index],
            ledger.curvature[index],
            ledger.lower[index],
            ledger.upper[index],
            effort.max_nodes,
            stop,
        )
        ledger.lower[index] = np.maximum(outcome.lower, ledger.lower[index])
        ledger.see(index, outcome.upper, outcome.minimiser)

    runs: dict[str, Callable[[np.ndarray], None]] = {
        "linear": lambda index: ledger.record(index, linear_dual(problem.select(index))),
        "q1": lambda index: ledger.record(index, first(problem.select(index), effort.q1_steps)),
        "q2": free,
        "branch": branch,
    }
    for name in names:
        ledger.run(name, runs[name], stop())
    return ledger.certificate()
