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
STEP = "along_step"

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
        result: with the dimensions ``point``, ``seed`` and, if there are curves, ``record``; of a
            sweep or a study, they have the dimension ``phase`` too.

    Returns:
        ``phases``, their names; ``phase``, which one [point, record], and ``step``, which counts on
        from phase to phase; ``records``, how many there were; and ``curves``. None without any.
        NaN where a point has fewer records.
    """
    by_phase = "along_step" in result
    dims = ("phase", "record") if by_phase else ("record",)
    names = [
        str(name)
        for name, of in result.data_vars.items()
        if str(name).startswith(ALONG) and {*of.dims} == {"point", "seed", *dims}
    ]
    names = [name for name in names if result[name].dtype.kind == "f" and name != STEP]
    if not names:
        return None
    phases, phase, step = _steps(result, by_phase)
    recorded = np.flatnonzero(np.isfinite(step).any(axis=0))
    kept = recorded[_thinned(phase[recorded], result.sizes["point"] * 32 * len(names))]
    curves = []
    for name in names:
        values = result[name].transpose("point", *dims, "seed").values
        values = values.reshape(len(values), len(phase), -1)[:, kept]
        curves.append(
            {
                "name": name,
                "label": Quantity(name.removeprefix(ALONG)).label,
                "meaning": result[name].attrs.get("long_name", name),
                **named(intervals(values, finished(result))),
            }
        )
    return {
        "phases": phases,
        "phase": phase[kept].tolist(),
        "step": encoded(step[:, kept]),
        "records": len(recorded),
        "curves": curves,
    }


def _steps(
    result: xr.Dataset, by_phase: bool
) -> tuple[list[str], NDArray[np.int64], NDArray[np.floating]]:
    """Names of the phases, of each record the phase, and its step [point, record]."""
    points, records = result.sizes["point"], result.sizes["record"]
    if by_phase:
        phases = [str(phase) for phase in result.phase.values]
        phase = np.repeat(np.arange(len(phases)), records)
        # Equal for all seeds; NaN of those that failed.
        step = result[STEP].max("seed").transpose("point", "phase", "record").values
        step = step.reshape(points, -1)
    else:
        recorded = result.record_phase.values.astype(str)
        phases = list(dict.fromkeys(recorded.tolist()))
        phase = np.array([phases.index(one) for one in recorded])
        step = np.tile(result.record_step.values.astype(float), (points, 1))
    counted, before = step.copy(), np.zeros((points, 1))
    for own in range(len(phases)):
        counted[:, phase == own] += before
        inside = np.where(np.isfinite(step), step, 0)[:, phase == own]
        before = before + inside.max(axis=1, keepdims=True, initial=0)
    return phases, phase, counted


def _thinned(phase: NDArray[np.int64], each: int) -> NDArray[np.int64]:
    """Which records to keep, of ``each`` bytes: every n-th, and both ends of every phase."""
    stride = math.ceil(len(phase) * each / MOST_CURVE_BYTES)
    ends = np.flatnonzero(np.diff(phase))
    kept = {*range(0, len(phase), stride), *ends.tolist(), *(ends + 1).tolist(), len(phase) - 1}
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
