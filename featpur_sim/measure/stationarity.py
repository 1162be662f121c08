"""Is training at rest? The stationarity identity, per neuron (docs/dynamics.md, docs/theory.md §7).

Where gradient descent rests, the data balance weight decay: λ(1 + ‖w_i‖)w_i = G_i with
G_i = E[σ(−y f) y (∂f/∂u_i) x]. The pure and the dense coefficient are linear in w_i, so each is
balanced for itself, for any network and without an ansatz [D]:

    α(G_i)/λ(1 + ‖w_i‖)α_i = 1,    κ(G_i)/λ(1 + ‖w_i‖)α_i = κ_i/α_i.

Both are measured against what decay takes from the pure coefficient, which the weights tell
exactly. The ratio κ(G_i)/α(G_i), in which decay cancels, has the same value at rest, but where
robust training leaves few errors its denominator is a small difference that no affordable sample
tells from 0 [M].
"""

from typing import NamedTuple

import jax.numpy as jnp

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey, Scalar
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.measure.weights import decompose
from featpur_sim.models.losses import loss_sum_and_gradient, regulariser_gradient
from featpur_sim.models.symmetric_relu import SymmetricReLU


class Stationarity(NamedTuple):
    """Means over the carriers, weighted by α²; dimensionless."""

    weights: Scalar
    """κ/α of the weights."""
    dense: Scalar
    """What the data push onto the dense coefficient; at rest equal to ``weights``, above it where
    mixtures grow."""
    pure: Scalar
    """What the data push onto the pure coefficient; at rest 1, above it where features grow."""


@steady
def measure_stationarity(
    network: SymmetricReLU,
    problem: SparseCoding,
    batch: Batch,
    attack: Attack | None = None,
    *,
    weight_decay: float | Scalar,
    key: PRNGKey,
) -> Stationarity:
    """Both sides of the identity on one batch, pushes in units of decay's pull on the pure part.

    Each is summed over the carriers before it is divided: a single neuron is active on too few
    samples for a ratio of its own.

    Args:
        network: one network.
        problem: the data.
        batch: held-out samples.
        attack: of the phase; None for clean training.
        weight_decay: λ of the phase.
        key: for the attack and sampled smoothing.

    Returns:
        A `Stationarity`; pushes are infinite or NaN without decay or without a carrier.
    """
    x = batch.x if attack is None else batch.x + attack(network, batch, key=key)
    _, gradient, count = loss_sum_and_gradient(network, x, batch.y, key=key)
    parts = decompose(network.weights, problem)
    own = problem.wstar[parts.pure_index]
    weight = jnp.where(parts.carrier, parts.alpha, 0.0)
    pure, dense = _along(-gradient / jnp.maximum(count, 1), parts.pure_index, problem)
    pull = weight_decay * regulariser_gradient(network.weights)
    decay = jnp.sum(weight * _along(pull, parts.pure_index, problem)[0])
    held = jnp.sum(weight * parts.kappa * own) / jnp.sum(weight * parts.alpha)
    return Stationarity(held, jnp.sum(weight * dense * own) / decay, jnp.sum(weight * pure) / decay)


def _along(
    vectors: Float[Array, "m d"], index: Array, problem: SparseCoding
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """α and κ of other vectors on given pure indices (docs/theory.md §4)."""
    coordinates = problem.coordinates(vectors)
    wstar = problem.wstar
    pure = jnp.take_along_axis(coordinates, index[:, None], axis=-1)[:, 0]
    own = wstar[index]
    return pure, (coordinates @ wstar - pure * own) / (jnp.sum(wstar**2) - own**2)
