"""Claims C2, C3, C4 and C6 in the reduced model, where d reaches 10⁹ (docs/dynamics.md).

A simulation at d = 100 can only be consistent with an exponent; here the exponent is measured. Rows
have the keys of `featpur_sim.claims.of_run.scorecard`. What they say holds for the ansatz; how well
the ansatz describes a network is in docs/dynamics.md.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from featpur_sim.claims.verdict import AtMost, Row, Rule, Within, interval
from featpur_sim.runs.folder import load_rows
from featpur_sim.theory import predictions as theory
from featpur_sim.theory.dynamics.exponents import DEFAULT, Point, Scaling, power

SCORECARD = "dynamics_scorecard.json"
_SLACK = 0.02


def scorecard(a: float, points: dict[int, Point], scaling: Scaling = DEFAULT) -> list[Row]:
    """One row each for C2, C3, C4 and C6.

    Args:
        a: log k/log d.
        points: of `featpur_sim.theory.dynamics.exponents.solve_all`.
        scaling: the settings they were made with.
    """
    dimensions = np.array(sorted(points))
    largest = int(dimensions[-1])

    def exponent(quantity: Callable[[Point], np.ndarray]):
        return power(dimensions, np.array([quantity(points[int(d)]) for d in dimensions]))

    def predicted(formula: Callable[[int, float], float]) -> float:
        values = [formula(int(d), float(round(int(d) ** a))) for d in dimensions]
        return float(np.polyfit(np.log(dimensions), np.log(values), 1)[0])

    ratio = predicted(lambda d, k: theory.clean_dense_ratio(d, k).value)
    end = points[largest]
    near = Within(ratio - _SLACK, ratio + _SLACK, f"within {_SLACK} of the predicted exponent")
    return [
        _row(
            a, points, "C2",
            "the radius at which the dense attack defeats the clean network falls faster than the "
            "radius that the pure network stands: exponent of their ratio in d",
            f"{predicted(lambda d, k: theory.dense_radius(d, k).value * k**0.5):.3f}, "
            "(√d/k²)/(1/√k), [D] §5.1",
            exponent(lambda p: p.dense_radius / p.pure_radius),
            AtMost(0.0, "the exponent"),
        ),
        _row(
            a, points, "C3", "κ/α after clean training as a power of d",
            f"{ratio:.3f}, k/d, [D] §5.1",
            exponent(lambda p: p.clean_ratio),
            near,
        ),
        _row(
            a, points, "C4",
            f"clean accuracy lost to the dense mixtures at d = {largest:.0e}", "→ 0",
            interval(end.pure_accuracy - end.clean_accuracy, exact=True),
            AtMost(0.02, "the loss"),
        ),
        _row(
            a, points, "C6",
            "κ/α after adversarial training over that after clean training falls with d: exponent",
            f"{predicted(lambda d, k: 1 / (k * k ** (-scaling.radius_exponent))):.3f}, "
            "1/(k·τ√k), [D] §5.1",
            exponent(lambda p: p.adversarial_ratio / p.clean_ratio),
            AtMost(0.0, "the exponent"),
        ),
    ]  # fmt: skip


def _row(a, points, id: str, statement, predicted, found, rule: Rule) -> Row:
    value, low, high = found
    return {
        "id": id,
        "regime": f"reduced model, k = d^{a:g}",
        "statement": statement,
        "source": "[D] §7",
        "predicted": predicted,
        "measured": value,
        "ci": [low, high],
        "verdict": rule.judge(low, high),
        "rule": str(rule),
        "seeds": f"{len(next(iter(points.values())).arrived)} sets of nodes",
    }


def load(directory: str | Path) -> list[Row]:
    """The rows that ``featpur dynamics --exponents`` left in a folder; none if it did not run.

    Raises:
        ResultError: the file is damaged.
    """
    needed = {"id", "regime", "measured", "ci", "verdict", "rule"}
    return load_rows(Path(directory) / SCORECARD, needed, "featpur dynamics --exponents")
