"""Adversarial training of the competitors (docs/theory.md §6).

The logistic loss, which is convex for a model linear in its parameters, then the sigmoid of −y f,
which is closer to the 0-1 loss that robust accuracy counts. Every competitor gets both; the member
kept is the best on tuning points.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.accuracy import robust_accuracy
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.losses import logistic_loss

Surrogate = Literal["logistic", "ramp"]
Model = TypeVar("Model", bound=Classifier)


@steady
def fit(
    model: Model,
    where: Callable[[Model], Any],
    problem: SparseCoding,
    attack: Attack | None,
    *,
    key: PRNGKey,
    surrogate: Surrogate = "logistic",
    steps: int = 300,
    batch: int = 512,
    learning_rate: float = 0.05,
) -> Model:
    """Adam with a cosine rate on fresh samples; no gradient flows through the attack.

    Args:
        model: where to start.
        where: model → its trained arrays; the others stay.
        problem: the data.
        attack: perturbs every batch; None for clean training.
        key: names the samples.
        surrogate: ``"logistic"``: log(1 + e^{−yf}); ``"ramp"``: 1/(1 + e^{yf}).
        steps: of Adam.
        batch: fresh samples a step.
        learning_rate: at the start.

    Returns:
        The model after the last step.

    Raises:
        ValueError: unknown surrogate, or a number out of range.
    """
    if surrogate not in ("logistic", "ramp"):
        raise ValueError(f"surrogate must be 'logistic' or 'ramp', got {surrogate!r}.")
    steps, batch = count("steps", steps), count("batch", batch)
    number("learning_rate", learning_rate, above=0)
    frozen = jax.tree.map(lambda _: False, model)
    trained = eqx.tree_at(where, frozen, jax.tree.map(lambda _: True, where(frozen)))
    return _descend(model, trained, problem, attack, key, learning_rate, surrogate, steps, batch)


@eqx.filter_jit
def _descend(model, trained, problem, attack, key, learning_rate, surrogate, steps, batch):
    # Made inside: an optimiser from outside is a new set of functions, hence a new program.
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    moving, fixed = eqx.partition(model, trained)

    def loss(moving, x, sample):
        margin = sample.y * eqx.combine(moving, fixed)(x)
        value = logistic_loss(margin) if surrogate == "logistic" else jax.nn.sigmoid(-margin)
        return jnp.sum(jnp.where(sample.labelled, value, 0)) / jnp.sum(sample.labelled)

    def step(t, carry):
        moving, state = carry
        sample_key, attack_key = jax.random.split(jax.random.fold_in(key, t))
        sample = problem.sample(sample_key, batch)
        x = sample.x
        if attack is not None:
            x = x + attack(eqx.combine(moving, fixed), sample, key=attack_key)
        updates, state = optimizer.update(jax.grad(loss)(moving, x, sample), state)
        return eqx.apply_updates(moving, updates), state

    moving, _ = lax.fori_loop(0, steps, step, (moving, optimizer.init(moving)))
    return eqx.combine(moving, fixed)


@steady
def best_member(
    members: Mapping[str, Model],
    problem: SparseCoding,
    attack: Attack,
    *,
    key: PRNGKey,
    n: int = 1000,
) -> tuple[str, Model]:
    """The member with the highest accuracy under ``attack`` on points of its own.

    Args:
        members: name → model; the first wins a tie.
        problem: the data.
        attack: what ranks them.
        key: names the tuning points.
        n: tuning points.

    Returns:
        Its name and the member.
    """
    scores = {
        name: robust_accuracy(model, problem, attack, key=key, n=n).value
        for name, model in members.items()
    }
    best = max(scores, key=lambda name: scores[name])
    return best, members[best]
