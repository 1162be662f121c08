"""Claim C8 as data: rows of compare.json, scorecard (docs/theory.md §6).

The verdicts are the labels of `featpur_sim.runs.model_classes`; whether a bound lies below the
network is decided here again, from the curves. Nothing here trains or attacks.
"""

import functools
import math
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from featpur_sim.claims.claim import Case, Claim, Row, cases, rows
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import ByEvidence
from featpur_sim.claims.verdict import Verdict
from featpur_sim.runs.diagnosis import count
from featpur_sim.runs.folder import load_rows
from featpur_sim.runs.model_classes import CLEAN, PURE, PURIFIED, Separation, separations

COMPARISON = "compare.json"
_NEEDED = {"class", "training", "robust_accuracy", "ci", "class_bound", "label", "curve"}
_EVIDENCE = {
    Verdict.PROVED: "the bound holds for every member of the class at this size, whatever trained "
    "it, and at τ lies below what the run's first network is proved to withstand.",
    Verdict.BOUNDED: "the bound, below 1, holds for every member of the class at this size, but at "
    "τ is not below what the run's first network is proved to withstand: it does not say that the "
    "class is less robust than the network.",
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


def scorecard(result: xr.Dataset, compared: list[Row]) -> list[Row]:
    """C8, one row per class; the verdict is the label.

    Args:
        result: the Dataset of the run.
        compared: rows of its compare.json.

    Returns:
        The rows of `featpur_sim.claims.claim.rows`.
    """
    return rows(class_cases(result, compared))


def class_cases(result: xr.Dataset, compared: list[Row]) -> list[Case]:
    """What `scorecard` shows, to stand beside the claims about runs."""
    best = best_rows(compared)
    certified = best[PURIFIED]["curve"] if PURIFIED in best else []
    tau, name = result.attrs["tau"], result.attrs["name"]
    found = []
    for model_class, row in best.items():
        if model_class in (PURE, CLEAN, PURIFIED):
            continue
        proved = separations(row["curve"], certified)
        claim = CLAIMS[_verdict(row, proved, tau)]
        subject = Best(row, _said(proved, tau))
        found += cases([claim], subject, name, functools.partial(count, result))
    return found


def _at(one: Separation, tau: float) -> bool:
    return math.isclose(one.radius, tau, rel_tol=1e-6)


def _verdict(row: Row, proved: list[Separation] | None, tau: float) -> Verdict:
    bound = row["class_bound"]
    if bound is None or bound >= 1:
        return Verdict(row["label"])
    return Verdict.PROVED if any(_at(one, tau) for one in proved or []) else Verdict.BOUNDED


def _said(proved: list[Separation] | None, tau: float) -> str:
    """Where the purified network is certified above what any member of the class can reach."""
    if proved is None:
        return ""
    if not proved:
        return "; no separation proved on this network at these radii"
    one = next((one for one in proved if _at(one, tau)), proved[0])
    return (
        f"; at {one.radius / tau:.3g}τ no member exceeds {one.bound:.3f}, and the purified network "
        f"is certified on {one.certified:.3f} of its points, which is at least {one.floor:.3f} of "
        "all: separation proved on this network"
    )
