"""Threefry-2x32 with 20 rounds, the generator behind ``jax.random``'s default keys (J. Salmon et
al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011), at counters that we choose.

Its rounds are unrolled, so that XLA fuses them with the arithmetic that consumes the words; JAX's
own, the same function, writes words to memory after every fourth round on a CPU.
"""

import jax
import jax.numpy as jnp

from featpur_sim._ground.types import UInt32

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_KEY_PARITY = 0x1BD11BDA
_ROUNDS = 20


def threefry_2x32(
    key: UInt32[jax.Array, "2"], x0: UInt32[jax.Array, "*s"], x1: UInt32[jax.Array, "*s"]
) -> tuple[UInt32[jax.Array, "*s"], UInt32[jax.Array, "*s"]]:
    """Encrypt the counters ``(x0, x1)`` under ``key``: two independent 32-bit words per counter."""
    k0, k1 = key[0], key[1]
    keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(_KEY_PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(_ROUNDS):
        rotation = _ROTATIONS[i % 8]
        x0 = x0 + x1
        x1 = ((x1 << jnp.uint32(rotation)) | (x1 >> jnp.uint32(32 - rotation))) ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0 = x0 + keys[j % 3]
            x1 = x1 + keys[(j + 1) % 3] + jnp.uint32(j)
    return x0, x1
