"""Shape vocabulary shared by every module (docs/theory.md §1-§2).

Axis names in jaxtyping annotations: ``d`` input dimension, ``D`` features, ``m`` hidden neurons,
``n`` samples, ``S`` independent seeds. ``...`` stands for any leading batch axes.
"""

from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PRNGKey", "Scalar", "UInt32"]
