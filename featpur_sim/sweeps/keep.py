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
        For "training" ``along_…`` [lane, record] and ``record_step``, which begins at 0 in each
        phase; for "weights" ``shown_coordinates`` [lane, phase, shown, feature], ``shown_neuron``
        and ``wstar``.
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


def _training(run: TrainingRun) -> dict[str, tuple]:
    lanes, records = len(run.status), len(run.record_step)
    step = np.broadcast_to(np.asarray(run.record_step, float), (lanes, records)).copy()
    label = {"long_name": "step of the phase", "units": "steps", "source": "[M]"}
    found: dict[str, tuple] = {"record_step": (("lane", "record"), step, label)}
    for name, values in run.records.items():
        along = f"along_{name}"
        if along in VARIABLES:
            found[along] = variable(along, np.array(values.T, float), ("lane", "record"))
    return found


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
