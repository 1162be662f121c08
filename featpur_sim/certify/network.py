"""What the certificates take from the network alone, worked out once for all points and radii
(docs/theory.md, section 8).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featpur_sim.certify.rounding import UNIT, curvature_excess


def diagonal_majorant(matrix: np.ndarray, steps: int = 60) -> np.ndarray:
    """μ with diag(μ) ⪰ Q and Σμ_j close to least: Newton's method on Σμ − η·logdet(diag(μ) − Q), η
    falling [D].

    Args:
        matrix: Q ⪰ 0, [d, d].
        steps: Newton steps; η falls by 0.6 a step from λmax/d, so that the sum ends within dη of
            the least.

    Returns:
        μ, [d]. Not a proof: `curvature_excess` gives that.
    """
    size = len(matrix)
    top = float(np.linalg.eigvalsh(matrix)[-1])
    if top <= 0:
        return np.zeros(size)
    multiplier = np.full(size, 2 * top)
    barrier = top
    for _ in range(steps):
        inverse = np.linalg.inv(np.diag(multiplier) - matrix)
        gradient = 1 - barrier * np.diag(inverse)
        step = -np.linalg.solve(barrier * inverse**2, gradient)
        size_of_step = 1.0
        while np.linalg.eigvalsh(np.diag(multiplier + size_of_step * step) - matrix)[0] <= 0:
            size_of_step /= 2
        multiplier = multiplier + 0.9 * size_of_step * step
        barrier = max(0.6 * barrier, 1e-7 * top)
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
