"""Runs a sweep batch by batch into a folder; it can be killed at any moment and resumed.

Each finished batch is one file, written atomically and with a checksum of its contents. What a
folder lacks, or holds damaged, is computed; a batch is a function of the plan alone, so the result
does not depend on how often, where or in which order that happened (docs/how-to/sweep.md).
"""

import hashlib
import io
import json
import traceback
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
from featpur_sim.runs.folder import load_netcdf, save_netcdf
from featpur_sim.sweeps import plan as sweep_plan
from featpur_sim.sweeps.assemble import assemble
from featpur_sim.sweeps.batch import Survey, Task, compute, lane_numbers
from featpur_sim.sweeps.file import Sweep
from featpur_sim.sweeps.plan import Plan, make_plan
from featpur_sim.training.identity import software, software_change

SWEEP, MANIFEST, SETTINGS, BATCHES = "sweep.nc", "sweep.json", "sweep.toml", "batches"

Outcome = xr.Dataset | Exception
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
    require_resumable(out, resume=resume, overwrite=overwrite)
    plan = make_plan(sweep, memory or sweep_plan.memory_budget(), widest=widest)
    with claim_folder(out):
        plan = _open(out, sweep, plan, overwrite)
        measure = survey or partial(_survey(), memory=plan.memory)
        total = len(plan.tasks)
        todo, damaged = _missing(out, plan)
        batches, failed = _Batches(meter, total - len(todo), total), {}
        for number, outcome in (execute or in_process)(todo, measure, batches):
            outcome = _require_software(outcome)
            if isinstance(outcome, Exception):
                failed[number] = f"{type(outcome).__name__}: {_one_line(outcome)}"
                write_text(_log_path(out, number), "".join(traceback.format_exception(outcome)))
            else:
                _save(_batch_path(out, number), outcome)
                _log_path(out, number).unlink(missing_ok=True)
            batches.finish()
        finished = [_load(_batch_path(out, n)) for n in range(total) if n not in failed]
        result = assemble(sweep, finished, _failed_lanes(plan, failed))
        with rewriting(out, SWEEP):
            save_netcdf(out / SWEEP, result)
    points_of = {n: tuple(dict.fromkeys(p for p, _ in plan.tasks[n].lanes)) for n in failed}
    return Finished(result, failed, damaged, points_of)


class _Batches:
    """The batches of a sweep on a meter; the stages of the present one are its details."""

    def __init__(self, meter: Meter, done: int, total: int):
        self._meter, self._done, self._total = meter, done, total
        self._tell("")

    def finish(self) -> None:
        """One more is done."""
        self._done += 1
        self._tell("")

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        count = f", {done} of {total}" if total else ""
        self._tell("  ".join(filter(None, [stage + count, detail])))

    def note(self, sentence: str) -> None:
        self._meter.note(sentence)

    def _tell(self, detail: str) -> None:
        self._meter.at("batches", self._done, self._total, detail)


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
        return xr.open_dataset(io.BytesIO(path.read_bytes()), engine="h5netcdf")
    except Exception as error:  # damaged bytes make HDF5, h5py and xarray raise anything
        reason = " ".join(str(error).split())
        raise ResultError(f"{path} cannot be read as a sweep's result: {reason}.") from None


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


def _require_software(outcome: Outcome) -> Outcome:
    """The outcome, unless a worker's versions are not ours: its bits would be others."""
    if isinstance(outcome, Exception) or outcome.attrs.get("software") == software():
        return outcome
    change = software_change(str(outcome.attrs.get("software")), software())
    return ResultError(
        f"the worker has other versions than the folder ({change}): install the same there"
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
    (out / BATCHES).mkdir(exist_ok=True)
    return plan


def _clear(out: Path) -> None:
    # The manifest first: what is left after a kill in between is no sweep to go on with.
    batches = (out / BATCHES).iterdir() if (out / BATCHES).is_dir() else ()
    ours = [path for path in batches if path.name.startswith("batch-")]
    for path in (out / MANIFEST, out / CHECKSUMS, out / SWEEP, out / SETTINGS, *ours):
        path.unlink(missing_ok=True)


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


def _missing(out: Path, plan: Plan) -> tuple[dict[int, Task], list[int]]:
    """The batches to compute, and those among them whose files are damaged."""
    todo, damaged = {}, []
    for number, task in enumerate(plan.tasks):
        path = _batch_path(out, number)
        try:
            whole = path.exists() and np.array_equal(_load(path).lane, lane_numbers(task))
        except Exception:  # whatever damaged bytes lead to
            whole = False
        if not whole:
            todo[number] = task
            damaged += [number] if path.exists() else []
    return todo, damaged


def _batch_path(out: Path, number: int) -> Path:
    return out / BATCHES / f"batch-{number:04d}.nc"


def _log_path(out: Path, number: int) -> Path:
    return out / BATCHES / f"batch-{number:04d}.failed.txt"


def _save(path: Path, batch: xr.Dataset) -> None:
    save_netcdf(path, batch.assign_attrs(sha256=_digest(batch)))


def _load(path: Path) -> xr.Dataset:
    """A batch; an error of any type if the file is not what was written."""
    batch = load_netcdf(path, "a batch")
    if batch.attrs.pop("sha256") != _digest(batch):
        raise ValueError(f"{path}: checksum")
    return batch


def _digest(batch: xr.Dataset) -> str:
    """SHA-256 of every name, shape, value and attribute."""
    digest = hashlib.sha256()
    for name in sorted(map(str, batch.variables)):
        variable = batch[name]
        attributes = sorted((str(k), str(v)) for k, v in variable.attrs.items())
        values = variable.values
        # Text comes back from a file as objects.
        text = values.dtype.kind in "OU"
        digest.update(f"{name}{variable.dims}{values.shape}{attributes}".encode())
        digest.update("\0".join(values.ravel()).encode() if text else values.tobytes())
    return digest.hexdigest()


def _failed_lanes(plan: Plan, failed: Mapping[int, str]) -> dict[int, str]:
    return {
        int(lane): f"batch {number}: {reason}"
        for number, reason in failed.items()
        for lane in lane_numbers(plan.tasks[number])
    }


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " …"


def _survey() -> Callable[..., xr.Dataset]:
    from featpur_sim.sweeps.measurements import survey

    return survey
