"""Winning lottery tickets: neurons that favour one feature by chance at the start (§4, claim C9).

Neuron i holds the ticket of feature j if, at initialisation, |⟨w_i, M_j⟩| > √c₁ σ₀ √(log D) for
exactly that j, with the sign of w*_j. [P] (c₁ [P?]: a parameter, 2 by default, the level that the
largest of D Gaussians reaches.)
"""

from typing import NamedTuple

import jax.numpy as jnp

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int, Scalar
from featpur_sim.data.sparse_coding import SparseCoding


class TicketOutcome(NamedTuple):
    """How the tickets of the initial weights fared in trained ones."""

    feature: Int[Array, " m"]
    """The feature whose ticket the neuron holds, or −1."""
    ticket_rate: Scalar
    """Fraction of the neurons that hold a ticket."""
    win_rate: Scalar
    """Among ticket holders, the fraction whose pure feature after training is the ticket's."""
    control_rate: Scalar
    """The same for the others, with the feature of their own largest |C_ij| at the start."""
    features_won: Scalar
    """Among features with at least one ticket, the fraction that a ticket holder carries at the
    end."""


@steady
def find_tickets(
    initial: Float[Array, "m d"],
    problem: SparseCoding,
    sigma_0: float | Scalar,
    c_1: float = 2.0,
) -> Int[Array, " m"]:
    """The feature whose winning ticket each neuron holds, or −1. [P]"""
    coordinates = problem.coordinates(initial)
    level = jnp.sqrt(c_1 * jnp.log(problem.D)) * sigma_0
    above = jnp.abs(coordinates) > level
    index = jnp.argmax(above, axis=-1)
    value = jnp.take_along_axis(coordinates, index[:, None], axis=-1)[:, 0]
    holds = (jnp.sum(above, axis=-1) == 1) & (value * problem.wstar[index] > 0)
    return jnp.where(holds, index, -1)


@steady
def ticket_outcome(
    initial: Float[Array, "m d"],
    final: Float[Array, "m d"],
    problem: SparseCoding,
    sigma_0: float | Scalar,
    c_1: float = 2.0,
) -> TicketOutcome:
    """Follow the tickets of ``initial`` to the ``final`` weights of the same neurons."""
    feature = find_tickets(initial, problem, sigma_0, c_1)
    holds = feature >= 0
    start = jnp.argmax(jnp.abs(problem.coordinates(initial)), axis=-1)
    size = jnp.abs(problem.coordinates(final))
    end = jnp.argmax(size, axis=-1)
    strength = jnp.max(size, axis=-1)
    carrier = strength >= 0.5 * jnp.max(strength)
    won = holds & (end == feature)
    slots = jnp.where(holds, feature, 0)
    offered = jnp.zeros(problem.D).at[slots].max(holds.astype(jnp.float32))
    taken = jnp.zeros(problem.D).at[slots].max((won & carrier).astype(jnp.float32))
    return TicketOutcome(
        feature=feature,
        ticket_rate=jnp.mean(holds.astype(jnp.float32)),
        win_rate=_rate(won, holds),
        control_rate=_rate(end == start, ~holds),
        features_won=jnp.sum(taken) / jnp.maximum(jnp.sum(offered), 1),
    )


def _rate(event: Array, among: Array) -> Scalar:
    return jnp.sum(event & among) / jnp.maximum(jnp.sum(among), 1)
