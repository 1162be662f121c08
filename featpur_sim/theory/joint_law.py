"""The exact joint law of margin and energy, |S| = |⟨w*,z⟩| and Q = ‖z‖² (docs/theory.md §6, L2).

For the two-level law and w* ∈ {±1}^d a sample is described by four counts: how many coordinates of
w*∘z are +1, −1, +1/√k and −1/√k. They are multinomial, and S and Q are functions of them. This
module never touches simulation code, so that agreement between the two is evidence.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from featpur_sim.theory.margin import Floats, check_law, is_tie

# Mass that may be left out to save time; it is added back, on the unfavourable side.
_TAIL = 1e-7
# log Γ(d) is about d·log d and is good to a few units in the last place; so are the probabilities.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class JointLaw:
    """Outcomes of (|S|, Q) among labelled samples.

    Attributes:
        margin: |S| > 0 of each outcome, float64, shape [c]; an outcome may appear several times.
        energy: Q of each outcome, float64, shape [c].
        mass: unconditional probability of each outcome, float64, shape [c].
        missing: upper bound on the labelled probability that is not listed, rounding included.
    """

    margin: Floats
    energy: Floats
    mass: Floats
    missing: float

    def mean(self, values: Floats) -> float:
        """E[value | S ≠ 0] up to the missing mass, for values of shape [c]."""
        return float(self.mass @ values / self.mass.sum())

    def upper_mean(self, values: Floats) -> float:
        """Upper bound on the mean of values between 0 and 1 given S ≠ 0 [D] §6, L2.

        What is missing counts as 1: with A the listed part of the mean, B the listed mass and
        L ≥ L′ bounds on the missing mass, A ≤ B gives (A + L′)/(B + L′) ≤ (A + L)/(B + L).

        Args:
            values: one number in [0, 1] an outcome, shape [c].

        Returns:
            The bound, at most 1.
        """
        return float((self.mass @ values + self.missing) / (self.mass.sum() + self.missing))


def joint_law(d: int, k: float, p_one: float = 1.0) -> JointLaw:
    """Joint law of (|⟨w*,z⟩|, ‖z‖²) for w* ∈ {±1}^d and the two-level law [D] §6, L2.

    Args:
        d: input dimension, an integer ≥ 1 (D = d).
        k: sparsity, k ≥ 1 and k + p_one ≤ d; a non-integer is read as the decimal it prints as.
        p_one: expected number p₁ ≥ 0 of coordinates of size 1.

    Returns:
        The law; all but about 1e-7 of the mass is listed, and the rest is in `missing`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> law = joint_law(d=2, k=1, p_one=0)  # z_j = ±1 with probability ½, else 0
        >>> sorted(set(zip(law.margin.tolist(), law.energy.tolist())))
        [(1.0, 1.0), (2.0, 2.0)]
        >>> round(law.mean(law.energy), 4)  # Q = 2 on a fifth of the labelled samples
        1.2
    """
    check_law(d, k, p_one)
    ones, smalls = np.arange(_most(d, p_one) + 1), np.arange(_most(d, k) + 1)
    log_mass = _log_count_mass(d, k, p_one, ones[:, None], smalls[None, :])
    likely = np.argwhere(log_mass > math.log(_TAIL / log_mass.size / 4))
    parts = [_split_signs(int(i), int(j), k, math.exp(log_mass[i, j])) for i, j in likely]
    margin, energy, mass, tied = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(mass)
    rare = np.cumsum(mass[order]) < _TAIL / 2
    kept = np.sort(order[~rare])
    missing = max(0.0, 1 - float(mass[kept].sum())) + _ROUNDING * d * math.log(d + 1)
    labelled = kept[~tied[kept]]
    return JointLaw(margin[labelled], energy[labelled], mass[labelled], missing)


def _most(d: int, mean: float) -> int:
    """A count that is hardly ever exceeded; what lies above it ends up in `missing`."""
    return min(d, math.ceil(mean + 12 + 7 * math.sqrt(mean)))


def _log_count_mass(
    d: int, k: float, p_one: float, ones: NDArray[np.int64], smalls: NDArray[np.int64]
) -> Floats:
    """log Pr[so many coordinates of size 1 and of size 1/√k], multinomial; −∞ if impossible."""
    zeros = d - ones - smalls
    rest = np.maximum(zeros, 0)
    choices = (
        special.gammaln(d + 1)
        - special.gammaln(ones + 1)
        - special.gammaln(smalls + 1)
        - special.gammaln(rest + 1)
    )
    log_mass = (
        choices
        + special.xlogy(ones, p_one / d)
        + special.xlogy(smalls, k / d)
        + special.xlogy(rest, max(0.0, 1 - (p_one + k) / d))
    )
    return np.where(zeros >= 0, log_mass, -np.inf)


def _split_signs(
    ones: int, smalls: int, k: float, mass: float
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Margins, energies, masses and ties of all sign counts, (S, −S) merged, flattened."""
    a, b = _signed_counts(ones)[:, None], _signed_counts(smalls)[None, :]
    weight = mass * _sign_mass(ones)[:, None] * _sign_mass(smalls)[None, :]
    # (a, b) and (−a, −b) have the same |S|: keep the first half and double it.
    half = (a > 0) | ((a == 0) & (b > 0))
    centre = (a == 0) & (b == 0)
    keep = half | centre
    a, b = np.broadcast_arrays(a, b)
    margin = np.abs(a + b / math.sqrt(k))[keep]
    energy = np.full(margin.shape, ones + smalls / k)
    return margin, energy, (weight * (1 + half))[keep], is_tie(a, b, k)[keep]


def _signed_counts(n: int) -> NDArray[np.int64]:
    return 2 * np.arange(n + 1) - n


def _sign_mass(n: int) -> Floats:
    plus = np.arange(n + 1)
    return special.binom(n, plus) / 2.0**n
