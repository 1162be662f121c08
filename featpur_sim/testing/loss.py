"""The contract of a loss: a function of the margin y f(x)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.expected import expect
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Scalar
from featpur_sim.testing._contract import Contract, close

_ENTRY = "Return one loss per margin, in the shape of the margins; training takes the mean itself"


@steady
def check_loss(loss: Any) -> None:
    """Check a loss at margins from −20 to 20, 0 and ±1 among them.

    That it is one float32 number per margin, of that margin alone; finite, and so is its
    derivative; the same when traced; that it never rises with a margin ≤ 0, which would reward
    mistakes; and that it falls from margin −1/2 to 1/2. Beyond 0 it may do anything: the squared
    loss rises beyond 1.

    Args:
        loss: margin ↦ loss, entry by entry.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim.models.losses import hinge_loss, squared_loss
    >>> check_loss(hinge_loss)
    >>> check_loss(squared_loss)
    """
    expect("loss", loss, Callable, "a function of the margin, hinge_loss say")
    of = Contract("loss", loss)
    margin = jnp.linspace(-20.0, 20.0, 161)  # in steps of 1/4
    value = of.array("its value", of.call("a call", loss, margin, fix=_ENTRY), margin.shape, _ENTRY)
    some = of.call("a call on a few margins", loss, margin[77:84], fix=_ENTRY)
    of.require(
        np.shape(some) == (7,) and close(value[77:84], np.asarray(some)),
        "the loss of a margin depends on which others there are",
        _ENTRY,
    )

    def total(margin: Array) -> Scalar:
        return jnp.sum(loss(margin))

    slopes = of.call("its derivative, traced,", jax.jit(jax.grad(total)), margin, fix=_ENTRY)
    slope = of.array("its derivative", slopes, margin.shape, _ENTRY)
    at = int(np.argmax(np.where(margin <= 0, slope, -np.inf)))
    of.require(
        slope[at] <= 0,
        f"it rises at margin {float(margin[at]):g}, which rewards mistakes",
        "A margin y f(x) > 0 is right: let the loss fall as it grows; −margin is a common slip",
    )
    low, high = (float(value[np.argmin(np.abs(margin - m))]) for m in (-0.5, 0.5))
    of.require(
        low > high,
        f"it is {low:.3g} at margin −1/2 and {high:.3g} at 1/2, so that nothing is learned",
        "Let the loss fall where the sign of f(x) is decided",
    )
    traced = np.asarray(of.call("a call, traced,", jax.jit(loss), margin, fix=_ENTRY))
    of.require(
        close(value, traced),
        "it gives other values when traced",
        "Compute by jax.numpy, without random numbers and without state",
    )
