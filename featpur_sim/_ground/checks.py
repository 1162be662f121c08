"""What arrives at a constructor or function, checked by the rules of the settings files.

The rules are those of `featpur_sim.runs.config`: booleans and strings are not numbers, counts are
integers up to 2³¹ − 1, numbers are finite and at most 1e30, for they reach the device as float32.
They are checked before and after that cast. Traced values have no value yet and pass.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from featpur_sim._ground.types import Array, Float


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which, why and what to do."""


LARGEST = 1e30
WIDEST = float(np.finfo(np.float64).max)
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
    below: float | None = None,
    most: float = LARGEST,
    ndim: int | None = 0,
) -> Float[Array, "..."]:
    """``value`` as float32, if it keeps the rules.

    Args:
        name: for the message.
        value: number or array: Python, NumPy or JAX, of any real dtype; traced ones pass.
        least: no entry is smaller.
        above: every entry is larger.
        below: every entry is smaller.
        most: no entry is larger; ∞ allows infinite ones.
        ndim: dimensions of the array; None for any.

    Raises:
        ConfigError: not real numbers, not finite, out of range before or after the cast to float32,
            the wrong number of dimensions, or empty.

    >>> number("tau", 1e39, least=0)
    Traceback (most recent call last):
    featpur_sim._ground.checks.ConfigError: tau must be ≥ 0 and finite (at most 1e+30), got 1e+39.
    """
    if not is_concrete(value):
        return jnp.asarray(value, jnp.float32)
    array = _shaped(name, value, ndim)
    with np.errstate(over="ignore"):
        views = array.astype(np.float64), array.astype(np.float32)
    for view in views:
        _require_range(name, array, view, least, above, below, most, -LARGEST)
    return jnp.asarray(views[1]) if not isinstance(value, jax.Array) else _float32(value)


def double(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float = WIDEST,
    ndim: int | None = 0,
) -> Float[np.ndarray, "..."]:
    """`number` for what is computed in float64 on the host: a NumPy array, without float32's range.

    >>> float(double("radius", 1e39, above=0))
    1e+39
    """
    if not is_concrete(value):
        raise ConfigError(
            f"{name} must be a number or an array of numbers, got a traced value: this is computed "
            "on the host. Call it outside jit and vmap."
        )
    array = _shaped(name, value, ndim)
    view = array.astype(np.float64)
    _require_range(name, array, view, least, above, None, most, -WIDEST)
    return view


def count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as a Python integer of at least ``least``; a NumPy or 0-d one counts.

    Raises:
        ConfigError: not an integer, or out of range.

    >>> count("n", np.int64(3))
    3
    """
    if not is_concrete(value):
        raise ConfigError(
            f"{name} must be an integer ≥ {least}, got a traced value: it is a size of the "
            "program. Pass it from outside jit and vmap."
        )
    try:
        array = _real(name, value)
    except ConfigError:
        array = np.zeros(())
    good = array.ndim == 0 and array.dtype.kind in "iu"
    if not good or not least <= int(array) <= MOST:
        raise ConfigError(f"{name} must be an integer ≥ {least} (at most 2³¹ − 1), got {value!r}.")
    return int(array)


def _shaped(name: str, value: Any, ndim: int | None) -> np.ndarray:
    """``value`` as an array of that many dimensions."""
    array = _real(name, value)
    if array.size == 0 or (ndim is not None and array.ndim != ndim):
        wanted = "one number" if ndim == 0 else f"a non-empty array of {ndim} dimensions"
        wanted = "a number or a non-empty array" if ndim is None else wanted
        raise ConfigError(f"{name} must be {wanted}, got an array of shape {array.shape}.")
    return array


def _require_range(
    name: str,
    array: np.ndarray,
    view: np.ndarray,
    least: float | None,
    above: float | None,
    below: float | None,
    most: float,
    lowest: float,
) -> None:
    """Refuse an entry of ``view``, which is ``array`` as it will be used, that is out of range."""
    good = (view <= most) & (view >= lowest)
    rules = []
    if least is not None:
        good &= view >= least
        rules.append(f"≥ {least:g}")
    if above is not None:
        good &= view > above
        rules.append(f"> {above:g}")
    if below is not None:
        good &= view < below
        rules.append(f"< {below:g}")
    elif most != np.inf:
        rules.append(f"finite (at most {most:g})")
    if not good.all():
        shown = array.item() if array.ndim == 0 else array[~good].flat[0]
        where = "" if array.ndim == 0 else " among its entries"
        raise ConfigError(f"{name} must be {' and '.join(rules)}, got {shown}{where}.")


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
        shown = repr(value)
        if array.ndim or len(shown) > 80:  # one line, and no thousand digits
            shown = f"{type(value).__name__} of {array.dtype}" if array.ndim else f"{shown[:80]} …"
        raise ConfigError(f"{name} must be a number or an array of numbers, got {shown}.")
    return array
