"""Products with an m×d matrix of which K entries a row are not zero: the coordinates that the
heterogeneous closure follows (docs/dynamics.md, step 8).

The entries are values [K, m] at columns [K, m]. Where d is at most 8 K the matrix is written out:
a product of matrices is as fast there. Above, time goes with K alone, and neurons are taken in
blocks whose K·n inputs stay in a processor's cache: at d = 1024, K = 16 and n = 512 a step of the
closure is 3.6 to 3.9 times as fast as with products of matrices (benchmarks/closure.py).
"""

from typing import cast

import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.types import Array, Float, Int

Values = Float[Array, "K m"]
Columns = Int[Array, "K m"]

_WRITTEN_OUT = 8
_BLOCK = 64


def times(values: Values, columns: Columns, x: Float[Array, "n d"]) -> Float[Array, "m n"]:
    """A xᵀ, A the m×d matrix of the values; two in one row must not share a column."""
    if _small(columns, x.shape[1]):
        return _matrix(values, columns, x.shape[1]) @ x.T
    inputs = x.T

    def of_neuron(own: tuple[Float[Array, " K"], Int[Array, " K"]]) -> Float[Array, " n"]:
        # Not a product: written as a sum, the rows are never copied.
        return sum(
            (value * inputs[column] for value, column in zip(*own, strict=True)), jnp.zeros(())
        )

    return cast(Array, lax.map(of_neuron, (values.T, columns.T), batch_size=_BLOCK))


def transposed_times(
    values: Values, columns: Columns, gate: Float[Array, "m n"], d: int
) -> Float[Array, "n d"]:
    """gateᵀ A, A as in `times`."""
    if _small(columns, d):
        return gate.T @ _matrix(values, columns, d)
    zeros = jnp.zeros((d, gate.shape[1]), gate.dtype)

    def by_neuron(values: Values, columns: Columns, gate: Float[Array, "m n"]) -> Array:
        def add(i: Int[Array, ""], found: Array) -> Array:
            return found.at[columns[:, i]].add(values[:, i, None] * gate[i])

        return cast(Array, lax.fori_loop(0, len(gate), add, zeros))

    def by_coordinate(values: Values, columns: Columns, gate: Float[Array, "m n"]) -> Array:
        found = zeros
        for value, column in zip(values, columns, strict=True):
            found = found.at[column].add(gate * value[:, None])
        return found

    # A loop over all neurons is for processors; elsewhere each turn would cost a launch.
    ways = {"cpu": by_neuron, "default": by_coordinate}
    return cast(Array, lax.platform_dependent(values, columns, gate, **ways)).T


def entries(push: Float[Array, "m n"], columns: Columns, x: Float[Array, "n d"]) -> Values:
    """Of the m×d product push x, the K of each row that stand at the columns."""
    if _small(columns, x.shape[1]):
        return jnp.take_along_axis(push @ x, columns.T, axis=1).T
    inputs = x.T

    def of_neuron(own: tuple[Float[Array, " n"], Int[Array, " K"]]) -> Float[Array, " K"]:
        one_push, column = own
        return inputs[column] @ one_push

    return cast(Array, lax.map(of_neuron, (push, columns.T), batch_size=_BLOCK)).T


def _small(columns: Columns, d: int) -> bool:
    return d <= _WRITTEN_OUT * len(columns)


def _matrix(values: Values, columns: Columns, d: int) -> Float[Array, "m d"]:
    rows = jnp.arange(columns.shape[1])
    return jnp.zeros((len(rows), d), values.dtype).at[rows, columns].set(values)
