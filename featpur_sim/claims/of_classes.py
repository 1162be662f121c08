"""Claim C8 as data: rows of compare.json, scorecard (docs/theory.md §6).

The labels are those of `featpur_sim.runs.model_classes`. Nothing here trains or attacks.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from featpur_sim.claims.claim import Claim, Row, judge
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import ByEvidence
from featpur_sim.claims.verdict import Verdict
from featpur_sim.runs.diagnosis import count
from featpur_sim.runs.folder import load_rows
from featpur_sim.runs.model_classes import CLEAN, PURE, PURIFIED

COMPARISON = "compare.json"
_NEEDED = {"class", "training", "robust_accuracy", "ci", "class_bound", "label", "curve"}
_EVIDENCE = {
    Verdict.PROVED: "the bound holds for every member of the class at this size, whatever trained "
    "it.",
    Verdict.MEASURED: "no bound below 1 is proved for this class at this size and no member is "
    "proved robust on more than half of the samples; better training may raise the figure, a "
    "better attack lower it.",
    Verdict.COUNTEREXAMPLE: "a member of the class is proved robust on more than half of the "
    "samples (lower end of the 95 % interval of the certified fraction above 0.5).",
}
_SEPARATION_RULE = (
    " Separation, on the run's first network: the class-wide bound at some radius is below the "
    "lower limit of the certified fraction on fresh points (exact binomial limit; all radii "
    "together 95 %)."
)


class Best(NamedTuple):
    """The best member found of a class."""

    row: Row
    """Of compare.json."""
    separation: str
    """What the certificate of the purified network adds; empty if nothing."""


def _accuracy(best: Best) -> Measured:
    row, separation = best
    bound = row["class_bound"]
    said = "no bound" if bound is None else f"≤ {bound:.3f}"
    words = {"row": row, "separation": separation, "bound": said}
    note = _SEPARATION_RULE if separation else ""
    return Measured(row["robust_accuracy"], *row["ci"], seeds=1, note=note, words=words)


# By the label of the row.
CLAIMS: dict[Verdict, Claim[Best]] = {
    label: Claim("C8", ByEvidence(label, evidence), _accuracy,
                 "{bound}", "[P], bounds and witnesses [D] §6",
                 "{row[class]}: robust accuracy at τ of the best member found "
                 "({row[training]}){separation}")
    for label, evidence in _EVIDENCE.items()
}  # fmt: skip


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
    return [
        judged
        for name, row in best.items()
        if name not in (PURE, CLEAN, PURIFIED)
        for judged in judge(
            [CLAIMS[Verdict(row["label"])]],
            Best(row, _separation(row, floors, result.attrs["tau"])),
            result.attrs["name"],
            functools.partial(count, result),
        )
    ]


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
