"""Problems, networks, attacks and phases that differ in their numbers, stacked to train at once.

Beside it stands `featpur_sim.training.loop.replicate`, for runs that do not differ.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.switches import steady

T = TypeVar("T")


@steady
def stack(things: Iterable[T]) -> T:
    """S things of one structure as one, every array with a leading axis S.

    `featpur_sim.training.loop.train_many` trains what comes out, and
    `featpur_sim.attacks.accuracy.robust_accuracy` attacks it.

    Args:
        things: problems, networks, attacks, phases, or lists of them. The values of their arrays
            (k, σ_x, τ, η, λ, weights, …) may differ; shapes, and all that is static (d, batch, the
            kind of law or attack, the optimiser), must agree.

    Returns:
        One of their kind; its static fields are those of each.

    Raises:
        ValueError: nothing is given, or two differ in more than values; the message names where.

    >>> from featpur_sim import FGM, SparseCoding
    >>> stack([SparseCoding(d=32, k=k, sigma_x=0.3) for k in (3, 4, 5)])
    SparseCoding(d=32, k=3–5, two-level, σ_x=0.3, 3 runs)
    >>> stack([FGM(0.1), FGM(0.1, "linf")])
    Traceback (most recent call last):
    ...
    ValueError: stack: FGM.ball is L2Ball in number 0 and LinfBall in number 1: runs at once may \
differ in the values of arrays alone. Train these apart.
    """
    rows = list(things)
    if not rows:
        raise ValueError("stack: nothing is given: give at least one problem, network or phase.")
    for number, row in enumerate(rows):
        alike = type(row) is type(rows[0]) and dataclasses.is_dataclass(row)
        where = type(row).__name__ if alike else ""
        if found := _difference(where, rows[0], row):
            path, first, other = found
            raise ValueError(
                f"stack: {path} is {first} in number 0 and {other} in number {number}: runs at "
                "once may differ in the values of arrays alone. Train these apart."
            )

    def joined(*leaves: Any) -> Any:
        return jnp.stack(leaves) if _is_array(leaves[0]) else leaves[0]

    return jax.tree.map(joined, *rows)


def _difference(path: str, one: Any, other: Any) -> tuple[str, str, str] | None:
    """Where two values first differ in what must agree, and what stands there in each."""
    parts: list[tuple[str, Any, Any]] = []
    if _is_array(one) and _is_array(other):
        same = _said(one) == _said(other)
    elif type(one) is not type(other):
        same = False
    elif dataclasses.is_dataclass(one):
        same = True
        # What is static first: a size tells more than the shapes that follow from it.
        fields = sorted(dataclasses.fields(one), key=lambda f: not f.metadata.get("static", False))
        parts = [(f"{path}.{f.name}", getattr(one, f.name), getattr(other, f.name)) for f in fields]
    elif isinstance(one, dict) and (same := one.keys() == other.keys()):
        parts = [(f"{path}[{key!r}]", value, other[key]) for key, value in one.items()]
    elif isinstance(one, list | tuple) and (same := len(one) == len(other)):
        parts = [(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        same = not isinstance(one, dict | list | tuple) and (one is other or one == other)
    if not same:
        return path or "it", _said(one), _said(other)
    return next((found for part in parts if (found := _difference(*part))), None)


def _is_array(value: Any) -> bool:
    return eqx.is_array(value) or isinstance(value, np.ndarray)


def _said(value: Any) -> str:
    """A value in a message: arrays by type and shape, modules by their kind."""
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)
