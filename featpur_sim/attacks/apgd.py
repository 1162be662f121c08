"""APGD: projected gradient descent that sets its own step size (docs/theory.md §8).

F. Croce and M. Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks*, ICML 2020, arXiv:2003.01690, section 3 and algorithm 1: momentum, steps
that are halved at checkpoints when progress stalls, and a return to the best point whenever they
are.

The loss is the margin y f itself. For two classes every loss of the literature is a monotone
function of it with the same gradient direction, and the steps are normalised, so the attack is
invariant to the scale of f and cannot be blinded by a saturated loss.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.checks import count
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, Int, PRNGKey, Real, Scalar
from featpur_sim.attacks.balls import ball
from featpur_sim.attacks.gradient import Attack, Found, keep_better
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier

# The constants of the paper (its section 3): first step in radii, weight of the plain step against
# the momentum, least fraction of steps that must succeed.
FIRST_STEP, PLAIN, SUCCESS = 2.0, 0.75, 0.75


def checkpoints(steps: int) -> list[int]:
    """Iterations at which the step size is reviewed.

    ⌈p_j·steps⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    # In hundredths: ⌈0.57·100⌉ is 57, which binary fractions would miss.
    found: list[int] = []
    before, now = 0, 22
    while now <= 100:
        found.append(-(-now * steps // 100))
        before, now = now, now + max(now - before - 3, 6)
    return sorted({at for at in found if at < steps})


class _State(eqx.Module):
    """One descent in progress; every field has a leading axis over samples."""

    delta: Float[Array, "n d"]
    previous: Float[Array, "n d"]
    gradient: Float[Array, "n d"]
    margin: Float[Array, " n"]
    best: Found
    best_gradient: Float[Array, "n d"]
    step: Float[Array, " n"]
    # Since the last checkpoint: successful steps; the best margin and whether the step was halved.
    successes: Float[Array, " n"]
    reviewed_margin: Float[Array, " n"]
    halved: Bool[Array, " n"]


class APGD(Attack):
    """Auto-PGD on y f with restarts; the best point is kept. [P: Croce & Hein 2020]

    The first start is δ = 0, the others are random points of the sphere ‖δ‖ = τ.

    Args:
        radius: τ, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        steps: gradient steps per start (static).
        restarts: number of starts (static).

    Raises:
        ValueError: steps or restarts below 1; unknown norm; negative or non-finite radius.

    >>> import jax
    >>> from featpur_sim import SparseCoding, pure_network, robust_accuracy
    >>> problem = SparseCoding(d=64, k=5, sigma_x=0.3)
    >>> reference = pure_network(problem.wstar, bias=0.2)
    >>> score = robust_accuracy(reference, problem, APGD(0.1), key=jax.random.key(1), n=500)
    >>> score.low < score.value < score.high
    True
    """

    steps: int = eqx.field(static=True)
    restarts: int = eqx.field(static=True)

    def __init__(self, radius: Real, norm: Norm = "l2", *, steps: int = 100, restarts: int = 1):
        self.ball = ball(norm, radius)
        self.steps, self.restarts = count("steps", steps), count("restarts", restarts)

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        def start(best: Found, restart: Int[Array, ""]) -> tuple[Found, None]:
            restart_key = jax.random.fold_in(key, restart)
            delta = jnp.where(restart == 0, 0.0, self.ball.random(restart_key, batch.x.shape))
            found = self.descend(model, batch, delta, key=restart_key)
            return keep_better(best, *found), None

        nothing = Found(jnp.full(batch.y.shape, jnp.inf, batch.x.dtype), jnp.zeros_like(batch.x))
        best, _ = lax.scan(start, nothing, jnp.arange(self.restarts))
        return best.delta

    @steady
    def descend(
        self, model: Classifier, batch: Batch, start: Float[Array, "n d"], *, key: PRNGKey
    ) -> Found:
        """The best point of one descent from ``start``, which is projected first.

        Args:
            model: any classifier.
            batch: n labelled samples.
            start: δ to begin with.
            key: for randomised models.

        Returns:
            The least y f seen and its δ, sample by sample; ``start`` itself is among those seen.
        """
        delta = self.ball.project(start)
        value, gradient = model.value_and_input_gradient(
            batch.x + delta, key=jax.random.fold_in(key, 0)
        )
        margin = batch.y * value
        full = jnp.full_like(margin, FIRST_STEP)
        nothing = jnp.zeros_like(margin)
        state = _State(
            delta=delta,
            previous=delta,
            gradient=gradient,
            margin=margin,
            best=Found(margin, delta),
            best_gradient=gradient,
            step=full,
            successes=nothing,
            reviewed_margin=margin,
            halved=jnp.zeros(margin.shape, bool),
        )
        due = checkpoints(self.steps)
        # Steps in the period that each checkpoint closes; 0 where nothing is reviewed.
        period = np.zeros(self.steps, np.float32)
        period[np.array(due, int) - 1] = np.diff([0, *due])

        def step(state: _State, at: tuple[Int[Array, ""], Scalar]) -> tuple[_State, None]:
            t, length = at
            state = self._move(model, batch, state, t, jax.random.fold_in(key, t + 1))
            state = cast(_State, lax.cond(length > 0, _review, _carry_on, state, length))
            return state, None

        state, _ = lax.scan(step, state, (jnp.arange(self.steps), jnp.asarray(period)))
        return state.best

    def _move(
        self, model: Classifier, batch: Batch, state: _State, t: Int[Array, ""], key: PRNGKey
    ) -> _State:
        """Algorithm 1, lines 6-9: a normalised step, momentum, projection, bookkeeping."""
        y = batch.y[:, None]
        plain = self.ball.project(
            state.delta - y * state.step[:, None] * self.ball.maximise(state.gradient)
        )
        moved = (
            state.delta
            + PLAIN * (plain - state.delta)
            + (1 - PLAIN) * (state.delta - state.previous)
        )
        # The first step has no momentum.
        delta = jnp.where(t == 0, plain, self.ball.project(moved))
        value, gradient = model.value_and_input_gradient(batch.x + delta, key=key)
        margin = batch.y * value
        better = margin < state.best.margin
        return _State(
            delta=delta,
            previous=state.delta,
            gradient=gradient,
            margin=margin,
            best=keep_better(state.best, margin, delta),
            best_gradient=jnp.where(better[:, None], gradient, state.best_gradient),
            step=state.step,
            successes=state.successes + (margin < state.margin),
            reviewed_margin=state.reviewed_margin,
            halved=state.halved,
        )


def _carry_on(state: _State, length: Scalar) -> _State:
    """Between checkpoints."""
    return state


def _review(state: _State, length: Scalar) -> _State:
    """At a checkpoint: halve the step and return to the best point where progress has stalled.

    Stalled means that fewer than 3/4 of the steps succeeded (condition 1), or that neither the step
    size nor the best margin has changed over the whole period (condition 2).
    """
    few = state.successes < SUCCESS * length
    idle = ~state.halved & (state.reviewed_margin <= state.best.margin)
    stalled = few | idle
    at = stalled[:, None]
    delta = jnp.where(at, state.best.delta, state.delta)
    return _State(
        delta=delta,
        # Resumed from the best point without the momentum that led away from it.
        previous=jnp.where(at, delta, state.previous),
        gradient=jnp.where(at, state.best_gradient, state.gradient),
        margin=jnp.where(stalled, state.best.margin, state.margin),
        best=state.best,
        best_gradient=state.best_gradient,
        step=jnp.where(stalled, state.step / 2, state.step),
        successes=jnp.zeros_like(state.successes),
        reviewed_margin=state.best.margin,
        halved=stalled,
    )
