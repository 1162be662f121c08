"""Runs a sweep batch by batch into a folder; it can be killed at any moment and resumed.

Finished batches are kept (`featpur_sim.sweeps.batches`), and a batch is a function of the plan
alone, so the result does not depend on how often, where or in which order they were computed
(docs/how-to/sweep.md).
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from featpur_sim._ground.disk import ResultError, claim_folder, write_text
from featpur_sim._ground.manifest import MANIFEST as CHECKSUMS
from featpur_sim._ground.manifest import require_intact, rewriting
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Settings
from featpur_sim.runs.config import ConfigError
from featpur_sim.runs.folder import save_netcdf
from featpur_sim.sweeps import plan as sweep_plan
from featpur_sim.sweeps.assemble import assemble
from featpur_sim.sweeps.batch import Survey, Task, compute, lane_numbers
from featpur_sim.sweeps.batches import Outcome, clear, collect, failed_lanes, missing
from featpur_sim.sweeps.file import Sweep
from featpur_sim.sweeps.plan import Plan, make_plan

SWEEP, MANIFEST, SETTINGS = "sweep.nc", "sweep.json", "sweep.toml"

Execute = Callable[[Mapping[int, Task], Survey, Meter], Iterator[tuple[int, Outcome]]]
"""Computes tasks in any order and yields (number, outcome) for each, exactly once; the meter is
told what is being done."""


class Finished(NamedTuple):
    """A sweep that has been run.

    Attributes:
        result: what ``sweep.nc`` holds; dims point, seed and those of the survey.
        failed: batch number → why it failed; their lanes have status "failed".
        damaged: batches whose files were found damaged and computed again.
        points_of: batch number → its points, counted from 0, of the failed ones.
    """

    result: xr.Dataset
    failed: dict[int, str]
    damaged: list[int]
    points_of: dict[int, tuple[int, ...]]


def run_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    memory: int | None = None,
    widest: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    survey: Survey | None = None,
    execute: Execute | None = None,
    meter: Meter = SILENT,
) -> Finished:
    """Run a sweep, or go on with one, and assemble its result.

    Args:
        sweep: from `featpur_sim.sweeps.file.load`.
        out: its folder.
        memory: bytes that a batch may take, in training and in being measured; half of the
            machine's by default. A folder's first choice stays.
        widest: most lanes of a batch; by default what suits this machine's devices. Likewise.
        resume: go on with what the folder holds; starts if it holds nothing.
        overwrite: replace what the folder holds.
        survey: what to measure; `featpur_sim.sweeps.measurements.survey`, within the memory, by
            default.
        execute: where to compute; here, one batch after another, by default. See
            `featpur_sim.sweeps.dask`.
        meter: told of the batches, and of what the present one does.

    Returns:
        A `Finished`.

    Raises:
        ConfigError: a point cannot be run.
        ResultError: the folder holds another sweep, or one to ``resume`` or ``overwrite``.
        OSError: the disk is full, or the cluster is lost. Nothing that was written is lost.
    """
    out = Path(out)
    if survey is not None and sweep.keep:
        raise ConfigError(
            "keep is for the default survey, and survey= is another: let it return what to keep, "
            "or take keep out of the sweep."
        )
    require_resumable(out, resume=resume, overwrite=overwrite)
    plan = make_plan(sweep, memory or sweep_plan.memory_budget(), widest=widest)
    with claim_folder(out):
        plan = _open(out, sweep, plan, overwrite)
        measure = survey or partial(_survey(), memory=plan.memory, keep=sweep.keep)
        lanes = [lane_numbers(task) for task in plan.tasks]
        todo, damaged = missing(out, lanes)
        outcomes = partial(execute or in_process, {n: plan.tasks[n] for n in todo}, measure)
        finished, failed = collect(out, len(lanes), todo, outcomes, meter)
        result = assemble(sweep, finished, failed_lanes(lanes, failed))
        with rewriting(out, SWEEP):
            save_netcdf(out / SWEEP, result)
    points_of = {n: tuple(dict.fromkeys(p for p, _ in plan.tasks[n].lanes)) for n in failed}
    return Finished(result, failed, damaged, points_of)


def in_process(
    tasks: Mapping[int, Task], survey: Survey, meter: Meter
) -> Iterator[tuple[int, Outcome]]:
    """Compute the batches here, one after another, on every device that there is."""
    for number, task in tasks.items():
        try:
            outcome: Outcome = compute(task, survey, meter)
        except Exception as error:  # recorded, so that one batch does not stop the rest
            outcome = error
        yield number, outcome


def load_sweep(directory: str | Path) -> xr.Dataset:
    """Open ``sweep.nc`` of a sweep's folder; values are decoded when they are used.

    Raises:
        ResultError: there is none, or it is damaged.
    """
    path = Path(directory) / SWEEP
    if not path.is_file():
        raise ResultError(
            f"{directory} holds no finished sweep: there is no {SWEEP}. Make one with 'featpur "
            f"sweep SWEEP.toml --out DIR'; add --resume to go on with one."
        )
    require_intact(path)
    try:
        # From memory: HDF5 sees no path, and takes no lock.
        result = xr.open_dataset(io.BytesIO(path.read_bytes()), engine="h5netcdf")
    except Exception as error:  # damaged bytes make HDF5, h5py and xarray raise anything
        reason = " ".join(str(error).split())
        raise ResultError(f"{path} cannot be read as a sweep's result: {reason}.") from None
    # The file's numbers are NumPy's scalars; those of a result in memory are Python's.
    for name, value in result.attrs.items():
        result.attrs[name] = value.item() if isinstance(value, np.generic) else value
    return result


# --- the folder -----------------------------------------------------------------------------------


def require_resumable(out: str | Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless told to go on with it or to replace it.

    Raises:
        ResultError: the folder is a file, holds a sweep and neither is set, or holds other things.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ResultError(f"{out} is a file, not a folder: choose another with --out.")
    held = [p for p in out.iterdir() if not p.name.startswith(".")] if out.is_dir() else []
    if not held:
        return
    if not (out / MANIFEST).exists():
        raise ResultError(f"{out} holds something other than a sweep: choose another with --out.")
    if not resume and not overwrite:
        raise ResultError(
            f"{out} already holds a sweep: pass --resume to go on with it, --overwrite to replace "
            "it, or choose another folder with --out."
        )


def _open(out: Path, sweep: Sweep, plan: Plan, overwrite: bool) -> Plan:
    """The folder's own plan, once it is known to be that of the same sweep; a new one if none."""
    new = sweep_plan.manifest(sweep, plan)
    if overwrite:
        _clear(out)
    if (out / MANIFEST).exists():
        old = _read_manifest(out)
        if found := sweep_plan.difference(old, new):
            raise ResultError(
                f"{out} holds another sweep ({found.what}): {found.undo} to go on, choose another "
                "folder with --out, or pass --overwrite to replace it."
            )
        # Folders from before memory was kept were measured with 1 GiB.
        plan = make_plan(sweep, old.get("memory", 2**30), widths=old["widths"])
    else:
        write_text(out / SETTINGS, sweep.text)
        write_text(out / MANIFEST, json.dumps(new, indent=2) + "\n")
    return plan


def _clear(out: Path) -> None:
    # The manifest first: what is left after a kill in between is no sweep to go on with.
    for path in (out / MANIFEST, out / CHECKSUMS, out / SWEEP, out / SETTINGS):
        path.unlink(missing_ok=True)
    clear(out)


def _read_manifest(out: Path) -> Settings:
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if not {"software", "sweep", "points", "widths"} <= set(found):
            raise ValueError("entries are missing")
        return found
    except (OSError, ValueError, TypeError) as error:
        raise ResultError(
            f"{out / MANIFEST} cannot be read ({error}): choose another folder with --out, or pass "
            "--overwrite."
        ) from None


def _survey() -> Callable[..., xr.Dataset]:
    from featpur_sim.sweeps.measurements import survey

    return survey
