"""A 2-D convolution with channels last, fast inside loops on a CPU.

XLA's CPU backend has a fast path for convolutions with channels last and without dilation; inside
a loop everything else falls back to code ten to twenty times slower (github.com/jax-ml/jax, issue
12868). Attacks are loops over gradients, so both directions are put in that form: stride 2 becomes
stride 1 on 2×2 blocks of pixels, and the gradient with respect to the input is written as the plain
convolution that it is. On other backends it costs nothing that matters.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]
_CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


class Convolution(eqx.Module):
    """x [n, h, w, in] ↦ [n, h/stride, w/stride, out], zeros beyond the edge.

    Weights start as N(0, 2/fan-in), biases at 0.

    Attributes:
        weight: [size, size, in, out], size odd.
        bias: [out].
        stride: 1 or 2.
    """

    weight: Array
    bias: Array
    stride: int = eqx.field(static=True)

    def __init__(self, channels_in: int, channels: int, size: int, stride: int = 1, *, key: Array):
        if size % 2 == 0 or stride not in (1, 2):
            raise ValueError(f"size must be odd and stride 1 or 2, got {size} and {stride}.")
        shape = (size, size, channels_in, channels)
        self.weight = jax.random.normal(key, shape) * jnp.sqrt(2 / (channels_in * size**2))
        self.bias = jnp.zeros(channels)
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        size = self.weight.shape[0]
        if self.stride == 1:
            before = after = size // 2
            weight = self.weight
        elif size == 1:
            x, weight, before, after = x[:, ::2, ::2], self.weight, 0, 0
        else:
            x, weight, before, after = _in_blocks(x, self.weight)
        return _plain(x, weight, ((before, after),) * 2) + self.bias

    def filters(self) -> Array:
        """One flat row per output channel, [out, size·size·in]."""
        return self.weight.reshape(-1, self.weight.shape[-1]).T


def _in_blocks(x: Array, weight: Array) -> tuple[Array, Array, int, int]:
    """Stride 2 as stride 1 on blocks: the blocks, their weight, and its padding in blocks."""
    n, height, width, channels = x.shape
    size = weight.shape[0]
    half = size // 2
    # Output i sees pixels 2i − half … 2i + half; zeros fill the weight up to whole blocks.
    before, after = -(-half // 2), half // 2
    extra = (2 * before - half, 2 * after + 1 - half)
    weight = jnp.pad(weight, (extra, extra, (0, 0), (0, 0)))
    side = before + after + 1
    weight = weight.reshape(side, 2, side, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return (
        x.reshape(n, height // 2, width // 2, 4 * channels),
        weight.reshape(side, side, 4 * channels, -1),
        before,
        after,
    )


def _convolve(x: Array, weight: Array, padding: Padding) -> Array:
    return lax.conv_general_dilated(x, weight, (1, 1), padding, dimension_numbers=_CHANNELS_LAST)


def _forward(x, weight, padding):
    return _convolve(x, weight, padding), (x, weight)


def _backward(padding, kept, gradient):
    x, weight = kept
    # Without the barrier XLA folds the turn into the convolution and leaves the fast path.
    turned = lax.optimization_barrier(jnp.flip(weight, (0, 1)).swapaxes(2, 3))
    last = weight.shape[0] - 1
    opposite = tuple((last - before, last - after) for before, after in padding)
    _, of_weight = jax.vjp(lambda weight: _convolve(x, weight, padding), weight)
    return _convolve(gradient, turned, opposite), of_weight(gradient)[0]


_plain = jax.custom_vjp(_convolve, nondiff_argnums=(2,))
_plain.defvjp(_forward, _backward)
