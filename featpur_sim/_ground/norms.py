"""Names of norms, and lengths of rows at any scale."""

from typing import Literal

import jax.numpy as jnp

from featpur_sim._ground.types import Array, Float

Norm = Literal["l2", "linf"]
# Squares of numbers between these, and sums of 10⁷ of them, are floats of full precision.
_LEAST, _LARGEST = 1e-15, 1e15


def square_scale(rows: Float[Array, "*n d"]) -> Float[Array, "*n 1"]:
    """What to divide each row by before squaring, so that no square over- or underflows.

    1 for rows of usual size, which keep every bit, and for rows of zeros.
    """
    largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    usual = ((largest > _LEAST) & (largest < _LARGEST)) | (largest == 0)
    return jnp.where(usual, 1, largest)


def length(rows: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """ℓ2 norm of each row, at any scale."""
    scale = square_scale(rows)
    return scale[..., 0] * jnp.linalg.norm(rows / scale, axis=-1)
