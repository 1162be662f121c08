"""What the heterogeneous closure says of a run, with its constants (docs/dynamics.md, step 8).

From the settings and the draw of the initial weights alone: every neuron keeps its order
parameters, and both phases take the steps of the run on samples of their own. What comes out is
what a run of this size should measure, beside exponents that hold for large d.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from featpur_sim.training.checkpoint import Checkpoint, CheckpointError
from featpur_sim.training.identity import Identity, identify_settings, software

# Each phase is looked at so many times, at equal numbers of steps.
RECORDS = 12
# What a look at a seed finds.
FIELDS = (*Statistics._fields, "unfollowed")
_SAMPLES = 4000
STATE = ".closure"
_NOT_READ = {"name", "evaluation", "records", "own"}
# How it is made: a closure that was saved under another way is not held against a run.
_MADE = f"threefry, quantiles, {FOLLOWED} coordinates in blocks, common part held"


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


class _Stop(NamedTuple):
    """The steps of a phase from one look at it to the next."""

    number: int
    phase: str
    first: int
    last: int


class _Seed(NamedTuple):
    """The closure of one seed at one of its stops."""

    state: Population
    b: Float[Array, " m"]
    key: PRNGKey


@steady
def closure_run(
    config: RunConfig,
    *,
    records: int = RECORDS,
    directory: str | Path | None = None,
    every: float = 30.0,
    meter: Meter = SILENT,
) -> list[Row]:
    """The order parameters of both phases of a run, seed by seed, from its settings.

    The closure of seed s begins with the initial weights that the run draws for it; its samples
    are its own. Seeds go side by side, from record to record.

    Args:
        config: as for `featpur_sim.runs.experiment.run_experiment`.
        records: how often each phase is looked at, after its start.
        directory: where the latest state is kept, in a folder ``.closure``; one that was cut off
            there goes on, bit for bit, and what belongs to other settings is not used. None keeps
            nothing.
        every: seconds between two states that are kept.
        meter: told of the progress.

    Returns:
        Rows ``phase, step``, ``settings`` (see `settings_digest`) and the `FIELDS`, lists over the
        seeds.

    Raises:
        ConfigError: the settings are outside the closure (`require_closed`).
        ResultError: nothing can be written to the folder.
    """
    require_closed(config)
    stops, asked = _stops(config, records), _asked(config) | {"records": records}
    kept = Checkpoint(Path(directory) / STATE, every=every) if directory else None
    identity = identify_settings(software(), asked)
    rows, seeds = _resumed(kept, identity, config, stops, meter) or ([], _starts(config))
    meter.at("closure", len(rows), len(stops))
    for stop in stops[len(rows) :]:
        looks = side_by_side(functools.partial(_looked, config, stop), seeds)
        seeds = [one for one, _ in looks]
        rows.append(_row(config, stop, np.array([found for _, found in looks]).T))
        if kept:
            kept.save_if_due(len(rows), functools.partial(_packed, rows, seeds), identity)
        meter.at("closure", len(rows), len(stops))
    return rows


def _starts(config: RunConfig) -> list[_Seed]:
    """Every seed before its first step, without thresholds."""
    starts = [start_of(config, seed) for seed in range(config.seeds)]
    return [_Seed(state, jnp.zeros_like(state.dense), key) for state, key in starts]


def _resumed(
    kept: Checkpoint | None, identity: Identity, config: RunConfig, stops: list[_Stop], meter: Meter
) -> tuple[list[Row], list[_Seed]] | None:
    """Rows and seeds as an earlier call left them; None if there is nothing to go on with."""
    try:
        found = kept.restore(identity) if kept else None
    except CheckpointError as error:
        meter.note(f"the closure begun in the folder is another one ({error.what}): starting anew.")
        found = None
    if found is None:
        return None
    done, arrays = found
    meter.note(f"going on where the closure stopped: {done} of {len(stops)} looks are done.")
    rows = [_row(config, *each) for each in zip(stops[:done], arrays["rows"], strict=True)]
    return rows, [
        _Seed(
            Population(*(jnp.asarray(arrays[f"{s}.{name}"]) for name in Population._fields)),
            jnp.asarray(arrays[f"{s}.b"]),
            key,
        )
        for s, key in enumerate(seed_keys(config)[2])
    ]


def _packed(rows: list[Row], seeds: list[_Seed]) -> dict[str, Any]:
    """What `_resumed` reads."""
    arrays: dict[str, Any] = {
        f"{s}.{name}": leaf
        for s, one in enumerate(seeds)
        for name, leaf in (one.state._asdict() | {"b": one.b}).items()
    }
    return arrays | {"rows": [[row[name] for name in FIELDS] for row in rows]}


def _row(config: RunConfig, stop: _Stop, values: Float[np.ndarray, "fields seeds"]) -> Row:
    lists = dict(zip(FIELDS, values.tolist(), strict=True))
    return {"phase": stop.phase, "step": stop.last, "settings": settings_digest(config)} | lists


def _looked(config: RunConfig, stop: _Stop, before: _Seed) -> tuple[_Seed, list[float]]:
    """A seed at a stop, and its `FIELDS`."""
    one = _advanced(config, stop, before)
    radius, own = jnp.float32(config.adversarial.radius), jax.random.fold_in(one.key, 2)
    law = law_of(config, stop.phase)
    found = population.measure(one.state, one.b, radius, law, own, n=_SAMPLES)
    return one, [float(value) for value in (*found, population.unfollowed(one.state))]


def _asked(config: RunConfig) -> dict[str, Any]:
    """What decides the closure of a run, by names."""
    return {"made": _MADE} | config.model_dump(mode="json", exclude=_NOT_READ)


def settings_digest(config: RunConfig) -> str:
    """Sixteen digits that stand for what the closure of a run depends on, how it is made too."""
    asked = config.model_dump_json(exclude=_NOT_READ)
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
    one = _Seed(state, jnp.zeros_like(state.dense), key)
    for stop in _stops(config, records):
        one = _advanced(config, stop, one)
        yield stop.phase, stop.last, one.state, one.b


def _stops(config: RunConfig, records: int) -> list[_Stop]:
    """Where both phases are looked at, in order: at their starts, and ``records`` times after."""
    stops = []
    for number, phase in enumerate(("clean", "adversarial")):
        steps = getattr(config, phase).steps
        at = np.linspace(0, steps, records + 1).round().astype(int).tolist()
        parts = zip([0, *at[:-1]], at, strict=True)
        stops += [_Stop(number, phase, *part) for part in parts]
    return stops


def _advanced(config: RunConfig, stop: _Stop, one: _Seed) -> _Seed:
    """A seed at a stop, from the one before."""
    adversarial, own = stop.phase == "adversarial", jax.random.fold_in(one.key, stop.number)
    # The thresholds that the clean phase ended with are those of the whole adversarial phase.
    thresholds = thresholds_of(config, stop.phase, one.b)
    state = population.evolve(
        one.state, thresholds, jnp.float32(config.adversarial.radius), law_of(config, stop.phase),
        own, stop.first, stop.last, batch=getattr(config, stop.phase).batch,
        adversarial=adversarial,
    )  # fmt: skip
    return _Seed(state, population.threshold(state, thresholds, stop.last), one.key)


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
