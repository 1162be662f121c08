"""One function on several items at once: for arrays too small to fill the cores."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

from featpur_sim._ground.switches import held

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What the function makes of every item, in their order, one thread to a core.

    JAX's contexts end at their thread: in ours the package's switches hold as they do in the
    caller's, and so do its ``jax.default_device`` and ``jax.default_matmul_precision``.
    """
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

    def one(item: Item) -> Result:
        with held(), jax.default_device(device), jax.default_matmul_precision(precision):
            return function(item)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(one, items))
