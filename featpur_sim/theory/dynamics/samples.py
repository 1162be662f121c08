"""What the heterogeneous closure draws: inputs, labels and the neurons' views of their residual
(docs/dynamics.md, step 8).

The gauge is w* = 1, M = I. Normals cost about half of a step when they are drawn afresh, so a phase
takes them from one long vector.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from featpur_sim._ground.types import Array, Bool, Float, PRNGKey, Scalar

Inputs = Float[Array, "n d"]
Labels = Float[Array, " n"]
# A neuron's numbers lie side by side: to take a feature's inputs is then to copy a row.
PerNeuron = Float[Array, "m n"]
# How many batches of normals are drawn for a stretch of steps, and what their key is folded with:
# no step has that number.
_STRETCHES, RESERVOIR = 4, 2**31 - 1


class Law(NamedTuple):
    """What the samples and the steps depend on; all of it is data."""

    k: Scalar
    p_one: Scalar
    sigma_x: Scalar
    rate: Scalar
    """η"""
    decay: Scalar
    """λ"""


Normals = Callable[[PRNGKey, int, int], Float[Array, "rows columns"]]


def fresh(key: PRNGKey, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """Standard normals that no other draw has."""
    return jax.random.normal(key, (rows, columns), jnp.float32)


def reservoir(key: PRNGKey, least: int) -> Normals:
    """Standard normals for many steps: a stretch of one long vector, from a place and with a sign
    that are drawn each time.

    Fresh ones would double what a step costs. No step sees a number at the same neuron and sample
    again but by chance, and the vector's mean and variance are made 0 and 1, so that what repeats
    does not add up.

    Args:
        key: of the vector.
        least: the most numbers that a draw asks for; the vector has `_STRETCHES` times as many.

    Returns:
        (key, rows, columns) ↦ [rows, columns] float32.
    """
    values = jax.random.normal(key, (_STRETCHES * least,), jnp.float32)
    values = values - jnp.mean(values)
    values = values / jnp.sqrt(jnp.mean(values**2))

    def draw(key: PRNGKey, rows: int, columns: int) -> Float[Array, "rows columns"]:
        place_key, sign_key = jax.random.split(key)
        place = jax.random.randint(place_key, (), 0, values.size - rows * columns + 1)
        stretch = jax.lax.dynamic_slice(values, (place,), (rows * columns,))
        return jax.random.rademacher(sign_key, (), jnp.float32) * stretch.reshape(rows, columns)

    return draw


def sample(
    key: PRNGKey, law: Law, n: int, d: int, m: int, normals: Normals
) -> tuple[Inputs, Labels, PerNeuron]:
    """x [n, d], y [n] and the neurons' views of their residual, standard normal [m, n]."""
    entry_key, noise_key, residual_key = jax.random.split(key, 3)
    bits = jax.random.bits(entry_key, (n, d), jnp.uint32)
    # 31 bits say whether and how large an entry is, the last one its sign.
    level = bits >> 1

    def below(probability: Scalar) -> Bool[Array, "n d"]:
        return level < (probability * jnp.float32(2**31)).astype(jnp.uint32)

    size = jnp.where(below((law.p_one + law.k) / d), 1 / jnp.sqrt(law.k), 0.0)
    size = jnp.where(below(law.p_one / d), 1.0, size)
    z = jnp.where(bits & 1, size, -size)
    margin = jnp.sum(z, axis=1)
    # A tie is a sum of a few numbers of size 1 and 1/√k: rounding leaves less than 1e-5.
    y = jnp.where(jnp.abs(margin) > 1e-5, jnp.sign(margin), 0.0)
    x = z + law.sigma_x / d**0.5 * normals(noise_key, n, d)
    return x, y, normals(residual_key, m, n)
