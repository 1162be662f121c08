"""What adversarial training does to every filter (docs/theory.md §4), and how dense filters are.

A filter is one output channel's weight over its patch, flat: the w of the model's neuron.
"""

from typing import NamedTuple

import numpy as np

from experiments.cifar10.nets import Network
from featpur_sim.measure.weights import overlap, rescaling


class Filters(NamedTuple):
    """Per filter of every convolution, layer after layer, [filters]; w is the clean filter."""

    layer: np.ndarray
    """Name of the convolution."""
    theta_init: np.ndarray
    """θ(w⁽⁰⁾, w′)"""
    theta_clean: np.ndarray
    """θ(w, w′)"""
    kept_norm: np.ndarray
    """‖βw′‖/‖w‖"""
    removed_norm: np.ndarray
    """‖v‖/‖w‖"""


def compare(init: Network, clean: Network, network: Network) -> Filters:
    """Overlaps of the filters w′ of ``network`` and the split w = βw′ + v. [P]"""
    columns = []
    layers = (init.convolutions(), clean.convolutions(), network.convolutions())
    for name in layers[0]:
        start, before, after = (layer[name].filters() for layer in layers)
        split = rescaling(before, after)
        length = np.maximum(np.linalg.norm(before, axis=-1), 1e-30)
        values = (
            overlap(start, after),
            overlap(before, after),
            split.kept_norm / length,
            split.removed_norm / length,
        )
        columns.append((np.full(len(start), name), *map(np.asarray, values)))
    return Filters(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))
