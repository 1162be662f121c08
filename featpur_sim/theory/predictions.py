"""What the theory predicts: scalings of clean and adversarial training, the ceiling at finite d.

Models the closed-form statements of docs/theory.md §5, §5.1 (heuristic scalings) and §5.2 (the
ceiling). This module never touches simulation code, so that agreement between the two is evidence.
The exact law behind the ceiling is in `featpur_sim.theory.margin`, the pure network of §5.2 in
`featpur_sim.theory.pure_network`.

Letters: d input dimension, D number of features, k sparsity (about k of the D hidden coordinates
are non-zero), τ attack radius in ℓ2, α and κ pure and dense coefficient of a neuron, v its dense
part, z hidden vector, w* label vector. Source tags: [P] paper (Allen-Zhu and Li, arXiv:2005.10190),
[P?] paper, exponent unverified, [D] derived in docs/theory.md, [M] measured.
"""

import math
from dataclasses import dataclass

from featpur_sim.theory.margin import check_size, check_sparsity_floor, margin_probability


@dataclass(frozen=True)
class Prediction:
    """A predicted number with its pedigree.

    Attributes:
        name: what is predicted, in words.
        value: the predicted value; dimensionless, or in units of ‖x‖ for a radius.
        formula: the formula, in the letters of docs/theory.md.
        source: source tag and section, e.g. "[D] §5.1".
        holds: where the prediction is expected to hold.
    """

    name: str
    value: float
    formula: str
    source: str
    holds: str


_SPARSE = "sparse activation, b/α between σ_x/√d and 1/√k, up to a constant factor"
SPARSE_WITHIN = 2.0
"""Activation is sparse where the active fraction is within this factor of k/d: κ/α is predicted to
be the active fraction, so that more would be another prediction."""
SMALL_REACH = 0.1
"""What "τ√k well below 1" is read as."""


# --- scalings, §5.1 --------------------------------------------------------------------------


def clean_dense_ratio(d: int, k: float) -> Prediction:
    """Dense over pure coefficient after clean training: κ/α ≈ k/d [D] §5.1.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.

    Returns:
        The prediction; its value is dimensionless.

    Raises:
        ValueError: if d or k is out of range.

    Example:
        >>> clean_dense_ratio(d=100, k=5).value
        0.05
    """
    check_sparsity(d, k)
    return Prediction("dense ratio after clean training", k / d, "κ/α ≈ k/d", "[D] §5.1", _SPARSE)


def clean_dense_norm_ratio(d: int, k: float) -> Prediction:
    """Norm of the dense part over the pure coefficient after clean training [D] §5.1.

    ‖v‖/|α| ≈ k/√d: κ/α times ‖w*‖ = √d.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.

    Returns:
        The prediction; its value is dimensionless.

    Raises:
        ValueError: if d or k is out of range.
    """
    check_sparsity(d, k)
    value = k / math.sqrt(d)
    return Prediction(
        "dense norm ratio after clean training", value, "‖v‖/|α| ≈ k/√d", "[D] §5.1", _SPARSE
    )


def adversarial_dense_ratio(d: int, k: float, radius: float) -> Prediction:
    """Dense over pure coefficient after adversarial training: κ/α ≈ 1/(τ√k·d) [D] §5.1.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.
        radius: ℓ2 radius τ > 0 of the FGM training attack.

    Returns:
        The prediction; its value is dimensionless.

    Raises:
        ValueError: if an argument is out of range.
    """
    check_sparsity(d, k)
    _check_radius(radius)
    return Prediction(
        "dense ratio after adversarial training",
        1 / (radius * math.sqrt(k) * d),
        "κ/α ≈ 1/(τ√k·d)",
        "[D] §5.1",
        "sparse activation and τ√k well below 1; κ vanishes as τ√k nears the margin",
    )


def purification_factor(k: float, radius: float) -> Prediction:
    """By how much adversarial training lowers κ/α: k·τ√k [D] §5.1.

    The ratio of `clean_dense_ratio` to `adversarial_dense_ratio`; d cancels.

    Args:
        k: sparsity, k ≥ 1.
        radius: ℓ2 radius τ > 0 of the FGM training attack.

    Returns:
        The prediction; its value is dimensionless, above 1 where purification is expected.

    Raises:
        ValueError: if an argument is out of range.
    """
    check_sparsity_floor(k)
    _check_radius(radius)
    return Prediction(
        "purification factor",
        k * radius * math.sqrt(k),
        "(κ/α)_clean / (κ/α)_adversarial ≈ k·τ√k",
        "[D] §5.1",
        "where both dense ratios hold; dense activation after clean training gives more",
    )


def clean_interference(d: int, k: float) -> Prediction:
    """Output error on clean data from the dense parts: k²/d [D] §5.1 (claim C4).

    In units of the output, which is of order 1.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.

    Returns:
        The prediction; harmless where its value is well below 1, that is k ≪ d^{1/2}.

    Raises:
        ValueError: if d or k is out of range.
    """
    check_sparsity(d, k)
    return Prediction(
        "interference of dense parts on clean data",
        k**2 / d,
        "k·(k/d)·⟨w*,z⟩ ~ k²/d",
        "[D] §5.1",
        _SPARSE,
    )


def dense_attack_strength(d: int, k: float, radius: float) -> Prediction:
    """Output shift by δ = −yτ·Mw*/√d on a clean-trained net: τk²/√d [D] §5.1 (claim C2).

    In units of the output, which is of order 1.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.
        radius: ℓ2 radius τ > 0 of the attack.

    Returns:
        The prediction; the attack bites where its value exceeds 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    check_sparsity(d, k)
    _check_radius(radius)
    value = radius * k**2 / math.sqrt(d)
    return Prediction("dense attack strength", value, "τk²/√d", "[D] §5.1", _SPARSE)


def dense_radius(d: int, k: float) -> Prediction:
    """Radius at which the dense attack defeats a clean-trained net: τ ≈ √d/k² [D] §5.1.

    Where `dense_attack_strength` is 1.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.

    Returns:
        The prediction; its value is an ℓ2 radius.

    Raises:
        ValueError: if d or k is out of range.
    """
    check_sparsity(d, k)
    value = math.sqrt(d) / k**2
    return Prediction("dense-attack radius, clean net", value, "τ ≈ √d/k²", "[D] §5.1", _SPARSE)


def critical_radius(k: float) -> Prediction:
    """Radius up to which a purified net can be robust: τ ≈ 1/√k [P] (claims C2, C5).

    Args:
        k: sparsity, k ≥ 1.

    Returns:
        The prediction; its value is an ℓ2 radius.

    Raises:
        ValueError: if k is out of range.
    """
    check_sparsity_floor(k)
    return Prediction(
        "critical radius", 1 / math.sqrt(k), "τ ≈ 1/√k", "[P]", "order of magnitude, large d"
    )


def window(d: int) -> tuple[float, float]:
    """Range of k where clean nets are accurate and yet non-robust below 1/√k.

    (d^{1/3}, d^{1/2}) [P?]; §5.1 derives both ends [D]: `dense_radius` is below
    `critical_radius` iff k > d^{1/3}, `clean_interference` below 1 iff k < d^{1/2}.

    Args:
        d: input dimension, an integer ≥ 1.

    Returns:
        The lower and the upper end of k, exponents only: constants are not known.

    Raises:
        ValueError: if d is out of range.

    Example:
        >>> low, high = window(196)
        >>> low < 9 < high
        True
    """
    check_size("d", d)
    return d ** (1 / 3), math.sqrt(d)


def sparsity_exponent(d: int, k: float) -> float:
    """The exponent a in k = d^a [D] §1.

    Args:
        d: input dimension, an integer ≥ 2.
        k: sparsity, 1 ≤ k ≤ d.

    Returns:
        log k / log d, in [0, 1].

    Raises:
        ValueError: if d or k is out of range.

    Example:
        >>> sparsity_exponent(d=100, k=10)
        0.5
    """
    check_sparsity(d, k)
    if d < 2:
        raise ValueError(f"d = {d!r}: must be at least 2, log k / log d needs log d > 0. Raise d.")
    return math.log(k) / math.log(d)


# --- ceiling at finite d, §5.2 ---------------------------------------------------------------


def margin_ceiling(D: int, k: float, p_one: float, radius: float) -> Prediction:
    """Approximate ceiling on robust accuracy at finite d: Pr(|⟨w*,z⟩| > τ√k). [D] §5.2

    A step function of τ, since margins are a + b/√k with integers a, b: where √k is an integer
    the least margin is 1/√k, and the ceiling is 1 for τ < 1/k.
    It is a guide, not a bound: at d = 256, k = 12, τ = 0.3/√k it is .826, and the best pure network
    reaches .831 ± .004 (σ_x = 0.3, 40,000 points) [M].

    Args:
        D: number of features, an integer ≥ 1.
        k: sparsity, k ≥ 1 and k + p_one ≤ D.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        radius: ℓ2 radius τ > 0 of the attack.

    Returns:
        The prediction; its value is a probability, conditional on ⟨w*,z⟩ ≠ 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_radius(radius)
    return Prediction(
        "margin ceiling on robust accuracy",
        margin_probability(D, k, p_one, radius * math.sqrt(k)),
        "Pr[|⟨w*,z⟩| > τ√k | ⟨w*,z⟩ ≠ 0]",
        "[D] §5.2",
        "as a guide, not a bound: takes ‖z‖₀ = k, no dead zone, no noise",
    )


def check_sparsity(d: int, k: float) -> None:
    """Refuse a sparsity out of 1 ≤ k ≤ d.

    Raises:
        ValueError: if d or k is out of range.
    """
    check_size("d", d)
    check_sparsity_floor(k)
    if k > d:
        raise ValueError(f"k = {k!r}: must be at most d = {d!r}. Lower k or raise d.")


def _check_radius(radius: float) -> None:
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(
            f"radius = {radius!r}: must be a finite number > 0. Typical: 0.3/√k in ℓ2."
        )
