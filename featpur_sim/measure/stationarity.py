"""Is training at rest? The stationarity identity, per neuron (docs/dynamics.md, docs/theory.md §7).

Where gradient descent rests, the data balance weight decay: λ(1 + ‖w_i‖)w_i = G_i with
G_i = E[σ(−y f) y (∂f/∂u_i) x]. Both the pure and the dense coefficient are linear in w_i, so decay
cancels from their ratio, for any network and without an ansatz [D]:

    κ_i/α_i = κ(G_i)/α(G_i).

In the symmetric ansatz this is c/α = E[g y (N X − T)]/((d − 1)E[g y T]). What the two sides differ
by says how far from rest a neuron is, in which mixtures it grows or sheds.
"""

from typing import NamedTuple

import jax.numpy as jnp

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Scalar
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.measure.weights import decompose
from featpur_sim.models.losses import loss_sum_and_gradient
from featpur_sim.models.symmetric_relu import SymmetricReLU


class Stationarity(NamedTuple):
    """Means over the carriers, weighted by α²; dimensionless."""

    weights: Scalar
    """κ/α of the weights."""
    data: Scalar
    """κ/α of what the data push towards, from one held-out batch."""


@steady
def measure_stationarity(
    network: SymmetricReLU,
    problem: SparseCoding,
    batch: Batch,
    attack: Attack | None = None,
    *,
    key,
) -> Stationarity:
    """Both sides of the identity on one batch.

    Numerators and denominators are averaged over the carriers before they are divided: a single
    neuron is active on too few samples for a ratio of its own.

    Args:
        network: one network.
        problem: the data.
        batch: held-out samples.
        attack: of the phase; None for clean training.
        key: for the attack and sampled smoothing.

    Returns:
        Equal entries at a stationary point of the phase, up to sampling error.
    """
    x = batch.x if attack is None else batch.x + attack(network, batch, key=key)
    _, gradient, count = loss_sum_and_gradient(network, x, batch.y, key=key)
    push = -gradient / jnp.maximum(count, 1)
    parts = decompose(network.weights, problem)
    pure, dense = _along(push, parts.pure_index, problem)
    own = problem.wstar[parts.pure_index]
    weight = jnp.where(parts.carrier, parts.alpha, 0.0)
    held = jnp.sum(weight * parts.kappa * own) / jnp.maximum(jnp.sum(weight * parts.alpha), 1e-30)
    pushed = jnp.sum(weight * pure)
    data = jnp.sum(weight * dense * own) / jnp.where(pushed == 0, jnp.nan, pushed)
    return Stationarity(held, data)


def _along(
    vectors: Float[Array, "m d"], index: Array, problem: SparseCoding
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """α and κ of other vectors on given pure indices (docs/theory.md §4)."""
    coordinates = problem.coordinates(vectors)
    wstar = problem.wstar
    pure = jnp.take_along_axis(coordinates, index[:, None], axis=-1)[:, 0]
    own = wstar[index]
    return pure, (coordinates @ wstar - pure * own) / (jnp.sum(wstar**2) - own**2)
