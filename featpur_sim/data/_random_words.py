"""Random words addressed by the row and the column of a sample matrix.

Row ``r`` of a batch is the same however the batch is cut into chunks, which
``jax.random.bits`` does not promise.
"""

import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.threefry import threefry_2x32
from featpur_sim._ground.types import Float, PRNGKey, UInt32


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
