"""Training: it learns, it resumes bit for bit, low rank is low rank, devices share a batch."""

import functools
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cifar10 import training
from experiments.cifar10.attack import right
from experiments.cifar10.low_rank import LowRankUpdate
from experiments.cifar10.training import Diverged, Schedule, augment, train
from featpur_sim.attacks.gradient import FGM
from featpur_sim.training.checkpoint import Checkpoint, CheckpointError

KEY = jax.random.key(0)
# Batches of 20 throughout: one program for all clean training.
SHORT = Schedule(epochs=2, batch=20, learning_rate=0.05, weight_decay=1e-3)


def same(one, other) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.slow
def test_a_net_learns_what_can_be_learned(start, learning, images):
    learned, losses = learning
    before, after = right(start, images).mean(), right(learned, images).mean()
    assert before < 0.3 and after > 0.9
    assert len(losses) == 60 and losses[0] > 2 and losses[-1] < 0.6


def test_the_first_step_is_plain_descent(start, images):
    """One step by hand: w − η(g + λw), Nesterov's (1 + μ) before the first memory."""
    images = images.first(20)
    one = Schedule(epochs=1, batch=20, learning_rate=0.1, weight_decay=0.01)
    rate = one.rates(1)[0]
    epoch_key = jax.random.fold_in(KEY, 0)
    order = np.asarray(jax.random.permutation(epoch_key, 20))
    augment_key, _ = jax.random.split(jax.random.fold_in(epoch_key, 0))
    x = augment(jnp.asarray(images.pixels[order], jnp.float32) / 255, augment_key)
    labels = images.labels[order]

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        scores = jax.nn.log_softmax(network(x))
        return -jnp.mean(scores[jnp.arange(20), labels])

    expected = jax.tree.map(
        lambda w, g: w - rate * (1 + training.MOMENTUM) * (g + 0.01 * w),
        eqx.filter(start, eqx.is_array),
        gradient(start),
    )
    found = eqx.filter(train(start, images, one, key=KEY), eqx.is_array)
    for ours, by_hand in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-4, atol=1e-6)


def test_the_rate_rises_and_falls():
    rates = Schedule(1, 1, 0.2, 0.0).rates(100)
    assert np.argmax(rates) == 9 and rates.max() == pytest.approx(0.2)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_a_killed_training_goes_on_bit_for_bit(start, images, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0))
    folder = tmp_path / "checkpoint"

    class Killed(Exception):
        pass

    def kill(epoch, epochs, loss):
        raise Killed

    with pytest.raises(Killed):
        train(start, images, SHORT, key=KEY, folder=folder, report=kill)
    with pytest.raises(CheckpointError, match=r"attack None → FGM"):
        train(start, images, SHORT, FGM(0.6), key=KEY, folder=folder)
    seen = []
    resumed = train(
        start, images, SHORT, key=KEY, folder=folder, report=lambda e, *_: seen.append(e)
    )
    assert seen == [2] and not folder.exists()
    assert same(resumed, train(start, images, SHORT, key=KEY))


@pytest.mark.slow
def test_an_update_of_low_rank_has_that_rank(start, images):
    rank = 2
    updated = train(start, images, SHORT, FGM(0.5), rank=rank, key=KEY)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(updated), strict=True):
        change = np.asarray(after - before, np.float64)
        assert np.abs(change).max() > 1e-5
        if change.ndim > 1:
            values = np.linalg.svd(change.reshape(-1, change.shape[-1]), compute_uv=False)
            assert values[rank - 1] > 100 * values[rank]


def test_rank_zero_trains_no_matrix(start):
    update = LowRankUpdate(start, 0, key=KEY)
    assert same(start, update.apply(start))
    moved = jax.tree.map(lambda leaf: leaf + 1, update).apply(start)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(moved), strict=True):
        assert np.array_equal(after, before if before.ndim > 1 else before + 1)


def test_augmentation_flips_and_shifts():
    image = np.arange(32 * 32 * 3, dtype=np.float32).reshape(32, 32, 3) + 1
    found = np.asarray(augment(jnp.asarray(np.stack([image] * 64)), KEY))
    flips, shifts = set(), set()
    for one in found:
        matches = []
        for flip, source in ((False, image), (True, image[:, ::-1])):
            padded = np.pad(source, ((4, 4), (4, 4), (0, 0)))
            for row in range(9):
                for column in range(9):
                    if np.array_equal(one, padded[row : row + 32, column : column + 32]):
                        matches.append((flip, row, column))
        assert len(matches) == 1
        flips.add(matches[0][0])
        shifts.add(matches[0][1:])
    assert flips == {False, True} and len(shifts) > 30


@pytest.mark.parametrize("batch", [0, 101])
def test_a_batch_must_fit_the_data(start, images, batch):
    with pytest.raises(ValueError, match=f"from 1 to the 100 training images, got {batch}"):
        train(start, images, Schedule(1, batch, 0.1, 0.0), key=KEY)


def test_divergence_is_an_error(start, images):
    with pytest.raises(Diverged, match="lower the learning rate"):
        train(start, images, Schedule(3, 20, 1e6, 0.0), key=KEY)


ON_DEVICES = """
import jax, numpy as np
from generated_images import generated
from experiments.cifar10 import nets, training
from featpur_sim.attacks.gradient import FGM
images = generated(40, 0)
start = nets.build("alexnet", width=2, depth=1, stride=2, key=jax.random.key(0))
schedule = training.Schedule(2, 20, 0.02, 1e-3)
end = training.train(start, images, schedule, FGM(0.5), key=jax.random.key(1))
print(len(jax.devices()), *(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(end)))
try:
    training.train(start, images, training.Schedule(1, 15, 0.02, 1e-3), key=jax.random.key(1))
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_devices_share_a_batch_without_changing_the_result():
    """Two CPU devices against one, each in a process of its own."""
    found = {}
    for count in (1, 2):
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.getcwd()]),
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", ON_DEVICES], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found[count] = done.stdout.splitlines()
    one, two = (np.array(found[count][0].split(), float) for count in (1, 2))
    assert (one[0], two[0]) == (1, 2)
    np.testing.assert_allclose(one[1:], two[1:], rtol=1e-4)
    assert len(found[1]) == 1 and "multiple of the 2 devices, got 15" in found[2][1]
