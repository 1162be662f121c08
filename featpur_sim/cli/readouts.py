"""``featpur readouts``: output weights trained anew on the features of a finished run."""

from typing import Annotated

import typer

from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import AllowImport, AsJson, Directory, Quiet, say


def readouts(
    directory: Directory,
    samples: Annotated[
        int | None, typer.Option(help="Test points per seed; by default the run's own number.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Gradient steps of each readout's training.")] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, help="Names test points (0: the run's own) and training.")
    ] = 1,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train only the output weights, anew, on hidden weights that stay; writes DIR/readouts.json.

    Is robustness in the hidden weights? Clean, purified and random ones each
    get a readout trained on clean data and one trained adversarially, as in
    the run's second phase; clean and purified ones also get a readout of a
    new w*, a downstream task.

    Each is attacked by the run's own PGD at τ, and certified on as many points
    as the run certified. All seeds. 'featpur compare' varies the class of
    models instead, 'featpur evaluate' the attack.

    Also draws DIR/figures/readouts.png. 'featpur report DIR' then puts claims
    C12 and C13 and the figure into scorecard and report.
    """
    from featpur_sim._ground.disk import claim_or_print, write_text
    from featpur_sim._ground.manifest import require_ours, rewriting
    from featpur_sim.claims.of_readouts import READOUTS
    from featpur_sim.cli import tables
    from featpur_sim.cli.evaluate import print_left_out
    from featpur_sim.cli.progress import meter
    from featpur_sim.report import readout_figure
    from featpur_sim.runs.certificate import keep_contradiction
    from featpur_sim.runs.folder import FIGURES, figure_files, to_json
    from featpur_sim.runs.readouts import readout_run
    from featpur_sim.runs.saved import load_run

    saved = load_run(directory, allow_import=allow_import)
    files = [READOUTS, *figure_files("readouts")]
    require_ours(directory, *files)
    with (
        claim_or_print(directory, as_json) as writable,
        meter(saved.config.name, quiet=quiet or as_json) as shown,
        keep_contradiction(directory),
    ):
        rows = readout_run(saved, samples=samples, steps=steps, seed=seed, meter=shown)
        if writable:
            with rewriting(directory, *files):
                write_text(directory / READOUTS, to_json(rows, indent=2) + "\n")
                readout_figure.save(rows, directory / FIGURES)
    print_left_out(saved.result, quiet)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.readouts(rows))
        say(False, str(directory / READOUTS))
        say(False, f"'featpur report {directory}' adds C12 and C13 to scorecard and report.")
