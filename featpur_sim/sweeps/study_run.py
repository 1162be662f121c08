"""Runs a study point by point into a folder; killed at any moment, the same call goes on.

What is trained is kept for each point, beside its measurements. A study that measures otherwise, or
at more points, goes on from the networks that are there; one that trains otherwise is refused.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from featpur_sim import __version__
from featpur_sim._ground.disk import ResultError, claim_folder, write_text
from featpur_sim._ground.manifest import rewriting, start_anew
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim.runs.folder import save_netcdf
from featpur_sim.sweeps.assemble import by_point, column
from featpur_sim.sweeps.batches import BATCHES, Outcome, clear, collect, missing
from featpur_sim.sweeps.run import MANIFEST as SWEEP_MANIFEST
from featpur_sim.sweeps.run import SWEEP
from featpur_sim.sweeps.study import Study, digest_of
from featpur_sim.sweeps.study_point import check_point, compute_point
from featpur_sim.training.checkpoint import CheckpointError
from featpur_sim.training.identity import Identity

STUDY, TRAINED = "study.json", ".checkpoint"


def run_study(
    study: Study,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    meter: Meter = SILENT,
) -> xr.Dataset:
    """Train and measure every point, or go on where it was stopped.

    Args:
        study: what to do.
        out: its folder; nothing is written without one.
        overwrite: replace another study there.
        meter: told of the points, and of what the present one does.

    Returns:
        The result, in the form of a sweep's: dims ``point, seed`` and those of the measurements,
        the axes as coordinates along ``point``, ``status`` and ``reason`` of every seed.

    Raises:
        ConfigError: a point cannot be trained or judged; nothing was computed.
        ResultError: the folder holds a study that trains otherwise, or something else.
    """
    for at in study.listed:
        check_point(study, at)
    lanes = [n * study.seeds + np.arange(study.seeds) for n in range(len(study.listed))]
    if out is None:
        batches = [compute_point(study, number, None, meter) for number in range(len(lanes))]
        return _assembled(study, batches)
    out = Path(out)
    require_study(out, study, overwrite)
    with claim_folder(out):
        _open(out, study, overwrite, meter)
        todo, _ = missing(out, lanes)
        batches, _ = collect(out, len(lanes), todo, partial(_computed, study, out, todo), meter)
        result = _assembled(study, batches)
        with rewriting(out, SWEEP):
            save_netcdf(out / SWEEP, result)
    return result


def require_study(out: Path, study: Study, overwrite: bool) -> None:
    """Refuse a folder that the study cannot go on in.

    Raises:
        ResultError: it holds a study that trains otherwise, or something else.
    """
    if out.exists() and not out.is_dir():
        raise ResultError(f"{out} is a file, not a folder: choose another.")
    held = [p for p in out.iterdir() if not p.name.startswith(".")] if out.is_dir() else []
    if not held:
        return
    if not (out / STUDY).exists() or (out / SWEEP_MANIFEST).exists():
        raise ResultError(f"{out} holds something other than a study: choose another folder.")
    if overwrite:
        return
    old, new = _read(out)["training"], study.identities()["training"]
    if found := _identity(old).difference(new):
        raise ResultError(
            f"{out} holds a study that was trained otherwise ({found.what}): {found.undo} to go "
            "on, choose another folder, or pass overwrite=True to replace it."
        )


def _computed(
    study: Study, out: Path, todo: Sequence[int], meter: Meter
) -> Iterator[tuple[int, Outcome]]:
    """One point after another; an error is the user's to see, and what is finished is kept."""
    for number in todo:
        folder = out / TRAINED / digest_of(study.listed[number])
        try:
            yield number, compute_point(study, number, folder, meter)
        except CheckpointError as error:
            raise ResultError(
                f"{error} Or pass overwrite=True to train every point again."
            ) from None


def _open(out: Path, study: Study, overwrite: bool, meter: Meter) -> None:
    """Make the folder that of the study; measurements that it would not make are removed."""
    identities = study.identities()
    new = {name: _written(identity) for name, identity in identities.items()}
    new |= {"points": [at._asdict() for at in study.listed]}
    old: dict[str, Any] = {} if overwrite or not (out / STUDY).exists() else _read(out)
    if overwrite:
        (out / STUDY).unlink(missing_ok=True)
        for path in start_anew(out):
            path.unlink(missing_ok=True)
        shutil.rmtree(out / TRAINED, ignore_errors=True)
    if old != new:
        if old and (out / BATCHES).is_dir():
            change = _identity(old["measuring"]).difference(identities["measuring"])
            what = change.what if change else "other points"
            meter.note(f"{study.name}: measured anew ({what}); what is trained is used.")
        clear(out)
        write_text(out / STUDY, json.dumps(new, indent=2) + "\n")


def _written(identity: Identity) -> dict[str, Any]:
    return {
        "software": identity.software,
        "digest": identity.digest.hex(),
        "parts": dict(identity.parts),
    }


def _identity(written: dict[str, Any]) -> Identity:
    digest = bytes.fromhex(written["digest"])
    return Identity(written["software"], digest, {}, written["parts"])


def _read(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / STUDY).read_text(encoding="utf-8"))
        for name in ("training", "measuring"):
            _identity(found[name])
        return found
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ResultError(
            f"{out / STUDY} cannot be read ({error}): choose another folder, or pass "
            "overwrite=True."
        ) from None


def _assembled(study: Study, batches: Sequence[xr.Dataset]) -> xr.Dataset:
    result = by_point(batches, {}, len(study.listed), study.seeds)
    along = {
        name: ("point", column([at[i] for at in study.listed]), {"long_name": name})
        for i, name in enumerate(study.axes)
    }
    axes, shape = [list(study.axes)], [len(study.listed)]
    if isinstance(study.points, Mapping):
        axes = [[name] for name in study.axes]
        shape = [len(values) for values in study.points.values()]
    return result.assign_coords(along).assign_attrs(
        name=study.name,
        sweep=study.described(),
        own="study",
        axes=json.dumps(axes),
        shape=json.dumps(shape),
        let="{}",
        draw="per-seed",
        test_samples=study.samples,
        devices=batches[0].attrs.get("devices", "?"),
        version=__version__,
    )
