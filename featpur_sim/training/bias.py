"""Bias schedules b(t) of the clean phase (docs/theory.md §3, §7.1).

A schedule maps (step, state of the network) to the threshold used at that step. Progress may be
read as a fraction of the phase or as the natural time t′ = η·step/d of the dynamics.
"""

import abc

import equinox as eqx
import jax.numpy as jnp

from featpur_sim._ground.checks import is_concrete, number
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int, Scalar


class Progress(eqx.Module):
    """Where a phase stands: ``step`` of ``steps`` and the natural time t′ = η·step/d."""

    step: Int[Array, ""]
    steps: Int[Array, ""]
    time: Scalar


class BiasSchedule(eqx.Module):
    """A rule for the threshold."""

    @abc.abstractmethod
    def __call__(
        self, progress: Progress, bias: Float[Array, "*m"], coordinates: Float[Array, "m D"]
    ) -> Float[Array, "*m"]:
        """The threshold at this step, in the shape of ``bias``.

        Args:
            progress: position in the phase.
            bias: the threshold so far.
            coordinates: C = WM of the current weights.
        """


class Frozen(BiasSchedule):
    """Keep the threshold: the adversarial phase's default. [P]"""

    def __call__(self, progress, bias, coordinates):
        return bias


class LinearRamp(BiasSchedule):
    """One global threshold from ``start`` to ``stop`` over the first ``fraction`` of the phase."""

    start: Scalar
    stop: Scalar
    fraction: Scalar

    @steady
    def __init__(self, stop: float, start: float = 0.0, fraction: float = 0.5):
        self.start = number("LinearRamp: start", start, least=0)
        self.stop = number("LinearRamp: stop", stop, least=0)
        self.fraction = number("LinearRamp: fraction", fraction, above=0, most=1)
        if is_concrete((self.start, self.stop)) and not self.start <= self.stop:
            raise ValueError(f"LinearRamp needs 0 ≤ start ≤ stop, got {start} and {stop}.")

    def __call__(self, progress, bias, coordinates):
        done = progress.step / jnp.maximum(self.fraction * progress.steps, 1e-9)
        value = self.start + (self.stop - self.start) * jnp.minimum(done, 1.0)
        return jnp.broadcast_to(value, bias.shape)


class PerNeuron(BiasSchedule):
    """b_i = ν(t′)·max_j |C_ij|: a threshold in proportion to each neuron's largest coefficient. [D]

    ν = ``start`` until t′ = ``begin``, then linear to ``stop`` at t′ = ``end``. **Departs from the
    paper**: per neuron, and not monotone in t. ``monotone=True`` takes
    b_i ← max(b_i, ν max_j|C_ij|), so that no threshold ever falls; ``ceiling`` caps every
    threshold.

    Raises:
        ValueError: a parameter is out of range, or the network has one threshold for all neurons.
    """

    start: Scalar
    stop: Scalar
    begin: Scalar
    end: Scalar
    ceiling: Scalar
    monotone: bool = eqx.field(static=True)

    @steady
    def __init__(
        self,
        stop: float,
        start: float = 1.1,
        begin: float = 1.2,
        end: float = 2.0,
        *,
        ceiling: float = float("inf"),
        monotone: bool = False,
    ):
        self.start = number("PerNeuron: start", start, above=0)
        self.stop = number("PerNeuron: stop", stop, above=0)
        self.begin = number("PerNeuron: begin", begin, least=0)
        self.end = number("PerNeuron: end", end, above=0)
        if is_concrete((self.begin, self.end)) and not self.begin < self.end:
            raise ValueError(f"PerNeuron needs 0 ≤ begin < end, got {begin} and {end}.")
        self.ceiling = number("PerNeuron: ceiling", ceiling, above=0, most=float("inf"))
        self.monotone = bool(monotone)

    def __call__(self, progress, bias, coordinates):
        if bias.ndim == 0:
            raise ValueError(
                "PerNeuron sets one threshold per neuron, but the network has a single one: "
                "initialise(..., per_neuron_bias=True)."
            )
        done = jnp.clip((progress.time - self.begin) / (self.end - self.begin), 0.0, 1.0)
        nu = self.start + (self.stop - self.start) * done
        target = nu * jnp.max(jnp.abs(coordinates), axis=-1)
        value = jnp.maximum(bias, target) if self.monotone else target
        return jnp.broadcast_to(jnp.minimum(value, self.ceiling), bias.shape)


class Tabulated(BiasSchedule):
    """A user's own global schedule: thresholds at given fractions of the phase, linear between."""

    fractions: Float[Array, " p"]
    values: Float[Array, " p"]

    @steady
    def __init__(self, fractions, values):
        at = number("Tabulated: fractions", fractions, ndim=1)
        value = number("Tabulated: values", values, least=0, ndim=1)
        if at.shape != value.shape or at.size < 2:
            raise ValueError("Tabulated needs two lists of one length ≥ 2: fractions and values.")
        if is_concrete(at) and (at[0] != 0 or at[-1] != 1 or jnp.any(jnp.diff(at) <= 0)):
            raise ValueError(f"Tabulated fractions must rise from 0 to 1, got {fractions}.")
        self.fractions, self.values = at, value

    def __call__(self, progress, bias, coordinates):
        done = progress.step / jnp.maximum(progress.steps, 1)
        return jnp.broadcast_to(jnp.interp(done, self.fractions, self.values), bias.shape)
