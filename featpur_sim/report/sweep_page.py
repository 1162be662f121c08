"""Fits, figures and report of a finished sweep (docs/how-to/fit.md, docs/theory.md §5.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from featpur_sim._ground.disk import claim_folder, write_text
from featpur_sim._ground.manifest import recorded, require_ours, rewriting
from featpur_sim._ground.rows import Row
from featpur_sim.claims.claim import summary
from featpur_sim.claims.diagram import PLANE
from featpur_sim.claims.family import RULE, families
from featpur_sim.claims.power_law import (
    PREDICTED,
    PowerLaw,
    as_row,
    fit_power_law,
    free_coordinates,
)
from featpur_sim.claims.quantity import Quantity
from featpur_sim.claims.verdict import Verdict
from featpur_sim.report import explorer, study_figures, sweep_figures
from featpur_sim.report._style import render
from featpur_sim.report.run_page import TONES, embedded, environment
from featpur_sim.runs.folder import (
    FIGURES,
    REPORT,
    SCORECARD,
    ResultError,
    figure_files,
    load_scorecard,
    save_scorecard,
    to_json,
)
from featpur_sim.sweeps.run import SWEEP, load_sweep

FIT = "fit.json"

Drawn = dict[str, tuple[Figure, str]]
"""File name → figure and caption."""

# Drawn over d and k where a sweep varies both, or over another plane where that is asked for.
DIAGRAMS = tuple(
    map(
        Quantity.parse,
        (
            "robust_accuracy[phase=clean, attack=PGD, relative_radius=1]",
            "robust_accuracy[phase=adversarial, attack=PGD, relative_radius=1]",
            "kappa_over_alpha[phase=clean]",
            "kappa_over_alpha[phase=adversarial]",
        ),
    )
)


class Fits(NamedTuple):
    """What was fitted, and what could not be: quantity → reason."""

    laws: list[PowerLaw]
    refused: dict[str, str]


def fit_all(
    result: xr.Dataset,
    quantities: Sequence[Quantity] | None = None,
    against: Sequence[str] | None = None,
) -> Fits:
    """Fit some quantities of a sweep; by default every one that the theory predicts.

    Args:
        result: of a sweep.
        quantities: what to fit.
        against: coordinates; those that vary independently by default.

    Raises:
        ResultError: one of the given quantities cannot be fitted, or none of the default ones.
    """
    if quantities is not None:
        return Fits([fit_power_law(result, q, against) for q in quantities], {})
    fits = fit_predicted(result, against)
    if not fits.laws:
        raise ResultError(f"nothing could be fitted: {next(iter(fits.refused.values()))}")
    return fits


def fit_predicted(result: xr.Dataset, against: Sequence[str] | None = None) -> Fits:
    """Fit what the theory predicts and the sweep allows; that may be nothing: ``refused`` says why.

    Of a study it is every critical radius and every number that it measured.

    Args:
        result: of a sweep.
        against: coordinates; those that vary independently by default.
    """
    laws, refused = [], {}
    own = bool(result.attrs.get("own"))
    for quantity in study_figures.quantities_of(result) if own else PREDICTED:
        try:
            laws.append(fit_power_law(result, quantity, against))
        except ResultError as error:
            refused[str(quantity)] = str(error)
    return Fits(laws, refused)


def draw_all(
    result: xr.Dataset, laws: Sequence[PowerLaw], plane: tuple[str, str] | None = None
) -> Drawn:
    """Each power law, and phase diagrams, over d and k if both vary or over another plane.

    A diagram over d and k is left out where another coordinate varies too:
    `featpur_sim.claims.diagram.select` chooses one value of it.

    Of a study its own figures come first.

    Args:
        result: of a sweep.
        laws: fitted to it.
        plane: two coordinates.

    Raises:
        ResultError: there is no diagram over the plane that is asked for.
    """
    own = bool(result.attrs.get("own"))
    drawn = study_figures.draw_all(result) if own else {}
    for law in laws:
        figure = sweep_figures.draw_power_law(result, law)
        drawn[f"fit-{sweep_figures.slug(law.quantity)}"] = figure, sweep_figures.caption(law)
    # The window of the plane is this theorem's.
    if plane is None and (own or not {*PLANE} <= {*free_coordinates(result)}):
        return drawn
    diagrams, refused = {}, []
    for quantity in DIAGRAMS:
        try:
            figure = sweep_figures.draw_phase_diagram(result, quantity, plane or PLANE)
        except ResultError as error:
            refused.append(error)
            continue
        said = sweep_figures.caption(quantity, plane or PLANE)
        diagrams[f"phase-{sweep_figures.slug(quantity)}"] = figure, said
    if plane and not diagrams:
        raise refused[0]
    return drawn | diagrams


def write_fits(directory: str | Path, fits: Fits, drawn: Drawn) -> None:
    """Write ``fit.json`` and the figures, each atomically; figures of an earlier fit go.

    Raises:
        ResultError: files of other origin, or changed ones, would be replaced.
    """
    directory = Path(directory)
    table = {"fits": [as_row(law) for law in fits.laws], "not_fitted": fits.refused}
    files = [FIT, *figure_files(*drawn)]
    require_ours(directory, *files)
    # Beside another fit.json they would say what it does not.
    kinds = f"{FIGURES}/fit-", f"{FIGURES}/phase-", f"{FIGURES}/study-"
    stale = {name for name in recorded(directory) if name.startswith(kinds)} - {*files}
    with rewriting(directory, *files, *stale):
        for name in stale:
            (directory / name).unlink(missing_ok=True)
        write_text(directory / FIT, to_json(table, indent=2) + "\n")
        for name, (figure, _) in drawn.items():
            sweep_figures.save(figure, directory / FIGURES, name)


def build(result: xr.Dataset, fits: Fits, drawn: Drawn, scorecard: Sequence[Row] = ()) -> str:
    """The report of a sweep as one HTML page, figures embedded; of a study with its claims."""
    statuses = Counter(result.status.values.ravel().tolist())
    rows = [row | {"anchor": f"row-{number}"} for number, row in enumerate(scorecard, 1)]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            attrs=result.attrs,
            own=bool(result.attrs.get("own")),
            points=result.sizes["point"],
            seeds=result.sizes["seed"],
            swept=free_coordinates(result),
            failed={how: count for how, count in statuses.items() if how != "ok"},
            claims=families(rows),
            summary=summary(rows),
            rule=RULE,
            verdicts={verdict.value: verdict for verdict in Verdict},
            tones=TONES,
            fits=[_row(law) for law in fits.laws],
            refused=fits.refused,
            figures=[
                embedded(name, render(figure, "png"), caption)
                for name, (figure, caption) in drawn.items()
            ],
            result_file=SWEEP,
        )
    )


def write_report(directory: str | Path, scorecard: Sequence[Row] | None = None) -> Path:
    """Fits, figures and ``report.html`` of a sweep's folder, or of a study's.

    ``explorer.html`` too, with the extra ``explorer``.

    Args:
        directory: of a finished one.
        scorecard: rows of claims on a study; those that the folder holds by default.

    Raises:
        ResultError: there is no finished sweep, a file is damaged, or one that would be replaced
            is not ours.
    """
    directory = Path(directory)
    result = load_sweep(directory)
    require_ours(directory, FIT, REPORT, SCORECARD, explorer.EXPLORER)
    if scorecard is None:
        scorecard = load_scorecard(directory) if (directory / SCORECARD).exists() else ()
    with claim_folder(directory):
        fits = fit_predicted(result)
        drawn = draw_all(result, fits.laws)
        write_fits(directory, fits, drawn)
        page = build(result, fits, drawn, scorecard)
        with rewriting(directory, REPORT, SCORECARD):
            if scorecard:
                save_scorecard(directory, list(scorecard))
            else:  # what an earlier call judged
                (directory / SCORECARD).unlink(missing_ok=True)
            write_text(directory / REPORT, page)
        explorer.write_sweep(directory, result)
    return directory / REPORT


def _row(law: PowerLaw) -> Mapping[str, Any]:
    return as_row(law) | {"left_out": Counter(law.excluded.values())}
