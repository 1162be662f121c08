"""What a sweep keeps beside its measurements: ``keep`` of its file (docs/how-to/sweep.md)."""

import itertools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.weights import strongest
from featpur_sim.runs.config import ConfigError
from featpur_sim.runs.dataset import SHOWN_NEURONS
from featpur_sim.runs.variables import VARIABLES, variable
from featpur_sim.training.course import TrainingRun

KEPT = ("training", "weights")
"""The curves that training records anyway; some neurons' weights after each phase."""


def read_keep(value: Any) -> tuple[str, ...]:
    """The entry ``keep`` of a sweep file.

    Raises:
        ConfigError: it is not a list of `KEPT`.

    >>> read_keep(["weights"])
    ('weights',)
    """
    if not isinstance(value, list) or not all(one in KEPT for one in value):
        raise ConfigError(
            f"keep = {reprlib.repr(value)}: must be a list of {', '.join(map(repr, KEPT))}."
        )
    return tuple(dict.fromkeys(value))


def kept(problem: SparseCoding, run: TrainingRun, names: Sequence[str]) -> dict[str, tuple]:
    """Variables for a survey, with the dimension ``lane`` first.

    Args:
        problem: batched along the lanes.
        run: their training.
        names: of `KEPT`.

    Returns:
        For "training" those of `curves` [lane, phase, record]; for "weights" ``shown_coordinates``
        [lane, phase, shown, feature], ``shown_neuron`` and ``wstar``.
    """
    found: dict[str, tuple] = {}
    if "training" in names:
        found |= _training(run)
    if "weights" in names:
        found |= _weights(problem, run)
    return found


def numbered(variables: Mapping[str, tuple]) -> dict[str, NDArray[np.int64]]:
    """Labels 0, 1, … of records, neurons and features, so that batches of other sizes fit."""
    sizes = [zip(dims, values.shape, strict=True) for dims, values, _ in variables.values()]
    return {
        dim: np.arange(size)
        for dim, size in itertools.chain.from_iterable(sizes)
        if dim in ("record", "shown", "feature")
    }


def curves(run: TrainingRun) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """What was recorded, [lane, phase, record]; NaN behind the last record of a shorter phase."""
    names = list(run.networks)
    own = [np.flatnonzero(run.record_phase == name) for name in names]
    longest = max(map(len, own))
    seeds = len(run.status)

    def spread(values: np.ndarray) -> np.ndarray:
        found = np.full((seeds, len(names), longest), np.nan)
        for phase, at in enumerate(own):
            found[:, phase, : len(at)] = values[at].T
        return found

    steps = np.tile(np.asarray(run.record_step, float)[:, None], (1, seeds))
    recorded = {
        f"along_{name}": spread(np.asarray(values, float))
        for name, values in run.records.items()
        if name != "status" and values.ndim == 2
    }
    table = {"along_step": spread(steps)} | recorded
    return {name: (("lane", "phase", "record"), values) for name, values in table.items()}


def _training(run: TrainingRun) -> dict[str, tuple]:
    found = curves(run)
    label = {"long_name": "step of the phase at which it was recorded", "units": "steps"}
    known = {
        name: variable(name, values, dims)
        for name, (dims, values) in found.items()
        if name in VARIABLES
    }
    return {"along_step": (*found["along_step"], label)} | known


def _weights(problem: SparseCoding, run: TrainingRun) -> dict[str, tuple]:
    of = jax.vmap(SparseCoding.coordinates)
    C = np.stack([np.asarray(of(problem, net.weights)) for net in run.networks.values()], axis=1)
    order = strongest(C[:, list(run.networks).index("clean")], SHOWN_NEURONS)
    shown = np.take_along_axis(C, order[:, None, :, None], axis=2)
    dims = ("lane", "phase", "shown", "feature")
    label = "coordinates C = WM of the neurons with the largest |α| after clean training"
    return {
        "shown_coordinates": (dims, shown, {"long_name": label, "source": "[D] §4"}),
        "shown_neuron": variable("shown_neuron", order.astype(float), ("lane", "shown")),
        "wstar": variable("wstar", np.array(problem.wstar), ("lane", "feature")),
    }
