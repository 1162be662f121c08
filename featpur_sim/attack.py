"""Attacks: perturbations δ of norm at most τ that try to flip the label (docs/theory.md §3, §5).

An attack maps (model, batch) to δ and sees the model only as a
`Classifier`. ``radius`` is data, so one compiled program serves
every radius; ``steps`` and ``restarts`` are static.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._types import Array, Float, PRNGKey
from featpur_sim.classifier import Classifier
from featpur_sim.distribution import Batch, SparseCoding
from featpur_sim.threat import Ball, Norm, ball


class Attack(eqx.Module):
    """A rule that perturbs labelled samples inside a norm ball."""

    ball: Ball

    # A worst-case attacker may also leave a sample alone; random noise may not.
    worst_case: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        """δ with ‖δ‖ ≤ radius for each sample of the batch."""


class FGM(Attack):
    """Fast gradient method: δ = −y·argmax_{‖δ‖≤τ} ⟨∇ₓf, δ⟩; δ = 0 where ∇ₓf = 0. [P]

    ℓ2: −yτ∇f/‖∇f‖₂. ℓ∞ (FGSM): −yτ sign ∇f.
    """

    def __init__(self, radius: float | Array, norm: Norm = "l2"):
        self.ball = ball(norm, radius)

    def __call__(self, model, batch, *, key):
        _, gradient = model.value_and_input_gradient(batch.x, key=key)
        return -batch.y[:, None] * self.ball.maximise(gradient)


class PGD(Attack):
    """Projected gradient descent on y f with restarts; the best iterate is kept.

    The first start is δ = 0, the others are random points of the ball. Step sizes fall from
    ``step_size``·τ to a twentieth of it along a half cosine.

    Args:
        radius: τ, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        steps: gradient steps per start (static).
        restarts: number of starts (static).
        step_size: first step as a fraction of the radius.
        on_support: move only the coordinates j with z_j ≠ 0 (docs/theory.md §5.2). Needs M = I.

    Raises:
        ValueError: steps or restarts below 1, or step_size ≤ 0.
    """

    steps: int = eqx.field(static=True)
    restarts: int = eqx.field(static=True)
    step_size: Array
    on_support: bool = eqx.field(static=True)

    def __init__(
        self,
        radius: float | Array,
        norm: Norm = "l2",
        *,
        steps: int = 40,
        restarts: int = 1,
        step_size: float = 0.5,
        on_support: bool = False,
    ):
        if steps < 1 or restarts < 1:
            raise ValueError(f"PGD needs steps ≥ 1 and restarts ≥ 1, got {steps} and {restarts}.")
        if not step_size > 0:
            raise ValueError(f"PGD needs step_size > 0, got {step_size}.")
        self.ball = ball(norm, radius)
        self.steps, self.restarts, self.on_support = steps, restarts, on_support
        self.step_size = jnp.asarray(step_size, jnp.float32)

    def __call__(self, model, batch, *, key):
        if self.on_support and batch.z.shape != batch.x.shape:
            raise ValueError("PGD(on_support=True) needs M = I: evaluate problem.gauge().")
        mask = (batch.z != 0).astype(batch.x.dtype) if self.on_support else 1.0

        def start(carry, restart):
            restart_key = jax.random.fold_in(key, restart)
            random = self.ball.project(self.ball.random(restart_key, batch.x.shape) * mask)
            delta = jnp.where(restart == 0, 0.0, random)
            return self._descend(model, batch, mask, delta, carry, restart_key), None

        best = (jnp.full(batch.y.shape, jnp.inf, batch.x.dtype), jnp.zeros_like(batch.x))
        (_, delta), _ = lax.scan(start, best, jnp.arange(self.restarts))
        return delta

    def _descend(self, model, batch, mask, delta, best, key):
        """One start; returns the better of its best iterate and ``best``, sample by sample."""

        def keep_better(best, margin, delta):
            better = margin < best[0]
            return jnp.where(better, margin, best[0]), jnp.where(better[:, None], delta, best[1])

        def step(carry, t):
            delta, best = carry
            value, gradient = model.value_and_input_gradient(
                batch.x + delta, key=jax.random.fold_in(key, t)
            )
            best = keep_better(best, batch.y * value, delta)
            cosine = 0.5 * (1 + jnp.cos(jnp.pi * t / self.steps))
            move = self.step_size * (0.05 + 0.95 * cosine) * self.ball.maximise(gradient * mask)
            return (self.ball.project(delta - batch.y[:, None] * move), best), None

        (delta, best), _ = lax.scan(step, (delta, best), jnp.arange(self.steps))
        value = model(batch.x + delta, key=jax.random.fold_in(key, self.steps))
        return keep_better(best, batch.y * value, delta)


class DenseMixture(Attack):
    """δ = −yτ·Mw*/‖Mw*‖₂ (ℓ∞: −yτ sign(Mw*)): one direction for all, no look at the model. [P]

    Args:
        radius: τ.
        direction: Mw*, shape [d]; see `of`.
        norm: ``"l2"`` or ``"linf"``.
    """

    direction: Float[Array, " d"]

    def __init__(self, radius: float | Array, direction: Float[Array, " d"], norm: Norm = "l2"):
        self.ball = ball(norm, radius)
        self.direction = direction

    @classmethod
    def of(cls, problem: SparseCoding, radius: float | Array, norm: Norm = "l2") -> "DenseMixture":
        """The attack along the dense mixture of ``problem``."""
        return cls(radius, problem.dense_direction(), norm)

    def __call__(self, model, batch, *, key):
        return -batch.y[:, None] * self.ball.maximise(self.direction[None])


class RandomNoise(Attack):
    """A random perturbation of norm exactly τ: the control of claim C11."""

    worst_case: ClassVar[bool] = False

    def __init__(self, radius: float | Array, norm: Norm = "l2"):
        self.ball = ball(norm, radius)

    def __call__(self, model, batch, *, key):
        return self.ball.random(key, batch.x.shape)


class Transfer(Attack):
    """The perturbation that ``attack`` finds against another model (claim C10)."""

    source: Classifier
    attack: Attack

    def __init__(self, source: Classifier, attack: Attack):
        self.ball = attack.ball
        self.source, self.attack = source, attack

    def __call__(self, model, batch, *, key):
        return self.attack(self.source, batch, key=key)
