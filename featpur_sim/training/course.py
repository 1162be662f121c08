"""The host's side of training: where it is recorded, and what has been done so far (§3)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from featpur_sim._ground.checks import count
from featpur_sim._ground.show import line, runs
from featpur_sim._ground.types import Array
from featpur_sim.models.trainable import Trainable
from featpur_sim.training.devices import placed_like, run_mesh
from featpur_sim.training.phase import Phase
from featpur_sim.training.step import State, Status, start_phase


class Record(NamedTuple):
    """One record point, as handed to ``on_record``."""

    phase: str
    step: int
    steps: int
    values: dict[str, np.ndarray]


class TrainingRun(NamedTuple):
    """The outcome of training.

    Attributes:
        networks: ``"init"`` and the network at the end of each phase, by the phase's name, of the
            class that was trained.
        snapshots: networks at the requested steps inside the phases: (phase, step) → network.
        record_phase, record_step: where each record was taken, shape [R].
        records: observed scalars, each of shape [R] (or [R, S] for many seeds).
        status: per seed, one `Status`.
        status_step: step of its last phase at which that status began.
    """

    networks: dict[str, Any]
    snapshots: dict[tuple[str, int], Any]
    record_phase: np.ndarray
    record_step: np.ndarray
    records: dict[str, np.ndarray]
    status: np.ndarray
    status_step: np.ndarray

    @property
    def network(self) -> Any:
        """The network at the end."""
        return list(self.networks.values())[-1]

    def __repr__(self) -> str:
        values, counts = np.unique(self.status, return_counts=True)
        several = runs(self.status)
        names = [Status(value).name.lower() for value in values]
        ends = [f"{n} {name}" if several else name for n, name in zip(counts, names, strict=True)]
        records = f"{len(self.record_step)} records"
        return line("TrainingRun", " → ".join(self.networks), records, *several, *ends)


def require_trained(run: TrainingRun) -> None:
    """Refuse a run with a seed that died or diverged.

    Raises:
        ValueError: one did; the message names it.
    """
    failed = [f"{i} ({Status(s).name.lower()})" for i, s in enumerate(np.ravel(run.status)) if s]
    if failed:
        raise ValueError(
            f"training failed in run {', '.join(failed)}: lower the learning rate or the final "
            "bias."
        )


def record_steps(steps: int, records: int) -> list[int]:
    """About ``records`` steps from 0 to ``steps``, denser at the start (quadratic spacing)."""
    steps, records = count("steps", steps, 0), count("records", records)
    fractions = np.linspace(0, 1, max(2, records + 1)) ** 2
    return sorted({int(round(f * steps)) for f in fractions})


class Point(NamedTuple):
    """One record point: run from ``start`` to ``stop`` of a phase, then observe."""

    phase: int
    start: int
    stop: int
    steps: int
    keep: bool

    @property
    def ends(self) -> bool:
        return self.stop == self.steps


def plan_records(
    phases: Sequence[Phase], records: int, snapshots: Mapping[str, Sequence[int]]
) -> list[Point]:
    """Every record point of all phases, in order; a snapshot is one.

    Raises:
        ValueError: no phase, two phases of one name, unknown names or steps of snapshots, or runs
            that differ in the number of steps.
    """
    for phase in phases:
        if not isinstance(phase, Phase):
            raise ValueError(
                f"phases hold {phase!r}: give phases, such as CleanPhase(steps) and "
                "AdversarialPhase(attack, steps)."
            )
    names = [phase.name for phase in phases]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"phases need at least one entry and distinct names, got {names}.")
    unknown = set(snapshots) - set(names)
    if unknown:
        raise ValueError(f"snapshots name unknown phases {sorted(unknown)}; phases are {names}.")
    plan = []
    for position, phase in enumerate(phases):
        counts = np.unique(np.asarray(phase.steps))
        if len(counts) != 1:
            raise ValueError(
                f"{phase.name} phase: runs trained together need one number of steps, "
                f"got {counts.tolist()}."
            )
        steps = int(counts[0])
        name = f"{phase.name} phase: a snapshot's step"
        keep = {count(name, step, 0) for step in snapshots.get(phase.name, ())}
        if keep and max(keep) > steps:
            raise ValueError(f"{phase.name} phase: snapshots must lie in [0, {steps}], got {keep}.")
        stops = sorted(keep.union(record_steps(steps, records)))
        starts = [0, *stops[:-1]]
        plan += [
            Point(position, a, b, steps, b in keep) for a, b in zip(starts, stops, strict=True)
        ]
    return plan


class Course:
    """The host's side of a training run: what has been done so far."""

    def __init__(self, network: Trainable, state: State):
        self.state = state
        self.networks = {"init": network}
        self.snapshots: dict[tuple[str, int], Trainable] = {}
        self.columns: dict[str, list[np.ndarray]] = {}
        self.done = 0

    @property
    def latest(self) -> dict[str, np.ndarray]:
        return {name: values[-1] for name, values in self.columns.items()}

    def add(self, point: Point, phase: Phase, state: State, values: dict) -> None:
        self.state = state
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)
        self._keep(point, phase.name, state.network)
        self.done += 1

    def _keep(self, point: Point, name: str, network: Trainable) -> None:
        if point.keep:
            self.snapshots[name, point.stop] = network
        if point.ends:
            self.networks[name] = network

    def pack(self) -> dict[str, np.ndarray]:
        """Everything as one flat dictionary of arrays."""
        flat = {f"column.{name}": np.stack(values) for name, values in self.columns.items()}
        modules = {"state": self.state}
        modules |= {f"network.{name}": net for name, net in self.networks.items()}
        modules |= {f"snapshot.{name}.{s}": net for (name, s), net in self.snapshots.items()}
        for name, module in modules.items():
            for i, leaf in enumerate(jax.tree.leaves(module)):
                flat[f"{name}.{i}"] = np.asarray(leaf)
        return flat

    def restore(self, saved, phases: Sequence[Phase], plan: list[Point], keys: Array) -> None:
        """Take over what `pack` wrote; the arrays come back bit for bit."""
        if saved is None:
            return
        done, flat = saved
        prefix = "column."
        self.columns = {k[len(prefix) :]: list(v) for k, v in flat.items() if k.startswith(prefix)}

        def unpack(name: str, like: Any) -> Any:
            leaves, structure = jax.tree.flatten(like)
            found = [flat[f"{name}.{i}"] for i in range(len(leaves))]
            return placed_like(jax.tree.unflatten(structure, found), like, mesh)

        network = self.networks["init"]
        mesh = run_mesh(network.weights)
        for point in plan[:done]:
            name = phases[point.phase].name
            if point.keep:
                self.snapshots[name, point.stop] = unpack(f"snapshot.{name}.{point.stop}", network)
            if point.ends:
                self.networks[name] = unpack(f"network.{name}", network)
        # Only the shapes and places of a state of this phase matter here.
        like = start_phase(network, phases[plan[done - 1].phase], keys)
        self.state = unpack("state", like)
        self.done = done

    def position(self, plan: list[Point], phases: Sequence[Phase]) -> tuple[str, int, int]:
        """The phase that goes on, the steps of it that are done, and all of its steps."""
        over = self.done == len(plan)
        point = plan[-1 if over else self.done]
        return phases[point.phase].name, point.stop if over else point.start, point.steps

    def result(self, plan: list[Point], phases: Sequence[Phase]) -> TrainingRun:
        return TrainingRun(
            networks=self.networks,
            snapshots=self.snapshots,
            record_phase=np.array([phases[p.phase].name for p in plan]),
            record_step=np.array([p.stop for p in plan]),
            records={name: np.stack(values) for name, values in self.columns.items()},
            status=np.asarray(self.state.status),
            status_step=np.asarray(self.state.status_step),
        )
