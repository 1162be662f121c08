"""What the certificates take from the network alone, worked out once for all points and radii
(docs/theory.md, section 8).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featpur_sim.certify.relaxation import box_multiplier
from featpur_sim.certify.rounding import UNIT, curvature_excess


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
    def majorant(self) -> np.ndarray:
        """μ of about the least sum with diag(μ) ⪰ Q₀, [d]; how nearly says `majorant_excess`."""
        return box_multiplier(self.quadratic, np.zeros_like(self.quadratic[0]), 1.0)

    @cached_property
    def majorant_excess(self) -> float:
        """A proved e ≥ 0 with diag(μ) − Q₀ ⪰ −e·I."""
        return curvature_excess(self.weights, self.shape, self.majorant)
