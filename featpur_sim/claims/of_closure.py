"""Claim C14 as data: a run against the closure's prediction at its own size (docs/dynamics.md).

The other predictions are exponents or orders of magnitude for large d; this one has constants. Each
seed is held against the closure that began with its initial weights.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from featpur_sim._ground.disk import ResultError, write_text
from featpur_sim._ground.manifest import rewriting
from featpur_sim.claims.claim import Case, Claim, Row, cases
from featpur_sim.claims.measured import Condition, Counted, Measured, over_seeds
from featpur_sim.claims.rule import WithinDistance, WithinFactor
from featpur_sim.runs.closure import FIELDS, STATE, settings_digest
from featpur_sim.runs.config import parse_text
from featpur_sim.runs.diagnosis import count, finished, only_finished
from featpur_sim.runs.folder import load_rows, to_json

CLOSURE = "population.json"
_NEEDED = {"phase", "step", "settings", *FIELDS}
# Where both say a number: within ten per cent of it; accuracies within two points.
FACTOR, DISTANCE = 1.1, 0.02
# Above, the closure is not to be believed (docs/dynamics.md, "What residuals have in common").
LIMIT = 0.5


class Compared(NamedTuple):
    """The seeds of a run that finished, and the closure at the end of each phase."""

    result: xr.Dataset
    closure: dict[str, Row]

    def predicted(self, name: str, phase: str) -> np.ndarray:
        """A statistic of the closure, seed by seed."""
        values = np.asarray(self.closure[phase][name], float)
        return values[self.result.seed.values - 1]


def _ratio(r: xr.Dataset, phase: str) -> np.ndarray:
    return r.kappa_over_alpha_mean.sel(phase=phase).values


def _alpha(r: xr.Dataset, phase: str) -> np.ndarray:
    carrier = r.carrier.sel(phase=phase) == 1
    return abs(r.alpha.sel(phase=phase)).where(carrier).mean("neuron").values


def _active(r: xr.Dataset, phase: str) -> np.ndarray:
    return r.active_fraction.sel(phase=phase).values


def _accuracy(r: xr.Dataset, phase: str) -> np.ndarray:
    return r.robust_accuracy.sel(phase=phase, attack="dense mixture").isel(radius=0).values


def _attacked(r: xr.Dataset, phase: str) -> np.ndarray:
    table = r.robust_accuracy.sel(phase=phase, attack="dense mixture")
    return table.isel(radius=int(np.argmin(abs(r.relative_radius.values - 1)))).values


def _followed(compared: Compared, phase: str) -> tuple[Condition]:
    """What the closure says of itself: how much of the weights it did not follow, at most.

    The adversarial phase goes on from the clean one, so both count there.
    """
    phases = ("clean", "adversarial")[: 1 if phase == "clean" else 2]
    share = max(float(compared.predicted("unfollowed", each).max()) for each in phases)
    return (Condition("share of the closure's weights that it does not follow", share, 0, LIMIT),)


Direct = Callable[[xr.Dataset, str], np.ndarray]


def _quotient(name: str, direct: Direct, phase: str, compared: Compared) -> Measured:
    measured, predicted = direct(compared.result, phase), compared.predicted(name, phase)
    means = float(measured.mean()), float(predicted.mean())
    return over_seeds(
        measured / predicted, predicted=1.0, conditions=_followed(compared, phase),
        direct=means[0], closure=means[1],
    )  # fmt: skip


def _difference(name: str, direct: Direct, phase: str, compared: Compared) -> Measured:
    measured, predicted = direct(compared.result, phase), compared.predicted(name, phase)
    points = Counted(compared.result.attrs["test_samples"])
    means = float(measured.mean()), float(predicted.mean())
    return over_seeds(
        measured - predicted, points, predicted=0.0, conditions=_followed(compared, phase),
        direct=means[0], closure=means[1],
    )  # fmt: skip


# Statistic of the closure, the run's own, in words, and how the two are compared.
_COMPARED = (
    ("ratio", _ratio, "κ/α, mean over carriers", _quotient),
    ("alpha", _alpha, "α, mean over carriers", _quotient),
    ("active", _active, "active fraction", _quotient),
    ("accuracy", _accuracy, "clean accuracy", _difference),
    ("dense_accuracy", _attacked, "accuracy under the dense attack at τ", _difference),
)
# How → rule, prediction, and the two values in words.
_JUDGED = {
    _quotient: (
        WithinFactor(FACTOR, "the closure's"),
        "1",
        "({direct:.3g}) over the closure's ({closure:.3g})",
    ),
    _difference: (
        WithinDistance(DISTANCE, "the closure's"),
        "0",
        "({direct:.3f}) less the closure's ({closure:.3f})",
    ),
}
_AFTER = {"clean": "clean training", "adversarial": "adversarial training"}


def _claim(name: str, direct: Direct, words: str, how: Any, phase: str) -> Claim[Compared]:
    rule, predicted, both = _JUDGED[how]
    statement = (
        f"the closure predicts the run, with constants: {words} after {_AFTER[phase]} {both}"
    )
    measure = functools.partial(how, name, direct, phase)
    return Claim("C14", rule, measure, predicted, "[D] §7", statement)


CLAIMS = tuple(
    _claim(*compared, phase)
    for how in _JUDGED
    for phase in _AFTER
    for compared in _COMPARED
    if compared[-1] is how
)


def load_closure(directory: str | Path, result: xr.Dataset) -> list[Row]:
    """Rows of population.json; none if the folder has no such file.

    Raises:
        ResultError: the file is damaged, or of other settings than the run's.
    """
    path, command = Path(directory) / CLOSURE, "featpur dynamics --population"
    found = load_rows(path, _NEEDED, command)
    wanted = settings_digest(parse_text(result.attrs["config"])) if found else ""
    if any(row["settings"] != wanted for row in found):
        raise ResultError(
            f"{path} is of other settings than the run beside it: remove it, or make it again with "
            f"'{command}' from the run's config.toml."
        )
    return found


def save_closure(directory: str | Path, found: list[Row]) -> None:
    """What `load_closure` reads, whole or not at all; what was kept to go on with goes."""
    with rewriting(directory, CLOSURE):
        write_text(Path(directory) / CLOSURE, to_json(found, indent=2) + "\n")
    shutil.rmtree(Path(directory) / STATE, ignore_errors=True)


def closure_cases(result: xr.Dataset, closure: list[Row]) -> list[Case]:
    """C14, to be held together with the claims about runs; none without a closure."""
    if not closure or not finished(result).any():
        return []
    last = {row["phase"]: row for row in closure}
    compared = Compared(only_finished(result), last)
    return cases(CLAIMS, compared, result.attrs["name"], functools.partial(count, result))
