"""How a breach of a contract is found and said, in one line."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import errors

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import hidden_arrays

_TRACED = (
    errors.ConcretizationTypeError,
    errors.TracerArrayConversionError,
    errors.TracerIntegerConversionError,
)
_LONGEST = 160


class Contract(NamedTuple):
    """What is checked: the name of the contract, and the value that has to keep it."""

    name: str
    value: Any

    def __str__(self) -> str:
        value = self.value
        named = inspect.isroutine(value) or isinstance(value, type)
        return f"{self.name} {value.__name__ if named else type(value).__name__}"

    def breach(self, found: str, fix: str) -> ConfigError:
        """The error that says it."""
        return ConfigError(f"{self}: {found}. {fix}.")

    def require(self, good: Any, found: str, fix: str) -> None:
        """Refuse unless ``good``."""
        if not bool(good):
            raise self.breach(found, fix)

    def call(self, what: str, function: Callable[..., Any], *given: Any, fix: str) -> Any:
        """What the user's code returns; an error of it is a breach.

        Args:
            what: the call in words.
            function: makes it.
            given: its arguments.
            fix: what to do about an error that has nothing to do with tracing.
        """
        try:
            return function(*given)
        except _TRACED as error:
            hint = "Write it with jax.numpy: no NumPy, float() or 'if' on values that JAX traces"
            found = f"{what} cannot be traced by JAX ({type(error).__name__})"
            raise self.breach(found, hint) from error
        except Exception as error:
            said = next(iter(str(error).strip().splitlines()), "").rstrip(".")
            said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"
            found = f"{what} raised {type(error).__name__}: {said}"
            raise self.breach(found, fix) from error

    def array(self, what: str, value: Any, shape: tuple[int, ...], fix: str) -> np.ndarray:
        """``value`` as NumPy, if it is a finite float32 array of that shape."""
        found = getattr(value, "shape", None)
        if found != shape:
            got = type(value).__name__ if found is None else f"shape {tuple(found)}"
            raise self.breach(f"{what} has {got}, not shape {shape}", fix)
        self.require(
            value.dtype == jnp.float32,
            f"{what} has dtype {value.dtype}, not float32",
            "Return float32: every program of the package is compiled for it",
        )
        array = np.asarray(value)
        self.require(
            np.isfinite(array).all(),
            f"{what} is not finite in {np.sum(~np.isfinite(array))} of {array.size} entries",
            "Look for 0/0, the root of a negative number, or an overflow",
        )
        return array

    def require_visible_arrays(self) -> None:
        """Refuse arrays that JAX takes for constants; see `hidden_arrays`."""
        held = hidden_arrays(self.value)
        self.require(
            not held,
            f"its array {', '.join(held)} is hidden from JAX, a constant of compiled programs",
            "Make the class an equinox.Module with the array as a field",
        )


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for rounding: float32 products of other shapes may be summed in another order."""
    if one.shape != other.shape:
        return False
    return bool(np.all(np.abs(one - other) <= 1e-5 * np.abs(one).max()))
