"""The contract of `featpur_sim.training.BiasSchedule`: the threshold along a phase."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.checks import count
from featpur_sim._ground.expected import expect
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array
from featpur_sim.testing._contract import Contract
from featpur_sim.training.bias import BiasSchedule, Progress
from featpur_sim.training.loop import replicate

_SHAPE = "Return float32 in the shape of bias: jnp.broadcast_to(value, bias.shape)"
_NEURONS, _FEATURES = 5, 8
_KINDS = {"one threshold for all neurons": (), "one threshold per neuron": (_NEURONS,)}


@steady
def check_schedule(schedule: Any, *, steps: int = 50, time: float = 4.0) -> None:
    """Check a schedule of the threshold, at every step of a phase and in a phase of one step.

    That the threshold is finite and ≥ 0 and keeps the shape and dtype that it gets, traced, for two
    runs at once, each step from the threshold before it. A schedule for one kind of threshold,
    shared or per neuron, may refuse the other with a ValueError, as `PerNeuron` does.

    Args:
        schedule: a `BiasSchedule`.
        steps: of the phase.
        time: the natural time t′ = η·step/d at its end.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim.training import LinearRamp, PerNeuron
    >>> check_schedule(LinearRamp(0.1))
    >>> check_schedule(PerNeuron(0.5))
    """
    expect("schedule", schedule, BiasSchedule, "a BiasSchedule, LinearRamp(0.1) say")
    of = Contract("schedule", schedule)
    refusals = [
        _check_phase(of, schedule, words, n, time)
        for n in (count("steps", steps), 1)
        for words in _KINDS
    ]
    of.require(
        not all(refusals),
        f"it refuses shared thresholds and those per neuron alike: {refusals[0]}",
        "Take at least one of them",
    )


def _check_phase(of: Contract, schedule: BiasSchedule, words: str, steps: int, time: float) -> str:
    """One phase; the schedule's own words if it refuses this kind of threshold."""
    shape = _KINDS[words]
    coordinates = jax.random.normal(jax.random.key(0), (_NEURONS, _FEATURES))
    start = jnp.full(shape, 0.05)

    def at(step: Any) -> Progress:
        return Progress(jnp.int32(step), jnp.int32(steps), jnp.float32(time * step / steps))

    try:
        first = schedule(at(0), start, coordinates)
    except ValueError as error:
        return str(error).splitlines()[0]
    except Exception as error:
        raise of.breach(f"step 0 with {words} raised {type(error).__name__}", _SHAPE) from error
    of.array(f"the value at step 0 of {steps} with {words}", first, shape, _SHAPE)

    def step(schedule: BiasSchedule, bias: Array, t: Array) -> tuple[Array, Array]:
        value = schedule(at(t), bias, coordinates)
        return value, value

    @eqx.filter_jit
    def both(schedules: BiasSchedule) -> Array:
        def one(schedule: BiasSchedule, start: Array) -> Array:
            return lax.scan(lambda b, t: step(schedule, b, t), start, jnp.arange(steps + 1))[1]

        return eqx.filter_vmap(one)(schedules, jnp.stack([start, start]))

    found = of.call(f"a phase with {words}, traced,", both, replicate(schedule, 2), fix=_SHAPE)
    what = f"the threshold along {steps} steps with {words}"
    values = of.array(what, found, (2, steps + 1, *shape), _SHAPE)
    of.require(values.min() >= 0, f"{what} falls to {values.min():.3g}", "Keep thresholds ≥ 0")
    of.require(
        np.allclose(values[0, 0], first, rtol=1e-5, atol=1e-7),
        f"{what} starts elsewhere when traced",
        "Compute from progress, bias and coordinates alone, by jax.numpy",
    )
    return ""
