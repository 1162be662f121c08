"""The command line. It parses, calls the library and prints; it holds no science.

Exit codes: 0 done; 2 bad input (nothing computed, nothing overwritten); 3 stopped part-way (the
same command goes on where it stopped); 4 an attack contradicts a certificate (the point is saved in
DIR/contradiction.npz); 130 interrupted with Ctrl-C (the same command goes on).
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featpur_sim._terminal import (
    BAD_INPUT,
    CONTRADICTED,
    INTERRUPTED,
    STOPPED,
    AsJson,
    Directory,
    Out,
    Overwrite,
    ProtocolName,
    Quiet,
    Radius,
    say,
    stop,
    tell,
)
from featpur_sim.cli_fit import fit, holds_sweep, report_sweep
from featpur_sim.cli_sweep import sweep

app = typer.Typer(
    name="featpur",
    help="Feature purification by adversarial training: simulate it, measure it, check it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_VERDICT_STYLE = {
    "supported": "green",
    "contradicted": "red",
    "inconclusive at this size": "yellow",
    "attacked only": "cyan",
    "proved class-wide": "green",
    "measured best member": "cyan",
    "counterexample": "red",
}


@app.command()
def reproduce(
    out: Out = Path("featpur-out"),
    seeds: Annotated[int, typer.Option(min=1, help="Independent seeds, trained together.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Base seed.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Larger d and longer training (about an hour).")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The paper's headline: clean training, purification, scorecard, figures, report.

    Two regimes: dense-regime (files at the top of the folder) and sparse-regime (in a folder of
    that name). Under three minutes on two cores. Killed part-way, the same command goes on.
    """
    from featpur_sim.experiment import check
    from featpur_sim.progress import Meter
    from featpur_sim.reproduce import presets
    from featpur_sim.reproduce import reproduce as library_reproduce
    from featpur_sim.result import REPORT, claim_folder, require_free

    began = time.perf_counter()
    configs = presets(seeds=seeds, seed=seed, full=full)
    for settings in configs:
        check(settings)
    require_free(out, overwrite)
    with claim_folder(out):
        rows = library_reproduce(
            out, configs, lambda label: Meter(label, quiet=quiet), overwrite=overwrite
        )
    _print_scorecard(rows, quiet, as_json)
    say(quiet or as_json, f"{out / REPORT}   ({time.perf_counter() - began:.0f} s)")


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings file.")],
    out: Out = Path("featpur-run"),
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Replace the file's seed.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """One run of your own settings ('featpur init' writes a commented file to start from)."""
    from featpur_sim import config as configuration
    from featpur_sim.experiment import check
    from featpur_sim.progress import Meter
    from featpur_sim.reproduce import reproduce as library_reproduce
    from featpur_sim.result import REPORT, claim_folder, require_free

    settings = configuration.load(config)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    check(settings)
    require_free(out, overwrite)
    with claim_folder(out):
        rows = library_reproduce(
            out, [settings], lambda label: Meter(label, quiet=quiet), overwrite=overwrite
        )
    _print_scorecard(rows, quiet, as_json)
    say(quiet or as_json, str(out / REPORT))


@app.command()
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Attack the networks of a finished run again, on fresh points; writes DIR/evaluation.nc.

    With --protocol also DIR/evaluation.json, with what each attack contributed and any warnings.
    """
    from featpur_sim import tables
    from featpur_sim.progress import Meter
    from featpur_sim.result import atomic_path
    from featpur_sim.saved import evaluate_run, load_run

    if protocol is not None:
        if restarts is not None or steps is not None:
            stop(
                BAD_INPUT,
                "--restarts and --steps do not go with --protocol: its attacks are frozen, so that "
                "results compare. Leave them out, or leave out --protocol.",
            )
        _evaluate_protocol(directory, protocol, samples, radius, seed, quiet, as_json)
        return
    saved = load_run(directory)
    radii = None if not radius else sorted({0.0, 1.0, *radius})
    with Meter(saved.config.name, quiet=quiet) as meter:
        scores = evaluate_run(
            saved,
            samples=samples,
            restarts=restarts,
            steps=steps,
            radii=radii,
            seed=seed,
            meter=meter,
        )
    with atomic_path(directory / "evaluation.nc") as temporary:
        scores.to_netcdf(temporary, engine="h5netcdf")
    if as_json:
        mean = scores.robust_accuracy.mean("seed", skipna=False)
        records = mean.to_dataframe(name="accuracy").dropna().reset_index().to_dict("records")
        typer.echo(json.dumps(records))
    elif not quiet:
        Console().print(tables.accuracies(scores))
        say(False, str(directory / "evaluation.nc"))


def _evaluate_protocol(directory, protocol, samples, radius, seed, quiet, as_json) -> None:
    from featpur_sim import tables
    from featpur_sim.attack_run import as_dataset, attack_run, contributions
    from featpur_sim.progress import Meter
    from featpur_sim.protocol import PROTOCOLS
    from featpur_sim.result import atomic_path, to_json
    from featpur_sim.saved import load_run

    saved = load_run(directory)
    given: dict[str, Any] = {} if samples is None else {"samples": samples}
    given |= {"radii": sorted(set(radius))} if radius else {}
    with Meter(saved.config.name, quiet=quiet) as meter:
        rows = attack_run(
            saved, protocol=PROTOCOLS[protocol], seed=seed, advance=meter.evaluating, **given
        )
    with atomic_path(directory / "evaluation.json") as temporary:
        temporary.write_text(to_json(rows, indent=2) + "\n")
    scores = as_dataset(rows)
    with atomic_path(directory / "evaluation.nc") as temporary:
        scores.to_netcdf(temporary, engine="h5netcdf")
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        Console().print(tables.accuracies(scores))
        Console().print(tables.contributions(contributions(rows)))
        _print_warnings(rows)
        say(False, f"{directory / 'evaluation.json'}, {directory / 'evaluation.nc'}")


@app.command()
def certify(
    directory: Directory,
    radius: Radius = None,
    norm: Annotated[str | None, typer.Option(help="l2 or linf; by default the run's own.")] = None,
    points: Annotated[int, typer.Option(help="Test points per seed.")] = 1000,
    stages: Annotated[
        str | None,
        typer.Option(help="Some of linear,q1,q2,branch; by default all that the norm has."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Only the first so many seeds.")] = None,
    protocol: Annotated[ProtocolName, typer.Option(help="The attack.")] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Names the test points.")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Prove robustness against every perturbation, point by point; writes DIR/certificate.json.

    Attacks first, certifies what stands, and attacks again from where the certificate is weakest:
    the true robust accuracy lies between the two numbers. Default radii: 0.5, 1 and 1.5.
    """
    from featpur_sim import tables
    from featpur_sim.certify_run import certify_run, keep_contradiction, save_certificate
    from featpur_sim.progress import Meter
    from featpur_sim.protocol import PROTOCOLS
    from featpur_sim.result import to_json
    from featpur_sim.saved import load_run

    saved = load_run(directory)
    given: dict[str, Any] = {"radii": sorted(set(radius))} if radius else {}
    with Meter(saved.config.name, quiet=quiet) as meter, keep_contradiction(directory):
        rows = certify_run(
            saved,
            norm=norm,
            points=points,
            stages=None if stages is None else stages.split(","),
            seeds=seeds,
            protocol=PROTOCOLS[protocol],
            seed=seed,
            advance=meter.certifying,
            **given,
        )
    path = save_certificate(directory, rows)
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        Console().print(tables.certificate(rows))
        _print_warnings(rows)
        say(False, str(path))


@app.command()
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
    from featpur_sim import comparison_figure, tables
    from featpur_sim.certify_run import keep_contradiction
    from featpur_sim.compare import compare_run
    from featpur_sim.comparison import COMPARISON
    from featpur_sim.progress import Meter
    from featpur_sim.protocol import PROTOCOLS
    from featpur_sim.result import atomic_path, to_json
    from featpur_sim.saved import load_run

    saved = load_run(directory)
    given: dict[str, Any] = {"radii": sorted(set(radius))} if radius else {}
    with Meter(saved.config.name, quiet=quiet or as_json) as meter, keep_contradiction(directory):
        rows = compare_run(
            saved,
            protocol=PROTOCOLS[protocol],
            samples=samples,
            steps=steps,
            certify_points=certify_points,
            seed=seed,
            advance=meter.comparing,
            **given,
        )
    path = directory / COMPARISON
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(rows, indent=2) + "\n")
    comparison_figure.save(rows, saved.config.adversarial.radius, directory / "figures")
    if as_json:
        typer.echo(to_json(rows))
    elif not quiet:
        Console().print(tables.comparison(rows))
        say(False, str(path))


@app.command()
def report(directory: Directory, quiet: Quiet = False) -> None:
    """Rebuild scorecard, figures and report.html of a finished run from its result.nc.

    Of a sweep's folder: exponents, figures and report.html from sweep.nc.
    """
    if holds_sweep(directory):
        report_sweep(directory, quiet)
        return
    from featpur_sim import claims, comparison, figures
    from featpur_sim import report as html
    from featpur_sim.reproduce import parts
    from featpur_sim.result import REPORT, save_scorecard

    runs = parts(directory)
    compared = {name: comparison.load_comparison(folder) for folder, (name, _) in runs.items()}
    rows = []
    for folder, (name, result) in runs.items():
        rows += claims.scorecard(result) + comparison.scorecard(result, compared[name])
        if (result.status == "ok").any():
            figures.save_all(result, folder / "figures")
    save_scorecard(directory, rows)
    html.write(directory / REPORT, list(runs.values()), rows, compared)
    _print_scorecard(rows, quiet, False)
    say(quiet, str(directory / REPORT))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("featpur.toml"),
) -> None:
    """Write a commented settings file to start from."""
    from featpur_sim.result import atomic_path
    from featpur_sim.starter import STARTER

    if file.exists():
        stop(BAD_INPUT, f"{file} exists already: name another file, or remove it.")
    try:
        with atomic_path(file) as temporary:
            temporary.write_text(STARTER)
    except OSError as error:
        stop(BAD_INPUT, f"cannot write {file}: {error.strerror}. Name another file.")
    typer.echo(f"{file}: edit it, then  featpur run {file} --out DIR")


app.command()(sweep)
app.command()(fit)


def main() -> NoReturn:
    """Run the command line and turn every foreseen error into one message and an exit code."""
    import jax

    from featpur_sim.certify import Contradiction, NotCertified
    from featpur_sim.checkpoint import CheckpointError
    from featpur_sim.config import ConfigError
    from featpur_sim.result import ResultError

    try:
        app(prog_name="featpur")
    except (KeyboardInterrupt, SystemExit) as signal:
        # typer turns Ctrl-C into an exit without a word.
        if isinstance(signal, SystemExit) and signal.code != INTERRUPTED:
            raise
        stop(
            INTERRUPTED,
            "interrupted: the same command goes on where training stopped. (A sweep: --resume.)",
        )
    except (ConfigError, ResultError, CheckpointError, NotCertified) as error:
        stop(BAD_INPUT, str(error))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        stop(
            STOPPED,
            "stopped: the device ran out of memory. Lower seeds, network.neurons or "
            "evaluation.samples, or set microbatch.",
        )
    except Contradiction as error:
        stop(CONTRADICTED, " ".join([str(error), *getattr(error, "__notes__", [])]))
    except (OSError, MemoryError) as error:
        stop(STOPPED, f"stopped: {error}. The same command goes on where training stopped.")
    sys.exit(0)


def _print_warnings(rows: list[dict[str, Any]]) -> None:
    for warning in sorted({text for row in rows for text in row["warnings"]}):
        tell(f"[yellow]warning:[/yellow] {escape(warning)}")


def _print_scorecard(rows: list[dict[str, Any]], quiet: bool, as_json: bool) -> None:
    if as_json:
        from featpur_sim.result import to_json

        typer.echo(to_json(rows))
        return
    if quiet:
        return
    if not rows:
        tell(
            "[bold red]no seed finished:[/bold red] every one died or diverged (result.nc says "
            "when); lower learning_rate or the final bias."
        )
        return
    console = Console()
    for regime in dict.fromkeys(row["regime"] for row in rows):
        table = Table(title=escape(f"Scorecard, {regime}"), show_lines=True, title_justify="left")
        table.add_column("id", no_wrap=True)
        table.add_column("claim, as measured", ratio=1)
        table.add_column("measured\n\\[95 % CI]", no_wrap=True)
        table.add_column("verdict", width=12)
        for row in rows:
            if row["regime"] == regime:
                table.add_row(*_scorecard_cells(row))
        console.print(table)
    console.print("The rule behind each verdict: scorecard.json, report.html.", highlight=False)


def _scorecard_cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = "" if row["ci"] is None else f"\n[{row['ci'][0]:.3g}, {row['ci'][1]:.3g}]"
    style = _VERDICT_STYLE[row["verdict"]]
    # Square brackets are markup to the console, unless escaped.
    note = escape(f"prediction: {row['predicted']}, {row['source']}")
    claim = f"{escape(row['statement'])}\n[dim]{note}[/dim]"
    measured = escape(f"{row['measured']:.3g}{interval}")
    return row["id"], claim, measured, f"[{style}]{row['verdict']}[/{style}]"
