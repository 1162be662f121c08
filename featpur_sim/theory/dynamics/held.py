"""What the residuals of the heterogeneous closure do not have in common (docs/dynamics.md, step 8).

A sample pushes all neurons that it opens along the same x: residuals that a batch leaves behind are
not independent. Their common part Σ_i g_i q_i, g_i how often neuron i is open, is what f sees of
them on average, so the loss takes it back at a rate that all neurons add up to, Σ_i g_i², where
what is left decays at each neuron's own: it stays near zero while the others grow. Σ_i c_i q_i is
zero too, since ψ has what is in it.
"""

import jax.numpy as jnp

from featpur_sim._ground.types import Array, Float
from featpur_sim.theory.dynamics.samples import PerNeuron


def free(
    values: PerNeuron,
    weight: Float[Array, " m"],
    dense: Float[Array, " m"],
    openness: Float[Array, " m"],
) -> PerNeuron:
    """What is left of values, sample by sample, once Σ_i c_i v_i = Σ_i g_i v_i = 0.

    With the variances of independent normals as weights these are those normals given both sums;
    with ones, the nearest such values. [D]

    Args:
        values: v, a column for each sample.
        weight: of the neurons, what their part of a sum that is taken out goes with.
        dense: c.
        openness: g.
    """
    other = openness - dense * _over(weight * dense @ openness, weight @ dense**2)
    # Where g is nearly a multiple of c, only rounding is left of it.
    other = jnp.where(weight @ other**2 > 1e-10 * (weight @ openness**2), other, 0.0)
    for row in (dense, other):
        taken = _over(row @ values, weight @ row**2)
        values = values - (weight * row)[:, None] * taken
    return values


def _over(above: Array, below: Array) -> Array:
    """A quotient that is 0 where nothing is there to be taken out."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), 0.0)
