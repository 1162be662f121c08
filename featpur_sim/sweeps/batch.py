"""One batch of a sweep: its lanes built, trained together and surveyed (docs/how-to/sweep.md).

A lane is one seed of one point. All lanes of a batch share one static structure (sizes, steps,
kinds of law, schedule and attack), so they are one vmapped program; what else differs between them
is data. A batch is a function of its `Task` alone: computed again, here or on another process of
the same machine and versions, it gives the same bits.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.build import make_network, make_phases, make_problem, simulated
from featpur_sim.runs.config import EvaluationConfig, RunConfig
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.training.course import Record, TrainingRun
from featpur_sim.training.devices import spread
from featpur_sim.training.identity import software
from featpur_sim.training.loop import train_many
from featpur_sim.training.phase import Phase


class Lane(NamedTuple):
    """One seed of one point, both counted from 0."""

    point: int
    seed: int


class Task(NamedTuple):
    """Everything that a batch depends on.

    Attributes:
        lanes: the lanes it answers for.
        configs: settings of each lane's point, one per lane.
        width: lanes that are computed; the last lane is repeated up to this number, so that every
            batch of a group runs the same program.
    """

    lanes: tuple[Lane, ...]
    configs: tuple[RunConfig, ...]
    width: int


Survey = Callable[
    [SparseCoding, TrainingRun, Array, EvaluationConfig, Array, Norm],
    xr.Dataset,
]
"""Measures every lane: (problem, run, keys, evaluation, τ, norm) → variables with the dim ``lane``
first, ``status``, ``status_step`` and ``reason`` among them; see
`featpur_sim.sweeps.measurements.survey`. A lane whose training failed measures NaN."""


def devices() -> str:
    """What computes here: kind and number."""
    found = jax.local_devices()
    return f"{found[0].device_kind} × {len(found)}"


class Structure(NamedTuple):
    """What must be equal for two points to be in one batch.

    Attributes:
        program: what is static: equal ones share a compiled program.
        steps: of each phase. Data to the program, but lanes march in step.
    """

    program: Hashable
    steps: tuple[int, ...]


@steady
def structure(config: RunConfig) -> Structure:
    """The structure of a point.

    Raises:
        ValueError: a setting contradicts another.
    """
    problem, phases = _simulated(config, 1)
    leaves, tree = jax.tree.flatten((problem, phases))
    program = (
        tree,
        tuple((leaf.shape, leaf.dtype) for leaf in leaves),
        (config.network.neurons, config.network.smoothing),
        make_network(config, jax.random.key(0)).bias.ndim,
        (config.records, config.evaluation.model_dump_json()),
    )
    return Structure(program, tuple(int(phase.steps) for phase in phases))


@steady
def compute(task: Task, survey: Survey, meter: Meter = SILENT) -> xr.Dataset:
    """Train and survey the lanes of a batch.

    Args:
        task: the batch.
        survey: what to measure.
        meter: told of the progress.

    Returns:
        The survey of the task's lanes, numbered along ``lane``, with the ``reason`` of failures.
    """
    padding = task.width - len(task.lanes)
    lanes = [*task.lanes, *[task.lanes[-1]] * padding]
    configs = [*task.configs, *[task.configs[-1]] * padding]
    problem, phases, network, train_keys, test_keys = _build(lanes, configs)

    def tell(record: Record) -> None:
        meter.at(f"{record.phase} training", record.step, record.steps)

    run = train_many(
        problem,
        network,
        phases,
        keys=train_keys,
        records=configs[0].records,
        on_record=tell,
    )
    tau = jnp.asarray([config.adversarial.radius for config in configs], jnp.float32)
    norm = configs[0].adversarial.norm
    meter.at("measuring", 0, 0)
    found = survey(problem, run, test_keys, configs[0].evaluation, tau, norm)
    found = found.isel(lane=slice(len(task.lanes))).assign_coords(lane=lane_numbers(task))
    return found.assign_attrs(software=software(), devices=devices()).load()


def lane_numbers(task: Task) -> np.ndarray:
    """The task's lanes, numbered over the whole sweep: point·seeds + seed."""
    seeds = task.configs[0].seeds
    return np.array([lane.point * seeds + lane.seed for lane in task.lanes])


def _build(
    lanes: Sequence[Lane], configs: Sequence[RunConfig]
) -> tuple[SparseCoding, list[Phase], SymmetricReLU, Array, Array]:
    """Problem, phases, network, training keys and test keys of all lanes, over all devices."""
    # Equal at every point: common random numbers sharpen the differences between points.
    init_keys, train_keys, test_keys, _ = seed_keys(configs[0])
    rows = []
    for (_, seed), config in zip(lanes, configs, strict=True):
        network = make_network(config, init_keys[seed])
        rows.append((*_simulated(config, seed + 1), network, train_keys[seed], test_keys[seed]))
    return spread(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))


def _simulated(config: RunConfig, seed: int) -> tuple[SparseCoding, list[Phase]]:
    return simulated(config, make_problem(config, seed)), make_phases(config)
