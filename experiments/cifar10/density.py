"""How dense is a first-layer filter in a learned sparse code of image patches? (docs/cifar10.md)

The model has x = Mz with M unitary and z sparse, and asks how many columns of M a weight mixes
(docs/theory.md §4). Image patches come without M: it is learned (J. Mairal et al. 2009, online
dictionary learning) on patches x̃ = Σ^(−1/2)(x − x̄), whitened so that, as in the model, all
directions have equal variance. There ⟨w, x⟩ = ⟨Σ^(1/2)w, x̃⟩ + const: the filter's coordinates are
Σ^(1/2)w. [D]
"""

import importlib.util
from typing import NamedTuple

import numpy as np

# Directions of less variance than this share of the largest are left out: they are noise.
FLOOR = 1e-4
# Share of ‖w‖² that a code must explain.
EXPLAINED = 0.9
# Draws of random signs that a control is averaged over.
DRAWS = 10


class SparseCode(NamedTuple):
    """A dictionary of whitened patches.

    Attributes:
        atoms: unit rows [K, r], in the r kept principal directions.
        root: Σ^(1/2) from pixels to those directions, [size·size·3, r].
        inverse: Σ^(−1/2), its pseudo-inverse transposed, [size·size·3, r].
        mean: of the patches, [size·size·3].
    """

    atoms: np.ndarray
    root: np.ndarray
    inverse: np.ndarray
    mean: np.ndarray


def can_learn() -> bool:
    """Whether scikit-learn, which nothing else here needs, is installed."""
    return importlib.util.find_spec("sklearn") is not None


def patches(pixels: np.ndarray, size: int, n: int, seed: int) -> np.ndarray:
    """``n`` random flat patches [n, size·size·3] of images [m, 32, 32, 3], in units of [0, 1]."""
    generator = np.random.default_rng(seed)
    which = generator.integers(len(pixels), size=n)
    corner = generator.integers(33 - size, size=(n, 2))
    rows = corner[:, :1, None] + np.arange(size)[None, :, None]
    columns = corner[:, 1:, None] + np.arange(size)[None, None, :]
    return (pixels[which[:, None, None], rows, columns] / 255.0).reshape(n, -1)


def learn(samples: np.ndarray, atoms: int, seed: int) -> SparseCode:
    """Whiten patches [n, p] and learn ``atoms`` atoms of them by scikit-learn.

    The penalty is 1/√r times the ℓ1 norm for patches of variance 1 in each of r directions.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning

    mean = samples.mean(0)
    variance, directions = np.linalg.eigh(np.cov(samples.T))
    kept = variance > FLOOR * variance[-1]
    root = directions[:, kept] * np.sqrt(variance[kept])
    inverse = directions[:, kept] / np.sqrt(variance[kept])
    learner = MiniBatchDictionaryLearning(
        atoms,
        alpha=1.0,
        batch_size=256,
        max_iter=4,
        fit_algorithm="lars",
        random_state=seed,
    )
    learner.fit((samples - mean) @ inverse)
    return SparseCode(learner.components_, root, inverse, mean)


def atoms_needed(rows: np.ndarray, code: SparseCode) -> np.ndarray:
    """Atoms by orthogonal matching pursuit for nine tenths of ‖w‖², for each row w of [..., r]."""
    from sklearn.linear_model import orthogonal_mp

    flat = rows.reshape(-1, rows.shape[-1])
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
    codes = orthogonal_mp(code.atoms.T, unit.T, tol=1 - EXPLAINED)
    counts = np.count_nonzero(codes.reshape(len(code.atoms), -1), axis=0)
    return counts.reshape(rows.shape[:-1])


def scrambled(rows: np.ndarray, seed: int) -> np.ndarray:
    """The control: rows [..., n, r] with a random sign on each principal direction.

    It has the spectrum of the original, so what is left to differ is how it lies to the atoms. All
    leading axes get the same signs, so that networks are compared under one draw.
    """
    return rows * np.random.default_rng(seed).choice([-1.0, 1.0], rows.shape[-2:])


def atoms_of_control(rows: np.ndarray, code: SparseCode) -> np.ndarray:
    """Atoms of the control of each of rows [..., n, r]: means over `DRAWS` draws of signs."""
    draws = [atoms_needed(scrambled(rows, seed), code) for seed in range(DRAWS)]
    return np.mean(draws, axis=0)
