"""The AlexNet-like net and its gradients, written again in PyTorch."""

import numpy as np
import torch
from torch.nn import functional as F

from experiments.cifar10.nets import AlexNet


def tensor(array) -> torch.Tensor:
    return torch.tensor(np.array(array))


class Twin(torch.nn.Module):
    """Images [n, 3, 32, 32] to logits [n, 10], with the weights of ``network``."""

    def __init__(self, network: AlexNet):
        super().__init__()
        self.network = network

    def forward(self, x):
        x = 4 * (x - 0.5)
        for i, layer in enumerate(self.network.layers):
            weight = tensor(layer.weight).permute(3, 2, 0, 1)
            size = weight.shape[-1]
            x = F.conv2d(x, weight, tensor(layer.bias), layer.stride, size // 2).relu()
            if i != 2:
                x = F.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in (self.network.hidden, self.network.head):
            x = F.linear(x.relu(), tensor(layer.weight), tensor(layer.bias))
        return x


def channels_first(images) -> torch.Tensor:
    return tensor(images).permute(0, 3, 1, 2).contiguous()


def loss_gradient(network: AlexNet, images, labels) -> np.ndarray:
    """∇ₓ of the cross-entropy of each image, [n, 32, 32, 3]."""
    x = channels_first(images).requires_grad_()
    F.cross_entropy(Twin(network)(x), tensor(labels).long(), reduction="sum").backward()
    return x.grad.permute(0, 2, 3, 1).numpy()
