"""One step of gradient descent on one network (docs/theory.md §3)."""

import enum
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax

from featpur_sim._ground.types import Array, Int
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.losses import decay_gradient, loss_sum_and_gradient
from featpur_sim.models.trainable import AnyTrainable, Trainable, trained_arrays, with_trained
from featpur_sim.training.bias import Progress
from featpur_sim.training.low_rank import LowRankUpdate
from featpur_sim.training.phase import Phase


class Status(enum.IntEnum):
    """How a seed's training stands."""

    OK = 0
    DEAD = 1
    """No neuron is active on the whole batch: only weight decay acts."""
    DIVERGED = 2
    """The loss or a next trained array is not finite; all stay as they were before."""


class State(eqx.Module):
    """What a step changes."""

    network: Trainable
    low_rank: LowRankUpdate | None
    """What makes up the weights in a phase with ``rank``; None where they are free."""
    optimizer_state: Any
    status: Int[Array, "*S"]
    status_step: Int[Array, "*S"]
    """Step of the phase at which the present status began."""


def start_phase(
    network: Trainable, phase: Phase, keys: Array, before: State | None = None
) -> State:
    """The state at step 0 of a phase: a fresh optimiser; a diverged run stays diverged.

    Args:
        network: the networks of S runs.
        phase: their phases.
        keys: the runs' keys in this phase, shape [S]; they draw B of a `LowRankUpdate`.
        before: their states at the end of the phase before; None at the start.
    """

    def fresh(rate, arrays, key):
        low_rank = None
        if phase.rank is not None:
            low_rank = LowRankUpdate(arrays, phase.rank, key=jax.random.fold_in(key, _FACTORS))
        trained = arrays if low_rank is None else low_rank.factors
        return low_rank, phase.optimizer(rate).init(trained)

    arrays = trained_arrays(network)
    low_rank, optimizer_state = jax.vmap(fresh)(phase.learning_rate, arrays, keys)
    zero = jnp.zeros(network.weights.shape[0], jnp.int32)
    status = zero if before is None else before.status
    since = zero if before is None else before.status_step
    return State(network, low_rank, optimizer_state, status, since)


# Stream of a phase's key; steps use 0, 1, 2, …, and the data the very last one.
_FACTORS = 2**31 - 2


def with_bias(network: AnyTrainable, problem, phase: Phase, step) -> AnyTrainable:
    """The network with the threshold that the phase's schedule sets at this step."""
    time = phase.learning_rate * step / network.d
    coordinates = problem.coordinates(network.weights)
    bias = phase.bias(Progress(step, phase.steps, time), network.bias, coordinates)
    return eqx.tree_at(lambda n: n.bias, network, bias)


def gradient_step(state: State, problem, phase: Phase, data: Batch | None, key, t):
    """One gradient step; a run that leaves the finite numbers keeps its arrays and says so."""
    network = with_bias(state.network, problem, phase, t)
    loss, gradient = _loss_and_gradient(network, problem, phase, data, jax.random.fold_in(key, t))
    total = jax.tree.map(
        lambda push, pull: push + phase.weight_decay * pull, gradient, decay_gradient(network)
    )
    arrays, low_rank, optimizer_state = _descend(state, phase, total)
    pushed, broken = _pushed_and_broken(gradient, arrays)
    # A gradient is also 0 where every margin is so large that its slope underflows: loss 0 then.
    dead = ~pushed & (loss > 0)
    # The loss alone would not tell: a NaN pre-activation passes no threshold, so f = 0 there.
    diverged = ~jnp.isfinite(loss) | broken | (state.status == Status.DIVERGED)
    arrays, low_rank = jax.tree.map(
        lambda old, new: jnp.where(diverged, old, new),
        (trained_arrays(state.network), state.low_rank),
        (arrays, low_rank),
    )
    status = jnp.where(diverged, Status.DIVERGED, jnp.where(dead, Status.DEAD, Status.OK))
    status = status.astype(jnp.int32)
    since = jnp.where(status == state.status, state.status_step, t)
    network = with_trained(network, arrays)
    return State(network, low_rank, optimizer_state, status, since), loss


def _descend(state: State, phase: Phase, gradient):
    """One optimiser step from the gradient: arrays, low-rank factors, optimiser's state."""
    optimizer = phase.optimizer(phase.learning_rate)
    arrays, low_rank = trained_arrays(state.network), state.low_rank
    if low_rank is None:
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, arrays)
        return optax.apply_updates(arrays, updates), None, optimizer_state
    updates, optimizer_state = optimizer.update(
        low_rank.pull_back(gradient), state.optimizer_state, low_rank.factors
    )
    factors = optax.apply_updates(low_rank.factors, updates)
    low_rank = eqx.tree_at(lambda update: update.factors, low_rank, factors)
    return low_rank.weights, low_rank, optimizer_state


def _pushed_and_broken(gradient, arrays):
    """Whether the gradient is not 0 somewhere, and whether the next arrays are not all finite."""

    def of_one(gradient, array):
        rest = tuple(range(1, array.ndim))
        signs = jnp.atleast_1d(gradient != 0), jnp.atleast_1d(~jnp.isfinite(array))
        # One reduction for both, so that devices which share the neurons exchange one message.
        return jnp.any(jnp.stack([jnp.any(sign, rest) for sign in signs]), -1)

    found = jax.tree.leaves(jax.tree.map(of_one, gradient, arrays))
    return functools.reduce(jnp.logical_or, found)


def _loss_and_gradient(network, problem, phase: Phase, data, key):
    """Mean loss and its gradient over one batch, in chunks of ``phase.microbatch`` samples.

    Rows are numbered across chunks, so the samples are the same however the batch is cut.
    """
    sample_key, attack_key, noise_key = jax.random.split(key, 3)

    def chunk(i):
        size = phase.microbatch
        batch = _draw(problem, data, sample_key, size, i * size, phase.batch)
        x = batch.x
        if phase.attack is not None:
            x = x + phase.attack(network, batch, key=jax.random.fold_in(attack_key, i))
        noise = jax.random.fold_in(noise_key, i)
        return loss_sum_and_gradient(network, x, batch.y, loss=phase.loss, key=noise)

    if phase.microbatch == phase.batch:
        loss, gradient, count = chunk(0)
    else:
        none = jax.tree.map(jnp.zeros_like, trained_arrays(network))
        zero = (jnp.float32(0), none, jnp.int32(0))
        (loss, gradient, count), _ = lax.scan(
            lambda sums, i: (jax.tree.map(jnp.add, sums, chunk(i)), None),
            zero,
            jnp.arange(phase.batch // phase.microbatch),
        )
    # One reciprocal, then products: left to itself, XLA turns the quotient of an array and a number
    # into either, and a run's last bit would depend on how many devices it was compiled for.
    scale = 1 / jnp.maximum(count, 1).astype(network.weights.dtype)
    return loss * scale, jax.tree.map(lambda total: total * scale, gradient)


def _draw(problem, data: Batch | None, key, size: int, start, batch: int) -> Batch:
    if data is None:
        return problem.sample(key, size, start=start)
    available = data.y.shape[0]
    if batch >= available:
        index = start + jnp.arange(size)
        chosen = jax.tree.map(lambda leaf: leaf[jnp.minimum(index, available - 1)], data)
        return chosen._replace(y=jnp.where(index < available, chosen.y, 0))
    index = lax.dynamic_slice_in_dim(jax.random.randint(key, (batch,), 0, available), start, size)
    return jax.tree.map(lambda leaf: leaf[index], data)
