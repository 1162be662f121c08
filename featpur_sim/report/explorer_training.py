"""Curves along training and weights in the explorer's page, thinned to what a page can hold."""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim._ground.rows import Row
from featpur_sim.claims.quantity import Quantity
from featpur_sim.measure.weights import strongest
from featpur_sim.report._style import PHASES
from featpur_sim.report.explorer_arrays import encoded, intervals, named
from featpur_sim.runs.dataset import SHOWN_NEURONS
from featpur_sim.runs.diagnosis import finished

ALONG = "along_"

MOST_CURVE_BYTES = 3_500_000
"""Of all curves in the page: of more, every n-th record is kept, and those that end a phase."""
MOST_WEIGHT_BYTES = 3_500_000
"""Of all weights in the page: of more, fewer neurons are kept."""
MOST_FEATURES = 128
"""Features of the weights that are kept: those with the largest coordinates."""

# Before and after the adversarial phase.
_SHOWN_PHASES = ("clean", "adversarial")


def along(result: xr.Dataset) -> Row | None:
    """What was recorded in training: means and intervals of curves, [point, record].

    Args:
        result: with the dimensions ``point``, ``seed`` and, if there are curves, ``record``.

    Returns:
        ``step`` and ``phase`` [point, record], 0 in the clean and 1 in the adversarial phase; steps
        count on from phase to phase. ``records``, how many there were; and ``curves``. None without
        any. A point with fewer records has NaN after them.
    """
    wanted = {"point", "record", "seed"}
    names = [
        str(name)
        for name, of in result.data_vars.items()
        if str(name).startswith(ALONG) and {*of.dims} == wanted and of.dtype.kind == "f"
    ]
    if not names:
        return None
    step = result.record_step.values.astype(float)
    if "seed" in result.record_step.dims:  # of a sweep; equal for all seeds, NaN of failed ones
        step = result.record_step.transpose("point", "seed", "record").max("seed").values
    step = np.broadcast_to(step, (result.sizes["point"], result.sizes["record"]))
    # Each phase begins at 0.
    phase = np.maximum(np.cumsum(step == 0, axis=1) - 1, 0).astype(float)
    first = np.where(phase == 0, step, 0).max(axis=1, keepdims=True)
    kept = _thinned(phase, 32 * len(names))
    curves = []
    for name in names:
        values = result[name].transpose("point", "record", "seed").values[:, kept]
        curves.append(
            {
                "name": name,
                "label": Quantity(name.removeprefix(ALONG)).label,
                "meaning": result[name].attrs.get("long_name", name),
                **named(intervals(values, finished(result))),
            }
        )
    return {
        "phase": encoded(phase[:, kept]),
        "step": encoded((step + phase * first)[:, kept]),
        "records": result.sizes["record"],
        "curves": curves,
    }


def _thinned(phase: NDArray, each: int) -> NDArray[np.int64]:
    """Which records to keep, of ``each`` bytes at a point."""
    points, records = phase.shape
    stride = math.ceil(points * records * each / MOST_CURVE_BYTES)
    ends = np.flatnonzero((np.diff(phase, axis=1) != 0).any(axis=0))
    kept = {*range(0, records, stride), *ends.tolist(), *(ends + 1).tolist(), records - 1}
    return np.array(sorted(kept))


def weights_of_run(arrays: Mapping[str, NDArray]) -> Row:
    """Coordinates C = WM of each seed's strongest neurons, after both phases of a run.

    Args:
        arrays: of `featpur_sim.runs.folder.load_weights`.
    """
    M, wstar = arrays.get("M"), arrays["wstar"]
    C = np.stack([arrays["W_clean"], arrays["W_adv"]], axis=1)
    if M is not None:
        C = C @ (M if M.ndim == 2 else M[:, None])
    order = strongest(C[:, 0], SHOWN_NEURONS)
    shown = np.take_along_axis(C, order[:, None, :, None], axis=2)
    wstar = np.broadcast_to(wstar, (len(C), C.shape[-1]))
    return _weights(shown[None], order[None], wstar[None], [C.shape[2]])


def weights_of_sweep(result: xr.Dataset) -> Row | None:
    """Those that a sweep kept (`featpur_sim.sweeps.keep`), of its first seed; None if it did not.

    Args:
        result: of a sweep.
    """
    if "shown_coordinates" not in result or "point" not in result.shown_coordinates.dims:
        return None
    first = result[["shown_coordinates", "shown_neuron", "wstar"]].isel(seed=[0])
    C = first.shown_coordinates.sel(phase=list(_SHOWN_PHASES))
    C = C.transpose("point", "seed", "phase", "shown", "feature").values
    order = first.shown_neuron.transpose("point", "seed", "shown").values
    wstar = first.wstar.transpose("point", "seed", "feature").values
    return _weights(C, order, wstar, result.m.values.tolist())


def _weights(C: NDArray, order: NDArray, wstar: NDArray, neurons: list[int]) -> Row:
    """Coordinates [point, seed, phase, shown, feature], signed by w* as in the report's figure."""
    signed = C * np.sign(wstar)[:, :, None, None, :]
    features = np.arange(C.shape[-1])
    if len(features) > MOST_FEATURES:
        largest = np.nanmax(np.abs(signed), axis=(0, 1, 2, 3))
        features = np.sort(np.argsort(-largest)[:MOST_FEATURES])
    row = C.shape[0] * C.shape[1] * C.shape[2] * len(features) * 16 // 3
    if C.shape[3] > (most := max(1, MOST_WEIGHT_BYTES // row)):
        chosen = strongest(C[:, :, 0], most)
        order = np.take_along_axis(order, chosen, axis=-1)
        signed = np.take_along_axis(signed, chosen[:, :, None, :, None], axis=-2)
    return {
        "phases": [PHASES[phase][0] for phase in _SHOWN_PHASES],
        "neurons": neurons,
        "neuron": encoded(order.astype(float)),
        "features": C.shape[-1],
        "feature": features.tolist(),
        "values": encoded(signed[..., features].astype(np.float32)),
    }
