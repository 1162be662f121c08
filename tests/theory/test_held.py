"""What the closure's residuals do not have in common, against linear algebra in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim.theory.dynamics.held import free

M, N = 12, 5


@pytest.fixture
def rows():
    """c and g, neither orthogonal nor parallel."""
    rng = np.random.default_rng(0)
    return rng.normal(0.02, 0.02, M), rng.uniform(0.05, 0.5, M)


def freed(values, weight, *rows):
    """`free` in float64's twin of the arguments."""
    return np.asarray(free(*(jnp.asarray(v, jnp.float32) for v in (values, weight, *rows))))


def test_with_equal_weights_it_is_the_nearest_point_where_both_sums_vanish(rows):
    values = np.random.default_rng(1).normal(size=(M, N))
    both = np.stack(rows, axis=1)
    expected = values - both @ np.linalg.lstsq(both, values, rcond=None)[0]
    np.testing.assert_allclose(freed(values, np.ones(M), *rows), expected, atol=1e-6)


def test_of_independent_normals_it_gives_the_law_given_both_sums(rows):
    """It is linear, so its matrix times the deviations squares to the conditional covariance."""
    variance = np.random.default_rng(2).uniform(0.1, 2, M)
    matrix = freed(np.diag(variance**0.5), variance, *rows)
    both, before = np.stack(rows, axis=1), np.diag(variance)
    gain = before @ both @ np.linalg.inv(both.T @ before @ both)
    np.testing.assert_allclose(matrix @ matrix.T, before - gain @ both.T @ before, atol=2e-6)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_there_is_not_taken_out(rows, which):
    """Neurons without a mixture, gates that are never open, residuals that are zero."""
    values = np.random.default_rng(1).normal(size=(M, N))
    arguments = [np.ones(M), *rows]
    arguments[which] = np.zeros(M)
    found = freed(values, *arguments)
    assert np.isfinite(found).all()
    left = [row for i, row in enumerate(arguments) if i != which]
    if which == 0:
        np.testing.assert_array_equal(found, values.astype(np.float32))
    else:
        np.testing.assert_allclose(left[1] @ found, 0, atol=1e-6)


def test_directions_that_coincide_are_taken_out_once(rows):
    values = np.random.default_rng(1).normal(size=(M, N))
    found = freed(values, np.ones(M), rows[0], 3 * rows[0])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(rows[0] @ found, 0, atol=1e-6)
