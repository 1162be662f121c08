"""The exact law of the margin ⟨w*,z⟩ for w* ∈ {±1}^D (docs/theory.md §1, §5.2).

For the two-level law each of the D independent coordinates is ±1 with probability p₁/D, ±1/√k with
probability k/D, else 0. The signs w* drop out by symmetry, so ⟨w*,z⟩ = a + b/√k with integers a and
b, the signed counts of the two sizes. Everything follows from the joint law of (a, b). This module
never touches simulation code, so that agreement between the two is evidence.
"""

import math
from fractions import Fraction
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

# NumPy arrays of any shape. Not in `featpur_sim._ground.types`, which would load JAX with them.
Floats = NDArray[np.floating]


def tie_probability(D: int, k: float, p_one: float = 1.0) -> float:
    """Fraction of samples without a label, Pr[⟨w*,z⟩ = 0] for w* ∈ {±1}^D [D] §1.

    Exact for the two-level law: D independent coordinates, each ±1 with probability p₁/D,
    ±1/√k with probability k/D, else 0.

    Args:
        D: number of features, an integer ≥ 1.
        k: sparsity, k ≥ 1 and k + p_one ≤ D; a non-integer is read as the decimal it prints as.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The probability, to about D·1e-16.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> round(tie_probability(D=2, k=1, p_one=0), 12)  # both zero, or +1 and -1
        0.375
    """
    ones, smalls, probability = margin_law(D, k, p_one)
    return float(probability[is_tie(ones, smalls, k)].sum())


def margin_probability(D: int, k: float, p_one: float, threshold: float) -> float:
    """Pr[|⟨w*,z⟩| > threshold | ⟨w*,z⟩ ≠ 0] for w* ∈ {±1}^D and the two-level law [D] §5.2.

    Args:
        D: number of features, an integer ≥ 1.
        k: sparsity, k ≥ 1 and k + p_one ≤ D; a non-integer is read as the decimal it prints as.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        threshold: margin ≥ 0; a margin within 1e-9 of it counts as equal, so not above.

    Returns:
        The probability, to about D·1e-16.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> round(margin_probability(D=2, k=1, p_one=0, threshold=1), 12)  # |sum| = 2 against 1
        0.2
    """
    if not threshold >= 0:
        raise ValueError(
            f"threshold = {threshold!r}: must be a number ≥ 0, it bounds |⟨w*,z⟩|. Pass its size."
        )
    ones, smalls, probability = margin_law(D, k, p_one)
    labelled = ~is_tie(ones, smalls, k)
    # A threshold such as τ√k often equals a margin up to rounding: that is not "above".
    above = labelled & (np.abs(ones + smalls / math.sqrt(k)) > threshold + 1e-9 * (threshold > 0))
    return float(probability[above].sum() / probability[labelled].sum())


def is_tie(ones: ArrayLike, smalls: ArrayLike, k: float) -> NDArray[np.bool_]:
    """Whether a + b/√k is exactly zero, decided in integers.

    Args:
        ones: integers a, the signed count of coordinates of size 1; any shape.
        smalls: integers b, the signed count of coordinates of size 1/√k; broadcasts with `ones`.
        k: sparsity; a non-integer is read as the decimal it prints as, so 2.56 has root 8/5.

    Returns:
        Booleans of the broadcast shape.

    Example:
        >>> is_tie([0, 1, 1], [0, -3, -2], k=9).tolist()
        [True, True, False]
    """
    a, b = np.asarray(ones), np.asarray(smalls)
    square = Fraction(str(float(k)))
    top, bottom = math.isqrt(square.numerator), math.isqrt(square.denominator)
    if top**2 != square.numerator or bottom**2 != square.denominator:
        return (a == 0) & (b == 0)  # √k is irrational
    return a * top + b * bottom == 0


def check_law(D: int, k: float, p_one: float) -> None:
    """Check the parameters of the two-level law of §1.

    Args:
        D: number of features, an integer ≥ 1.
        k: sparsity, k ≥ 1.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Raises:
        ValueError: if one is out of range, or k + p_one > D.
    """
    check_size("D", D)
    check_sparsity_floor(k)
    if not p_one >= 0:
        raise ValueError(
            f"p_one = {p_one!r}: must be a number ≥ 0, it sets the probability p_one/D. "
            "The default is 1."
        )
    if not k + p_one <= D:
        raise ValueError(
            f"k + p_one = {k + p_one!r}: must be at most D = {D!r}, or the probabilities k/D and "
            "p_one/D exceed 1 together. Lower k or p_one, or raise D."
        )


def margin_law(
    D: int, k: float, p_one: float, terms: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Joint law of the signed counts (a, b): shapes [A, 1], [1, B] and probabilities [A, B].

    One coordinate has characteristic function 1 − (p₁+k)/D + (p₁/D)cos θ + (k/D)cos φ; its power is
    inverted by FFT on a lattice that leaves out less than 1e-16 of the mass.

    Args:
        D: number of features, an integer ≥ 1.
        k: sparsity, k ≥ 1 and k + p_one ≤ D.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        terms: how many of the D coordinates are counted; all by default.

    Raises:
        ValueError: if an argument is out of range.
    """
    check_law(D, k, p_one)
    half_a, half_b = _half_width(D, p_one), _half_width(D, k)
    a, b = _signed_range(half_a)[:, None], _signed_range(half_b)[None, :]
    cos_a, cos_b = np.cos(2 * np.pi * a / a.size), np.cos(2 * np.pi * b / b.size)
    single = 1 - (p_one * (1 - cos_a) + k * (1 - cos_b)) / D
    return a, b, np.fft.ifft2(single ** (D if terms is None else terms)).real


def _half_width(D: int, mean_count: float) -> int:
    """Least t with Bernstein's bound 2·exp(−t²/(2(m + t/3))) ≤ 2e⁻⁴⁰ < 1e-17, at most D."""
    exponent = 40.0
    return min(D, math.ceil(exponent / 3 + math.sqrt(exponent**2 / 9 + 2 * exponent * mean_count)))


def _signed_range(half: int) -> NDArray[np.int64]:
    """0, 1, …, half, −half, …, −1: the order of the discrete Fourier transform."""
    return np.concatenate([np.arange(half + 1), np.arange(-half, 0)])


def check_size(name: str, value: int) -> None:
    """Raise a ValueError that calls the value by `name` unless it is an integer ≥ 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} = {value!r}: must be an integer ≥ 1, a dimension. Pass an int.")


def check_sparsity_floor(k: float) -> None:
    """Raise a ValueError unless k is finite and ≥ 1, whatever the dimension."""
    if not (k >= 1 and math.isfinite(k)):
        raise ValueError(
            f"k = {k!r}: must be a finite number ≥ 1, so that 1/√k ≤ 1. Typical: d^0.33 to d^0.5."
        )
