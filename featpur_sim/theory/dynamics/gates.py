"""What neurons answer and how far their gates are open, of their pre-activations: the paper's ReLU
pair, alone or with the noise ρ in closed form (docs/theory.md §2).
"""

import jax.numpy as jnp
from jax.scipy.stats import norm

from featpur_sim._ground.types import Array, Float, Scalar
from featpur_sim.theory.dynamics.samples import PerNeuron


def answers(
    u: PerNeuron, b: Float[Array, " m"], sigma_rho: Scalar | None
) -> tuple[Float[Array, " n"], PerNeuron]:
    """f, the sum over neurons, and its derivative by each u: 0 or 1 without noise.

    Args:
        u: pre-activations.
        b: thresholds.
        sigma_rho: σ_ρ of the mean over ρ ~ N(0, σ_ρ²), None for ρ = 0.
    """
    if sigma_rho is None:
        excess = jnp.abs(u) - b[:, None]
        f = jnp.sum(jnp.sign(u) * jnp.maximum(excess, 0.0), axis=0)
        return f, (excess > 0).astype(u.dtype)
    up, down = (u - b[:, None]) / sigma_rho, (-u - b[:, None]) / sigma_rho
    open_up, open_down = norm.cdf(up), norm.cdf(down)
    both = up * open_up + norm.pdf(up) - down * open_down - norm.pdf(down)
    return sigma_rho * jnp.sum(both, axis=0), open_up + open_down


def opens(
    b: Float[Array, " m"], variance: Float[Array, " m"], sigma_rho: Scalar | None
) -> Float[Array, " m"]:
    """The mean derivative of `answers` by each u, where u is Gaussian with mean 0. [D]

    Args:
        b: thresholds.
        variance: of every neuron's u.
        sigma_rho: as for `answers`.
    """
    spread = variance if sigma_rho is None else variance + sigma_rho**2
    return 2 * norm.sf(b / jnp.sqrt(jnp.maximum(spread, 1e-30)))
