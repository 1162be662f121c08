"""Counter-based random words: Threefry-2x32 with 20 rounds.

The generator is the one behind ``jax.random``'s default keys (J. Salmon et al., *Parallel random
numbers: as easy as 1, 2, 3*, SC 2011), evaluated at counters that we choose: the row and the
column of a sample matrix. Two gains over ``jax.random.bits``: row ``r`` of a batch is the same
however the batch is cut into chunks, and the rounds are unrolled, so that XLA fuses them with the
arithmetic that consumes them instead of writing every round to memory.
"""

import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.types import Float, PRNGKey, UInt32

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


def random_words(
    key: PRNGKey, start: jax.Array | int, rows: int, columns: int
) -> tuple[UInt32[jax.Array, "rows columns"], UInt32[jax.Array, "rows columns"]]:
    """Two words for every entry of rows ``start .. start + rows`` of an endless matrix."""
    row = lax.broadcasted_iota(jnp.uint32, (rows, columns), 0) + jnp.asarray(start, jnp.uint32)
    column = lax.broadcasted_iota(jnp.uint32, (rows, columns), 1)
    return threefry_2x32(jax.random.bits(key, (2,), jnp.uint32), row, column)


def normal_from_words(words: UInt32[jax.Array, "*s"]) -> Float[jax.Array, "*s"]:
    """Standard normals by inversion, from the 24 high bits (so |value| < 5.42)."""
    uniform = (words >> 8).astype(jnp.float32) * 2.0**-23 + (2.0**-24 - 1.0)
    return jnp.sqrt(jnp.float32(2.0)) * lax.erf_inv(uniform)


def sign_and_uniform_from_words(
    words: UInt32[jax.Array, "*s"],
) -> tuple[Float[jax.Array, "*s"], Float[jax.Array, "*s"]]:
    """A fair sign (low bit) and a uniform on [0, 1) (high 31 bits), independent."""
    sign = jnp.where((words & 1) == 1, 1.0, -1.0).astype(jnp.float32)
    # The largest words would round to 1.
    return sign, jnp.minimum((words >> 1).astype(jnp.float32) * 2.0**-31, 1 - 2.0**-24)
