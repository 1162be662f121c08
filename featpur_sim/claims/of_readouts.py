"""Claims C12 and C13 as data: readouts trained anew on frozen features (docs/theory.md §3, §5).

Judged from the rows of readouts.json, each a number per seed. Nothing here trains or attacks.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from featpur_sim._ground.disk import ResultError
from featpur_sim.claims.claim import Case, Claim, Row, cases, rows
from featpur_sim.claims.measured import Counted, Measured, interval, over_seeds
from featpur_sim.claims.rule import AtLeast, AtMost
from featpur_sim.runs.diagnosis import count
from featpur_sim.runs.folder import load_rows
from featpur_sim.runs.readouts import PAIRS, Pair

READOUTS = "readouts.json"
# What is measured of a row → what its points are called.
_MEASURED = {"accuracy": "points", "pgd": "points"} | dict.fromkeys(
    ("certified", "attacked"), "certified_points"
)
_NEEDED = {*Pair._fields, *_MEASURED, *_MEASURED.values(), "seeds", "steps"}

Table = Mapping[Pair, Row]
_CLEAN, _PURIFIED = Pair("clean", "own"), Pair("purified", "own")


def _less(table: Table, one: Pair, other: Pair) -> Measured:
    """PGD accuracy of one less that of the other, seed by seed."""
    return over_seeds(_pgd(table, one) - _pgd(table, other), _counted(table))


def _pgd(table: Table, pair: Pair) -> np.ndarray:
    return np.asarray(table[pair]["pgd"], float)


def _counted(table: Table, over: float | None = None) -> Counted:
    """Of differences of fractions; over their mean difference, for shares."""
    return Counted(min(row["points"] for row in table.values()), over=over)


def _kept(table: Table) -> Measured:
    return _less(table, Pair("purified", "clean"), _PURIFIED)


def _inherited(table: Table) -> Measured:
    return _less(table, Pair("purified", "clean", "new"), _PURIFIED)


def _inherited_more(table: Table) -> Measured:
    return _less(table, Pair("purified", "clean", "new"), Pair("clean", "clean", "new"))


def _closed_share(table: Table) -> Measured:
    """Share of the gap between the clean and the purified network."""
    clean = _pgd(table, _CLEAN)
    gap = _pgd(table, _PURIFIED) - clean
    gained = _pgd(table, Pair("clean", "adversarial")) - clean
    return over_seeds(gained / np.maximum(gap, 1e-9), _counted(table, float(gap.mean())))


def _beyond_random(table: Table) -> Measured:
    return _less(table, _PURIFIED, Pair("random", "adversarial"))


# id, rule; what is measured; predicted, source; statement. As in `featpur_sim.claims.of_run`.
CLAIMS: tuple[Claim[Table], ...] = (
    Claim("C12", AtLeast(-0.02, "the difference"), _kept, "0", "Xing et al., arXiv:2401.15248",
          "robustness sits in the hidden weights: PGD accuracy at τ of purified features with a "
          "fresh clean readout less that of the purified network"),
    Claim("C12", AtLeast(-0.02, "the difference"), _inherited, "0",
          "Xing et al., arXiv:2401.15248; symmetry [D] §3",
          "a new task inherits it: PGD accuracy at τ of purified features with a clean readout of "
          "a new w* less that of the purified network on its own, which is as hard"),
    Claim("C12", AtLeast(0.05, "the difference"), _inherited_more, "> 0",
          "Xing et al., arXiv:2401.15248",
          "and not from clean features: PGD accuracy at τ of purified less clean features, both "
          "with a clean readout of the new w*"),
    Claim("C13", AtMost(0.5, "the share", " Of accuracies under PGD, which are upper bounds; on "
                        "clean features the certificate may lie far below."),
          _closed_share, "≪ 1",
          "[D] from C6; against it arXiv:2410.16449, 1",
          "hidden weights have to be purified: share of the gap in PGD accuracy at τ between the "
          "clean and the purified network that an adversarial readout on clean features closes"),
    Claim("C13", AtLeast(0.05, "the difference"), _beyond_random, "> 0", "[D] §3",
          "and features have to be learned: PGD accuracy at τ of the purified network less that of "
          "random features with an adversarial readout"),
)  # fmt: skip


def load_readouts(directory: str | Path) -> list[Row]:
    """Rows of readouts.json; none if the folder has no such file.

    Raises:
        ResultError: the file is not a table of such rows, or some are missing.
    """
    path, command = Path(directory) / READOUTS, "featpur readouts"
    found = load_rows(path, _NEEDED, command)
    if found and {pair_of(row) for row in found} != set(PAIRS):
        raise ResultError(f"{path} lacks some pairs of features and readout. Run '{command}'.")
    return found


def scorecard(result: xr.Dataset, readouts: list[Row]) -> list[Row]:
    """C12 and C13; no rows without readouts.

    Args:
        result: the Dataset of the run.
        readouts: rows of its readouts.json.

    Returns:
        The rows of `featpur_sim.claims.claim.rows`.
    """
    return rows(readout_cases(result, readouts))


def readout_cases(result: xr.Dataset, readouts: list[Row]) -> list[Case]:
    """What `scorecard` shows, to be held together with the claims about runs."""
    if not readouts:
        return []
    table = {pair_of(row): row for row in readouts}
    return cases(CLAIMS, table, result.attrs["name"], functools.partial(count, result))


def pair_of(row: Row) -> Pair:
    """Features, readout and task of a row."""
    return Pair(row["features"], row["readout"], row["task"])


def intervals(row: Row) -> dict[str, tuple[float, float, float]]:
    """Mean, low and high over seeds of ``accuracy, pgd, certified, attacked`` of a row.

    NaN where nothing was measured.
    """
    return {
        name: interval(np.asarray(row[name], float), Counted(row[points], 0.0))
        for name, points in _MEASURED.items()
    }
