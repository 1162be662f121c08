"""Scorecard, figures, report.html and explorer.html of everything that a run's folder holds.

Beside the runs themselves: certificates, attacks on fresh points, competitors, readouts and the
reduced dynamics, as far as their commands were given.
"""

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from featpur_sim._ground.disk import claim_folder
from featpur_sim._ground.manifest import require_ours, rewriting
from featpur_sim.claims import of_classes, of_closure, of_dynamics, of_readouts, of_run
from featpur_sim.claims.claim import Case, Claim, Row
from featpur_sim.claims.claim import rows as held_together
from featpur_sim.report import closure_figure, explorer, run_figures, run_page
from featpur_sim.runs import diagnosis
from featpur_sim.runs.attack import load_attacked
from featpur_sim.runs.certificate import load_certificate
from featpur_sim.runs.config import parse_text
from featpur_sim.runs.folder import (
    FIGURES,
    REPORT,
    RESULT,
    SCORECARD,
    figure_files,
    load_result,
    save_scorecard,
)
from featpur_sim.runs.own import own_claims


def write_report(
    directory: str | Path, *, claims: Sequence[Claim] | None = None, allow_import: bool = False
) -> list[Row]:
    """Rebuild what shows a folder's runs, from what its commands have left there.

    ``explorer.html`` is left out without the extra ``explorer``.

    Args:
        directory: of a finished run, or of ``featpur reproduce``.
        claims: of a run that was given claims in Python, the same or others.
        allow_import: whether the claims may be imported that its settings name as code.

    Returns:
        The rows of the scorecard.

    Raises:
        ResultError: there is no finished run, a file is damaged, or one that would be replaced is
            not ours.
        ConfigError: the scorecard has claims that are code, which is not here.
    """
    directory = Path(directory)
    runs = {directory: load_result(directory)}
    runs |= {folder: load_result(folder) for folder in _others(directory)}
    drawn = figure_files(*run_figures.ALL)
    closures = {folder: of_closure.load_closure(folder, result) for folder, result in runs.items()}
    for folder, closure in closures.items():
        also = figure_files(closure_figure.NAME) if closure else []
        require_ours(folder, *drawn, *also, explorer.EXPLORER)
    require_ours(directory, SCORECARD, REPORT)
    cases: list[Case] = []
    shown = []
    for folder, result in runs.items():
        compared, certified = of_classes.load_comparison(folder), load_certificate(folder)
        readouts = of_readouts.load_readouts(folder)
        config = parse_text(result.attrs["config"])
        own = own_claims(config, claims, allow_import)
        cases += of_run.run_cases(result, certified, own) + of_classes.class_cases(result, compared)
        cases += of_readouts.readout_cases(result, readouts)
        cases += of_closure.closure_cases(result, closures[folder])
        attacked, figures = load_attacked(folder), folder / FIGURES
        shown.append(
            run_page.Shown(
                result, compared, certified, attacked, figures, readouts, closures[folder]
            )
        )
    rows = held_together(cases) + of_dynamics.load(directory)
    with claim_folder(directory):
        for folder, result in runs.items():
            _draw(folder, result, drawn, closures[folder])
            explorer.write_run(folder, result)
        with rewriting(directory, SCORECARD, REPORT):
            save_scorecard(directory, rows)
            run_page.write_page(directory / REPORT, shown, rows)
    return rows


def _draw(folder: Path, result: xr.Dataset, drawn: list[str], closure: list[Row]) -> None:
    if diagnosis.finished(result).any():
        with rewriting(folder, *drawn):
            run_figures.save_all(result, folder / FIGURES)
        if closure:
            closure_figure.save(folder, result, closure)


def _others(directory: Path) -> list[Path]:
    """The folders in it that hold a run."""
    return [folder for folder in sorted(directory.iterdir()) if (folder / RESULT).is_file()]
