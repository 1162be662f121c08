"""How far float32 arithmetic may be from exact arithmetic, for comparisons with other libraries.

A tolerance that fits one processor and one version of a library says nothing about the next one.
These follow from the numbers compared: the terms that were summed, and how the answer depends on
them. They hold for every order of summation, with or without fused multiplication, that is, for
every instruction set; terms of second order in the unit roundoff are left out.
"""

import numpy as np

# Unit roundoff of float32, rounded to nearest.
UNIT = 2.0**-24
# What XLA's exp and erf are taken to be good to, relatively; `certify.rounding` takes the same.
FUNCTION = 8 * UNIT


def gamma(n):
    """γ_n = nu/(1 − nu): a float32 sum of n products errs by at most γ_n Σ|a_i b_i|.

    N. Higham, Accuracy and Stability of Numerical Algorithms (2002), lemma 3.1 and equation 3.5.
    Products with 0 do not count: they and their addition are exact.
    """
    return n * UNIT / (1 - n * UNIT)


def within(found, expected, error) -> None:
    """Every entry of ``found`` is within its own ``error`` of ``expected``."""
    distance = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    far = ~(distance <= error)
    assert not far.any(), (
        f"{far.sum()} of {far.size} entries are further off than rounding allows, "
        f"up to {np.max(distance / np.maximum(error, 1e-300)):.3g} times as far"
    )


def unit_error(gradient, error):
    """How far the float32 unit vector of g may be from g/‖g‖, in the norm, row by row [n].

    A vector off by Δ has a unit vector off by at most 2‖Δ‖/‖g‖: once for Δ/‖g‖, once for the change
    of the norm. The norm itself errs by γ_d/2 for its squares, and scaling, root and quotient by u
    each. No two unit vectors are more than 2 apart.

    Args:
        gradient: g, rows [n, d].
        error: ‖Δ‖ of each row, [n].
    """
    size = np.linalg.norm(gradient, axis=1)
    turned = np.minimum(2 * error / np.maximum(size, 1e-300), 2)
    return turned + gamma(gradient.shape[1]) / 2 + 4 * UNIT


def sign_error(gradient, error):
    """How far sign g may be off, entry by entry: by 2 where |g_j| is within its error, or by 0."""
    return np.where(np.abs(gradient) <= error, 2.0, 0.0)


def doubtful_gates(weights, bias, x):
    """Which neurons float32 may put on either side of their threshold, [n, m].

    ⟨w_i,x⟩ errs by γ_d Σ_j|w_ij x_j|, and what it is compared with by one rounding more.
    """
    weights, bias, x = (np.asarray(v, np.float64) for v in (weights, bias, x))
    size = np.abs(x) @ np.abs(weights).T + bias
    return np.abs(np.abs(x @ weights.T) - bias) <= gamma(x.shape[1] + 2) * size


def input_gradient(network, x):
    """∇ₓf = Σ_{|⟨w_i,x⟩| > b_i} w_i in float64 (docs/theory.md §3), and the error of float32.

    The sum over the open gates rounds, and so does a slope in front of it. Where a gate may be open
    or shut, the error holds all of |w_i|.

    Returns:
        The gradient and the error of each of its entries, both [n, d].
    """
    weights, bias, x = (np.asarray(v, np.float64) for v in (network.weights, network.bias, x))
    gate, doubt = np.abs(x @ weights.T) > bias, doubtful_gates(weights, bias, x)
    size = np.abs(weights)
    error = gamma((gate | doubt).sum(1, keepdims=True) + 4) * ((gate | doubt) @ size) + doubt @ size
    return gate @ weights, error
