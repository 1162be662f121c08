"""Norm balls that bound a perturbation (docs/theory.md §3)."""

import abc
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._types import Array, Float, PRNGKey, Scalar

Norm = Literal["l2", "linf"]
_TINY = 1e-30


class Ball(eqx.Module):
    """{δ : ‖δ‖ ≤ radius}, applied to each row."""

    radius: Scalar

    @abc.abstractmethod
    def norm(self, delta: Float[Array, "n d"]) -> Float[Array, " n"]:
        """‖δ‖ of each row."""

    @abc.abstractmethod
    def maximise(self, gradient: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """argmax ⟨g, δ⟩ over the ball; 0 where the gradient is 0."""

    @abc.abstractmethod
    def project(self, delta: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The nearest point of the ball in Euclidean distance."""

    @abc.abstractmethod
    def random(self, key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "n d"]:
        """A random point of the sphere ‖δ‖ = radius (ℓ2: uniform; ℓ∞: random signs)."""


class L2Ball(Ball):
    """The Euclidean ball."""

    def norm(self, delta):
        return jnp.linalg.norm(delta, axis=-1)

    def maximise(self, gradient):
        # Scale first: squaring a gradient of 1e-25 would underflow to a zero norm.
        largest = jnp.max(jnp.abs(gradient), axis=-1, keepdims=True)
        scaled = gradient / jnp.where(largest > 0, largest, 1)
        length = jnp.linalg.norm(scaled, axis=-1, keepdims=True)
        return self.radius * scaled / jnp.maximum(length, _TINY)

    def project(self, delta):
        length = self.norm(delta)[..., None]
        return delta * jnp.minimum(1, self.radius / jnp.maximum(length, _TINY))

    def random(self, key, shape):
        return self.maximise(jax.random.normal(key, shape))


class LinfBall(Ball):
    """The ball of the maximum norm."""

    def norm(self, delta):
        return jnp.max(jnp.abs(delta), axis=-1)

    def maximise(self, gradient):
        return self.radius * jnp.sign(gradient)

    def project(self, delta):
        return jnp.clip(delta, -self.radius, self.radius)

    def random(self, key, shape):
        return self.radius * jax.random.rademacher(key, shape, dtype=jnp.float32)


def ball(norm: Norm, radius: float | Array) -> Ball:
    """The ball of a norm by its name.

    Raises:
        ValueError: unknown norm, or a negative or non-finite radius.
    """
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm must be 'l2' or 'linf', got {norm!r}.")
    if not isinstance(radius, jax.Array) and not 0 <= float(radius) < float("inf"):
        raise ValueError(f"radius must be ≥ 0 and finite, got {radius}.")
    value = jnp.asarray(radius, jnp.float32)
    return L2Ball(value) if norm == "l2" else LinfBall(value)
