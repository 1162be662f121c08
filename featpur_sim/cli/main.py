"""The command line. It parses, calls the library and prints; it holds no science.

Exit codes: 0 done; 2 bad input (nothing computed, nothing overwritten); 3 stopped part-way (the
same command goes on from what it had saved); 4 an attack contradicts a certificate (the point is
saved in DIR/contradiction.npz); 5 every seed died or diverged (the folder is written, and says
when); 130 interrupted with Ctrl-C, 143 by SIGTERM, 129 by the end of the terminal (the same command
goes on likewise); 141 the reader of the output left (`featpur … | head`).
"""

import os
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.markup import escape

from featpur_sim import __version__
from featpur_sim._ground.rows import Row
from featpur_sim.cli import _compiled, _signals
from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import (
    BAD_INPUT,
    CLOSED_PIPE,
    CONTRADICTED,
    INTERRUPTED,
    NO_SEED,
    STOPPED,
    AllowImport,
    AsJson,
    Closure,
    Directory,
    Out,
    Overwrite,
    Quiet,
    Verbose,
    one_line_warnings,
    path_of,
    print_any_character,
    say,
    stop,
    tell,
)
from featpur_sim.cli.dynamics import dynamics
from featpur_sim.cli.evaluate import certify, compare, evaluate
from featpur_sim.cli.fit import fit, holds_sweep, report_sweep
from featpur_sim.cli.readouts import readouts
from featpur_sim.cli.sweep import sweep

app = typer.Typer(
    name="featpur",
    help="Feature purification by adversarial training: simulate it, measure it, check it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# How typer and rich end when the reader of their output has left; nothing else ends like this.
_READER_LEFT = 1


def _print_version(asked: bool) -> bool:
    if asked:
        # Not __version__ of each: importing JAX takes seconds.
        from importlib.metadata import version

        libraries = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
        typer.echo(f"featpur_sim {__version__} ({libraries}, Python {platform.python_version()})")
        raise typer.Exit
    return asked


@app.callback()
def _for_all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    # Neither computes, and an accelerator takes seconds to start.
    if sys.argv[1:2] != ["init"] and {"-h", "--help"}.isdisjoint(sys.argv):
        _hold_switches()


# What is undone when the command ends.
_until_the_end = ExitStack()


def _hold_switches() -> None:
    """JAX's global switches as the package needs them, until the command ends."""
    if message := _compiled.keep():
        tell(escape(message))
    try:
        from featpur_sim._ground import switches
    except ValueError as error:  # JAX reads its settings when it is imported.
        stop(BAD_INPUT, f"JAX refuses a setting: {error}. Correct or unset it in the environment.")
    try:
        switches.require_device()
        if names := switches.overruled():
            tell(f"without effect on featpur, which sets its own: {', '.join(names)}.")
        _until_the_end.enter_context(switches.held())
    except switches.SwitchError as error:
        stop(BAD_INPUT, str(error))


@app.command()
def reproduce(
    out: Out = Path("featpur-out"),
    norm: Annotated[
        Literal["l2", "linf"],
        typer.Option(
            help="Of the attacks; in linf with a Haar dictionary and a box that reaches as far."
        ),
    ] = "l2",
    seeds: Annotated[int, typer.Option(min=1, help="Independent seeds, trained together.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Base seed.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Larger d and longer training (about an hour).")
    ] = False,
    closure: Closure = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """The paper's headline: clean training, purification, scorecard, figures, report.

    Two regimes: dense-regime (files at the top of the folder) and sparse-regime (in a folder of
    that name). About three minutes on two cores. Killed part-way, the same command goes on.
    """
    from featpur_sim._ground.disk import claim_folder
    from featpur_sim.cli.progress import meter
    from featpur_sim.report.reproduce import presets, require_free_folders
    from featpur_sim.report.reproduce import reproduce as library_reproduce
    from featpur_sim.runs.closure import require_closed
    from featpur_sim.runs.experiment import check
    from featpur_sim.runs.folder import REPORT

    began = time.perf_counter()
    configs = presets(norm=norm, seeds=seeds, seed=seed, full=full)
    for settings in configs:
        check(settings)
        if closure:
            require_closed(settings)
    require_free_folders(out, configs, overwrite)
    with claim_folder(out):
        rows = library_reproduce(
            out,
            configs,
            lambda label: meter(label, quiet=quiet),
            closure=closure,
            overwrite=overwrite,
        )
    _print_scorecard(rows, quiet, as_json, verbose)
    say(quiet or as_json, f"{out / REPORT}   ({time.perf_counter() - began:.0f} s)")
    _require_a_seed(rows)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings file.")],
    out: Out = Path("featpur-run"),
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Replace the file's seed.")
    ] = None,
    closure: Closure = False,
    allow_import: AllowImport = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """One run of your own settings ('featpur init' writes a commented file to start from)."""
    from featpur_sim._ground.disk import claim_folder
    from featpur_sim.claims.of_run import require_own
    from featpur_sim.cli.progress import meter
    from featpur_sim.report.reproduce import reproduce as library_reproduce
    from featpur_sim.report.reproduce import require_free_folders
    from featpur_sim.runs import config as configuration
    from featpur_sim.runs.closure import require_closed
    from featpur_sim.runs.experiment import check
    from featpur_sim.runs.folder import REPORT
    from featpur_sim.runs.own import resolve

    settings = configuration.load(config)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    settings = resolve(settings, allow_import=allow_import, folder=config.parent)
    check(settings)
    if closure:
        require_closed(settings)
    require_own(settings.parts.claims)
    require_free_folders(out, [settings], overwrite)
    with claim_folder(out):
        rows = library_reproduce(
            out,
            [settings],
            lambda label: meter(label, quiet=quiet),
            closure=closure,
            overwrite=overwrite,
        )
    _print_scorecard(rows, quiet, as_json, verbose)
    say(quiet or as_json, str(out / REPORT))
    _require_a_seed(rows)


app.command()(evaluate)
app.command()(certify)
app.command()(compare)
app.command()(readouts)
app.command()(dynamics)


@app.command()
def report(
    directory: Directory,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rebuild scorecard, figures and report.html of a finished run from what its folder holds.

    That is result.nc, and what certify, evaluate --protocol, compare, readouts and dynamics have
    left: a certificate that covers τ decides claim C5.

    Of a sweep's folder: exponents, figures and report.html from sweep.nc.

    Either has explorer.html too, to choose, hover and click, if the extra 'explorer' is installed.
    """
    if holds_sweep(directory):
        report_sweep(directory, quiet)
        return
    from featpur_sim.report import explorer
    from featpur_sim.report.of_folder import write_report
    from featpur_sim.runs.folder import REPORT

    rows = write_report(directory, allow_import=allow_import)
    _print_scorecard(rows, quiet, False, verbose)
    say(quiet, f"{directory / REPORT}{explorer.beside(directory)}")
    _require_a_seed(rows)


@app.command()
def init(
    file: Annotated[
        Path, typer.Argument(parser=path_of, metavar="FILE", help="Where to write it.")
    ] = Path("featpur.toml"),
) -> None:
    """Write a commented settings file to start from."""
    from featpur_sim._ground.disk import write_text
    from featpur_sim.runs.starter import STARTER

    if os.path.lexists(file):
        stop(BAD_INPUT, f"{file} exists already: name another file, or remove it.")
    try:
        write_text(file, STARTER)
    except OSError as error:
        stop(BAD_INPUT, f"cannot write {file}: {error.strerror}. Name another file.")
    typer.echo(f"{file}: edit it, then  featpur run {file} --out DIR")


app.command()(sweep)
app.command()(fit)


def main() -> NoReturn:
    """Run the command line and turn every foreseen error into one message and an exit code."""
    try:
        print_any_character()
        with one_line_warnings(), _until_the_end:
            app(prog_name="featpur")
    except (KeyboardInterrupt, SystemExit) as end:
        # typer turns Ctrl-C into an exit without a word.
        if isinstance(end, KeyboardInterrupt) or end.code == INTERRUPTED:
            stop(*_signals.ending())
        if end.code == _READER_LEFT:
            sys.exit(CLOSED_PIPE)
        raise
    except Exception as error:
        # What a library made of the interrupt.
        if _signals.interrupted():
            stop(*_signals.ending())
        _explain(error)
        raise
    sys.exit(0)


def _explain(error: Exception) -> None:
    """Stop with a message and an exit code if the error is a foreseen one."""
    # Imported late: JAX takes seconds, and a command that fails has imported it.
    import jax

    from featpur_sim.certify import Contradiction, NotCertified
    from featpur_sim.runs.config import ConfigError
    from featpur_sim.runs.folder import ResultError
    from featpur_sim.training.checkpoint import CheckpointError

    if isinstance(error, ConfigError | ResultError | CheckpointError | NotCertified):
        stop(BAD_INPUT, str(error))
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        stop(
            STOPPED,
            "stopped: the device ran out of memory. Lower seeds, network.neurons or "
            "evaluation.samples, or set microbatch.",
        )
    if isinstance(error, Contradiction):
        stop(CONTRADICTED, " ".join([str(error), *getattr(error, "__notes__", [])]))
    if isinstance(error, OSError | MemoryError):
        stop(STOPPED, f"stopped: {error}. The same command goes on from what it had saved.")


def _require_a_seed(rows: list[Row]) -> None:
    from featpur_sim.claims.verdict import Verdict

    if all(row["verdict"] == Verdict.NO_VERDICT for row in rows):
        why = rows[0]["rule"] if rows else f"{Verdict.NO_VERDICT}."
        stop(NO_SEED, f"no seed finished: {why} Lower learning_rate or the final bias.")


def _print_scorecard(rows: list[Row], quiet: bool, as_json: bool, verbose: bool) -> None:
    if as_json:
        from featpur_sim.runs.folder import to_json

        typer.echo(to_json(rows))
        return
    if quiet or not rows:
        return
    from featpur_sim.claims.claim import summary
    from featpur_sim.claims.verdict import Verdict
    from featpur_sim.cli import tables

    console = screen()
    for regime in dict.fromkeys(row["regime"] for row in rows):
        own = [row for row in rows if row["regime"] == regime]
        if all(row["verdict"] == Verdict.NO_VERDICT for row in own):
            console.print(f"{regime}: {own[0]['rule']}", highlight=False, markup=False)
            continue
        console.print((tables.scorecard if verbose else tables.families)(regime, rows))
        if ";" in (seeds := own[0]["seeds"]):
            console.print(f"Seeds: {seeds}, left out (the report says why).", highlight=False)
    console.print(summary(rows), highlight=False)
    where = "" if verbose else "Every row: --verbose. "
    where += "The rule behind each verdict: scorecard.json, report.html."
    console.print(where, highlight=False)
