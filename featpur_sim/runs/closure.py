"""What the heterogeneous closure says of a run, with its constants (docs/dynamics.md, step 8).

From the settings and the draw of the initial weights alone: every neuron keeps its order
parameters, and both phases take the steps of the run on samples of their own. What comes out is
what a run of this size should measure, beside exponents that hold for large d.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.threads import side_by_side
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.runs.build import make_network, make_problem, simulated
from featpur_sim.runs.config import PerNeuronConfig, RunConfig
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.reduced import duration_of, require_reducible, schedule_of
from featpur_sim.theory.dynamics import population
from featpur_sim.theory.dynamics.population import FOLLOWED, Population, Statistics, Thresholds
from featpur_sim.theory.dynamics.samples import Law

# Each phase is looked at so many times, at equal numbers of steps.
RECORDS = 12
_SAMPLES = 4000
# How it is made: a closure that was saved under another way is not held against a run.
_MADE = f"threefry, quantiles, {FOLLOWED} coordinates"


def require_closed(config: RunConfig) -> None:
    """Whether the closure describes a run of these settings.

    Raises:
        ConfigError: it names the setting that it does not.
    """
    require_reducible(config, smoothing=("none", "closed"))
    bias = config.clean.bias
    if isinstance(bias, PerNeuronConfig) and bias.monotone:
        raise ConfigError(
            "clean.bias.monotone = true: the closure keeps no threshold's history. Take it out, or "
            "compare with 'featpur dynamics' without --population."
        )


@steady
def closure_run(config: RunConfig, *, records: int = RECORDS, meter: Meter = SILENT) -> list[Row]:
    """The order parameters of both phases of a run, seed by seed, from its settings.

    The closure of seed s begins with the initial weights that the run draws for it; its samples
    are its own. Seeds go side by side, from record to record.

    Args:
        config: as for `featpur_sim.runs.experiment.run_experiment`.
        records: how often each phase is looked at, after its start.
        meter: told of the progress.

    Returns:
        Rows ``phase, step``, ``settings`` (see `settings_digest`) and the fields of `Statistics`,
        lists over the seeds.

    Raises:
        ConfigError: the settings are outside the closure (`require_closed`).
    """
    require_closed(config)
    courses = [_statistics(config, seed, records) for seed in range(config.seeds)]
    rows, total = [], 2 * (records + 1)
    meter.at("closure", 0, total)
    for done in range(1, total + 1):
        (phase, step, _), *_ = each = side_by_side(next, courses)
        lists = {name: [values[name] for *_, values in each] for name in Statistics._fields}
        rows.append({"phase": phase, "step": step, "settings": settings_digest(config)} | lists)
        meter.at("closure", done, total)
    return rows


def _statistics(
    config: RunConfig, seed: int, records: int
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Phase, step and what is measured, from record to record of one seed."""
    state, key = start_of(config, seed)
    radius, own = jnp.float32(config.adversarial.radius), jax.random.fold_in(key, 2)
    for phase, step, current, b in follow(config, state, key, records):
        law = law_of(config, phase)
        found = population.measure(current, b, radius, law, own, n=_SAMPLES)
        yield phase, step, {name: float(value) for name, value in found._asdict().items()}


def settings_digest(config: RunConfig) -> str:
    """Sixteen digits that stand for what the closure of a run depends on, how it is made too."""
    asked = config.model_dump_json(exclude={"name", "evaluation", "records", "own"})
    return hashlib.sha256(f"{_MADE} {asked}".encode()).hexdigest()[:16]


def start_of(config: RunConfig, seed: int, followed: int = FOLLOWED) -> tuple[Population, PRNGKey]:
    """The closure of one seed of a run before its first step, and the key of its samples.

    Args:
        config: of the run.
        seed: counted from 0.
        followed: coordinates of a neuron, as for `population.at_start`.
    """
    start_keys, _, sample_keys, _ = seed_keys(config)
    problem = simulated(config, make_problem(config, seed + 1))
    network = make_network(config, start_keys[seed])
    coordinates = np.asarray(network.weights) * np.asarray(problem.wstar)
    state = population.at_start(coordinates, followed)
    return state, sample_keys[seed]


def follow(
    config: RunConfig, state: Population, key: PRNGKey, records: int = RECORDS
) -> Iterator[tuple[str, int, Population, Float[Array, " m"]]]:
    """Both phases of a run from any state of the family on.

    Args:
        config: of the run; its network is not read.
        state: before the first step, such as `start_of`.
        key: of the samples.
        records: how often each phase stops, after its start, at equal numbers of steps.

    Yields:
        Phase, step, state and thresholds.
    """
    radius = jnp.float32(config.adversarial.radius)
    frozen = jnp.zeros_like(state.dense)
    for number, phase in enumerate(("clean", "adversarial")):
        c, own = getattr(config, phase), jax.random.fold_in(key, number)
        law, thresholds = law_of(config, phase), thresholds_of(config, phase, frozen)
        now = 0
        for stop in np.linspace(0, c.steps, records + 1).round().astype(int).tolist():
            state = population.evolve(
                state, thresholds, radius, law, own, now, stop,
                batch=c.batch, adversarial=phase == "adversarial",
            )  # fmt: skip
            now = stop
            yield phase, stop, state, population.threshold(state, thresholds, stop)
        frozen = population.threshold(state, thresholds, c.steps)


def law_of(config: RunConfig, phase: str) -> Law:
    """The constants of one phase of a run."""
    p, c = config.problem, getattr(config, phase)
    values: tuple[Any, ...] = (p.k, p.p_one, p.sigma_x, c.learning_rate, c.weight_decay)
    smooth = config.network.smoothing != "none"
    law = Law(*(jnp.float32(value) for value in values))
    return law._replace(sigma_rho=jnp.float32(config.network.sigma_rho)) if smooth else law


def thresholds_of(config: RunConfig, phase: str, frozen: Float[Array, " m"]) -> Thresholds:
    """Of every step of a phase, and behind its last one."""
    steps, infinite = getattr(config, phase).steps, jnp.float32(jnp.inf)
    none = jnp.zeros(steps + 1, jnp.float32)
    if phase == "adversarial":
        return Thresholds(none, none, frozen, infinite)
    schedule = schedule_of(config.clean.bias, duration_of(config, phase))
    times = config.clean.learning_rate * np.arange(steps + 1) / config.problem.d
    values = jnp.asarray(np.interp(times, schedule.times, schedule.values), jnp.float32)
    if isinstance(config.clean.bias, PerNeuronConfig):
        return Thresholds(values, none, 0 * frozen, jnp.float32(schedule.ceiling))
    return Thresholds(none, values, 0 * frozen, infinite)
