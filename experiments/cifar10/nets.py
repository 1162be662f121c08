"""Convolutional networks: a small ResNet and an AlexNet-like net, with sizes by option.

Images [n, 32, 32, 3] with values in [0, 1] in, logits [n, 10] out. Nothing is normalised over a
batch or a layer: an image's logits depend on that image alone, and a neuron is ⟨w, x⟩ + bias as in
the model (docs/theory.md §2). The ResNet (K. He et al. 2016, arXiv:1512.03385) has instead a
trained gain on every residual branch that starts at 0 (S. De and S. Smith 2020, arXiv:2002.10444).
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.cifar10.convolution import Convolution

Array = jax.Array
NetName = Literal["resnet", "alexnet"]
CLASSES = 10


class Network(eqx.Module):
    """What both nets offer."""

    def convolutions(self) -> dict[str, Convolution]:
        """Every convolution by name, from input to output."""
        raise NotImplementedError

    def look(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """Logits [n, 10] and, by convolution, its output [n, height, width, channels]."""
        raise NotImplementedError

    def __call__(self, images: Array) -> Array:
        return self.look(images)[0]


class Residual(eqx.Module):
    """Two 3×3 convolutions and a gain beside a shortcut, 1×1 where the shape changes."""

    first: Convolution
    second: Convolution
    shortcut: Convolution | None
    gain: Array

    def __init__(self, channels_in: int, channels: int, stride: int, *, key: Array):
        first, second, shortcut = jax.random.split(key, 3)
        self.first = Convolution(channels_in, channels, 3, stride, key=first)
        self.second = Convolution(channels, channels, 3, key=second)
        same = channels_in == channels and stride == 1
        self.shortcut = (
            None if same else Convolution(channels_in, channels, 1, stride, key=shortcut)
        )
        self.gain = jnp.zeros(())

    def look(self, x: Array) -> tuple[Array, dict[str, Array]]:
        seen = {"first": self.first(x)}
        seen["second"] = self.second(jax.nn.relu(seen["first"]))
        if self.shortcut is not None:
            x = seen["shortcut"] = self.shortcut(x)
        return jax.nn.relu(x + self.gain * seen["second"]), seen


class ResNet(Network):
    """A 5×5 stem, three stages of residual blocks (width, 2·width, 4·width), mean, linear head.

    Args:
        width: channels of the stem.
        depth: blocks per stage.
        stride: of the stem; 2 makes everything four times cheaper.
        key: of the initial weights.
    """

    stem: Convolution
    blocks: list[Residual]
    head: eqx.nn.Linear

    def __init__(self, width: int, depth: int, stride: int, *, key: Array):
        stem_key, block_key, head_key = jax.random.split(key, 3)
        self.stem = Convolution(3, width, 5, stride, key=stem_key)
        self.blocks, channels = [], width
        for i in range(3 * depth):
            stage, within = divmod(i, depth)
            step = 2 if stage and not within else 1
            key = jax.random.fold_in(block_key, i)
            self.blocks.append(Residual(channels, width * 2**stage, step, key=key))
            channels = width * 2**stage
        self.head = eqx.nn.Linear(channels, CLASSES, key=head_key)

    def convolutions(self):
        named = {"stem": self.stem}
        for i, block in enumerate(self.blocks):
            named |= {f"block {i} first": block.first, f"block {i} second": block.second}
            if block.shortcut is not None:
                named[f"block {i} shortcut"] = block.shortcut
        return named

    def look(self, images):
        seen = {"stem": self.stem(_centred(images))}
        x = jax.nn.relu(seen["stem"])
        for i, block in enumerate(self.blocks):
            x, inside = block.look(x)
            seen |= {f"block {i} {name}": value for name, value in inside.items()}
        return jax.vmap(self.head)(jnp.mean(x, axis=(1, 2))), seen


class AlexNet(Network):
    """Four convolutions with ReLU, 2×2 maxima after all but the third, two linear layers.

    Args:
        width: channels of the first convolution; the others have 2, 4 and 4 times as many.
        stride: of the first convolution.
        key: of the initial weights.
    """

    layers: list[Convolution]
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, width: int, stride: int, *, key: Array):
        keys = jax.random.split(key, 6)
        self.layers = [
            Convolution(3, width, 5, stride, key=keys[0]),
            Convolution(width, 2 * width, 3, key=keys[1]),
            Convolution(2 * width, 4 * width, 3, key=keys[2]),
            Convolution(4 * width, 4 * width, 3, key=keys[3]),
        ]
        side = 32 // stride // 8
        self.hidden = eqx.nn.Linear(4 * width * side**2, 8 * width, key=keys[4])
        self.head = eqx.nn.Linear(8 * width, CLASSES, key=keys[5])

    def convolutions(self):
        return {f"convolution {i}": layer for i, layer in enumerate(self.layers)}

    def look(self, images):
        x, seen = _centred(images), {}
        for i, layer in enumerate(self.layers):
            seen[f"convolution {i}"] = layer(x)
            x = jax.nn.relu(seen[f"convolution {i}"])
            if i != 2:
                n, height, width, channels = x.shape
                x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
        x = jax.nn.relu(jax.vmap(self.hidden)(x.reshape(len(x), -1)))
        return jax.vmap(self.head)(x), seen


def build(name: NetName, *, width: int, depth: int, stride: int, key: Array) -> Network:
    """A network by its name; ``depth`` is of the ResNet alone."""
    if name == "resnet":
        return ResNet(width, depth, stride, key=key)
    return AlexNet(width, stride, key=key)


def _centred(images: Array) -> Array:
    """[0, 1] to about unit variance."""
    return 4 * (images - 0.5)
