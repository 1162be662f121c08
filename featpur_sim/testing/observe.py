"""The contract of an observer: what `train` calls at every record point."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect, said
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.gradient import FGM
from featpur_sim.data.problem import Problem
from featpur_sim.models.symmetric_relu import SymmetricReLU, initialise
from featpur_sim.testing._contract import Contract
from featpur_sim.testing.attack import default_problem
from featpur_sim.training.loop import Moment, train
from featpur_sim.training.phase import AdversarialPhase, CleanPhase

_NUMBERS = (
    "Return a mapping from names to numbers, {'largest': jnp.abs(moment.network.weights).max()}"
)
_FIXED = "Return the same names, with the same shapes, at every record of every phase"


@steady
def check_observe(
    observe: Any,
    problem: Problem | None = None,
    network: SymmetricReLU | None = None,
    *,
    key: PRNGKey,
) -> None:
    """Check an observer in a clean and an adversarial phase, and in a training run of two steps.

    That it maps names to numbers or arrays of numbers, under names that training does not record
    itself; that names and shapes are the same in both phases; that it draws only from the key of
    the moment; and that it can be traced, as it is in `train`.

    Args:
        observe: `Moment` ↦ named numbers.
        problem: by default a `SparseCoding` with d = 16.
        network: where training starts; by default 24 neurons.
        key: PRNG key of the short run.

    Raises:
        ConfigError: the contract is broken.

    >>> check_observe(lambda moment: {"b": moment.network.bias}, key=jax.random.key(0))
    """
    expect("observe", observe, Callable, "a function of one Moment")
    of = Contract("observe", observe)
    problem = default_problem() if problem is None else problem
    if network is None:
        network = initialise(16, 24, sigma_0=0.3, key=jax.random.key(1))
    phases = [CleanPhase(2, batch=8), AdversarialPhase(FGM(0.1), 2, batch=8)]
    batch = problem.sample(key, 16)
    clean, adversarial = (Moment(network, problem, batch, phase, key) for phase in phases)
    found = _seen(of, observe, clean)
    again, attacked = _seen(of, observe, clean), _seen(of, observe, adversarial)
    of.require(
        again.keys() == found.keys()
        and all(np.array_equal(found[n], again[n], equal_nan=True) for n in found),
        "two calls on one moment gave two different answers",
        "Draw random numbers from moment.key, by jax.random",
    )
    one, other = ({(n, v.shape) for n, v in seen.items()} for seen in (found, attacked))
    differing = ", ".join(sorted(repr(name) for name, _ in one ^ other))
    of.require(one == other, f"it gives {differing} in one kind of phase alone", _FIXED)

    def short() -> Any:
        given = problem, network, phases[:1]
        return train(*given, key=key, observe=observe, records=1, test_samples=16)

    try:
        records = of.call("a call in training", short, fix=_FIXED).records
    except ConfigError as error:
        cause = error.__cause__
        # Training's own word about a name or a value says more.
        raise cause if isinstance(cause, ConfigError) else error from None
    for name, value in found.items():
        shape = records[name].shape[1:]
        good = value.shape
        of.require(shape == good, f"{name!r} has shape {shape} in training, not {good}", _FIXED)


def _seen(of: Contract, observe: Any, moment: Moment) -> dict[str, np.ndarray]:
    """What an observer returns, in a program of its own, if all are names and numbers."""
    program = eqx.filter_jit(lambda moment: observe(moment))
    found = of.call(f"a call in the {moment.phase.name} phase", program, moment, fix=_NUMBERS)
    of.require(isinstance(found, Mapping), f"it returns {said(found)}", _NUMBERS)
    for name, value in found.items():
        of.require(isinstance(name, str), f"it gives a number the name {name!r}", _NUMBERS)
        numeric = np.asarray(value).dtype.kind in "biuf"
        of.require(numeric, f"it gives {said(value)} for {name!r}", _NUMBERS)
    return {name: np.asarray(value) for name, value in found.items()}
