"""``featpur evaluate``, ``certify`` and ``compare``: a finished run, attacked again."""

import json
from typing import Annotated

import typer
from rich.markup import escape

from featpur_sim._ground.rows import Row, Settings
from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import (
    BAD_INPUT,
    AllowImport,
    AsJson,
    Directory,
    EffortName,
    ProtocolName,
    Quiet,
    Radius,
    say,
    stop,
    tell,
    typed,
)


def evaluate(
    directory: Directory,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(help="A frozen attack protocol instead of the run's own attacks."),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Test points per seed.")] = None,
    restarts: Annotated[int | None, typer.Option(help="PGD starts; not with --protocol.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="PGD steps per start; not with --protocol.")
    ] = None,
    radius: Radius = None,
    seed: Annotated[int, typer.Option(min=0, help="Names the test points; 0: the run's own.")] = 1,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Attack the networks of a finished run again, on fresh points; writes DIR/evaluation.nc.

    With --protocol also DIR/evaluation.json, with what each attack contributed and any warnings.
    """
    from featpur_sim._ground.disk import claim_or_print
    from featpur_sim._ground.manifest import require_ours, rewriting
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.runs.diagnosis import in_words
    from featpur_sim.runs.folder import save_netcdf
    from featpur_sim.runs.saved import evaluate_run, load_run, means

    if protocol is not None:
        if restarts is not None or steps is not None:
            stop(
                BAD_INPUT,
                "--restarts and --steps do not go with --protocol: its attacks are frozen, so that "
                "results compare. Leave them out, or leave out --protocol.",
            )
        _evaluate_protocol(directory, protocol, samples, radius, seed, allow_import, quiet, as_json)
        return
    saved = load_run(directory, allow_import=allow_import)
    require_ours(directory, "evaluation.nc")
    radii = None if not radius else sorted({0.0, 1.0, *radius})
    with (
        claim_or_print(directory, as_json) as writable,
        meter(saved.config.name, quiet=quiet) as shown,
    ):
        scores = evaluate_run(
            saved,
            samples=samples,
            restarts=restarts,
            steps=steps,
            radii=radii,
            seed=seed,
            meter=shown,
        )
        if writable:
            with rewriting(directory, "evaluation.nc"):
                save_netcdf(directory / "evaluation.nc", scores)
    print_left_out(saved.result, quiet)
    if as_json:
        typer.echo(json.dumps(means(scores)))
    elif not quiet:
        screen().print(tables.accuracies(scores, in_words(saved.result)))
        say(False, str(directory / "evaluation.nc"))


def _evaluate_protocol(
    directory, protocol, samples, radius, seed, allow_import, quiet, as_json
) -> None:
    from featpur_sim._ground.disk import claim_or_print, write_text
    from featpur_sim._ground.manifest import require_ours, rewriting
    from featpur_sim.attacks.protocol import PROTOCOLS
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.runs.attack import as_dataset, attack_run, contributions
    from featpur_sim.runs.diagnosis import in_words
    from featpur_sim.runs.folder import save_netcdf, to_json
    from featpur_sim.runs.saved import load_run

    saved = load_run(directory, allow_import=allow_import)
    require_ours(directory, "evaluation.json", "evaluation.nc")
    given: Settings = {} if samples is None else {"samples": samples}
    given |= {"radii": sorted(set(radius))} if radius else {}
    with (
        claim_or_print(directory, as_json) as writable,
        meter(saved.config.name, quiet=quiet) as shown,
    ):
        rows = attack_run(saved, protocol=PROTOCOLS[protocol], seed=seed, meter=shown, **given)
        scores = as_dataset(rows)
        if writable:
            with rewriting(directory, "evaluation.json", "evaluation.nc"):
                save_netcdf(directory / "evaluation.nc", scores)
                write_text(directory / "evaluation.json", to_json(rows, indent=2) + "\n")
    print_left_out(saved.result, quiet)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.accuracies(scores, in_words(saved.result)))
        screen().print(tables.contributions(contributions(rows)))
        _print_warnings(rows)
        say(False, f"{directory / 'evaluation.json'}, {directory / 'evaluation.nc'}")
        say(False, f"'featpur report {directory}' adds them to the report.")


def certify(
    directory: Directory,
    radius: Radius = None,
    norm: Annotated[str | None, typer.Option(help="l2 or linf; by default the run's own.")] = None,
    points: Annotated[int, typer.Option(help="Test points per seed.")] = 1000,
    stages: Annotated[
        str | None,
        typer.Option(help="Some of linear,q1,q2,branch; by default all."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Only the first so many seeds.")] = None,
    protocol: Annotated[ProtocolName, typer.Option(help="The attack.")] = "standard",
    effort: Annotated[
        EffortName, typer.Option(help="high: Q2 goes on for 2,000 steps, close to its optimum.")
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Names the test points.")] = 1,
    minutes: Annotated[
        float, typer.Option(help="Stop after so long with what is decided by then; inf: never.")
    ] = 10.0,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Prove robustness against every perturbation, point by point; writes DIR/certificate.json.

    Attacks first, certifies what stands, and attacks again from where the certificate is weakest:
    the true robust accuracy lies between the two numbers. Default radii: 0.5, 1 and 1.5.

    Cheap stages come first, for all networks and radii, and hard points last. Results are written
    as they come; stopped by --minutes or in any other way, the same command goes on.
    """
    from featpur_sim._ground.disk import can_write
    from featpur_sim.attacks.protocol import PROTOCOLS
    from featpur_sim.certify import EFFORTS
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.runs.budget import Budget
    from featpur_sim.runs.certificate import CERTIFICATE, keep_contradiction
    from featpur_sim.runs.certify import certify_run, closing
    from featpur_sim.runs.folder import to_json
    from featpur_sim.runs.saved import load_run

    if not minutes > 0:
        stop(BAD_INPUT, f"minutes = {minutes}: allow more than 0, or inf for as long as it takes.")
    budget = Budget(60 * minutes)
    saved = load_run(directory, allow_import=allow_import)
    given: Settings = {"radii": sorted(set(radius))} if radius else {}
    # On a read-only disk the result can be printed, at least.
    kept = None if as_json and not can_write(directory) else directory
    with meter(saved.config.name, quiet=quiet) as shown, keep_contradiction(directory):
        rows = certify_run(
            saved,
            norm=norm,
            points=points,
            stages=None if stages is None else stages.split(","),
            seeds=seeds,
            protocol=PROTOCOLS[protocol],
            seed=seed,
            effort=EFFORTS[effort],
            budget=budget,
            directory=kept,
            meter=shown,
            **given,
        )
    print_left_out(saved.result, quiet)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.certificate(rows))
        _print_warnings(rows)
        say(False, str(directory / CERTIFICATE))
        say(False, f"'featpur report {directory}' adds it to the report, and may change C5.")
    say(quiet, closing(rows, typed(without="--minutes"), minutes))


def compare(
    directory: Directory,
    protocol: Annotated[ProtocolName, typer.Option(help="The attacks.")] = "quick",
    samples: Annotated[int, typer.Option(help="Test points.")] = 1000,
    steps: Annotated[
        int, typer.Option(help="Gradient steps of each stage of a competitor's training.")
    ] = 300,
    certify_points: Annotated[
        int, typer.Option(help="Points on which the purified network is certified; 0: none.")
    ] = 10_000,
    radius: Radius = None,
    seed: Annotated[int, typer.Option(min=0, help="Names the test points and the training.")] = 1,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Linear, polynomial and tangent-kernel competitors on a run's data; writes DIR/compare.json.

    Every model meets the same attacks on the same points, beside what is
    proved of its class, and the purified network is certified: above a
    class-wide bound, the two are separated by proof.

    Default radii: 0.5, 1, 1.5 and 2. Under three minutes at d = 64 on two
    cores; the tangent kernels' share grows like d².

    Also draws DIR/figures/comparison.png. 'featpur report DIR' then puts claim
    C8 and its figure into scorecard and report.
    """
    from featpur_sim._ground.disk import claim_or_print, write_text
    from featpur_sim._ground.manifest import require_ours, rewriting
    from featpur_sim.attacks.protocol import PROTOCOLS
    from featpur_sim.claims.of_classes import COMPARISON
    from featpur_sim.cli import tables
    from featpur_sim.cli.progress import meter
    from featpur_sim.report import class_figure as comparison_figure
    from featpur_sim.runs.certificate import keep_contradiction
    from featpur_sim.runs.compare import compare_run
    from featpur_sim.runs.folder import figure_files, to_json
    from featpur_sim.runs.saved import load_run

    saved = load_run(directory, allow_import=allow_import)
    files = [COMPARISON, *figure_files("comparison")]
    require_ours(directory, *files)
    given: Settings = {"radii": sorted(set(radius))} if radius else {}
    with (
        claim_or_print(directory, as_json) as writable,
        meter(saved.config.name, quiet=quiet or as_json) as shown,
        keep_contradiction(directory),
    ):
        rows = compare_run(
            saved,
            protocol=PROTOCOLS[protocol],
            samples=samples,
            steps=steps,
            certify_points=certify_points,
            seed=seed,
            meter=shown,
            **given,
        )
        if writable:
            radius_of_run = saved.config.adversarial.radius
            with rewriting(directory, *files):
                write_text(directory / COMPARISON, to_json(rows, indent=2) + "\n")
                comparison_figure.save(rows, radius_of_run, directory / "figures")
    print_left_out(saved.result, quiet)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        screen().print(tables.comparison(rows))
        say(False, str(directory / COMPARISON))


def print_left_out(result, quiet: bool) -> None:
    """Name the seeds that are in none of the numbers."""
    from featpur_sim.runs.diagnosis import left_out

    if not quiet and (named := left_out(result)):
        tell(f"[yellow]left out:[/yellow] {escape('; '.join(named))}")


def _print_warnings(rows: list[Row]) -> None:
    for warning in sorted({text for row in rows for text in row["warnings"]}):
        tell(f"[yellow]warning:[/yellow] {escape(warning)}")
