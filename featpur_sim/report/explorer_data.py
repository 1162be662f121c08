"""What the explorer's page holds of a sweep or a run: the numbers of its file, as they are.

A run is a sweep of one point here. Arrays are written as base64 of their bytes, so that the page
shows and hands out the same numbers as the file, to the last bit (docs/how-to/explore.md).
"""

import base64
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim._ground.rows import Row
from featpur_sim.claims.diagram import over_seeds
from featpur_sim.claims.power_law import PREDICTED
from featpur_sim.claims.quantity import Quantity
from featpur_sim.claims.same_runs import swept_coordinates
from featpur_sim.report._style import PHASES
from featpur_sim.report.explorer_lines import lines
from featpur_sim.runs.diagnosis import finished
from featpur_sim.sweeps.dependence import axes_of

ALONG = "along_"
GAIN = "adversarial − clean"
"""Label of the phase at which an accuracy is what the adversarial phase adds, seed by seed."""

MOST_LABELS = 400
"""A variable with more numbers than this at one point is left out of the page, and named there."""
MOST_BYTES = 9_000_000
"""Of all measured variables together, in the page; the largest are left out, and named there."""
MOST_FEATURES = 128
"""Features of the weights that are kept: those with the largest coordinates."""

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
    """The page's data of a sweep.

    Args:
        result: of a sweep.

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
        "kind": "sweep",
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
        "weights": _weights_of_run(weights),
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
        "along": _along(result),
        "weights": _weights_of_sweep(result),
        "left_out": left_out,
    }


def encoded(values: Any) -> Row:
    """An array as JSON holds it: ``type`` (f4, f8 or i1), ``shape`` and the bytes in base64.

    >>> encoded(np.zeros((1, 2), np.float32))
    {'type': 'f4', 'shape': [1, 2], 'base64': 'AAAAAAAAAAA='}
    """
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.int8):
        array = array.astype(np.float64)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "type": little.dtype.str[1:],
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode(),
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
    points = result.attrs.get("test_samples") if fraction else None
    # The gain is shown beside the phases, and is no label of the file's.
    gain = fraction and "phase" in dims and {"clean", "adversarial"} <= {*result.phase.values}
    table = _over_seeds(values, finished(result), points, 0.0)
    found = {
        "name": name,
        "label": Quantity(name).label,
        "meaning": result[name].attrs.get("long_name", name),
        "units": result[name].attrs.get("units", ""),
        "dims": dims,
        "each": encoded(values),
        **{key: encoded(part) for key, part in zip(_INTERVAL, table, strict=True)},
    }
    if gain:
        where = 1 + dims.index("phase")
        before, after = (
            values.take(list(result.phase.values).index(phase), where)
            for phase in ("clean", "adversarial")
        )
        # Of float32, so that the seeds' differences are those of the file's numbers.
        added = after.astype(float) - before.astype(float)
        table = _over_seeds(added, finished(result), points, -1.0)
        found["gain"] = {"each": encoded(added)} | {
            key: encoded(part) for key, part in zip(_INTERVAL, table, strict=True)
        }
    if predicted := _predicted(result, name, dims):
        found["predicted"] = predicted
    return found


_INTERVAL = ("mean", "low", "high")


def _over_seeds(
    values: NDArray, ok: NDArray[np.bool_], points: float | None, least: float
) -> NDArray[np.floating]:
    """Mean, low and high [3, point, labels …] of values [point, labels …, seed]."""
    found = np.full((3, *values.shape[:-1]), np.nan)
    for at in np.ndindex(*values.shape[1:-1]):
        place = (slice(None), *at)
        found[(slice(None), *place)] = over_seeds(values[place], ok, points, least)
    return found


def _predicted(result: xr.Dataset, name: str, dims: Sequence[str]) -> list[Row]:
    """What the theory says of a variable at some labels: its formula, and a value per point."""
    if not {"d", "k", "tau"} <= {*map(str, result.coords)}:
        return []
    places = list(zip(result.d.values, result.k.values, result.tau.values, strict=True))
    found = []
    for quantity, predict in PREDICTED.items():
        if quantity.name != name or [dim for dim, _ in quantity.at] != list(dims):
            continue
        told = [predict(int(d), float(k), float(tau)) for d, k, tau in places]
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
    words = [_WORDS.get(value, value) if isinstance(value, str) else f"{value:g}" for value in values]
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


# --- training and weights -------------------------------------------------------------------------


def _along(result: xr.Dataset) -> Row | None:
    """What was recorded in training: curves [point, record, seed] with means and intervals.

    Steps count on from phase to phase; a point with fewer records has NaN after them.
    """
    wanted = {"point", "record", "seed"}
    names = [
        str(name)
        for name, of in result.data_vars.items()
        if str(name).startswith(ALONG) and {*of.dims} == wanted and of.dtype.kind == "f"
    ]
    if not names:
        return None
    phase = result.record_phase.values.astype(str)
    step = result.record_step.values.astype(float)
    steps = np.broadcast_to(step, (result.sizes["point"], len(phase))).copy()
    clean = phase == "clean"
    steps[:, ~clean] += steps[:, clean].max(axis=1, keepdims=True)
    curves = []
    for name in names:
        values = result[name].transpose("point", "record", "seed").values
        table = _over_seeds(values, finished(result), None, 0.0)
        curves.append(
            {
                "name": name,
                "label": Quantity(name.removeprefix(ALONG)).label,
                "meaning": result[name].attrs.get("long_name", name),
                "each": encoded(values),
                **{key: encoded(part) for key, part in zip(_INTERVAL, table, strict=True)},
            }
        )
    return {"phase": phase.tolist(), "step": encoded(steps), "curves": curves}


def _weights_of_run(arrays: Mapping[str, NDArray]) -> Row:
    """Coordinates C = WM of each seed's strongest neurons, in the phases of a run."""
    M, wstar = arrays.get("M"), arrays["wstar"]
    C = np.stack([arrays[name] for name in ("W0", "W_clean", "W_adv")], axis=1)
    if M is not None:
        C = np.einsum("spmd,...dD->spmD", C, M) if M.ndim == 2 else np.matmul(C, M[:, None])
    return _weights(C[None], np.broadcast_to(wstar, (len(C), C.shape[-1]))[None])


def _weights_of_sweep(result: xr.Dataset) -> Row | None:
    return None


SHOWN = 24
"""Neurons whose weights are shown: those with the largest pure coefficient after clean training."""


def _weights(C: NDArray, wstar: NDArray) -> Row:
    """Of coordinates [point, seed, phase, neuron, feature]: the strongest neurons, in float32.

    A neuron's row is signed by w*, [point, seed, feature], and neurons stand in the order of their
    features, as in the report's figure.
    """
    strength = np.abs(C[:, :, 1]).max(axis=-1)
    order = np.argsort(-strength, axis=-1)[..., :SHOWN]
    clean = np.take_along_axis(C[:, :, 1], order[..., None], axis=-2)
    rank = np.argsort(np.abs(clean).argmax(axis=-1), axis=-1, kind="stable")
    order = np.take_along_axis(order, rank, axis=-1)
    rows = np.take_along_axis(C, order[:, :, None, :, None], axis=-2)
    rows = rows * np.sign(wstar)[:, :, None, None, :]
    features = np.arange(C.shape[-1])
    if len(features) > MOST_FEATURES:
        features = np.sort(np.argsort(-np.abs(rows).max(axis=(0, 1, 2, 3)))[:MOST_FEATURES])
    return {
        "phases": [_WORDS[phase] for phase in PHASES],
        "neurons": int(C.shape[-2]),
        "neuron": encoded(order.astype(float)),
        "features": int(C.shape[-1]),
        "feature": features.tolist(),
        "values": encoded(rows[..., features].astype(np.float32)),
    }
