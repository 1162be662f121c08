"""Claim C8 as data: rows of compare.json, scorecard (docs/theory.md §6).

The labels are those of `featpur_sim.runs.model_classes`. Nothing here trains or attacks.
"""

from pathlib import Path
from typing import Any

import xarray as xr

from featpur_sim.runs.diagnosis import count
from featpur_sim.runs.folder import load_rows
from featpur_sim.runs.model_classes import CLEAN, COUNTEREXAMPLE, MEASURED, PROVED, PURE, PURIFIED

COMPARISON = "compare.json"
Row = dict[str, Any]
_NEEDED = {"class", "training", "robust_accuracy", "ci", "class_bound", "label", "curve"}
_RULES = {
    PROVED: "'proved class-wide': the bound holds for every member of the class at this size, "
    "whatever trained it.",
    MEASURED: "'measured best member': no bound below 1 is proved for this class at this size and "
    "no member is proved robust on more than half of the samples; better training may raise the "
    "figure, a better attack lower it.",
    COUNTEREXAMPLE: "'counterexample': a member of the class is proved robust on more than half of "
    "the samples (lower end of the 95 % interval of the certified fraction above 0.5).",
}

_SEPARATION_RULE = (
    " Separation, on the run's first network: the class-wide bound at some radius is below the "
    "lower limit of the certified fraction on fresh points (exact binomial limit; all radii "
    "together 95 %)."
)


def load_comparison(directory: str | Path) -> list[Row]:
    """Rows of compare.json; none if the folder has no such file.

    Raises:
        ResultError: the file is not a table of comparison rows.
    """
    return load_rows(Path(directory) / COMPARISON, _NEEDED, "featpur compare")


def best_rows(rows: list[Row]) -> dict[str, Row]:
    """The row with the highest robust accuracy of each class, in the order of the classes."""
    best: dict[str, Row] = {}
    for row in rows:
        kept = best.get(row["class"])
        if kept is None or row["robust_accuracy"] > kept["robust_accuracy"]:
            best[row["class"]] = row
    return best


def scorecard(result: xr.Dataset, rows: list[Row]) -> list[Row]:
    """C8, one row per class; the verdict is the label.

    Args:
        result: the Dataset of the run.
        rows: of its compare.json.

    Returns:
        Rows with the keys of `featpur_sim.claims.of_run.scorecard`.
    """
    best = best_rows(rows)
    floors = _floors(best.get(PURIFIED))
    card = []
    for name, row in best.items():
        if name in (PURE, CLEAN, PURIFIED):
            continue
        separation = _separation(row, floors, result.attrs["tau"])
        card.append(
            {
                "id": "C8",
                "regime": result.attrs["name"],
                "statement": f"{name}: robust accuracy at τ of the best member found "
                f"({row['training']}){separation}",
                "source": "[P], bounds and witnesses [D] §6",
                "predicted": "no bound"
                if row["class_bound"] is None
                else f"≤ {row['class_bound']:.3f}",
                "measured": row["robust_accuracy"],
                "ci": row["ci"],
                "verdict": row["label"],
                "rule": _RULES[row["label"]] + (_SEPARATION_RULE if separation else ""),
                "seeds": count(result, 1),
            }
        )
    return card


def _floors(purified: Row | None) -> dict[float, tuple[float, float]]:
    """Radius → certified fraction of the purified network and its lower limit."""
    return {
        point["radius"]: (point["certified"], point["certified_floor"])
        for point in (purified["curve"] if purified else ())
        if "certified_floor" in point
    }


def _separation(row: Row, floors: dict[float, tuple[float, float]], tau: float) -> str:
    """Whether the purified network is certified above what any member of the class can reach."""
    known = [
        (point["radius"], point["class_bound"])
        for point in row["curve"]
        if point["class_bound"] is not None and point["radius"] in floors
    ]
    for radius, bound in known:
        certified, floor = floors[radius]
        if bound < floor:
            return (
                f"; at {radius / tau:.3g}τ no member exceeds {bound:.3f}, and the purified network "
                f"is certified on {certified:.3f} of its points, which is at least {floor:.3f} of "
                "all: separation proved on this network"
            )
    return "; no separation proved on this network at these radii" if known else ""
