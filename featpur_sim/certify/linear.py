"""The linear relaxation, q = 0 (docs/theory.md, section 8).

With q = 0 the bound of section 8 is the classical one: every S_b is replaced by a line below it,
and the line's sum is minimised over the ball in closed form. The slope is the convex envelope's at
t = 0, at least as good as the one of CROWN (Zhang et al., 2018) for this odd pair of ReLUs.
"""

import numpy as np

from featpur_sim.certify.problem import Problem
from featpur_sim.certify.relaxation import soft_threshold
from featpur_sim.certify.rounding import DualPoint


def chord_slope(u: np.ndarray, low: np.ndarray, high: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Slope at t = 0 of the convex envelope of S_b(u + t), low ≤ t ≤ high [D].

    S_b is concave only at −b. Where that kink lies inside, the envelope is the chord from the low
    end to the kink at b (or the high end), then the line of slope 1; elsewhere S_b is its own
    envelope.

    Args:
        u: pre-activations, [n, m].
        low: lower ends, ≤ 0, [n, m].
        high: upper ends, ≥ 0, [n, m].
        bias: b ≥ 0, [m].

    Returns:
        θ in [0, 1], [n, m].
    """
    end = np.minimum(bias - u, high)
    rise = soft_threshold(u + end, bias) - soft_threshold(u + low, bias)
    chord = np.divide(rise, end - low, out=np.ones_like(u), where=end > low)
    inside = (u + low < -bias) & (u + high > -bias) & (end > 0)
    return np.where(inside, chord, (np.abs(u) >= bias).astype(np.float64))


def linear_dual(problem: Problem) -> DualPoint:
    """The dual point of the linear relaxation, in closed form.

    Args:
        problem: network, points and radii.

    Returns:
        θ from `chord_slope`, q = 0, and the ball's multiplier and minimiser.
    """
    reach = problem.reach
    slope = chord_slope(problem.pre_activation, -reach, reach, problem.bias)
    direction = slope @ problem.weights
    tau = problem.radius[:, None]
    if problem.box:
        multiplier = np.abs(direction) / (2 * tau)
        minimiser = -tau * np.sign(direction)
    else:
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        multiplier = length / (2 * tau)
        minimiser = -tau * direction / np.maximum(length, 1e-300)
    return DualPoint(slope, np.zeros_like(slope), multiplier, minimiser, np.zeros(len(problem)))
