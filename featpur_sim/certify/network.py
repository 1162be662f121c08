"""What the certificates take from the network alone, worked out once for all points and radii
(docs/theory.md, section 8).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featpur_sim.certify.rounding import UNIT, curvature_excess

# η of `diagonal_majorant`, over λmax: the last one, and the factor from one to the next.
_LAST, _FALL = 1e-6, 0.3
# Newton's decrement below which a step is a full one and the next η may come.
_NEAR = 0.25


def diagonal_majorant(matrix: np.ndarray) -> np.ndarray:
    """μ with diag(μ) ⪰ Q and Σμ_j close to least: Newton's method on Σμ − η·logdet(diag(μ) − Q), η
    falling [D].

    The barrier is self-concordant, so damped steps stay inside and converge from anywhere; the sum
    ends within dη of the least.

    Args:
        matrix: Q ⪰ 0, [d, d].

    Returns:
        μ, [d]. Not a proof: `curvature_excess` gives that.
    """
    size = len(matrix)
    top = float(np.linalg.eigvalsh(matrix)[-1])
    if top <= 0:
        return np.zeros(size)
    multiplier, barrier = np.full(size, 2 * top), top
    while barrier > _LAST * top:
        barrier *= _FALL
        decrement = math.inf
        while decrement > _NEAR:
            inverse = np.linalg.inv(np.diag(multiplier) - matrix)
            gradient = 1 - barrier * np.diag(inverse)
            step = -np.linalg.solve(barrier * inverse**2, gradient)
            decrement = math.sqrt(max(-gradient @ step / barrier, 0.0))
            multiplier = multiplier + step / (1 + decrement * (decrement > _NEAR))
    return multiplier


@dataclass(frozen=True)
class Network:
    """A network, Q1's shape c and the decompositions of Q₀ = Wᵀdiag(c)W, each made when first used.

    c_i = 1/‖w_i‖: the relaxation of a·S_b(t/a) is that of S_b with q/a, so this choice does not
    depend on a neuron's scale [D].

    Attributes:
        weights: W, [m, d] float64.
        bias: b, [m] float64.
    """

    weights: np.ndarray
    bias: np.ndarray

    @cached_property
    def shape(self) -> np.ndarray:
        """c, [m]; neurons over a thousand times weaker than the strongest count as that weak."""
        norm = np.linalg.norm(self.weights, axis=1)
        return 1 / np.maximum(norm, max(1e-3 * norm.max(), 1e-30))

    @cached_property
    def quadratic(self) -> np.ndarray:
        """Q₀, [d, d]."""
        return self.weights.T @ (self.shape[:, None] * self.weights)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues [d], ascending, and eigenvectors [d, d] of Q₀."""
        return np.linalg.eigh(self.quadratic)

    @cached_property
    def top(self) -> float:
        """A proved upper bound on λmax(Q₀)."""
        top = float(self.spectrum[0][-1])
        return (top + curvature_excess(self.weights, self.shape, np.array(top))) * (1 + 4 * UNIT)

    @cached_property
    def scale(self) -> float:
        """1/(4·median b c): the λ whose parabola spans a typical dead zone; tiny b do not count."""
        zone = self.bias * self.shape
        return float(1 / (4 * max(np.median(zone), 0.05 * zone.max(), 1e-6)))

    @cached_property
    def majorant(self) -> tuple[np.ndarray, float]:
        """μ from `diagonal_majorant` for Q₀, [d], and a proved e ≥ 0 with diag(μ) − Q₀ ⪰ −e·I."""
        multiplier = diagonal_majorant(self.quadratic)
        return multiplier, curvature_excess(self.weights, self.shape, multiplier)
