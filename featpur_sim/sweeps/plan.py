"""The plan of a sweep: points → groups of one static structure → batches of one width.

At most one compilation per group: every batch of a group has the same width, the last one padded,
and groups that differ in the number of steps alone share a program if their widths agree. Batches
follow from the plan alone, and the plan is kept beside the results, so that a sweep that is resumed
on a machine with less memory still computes the very same batches (docs/how-to/sweep.md).
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax

from featpur_sim._ground.rows import Settings
from featpur_sim.runs.config import ConfigError, RunConfig
from featpur_sim.runs.experiment import check
from featpur_sim.runs.memory import estimate_memory, machine_memory
from featpur_sim.sweeps.batch import Lane, Structure, Task, structure
from featpur_sim.sweeps.file import Sweep
from featpur_sim.training.identity import Difference, identify_settings, software

# Most lanes of a batch. On a CPU more than 8 gain nothing [M]; the number also bounds what a kill
# can cost.
WIDEST = {"cpu": 8}
WIDEST_ACCELERATOR = 256
# Share of the memory that the batches may plan with.
_SHARE = 0.5
# Bytes of memory where nobody can tell.
_UNKNOWN = 2**33


class Group(NamedTuple):
    """Points that can be computed together.

    Attributes:
        points: their positions in the sweep.
        width: lanes of each batch.
        program: which compiled program it runs; groups of equal number share one.
    """

    points: tuple[int, ...]
    width: int
    program: int


class Plan(NamedTuple):
    """What is computed together.

    Attributes:
        groups: in the order of their first points.
        tasks: the batches, group after group.
        task_group: the group of each task.
        memory: bytes that one batch may take, its measurements included.
    """

    groups: tuple[Group, ...]
    tasks: tuple[Task, ...]
    task_group: tuple[int, ...]
    memory: int


def make_plan(
    sweep: Sweep,
    memory: int,
    *,
    widest: int | None = None,
    widths: Sequence[int] | None = None,
) -> Plan:
    """Group the points and cut each group's lanes into batches.

    Args:
        sweep: from `featpur_sim.sweeps.file.load`.
        memory: bytes that one batch may take; see `memory_budget`.
        widest: most lanes of a batch; by default what suits this machine's devices.
        widths: the widths of an earlier plan of the same sweep, instead of new ones.

    Raises:
        ConfigError: a point's settings contradict each other, or one lane alone needs more memory.
    """
    by_structure: dict[Structure, list[int]] = {}
    for index, point in enumerate(sweep.points):
        by_structure.setdefault(_structure(index, point.config), []).append(index)
    widest = widest or WIDEST.get(jax.default_backend(), WIDEST_ACCELERATOR)
    groups, tasks, task_group = [], [], []
    programs: dict[Hashable, int] = {}
    for number, (shared, points) in enumerate(by_structure.items()):
        lanes = [Lane(point, seed) for point in points for seed in range(sweep.seeds)]
        width = widths[number] if widths else _width(sweep, points[0], len(lanes), memory, widest)
        program = programs.setdefault((shared.program, width), len(programs))
        groups.append(Group(tuple(points), width, program))
        for first in range(0, len(lanes), width):
            some = tuple(lanes[first : first + width])
            tasks.append(Task(some, tuple(sweep.points[p].config for p, _ in some), width))
            task_group.append(number)
    return Plan(tuple(groups), tuple(tasks), tuple(task_group), memory)


def memory_budget(gigabytes: float | None = None, workers: int = 1) -> int:
    """Bytes that one batch may take: half of what the machine, or the accelerator, has.

    Args:
        gigabytes: GiB to plan with, instead of that half.
        workers: processes that share the machine.
    """
    if gigabytes is not None:
        return int(gigabytes * 2**30)
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        have = (machine_memory() or _UNKNOWN) // workers
    else:
        have = sum((device.memory_stats() or {}).get("bytes_limit", _UNKNOWN) for device in devices)
    return int(_SHARE * have)


def lane_memory(config: RunConfig) -> int:
    """Bytes that one lane of this point takes."""
    return estimate_memory(config.model_copy(update={"seeds": 1}))


def _structure(index: int, config: RunConfig) -> Structure:
    one = config.model_copy(update={"seeds": 1})
    try:
        check(one)
        return structure(one)
    except ConfigError as error:
        raise ConfigError(f"point {index}: {error}") from None


def _width(sweep: Sweep, point: int, lanes: int, memory: int, widest: int) -> int:
    need = lane_memory(sweep.points[point].config)
    if need > memory:
        raise ConfigError(
            f"point {point}: one run of it needs about {need / 2**30:.2g} GiB and a batch may take "
            f"{memory / 2**30:.2g}: raise --memory, lower its d, m or samples, or set microbatch."
        )
    most = min(memory // need, widest)
    # As few batches as that allows, of equal length: the least padding. Devices share it evenly.
    width = math.ceil(lanes / math.ceil(lanes / most))
    return math.ceil(width / jax.local_device_count()) * jax.local_device_count()


def manifest(sweep: Sweep, plan: Plan) -> Settings:
    """What a sweep's folder says of its plan: enough to go on with it, or to refuse to."""
    settings = [point.config.model_dump(mode="json") for point in sweep.points]
    return {
        "software": software(),
        "sweep": sweep.text,
        "points": hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        "widths": [group.width for group in plan.groups],
        "memory": plan.memory,
    }


def difference(old: Settings, new: Settings) -> Difference | None:
    """How two manifests differ in what a batch depends on, widths and memory aside."""
    before, after = (
        identify_settings(held["software"], tomllib.loads(held["sweep"]), held["points"])
        for held in (old, new)
    )
    return before.difference(after)
