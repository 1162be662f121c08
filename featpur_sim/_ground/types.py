"""Shape vocabulary shared by every module (docs/theory.md §1-§2).

Axis names in jaxtyping annotations: ``d`` input dimension, ``D`` features, ``m`` hidden neurons,
``n`` samples, ``S`` independent seeds. ``...`` stands for any leading batch axes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Scalar = Float[Array, ""]
Real = float | Scalar
"""One real number, Python's or the device's."""
Numbers = (
    float
    | np.floating
    | np.integer
    | np.ndarray
    | Array
    | Sequence[float]
    | Sequence[Sequence[float]]
)
"""What `featpur_sim._ground.checks.number` makes an array of."""
PRNGKey = Key[Array, ""]

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "Key",
    "Numbers",
    "PRNGKey",
    "Real",
    "Scalar",
    "UInt32",
]
