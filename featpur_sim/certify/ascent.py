"""Adam for the dual searches of docs/theory.md, section 8.

The direction only, so that each search owns its rate and its constraints. Kingma and Ba, 2015, with
β₁ = 0.9 and β₂ = 0.99: the supergradients of φ jump, and a shorter memory follows them.

By hand: inside the compiled searches optax's Adam rounds otherwise, so that bounds change, and its
cosine schedule takes no traced number of steps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

FIRST_DECAY, SECOND_DECAY = 0.9, 0.99


class Pace(NamedTuple):
    """How a search goes on.

    Attributes:
        steps: Adam steps, one decomposition each.
        rate: first learning rate in θ and in q over its unit; cosine-annealed.
        barrier: first ε in units of the search's own; falls geometrically to its last.
    """

    steps: int = 300
    rate: float = 0.1
    barrier: float = 0.3


class Moments(NamedTuple):
    """Running means of the gradient and of its square; shapes of the variable."""

    first: Array
    second: Array

    @classmethod
    def zero(cls, like: Array) -> "Moments":
        """No history yet."""
        return cls(jnp.zeros_like(like), jnp.zeros_like(like))


def adam_direction(gradient: Array, moments: Moments, count: Array) -> tuple[Array, Moments]:
    """The ascent direction, about ±1 an entry.

    Args:
        gradient: of what is maximised.
        moments: so far.
        count: steps done before this one, as a float.

    Returns:
        (direction, new moments).
    """
    first = FIRST_DECAY * moments.first + (1 - FIRST_DECAY) * gradient
    second = SECOND_DECAY * moments.second + (1 - SECOND_DECAY) * gradient**2
    mean = first / (1 - FIRST_DECAY ** (count + 1))
    spread = jnp.sqrt(second / (1 - SECOND_DECAY ** (count + 1)))
    return mean / (spread + 1e-8), Moments(first, second)


def fade(count: Array, steps: Array) -> Array:
    """Cosine annealing from 1 to 0."""
    return (1 + jnp.cos(jnp.pi * count / steps)) / 2
