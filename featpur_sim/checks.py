"""What arrives at a constructor or function, checked by the rules of the settings files.

The rules are those of `featpur_sim.config`: booleans and strings are no numbers, counts are
integers up to 2³¹ − 1, numbers are finite and at most 1e30, for they reach the device as float32.
They are checked before and after that cast. Traced values have no value yet and pass.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from featpur_sim._types import Array, Float

LARGEST = 1e30
MOST = 2**31 - 1


def is_concrete(value: Any) -> bool:
    """Whether ``value`` can be looked at: nothing in it is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float = LARGEST,
    ndim: int | None = 0,
) -> Float[Array, "..."]:
    """``value`` as float32, if it keeps the rules.

    Args:
        name: for the message.
        value: number or array: Python, NumPy or JAX, of any real dtype; traced ones pass.
        least: no entry is smaller.
        above: every entry is larger.
        most: no entry is larger; ∞ allows infinite ones.
        ndim: dimensions of the array; None for any.

    Raises:
        ValueError: not real numbers, not finite, out of range before or after the cast to float32,
            the wrong number of dimensions, or empty.

    >>> number("radius", 1e39, least=0)
    Traceback (most recent call last):
    ValueError: radius must be ≥ 0 and finite (at most 1e+30), got 1e+39.
    """
    if not is_concrete(value):
        return jnp.asarray(value, jnp.float32)
    array = _real(name, value)
    if array.size == 0 or (ndim is not None and array.ndim != ndim):
        wanted = "one number" if ndim == 0 else f"a non-empty array of {ndim} dimensions"
        wanted = "a number or a non-empty array" if ndim is None else wanted
        raise ValueError(f"{name} must be {wanted}, got an array of shape {array.shape}.")
    with np.errstate(over="ignore"):
        views = array.astype(np.float64), array.astype(np.float32)
    for view in views:
        good = (view <= most) & (view >= -LARGEST)
        if least is not None:
            good &= view >= least
        if above is not None:
            good &= view > above
        if not good.all():
            bound = f"> {above:g} and " if above is not None else ""
            bound = f"≥ {least:g} and " if least is not None else bound
            limit = "" if most == np.inf else f"finite (at most {most:g})"
            rule = f"{bound}{limit}".removesuffix(" and ")
            shown = array.item() if array.ndim == 0 else views[0][~good].flat[0]
            where = "" if array.ndim == 0 else " among its entries"
            raise ValueError(f"{name} must be {rule}, got {shown}{where}.")
    return jnp.asarray(views[1]) if not isinstance(value, jax.Array) else _float32(value)


def count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as a Python integer of at least ``least``; a NumPy or 0-d one counts.

    Raises:
        ValueError: not an integer, or out of range.

    >>> count("n", np.int64(3))
    3
    """
    if not is_concrete(value):
        raise ValueError(
            f"{name} must be an integer ≥ {least}, got a traced value: it is a size of the "
            "program. Pass it from outside jit and vmap."
        )
    try:
        array = _real(name, value)
    except ValueError:
        array = np.zeros(())
    good = array.ndim == 0 and array.dtype.kind in "iu"
    if not good or not least <= int(array) <= MOST:
        raise ValueError(f"{name} must be an integer ≥ {least} (at most 2³¹ − 1), got {value!r}.")
    return int(array)


def _float32(value: Array) -> Array:
    return value if value.dtype == jnp.float32 else value.astype(jnp.float32)


def _real(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of integers or floats."""
    try:
        array = np.asarray(value)
        real = jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iu"
    except (TypeError, ValueError):  # keys; ragged lists
        real, array = False, np.zeros(())
    if not real:
        raise ValueError(f"{name} must be a number or an array of numbers, got {value!r}.")
    return array
