"""A phase of training: how long, how fast, on what, under which threshold and attack (§3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.expected import expect
from featpur_sim._ground.show import line, runs, shown
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int
from featpur_sim.attacks.gradient import Attack, require_attack
from featpur_sim.models.losses import Loss, logistic_loss
from featpur_sim.training.bias import BiasSchedule, Frozen

Optimizer = Callable[[Any], optax.GradientTransformation] | optax.GradientTransformation


@dataclass(frozen=True)
class _AsItIs:
    """An optax transformation with a learning rate of its own, whatever that of the phase."""

    transformation: optax.GradientTransformation

    def __call__(self, rate: Any) -> optax.GradientTransformation:
        return self.transformation


# What a phase is where nothing is said: the settings of docs/theory.md §5.3.
_LEARNING_RATE, _WEIGHT_DECAY, _BATCH = 0.5, 1e-4, 512


class Phase(eqx.Module):
    """One phase of training. Use `CleanPhase` or `AdversarialPhase`.

    >>> CleanPhase(200)
    Phase(clean, 200 steps, batch=512, η=0.5, λ=0.0001, Frozen)
    """

    name: str = eqx.field(static=True)
    steps: Int[Array, "*S"]
    learning_rate: Float[Array, "*S"]
    weight_decay: Float[Array, "*S"]
    bias: BiasSchedule
    attack: Attack | None
    batch: int = eqx.field(static=True)
    microbatch: int = eqx.field(static=True)
    dataset_size: int | None = eqx.field(static=True)
    optimizer: Callable[[Any], optax.GradientTransformation] = eqx.field(static=True)
    rank: int | None = eqx.field(static=True)
    loss: Loss = eqx.field(static=True)

    @steady
    def __init__(
        self,
        name: str,
        steps: int,
        *,
        learning_rate: float = _LEARNING_RATE,
        weight_decay: float = _WEIGHT_DECAY,
        batch: int = _BATCH,
        bias: BiasSchedule | None = None,
        attack: Attack | None = None,
        microbatch: int | None = None,
        dataset_size: int | None = None,
        optimizer: Optimizer = optax.sgd,
        rank: int | None = None,
        loss: Loss = logistic_loss,
    ):
        def size(label: str, value: int | None) -> int | None:
            return None if value is None else count(f"{name} phase: {label}", value)

        self.batch = count(f"{name} phase: batch", batch)
        self.microbatch = size("microbatch", microbatch) or self.batch
        if self.batch % self.microbatch:
            raise ValueError(
                f"{name} phase: microbatch must divide batch={batch}, got {microbatch}."
            )
        self.name = name
        self.steps = jnp.asarray(count(f"{name} phase: steps", steps), jnp.int32)
        self.learning_rate = number(f"{name} phase: learning_rate", learning_rate, above=0)
        self.weight_decay = number(f"{name} phase: weight_decay", weight_decay, least=0)
        self.bias = Frozen() if bias is None else bias
        expect(f"{name} phase: bias", self.bias, BiasSchedule, "a schedule, LinearRamp(0.1) say")
        if attack is not None:
            require_attack(f"{name} phase: attack", attack)
        wanted = "a function from η to an optax transformation, optax.adam say, or a transformation"
        if isinstance(optimizer, optax.GradientTransformation):
            optimizer = _AsItIs(optimizer)
        expect(f"{name} phase: optimizer", optimizer, Callable, wanted)
        self.attack, self.optimizer = attack, optimizer
        self.dataset_size = size("dataset_size", dataset_size)
        self.rank = size("rank", rank)
        expect(f"{name} phase: loss", loss, Callable, "a function of the margin, hinge_loss say")
        self.loss = loss

    def __repr__(self) -> str:
        rates = f"η={shown(self.learning_rate)}", f"λ={shown(self.weight_decay)}"
        sizes = f"{shown(self.steps)} steps", f"batch={self.batch}"
        finite = [] if self.dataset_size is None else [f"N={self.dataset_size}"]
        rank = [] if self.rank is None else [f"rank={self.rank}"]
        loss = [] if self.loss is logistic_loss else [getattr(self.loss, "__name__", "own loss")]
        attack = [] if self.attack is None else [repr(self.attack)]
        rule = type(self.bias).__name__
        return line(
            "Phase",
            self.name,
            *sizes,
            *finite,
            *rates,
            *rank,
            rule,
            *attack,
            *loss,
            *runs(self.steps),
        )


# The two name every setting, and so do `train` and `train_many`: editors complete them, and a
# misspelt one is found where it is written.
def CleanPhase(
    steps: int,
    *,
    learning_rate: float = _LEARNING_RATE,
    weight_decay: float = _WEIGHT_DECAY,
    batch: int = _BATCH,
    bias: BiasSchedule | None = None,
    microbatch: int | None = None,
    dataset_size: int | None = None,
    optimizer: Optimizer = optax.sgd,
    rank: int | None = None,
    loss: Loss = logistic_loss,
) -> Phase:
    """Training on the samples as they are. [P]

    Args:
        steps: gradient steps.
        learning_rate: η.
        weight_decay: λ.
        batch: samples per step.
        bias: how the threshold moves; it stays where it is by default.
        microbatch: gradients are accumulated in chunks of this many samples; divides ``batch``.
        dataset_size: N: train on N fixed samples, drawn with replacement, or all of them at once if
            ``batch`` ≥ N; None: fresh samples each step.
        optimizer: η ↦ an optax transformation, or one as it is, whose own rate then holds; plain
            gradient descent by default.
        rank: r: descend on A [m, r] and B [r, d] of W + AB instead of on W; see
            `featpur_sim.training.low_rank`. The objective is the same, so weight decay acts on
            W + AB.
        loss: of the margin y f(x); the logistic loss by default, or hinge_loss, squared_loss, or a
            function of your own. Seeds count as untrained by thresholds for the logistic loss.

    Raises:
        ValueError: a setting is out of range.
    """
    return Phase(
        "clean",
        steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch=batch,
        bias=bias,
        microbatch=microbatch,
        dataset_size=dataset_size,
        optimizer=optimizer,
        rank=rank,
        loss=loss,
    )


def AdversarialPhase(
    attack: Attack,
    steps: int,
    *,
    learning_rate: float = _LEARNING_RATE,
    weight_decay: float = _WEIGHT_DECAY,
    batch: int = _BATCH,
    bias: BiasSchedule | None = None,
    microbatch: int | None = None,
    dataset_size: int | None = None,
    optimizer: Optimizer = optax.sgd,
    rank: int | None = None,
    loss: Loss = logistic_loss,
) -> Phase:
    """Training on x + A(f, x, y); gradients do not flow through the attack A. [P]

    Args:
        attack: usually `FGM`.
        steps: gradient steps.
        learning_rate: η; this and the rest as for `CleanPhase`.
        weight_decay: λ.
        batch: samples per step.
        bias: how the threshold moves.
        microbatch: samples per chunk of a step.
        dataset_size: N fixed samples, or None.
        optimizer: η ↦ an optax transformation, or one as it is.
        rank: r of the update, or None.
        loss: of the margin y f(x).

    Raises:
        ValueError: a setting is out of range.
    """
    require_attack("adversarial phase: attack", attack)
    return Phase(
        "adversarial",
        steps,
        attack=attack,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch=batch,
        bias=bias,
        microbatch=microbatch,
        dataset_size=dataset_size,
        optimizer=optimizer,
        rank=rank,
        loss=loss,
    )
