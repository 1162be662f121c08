"""Signs that an attack's numbers should not be trusted (docs/theory.md §8).

After the checks of AutoAttack (Croce & Hein 2020, arXiv:2003.01690, and its flags). Each returns a
sentence, or None; every sentence says what it is raised for.
"""

import numpy as np

from featpur_sim._ground.types import Bool, Float

# Fractions of the points above which a check speaks.
ZERO_GRADIENTS, MISSED = 0.05, 0.05


def zero_gradients(gradient: Float[np.ndarray, "n d"]) -> str | None:
    """Gradient masking by vanishing gradients.

    >>> zero_gradients(np.zeros((4, 2), np.float32)).split(":")[0]
    'zero gradients'
    """
    fraction = float(np.mean(~gradient.any(axis=-1)))
    if fraction <= ZERO_GRADIENTS:
        return None
    return (
        f"zero gradients: ∇f(x) = 0 at {fraction:.1%} of the points, where gradient attacks are "
        "blind unless the model has a smoothed form (Classifier.smoothed). Raised if more than "
        f"{ZERO_GRADIENTS:.0%} of the input gradients are exactly 0."
    )


def randomised(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> str | None:
    """A model that answers differently when asked again.

    >>> randomised(np.ones(3, np.float32), np.ones(3, np.float32)) is None
    True
    """
    different = ~np.isclose(one, other, rtol=1e-5, atol=1e-7, equal_nan=True)
    if not different.any():
        return None
    return (
        f"randomised model: two evaluations differ at {np.mean(different):.1%} of the points, so "
        "robustness is of one draw of the noise; attack the expectation "
        "(SymmetricReLU: smoothing='closed'). Raised if two keys give different outputs."
    )


def not_finite(value: Float[np.ndarray, " n"]) -> str | None:
    """Outputs that are not numbers.

    >>> not_finite(np.array([1.0, np.nan], np.float32)).split(":")[0]
    'not finite'
    """
    bad = int(np.sum(~np.isfinite(value)))
    if not bad:
        return None
    return f"not finite: f(x) is NaN or infinite at {bad} points. Raised if any output is."


def weak_beats_strong(missed: Bool[np.ndarray, " n"]) -> str | None:
    """Gradient masking by a rugged loss: one step finds what a hundred do not.

    Args:
        missed: of points that FGM or the dense mixture broke, those that PGD and APGD, each from
            δ = 0, leave standing.

    >>> weak_beats_strong(np.array([True] * 3 + [False] * 7)).split(":")[0]
    'weak attack beats strong ones'
    """
    if not len(missed) or np.mean(missed) <= MISSED:
        return None
    return (
        f"weak attack beats strong ones: of {len(missed)} points that FGM or the dense mixture "
        f"broke, PGD and APGD from δ = 0 miss {int(missed.sum())}; others may be missed as well. "
        f"Raised if they miss more than {MISSED:.0%}."
    )


def rises_with_radius(
    smaller: Bool[np.ndarray, " n"], larger: Bool[np.ndarray, " n"], radii: tuple[float, float]
) -> str | None:
    """A point that stands at a radius although a smaller one breaks it.

    Args:
        smaller: which points were found robust at the smaller radius.
        larger: the same at the larger one.
        radii: the two radii.

    >>> rises_with_radius(np.array([False]), np.array([True]), (0.1, 0.2)).split(":")[0]
    'margin rises with the radius'
    """
    missed = int(np.sum(larger & ~smaller))
    if not missed:
        return None
    return (
        f"margin rises with the radius: {missed} points fall at {radii[0]:g} and were missed at "
        f"{radii[1]:g}, where they are counted as broken. Raised if there is any such point."
    )


def of_model(
    value: Float[np.ndarray, " n"],
    gradient: Float[np.ndarray, "n d"],
    again: Float[np.ndarray, " n"],
) -> list[str]:
    """The warnings that a model itself gives cause for.

    Args:
        value: f at n points.
        gradient: ∇ₓf there.
        again: f at the same points with another key.
    """
    found = (zero_gradients(gradient), randomised(value, again), not_finite(value))
    return [sentence for sentence in found if sentence]
