"""``featpur fit``, and ``featpur report`` of a sweep: exponents beside the predicted ones."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import AsJson, Quiet, path_of, say, tell

SweepFolder = Annotated[
    Path, typer.Argument(parser=path_of, metavar="DIR", help="Folder of a finished sweep.")
]


def fit(
    directory: SweepFolder,
    quantity: Annotated[
        list[str] | None,
        typer.Option(help="Such as 'kappa_over_alpha[phase=clean]'; repeat for several."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Coordinate, such as d; repeat for a joint fit. Default: all that vary."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="Keep the points with this coordinate, such as sigma_x=0.3; repeatable."),
    ] = None,
    x: Annotated[
        str | None, typer.Option(help="Coordinate along x of the phase diagrams; d by default.")
    ] = None,
    y: Annotated[str | None, typer.Option(help="Along y; k by default.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit power laws to a sweep, with intervals over seeds; writes DIR/fit.json and figures.

    By default everything that the theory predicts an exponent for; never against what cannot change
    it. Phase diagrams are drawn where d and k both vary, or over --x and --y.
    """
    from featpur_sim._ground.disk import claim_or_print
    from featpur_sim._ground.manifest import require_ours
    from featpur_sim.claims.diagram import select
    from featpur_sim.claims.power_law import as_row
    from featpur_sim.claims.quantity import Quantity
    from featpur_sim.cli import tables
    from featpur_sim.report.sweep_page import FIT, draw_all, fit_all, write_fits
    from featpur_sim.runs.folder import to_json
    from featpur_sim.sweeps.run import load_sweep

    quantities = [Quantity.parse(text) for text in quantity] if quantity else None
    plane = _plane(x, y)
    result = select(load_sweep(directory), dict(map(_assignment, at or [])))
    require_ours(directory, FIT)
    with claim_or_print(directory, as_json) as writable:
        fits = fit_all(result, quantities, against or None)
        if writable:
            write_fits(directory, fits, draw_all(result, fits.laws, plane))
    rows = [as_row(law) for law in fits.laws]
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.exponents(rows))
        for remark in (remark for row in rows for remark in row["remarks"]):
            tell(f"[yellow]note:[/yellow] {escape(remark)}")
        for name, reason in fits.refused.items():
            tell(f"[yellow]not fitted:[/yellow] {escape(f'{name}. {reason}')}")
        say(False, f"{directory / FIT}, {directory / 'figures'}")


def _assignment(text: str) -> tuple[str, str]:
    from featpur_sim.runs.config import ConfigError

    name, _, value = text.partition("=")
    if not (name.strip() and value.strip()):
        raise ConfigError(f"--at {text!r}: write name=value, such as sigma_x=0.3.")
    return name.strip(), value.strip()


def _plane(x: str | None, y: str | None) -> tuple[str, str] | None:
    from featpur_sim.claims.diagram import PLANE
    from featpur_sim.runs.config import ConfigError

    if x is None and y is None:
        return None
    plane = x or PLANE[0], y or PLANE[1]
    if plane[0] == plane[1]:
        raise ConfigError(f"--x {plane[0]} and --y {plane[1]} are one coordinate: give two.")
    return plane


def holds_sweep(directory: Path) -> bool:
    """Whether a folder holds a finished sweep, and no run."""
    from featpur_sim.runs.folder import RESULT
    from featpur_sim.sweeps.run import SWEEP

    return (directory / SWEEP).is_file() and not (directory / RESULT).exists()


def report_sweep(directory: Path, quiet: bool) -> None:
    """Fits, figures, ``report.html`` and ``explorer.html`` of a sweep's folder."""
    from featpur_sim.report import explorer
    from featpur_sim.report.sweep_page import write_report

    say(quiet, f"{write_report(directory)}{explorer.beside(directory)}")
