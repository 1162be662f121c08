"""What code gives a run in place of settings (docs/how-to/own-run.md)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

GIVEN = "given in Python: "
"""In front of the name of a part that no file can name."""


class Parts(NamedTuple):
    """The parts of a run that are code or arrays; None where the settings say all."""

    law: Callable[..., Any] | None = None
    """``(**parameters)`` → a hidden law."""
    problem: Callable[[Any, int], Any] | None = None
    """(settings, seed) → a `SparseCoding`; the seed counts from 1."""
    network: Callable[[Any, Any], Any] | None = None
    """(settings, key) → the `SymmetricReLU` before step 0."""
    phases: Callable[[Any], Sequence[Any]] | None = None
    """settings → the clean and the adversarial phase."""
    observe: Callable[[Any], Mapping[str, Any]] | None = None
    """`Moment` → named numbers, recorded beside those of every run."""
    claims: Sequence[Any] = ()
    """Judged on the result, after the scorecard's own."""
    wstar: np.ndarray | None = None
    dictionary: np.ndarray | None = None
