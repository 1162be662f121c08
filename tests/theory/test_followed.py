"""Products with the followed coordinates, written out and in blocks of neurons, against NumPy's."""

import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim.theory.dynamics import followed

M, D, K, N = 7, 40, 3, 5


@pytest.mark.parametrize("written_out", [0, 100])
def test_products_are_those_of_the_matrix(written_out, monkeypatch):
    monkeypatch.setattr(followed, "_WRITTEN_OUT", written_out)
    monkeypatch.setattr(followed, "_BLOCK", 4)  # seven neurons: one whole block, and a rest
    rng = np.random.default_rng(0)
    # Two rows may share a column: what they add has to add up.
    columns = np.argsort(rng.random((M, D)), axis=1)[:, :K].T
    columns[0, :2] = columns[0, 2]
    columns[1:, :3] = columns[1:, :1]
    values, x, gate = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((K, M), (N, D), (M, N))
    )
    matrix = np.zeros((M, D))
    np.put_along_axis(matrix, columns.T, values.T, axis=1)
    a, rows = jnp.asarray(values), jnp.asarray(columns)
    inputs, gates = jnp.asarray(x), jnp.asarray(gate)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(followed.times(a, rows, inputs), matrix @ x.T, **close)
    back = followed.transposed_times(a, rows, gates, D)
    np.testing.assert_allclose(back, gate.T @ matrix, **close)
    taken = np.take_along_axis(gate @ x, columns.T, axis=1).T
    np.testing.assert_allclose(followed.entries(gates, rows, inputs), taken, **close)
