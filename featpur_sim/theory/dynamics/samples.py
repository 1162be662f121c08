"""What the heterogeneous closure draws: inputs, labels and the neurons' views of their residual
(docs/dynamics.md, step 8).

The gauge is w* = 1, M = I.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from featpur_sim._ground.threefry import threefry_2x32
from featpur_sim._ground.types import Array, Bool, Float, PRNGKey, Scalar, UInt32

Inputs = Float[Array, "n d"]
Labels = Float[Array, " n"]
# A neuron's numbers lie side by side: to take a feature's inputs is then to copy a row.
PerNeuron = Float[Array, "m n"]

# The normal law's quantiles in the middle of 2¹⁶ equal parts, the largest 4.3, of variance 1.
_QUANTILES = ndtri((np.arange(2**16) + 0.5) / 2**16)
_QUANTILES = (_QUANTILES / np.sqrt((_QUANTILES**2).mean())).astype(np.float32)


class Law(NamedTuple):
    """What the samples and the steps depend on; all of it is data."""

    k: Scalar
    p_one: Scalar
    sigma_x: Scalar
    rate: Scalar
    """η"""
    decay: Scalar
    """λ"""
    sigma_rho: Scalar | None = None
    """σ_ρ of the gates, smoothed in closed form; None for ρ = 0"""


def words(key: PRNGKey, count: int) -> UInt32[Array, " count"]:
    """Uniform on 32 bits: both words of each block of Threefry, where `jax.random.bits` keeps
    their exclusive or; so half the time. The key is of JAX's default kind, ``threefry2x32``.
    """
    half = -(-count // 2)
    first = jnp.arange(half, dtype=jnp.uint32)
    both = threefry_2x32(jax.random.key_data(key), first, first + jnp.uint32(half))
    return jnp.concatenate(both)[:count]


def normals(key: PRNGKey, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """Standard normals to sixteen bits, two from a word: a third of what exact ones take.

    Numbers drawn once and used again for many steps cost as little and are wrong: the κ/α of
    purified networks came out a quarter too low, with twice the spread over seeds (preset
    sparse-regime, ten seeds).
    """
    pairs = words(key, -(-rows * columns // 2))
    index = jnp.concatenate([pairs & 0xFFFF, pairs >> 16])[: rows * columns]
    return jnp.take(_QUANTILES, index.astype(jnp.int32), mode="clip").reshape(rows, columns)


def sample(key: PRNGKey, law: Law, n: int, d: int, m: int) -> tuple[Inputs, Labels, PerNeuron]:
    """x [n, d], y [n] and the neurons' views of their residual, standard normal [m, n]."""
    entry_key, noise_key, residual_key = jax.random.split(key, 3)
    bits = words(entry_key, n * d).reshape(n, d)
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
