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

from featpur_sim._ground.checks import ConfigError, count
from featpur_sim._ground.expected import expect, expect_methods, expect_visible, said
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, PRNGKey, Scalar
from featpur_sim.data.problem import Problem
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.trainable import Trainable, require_trainable
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.course import Course, Record, TrainingRun, plan_records
from featpur_sim.training.devices import each_run, run_mesh
from featpur_sim.training.identity import identify
from featpur_sim.training.phase import Phase
from featpur_sim.training.step import gradient_step, start_phase, with_bias

__all__ = ["Moment", "Observe", "observe_nothing", "replicate", "train", "train_many"]


class Moment(NamedTuple):
    """What an observer sees at a record point of one run."""

    network: Any
    """Of the class that is trained, a `SymmetricReLU` say."""
    problem: Any
    """Where samples come from: a `SparseCoding` unless it is one of your own."""
    batch: Batch
    """Held-out samples, the same at every record of a run: what moves is the network."""
    phase: Phase
    """The phase that is being trained: its attack, learning rate and weight decay."""
    key: PRNGKey
    """Of this record point alone, for fresh samples."""


Observe = Callable[[Moment], Mapping[str, Scalar]]


def observe_nothing(moment: Moment) -> dict[str, Scalar]:
    """The default observer: loss, accuracy and threshold only."""
    return {}


@steady
def replicate(tree: Any, seeds: int) -> Any:
    """Every array of ``tree`` repeated along a new leading axis of length ``seeds``."""
    seeds = count("seeds", seeds)
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(_repeated(arrays, seeds), rest)


@partial(jax.jit, static_argnums=1)
def _repeated(arrays, seeds):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), arrays)


@steady
def train(
    problem: Problem,
    network: Trainable,
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
        problem: where samples come from: `SparseCoding`, or any `Problem`.
        network: where training starts: a `SymmetricReLU`, or any `Trainable`.
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
    require_training(problem, network, phases, observe)
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
    problem: Problem,
    network: Trainable,
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
        observe: `Moment` → named scalars, recorded along the way.
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
    require_training(problem, network, phases, observe)
    if network.weights.ndim != 3 or len(network.weights) != len(keys):
        raise ValueError(
            f"keys has shape {keys.shape} and the network's weights have {network.weights.shape}: "
            "give each run its key, and every array of problem, network and phases a leading axis "
            "of that length, as replicate does."
        )
    problem.require_dimension(network.weights)
    test_samples = count("test_samples", test_samples)
    plan = plan_records(phases, count("records", records), snapshots or {})
    mesh = run_mesh(network.weights)
    course = Course(network, start_phase(network, phases[0], _phase_keys(keys, 0)))
    if checkpoint is not None:
        identity = identify(
            (problem, network, list(phases), keys),
            (plan, test_samples, observe),
            settings=checkpoint.settings,
            parts={
                **{phase.name: phase for phase in phases},
                "keys": keys,
                "problem": problem,
                "network": network,
                "record steps": [point.stop for point in plan],
                "test_samples": test_samples,
                "observe": observe,
            },
        )
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


def require_training(problem: Any, network: Any, phases: Any, observe: Any) -> None:
    """Refuse what cannot be trained, before anything is.

    Raises:
        ConfigError: an argument is of another kind, or in another's place, or a phase has a rank
            where more than the weights is trained.
    """
    order = "; the order is problem, network, phases"
    methods = ("sample", "coordinates", "require_dimension")
    expect_methods("problem", problem, methods, "a problem, SparseCoding(…) say" + order)
    expect_visible("problem", problem)
    require_trainable("network", network, "initialise(…) or TwoLayer(…) say" + order)
    expect("phases", phases, (list, tuple), "a list of phases, [CleanPhase(steps)] say")
    for phase in phases:
        if getattr(phase, "rank", None) is not None and network.trained != ("weights",):
            raise ConfigError(
                f"{phase.name} phase: rank={phase.rank} confines the change of weights alone, but "
                f"this {type(network).__name__} trains {' and '.join(network.trained)}: leave rank "
                "out, or train the weights alone."
            )
    expect("observe", observe, Callable, "a function of one Moment")


def require_observed(observed: Any, own: Mapping[str, Any]) -> None:
    """Refuse what an observer returns if it cannot be recorded.

    Raises:
        ConfigError: no mapping, a value that is no number or array, or a name that training
            records itself.
    """
    expect("what observe returns", observed, Mapping, "a mapping, {'name': number} say")
    taken = (*own, "step")  # results have along_step, the step of each record
    for name, value in observed.items():
        if name in taken:
            raise ConfigError(
                f"observe records {name!r}, which training records itself, as it does "
                f"{', '.join(n for n in taken if n != name)}: choose another name."
            )
        if not isinstance(value, Array | np.ndarray | float | int):
            raise ConfigError(f"observe must give numbers, got {said(value)} for {name!r}.")


# Streams of a run's key: phases use 0, 1, 2, …; this one is far from them.
_TEST_STREAM = 2**31 - 1


def _phase_keys(keys: Array, position: int) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, position))(keys)


def _fixed_data(problem: Problem, phase: Phase, keys: Array) -> Batch | None:
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
        "loss": jnp.sum(jnp.where(test.labelled, phase.loss(margin), 0)) / labelled,
        "accuracy": jnp.sum(margin > 0) / labelled,
        "training_loss": training_loss,
        "bias": jnp.median(network.bias),
        "status": state.status,
    }
    found = observe(Moment(network, problem, test, phase, jax.random.fold_in(test_key, stop)))
    require_observed(found, values)
    return state, values | dict(found)


@eqx.filter_jit
def _segment_many(runs, start, stop, observe, test_samples, mesh):
    settings = {"start": start, "stop": stop, "observe": observe, "test_samples": test_samples}
    return each_run(partial(_segment, **settings), runs, mesh)
