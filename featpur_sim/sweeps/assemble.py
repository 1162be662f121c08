"""The batches of a sweep put together into one labelled Dataset (docs/how-to/sweep.md)."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from featpur_sim import __version__
from featpur_sim._ground.disk import ResultError
from featpur_sim.sweeps.file import Sweep

# Always coordinates of the points, swept or not: what every figure and fit is drawn against.
_ALWAYS = {
    "d": lambda config: config.problem.d,
    "k": lambda config: config.problem.k,
    "m": lambda config: config.network.neurons,
    "tau": lambda config: config.adversarial.radius,
}
_LABELS = {
    "d": "input dimension d",
    "k": "sparsity k",
    "m": "number of neurons m",
    "tau": "training radius τ",
}


def assemble(sweep: Sweep, batches: Sequence[xr.Dataset], failed: Mapping[int, str]) -> xr.Dataset:
    """One Dataset over all points and seeds.

    Args:
        sweep: the sweep.
        batches: surveys, each with its lanes numbered along ``lane``; together every lane that is
            not in ``failed``, once.
        failed: lane → reason, for the lanes whose batch failed.

    Returns:
        The surveys' variables with dims (point, seed, …); coordinates d, k, m, tau, everything
        swept and the free variables along ``point``; ``status`` (ok, dead, diverged or failed),
        ``status_step`` and ``reason``. Attributes hold the sweep file.

    Raises:
        ValueError: a lane is missing, or there twice.
    """
    result = by_point(batches, failed, len(sweep.points), sweep.seeds)
    result = result.assign_coords(_coordinates(sweep))
    return result.assign_attrs(
        name=sweep.name,
        sweep=sweep.text,
        axes=json.dumps(sweep.axes),
        shape=json.dumps(sweep.shape),
        draw=", ".join(sorted({point.config.draw for point in sweep.points})),
        dictionary=", ".join(sorted({point.config.problem.dictionary for point in sweep.points})),
        let=json.dumps(sweep.free),
        devices=", ".join(sorted({batch.attrs.get("devices", "?") for batch in batches})),
        version=__version__,
    )


def by_point(
    batches: Sequence[xr.Dataset], failed: Mapping[int, str], points: int, seeds: int
) -> xr.Dataset:
    """Lanes as points and seeds: dims (point, seed, …), seeds counted from 1.

    Args:
        batches: variables of lanes numbered point·seeds + seed along ``lane``; together every lane
            that is not in ``failed``, once.
        failed: lane → reason.
        points: their number.
        seeds: of each.

    Raises:
        ValueError: a lane is missing, or there twice.
    """
    lanes = np.arange(points * seeds)
    merged = _concatenate([*batches, *_blank(failed)])
    if sorted(merged.lane.values.tolist()) != lanes.tolist():
        raise ValueError("a sweep is put together from every lane once.")
    merged = merged.sel(lane=lanes)
    at, seed = np.divmod(lanes, seeds)
    return (
        merged.assign_coords(point=("lane", at), seed=("lane", seed + 1))
        .drop_vars("lane")
        .set_index(lane=["point", "seed"])
        .unstack("lane")
        .transpose("point", "seed", ...)
    )


def as_grid(result: xr.Dataset) -> xr.Dataset:
    """The result with one dimension per axis of the sweep in place of ``point``.

    Lists that were zipped together are one dimension, named after the first of them.

    Args:
        result: of a sweep, with all of its points; `featpur_sim.sweeps.run.load_sweep` reads one.

    Returns:
        The same values. What an axis sets is a coordinate along it; what follows from several axes
        is one along all of them.

    Raises:
        ResultError: points of the sweep are missing.
    """
    axes, shape = json.loads(result.attrs["axes"]), json.loads(result.attrs["shape"])
    if result.sizes["point"] != math.prod(shape):
        raise ResultError(
            f"{result.sizes['point']} of the sweep's {math.prod(shape)} points make no grid: take "
            "the grid of all of them, and choose there: as_grid(result).sel(…)."
        )
    names = [axis[0] for axis in axes]
    variables = {}
    for name, variable in result.drop_vars("point").variables.items():
        if "point" in variable.dims:
            variable = variable.transpose("point", ...)
            dims = (*names, *variable.dims[1:])
            values = variable.values.reshape((*shape, *variable.shape[1:]))
            variable = xr.Variable(dims, values, variable.attrs)
        variables[name] = variable
    for axis in axes:
        for label in axis:
            others = dict.fromkeys(set(names) - {axis[0]}, 0)
            variables[label] = variables[label].isel(others)
    return xr.Dataset(variables, attrs=result.attrs).set_coords(
        [name for name in result.coords if name != "point"]
    )


def _concatenate(batches: Sequence[xr.Dataset]) -> xr.Dataset:
    """All lanes in one Dataset. What a batch lacks (an attack, a radius) is NaN there."""
    # Labels in the order in which they first appear: an outer join alone would sort them.
    labels: dict[str, dict] = {}
    for batch in batches:
        for dim in map(str, batch.indexes):
            labels.setdefault(dim, {}).update(dict.fromkeys(batch[dim].to_numpy().tolist()))
    labels.pop("lane")
    # An encoding says how long the texts of one file are: "diverged" would be cut to "ok"'s length.
    aligned = [
        batch.reindex({dim: list(found) for dim, found in labels.items() if dim in batch.dims})
        for batch in batches
    ]
    return xr.concat(
        aligned, "lane", data_vars="all", coords="minimal", compat="override", join="outer",
        combine_attrs="override",
    ).drop_encoding()  # fmt: skip


def _blank(failed: Mapping[int, str]) -> list[xr.Dataset]:
    """A batch without measurements, for the lanes whose batch failed."""
    if not failed:
        return []
    blank = {
        "status": ("lane", np.full(len(failed), "failed")),
        "status_step": ("lane", np.zeros(len(failed), int)),
        "reason": ("lane", np.array(list(failed.values()))),
    }
    return [xr.Dataset(blank, {"lane": np.array(list(failed))})]


def _coordinates(sweep: Sweep) -> dict[str, Any]:
    found = {
        name: ("point", np.array([read(point.config) for point in sweep.points]))
        for name, read in _ALWAYS.items()
    }
    for label in dict.fromkeys(label for point in sweep.points for label in point.swept):
        found[label] = ("point", column([point.swept[label] for point in sweep.points]))
    return {
        name: (dim, values, {"long_name": _LABELS.get(name, name)})
        for name, (dim, values) in found.items()
    }


def column(values: Sequence[Any]) -> np.ndarray:
    """A coordinate that a file can hold: numbers, or text for everything else."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([value if isinstance(value, str) else json.dumps(value) for value in values])
