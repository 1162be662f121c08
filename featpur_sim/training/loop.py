"""Gradient descent on the network of the theorem, phase by phase (docs/theory.md §3).

A phase is one compiled program: a loop over steps whose bounds are data, so that segments of any
length, any number of steps and any hyperparameter share it. The host meets the loop only at
record points, where it reads a few scalars, saves a checkpoint and moves the progress bar. All
runs share one program (`featpur_sim.training.devices.each_run`). Step t draws everything from
``fold_in(phase key, t)``: no save point, segment or resume changes a sample.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.checks import count
from featpur_sim._ground.show import line, runs
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, PRNGKey, Scalar
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.losses import logistic_loss
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.devices import each_run, placed_like, run_mesh
from featpur_sim.training.fingerprint import fingerprint
from featpur_sim.training.phase import AdversarialPhase, CleanPhase, Phase
from featpur_sim.training.step import State, Status, gradient_step, start_phase, with_bias

__all__ = [
    "AdversarialPhase",
    "CleanPhase",
    "Phase",
    "Record",
    "State",
    "Status",
    "TrainingRun",
    "record_steps",
    "replicate",
    "train",
    "train_many",
]

Observe = Callable[[SymmetricReLU, SparseCoding, Batch], Mapping[str, Scalar]]


class Record(NamedTuple):
    """One record point, as handed to ``on_record``."""

    phase: str
    step: int
    steps: int
    values: dict[str, np.ndarray]


class TrainingRun(NamedTuple):
    """The outcome of training.

    Attributes:
        networks: ``"init"`` and the network at the end of each phase, by the phase's name.
        snapshots: networks at the requested steps inside the phases: (phase, step) → network.
        record_phase, record_step: where each record was taken, shape [R].
        records: observed scalars, each of shape [R] (or [R, S] for many seeds).
        status: per seed, one `Status`.
        status_step: step of its last phase at which that status began.
    """

    networks: dict[str, SymmetricReLU]
    snapshots: dict[tuple[str, int], SymmetricReLU]
    record_phase: np.ndarray
    record_step: np.ndarray
    records: dict[str, np.ndarray]
    status: np.ndarray
    status_step: np.ndarray

    @property
    def network(self) -> SymmetricReLU:
        """The network at the end."""
        return list(self.networks.values())[-1]

    def __repr__(self) -> str:
        values, counts = np.unique(self.status, return_counts=True)
        several = runs(self.status)
        names = [Status(value).name.lower() for value in values]
        ends = [f"{n} {name}" if several else name for n, name in zip(counts, names, strict=True)]
        records = f"{len(self.record_step)} records"
        return line("TrainingRun", " → ".join(self.networks), records, *several, *ends)


def observe_nothing(network: SymmetricReLU, problem: SparseCoding, batch: Batch) -> dict:
    """The default observer: record the training loss only."""
    return {}


def record_steps(steps: int, records: int) -> list[int]:
    """About ``records`` steps from 0 to ``steps``, denser at the start (quadratic spacing)."""
    steps, records = count("steps", steps, 0), count("records", records)
    fractions = np.linspace(0, 1, max(2, records + 1)) ** 2
    return sorted({int(round(f * steps)) for f in fractions})


@steady
def replicate(tree: Any, seeds: int) -> Any:
    """Every array of ``tree`` repeated along a new leading axis of length ``seeds``."""
    seeds = count("seeds", seeds)
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(
        jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), arrays), rest
    )


@steady
def train(
    problem: SparseCoding,
    network: SymmetricReLU,
    phases: Sequence[Phase],
    *,
    key: PRNGKey,
    observe: Observe = observe_nothing,
    records: int = 40,
    test_samples: int = 1024,
    snapshots: Mapping[str, Sequence[int]] | None = None,
    checkpoint: Checkpoint | None = None,
    on_record: Callable[[Record], None] | None = None,
    on_resume: Callable[[str, int, int], None] | None = None,
) -> TrainingRun:
    """Train one network.

    Args:
        problem: where samples come from.
        network: where training starts.
        phases: one after another.
        key: PRNG key.
        observe: this and the rest as for `train_many`.
        records: record points per phase.
        test_samples: size of the held-out batch.
        snapshots: phase name → steps at which to keep the network.
        checkpoint: where to save and resume.
        on_record: called on the host after each record, whose values have shape [1].
        on_resume: called where a checkpoint is resumed.

    Returns:
        A `TrainingRun` without the axis S.

    >>> import jax
    >>> from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, initialise
    >>> problem = SparseCoding(d=32, k=4, sigma_x=0.3)
    >>> network = initialise(32, 64, key=jax.random.key(0))
    >>> phases = [CleanPhase(20), AdversarialPhase(FGM(radius=0.1), 20)]
    >>> run = train(problem, network, phases, key=jax.random.key(1))
    >>> list(run.networks)
    ['init', 'clean', 'adversarial']
    >>> run
    TrainingRun(init → clean → adversarial, 42 records, ok)
    """
    many = train_many(
        *replicate((problem, network, list(phases)), 1),
        keys=key[None],
        observe=observe,
        records=records,
        test_samples=test_samples,
        snapshots=snapshots,
        checkpoint=checkpoint,
        on_record=on_record,
        on_resume=on_resume,
    )

    def first(tree):
        return jax.tree.map(lambda leaf: leaf[0], tree)

    return many._replace(
        networks={name: first(net) for name, net in many.networks.items()},
        snapshots={at: first(net) for at, net in many.snapshots.items()},
        records={name: values[:, 0] for name, values in many.records.items()},
        status=many.status[0],
        status_step=many.status_step[0],
    )


@steady
def train_many(
    problem: SparseCoding,
    network: SymmetricReLU,
    phases: Sequence[Phase],
    *,
    keys: Array,
    observe: Observe = observe_nothing,
    records: int = 40,
    test_samples: int = 1024,
    snapshots: Mapping[str, Sequence[int]] | None = None,
    checkpoint: Checkpoint | None = None,
    on_record: Callable[[Record], None] | None = None,
    on_resume: Callable[[str, int, int], None] | None = None,
) -> TrainingRun:
    """Train S independent runs at once; every array of the arguments has a leading axis S.

    `replicate` turns one problem, network or phase into S equal ones; the runs may also
    differ in any of their arrays (k, σ_x, η, λ, τ, …).

    Args:
        problem: batched along S.
        network: batched along S.
        phases: each batched along S.
        keys: PRNG keys, shape [S].
        observe: (network, problem, held-out batch) → named scalars, recorded along the way.
        records: record points per phase, denser at the start.
        test_samples: size of the held-out batch.
        snapshots: phase name → steps at which to keep the network.
        checkpoint: where to save and resume; the resumed run is bit-identical.
        on_record: called on the host after each record.
        on_resume: called with (phase, step, steps) where a checkpoint goes on, before any step; at
            the end of the last phase, step = steps.

    Returns:
        A `TrainingRun` with a leading axis S everywhere but in the record positions.

    Raises:
        ValueError: no phase, two phases of one name, runs that differ in the number of steps, or
            another number of keys than of networks.
    """
    if network.weights.ndim != 3 or len(network.weights) != len(keys):
        raise ValueError(
            f"keys has shape {keys.shape} and the network's weights have {network.weights.shape}: "
            "give each run its key, and every array of problem, network and phases a leading axis "
            "of that length, as replicate does."
        )
    problem.require_dimension(network.weights)
    test_samples = count("test_samples", test_samples)
    plan = _plan(phases, count("records", records), snapshots or {})
    mesh = run_mesh(network.weights)
    course = _Course(network, start_phase(network, phases[0], _phase_keys(keys, 0)))
    if checkpoint is not None:
        settings = (plan, test_samples, observe)
        identity = fingerprint((problem, network, list(phases), keys), settings)
        course.restore(checkpoint.restore(identity), phases, plan, keys)
    if course.done and on_resume is not None:
        on_resume(*course.position(plan, phases))
    data_phase, data = None, None
    for index in range(course.done, len(plan)):
        point = plan[index]
        phase = phases[point.phase]
        phase_keys = _phase_keys(keys, point.phase)
        if point.phase != data_phase:
            data_phase, data = point.phase, _fixed_data(problem, phase, phase_keys)
        state = course.state
        if point.stop == 0:
            state = start_phase(state.network, phase, phase_keys, state)
        test_keys = jax.vmap(lambda key: jax.random.fold_in(key, _TEST_STREAM))(keys)
        state, values = _segment_many(
            (state, problem, phase, phase_keys, data, test_keys),
            jnp.int32(point.start), jnp.int32(point.stop), observe, test_samples, mesh,
        )  # fmt: skip
        course.add(point, phase, state, {name: np.asarray(v) for name, v in values.items()})
        if checkpoint is not None:
            checkpoint.save_if_due(course.done, course.pack, identity, force=point.ends)
        if on_record is not None:
            on_record(Record(phase.name, point.stop, point.steps, course.latest))
    return course.result(plan, phases)


# Streams of a run's key: phases use 0, 1, 2, …; this one is far from them.
_TEST_STREAM = 2**31 - 1


def _phase_keys(keys: Array, position: int) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, position))(keys)


class _Point(NamedTuple):
    """One record point: run from ``start`` to ``stop`` of a phase, then observe."""

    phase: int
    start: int
    stop: int
    steps: int
    keep: bool

    @property
    def ends(self) -> bool:
        return self.stop == self.steps


def _plan(phases, records, snapshots) -> list[_Point]:
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
            _Point(position, a, b, steps, b in keep) for a, b in zip(starts, stops, strict=True)
        ]
    return plan


class _Course:
    """The host's side of a training run: what has been done so far."""

    def __init__(self, network: SymmetricReLU, state: State):
        self.state = state
        self.networks = {"init": network}
        self.snapshots: dict[tuple[str, int], SymmetricReLU] = {}
        self.columns: dict[str, list[np.ndarray]] = {}
        self.done = 0

    @property
    def latest(self) -> dict[str, np.ndarray]:
        return {name: values[-1] for name, values in self.columns.items()}

    def add(self, point: _Point, phase: Phase, state: State, values: dict) -> None:
        self.state = state
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)
        self._keep(point, phase.name, state.network)
        self.done += 1

    def _keep(self, point: _Point, name: str, network: SymmetricReLU) -> None:
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

    def restore(self, saved, phases: Sequence[Phase], plan: list[_Point], keys: Array) -> None:
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

    def position(self, plan: list[_Point], phases: Sequence[Phase]) -> tuple[str, int, int]:
        """The phase that goes on, the steps of it that are done, and all of its steps."""
        over = self.done == len(plan)
        point = plan[-1 if over else self.done]
        return phases[point.phase].name, point.stop if over else point.start, point.steps

    def result(self, plan: list[_Point], phases: Sequence[Phase]) -> TrainingRun:
        return TrainingRun(
            networks=self.networks,
            snapshots=self.snapshots,
            record_phase=np.array([phases[p.phase].name for p in plan]),
            record_step=np.array([p.stop for p in plan]),
            records={name: np.stack(values) for name, values in self.columns.items()},
            status=np.asarray(self.state.status),
            status_step=np.asarray(self.state.status_step),
        )


def _fixed_data(problem: SparseCoding, phase: Phase, keys: Array) -> Batch | None:
    """The training set of every run, stacked; None when each step draws fresh samples."""
    if phase.dataset_size is None:
        return None
    arrays, rest = eqx.partition(problem, eqx.is_array)
    sets = []
    for seed, key in enumerate(keys):
        one = eqx.combine(jax.tree.map(lambda leaf, s=seed: leaf[s], arrays), rest)
        sets.append(one.sample_labelled(jax.random.fold_in(key, _TEST_STREAM), phase.dataset_size))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)


def _segment(state, problem, phase, key, data, test_key, start, stop, observe, test_samples):
    """Steps ``start`` to ``stop`` of one run, then the observations at ``stop``."""

    def step(t, carry):
        return gradient_step(carry[0], problem, phase, data, key, t)

    state, training_loss = lax.fori_loop(start, stop, step, (state, jnp.float32(jnp.nan)))
    network = with_bias(state.network, problem, phase, stop)
    state = eqx.tree_at(lambda s: s.network, state, network)
    test = problem.sample(test_key, test_samples)
    margin = test.y * network(test.x, key=test_key)
    labelled = jnp.maximum(jnp.sum(test.labelled), 1)
    values = {
        "loss": jnp.sum(jnp.where(test.labelled, logistic_loss(margin), 0)) / labelled,
        "accuracy": jnp.sum(margin > 0) / labelled,
        "training_loss": training_loss,
        "bias": jnp.median(network.bias),
        "status": state.status,
        **observe(network, problem, test),
    }
    return state, values


@eqx.filter_jit
def _segment_many(runs, start, stop, observe, test_samples, mesh):
    settings = {"start": start, "stop": stop, "observe": observe, "test_samples": test_samples}
    return each_run(partial(_segment, **settings), runs, mesh)
