"""What the explorer's page holds of a sweep or a run: the numbers of its file, as they are.

A run is a sweep of one point here. Arrays are written as base64 of their bytes, so that the page
shows and hands out the same numbers as the file, to the last bit (docs/how-to/read-results.md).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim._ground.rows import Row
from featpur_sim.claims.power_law import PREDICTED, predictions
from featpur_sim.claims.quantity import Quantity
from featpur_sim.claims.same_runs import swept_coordinates
from featpur_sim.report._style import PHASES
from featpur_sim.report.explorer_arrays import encoded, intervals, named
from featpur_sim.report.explorer_lines import covered, lines
from featpur_sim.report.explorer_training import along, weights_of_run, weights_of_sweep
from featpur_sim.runs.diagnosis import finished
from featpur_sim.sweeps.dependence import axes_of

GAIN = "adversarial − clean"
"""Label of the phase at which an accuracy is what the adversarial phase adds, seed by seed."""

MOST_LABELS = 400
"""A variable with more numbers than this at one point is left out of the page, and named there."""
MOST_BYTES = 6_000_000
"""Of all measured variables together, in the page; the largest are left out, and named there."""
_POINT_SEED = ("point", "seed")
# Along these a variable is not one of some labelled numbers, but a curve or a distribution.
_NO_LABELS = {"record", "neuron", "singular", "shown", "feature", "shown_feature"}
_TITLES = {
    "phase": "network",
    "attack": "attack",
    "relative_radius": "radius in units of τ",
    "critical_attack": "attack",
    "reference": "reference network",
    "reference_attack": "attack",
    "margin_quantile": "quantile of the margin",
    "snapshot": "step of the adversarial phase",
}
GAIN_WORDS = "what adversarial training adds"
_WORDS = {phase: label for phase, (label, _, _) in PHASES.items()}


def of_sweep(result: xr.Dataset) -> Row:
    """The page's data of a sweep, or of a study.

    Args:
        result: of one.

    Returns:
        What JSON can hold; see `described`.
    """
    result = result.load()
    swept = [name for name in swept_coordinates(result) if _varies(result[name].values)]
    places = [_coordinate(result, name, name in axes_of(result)) for name in swept]
    fixed = {
        name: _plain(result[name].values[0])
        for name in swept_coordinates(result)
        if name not in swept
    }
    found = described(result)
    return found | {
        "kind": "study" if result.attrs.get("own") else "sweep",
        "name": result.attrs.get("name", "sweep"),
        "coordinates": places,
        "fixed": fixed,
        "lines": lines(result),
    }


def of_run(result: xr.Dataset, weights: Mapping[str, NDArray]) -> Row:
    """The page's data of a run, as those of a sweep of one point.

    Args:
        result: of a run.
        weights: its arrays, of `featpur_sim.runs.folder.load_weights`.

    Returns:
        What JSON can hold; see `described`.
    """
    one = result.swap_dims(radius="relative_radius").drop_vars("radius").expand_dims("point")
    for name in one.data_vars:
        if "seed" not in one[name].dims:
            one = one.drop_vars(str(name))
    found = described(one)
    attrs = result.attrs
    return found | {
        "kind": "run",
        "name": attrs["name"],
        "coordinates": [],
        "fixed": {name: attrs[name] for name in ("d", "D", "m", "k", "sigma_x", "tau", "norm")},
        "lines": [],
        "weights": weights_of_run(weights),
    }


def described(result: xr.Dataset) -> Row:
    """Every measured variable, with its mean and 95 % interval over the seeds that finished.

    Args:
        result: with the dimensions ``point`` and ``seed``.

    Returns:
        ``seeds``; ``status`` and ``reason`` [point][seed]; ``dims``, name → title, values and
        words; ``variables``, each with its dims and the arrays ``each`` [point, labels …, seed],
        ``mean``, ``low``, ``high`` [point, labels …] and, where the theory predicts it,
        ``predicted``; ``along``, what was recorded in training; ``weights``, if there are any; and
        ``left_out``, the names of what was too large.
    """
    names, left_out = _measured(result)
    variables = [_variable(result, name) for name in names]
    return {
        "seeds": [int(seed) for seed in result.seed.values],
        "status": _texts(result, "status"),
        "reason": _texts(result, "reason"),
        "draw": result.attrs.get("draw", "shared"),
        "version": result.attrs.get("version", ""),
        "samples": int(result.attrs.get("test_samples", 0)),
        "dims": {dim: _dim(result, dim) for dim in _dims(variables)},
        "variables": variables,
        "along": along(result),
        "weights": weights_of_sweep(result),
        "left_out": left_out,
    }


# --- variables ------------------------------------------------------------------------------------


def _measured(result: xr.Dataset) -> tuple[list[str], list[str]]:
    """Names of the variables to show, and of those that are too large for a page."""
    sizes: dict[str, int] = {}
    left_out = []
    for name, of in result.data_vars.items():
        others = [str(dim) for dim in of.dims if dim not in _POINT_SEED]
        if of.dtype.kind != "f" or not {*_POINT_SEED} <= {*of.dims} or {*others} & _NO_LABELS:
            continue
        if math.prod(of.sizes[dim] for dim in others) > MOST_LABELS:
            left_out.append(str(name))
        else:
            seeds = result.sizes["seed"]
            # Base64 is 4/3 of the bytes; mean, low and high are as many numbers as three seeds.
            sizes[str(name)] = 4 * of.size * (of.dtype.itemsize + 24 // seeds) // 3
    while sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        left_out.append(largest)
        del sizes[largest]
    return list(sizes), left_out


def _variable(result: xr.Dataset, name: str) -> Row:
    dims = [str(dim) for dim in result[name].dims if dim not in _POINT_SEED]
    values = result[name].transpose("point", *dims, "seed").values
    fraction = name.endswith("accuracy")
    samples = result.attrs.get("test_samples") if fraction else None
    points = None if samples is None else float(samples)
    # The gain is shown beside the phases, and is no label of the file's.
    gain = fraction and "phase" in dims and {"clean", "adversarial"} <= {*result.phase.values}
    table = intervals(values, finished(result), points, 0.0)
    found = {
        "name": name,
        "label": Quantity(name).label,
        "meaning": result[name].attrs.get("long_name", name),
        "units": result[name].attrs.get("units", ""),
        "dims": dims,
        "each": encoded(values),
        **named(table),
    }
    if gain:
        where = 1 + dims.index("phase")
        before, after = (
            values.take(list(result.phase.values).index(phase), where)
            for phase in ("clean", "adversarial")
        )
        # Of float32, so that the seeds' differences are those of the file's numbers.
        added = after.astype(float) - before.astype(float)
        table = intervals(added, finished(result), points, -1.0)
        found["gain"] = {"each": encoded(added)} | named(table)
    if predicted := _predicted(result, name, dims):
        found["predicted"] = predicted
    return found


def _predicted(result: xr.Dataset, name: str, dims: Sequence[str]) -> list[Row]:
    """What the theory says of a variable at some labels: its formula, and a value per point."""
    if not covered(result):
        return []
    found = []
    for quantity in PREDICTED:
        if quantity.name != name or [dim for dim, _ in quantity.at] != list(dims):
            continue
        told = predictions(result, quantity)
        if told is None:
            continue
        found.append(
            {
                "at": dict(quantity.at),
                "formula": told[0].formula,
                "source": told[0].source,
                "holds": told[0].holds,
                "values": encoded([one.value for one in told]),
            }
        )
    return found


# --- labels ---------------------------------------------------------------------------------------


def _dims(variables: Sequence[Row]) -> Iterator[str]:
    return iter(dict.fromkeys(itertools.chain.from_iterable(one["dims"] for one in variables)))


def _dim(result: xr.Dataset, dim: str) -> Row:
    labels = result[dim].values if dim in result.coords else np.arange(result.sizes[dim])
    values = [_plain(value) for value in labels]
    words = [
        _WORDS.get(value, value) if isinstance(value, str) else f"{value:g}" for value in values
    ]
    return {"title": _TITLES.get(dim, dim.replace("_", " ")), "values": values, "words": words}


def _coordinate(result: xr.Dataset, name: str, axis: bool) -> Row:
    values = result[name].values
    return {
        "name": name,
        "label": result[name].attrs.get("long_name", name),
        "axis": axis,
        "numeric": values.dtype.kind in "if",
        "values": [_plain(value) for value in values],
    }


def _varies(values: NDArray) -> bool:
    return len(np.unique(values)) > 1


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _texts(result: xr.Dataset, name: str) -> list[list[str]]:
    shape = result.sizes["point"], result.sizes["seed"]
    if name not in result:
        return np.full(shape, "").tolist()
    return result[name].transpose(*_POINT_SEED).values.astype(str).tolist()
