"""Kill a run anywhere: what comes back is the run that was never killed, bit for bit."""

import functools
import inspect
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import interrupted
import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import optax
import pytest

import featpur_sim
from featpur_sim._ground.disk import DiskWarning, ResultError
from featpur_sim.models.losses import hinge_loss, logistic_loss
from featpur_sim.training import checkpoint
from featpur_sim.training.checkpoint import Checkpoint, CheckpointError
from featpur_sim.training.fingerprint import fingerprint
from featpur_sim.training.identity import identify


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
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, interrupted.__file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with child:
        assert child.stdout is not None
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


def other_observe(moment):
    return {"smallest": jnp.min(moment.network.weights)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0.4}, "(clean.learning_rate 0.5 → 0.4)"),
        ({"steps": 31}, "(clean.steps 30 → 31; record steps ["),
        ({"batch": 32}, "(clean.batch 64 → 32; clean.microbatch 64 → 32)"),
        ({"seed": 1}, "(keys array [1] ("),
        ({"radius": 0.11}, "(adversarial.attack.ball.radius 0.1 → 0.11)"),
        ({"records": 6}, "(record steps ["),
        ({"test_samples": 64}, "(test_samples 128 → 64)"),
        ({"observe": other_observe}, "(observe observe ("),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_settings_are_refused_and_named(change, words, half_done):
    before = sorted(p.name for p in half_done.iterdir())
    with pytest.raises(CheckpointError) as caught:
        interrupted.run(half_done, **change)
    message = str(caught.value)
    assert f"belongs to another run {words}" in message and "\n" not in message
    assert "undo the change to go on, or remove that folder" in message
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
    identity = identify(jnp.zeros(1))
    rare.save_if_due(1, lambda: {"a": np.arange(3)}, identity)
    assert rare.restore(identity) is None
    rare.save_if_due(2, lambda: {"a": np.arange(3), "b": np.float32(0.1)}, identity, force=True)
    saved = Checkpoint(folder).restore(identity)
    assert saved is not None
    done, tree = saved
    assert done == 2
    assert tree.keys() == {"a", "b"}
    assert np.array_equal(tree["a"], np.arange(3)) and tree["b"].dtype == np.float32


def test_negative_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"every \(seconds\) must be ≥ 0, got -1"):
        Checkpoint(tmp_path, every=-1)


NAMES = {
    "brackets": "c[1]",
    "in brackets": "[ab]/c*?/d",
    "space and newline": "a b\nc",
    "dash": "-c",
    "home": "~/c",
    "unicode": "κ/чек",
    "not UTF-8": os.fsdecode(b"\xff\xfe"),
    "long": 12 * "long name, " + "end",
    "address": "file://c",
    "drive": "C:\\c",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_legal_path_works(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    identity = identify(0)
    Checkpoint(name, every=0).save_if_due(1, lambda: {"a": np.arange(3)}, identity)
    saved = Checkpoint(tmp_path / name).restore(identity)
    assert saved is not None
    done, tree = saved
    assert done == 1 and np.array_equal(tree["a"], np.arange(3))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["state.npz"]


def test_any_array_comes_back_bit_for_bit(tmp_path):
    arrays = {
        "file": np.float32(0.1),  # np.savez has a parameter of that name
        "a/b.npy": np.zeros((0, 3), np.int64),
        "κ": np.array(["ok", "diverged"]),
        "half": np.asarray(jnp.arange(5, dtype=jnp.bfloat16) / 3),
        "scalar": np.asarray(jnp.bfloat16(0.1)),
        "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "nan": np.array([np.nan, -0.0]),
    }
    identity = identify(0)
    Checkpoint(tmp_path, every=0).save_if_due(7, lambda: arrays, identity)
    saved = Checkpoint(tmp_path).restore(identity)
    assert saved is not None
    done, found = saved
    assert done == 7 and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == np.asarray(array).dtype, name
        assert found[name].shape == np.shape(array) and found[name].tobytes() == array.tobytes()


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    identity = identify(0)
    checkpoint = Checkpoint(tmp_path, every=0)
    checkpoint.save_if_due(1, lambda: {"a": np.arange(3)}, identity)

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_if_due(2, lambda: {"a": np.arange(4)}, identity)
    saved = Checkpoint(tmp_path).restore(identity)
    assert saved is not None and saved[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_a_damaged_checkpoint_is_said_and_not_used(tmp_path):
    identity = identify(0)
    arrays = {"a": np.arange(3), "b": np.zeros(5)}
    Checkpoint(tmp_path, every=0).save_if_due(1, lambda: arrays, identity)
    path = tmp_path / "state.npz"
    whole = path.read_bytes()
    found = [whole[:n] for n in (0, 10, len(whole) // 2, len(whole) - 1)] + [b"not an archive"]
    for at in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        found.append(bytes(flipped))
    refused = 0
    for content in found:
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = Checkpoint(tmp_path).restore(identity)
        if restored is None:
            assert [w.category for w in caught] == [DiskWarning]
            assert "is damaged" in str(caught[0].message) and "anew" in str(caught[0].message)
            refused += 1
        else:  # a byte that says nothing, such as the time of an entry
            assert restored[0] == 1 and restored[1].keys() == arrays.keys()
            assert all(np.array_equal(restored[1][name], arrays[name]) for name in arrays)
    assert refused > len(found) / 2


@pytest.mark.parametrize("module", [jax, jaxlib.version, np, optax, featpur_sim])
def test_checkpoints_of_other_versions_are_named(tmp_path, monkeypatch, module):
    Checkpoint(tmp_path, every=0).save_if_due(1, lambda: {}, identify(0))
    name, ours = module.__name__.removesuffix(".version"), module.__version__
    with monkeypatch.context() as patch:
        patch.setattr(module, "__version__", "0.0.7")
        with pytest.raises(CheckpointError) as caught:
            Checkpoint(tmp_path).restore(identify(0))
    assert f"({name} {ours} → 0.0.7): install those versions to go on" in str(caught.value)
    assert Checkpoint(tmp_path).restore(identify(0)) == (1, {})


def without_words(path):
    """Make a checkpoint what development versions wrote: the digest alone says what it is of."""
    with np.load(path) as found:
        archive = {name: found[name] for name in found.files if name not in ("words", "digest")}
    np.savez(path, **archive, digest=checkpoint._digest(archive))


def test_a_checkpoint_that_has_no_words_goes_on(tmp_path, undisturbed):
    with pytest.raises(Stop):
        interrupted.run(tmp_path, on_record=stop_after(4))
    without_words(tmp_path / "state.npz")
    with pytest.raises(CheckpointError, match=r"another run \(settings, seeds or code\): undo"):
        interrupted.run(tmp_path, seed=1)
    seen = []
    assert_identical(interrupted.run(tmp_path, on_record=counting(seen)), undisturbed)
    assert len(seen) == 10


def test_a_checkpoint_in_the_old_format_is_refused(tmp_path):
    (tmp_path / "30" / "default").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="older version, .* remove that folder"):
        Checkpoint(tmp_path).restore(identify(0))


def test_folders_that_cannot_hold_a_checkpoint_are_refused_before_training(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        Checkpoint(tmp_path / "file")
    with pytest.raises(ResultError, match="cannot write to the folder .*below: Not a directory"):
        interrupted.run(tmp_path / "file" / "below")


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


class Rule:
    """What a user may hand over instead of a function."""

    def __init__(self, momentum):
        self.momentum = momentum

    def __call__(self, rate):
        return optax.sgd(rate, self.momentum)


def enclosing(momentum):
    return lambda rate: optax.sgd(rate, momentum)


def scaled(factor):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(rate):
            return function(factor * rate)

        return wrapper

    return decorate


def test_fingerprint_sees_what_a_function_encloses_and_does():
    functions = [
        enclosing(0.9),
        enclosing(0.5),
        enclosing(jnp.float32(0.5)),
        lambda rate: optax.sgd(rate, 0.9),
        lambda rate: optax.sgd(rate, 0.5),
        lambda rate: optax.adam(rate, 0.5),
        lambda rate, momentum=0.9: optax.sgd(rate, momentum),
        lambda rate, momentum=0.5: optax.sgd(rate, momentum),
        functools.partial(optax.sgd, momentum=0.9),
        functools.partial(optax.sgd, momentum=0.5),
        functools.partial(optax.adam, b1=0.5),
        Rule(0.9),
        Rule(0.5),
        Rule(0.9).__call__,
        enclosing(enclosing(0.5)),
        enclosing(enclosing(0.9)),
        jax.jit(enclosing(0.9)),
        jax.jit(enclosing(0.5)),
        scaled(0.9)(enclosing(0.9)),
        scaled(0.9)(enclosing(0.5)),
        scaled(0.5)(enclosing(0.9)),
        optax.sgd,
        optax.adam,
    ]
    marks = [fingerprint(jnp.zeros(1), each).tobytes() for each in functions]
    assert len(set(marks)) == len(marks)
    assert fingerprint(jnp.zeros(1), enclosing(0.9)).tobytes() == marks[0]
    assert fingerprint(jnp.zeros(1), Rule(0.9)).tobytes() == marks[11]


def test_fingerprint_of_our_functions_does_not_see_who_checks_their_types():
    """A process of the tests wraps them, a user's does not."""
    plain = inspect.unwrap(hinge_loss)
    assert plain is not hinge_loss
    assert fingerprint(plain).tobytes() == fingerprint(hinge_loss).tobytes()
    assert fingerprint(hinge_loss).tobytes() != fingerprint(logistic_loss).tobytes()


def test_fingerprint_of_a_function_that_encloses_itself():
    def make(momentum):
        def rule(rate, again=True):
            return rule(rate, False) if again else optax.sgd(rate, momentum)

        return rule

    assert not np.array_equal(fingerprint(make(0.9)), fingerprint(make(0.5)))
    assert np.array_equal(fingerprint(make(0.9)), fingerprint(make(0.9)))


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match="cannot be told from another object"):
        fingerprint(object())


def test_fingerprint_is_that_of_every_process():
    """Sets have an order of their own in every process, and functions an address."""
    program = """
from featpur_sim.training.fingerprint import fingerprint
import functools, optax
rule = functools.partial(optax.adam, b1=.5)
print(bytes(fingerprint({"a": 1.0}, rule, lambda x: x in {"one", "two", "three"})).hex())
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_fingerprint_forgets_the_addresses_of_functions():
    def make():
        def inner(rate):
            return optax.sgd(rate)

        return inner

    one, two = make(), make()
    assert one is not two and repr(one) != repr(two)
    assert np.array_equal(fingerprint(jnp.zeros(1), one), fingerprint(jnp.zeros(1), two))
