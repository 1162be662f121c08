"""A phase of training: how long, how fast, on what, under which threshold and attack (§3)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax

from featpur_sim._types import Array, Float, Int
from featpur_sim.attack import Attack
from featpur_sim.bias import BiasSchedule, Frozen

Optimizer = Callable[[Any], optax.GradientTransformation]


class Phase(eqx.Module):
    """One phase of training. Use `CleanPhase` or `AdversarialPhase`."""

    name: str = eqx.field(static=True)
    steps: Int[Array, "*S"]
    learning_rate: Float[Array, "*S"]
    weight_decay: Float[Array, "*S"]
    bias: BiasSchedule
    attack: Attack | None
    batch: int = eqx.field(static=True)
    microbatch: int = eqx.field(static=True)
    dataset_size: int | None = eqx.field(static=True)
    optimizer: Optimizer = eqx.field(static=True)
    rank: int | None = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        steps: int,
        *,
        learning_rate: float = 0.5,
        weight_decay: float = 1e-4,
        batch: int = 512,
        bias: BiasSchedule | None = None,
        attack: Attack | None = None,
        microbatch: int | None = None,
        dataset_size: int | None = None,
        optimizer: Optimizer = optax.sgd,
        rank: int | None = None,
    ):
        for label, value in (("steps", steps), ("batch", batch)):
            if int(value) != value or value < 1:
                raise ValueError(f"{name} phase: {label} must be an integer ≥ 1, got {value}.")
        if not learning_rate > 0:
            raise ValueError(f"{name} phase: learning_rate must be > 0, got {learning_rate}.")
        if not weight_decay >= 0:
            raise ValueError(f"{name} phase: weight_decay must be ≥ 0, got {weight_decay}.")
        self.microbatch = batch if microbatch is None else int(microbatch)
        if self.microbatch < 1 or batch % self.microbatch:
            raise ValueError(
                f"{name} phase: microbatch must divide batch={batch}, got {microbatch}."
            )
        if dataset_size is not None and dataset_size < 1:
            raise ValueError(f"{name} phase: dataset_size must be ≥ 1, got {dataset_size}.")
        if rank is not None and (int(rank) != rank or rank < 1):
            raise ValueError(f"{name} phase: rank must be an integer ≥ 1, got {rank}.")
        self.name = name
        self.steps = jnp.asarray(steps, jnp.int32)
        self.learning_rate = jnp.asarray(learning_rate, jnp.float32)
        self.weight_decay = jnp.asarray(weight_decay, jnp.float32)
        self.bias = Frozen() if bias is None else bias
        self.attack = attack
        self.batch, self.dataset_size, self.optimizer = int(batch), dataset_size, optimizer
        self.rank = None if rank is None else int(rank)


def CleanPhase(steps: int, **settings: Any) -> Phase:  # noqa: N802 - reads as a class to its users
    """Training on the samples as they are. [P]

    Args:
        steps: gradient steps.
        **settings: ``learning_rate`` η (default 0.5), ``weight_decay`` λ (1e-4), ``batch`` (512),
            ``bias`` (a `BiasSchedule`; frozen by default), ``microbatch``
            (gradient accumulation in chunks of this many samples; must divide ``batch``),
            ``dataset_size`` (N: train on N fixed samples, drawn with replacement, or all of them at
            once if ``batch`` ≥ N; None: fresh samples each step), ``optimizer`` (η ↦ an optax
            transformation; plain gradient descent by default), ``rank`` (r: descend on A [m, r] and
            B [r, d] of W + AB instead of on W; see `featpur_sim.low_rank`. The objective is the
            same, so weight decay acts on W + AB).

    Raises:
        ValueError: a setting is out of range.
    """
    return Phase("clean", steps, **settings)


def AdversarialPhase(attack: Attack, steps: int, **settings: Any) -> Phase:  # noqa: N802
    """Training on x + A(f, x, y); gradients do not flow through the attack A. [P]

    Args:
        attack: usually `FGM`.
        steps: gradient steps.
        **settings: as for `CleanPhase`.
    """
    return Phase("adversarial", steps, attack=attack, **settings)
