"""A study from end to end: every point trained, attacked, measured, judged, drawn."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import xarray as xr

from featpur_sim._ground.meter import SILENT, Lines
from featpur_sim._ground.rows import Row
from featpur_sim.claims.claim import Claim, cases, rows
from featpur_sim.claims.of_run import require_own
from featpur_sim.report.one_sweep import Swept
from featpur_sim.report.sweep_page import write_report
from featpur_sim.runs.diagnosis import finished
from featpur_sim.sweeps.study import Study
from featpur_sim.sweeps.study_run import run_study


def run_judged(
    study: Study,
    out: str | Path | None,
    claims: Sequence[Claim[xr.Dataset]],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Swept:
    """Run a study, or go on with one, and judge claims on its result.

    Args:
        study: what to do.
        out: folder for data, figures and report; nothing is written without one.
        claims: each measures the result, an xarray Dataset, or gives None where it cannot.
        overwrite: replace another study in the folder.
        quiet: print no progress.

    Raises:
        ConfigError: what is given does not keep to its contract.
        ResultError: the folder holds a study that trains otherwise, or something else.
    """
    require_own(claims)
    result = run_study(
        study, out, overwrite=overwrite, meter=SILENT if quiet else Lines(study.name)
    )
    judged = judge(study.name, result, claims)
    if out is None:
        return Swept(result, None, judged)
    write_report(out, judged)
    return Swept(result, Path(out), judged)


def judge(name: str, result: xr.Dataset, claims: Sequence[Claim[xr.Dataset]]) -> list[Row]:
    """The rows of a study's scorecard; `featpur_sim.claims.claim.rows` says what each holds."""
    return rows(cases(claims, result, name, partial(_count, result)))


def _count(result: xr.Dataset, used: int) -> str:
    ok = finished(result)
    failed = f"; {int((~ok).sum())} of all runs failed" if not ok.all() else ""
    return f"{used} of {result.sizes['seed']}{failed}"
