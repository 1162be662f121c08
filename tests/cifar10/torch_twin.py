"""The AlexNet-like net and its gradients written again in PyTorch, and what rounding does to them.

Two float32 libraries agree better with each other than with the truth where they round alike: of an
image with p = 1 − 10⁻⁵ both take 1 − p from the same float next to 1. Another version or processor
need not. So the reference is float64, and the tolerance is what float32 may do.
"""

from typing import NamedTuple

import numpy as np
import pytest
from rounding import FUNCTION, UNIT

from experiments.cifar10.nets import AlexNet

torch = pytest.importorskip("torch")
F = torch.nn.functional
conv2d_input = torch.nn.grad.conv2d_input

# See `rounded_look`.
DRAWS, FACTOR = 8, 6


def tensor(array) -> torch.Tensor:
    return torch.tensor(np.array(array))


def channels_first(images) -> torch.Tensor:
    return tensor(images).permute(0, 3, 1, 2).contiguous()


class Layer(NamedTuple):
    """A convolution; a linear layer is one that covers its whole input."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    padding: int

    def __call__(self, x):
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Rounded(torch.autograd.Function):
    """A layer that errs in both directions as float32 sums do, by √n u of what they sum up.

    Roundings taken as independent and of mean 0, a sum of n products errs by less than λ√n u times
    the sum of their absolute values in all but 2exp(−λ²/2) of the cases (N. Higham and T. Mary,
    SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4).
    """

    @staticmethod
    def forward(ctx, x, layer, draw):
        ctx.layer, ctx.draw, ctx.shape = layer, draw, x.shape
        absolute = layer._replace(weight=layer.weight.abs(), bias=layer.bias.abs())
        terms = layer.weight[0].numel() + 1
        return layer(x) + draw(absolute(x.abs()), terms)

    @staticmethod
    def backward(ctx, push):
        def back(weight, push):
            return conv2d_input(ctx.shape, weight, push, ctx.layer.stride, ctx.layer.padding)

        weight = ctx.layer.weight
        size = back(weight.abs(), push.abs())
        return back(weight, push) + ctx.draw(size, weight[:, 0].numel()), None, None


class Twin(torch.nn.Module):
    """Images [n, 3, 32, 32] to logits [n, 10], with the weights of ``network``.

    Args:
        network: whose weights.
        dtype: of all numbers.
        draw: size of what is summed up, and of how many terms, to the error that is made.
    """

    def __init__(self, network: AlexNet, dtype=torch.float32, draw=None):
        super().__init__()
        self.draw, self.layers = draw, []
        for layer in network.layers:
            weight = tensor(layer.weight).permute(3, 2, 0, 1)
            padding = weight.shape[-1] // 2
            self.layers.append(Layer(weight, tensor(layer.bias), layer.stride, padding))
        for layer in (network.hidden, network.head):
            channels = len(self.layers[-1].weight)
            side = round((layer.weight.shape[1] / channels) ** 0.5)
            weight = tensor(layer.weight).reshape(-1, side, side, channels).permute(0, 3, 1, 2)
            self.layers.append(Layer(weight, tensor(layer.bias), 1, 0))
        self.layers = [
            layer._replace(weight=layer.weight.to(dtype), bias=layer.bias.to(dtype))
            for layer in self.layers
        ]

    def forward(self, x):
        x = 4 * (x - 0.5)
        for i, layer in enumerate(self.layers):
            x = layer(x) if self.draw is None else Rounded.apply(x, layer, self.draw)
            if i < len(self.layers) - 1:
                x = x.relu()
            if i in (0, 1, 3):
                x = F.max_pool2d(x, 2)
        return x.flatten(1)


class Bounded(NamedTuple):
    """Numbers in float64, and how far float32 may be off in the norm of each row."""

    value: np.ndarray
    error: np.ndarray


def look(network, images, labels, draw=None):
    """Logits [n, 10] and ∇ₓ log p of each image's own label [n, 3072], in float64."""
    x = channels_first(images).double().requires_grad_()
    logits = Twin(network, torch.float64, draw)(x)
    p = logits.detach().softmax(1)
    if draw is not None:
        # A sum of ten and an exponential: with p near 1 that is large beside the slope 1 − p.
        p = p + draw(p, p.shape[1]) + draw(p * FUNCTION / UNIT, 1)
    logits.backward(F.one_hot(tensor(labels).long(), p.shape[1]) - p)
    assert x.grad is not None
    return logits.detach().numpy(), x.grad.permute(0, 2, 3, 1).flatten(1).numpy()


def rounded_look(network, images, labels) -> tuple[Bounded, Bounded]:
    """Logits and ∇ₓ log p, and how far float32 may be off on any processor.

    Monte Carlo arithmetic (D. S. Parker, UCLA CSD-970002, 1997): the float64 computation is
    repeated ``DRAWS`` times with an error drawn in every sum, gates and maxima that flip included.
    The bound is ``FACTOR`` times the root mean square of what that changes. The more directions an
    error has, the better eight draws know its size; if it has but one and is Gaussian, the bound is
    still three standard deviations in 98 cases of 100. And the errors drawn are larger than those
    of float32, whose partial sums are smaller than the sum of the absolute values.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(size, terms):
        unit = 2 * torch.rand(size.shape, generator=generator, dtype=size.dtype) - 1
        return unit * size * UNIT * terms**0.5

    exact = look(network, images, labels)
    tries = zip(*(look(network, images, labels, draw) for _ in range(DRAWS)), strict=True)
    found = []
    for value, moved in zip(exact, tries, strict=True):
        square = np.mean([np.sum((other - value) ** 2, axis=1) for other in moved], axis=0)
        found.append(Bounded(value, FACTOR * np.sqrt(square)))
    return found[0], found[1]
