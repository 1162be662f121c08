"""Products with an m×d matrix of which K entries a row are not zero: the coordinates that the
heterogeneous closure follows (docs/dynamics.md, step 8).

The entries are values [K, m] at columns [K, m]. Where d is at most 100 K the matrix is written out,
since a product of matrices is faster than taking rows one by one (a step of the closure about twice
at d = 1024 and K = 16, three times at 512, with AVX-512). Above, memory and time go with K alone.
"""

import jax.numpy as jnp

from featpur_sim._ground.types import Array, Float, Int

Values = Float[Array, "K m"]
Columns = Int[Array, "K m"]

_WRITTEN_OUT = 100


def times(values: Values, columns: Columns, x: Float[Array, "n d"]) -> Float[Array, "m n"]:
    """A xᵀ, A the m×d matrix of the values; two in one row must not share a column."""
    if _small(columns, x.shape[1]):
        return _matrix(values, columns, x.shape[1]) @ x.T
    pairs = zip(values, columns, strict=True)
    return sum((value[:, None] * x.T[column] for value, column in pairs), jnp.zeros(()))


def transposed_times(
    values: Values, columns: Columns, gate: Float[Array, "m n"], d: int
) -> Float[Array, "n d"]:
    """gateᵀ A, A as in `times`."""
    if _small(columns, d):
        return gate.T @ _matrix(values, columns, d)
    found = jnp.zeros((d, gate.shape[1]), gate.dtype)
    for value, column in zip(values, columns, strict=True):
        found = found.at[column].add(gate * value[:, None])
    return found.T


def entries(push: Float[Array, "m n"], columns: Columns, x: Float[Array, "n d"]) -> Values:
    """Of the m×d product push x, the K of each row that stand at the columns."""
    if _small(columns, x.shape[1]):
        return jnp.take_along_axis(push @ x, columns.T, axis=1).T
    return jnp.stack([jnp.sum(push * x.T[column], axis=1) for column in columns])


def _small(columns: Columns, d: int) -> bool:
    return d <= _WRITTEN_OUT * len(columns)


def _matrix(values: Values, columns: Columns, d: int) -> Float[Array, "m d"]:
    rows = jnp.arange(columns.shape[1])
    return jnp.zeros((len(rows), d), values.dtype).at[rows, columns].set(values)
