"""``featpur dynamics``: the reduced model of a run, or its exponents (docs/dynamics.md)."""

from pathlib import Path
from typing import Annotated

import typer

from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import Out, say

# Checked by typer before anything else: three points are the least that a line with an error needs.
Sparsities = Annotated[
    list[float] | None,
    typer.Option(
        "--a", min=0.0, max=1.0, help="k = d^a; repeat for several. Default: 0.35, 0.4, 0.45."
    ),
]


def dynamics(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings file.")],
    out: Out = Path("featpur-dynamics"),
    exponents: Annotated[
        bool, typer.Option("--exponents", help="Fit exponents over d = 10⁴ … 10⁹.")
    ] = False,
    a: Sparsities = None,
    population: Annotated[
        bool,
        typer.Option("--population", help="Neuron by neuron: a prediction with constants (C14)."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Names the nodes.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """The reduced dynamics of a settings file: trajectories, or exponents at d up to 10⁹.

    Takes the file of 'featpur run'. Writes DIR/dynamics.nc and figures; with --exponents
    DIR/dynamics.json, DIR/dynamics_scorecard.json and figures; with --population, which takes
    more than half as long as the run itself, DIR/population.json. 'featpur report DIR' on the
    folder of a run adds the scorecard rows, and C14, to its report.
    """
    from featpur_sim._ground.disk import claim_or_print
    from featpur_sim._ground.manifest import require_ours
    from featpur_sim.claims.of_dynamics import SCORECARD
    from featpur_sim.runs import config as configuration
    from featpur_sim.runs.folder import figure_files
    from featpur_sim.runs.reduced import require_reducible

    settings = configuration.load(config)
    if population and (exponents or a):
        raise configuration.ConfigError("--population does not go with --exponents: one at a time.")
    if population:
        _population(settings, out, quiet, as_json)
        return
    require_reducible(settings)
    if exponents:
        files = ["dynamics.json", SCORECARD, *figure_files("exponents")]
    else:
        files = ["dynamics.nc", *figure_files("dynamics")]
    require_ours(out, *files)
    with claim_or_print(out, as_json) as writable:
        if exponents:
            sparsities = a or [0.35, 0.4, 0.45]
            _exponents(settings, out, files, sparsities, seed, quiet, as_json, writable)
        else:
            _trajectories(settings, out, files, seed, quiet, as_json, writable)


def _population(settings, out: Path, quiet: bool, as_json: bool) -> None:
    from featpur_sim._ground.disk import claim_or_print
    from featpur_sim._ground.manifest import require_ours
    from featpur_sim.claims.of_closure import CLOSURE, save_closure
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.runs.closure import closure_run, require_closed
    from featpur_sim.runs.folder import to_json

    require_closed(settings)
    require_ours(out, CLOSURE)
    with (
        claim_or_print(out, as_json) as writable,
        meter(settings.name, quiet=quiet or as_json) as shown,
    ):
        rows = closure_run(settings, directory=out if writable else None, meter=shown)
        if writable:
            save_closure(out, rows)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.closure(rows))
        say(False, str(out / CLOSURE))
        say(False, f"'featpur report {out}' holds the run in that folder against it (C14).")


def _trajectories(
    settings, out: Path, files: list[str], seed: int, quiet: bool, as_json: bool, writable: bool
) -> None:
    from featpur_sim._ground.manifest import rewriting
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.report import dynamics_figures
    from featpur_sim.runs.folder import save_netcdf, to_json
    from featpur_sim.runs.reduced import reduced_run, to_dataset

    with meter(settings.name, quiet=quiet or as_json) as shown:
        shown.at("reduced dynamics", 0, 1)
        result = to_dataset(settings, reduced_run(settings, seed=seed))
        shown.at("reduced dynamics", 1, 1)
    if writable:
        figures = {"dynamics": dynamics_figures.trajectories(result)}
        with rewriting(out, *files):
            save_netcdf(out / "dynamics.nc", result)
            dynamics_figures.save(figures, out / "figures")
    if as_json:
        typer.echo(to_json(tables.reduced_rows(result)))
    elif not quiet:
        screen().print(tables.reduced(result))
        say(False, str(out / "dynamics.nc"))


def _exponents(
    settings,
    out: Path,
    files: list[str],
    a: list[float],
    seed: int,
    quiet: bool,
    as_json: bool,
    writable: bool,
) -> None:
    from featpur_sim._ground.disk import write_text
    from featpur_sim._ground.manifest import rewriting
    from featpur_sim.claims import of_dynamics as reduced_claims
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.report import dynamics_figures
    from featpur_sim.runs.config import ConfigError
    from featpur_sim.runs.folder import to_json
    from featpur_sim.runs.reduced import scaling_of
    from featpur_sim.theory.dynamics import exponents as reduced_exponents

    scaling = scaling_of(settings)
    rows, lines = [], {}
    with meter(settings.name, quiet=quiet or as_json) as shown:
        for value in sorted(set(a)):
            try:
                points = reduced_exponents.solve_all(value, scaling, seed=seed, meter=shown)
            except ValueError as error:
                raise ConfigError(str(error)) from None
            rows += reduced_exponents.fit(value, points, scaling)
            lines[value] = points
    verdicts = reduced_claims.scorecard(lines, scaling)
    if writable:
        figures = {"exponents": dynamics_figures.exponents(rows)}
        with rewriting(out, *files):
            write_text(out / "dynamics.json", to_json(rows, indent=2) + "\n")
            write_text(out / reduced_claims.SCORECARD, to_json(verdicts, indent=2) + "\n")
            dynamics_figures.save(figures, out / "figures")
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.reduced_exponents(rows))
        say(False, str(out / "dynamics.json"))
