"""Running a jitted search on any number of points with one compiled batch size (docs/theory.md,
section 8).

A search is compiled once per network size, whatever the number of undecided points or the radius;
the last batch is padded by repeating its last row.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Where a search that may end early looks for points that are done, as fractions of its steps; and
# after its first step, which says what a given start is worth.
_PAUSES = (0.1, 0.3, 1.0)

T = TypeVar("T")


def float32(values: np.ndarray | float) -> Array:
    """The values as a float32 JAX array."""
    return jnp.asarray(values, jnp.float32)


def in_batches(search: Callable[..., T], rows: tuple[Any, ...], size: int) -> T:
    """Calls `search` on float32 batches of exactly `size` rows.

    Args:
        search: maps row arrays [size, ...], or trees of them, to a tree of arrays [size, ...].
        rows: its arguments, of n ≥ 1 rows each.
        size: the batch size.

    Returns:
        The outputs for the n rows, float32.

    >>> in_batches(lambda x: (2 * x,), (np.arange(5.0),), 2)[0].tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    count = len(jax.tree.leaves(rows)[0])
    pieces: list[T] = []
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        # Tensor cores would round the products to ten bits.
        with jax.default_matmul_precision("highest"):
            output = search(*jax.tree.map(partial(_rows, index), rows))
        pieces.append(jax.tree.map(partial(_first, count - start), output))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def _rows(index: np.ndarray, array: Any) -> np.ndarray:
    return np.asarray(array[index], np.float32)


def _first(count: int, array: Any) -> np.ndarray:
    return np.asarray(array)[:count]


@runtime_checkable
class State(Protocol):
    """A search that goes on; a tree of arrays [n, …]."""

    @property
    def best(self) -> Any:
        """The best bound so far, [n]."""


S = TypeVar("S", bound=State)


def ascended(
    ascend: Callable[..., S],
    state: S,
    rows: tuple[np.ndarray, ...],
    steps: int,
    enough: float,
    size: int,
) -> S:
    """The search after its steps, or where its bound was enough.

    Args:
        ascend: takes (first step, last step, steps, state, *rows).
        state: before the first step; changed in place.
        rows: as for `in_batches`.
        steps: of all.
        enough: the bound with which a point takes no more steps.
        size: the batch size.

    Returns:
        The state.
    """
    pauses = {steps} if math.isinf(enough) else {1, *(round(share * steps) for share in _PAUSES)}
    first = 0
    for last in sorted(pause for pause in pauses if 0 < pause <= steps):
        open_ = np.flatnonzero(state.best <= enough)
        if len(open_) == 0:
            break

        def go(state: S, *rows: np.ndarray, first: int = first, last: int = last) -> S:
            return ascend(np.int32(first), np.int32(last), np.float32(steps), state, *rows)

        part, *own = jax.tree.map(partial(_rows, open_), (state, *rows))
        found = in_batches(go, (part, *own), size)
        for array, new in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
            array[open_] = new
        first = last
    return state
