"""The batches of a sweep on disk: computed once, kept whole, known when damaged.

Each finished batch is one file, written atomically, with a checksum of its contents. What a folder
lacks, or holds damaged, is computed; a batch that fails leaves its traceback beside the others.
"""

import hashlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from featpur_sim._ground.disk import ResultError, write_text
from featpur_sim._ground.meter import Meter
from featpur_sim.runs.folder import load_netcdf, save_netcdf
from featpur_sim.training.identity import software, software_change

BATCHES = "batches"

Outcome = xr.Dataset | Exception
"""Variables with the dim ``lane`` first, numbered over the sweep; or why there are none."""


def missing(out: Path, lanes: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """The batches to compute, and those among them whose files are damaged.

    Args:
        out: the sweep's folder.
        lanes: of each batch, the numbers of its lanes.
    """
    todo, damaged = [], []
    for number, own in enumerate(lanes):
        path = _path(out, number)
        try:
            whole = path.exists() and np.array_equal(_load(path).lane, own)
        except Exception:  # whatever damaged bytes lead to
            whole = False
        if not whole:
            todo.append(number)
            damaged += [number] if path.exists() else []
    return todo, damaged


def collect(
    out: Path,
    total: int,
    todo: Sequence[int],
    outcomes: Callable[[Meter], Iterator[tuple[int, Outcome]]],
    meter: Meter,
) -> tuple[list[xr.Dataset], dict[int, str]]:
    """Keep every batch as it comes; then read all of them.

    Args:
        out: the sweep's folder, claimed.
        total: number of batches.
        todo: those that are computed now.
        outcomes: computes them, in any order, each once.
        meter: told of the batches, and of what the present one does.

    Returns:
        The batches that there are, and why each other one failed.
    """
    (out / BATCHES).mkdir(exist_ok=True)
    progress, failed = _Progress(meter, total - len(todo), total), {}
    for number, outcome in outcomes(progress):
        outcome = _require_software(outcome)
        if isinstance(outcome, Exception):
            failed[number] = f"{type(outcome).__name__}: {_one_line(outcome)}"
            write_text(_log(out, number), "".join(traceback.format_exception(outcome)))
        else:
            save_netcdf(_path(out, number), outcome.assign_attrs(sha256=_digest(outcome)))
            _log(out, number).unlink(missing_ok=True)
        progress.finish()
    return [_load(_path(out, number)) for number in range(total) if number not in failed], failed


def failed_lanes(lanes: Sequence[np.ndarray], failed: Mapping[int, str]) -> dict[int, str]:
    """Lane → why its batch failed."""
    return {
        int(lane): f"batch {number}: {reason}"
        for number, reason in failed.items()
        for lane in lanes[number]
    }


def clear(out: Path) -> None:
    """Remove every batch of a folder."""
    for path in (out / BATCHES).glob("batch-*"):
        path.unlink(missing_ok=True)


class _Progress:
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


def _require_software(outcome: Outcome) -> Outcome:
    """The outcome, unless a worker's versions are not ours: its bits would be others."""
    if isinstance(outcome, Exception) or outcome.attrs.get("software") == software():
        return outcome
    change = software_change(str(outcome.attrs.get("software")), software())
    return ResultError(
        f"the worker has other versions than the folder ({change}): install the same there"
    )


def _path(out: Path, number: int) -> Path:
    return out / BATCHES / f"batch-{number:04d}.nc"


def _log(out: Path, number: int) -> Path:
    return out / BATCHES / f"batch-{number:04d}.failed.txt"


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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " …"
