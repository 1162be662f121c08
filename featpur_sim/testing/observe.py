"""The contract of an observer: what `train` calls at every record point."""

from collections.abc import Callable, Mapping
from typing import Any

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
    """Check an observer in one step of a clean and one of an adversarial phase.

    That it maps names to numbers or arrays of numbers, under names that training does not record
    itself; that names and shapes are the same at every record; that it draws only from the key of
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
    shapes = []
    for phase in phases:
        moment = Moment(network, problem, batch, phase, key)
        found, again = (of.call(f"a call in the {phase.name} phase", observe, moment, fix=_NUMBERS)
                        for _ in range(2))  # fmt: skip
        shapes.append(_shapes(of, found))
        of.require(
            all(np.array_equal(found[n], again[n], equal_nan=True) for n in found),
            "two calls on one moment gave two different answers",
            "Draw random numbers from moment.key",
        )
    of.require(shapes[0] == shapes[1], f"it gives {_differing(*shapes)} in one phase alone", _FIXED)

    def short() -> Any:
        return train(problem, network, phases, key=key, observe=observe, records=1, test_samples=16)

    try:
        records = of.call("a call in training", short, fix=_FIXED).records
    except ConfigError as error:
        cause = error.__cause__
        # Training's own word about a name or a value says more.
        raise cause if isinstance(cause, ConfigError) else error from None
    for name, shape in shapes[0].items():
        found = records[name].shape[1:]
        of.require(found == shape, f"{name!r} has shape {found} in training, not {shape}", _FIXED)


def _shapes(of: Contract, found: Any) -> dict[str, tuple[int, ...]]:
    """Name → shape, if all are names and numbers."""
    of.require(isinstance(found, Mapping), f"it returns {said(found)}", _NUMBERS)
    for name, value in found.items():
        of.require(isinstance(name, str), f"it gives a number the name {name!r}", _NUMBERS)
        kind = getattr(value, "dtype", np.asarray(value).dtype)
        numeric = np.issubdtype(kind, np.number) or np.issubdtype(kind, np.bool_)
        of.require(numeric, f"it gives {said(value)} for {name!r}", _NUMBERS)
    return {name: np.shape(value) for name, value in found.items()}


def _differing(one: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(sorted(repr(n) for n, _ in set(one.items()) ^ set(other.items())))
