"""Claims C2, C3, C4 and C6 in the reduced model, where d reaches 10⁹ (docs/dynamics.md).

A simulation at d = 100 can only be consistent with an exponent; here the exponent is measured. Rows
have the keys of `featpur_sim.claims.of_run.scorecard`. What they say holds for the ansatz; how well
the ansatz describes a network is in docs/dynamics.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featpur_sim.claims.claim import Case, Claim, Row, cases, rows
from featpur_sim.claims.measured import Measured, interval
from featpur_sim.claims.rule import AtMost, WithinDistance
from featpur_sim.runs.folder import load_rows
from featpur_sim.theory import predictions as theory
from featpur_sim.theory.dynamics.exponents import ANSATZ, DEFAULT, Point, Scaling, power

SCORECARD = "dynamics_scorecard.json"
IMPOSED = f" Inside the ansatz: {ANSATZ}."


class Line(NamedTuple):
    """The reduced model along k = d^a."""

    a: float
    points: dict[int, Point]
    scaling: Scaling

    @property
    def dimensions(self) -> np.ndarray:
        """The values of d, ascending."""
        return np.array(sorted(self.points))

    @property
    def end(self) -> Point:
        """The point of the largest d."""
        return self.points[max(self.points)]

    @property
    def replicates(self) -> int:
        """Independent sets of nodes."""
        return len(self.end.arrived)

    def exponent(
        self, quantity: Callable[[Point], np.ndarray], formula: Callable[[int, float], float]
    ) -> Measured:
        """Of a quantity as a power of d, and that of a formula of (d, k) at the same points."""
        table = np.array([quantity(self.points[int(d)]) for d in self.dimensions])
        values = [formula(int(d), float(round(int(d) ** self.a))) for d in self.dimensions]
        predicted = float(np.polyfit(np.log(self.dimensions), np.log(values), 1)[0])

        def at(level: float) -> Measured:
            found = power(self.dimensions, table, level)
            return Measured(*found, self.replicates, predicted, at=at)

        return at(0.95)


def _radius(line: Line) -> Measured:
    return line.exponent(
        lambda p: p.dense_radius / p.pure_radius,
        lambda d, k: theory.dense_radius(d, k).value * k**0.5,
    )


def _ratio(line: Line) -> Measured:
    return line.exponent(lambda p: p.clean_ratio, lambda d, k: theory.clean_dense_ratio(d, k).value)


def _loss(line: Line) -> Measured:
    lost = line.end.pure_accuracy - line.end.clean_accuracy

    def at(level: float) -> Measured:
        found = interval(lost, exact=True, level=level)
        return Measured(*found, line.replicates, words={"largest": max(line.points)}, at=at)

    return at(0.95)


def _fall(line: Line) -> Measured:
    return line.exponent(
        lambda p: p.adversarial_ratio / p.clean_ratio,
        lambda d, k: 1 / (k * k ** (-line.scaling.radius_exponent)),
    )


# id, rule; what is measured; predicted, source; statement.
CLAIMS: tuple[Claim[Line], ...] = (
    Claim("C2", AtMost(0.0, "the exponent"), _radius,
          "{predicted:.3f}, (√d/k²)/(1/√k), [D] §5.1", "[D] §7",
          "the radius at which the dense attack defeats the clean network falls faster than the "
          "radius that the pure network stands: exponent of their ratio in d"),
    Claim("C3", WithinDistance(0.02, "the predicted exponent"), _ratio,
          "{predicted:.3f}, k/d, [D] §5.1", "[D] §7",
          "κ/α after clean training as a power of d"),
    Claim("C4", AtMost(0.02, "the loss"), _loss, "→ 0", "[D] §7",
          "clean accuracy lost to the dense mixtures at d = {largest:.0e}"),
    Claim("C6", AtMost(0.0, "the exponent"), _fall,
          "{predicted:.3f}, 1/(k·τ√k), [D] §5.1", "[D] §7",
          "κ/α after adversarial training over that after clean training falls with d: exponent"),
)  # fmt: skip


def scorecard(lines: dict[float, dict[int, Point]], scaling: Scaling = DEFAULT) -> list[Row]:
    """One row each for C2, C3, C4 and C6 at every a, all held together.

    Args:
        lines: a = log k/log d → points of `featpur_sim.theory.dynamics.exponents.solve_all`.
        scaling: the settings they were made with.
    """
    found: list[Case] = []
    for a, points in lines.items():
        line = Line(a, points, scaling)
        regime = f"reduced model, k = d^{a:g}"
        found += cases(CLAIMS, line, regime, lambda n: f"{n} sets of nodes", IMPOSED)
    return rows(found)


def load(directory: str | Path) -> list[Row]:
    """The rows that ``featpur dynamics --exponents`` left in a folder; none if it did not run.

    Raises:
        ResultError: the file is damaged.
    """
    needed = {"id", "regime", "measured", "ci", "verdict", "verdict_simultaneous", "rule"}
    return load_rows(Path(directory) / SCORECARD, needed, "featpur dynamics --exponents")
