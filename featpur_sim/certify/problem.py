"""The question a certificate answers: the least f(x + δ) over a norm ball (docs/theory.md, section
8).

f(x) = Σ_i S_{b_i}(⟨w_i, x⟩) [P] is odd, so the points are taken already multiplied by their labels
and "certified" always means f > 0 on the whole ball. Weights, biases and points are read as exact
real numbers.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import ndtr

from featpur_sim._ground.checks import double
from featpur_sim.certify.network import Network
from featpur_sim.certify.relaxation import soft_threshold
from featpur_sim.certify.rounding import UNIT, DualPoint, gamma, lower_bound, norms_up


class NotCertified(ValueError):
    """The mathematics of section 8 does not cover what was asked; the message says why."""


@dataclass(frozen=True)
class Problem:
    """A network, points, and one radius a point.

    Attributes:
        network: W and b, with what was worked out from them; `select` and `replace` keep it.
        points: x times its label, [n, d] float64.
        radius: τ, [n] float64.
        box: whether the ball is ℓ∞'s.
        smoothing: σ_ρ of the closed-form smoothed network; 0 for the soft threshold.
    """

    network: Network
    points: np.ndarray
    radius: np.ndarray
    box: bool = False
    smoothing: float = 0.0

    @classmethod
    def build(
        cls,
        weights: Any,
        bias: Any,
        points: Any,
        radius: Any,
        *,
        norm: str = "l2",
        smoothing: float = 0.0,
    ) -> "Problem":
        """Checks the arguments and widens them to float64.

        Args:
            weights: W, [m, d].
            bias: b, scalar or [m], not negative.
            points: x times its label, [n, d].
            radius: τ > 0, scalar or [n].
            norm: "l2" or "linf".
            smoothing: σ_ρ ≥ 0.

        Returns:
            The problem.

        Raises:
            ValueError: a shape does not fit, a value is out of range or not finite.
            NotCertified: the norm has no certificate.
        """
        w, x = double("weights", weights, ndim=2), double("points", points, ndim=2)
        if x.shape[1] != w.shape[1]:
            raise ValueError(
                f"points have dimension {x.shape[1]} but weights have {w.shape[1]} columns; they "
                "must agree. Pass points as [n, d] and weights as [m, d]."
            )
        b = double("bias", bias, least=0, ndim=None)
        tau = double("radius", radius, above=0, ndim=None)
        for name, array, count in (("bias", b, len(w)), ("radius", tau, len(x))):
            if array.shape not in ((), (count,)):
                raise ValueError(
                    f"{name} has shape {array.shape}; it must be a scalar or have shape ({count},)."
                )
        if norm not in ("l2", "linf"):
            raise NotCertified(f"norm is {norm!r}; only 'l2' and 'linf' have certificates.")
        sigma = float(double("smoothing", smoothing, least=0))
        b, tau = np.broadcast_to(b, len(w)), np.broadcast_to(tau, len(x))
        return cls(Network(w, b), x, tau, norm == "linf", sigma)

    def __len__(self) -> int:
        return len(self.points)

    def select(self, index: np.ndarray) -> "Problem":
        """The same question for some of the points; repeats are allowed."""
        return replace(self, points=self.points[index], radius=self.radius[index])

    @property
    def weights(self) -> np.ndarray:
        """W, [m, d] float64."""
        return self.network.weights

    @property
    def bias(self) -> np.ndarray:
        """b, [m] float64."""
        return self.network.bias

    @cached_property
    def dual_norms(self) -> np.ndarray:
        """max ⟨w_i, δ⟩ over the unit ball, rounded up, [m]."""
        return norms_up(self.weights, 1 if self.box else 2)

    @cached_property
    def reach(self) -> np.ndarray:
        """The largest |t_i| over each point's ball, rounded up, [n, m]."""
        return self.radius[:, None] * self.dual_norms * (1 + 4 * UNIT)

    @cached_property
    def pre_activation(self) -> np.ndarray:
        """u = ⟨w_i, x⟩, [n, m]."""
        return self.points @ self.weights.T

    def project(self, perturbation: np.ndarray) -> np.ndarray:
        """The perturbations [n, d], those outside the ball scaled back to its surface."""
        length = np.linalg.norm(perturbation, ord=np.inf if self.box else 2, axis=1)
        scale = np.minimum(1, self.radius / np.maximum(length, 1e-300))
        return scale[:, None] * perturbation

    def value(self, perturbation: np.ndarray) -> np.ndarray:
        """f(x + δ) in float64, δ [n, d] scaled back into the ball; good to `value_error`."""
        u = (self.points + self.project(perturbation)) @ self.weights.T
        if self.smoothing == 0:
            return soft_threshold(u, self.bias).sum(1)
        positive = _smooth_relu(u - self.bias, self.smoothing)
        return (positive - _smooth_relu(-u - self.bias, self.smoothing)).sum(1)

    def value_error(self) -> np.ndarray:
        """A bound on the rounding error of `value`, the ball's overshoot included, [n]."""
        width, size = self.weights.shape
        farthest = np.linalg.norm(self.points, axis=1) + self.radius * np.sqrt(size)
        reach = norms_up(self.weights).sum() * farthest
        return 4 * gamma(width + size + 64) * (reach + self.bias.sum() + width * self.smoothing)

    def bound(
        self, dual: DualPoint, low: np.ndarray | None = None, high: np.ndarray | None = None
    ) -> np.ndarray:
        """The rigorous lower bound at a dual point, [n]; t in [low, high], else the ball's."""
        return lower_bound(
            self.weights,
            self.bias,
            self.points,
            self.radius,
            -self.reach if low is None else low,
            self.reach if high is None else high,
            dual,
            self.box,
            self.smoothing,
        )


def _smooth_relu(a: np.ndarray, smoothing: float) -> np.ndarray:
    """E ReLU(a + ρ), ρ ~ N(0, σ_ρ²): aΦ(a/σ_ρ) + σ_ρφ(a/σ_ρ) [D]."""
    z = a / smoothing
    return a * ndtr(z) + smoothing * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
