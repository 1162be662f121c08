"""Dictionaries M ∈ R^{d×D}: the columns are the features (docs/theory.md §1).

For unitary M everything in ℓ2 commutes with x → Mᵀx (the gauge [D]), so M = I is exact there.
Incoherent dictionaries matter in ℓ∞ and when D > d.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.linalg

from featpur_sim._ground.checks import count
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey

MAX_COHERENCE = 0.9


@steady
def haar(d: int, key: PRNGKey) -> Float[Array, "d d"]:
    """A Haar-random orthogonal matrix (QR of a Gaussian matrix, signs fixed)."""
    d = count("d", d)
    q, r = jnp.linalg.qr(jax.random.normal(key, (d, d)))
    return q * jnp.sign(r.diagonal())


def hadamard(d: int) -> Float[Array, "d d"]:
    """Sylvester's Hadamard matrix over √d: every entry is ±1/√d, the most incoherent basis.

    Raises:
        ValueError: d is not a power of two.
    """
    d = count("d", d)
    if d & (d - 1):
        raise ValueError(f"dictionary 'hadamard' needs d to be a power of two, got d={d}.")
    return jnp.asarray(scipy.linalg.hadamard(d) / np.sqrt(d), jnp.float32)


def dct(d: int) -> Float[Array, "d d"]:
    """The orthonormal type-II discrete cosine basis."""
    d = count("d", d)
    return jnp.asarray(np.asarray(scipy.fft.dct(np.eye(d), norm="ortho", axis=0)).T, jnp.float32)


@steady
def incoherent(d: int, D: int, key: PRNGKey) -> Float[Array, "d D"]:
    """D unit columns drawn uniformly from the sphere: coherence Õ(1/√d) for D = poly(d)."""
    d, D = count("d", d), count("D", D)
    columns = jax.random.normal(key, (d, D))
    return columns / cast(Array, jnp.linalg.norm(columns, axis=0))


def coherence(M: Float[Array | np.ndarray, "d D"]) -> float:
    """Largest |⟨M_i, M_j⟩| over i ≠ j."""
    gram = np.abs(np.asarray(M, np.float64).T @ np.asarray(M, np.float64))
    np.fill_diagonal(gram, 0.0)
    return float(gram.max(initial=0.0))


def is_unitary(M: Float[Array | np.ndarray, "d D"], tolerance: float = 1e-4) -> bool:
    """Whether M is square with MᵀM = I to within ``tolerance`` in every entry."""
    matrix = np.asarray(M, np.float64)
    square = matrix.shape[0] == matrix.shape[1]
    return square and float(np.abs(matrix.T @ matrix - np.eye(len(matrix))).max()) < tolerance


def check(M: Array | np.ndarray) -> Float[Array, "d D"]:
    """A user's dictionary, or a ValueError that names what is wrong with it.

    Raises:
        ValueError: M is not a finite matrix with D ≥ d unit columns of coherence below 0.9.
    """
    matrix = np.asarray(M, np.float64)
    if matrix.ndim != 2 or not np.all(np.isfinite(matrix)):
        raise ValueError(f"dictionary must be a finite d×D matrix, got shape {matrix.shape}.")
    if matrix.shape[1] < matrix.shape[0]:
        raise ValueError(f"dictionary must have D ≥ d columns, got shape {matrix.shape}.")
    norms = np.linalg.norm(matrix, axis=0)
    worst = int(np.argmax(np.abs(norms - 1)))
    if abs(norms[worst] - 1) > 1e-4:
        raise ValueError(
            f"dictionary columns must have unit norm; column {worst} has norm {norms[worst]:.6g}. "
            "Divide each column by its norm."
        )
    found = coherence(matrix)
    if found > MAX_COHERENCE:
        raise ValueError(
            f"dictionary coherence is {found:.3f}, above {MAX_COHERENCE}: two features are almost "
            "parallel. Remove or re-draw one of them."
        )
    return jnp.asarray(matrix, jnp.float32)
