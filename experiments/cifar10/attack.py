"""Attacks on images with ten classes, by the attacks of featpur_sim (docs/theory.md §3, §8).

The adapter `Labelled` makes a network and the labels of a batch look like a `Classifier` whose
value is to be brought down. Images stay in [0, 1]: the value is taken at the clipped image, and
clipping towards a box that holds x only shortens x + δ − x, in ℓ2 as in ℓ∞. So an attack on the
clipped value over the ball is an attack over the ball cut with the box, and nothing is lost.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.cifar10.loader import SHAPE, Images
from experiments.cifar10.nets import Network
from featpur_sim._ground.norms import Norm
from featpur_sim.attacks._search import in_batches
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import FGM, PGD, Attack
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier

Array = jax.Array
Value = Literal["margin", "log-probability"]


class Labelled(Classifier):
    """A network seen through the labels of one batch of flat images [n, 3072].

    Attributes:
        network: gives logits.
        labels: [n], 0 to 9.
        value: the margin, logit of the label less the largest other logit, or the logarithm of the
            label's probability, which is minus the training loss.
    """

    network: Network
    labels: Array
    value: Value = eqx.field(static=True)

    def __call__(self, x, *, key=None):
        return self._of_clipped(jnp.clip(x, 0, 1))

    def value_and_input_gradient(self, x, *, key=None):
        # The gradient at the clipped image, not through the clipping: a pixel that was pushed out
        # of [0, 1] must be able to come back.
        value, pullback = jax.vjp(self._of_clipped, jnp.clip(x, 0, 1))
        return value, pullback(jnp.ones_like(value))[0]

    def _of_clipped(self, x):
        logits = self.network(x.reshape(-1, *SHAPE))
        score = _margin if self.value == "margin" else _log_probability
        return score(logits, self.labels)


def _margin(logits: Array, labels: Array) -> Array:
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.max(logits, -1, where=own, initial=-jnp.inf) - jnp.max(
        logits, -1, where=~own, initial=-jnp.inf
    )


def _log_probability(logits: Array, labels: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]


def attacked(
    attack: Attack, network: Network, images: Array, labels: Array, value: Value, *, key: Array
) -> Array:
    """The images [n, 32, 32, 3] that ``attack`` makes of ``images``: in its ball and in [0, 1]."""
    flat = images.reshape(len(images), -1)
    # Every label is right: the attack lowers the value itself.
    batch = Batch(flat, jnp.ones(len(flat)), flat)
    delta = attack(Labelled(network, labels, value), batch, key=key)
    return jnp.clip(flat + delta, 0, 1).reshape(images.shape)


class Stage(NamedTuple):
    """One attack of the protocol, on the value it lowers."""

    attack: Attack
    value: Value


def stages(norm: Norm, radius: float, steps: int) -> tuple[Stage, ...]:
    """The attack protocol: FGM and PGD on the loss, then APGD on the margin from two starts."""
    return (
        Stage(FGM(radius, norm), "log-probability"),
        Stage(PGD(radius, norm, steps=steps), "log-probability"),
        Stage(APGD(radius, norm, steps=steps, restarts=2), "margin"),
    )


@eqx.filter_jit
def _right(network: Network, images: Array, labels: Array) -> Array:
    return jnp.argmax(network(images), axis=-1) == labels


@eqx.filter_jit
def _withstands(stage: Stage, network: Network, images: Array, labels: Array, key: Array) -> Array:
    found = attacked(stage.attack, network, images, labels, stage.value, key=key)
    return _right(network, found, labels)


def right(network: Network, images: Images) -> np.ndarray:
    """Which images are classified rightly, [n]."""
    pixels = images.pixels.astype(np.float32) / 255
    everything = np.arange(len(pixels))
    return in_batches(lambda x, y: _right(network, x, y), everything, pixels, images.labels)


def robust(
    network: Network, images: Images, norm: Norm, radius: float, *, steps: int, key: Array
) -> np.ndarray:
    """Which images are classified rightly and withstand every stage, [n].

    A cascade: each stage works on the points that are still standing. An upper bound on the truth.
    """
    pixels = images.pixels.astype(np.float32) / 255
    standing = right(network, images)
    for stage in stages(norm, radius, steps):
        index = np.flatnonzero(standing)
        if len(index):
            standing[index] = in_batches(
                lambda x, y, stage=stage: _withstands(stage, network, x, y, key),
                index,
                pixels,
                images.labels,
            )
    return standing
