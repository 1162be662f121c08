"""Training: clean, or adversarial from given weights (docs/theory.md §3), on all local devices.

Momentum descent on the cross-entropy with a warm-up and a half cosine, on images that are flipped
and shifted at random. In adversarial training every image is replaced by the attacked one, and no
gradient flows through the attack. Batches are shared out over the local devices.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.cifar10.attack import attacked
from experiments.cifar10.loader import Images
from experiments.cifar10.low_rank import LowRankUpdate
from experiments.cifar10.nets import Network
from featpur_sim.attacks.gradient import Attack
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.identity import Identity, identify

Array = jax.Array
Report = Callable[[int, int, float], None]
SHIFT = 4
MOMENTUM = 0.9


class Diverged(RuntimeError):
    """Training ended in a loss that is not a number."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: passes over the training set.
        batch: images a step; the last, smaller batch of an epoch is left out.
        learning_rate: the largest, reached after a tenth of all steps.
        weight_decay: coefficient of ‖w‖²/2.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate of each of ``steps`` steps in all."""
        rise = max(1, steps // 10)
        rate = optax.warmup_cosine_decay_schedule(0, self.learning_rate, rise, max(steps, rise + 1))
        return np.asarray(jax.vmap(rate)(jnp.arange(1, steps + 1)))


def augment(images: Array, key: Array) -> Array:
    """Each image flipped with probability ½ and shifted by up to 4 pixels; black comes in."""
    flip_key, shift_key = jax.random.split(key)
    n, *shape = images.shape
    flip = jax.random.bernoulli(flip_key, shape=(n, 1, 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    padded = jnp.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    shifts = jax.random.randint(shift_key, (n, 2), 0, 2 * SHIFT + 1)

    def crop(image, at):
        return jax.lax.dynamic_slice(image, (at[0], at[1], 0), tuple(shape))

    return jax.vmap(crop)(padded, shifts)


def train(
    network: Network,
    images: Images,
    schedule: Schedule,
    attack: Attack | None = None,
    *,
    rank: int | None = None,
    key: Array,
    folder: Path | None = None,
    report: Report = lambda epoch, epochs, loss: None,
) -> Network:
    """Train ``network`` and return the result.

    Args:
        network: where to start.
        images: training set.
        schedule: length and speed.
        attack: applied to every batch; None trains cleanly.
        rank: restrict the change of every weight matrix to this rank; biases and gains are free.
        key: of batches, augmentation and attack; epoch e uses the key folded with e, so that a
            run that goes on from a checkpoint ends in the same numbers.
        folder: for checkpoints, removed at the end; None keeps none.
        report: called after each epoch with epochs done, epochs in all, mean loss.

    Raises:
        ValueError: the batch is larger than the training set or not a multiple of the number of
            devices.
        Diverged: the loss is not a number.
        CheckpointError: the folder holds the checkpoint of another training.
    """
    check_batch(schedule.batch, len(images.labels))
    steps = len(images.labels) // schedule.batch
    spread = NamedSharding(Mesh(np.array(jax.local_devices()), ("batch",)), PartitionSpec("batch"))
    trained: Any
    if rank is None:
        trained, frozen = eqx.partition(network, eqx.is_inexact_array)
        assemble = eqx.combine
    else:
        trained = LowRankUpdate(network, rank, key=jax.random.fold_in(key, schedule.epochs))
        frozen = network
        assemble = LowRankUpdate.apply
    rates = schedule.rates(schedule.epochs * steps)
    state = (trained, _optimiser(0.0, 0.0).init(trained))
    checkpoint = Checkpoint(folder) if folder else None
    identity = identify(
        (trained, attack, key),
        *(schedule, rank, images.fingerprint()),
        settings={"attack": attack, "schedule": schedule, "rank": rank, "key": key},
        parts={"network": trained, "images": images.fingerprint()},
    )
    done, state = _restore(checkpoint, identity, state)
    for epoch in range(done, schedule.epochs):
        epoch_key = jax.random.fold_in(key, epoch)
        losses = []
        for i, batch in enumerate(_batches(images, schedule.batch, steps, epoch_key)):
            pixels, labels = jax.device_put(batch, spread)
            step_key = jax.random.fold_in(epoch_key, i)
            speed = jnp.array([rates[epoch * steps + i], schedule.weight_decay])
            state, loss = _step(state, frozen, attack, pixels, labels, speed, step_key, assemble)
            losses.append(loss)
        mean = float(np.mean(losses))
        if not np.isfinite(mean):
            raise Diverged(f"the loss is {mean} in epoch {epoch}: lower the learning rate.")
        if checkpoint:
            checkpoint.save_if_due(epoch + 1, lambda state=state: _pack(state), identity)
        report(epoch + 1, schedule.epochs, mean)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return assemble(state[0], frozen)


def _optimiser(rate, weight_decay) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate, MOMENTUM, nesterov=True)
    )


@eqx.filter_jit
def _step(state, frozen, attack, pixels, labels, speed, key, assemble):
    trained, moments = state
    augment_key, attack_key = jax.random.split(key)
    x = augment(pixels.astype(jnp.float32) / 255, augment_key)
    if attack is not None:
        target = assemble(trained, frozen)
        x = attacked(attack, target, x, labels, "log-probability", key=attack_key)

    def loss(trained):
        logits = assemble(trained, frozen)(x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    value, gradient = jax.value_and_grad(loss)(trained)
    # The optimiser is made here, of numbers that are data: one program serves every schedule.
    updates, moments = _optimiser(*speed).update(gradient, moments, trained)
    return (eqx.apply_updates(trained, updates), moments), value


def check_batch(batch: int, n: int) -> None:
    """Require that a batch fits ``n`` training images and the local devices.

    Raises:
        ValueError: it does not.
    """
    devices = len(jax.local_devices())
    if not 1 <= batch <= n:
        raise ValueError(f"batch must be from 1 to the {n} training images, got {batch}.")
    if batch % devices:
        raise ValueError(f"batch must be a multiple of the {devices} devices, got {batch}.")


def _batches(
    images: Images, size: int, steps: int, key: Array
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    order = np.asarray(jax.random.permutation(key, len(images.labels)))
    for i in range(steps):
        index = order[i * size : (i + 1) * size]
        yield images.pixels[index], images.labels[index]


def _pack(state: Any) -> dict[str, np.ndarray]:
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _restore(checkpoint: Checkpoint | None, identity: Identity, state: Any) -> tuple[int, Any]:
    found = checkpoint.restore(identity) if checkpoint else None
    if found is None:
        return 0, state
    done, arrays = found
    leaves = [jnp.asarray(arrays[str(i)]) for i in range(len(arrays))]
    return done, jax.tree.unflatten(jax.tree.structure(state), leaves)
