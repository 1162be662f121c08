"""What every model is (docs/theory.md §2, §6): inputs → real output f(x); its sign is the label.

Attacks see a `Classifier` and nothing else, so every competitor is attacked by the same
code with the same budget.
"""

import abc
from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._ground.types import Array, Float, PRNGKey, Real


class Classifier(eqx.Module):
    """A real-valued function whose sign is the predicted label."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        """f(x). ``key`` is needed only by randomised models."""

    @abc.abstractmethod
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        """f(x) and ∇ₓf(x), sample by sample."""

    def smoothed(self, width: Real) -> "Classifier":
        """x ↦ E f(x + width·g), g ~ N(0, I), to take gradients from in an attack.

        Models whose own gradient vanishes or jumps (dead or hard gates) should override this; it
        may be an approximation, for the attack scores its points on the model itself. By default
        the model as it is. Width 0 must be allowed, and is the expectation of a randomised model.

        Args:
            width: standard deviation of each coordinate of the noise, ≥ 0, in units of x.
        """
        return self


def autodiff_input_gradient(
    model: Classifier, x: Float[Array, "n d"], *, key: PRNGKey | None = None
) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
    """f(x) and ∇ₓf(x) by automatic differentiation, for models without a closed form."""

    def output(points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return model(points, key=key)

    value, pullback = cast(tuple[Array, Callable[[Array], tuple[Array]]], jax.vjp(output, x))
    (gradient,) = pullback(jnp.ones_like(value))
    return value, gradient
