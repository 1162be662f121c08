"""Inputs that maximise a neuron: gradient ascent on the pixels, in [0, 1]."""

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.cifar10.loader import SHAPE
from experiments.cifar10.nets import Network
from featpur_sim.attacks.balls import L2Ball

Array = jax.Array
STEPS, LENGTH, NOISE = 200, 0.5, 0.02


@eqx.filter_jit
def maximising(network: Network, layer: str, channels: Array, *, key: Array) -> Array:
    """Images [n, 32, 32, 3] that maximise the pre-activation of n neurons.

    Ascent by steps of a falling ℓ2 length from grey with a little noise, the same for all.

    Args:
        network: the network.
        layer: name of the convolution (static).
        channels: [n]; the neuron is the one in the middle of the channel.
        key: of the noise.
    """
    start = jnp.clip(0.5 + NOISE * jax.random.normal(key, SHAPE), 0, 1)
    images = jnp.broadcast_to(start, (len(channels), *SHAPE))

    def value(images):
        output = network.look(images)[1][layer]
        middle = output[:, output.shape[1] // 2, output.shape[2] // 2]
        return jnp.sum(jnp.take_along_axis(middle, channels[:, None], axis=1))

    def step(images, t):
        ball = L2Ball(LENGTH * (1 - t / STEPS))
        gradient = jax.grad(value)(images).reshape(len(images), -1)
        return jnp.clip(images + ball.maximise(gradient).reshape(images.shape), 0, 1), None

    return jax.lax.scan(step, images, jnp.arange(STEPS))[0]
