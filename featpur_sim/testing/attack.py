"""The contract of `featpur_sim.attacks.Attack`: perturbations inside a norm ball."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.balls import Ball, L2Ball, LinfBall
from featpur_sim.attacks.gradient import Attack, require_attack
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU, initialise
from featpur_sim.testing._contract import Contract, close
from featpur_sim.training.loop import replicate
from featpur_sim.training.stacking import stack

_NEURONS = 24
_SHAPE = "Return one perturbation per input, in the shape and dtype of batch.x"
_INSIDE = "Project what you return: self.ball.project(delta)"
_FINITE = "Keep rows with y = 0, and gradients that are 0, from 0/0: self.ball.maximise does"


@steady
def check_attack(
    attack: Any,
    model: Classifier | None = None,
    batch: Batch | None = None,
    *,
    key: PRNGKey,
    across_rows: bool = False,
) -> None:
    """Check an attack on a batch, some of whose rows have no label.

    That δ, traced, for two runs at once, has the shape and dtype of the inputs, is finite and no
    longer than the radius; that a key names it; that no row's δ hangs on another row; that a
    network whose neurons are all silent gives no NaN; and that an attack that counts as worst
    case (``worst_case``) does not go up where it should go down: on a linear model it must not
    raise the mean margin by more than half of what any δ of its radius could.

    A norm in float32 is a sum of d squares, rounded by at most d units in the last place, half of
    which the root keeps: a δ may be longer than the radius by (d/2 + 4)·2⁻²³ of it. [D]

    Args:
        attack: what to check, `FGM(0.1)` say, or one of your own.
        model: what it attacks; by default a `SymmetricReLU` with 24 neurons.
        batch: the inputs; by default 12 samples of a `SparseCoding` with d = 16, as they come. In
            either, the first row loses its label.
        key: PRNG key that the attack gets.
        across_rows: True for an attack whose rows depend on each other on purpose: one δ for the
            whole batch, say.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim import FGM
    >>> check_attack(FGM(0.1), key=jax.random.key(0))
    """
    require_attack("attack", attack)
    of = Contract("attack", attack)
    batch = default_problem().sample(jax.random.key(0), 12) if batch is None else batch
    batch = batch._replace(y=batch.y.at[0].set(0.0))
    if model is None:
        model = initialise(batch.x.shape[1], _NEURONS, sigma_0=0.3, bias=0.2, key=jax.random.key(1))
    run = _program(of, attack, key)
    moved = jax.tree.map(lambda leaf: leaf.at[-1].set(-leaf[-2]), batch)
    delta, other = run("δ", [model, model], [batch, moved])
    again, _ = _program(of, attack, key)("δ", [model, model], [batch, moved])
    of.require(
        close(delta, again),
        "two calls with one key gave two different δ",
        "Draw random numbers from the key that is given, by jax.random",
    )
    of.require(
        across_rows or close(delta[:-1], other[:-1]),
        "another last row changed the δ of the rows before it",
        "Treat every row by itself, or say across_rows=True if they share a δ on purpose",
    )
    silent, linear, w = _plain_networks(batch)
    delta, _ = run("δ on a network without an active neuron", [silent, silent], [batch, batch])
    delta, _ = run("δ on a linear model", [linear, linear], [batch, batch])
    if attack.worst_case:
        _check_direction(of, attack, batch, delta, w)


def default_problem() -> SparseCoding:
    """Small enough for checks of a second."""
    return SparseCoding(d=16, k=3, sigma_x=0.3)


def _program(of: Contract, attack: Attack, key: PRNGKey) -> Callable[..., list[np.ndarray]]:
    """The attack on two networks and batches in one program, as training runs it; each δ looked at.

    A program of its own: what Python decides, it decides anew.
    """

    @eqx.filter_jit
    def both(attacks: Attack, models: Classifier, batches: Batch) -> Any:
        def one(attack: Attack, model: Classifier, batch: Batch) -> Any:
            return attack(model, batch, key=key)

        return eqx.filter_vmap(one)(attacks, models, batches)

    def run(what: str, models: list[Classifier], batches: list[Batch]) -> list[np.ndarray]:
        given = replicate(attack, 2), stack(models), jax.tree.map(lambda *b: jnp.stack(b), *batches)
        found = of.call("a call, for two runs at once,", both, *given, fix=_SHAPE)
        shape = tuple(np.shape(found))[1:]
        good = batches[0].x.shape
        of.require(shape == good, f"{what} has shape {shape}, not {good}", _SHAPE)
        pairs = zip(found, batches, strict=True)
        return [_looked_at(of, attack, what, delta, batch) for delta, batch in pairs]

    return run


def _looked_at(of: Contract, attack: Attack, what: str, delta: Any, batch: Batch) -> np.ndarray:
    """δ in NumPy, if it may be one."""
    of.require(delta.dtype == batch.x.dtype, f"{what} has dtype {delta.dtype}", _SHAPE)
    found = np.asarray(delta)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    where = "rows without a label" if set(bad) <= set(np.flatnonzero(batch.y == 0)) else "rows"
    of.require(not len(bad), f"{what} is not finite in {len(bad)} {where}", _FINITE)
    radius = float(attack.ball.radius)
    longest = float(_norm(attack.ball, found).max())
    room = 1 + (found.shape[1] / 2 + 4) * 2.0**-23
    of.require(
        longest <= radius * room, f"{what} is {longest:.6g} long at radius {radius:g}", _INSIDE
    )
    return found


def _norm(ball: Ball, delta: np.ndarray) -> np.ndarray:
    """In float64, for the balls whose norm is known."""
    if isinstance(ball, L2Ball):
        return np.linalg.norm(delta.astype(float), axis=1)
    if isinstance(ball, LinfBall):
        return np.abs(delta).max(axis=1)
    return np.asarray(ball.norm(jnp.asarray(delta)))


def _plain_networks(batch: Batch) -> tuple[SymmetricReLU, SymmetricReLU, np.ndarray]:
    """One that is 0 everywhere, as is its gradient; ⟨w, x⟩, w the mean of y x; and w."""
    w = jnp.mean(batch.y[:, None] * batch.x, axis=0)
    weights = jnp.zeros((_NEURONS, len(w))).at[0].set(w)
    # Without a threshold the network is linear.
    return SymmetricReLU(weights, 1e6), SymmetricReLU(weights, 0.0), np.asarray(w, float)


def _check_direction(
    of: Contract, attack: Attack, batch: Batch, delta: np.ndarray, w: np.ndarray
) -> None:
    """Whether δ goes down on ⟨w, x⟩."""
    y = np.asarray(batch.y, float)
    rise = float(np.mean(y * (delta.astype(float) @ w)))
    strongest = np.asarray(attack.ball.maximise(jnp.asarray(w, jnp.float32)[None]), float)[0]
    most = float(np.abs(y).mean() * (strongest @ w))
    of.require(
        rise <= most / 2,
        f"on a linear model it raises the mean margin by {rise:.3g}, of {most:.3g} possible",
        "Go against the label, −y·∇f, or set worst_case = False if it is no worst case",
    )
