"""The names of attacks: one table for settings, protocols, runs and sweeps."""

from dataclasses import dataclass
from typing import Literal, get_args

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.types import Array, Float
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import FGM, PGD, Attack, DenseMixture, RandomNoise, Transfer
from featpur_sim.models.classifier import Classifier

AttackName = Literal[
    "random noise", "dense mixture", "FGM", "PGD", "PGD on support", "APGD", "transfer"
]


@dataclass(frozen=True)
class AttackKind:
    """An attack but for its radius and what it is made from.

    Hashable, so that it can be static: one compiled program serves every radius.

    Attributes:
        name: as in results. "PGD on support" needs M = I; "transfer" is PGD on another model.
        norm: ``"l2"`` or ``"linf"``.
        steps: gradient steps of one descent; this and the rest are read by attacks that descend.
        restarts: descents a point.
        step_size: of PGD; None for its own rule.
        smoothing: of PGD.

    Raises:
        ValueError: there is no attack of that name.

    >>> AttackKind("PGD", steps=20)(0.1), AttackKind("random noise", "linf")(0.1)
    (PGD(τ=0.1, l2, steps=20, restarts=1), RandomNoise(τ=0.1, linf))
    """

    name: AttackName
    norm: Norm = "l2"
    steps: int = 1
    restarts: int = 1
    step_size: float | None = None
    smoothing: float = 0.0

    def __post_init__(self):
        if self.name not in get_args(AttackName):
            known = ", ".join(get_args(AttackName))
            raise ValueError(f"there is no attack {self.name!r}: take one of {known}.")

    def __call__(
        self,
        radius: float | Array,
        *,
        direction: Float[Array, " d"] | None = None,
        source: Classifier | None = None,
    ) -> Attack:
        """The attack of that radius.

        Args:
            radius: τ, in units of x.
            direction: Mw*, for the dense mixture.
            source: the model that a transferred perturbation is found on.

        Raises:
            ValueError: what the attack is made from is missing, or a number is out of range.
        """
        match self.name:
            case "random noise":
                return RandomNoise(radius, self.norm)
            case "dense mixture":
                if direction is None:
                    raise ValueError("a dense mixture needs direction=problem.dense_direction().")
                return DenseMixture(radius, direction, self.norm)
            case "FGM":
                return FGM(radius, self.norm)
            case "PGD":
                return self._pgd(radius)
            case "PGD on support":
                return self._pgd(radius, on_support=True)
            case "APGD":
                return APGD(radius, self.norm, steps=self.steps, restarts=self.restarts)
            case "transfer":
                if source is None:
                    raise ValueError("a transfer attack needs source, the model it is found on.")
                return Transfer(source, self._pgd(radius))

    def _pgd(self, radius: float | Array, on_support: bool = False) -> PGD:
        return PGD(
            radius,
            self.norm,
            steps=self.steps,
            restarts=self.restarts,
            step_size=self.step_size,
            smoothing=self.smoothing,
            on_support=on_support,
        )

    @property
    def gradients(self) -> int:
        """Gradients in x that it takes at each point.

        >>> AttackKind("PGD", steps=20, restarts=2).gradients, AttackKind("FGM").gradients
        (40, 1)
        """
        taken = {"random noise": 0, "dense mixture": 0, "FGM": 1}
        return taken.get(self.name, self.steps * self.restarts)
