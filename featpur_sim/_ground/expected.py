"""What is of the wrong kind, refused in one line that names the parameter and the way out."""

import inspect
from typing import Any

import jax
import numpy as np

from featpur_sim._ground.checks import ConfigError


def expect(name: str, value: Any, kind: Any, wanted: str) -> None:
    """Refuse a value that is not of the kind.

    Args:
        name: of the parameter.
        value: what was given.
        kind: what it has to be an instance of, as for ``isinstance``.
        wanted: the kind in words, with an example.

    Raises:
        ConfigError: it is something else.

    >>> expect("attack", 0.1, str, "an attack, FGM(radius) say")
    Traceback (most recent call last):
    featpur_sim._ground.checks.ConfigError: attack must be an attack, FGM(radius) say, got 0.1.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} must be {wanted}, got {said(value)}.")


def expect_methods(name: str, value: Any, methods: tuple[str, ...], wanted: str) -> None:
    """Refuse a value that lacks one of the methods of a contract.

    Args:
        name: of the parameter.
        value: what was given.
        methods: their names.
        wanted: the contract in words, with an example.

    Raises:
        ConfigError: a method is missing.

    >>> expect_methods("problem", 3, ("sample",), "one, SparseCoding(…) say")
    Traceback (most recent call last):
    featpur_sim._ground.checks.ConfigError: problem must be one, SparseCoding(…) say, got 3, wi...
    """
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    if isinstance(value, type):
        raise ConfigError(f"{name} must be {wanted}, got {said(value)}.")
    if missing:
        raise ConfigError(
            f"{name} must be {wanted}, got {said(value)}, without {', '.join(missing)}."
        )


def hidden_arrays(value: Any) -> list[str]:
    """Names of the arrays of an object that JAX takes for constants.

    An object that is no pytree is one leaf, told from others by its identity: a program that was
    compiled once goes on with the arrays that it held then.
    """
    own = getattr(value, "__dict__", {})
    held = [name for name, item in own.items() if isinstance(item, jax.Array | np.ndarray)]
    leaves = jax.tree.leaves(value) if held else []
    return held if len(leaves) == 1 and leaves[0] is value else []


def expect_visible(name: str, value: Any) -> None:
    """Refuse an object that hides arrays from JAX.

    Raises:
        ConfigError: it does.

    >>> class Ordinary:
    ...     def __init__(self):
    ...         self.centres = np.eye(2)
    >>> expect_visible("problem", Ordinary())
    Traceback (most recent call last):
    featpur_sim._ground.checks.ConfigError: problem: its array centres is hidden from JAX, which...
    """
    if held := hidden_arrays(value):
        raise ConfigError(
            f"{name}: its array {', '.join(held)} is hidden from JAX, which takes it for a "
            f"constant: make the class {type(value).__name__} an equinox.Module with the array as "
            "a field."
        )


def said(value: Any) -> str:
    """A value in few words: numbers and texts as they are, anything else by its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself, not one of its objects"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value) if len(repr(value)) < 60 else type(value).__name__
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    return f"an object of the class {type(value).__name__}"
