"""Norm balls that bound a perturbation (docs/theory.md §3)."""

import abc
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._ground.checks import number
from featpur_sim._ground.norms import Norm, length, square_scale
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey, Real, Scalar


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

    @steady
    def norm(self, delta: Float[Array, "n d"]) -> Float[Array, " n"]:
        return length(delta)

    @steady
    def maximise(self, gradient: Float[Array, "n d"]) -> Float[Array, "n d"]:
        # Scale first: squaring a gradient of 1e-25 would underflow to a zero norm.
        largest = jnp.max(jnp.abs(gradient), axis=-1, keepdims=True)
        scaled = gradient / jnp.where(largest > 0, largest, 1)
        norm = cast(Array, jnp.linalg.norm(scaled, axis=-1, keepdims=True))
        return self.radius * scaled / jnp.where(norm > 0, norm, 1)

    @steady
    def project(self, delta: Float[Array, "n d"]) -> Float[Array, "n d"]:
        # Scaled, the norm of a long row is finite too.
        scale = square_scale(delta)
        norm = cast(Array, jnp.linalg.norm(delta / scale, axis=-1, keepdims=True))
        radius = self.radius / scale
        return delta * jnp.where(norm > radius, radius / jnp.where(norm > 0, norm, 1), 1)

    @steady
    def random(self, key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "n d"]:
        return self.maximise(jax.random.normal(key, shape, jnp.float32))


class LinfBall(Ball):
    """The ball of the maximum norm."""

    def norm(self, delta: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jnp.max(jnp.abs(delta), axis=-1)

    def maximise(self, gradient: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return self.radius * jnp.sign(gradient)

    def project(self, delta: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return jnp.clip(delta, -self.radius, self.radius)

    @steady
    def random(self, key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "n d"]:
        return self.radius * jax.random.rademacher(key, shape, dtype=jnp.float32)


@steady
def ball(norm: Norm, radius: Real) -> Ball:
    """The ball of a norm by its name.

    Raises:
        ValueError: unknown norm, or a negative or non-finite radius.
    """
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm must be 'l2' or 'linf', got {norm!r}.")
    value = number("radius", radius, least=0)
    return L2Ball(value) if norm == "l2" else LinfBall(value)
