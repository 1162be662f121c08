"""Kill a run anywhere: what comes back is the run that was never killed, bit for bit."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import interrupted
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from featpur_sim import Checkpoint
from featpur_sim.checkpoint import fingerprint


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def undisturbed():
    run = interrupted.run()
    assert len(run.record_step) == 14  # twelve record points and two snapshots
    return run


def flat(run):
    arrays = {f"record {k}": v for k, v in run.records.items()}
    arrays |= {"status": run.status, "status step": run.status_step}
    arrays |= {"steps": run.record_step, "phases": run.record_phase}
    for kind in (run.networks, run.snapshots):
        for name, network in kind.items():
            for i, leaf in enumerate(jax.tree.leaves(network)):
                arrays[f"{name} {i}"] = np.asarray(leaf)
    return arrays


def assert_identical(found, expected):
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype, name
        assert found[name].tobytes() == expected[name].tobytes(), name


def stop_after(count):
    def on_record(record, seen=[]):  # noqa: B006 - one list per call of stop_after
        seen.append(record)
        if len(seen) == count:
            raise Stop

    return on_record


def counting(seen):
    return lambda record: seen.append((record.phase, record.step))


# Before the first phase ends, at its end, at the start of the second, inside it, at the very end.
@pytest.mark.parametrize(
    "after", [3, 7, 11, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8, 14))]
)
def test_stopped_in_process(tmp_path, undisturbed, after):
    with pytest.raises(Stop):
        interrupted.run(tmp_path, on_record=stop_after(after))
    seen = []
    resumed = interrupted.run(tmp_path, on_record=counting(seen))
    assert len(seen) == 14 - after  # nothing is done twice
    assert_identical(resumed, undisturbed)


def test_stopped_three_times(tmp_path, undisturbed):
    for count in (2, 4, 3):
        with pytest.raises(Stop):
            interrupted.run(tmp_path, on_record=stop_after(count))
    seen = []
    assert_identical(interrupted.run(tmp_path, on_record=counting(seen)), undisturbed)
    assert len(seen) == 14 - 9


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4))])
def test_killed_from_outside(tmp_path, undisturbed, seed):
    chance = random.Random(seed)
    root = Path(__file__).parents[1]
    child = subprocess.Popen(
        [sys.executable, interrupted.__file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with child:
        lines = [child.stdout.readline() for _ in range(chance.randint(2, 12))]
        time.sleep(chance.uniform(0, 0.1))  # in the next steps, or in the middle of a save
        child.kill()
        rest = child.stdout.read().splitlines()
    assert lines[-1] and child.returncode == -9
    seen = []
    resumed = interrupted.run(tmp_path, on_record=counting(seen))
    # At most the point whose record was printed last may have been saved after it was printed.
    assert 14 - len(lines) - len(rest) - 1 <= len(seen) <= 14 - len(lines)
    assert_identical(resumed, undisturbed)


def other_observe(network, problem, batch):
    return {"smallest": jnp.min(network.weights)}


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.4},
        {"steps": 31},
        {"batch": 32},
        {"seed": 1},
        {"radius": 0.11},
        {"records": 6},
        {"test_samples": 64},
        {"observe": other_observe},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_refused(tmp_path_factory, change, half_done):
    before = sorted(p.name for p in half_done.iterdir())
    with pytest.raises(ValueError, match="belongs to a run with other settings"):
        interrupted.run(half_done, **change)
    assert sorted(p.name for p in half_done.iterdir()) == before


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    with pytest.raises(Stop):
        interrupted.run(folder, on_record=stop_after(5))
    return folder


def test_saves_when_due_and_when_forced(tmp_path):
    folder = tmp_path / "late"
    rare = Checkpoint(folder, every=3600)
    identity = fingerprint(jnp.zeros(1))
    rare.save_if_due(1, lambda: {"a": np.arange(3)}, identity)
    assert rare.restore(identity) is None
    rare.save_if_due(2, lambda: {"a": np.arange(3), "b": np.float32(0.1)}, identity, force=True)
    done, tree = Checkpoint(folder).restore(identity)
    assert done == 2
    assert tree.keys() == {"a", "b"}
    assert np.array_equal(tree["a"], np.arange(3)) and tree["b"].dtype == np.float32


def test_negative_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every must be ≥ 0 seconds, got -1"):
        Checkpoint(tmp_path, every=-1)


def test_fingerprint_sees_values_shapes_types_keys_and_settings():
    key = jax.random.key(0)
    trees = [
        (jnp.zeros(3), key),
        (jnp.zeros(3).at[1].set(1e-30), key),
        (jnp.zeros((3, 1)), key),
        (jnp.zeros(3, jnp.int32), key),
        (jnp.zeros(3), jax.random.key(1)),
        [jnp.zeros(3), key],
    ]
    marks = [fingerprint(tree).tobytes() for tree in trees]
    marks += [fingerprint(trees[0], extra).tobytes() for extra in (1, 2, optax.sgd, optax.adam)]
    assert len(set(marks)) == len(marks)
    assert fingerprint(trees[0]).tobytes() == marks[0]


def test_fingerprint_forgets_the_addresses_of_functions():
    def make():
        def inner(rate):
            return optax.sgd(rate)

        return inner

    one, two = make(), make()
    assert one is not two and repr(one) != repr(two)
    assert np.array_equal(fingerprint(jnp.zeros(1), one), fingerprint(jnp.zeros(1), two))
