"""How objects show themselves in a notebook: one line, sizes instead of arrays.

What has no value to look at (traced, deleted, a mere shape) is shown as ``…``.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def shown(value: Any) -> str:
    """A number as text; the range of several, as where runs are trained together.

    >>> shown(0.30000001), shown(np.array([4.0, 5.0, 7.0])), shown(np.array([2500, 2500]))
    ('0.3', '4–7', '2500')
    """
    if value is None or isinstance(value, Tracer | jax.ShapeDtypeStruct):
        return "…"
    try:
        array = np.asarray(value)
        low, high = array.min().item(), array.max().item()
        ends = [f"{end}" if isinstance(end, int) else f"{end:.3g}" for end in (low, high)]
    except (RuntimeError, TypeError, ValueError):
        # A donated buffer, one of another process, an empty array, or no number.
        return "…"
    return ends[0] if low == high else "–".join(ends)


def runs(value: Any, ndim: int = 0) -> list[str]:
    """``["8 runs"]`` where ``value``, of ``ndim`` axes for one run, has a leading axis of 8.

    >>> runs(np.zeros((8, 3, 2)), 2), runs(np.zeros((3, 2)), 2)
    (['8 runs'], [])
    """
    shape: Any = getattr(value, "shape", ())
    return [f"{shape[0]} runs"] if len(shape) > ndim else []


def line(name: str, *parts: str) -> str:
    """``name(part, part, …)``.

    >>> line("FGM", "τ=0.1", "l2")
    'FGM(τ=0.1, l2)'
    """
    return f"{name}({', '.join(parts)})"
