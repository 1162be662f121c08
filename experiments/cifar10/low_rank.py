"""Updates of low rank: W′ = W + LR for every weight matrix, biases free (docs/theory.md §4).

The paper's fourth version reports that adversarial training can be done by low-rank updates. [P]
The matrix of a convolution has a row for each entry of the patch and a column for each channel.
Weight decay acts on L and R, so it pulls W′ towards W, not towards 0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.cifar10.nets import Network

Array = jax.Array


class LowRankUpdate(eqx.Module):
    """What is trained in place of a network: factors of the update of each matrix, and all else.

    At the start the update is 0: L = 0, and R ~ N(0, 1/columns).

    Args:
        network: where to start; its matrices stay as they are.
        rank: of each update, at most; 0 trains biases and gains alone.
        key: of R.
    """

    left: list[Array]
    right: list[Array]
    vectors: list[Array]

    def __init__(self, network: Network, rank: int, *, key: Array):
        leaves = jax.tree.leaves(network)
        self.vectors = [leaf for leaf in leaves if leaf.ndim < 2]
        shapes = [(leaf.size // leaf.shape[-1], leaf.shape[-1]) for leaf in leaves if leaf.ndim > 1]
        self.left = [jnp.zeros((rows, min(rank, columns))) for rows, columns in shapes]
        self.right = [
            jax.random.normal(jax.random.fold_in(key, i), (min(rank, columns), columns))
            / jnp.sqrt(columns)
            for i, (_, columns) in enumerate(shapes)
        ]

    def apply(self, network: Network) -> Network:
        """The network with its matrices updated and its vectors replaced."""
        leaves, structure = jax.tree.flatten(network)
        factors = zip(self.left, self.right, strict=True)
        vectors = iter(self.vectors)
        updated = []
        for leaf in leaves:
            if leaf.ndim < 2:
                updated.append(next(vectors))
            else:
                left, right = next(factors)
                updated.append(leaf + (left @ right).reshape(leaf.shape))
        return jax.tree.unflatten(structure, updated)
