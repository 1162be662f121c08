"""What a run does: sizes, schedules, radii, seeds; and the list of networks that it trains."""

import dataclasses
from dataclasses import dataclass
from typing import get_args

from experiments.cifar10.nets import NetName
from experiments.cifar10.training import Schedule
from featpur_sim._ground.norms import Norm
from featpur_sim.attacks.gradient import FGM, PGD, Attack

NORMS: tuple[Norm, ...] = ("l2", "linf")
# Attack radii in units of the training radius of their norm.
RELATIVE_RADII = (0.5, 1.0)
INIT, CLEAN, CONTINUED = "init", "clean", "continued"
HEADLINE = "FGM l2"
_POSITIVE = ("> 0 and finite", lambda value: 0 < value < float("inf"))
_RULES = {
    "net": ("alexnet or resnet", lambda value: value in get_args(NetName)),
    "stride": ("1 or 2", lambda value: value in (1, 2)),
    "weight_decay": ("≥ 0 and finite", lambda value: 0 <= value < float("inf")),
    "ranks": ("≥ 0, each of them", lambda value: all(rank >= 0 for rank in value)),
    "seeds": ("≥ 2, or there is no interval", lambda value: value >= 2),
    "seed": ("≥ 0", lambda value: value >= 0),
}


@dataclass(frozen=True)
class Settings:
    """Every number of a run; the defaults are for the subset on two cores.

    Attributes:
        net: "resnet" or "alexnet".
        width: channels of the first convolution.
        depth: blocks per stage (ResNet).
        stride: of the first convolution, 1 or 2.
        epochs: of clean training.
        adversarial_epochs: of every training from the clean weights.
        batch: images a step.
        learning_rate: largest of clean training.
        adversarial_learning_rate: largest of every training from the clean weights.
        weight_decay: coefficient of ‖w‖²/2.
        l2: training radius τ in ℓ2, for pixels in [0, 1].
        linf: training radius τ in ℓ∞.
        pgd_steps: of PGD in training.
        ranks: of the low-rank updates; 0 trains biases alone.
        seeds: independent repetitions.
        seed: names them all.
        points: test images, from the first.
        attack_steps: of each descent of the attack protocol.
        atoms: of the patch dictionary.
    """

    net: NetName = "alexnet"
    width: int = 24
    depth: int = 1
    stride: int = 2
    epochs: int = 30
    adversarial_epochs: int = 10
    batch: int = 125
    learning_rate: float = 0.05
    adversarial_learning_rate: float = 0.05
    weight_decay: float = 5e-3
    l2: float = 0.5
    linf: float = 4 / 255
    pgd_steps: int = 4
    ranks: tuple[int, ...] = (0, 1, 8)
    seeds: int = 3
    seed: int = 0
    points: int = 500
    attack_steps: int = 20
    atoms: int = 150

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            rule, holds = _RULES.get(field.name, _POSITIVE)
            if not holds(value):
                option = field.name.replace("_", "-")
                raise ValueError(f"--{option} must be {rule}, got {value}.")

    def radius(self, norm: Norm) -> float:
        """The training radius of a norm."""
        return self.l2 if norm == "l2" else self.linf

    def clean_schedule(self) -> Schedule:
        """Of the clean phase."""
        return Schedule(self.epochs, self.batch, self.learning_rate, self.weight_decay)

    def adversarial_schedule(self) -> Schedule:
        """Of every phase that starts at the clean weights."""
        rate = self.adversarial_learning_rate
        return Schedule(self.adversarial_epochs, self.batch, rate, self.weight_decay)


@dataclass(frozen=True)
class Variant:
    """A training from the clean weights.

    Attributes:
        name: of the network it ends in.
        attack: on every batch; None trains cleanly.
        rank: of the updates; None is free.
    """

    name: str
    attack: Attack | None
    rank: int | None = None


def low_rank_name(rank: int) -> str:
    """Name of the network after FGM ℓ2 training by updates of a rank."""
    return f"{HEADLINE}, rank {rank}"


def variants(settings: Settings) -> list[Variant]:
    """Every training from the clean weights; the first goes on cleanly and is the control."""
    found = [Variant(CONTINUED, None)]
    for norm in NORMS:
        radius = settings.radius(norm)
        found.append(Variant(f"FGM {norm}", FGM(radius, norm)))
        found.append(Variant(f"PGD {norm}", PGD(radius, norm, steps=settings.pgd_steps)))
    attack = FGM(settings.l2, "l2")
    return found + [Variant(low_rank_name(rank), attack, rank) for rank in settings.ranks]
