"""JAX's global switches, held while the package computes at what it is written for.

A notebook or an environment may set float64 by default, checks for NaN, strict promotion, another
generator of random numbers and more, for code of its own. The package computes in float32 (the
reduced dynamics in float64), broadcasts, takes NaN for data (a seed that diverged, a radius that
does not exist) and draws with Threefry. So every public function that computes holds these switches
at their defaults until it returns, and gives the same bits whatever they are outside. What is left
to the user: the device and its platform, the default precision of matrix products, caches and logs;
and before JAX 0.8 a jit of their own around ours under float64, which lowers ours under it too, and
fails.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

KEY_KIND = "threefry2x32"
"""The one kind of PRNG key. Others draw other numbers under ``vmap`` than alone."""


class SwitchError(ValueError):
    """A setting of JAX under which nothing can be computed, or not what is promised."""


P = ParamSpec("P")
R = TypeVar("R")


def x64(enabled: bool) -> AbstractContextManager[None]:
    """JAX's 64-bit types switched on or off inside a ``with`` block."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(enabled)


# Switch → what it is held at, and how. The reading of a switch that was never set may differ from
# the setting: transfer guards read None.
_HELD: dict[str, tuple[Any, Callable[[], AbstractContextManager]]] = {
    "jax_enable_x64": (False, lambda: x64(False)),
    "jax_debug_nans": (False, lambda: jax.debug_nans(False)),
    "jax_debug_infs": (False, lambda: jax.debug_infs(False)),
    "jax_numpy_rank_promotion": ("allow", lambda: jax.numpy_rank_promotion("allow")),
    "jax_numpy_dtype_promotion": ("standard", lambda: jax.numpy_dtype_promotion("standard")),
    "jax_disable_jit": (False, lambda: jax.disable_jit(False)),
    "jax_no_tracing": (False, lambda: jax.no_tracing(False)),
    "jax_no_execution": (False, lambda: jax.no_execution(False)),
    "jax_default_prng_impl": (KEY_KIND, lambda: jax.default_prng_impl(KEY_KIND)),
    "jax_threefry_partitionable": (True, lambda: jax.threefry_partitionable(True)),
    "jax_check_tracer_leaks": (False, lambda: jax.check_tracer_leaks(False)),
    "jax_debug_key_reuse": (False, lambda: jax.debug_key_reuse(False)),
    "jax_transfer_guard": (None, lambda: jax.transfer_guard("allow")),
    "jax_transfer_guard_host_to_device": (
        None,
        lambda: jax.transfer_guard_host_to_device("allow"),
    ),
    "jax_transfer_guard_device_to_host": (
        None,
        lambda: jax.transfer_guard_device_to_host("allow"),
    ),
    "jax_transfer_guard_device_to_device": (
        None,
        lambda: jax.transfer_guard_device_to_device("allow"),
    ),
}


def overruled() -> list[str]:
    """The environment's names of the switches that are set, and that the package holds."""
    # A switch that this version of JAX lacks is not set.
    values = (
        (name, getattr(jax.config, name, wanted), wanted) for name, (wanted, _) in _HELD.items()
    )
    return [name.upper() for name, value, wanted in values if value not in (wanted, "allow")]


def require_device() -> None:
    """Refuse a platform that has no device here.

    Raises:
        SwitchError: JAX cannot start; the message says what it was asked for.
    """
    asked: dict[str, Any] = {
        name: getattr(jax.config, name.lower()) for name in ("JAX_PLATFORMS", "JAX_DEFAULT_DEVICE")
    }
    for name, value in asked.items():
        try:
            # The environment can name the platform of the default device only.
            jax.devices(value if name == "JAX_DEFAULT_DEVICE" and isinstance(value, str) else None)
        # A missing plugin is an AssertionError in some versions.
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("(set JAX_PLATFORMS")[0].strip()
            reason = reason.rstrip(".") or "its plugin is not installed"
            raise SwitchError(
                f"JAX found no device for {name}={value or ''}: {reason}. Unset {name} to take "
                "what is there, or set it to cpu."
            ) from None


@contextmanager
def held() -> Iterator[None]:
    """Every switch at what the package needs, inside a ``with`` block.

    Raises:
        SwitchError: JAX adds an offset to all seeds, which nothing can hold.
    """
    if offset := jax.config.jax_random_seed_offset:  # pyright: ignore[reportAttributeAccessIssue]
        raise SwitchError(
            f"JAX_RANDOM_SEED_OFFSET={offset} gives every seed another meaning than the one that "
            "results are saved with: unset it, and choose another seed instead."
        )
    with ExitStack() as stack:
        for name in overruled():
            stack.enter_context(_HELD[name.lower()][1]())
        yield


def steady(function: Callable[P, R]) -> Callable[P, R]:
    """A function that computes with the switches `held`, on float32, under a key of ours.

    Float64 and 64-bit integer arrays among its arguments are rounded to 32 bits. A parameter named
    ``key`` or ``keys`` must be what ``jax.random.key`` makes, and None only where that is its
    default; see `require_key`.
    """
    signature = inspect.signature(function).parameters
    parameters = list(signature)
    key_name = next((name for name in ("key", "keys") if name in parameters), None)
    key_position = -1 if key_name is None else parameters.index(key_name)
    optional = key_name is not None and signature[key_name].default is None
    # An object under construction has no leaves yet, and must stay itself.
    fixed = parameters[0] == "self" and function.__name__ == "__init__"

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if key_name is not None:
            if key_position < len(args):
                require_key(key_name, args[key_position], optional)
            elif key_name in kwargs:  # Python names one that is missing
                require_key(key_name, kwargs[key_name], optional)
        if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            own = 1 if fixed else 0
            narrow, kwargs = jax.tree.map(_narrow, (args[own:], kwargs))
            args = (*args[:own], *narrow)  # pyright: ignore[reportAssignmentType]
        with held():
            return function(*args, **kwargs)

    return wrapped


_NARROW = {
    np.dtype(np.float64): jnp.float32,
    np.dtype(np.int64): jnp.int32,
    np.dtype(np.uint64): jnp.uint32,
}


def _narrow(leaf: Any) -> Any:
    narrow = _NARROW.get(leaf.dtype) if isinstance(leaf, jax.Array) else None
    return leaf if narrow is None else leaf.astype(narrow)


def require_key(name: str, key: Any, optional: bool = False) -> None:
    """Refuse what is not a PRNG key of the package's kind.

    Args:
        name: of the parameter; ``keys`` is a row of them, any other name is one.
        key: what was given.
        optional: None is allowed.

    Raises:
        ValueError: an integer, an array of words, a key of another kind, or several for one.

    >>> require_key("key", 3)
    Traceback (most recent call last):
    ...
    ValueError: key must be a PRNG key, got 3: write jax.random.key(3).
    """
    made = "jax.random.key(seed)"
    made = f"jax.random.split({made}, n)" if name == "keys" else made
    if key is None:
        if optional:
            return
        raise ValueError(f"{name} must be a PRNG key, got None: write {made}.")
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if (kind := str(jax.random.key_impl(key))) != KEY_KIND:
            raise ValueError(
                f"{name} must be a PRNG key of kind {KEY_KIND}, got one of kind {kind}: write "
                f"jax.random.key(seed, impl={KEY_KIND!r})."
            )
        if key.ndim != (name == "keys"):
            wanted = "a row of PRNG keys" if name == "keys" else "one PRNG key"
            hint = f"{name}[0], or use jax.vmap"
            hint = f"jax.random.split({name}, n)" if name == "keys" else hint
            raise ValueError(f"{name} must be {wanted}, got shape {key.shape}: write {hint}.")
        return
    if getattr(key, "dtype", None) == np.uint32 and np.shape(key)[-1:] == (2,):
        call = f"jax.random.wrap_key_data({name}, impl={KEY_KIND!r})"
        hint = f"an old-style key, words of shape {np.shape(key)}: write {call}."
    elif isinstance(key, int | np.integer):
        hint = f"{key}: write jax.random.key({key})."
    else:
        hint = f"{type(key).__name__}: write {made}."
    raise ValueError(f"{name} must be a PRNG key, got {hint}")
