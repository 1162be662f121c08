"""``featpur sweep``: a sweep from its file to its folder."""

import json
from pathlib import Path
from typing import Annotated

import typer

from featpur_sim.cli._grid import screen
from featpur_sim.cli._options import (
    NO_SEED,
    STOPPED,
    AllowImport,
    AsJson,
    Out,
    Quiet,
    say,
    stop,
    tell,
    typed,
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="Sweep file.")]


def sweep(
    file: SweepFile,
    out: Out = Path("featpur-sweep"),
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Replace the file's seed.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print runs, compilations, memory, time; no training.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what the folder holds.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the folder holds.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask: local, local:N processes, or a scheduler's address.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="GiB that one batch may take; by default half of what there is."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="Most runs of one batch; by default 8 on a CPU, 256 elsewhere."),
    ] = None,
    allow_import: AllowImport = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train and measure every point of a sweep file; writes DIR/sweep.nc.

    Finished batches are kept: killed part-way, add --resume, and the result is the same bit for
    bit. Exit code 3: some batches failed (sweep.nc says which and why), or the disk is full; 5:
    every run died or diverged.
    """
    from featpur_sim.runs.config import ConfigError
    from featpur_sim.sweeps import file as sweep_file
    from featpur_sim.sweeps import plan as sweep_plan
    from featpur_sim.sweeps.dask import local_workers
    from featpur_sim.sweeps.run import require_resumable

    if memory is not None and not 0 < memory < 1e9:
        raise ConfigError(f"--memory {memory:g}: give a number of GiB above 0.")
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite cannot be combined: leave one out.")
    # Batches of local workers run side by side in the memory of one machine.
    workers = (scheduler is not None and local_workers(scheduler)) or 1
    described = sweep_file.load(file, seed=seed, allow_import=allow_import)
    budget = sweep_plan.memory_budget(memory, workers)
    if dry_run:
        plan = sweep_plan.make_plan(described, budget, widest=width)
        _describe(described, plan, quiet, as_json)
        return
    require_resumable(out, resume=resume, overwrite=overwrite)
    settings = {"memory": budget, "widest": width, "resume": resume, "overwrite": overwrite}
    _run(described, out, settings, scheduler, quiet, as_json)


def _run(described, out, settings, scheduler, quiet, as_json) -> None:
    import contextlib

    from featpur_sim.cli.progress import meter
    from featpur_sim.sweeps import dask as sweep_cluster
    from featpur_sim.sweeps.run import SWEEP, run_sweep

    again = typed(flags=("--resume", "--overwrite")) + " --resume"
    on = contextlib.nullcontext() if scheduler is None else sweep_cluster.cluster(scheduler)
    try:
        with on as execute, meter(described.name, quiet=quiet) as shown:
            finished = run_sweep(described, out, execute=execute, meter=shown, **settings)
    except (OSError, MemoryError) as error:
        stop(STOPPED, f"stopped: {error}. No finished batch is lost. Go on with: {again}")
    for number in finished.damaged:
        tell(f"[yellow]warning:[/yellow] batch {number} was damaged on disk and computed again.")
    counts = _counts(finished.result)
    if as_json:
        typer.echo(json.dumps({"result": str(out / SWEEP), "status": counts}))
    text = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(quiet or as_json, f"{out / SWEEP}   ({sum(counts.values())} runs: {text})")
    if finished.failed:
        number, reason = min(finished.failed.items())
        which = ", ".join(map(str, sorted(finished.failed)))
        points = "; ".join(_values(described.points[i].swept) for i in finished.points_of[number])
        stop(
            STOPPED,
            f"failed batches: {which}. Batch {number} ({points}): {reason}. The others are in "
            f"{SWEEP}. Try the failed ones again with: {again}",
        )
    if not counts.get("ok"):
        stop(
            NO_SEED,
            "no run finished: every one died or diverged; lower learning_rate or the final bias.",
        )


def _counts(result) -> dict[str, int]:
    statuses = result.status.values.ravel().tolist()
    return {status: statuses.count(status) for status in sorted(set(statuses), key=_rank)}


def _values(swept) -> str:
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in swept.items()
    )


def _rank(status: str) -> tuple[bool, str]:
    return status != "ok", status


def _describe(described, plan, quiet: bool, as_json: bool) -> None:
    from featpur_sim.cli import tables
    from featpur_sim.sweeps import cost as sweep_cost

    cost = sweep_cost.estimate(described, plan)
    if as_json:
        typer.echo(json.dumps(cost._asdict()))
    elif not quiet:
        screen().print(tables.sweep_points([point.swept for point in described.points]))
        screen().print(tables.sweep_groups(cost.groups))
        screen().print(sweep_cost.summary(cost), highlight=False)
