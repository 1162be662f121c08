"""Running a jitted search on any number of points with one compiled batch size (docs/theory.md,
section 8).

A search is compiled once per network size, whatever the number of undecided points or the radius;
the last batch is padded by repeating its last row.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def float32(values: np.ndarray | float) -> Array:
    """The values as a float32 JAX array."""
    return jnp.asarray(values, jnp.float32)


def in_batches(
    search: Callable[..., tuple[Array, ...]], rows: tuple[np.ndarray, ...], size: int
) -> tuple[np.ndarray, ...]:
    """Calls `search` on float32 batches of exactly `size` rows.

    Args:
        search: maps row arrays [size, ...] to a tuple of arrays [size, ...].
        rows: arrays of n ≥ 1 rows each.
        size: the batch size.

    Returns:
        The outputs for the n rows, float64.

    >>> in_batches(lambda x: (2 * x,), (np.arange(5.0),), 2)[0].tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    count = len(rows[0])
    pieces: list[list[np.ndarray]] = []
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        # Tensor cores would round the products to ten bits.
        with jax.default_matmul_precision("highest"):
            output = search(*(float32(array[index]) for array in rows))
        pieces.append([np.asarray(array, np.float64)[: count - start] for array in output])
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))
