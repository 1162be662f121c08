"""Arrays in the explorer's page: the bytes of the file's numbers; intervals over seeds."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featpur_sim._ground.rows import Row
from featpur_sim.claims.diagram import point_intervals


def encoded(values: Any) -> Row:
    """An array as JSON holds it: ``type`` (f4 or f8), ``shape`` and the bytes in base64.

    >>> encoded(np.zeros((1, 2), np.float32))
    {'type': 'f4', 'shape': [1, 2], 'base64': 'AAAAAAAAAAA='}
    """
    array = np.asarray(values)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "type": little.dtype.str[1:],
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode(),
    }


def intervals(
    values: NDArray, ok: NDArray[np.bool_], points: float | None = None, least: float = 0.0
) -> NDArray[np.floating]:
    """Mean, low and high [3, point, labels …] of values [point, labels …, seed]."""
    found = np.full((3, *values.shape[:-1]), np.nan)
    for at in np.ndindex(*values.shape[1:-1]):
        place = (slice(None), *at)
        found[(slice(None), *place)] = point_intervals(values[place], ok, points, least)
    return found


def named(table: NDArray[np.floating]) -> Row:
    """What `intervals` gave, as ``mean``, ``low`` and ``high``."""
    return {key: encoded(part) for key, part in zip(("mean", "low", "high"), table, strict=True)}
