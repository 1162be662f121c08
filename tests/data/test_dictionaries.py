"""Dictionaries: unit columns, orthogonality, coherence, and what a user's matrix must satisfy."""

import jax
import numpy as np
import pytest
import scipy.fft

from featpur_sim.data import dictionaries as dictionary


def gram(M):
    return np.asarray(M, float).T @ np.asarray(M, float)


UNITARY = {
    "haar": lambda d: dictionary.haar(d, jax.random.key(4)),
    "hadamard": dictionary.hadamard,
    "dct": dictionary.dct,
}


@pytest.mark.parametrize("name", UNITARY)
@pytest.mark.parametrize("d", [2, 64])
def test_unitary(name, d):
    M = UNITARY[name](d)
    np.testing.assert_allclose(gram(M), np.eye(d), atol=2e-6)
    assert dictionary.is_unitary(M)


def test_hadamard_is_flat_and_its_rows_differ():
    M = np.asarray(dictionary.hadamard(16))
    np.testing.assert_allclose(np.abs(M), 0.25)


def test_dct_columns_are_the_cosine_basis():
    d, x = 24, np.random.default_rng(0).normal(size=24)
    M = np.asarray(dictionary.dct(d), float)
    np.testing.assert_allclose(M.T @ x, scipy.fft.dct(x, norm="ortho"), atol=1e-5)
    j, t = 5, np.arange(d)
    np.testing.assert_allclose(
        M[:, j], np.sqrt(2 / d) * np.cos(np.pi * (t + 0.5) * j / d), atol=1e-6
    )


def test_haar_moments():
    # Haar: E Q₁₁ = 0, E Q₁₁² = 1/d, E (tr Q)² = 1. Without the sign fix E Q₁₁ is far from 0.
    keys = jax.random.split(jax.random.key(5), 4000)
    Q = np.asarray(jax.vmap(lambda key: dictionary.haar(3, key))(keys), float)
    corner, trace = Q[:, 0, 0], np.trace(Q, axis1=1, axis2=2)
    assert abs(corner.mean()) < 4 * corner.std() / np.sqrt(4000)
    assert abs((corner**2).mean() - 1 / 3) < 4 * (corner**2).std() / np.sqrt(4000)
    assert abs((trace**2).mean() - 1) < 4 * (trace**2).std() / np.sqrt(4000)


@pytest.mark.parametrize("d", [3, 12])
def test_hadamard_needs_a_power_of_two(d):
    with pytest.raises(ValueError, match=f"power of two, got d={d}"):
        dictionary.hadamard(d)


def test_incoherent_columns_are_uniform_on_the_sphere():
    M = dictionary.incoherent(40, 2000, jax.random.key(6))
    np.testing.assert_allclose(np.diag(gram(M)), 1, atol=1e-6)
    off = gram(M)[np.triu_indices(2000, 1)]
    # ⟨u, v⟩ of independent uniform unit vectors: mean 0, variance 1/d, almost independent pairs.
    assert abs(off.mean()) < 4 / np.sqrt(40 * off.size)
    assert np.mean(off**2) * 40 == pytest.approx(1, abs=4 * np.sqrt(2 / off.size))
    assert dictionary.coherence(M) == pytest.approx(np.abs(off).max(), rel=1e-6)


def test_coherence_of_a_planted_pair():
    M = np.eye(4, 5, dtype=np.float32)
    M[:, 4] = [0.6, 0, -0.8, 0]
    assert dictionary.coherence(jax.numpy.asarray(M)) == pytest.approx(0.8)
    assert not dictionary.is_unitary(jax.numpy.asarray(M))


def test_a_small_tilt_is_not_unitary():
    M = np.eye(4, dtype=np.float32)
    M[:, 1] = [np.sin(1e-3), np.cos(1e-3), 0, 0]
    assert not dictionary.is_unitary(jax.numpy.asarray(M))


def stretched():
    M = np.eye(3)
    M[:, 1] *= 1.01
    return M


def nearly_parallel():
    M = np.eye(3, 4)
    M[:, 3] = np.array([1, 0.1, 0]) / np.hypot(1, 0.1)
    return M


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(3), r"finite d×D matrix, got shape \(3,\)"),
        (np.diag([1.0, np.nan]), r"finite d×D matrix"),
        (np.eye(3)[:, :2], r"D ≥ d columns, got shape \(3, 2\)"),
        (stretched(), "column 1 has norm 1.01"),
        (nearly_parallel(), "coherence is 0.995, above 0.9"),
    ],
)
def test_check_refuses(matrix, message, unchecked):
    with pytest.raises(ValueError, match=message):
        dictionary.check(matrix)


def test_check_accepts_and_keeps():
    M = dictionary.incoherent(30, 40, jax.random.key(7))
    assert np.array_equal(dictionary.check(M), M)
