"""The predictions of docs/theory.md §5.4: what a box of half-width ε does to features, in ℓ∞.

A step of the box along a direction u lowers ⟨u, x⟩ by ε‖u‖₁, a step of the ball by τ‖u‖₂. Where the
entries of u are spread like Gaussian ones, as those of any combination of the columns of a *flat*
dictionary are (Haar, Hadamard or cosine, with signs as they fall), ‖u‖₁ = √(2d/π)‖u‖₂: the box is
a ball of radius τ = ε√(2d/π). For M = I each coordinate is a feature, and the box moves all of them
at once, each by ε. Letters and source tags: `featpur_sim.theory.predictions`.
"""

import math
from typing import Literal

from featpur_sim.theory import predictions as ball
from featpur_sim.theory.margin import check_size, check_sparsity_floor, margin_probability
from featpur_sim.theory.predictions import Prediction, check_sparsity

Dictionary = Literal["flat", "identity"]
DICTIONARIES: tuple[Dictionary, ...] = ("flat", "identity")

_SOURCE = "[D] §5.4"
_FLAT = "dictionaries whose columns mix to Gaussian entries: Haar, Hadamard or cosine, random signs"
_IDENTITY = "M = I"


def effective_radius(d: int, epsilon: float) -> float:
    """The ℓ2 radius that a box has in a flat dictionary: ε√(2d/π) [D] §5.4.

    Args:
        d: input dimension, an integer ≥ 1.
        epsilon: ℓ∞ radius > 0.

    Raises:
        ValueError: if an argument is out of range.

    >>> round(effective_radius(64, 0.021), 3)
    0.134
    """
    check_size("d", d)
    _check(epsilon)
    return epsilon * math.sqrt(2 * d / math.pi)


def box_radius(d: int, radius: float) -> float:
    """The ℓ∞ radius of a ball in a flat dictionary: τ√(π/2d) [D] §5.4; undoes `effective_radius`.

    Args:
        d: input dimension, an integer ≥ 1.
        radius: ℓ2 radius > 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    return radius / effective_radius(d, 1.0)


def dense_radius(d: int, k: float, dictionary: Dictionary) -> Prediction:
    """ℓ∞ radius at which −ε sign(Mw*) defeats a clean-trained net [D] §5.4.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.
        dictionary: ``"flat"``: √(π/2)/k²; ``"identity"``: 1/k².

    Raises:
        ValueError: if an argument is out of range.
    """
    name = "dense-attack radius in ℓ∞, clean net"
    in_ball = ball.dense_radius(d, k)
    if _require(dictionary) == "identity":
        value = in_ball.value / math.sqrt(d)
        return Prediction(name, value, "ε ≈ 1/k²", _SOURCE, f"{_IDENTITY}; {in_ball.holds}")
    value = box_radius(d, in_ball.value)
    return Prediction(name, value, "ε ≈ √(π/2)/k²", _SOURCE, f"{_FLAT}; {in_ball.holds}")


def critical_radius(d: int, k: float, dictionary: Dictionary) -> Prediction:
    """ℓ∞ radius up to which a purified net can be robust [D] §5.4.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.
        dictionary: ``"flat"``: √(π/2dk), as an attack on k features at once has to share the box;
            ``"identity"``: 1/k, as it does not.

    Raises:
        ValueError: if an argument is out of range.
    """
    name, holds = "critical radius in ℓ∞", "order of magnitude, large d"
    check_sparsity(d, k)
    in_ball = ball.critical_radius(k)
    if _require(dictionary) == "identity":
        return Prediction(name, 1 / k, "ε ≈ 1/k", _SOURCE, f"{_IDENTITY}; {holds}")
    value = box_radius(d, in_ball.value)
    return Prediction(name, value, "ε ≈ √(π/(2dk))", _SOURCE, f"{_FLAT}; {holds}")


def window(d: int, dictionary: Dictionary) -> tuple[float, float]:
    """Range of k where clean nets are accurate and yet non-robust below `critical_radius`.

    Args:
        d: input dimension, an integer ≥ 1.
        dictionary: ``"flat"``: (d^{1/3}, d^{1/2}) as in ℓ2; ``"identity"``: (1, d^{1/2}), since
            1/k² < 1/k for every k > 1 [D] §5.4.

    Raises:
        ValueError: if an argument is out of range.
    """
    low, high = ball.window(d)
    return (1.0 if _require(dictionary) == "identity" else low), high


def adversarial_dense_ratio(d: int, k: float, epsilon: float, dictionary: Dictionary) -> Prediction:
    """Dense over pure coefficient after FGSM training [D] §5.4.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, 1 ≤ k ≤ d.
        epsilon: ℓ∞ radius > 0 of the training attack.
        dictionary: ``"flat"``: 1/(ε√(2dk/π)·d); ``"identity"``: 0 where ε exceeds the push of the
            data, of order 1/d, since the sign of a mixture, however small, moves every coordinate.

    Raises:
        ValueError: if an argument is out of range.
    """
    name = "dense ratio after FGSM training"
    in_ball = ball.adversarial_dense_ratio(d, k, effective_radius(d, epsilon))
    if _require(dictionary) == "identity":
        return Prediction(name, 0.0, "κ/α ≈ 0", _SOURCE, f"{_IDENTITY}; ε·d of order 1 or more")
    return Prediction(
        name, in_ball.value, "κ/α ≈ 1/(ε√(2dk/π)·d)", _SOURCE, f"{_FLAT}; {in_ball.holds}"
    )


def purification_factor(d: int, k: float, epsilon: float) -> Prediction:
    """By how much FGSM training lowers κ/α in a flat dictionary: k·ε√(2dk/π) [D] §5.4.

    Args:
        d: input dimension, an integer ≥ 1.
        k: sparsity, k ≥ 1.
        epsilon: ℓ∞ radius > 0 of the training attack.

    Raises:
        ValueError: if an argument is out of range.
    """
    in_ball = ball.purification_factor(k, effective_radius(d, epsilon))
    formula = "(κ/α)_clean / (κ/α)_adversarial ≈ k·ε√(2dk/π)"
    return Prediction(in_ball.name, in_ball.value, formula, _SOURCE, f"{_FLAT}; {in_ball.holds}")


def margin_ceiling(
    D: int, k: float, p_one: float, epsilon: float, dictionary: Dictionary
) -> Prediction:
    """Approximate ceiling on robust accuracy in ℓ∞ at finite d [D] §5.4; see §5.2 for ℓ2.

    Args:
        D: number of features, an integer ≥ 1; d = D.
        k: sparsity, k ≥ 1 and k + p_one ≤ D.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.
        epsilon: ℓ∞ radius > 0.
        dictionary: ``"flat"``: Pr(|⟨w*,z⟩| > ε√(2dk/π)); ``"identity"``: Pr(|⟨w*,z⟩| > εk).

    Raises:
        ValueError: if an argument is out of range.
    """
    check_sparsity_floor(k)
    if _require(dictionary) == "identity":
        shift, formula, holds = epsilon * k, "Pr[|⟨w*,z⟩| > εk | ⟨w*,z⟩ ≠ 0]", _IDENTITY
    else:
        shift = effective_radius(D, epsilon) * math.sqrt(k)
        formula, holds = "Pr[|⟨w*,z⟩| > ε√(2dk/π) | ⟨w*,z⟩ ≠ 0]", _FLAT
    _check(epsilon)
    value = margin_probability(D, k, p_one, shift)
    guide = f"{holds}; as a guide, not a bound: takes ‖z‖₀ = k, no dead zone, no noise"
    return Prediction("margin ceiling on robust accuracy in ℓ∞", value, formula, _SOURCE, guide)


def _require(dictionary: str) -> Dictionary:
    for known in DICTIONARIES:
        if dictionary == known:
            return known
    raise ValueError(
        f"dictionary = {dictionary!r}: must be one of {', '.join(DICTIONARIES)}; 'flat' stands for "
        "haar, hadamard and dct."
    )


def _check(epsilon: float) -> None:
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"epsilon = {epsilon!r}: must be a finite number > 0, τ√(π/2d) say.")
