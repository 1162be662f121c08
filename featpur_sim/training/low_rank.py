"""Training confined to a change of low rank: W′ = W + AB (docs/theory.md §3, claim C7)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count
from featpur_sim._ground.types import Array, Float, PRNGKey

Factors = tuple[Float[Array, "*S m r"], Float[Array, "*S r d"]]


class LowRankUpdate(eqx.Module):
    """Weights W′ = W + AB with W fixed, so that rank(W′ − W) ≤ r.

    Attributes:
        start: W, the weights at the start of the phase.
        factors: A, 0 at the start, and B, with entries N(0, 1/d) at the start: E BᵀB = (r/d)·I.
    """

    start: Float[Array, "*S m d"]
    factors: Factors

    def __init__(self, weights: Float[Array, "m d"], rank: int, *, key: PRNGKey):
        m, d = weights.shape
        rank = count("rank", rank)
        self.start = weights
        self.factors = (
            jnp.zeros((m, rank), weights.dtype),
            jax.random.normal(key, (rank, d), weights.dtype) / np.float32(np.sqrt(d)),
        )

    @property
    def weights(self) -> Float[Array, "m d"]:
        """W + AB."""
        left, right = self.factors
        return self.start + left @ right

    def pull_back(self, gradient: Float[Array, "m d"]) -> Factors:
        """The gradient in (A, B) from the gradient G in W′: (G Bᵀ, Aᵀ G). [D]"""
        left, right = self.factors
        return gradient @ right.T, left.T @ gradient
