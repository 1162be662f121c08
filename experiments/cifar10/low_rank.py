"""Updates of low rank: W′ = W + LR for every convolution, all else frozen (docs/theory.md §4).

The paper's fourth version reports that adversarial training can be done by low-rank updates. [P]
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.cifar10.nets import Network

Array = jax.Array


class LowRankUpdate(eqx.Module):
    """Factors of the update of each convolution's filter matrix [channels out, size·size·in].

    The update starts at 0: L = 0, R ~ N(0, 1/columns).

    Args:
        network: the frozen network.
        rank: of each update, at most; cut to the smaller side of the matrix.
        key: of R.
    """

    left: list[Array]
    right: list[Array]

    def __init__(self, network: Network, rank: int, *, key: Array):
        self.left, self.right = [], []
        for i, layer in enumerate(network.convolutions().values()):
            rows, columns = layer.filters().shape
            inner = min(rank, rows, columns)
            self.left.append(jnp.zeros((rows, inner)))
            start = jax.random.normal(jax.random.fold_in(key, i), (inner, columns))
            self.right.append(start / jnp.sqrt(columns))

    def apply(self, network: Network) -> Network:
        """The network with the updates added to its convolutions."""

        def weights(network):
            return [layer.weight for layer in network.convolutions().values()]

        updated = [
            weight + (left @ right).T.reshape(weight.shape)
            for weight, left, right in zip(weights(network), self.left, self.right, strict=True)
        ]
        return eqx.tree_at(weights, network, updated)
