"""One point of a study: its seeds trained side by side, attacked and measured (theory.md §5)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect, expect_methods, said
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array
from featpur_sim.attacks.accuracy import robust_accuracy
from featpur_sim.attacks.gradient import require_attack
from featpur_sim.measure.critical_radius import bisect_critical_radius
from featpur_sim.models.classifier import Classifier
from featpur_sim.runs.diagnosis import OK
from featpur_sim.sweeps.batch import devices
from featpur_sim.sweeps.keep import curves
from featpur_sim.sweeps.measurements import CRITICAL_RANGE
from featpur_sim.sweeps.study import CRITICAL, RESERVED, Ended, Study
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.course import Record, TrainingRun
from featpur_sim.training.identity import software
from featpur_sim.training.loop import replicate, require_training, train_many
from featpur_sim.training.stacking import stack
from featpur_sim.training.step import Status

# The parts of a seed's key.
_PROBLEM, _NETWORK, _TRAINING, _TEST, _MEASURE = range(5)
_NAMES = {
    "status": "how the training of the seed ended",
    "robust_accuracy": "accuracy under attack: an upper bound on robust accuracy",
    "clean_accuracy": "accuracy on clean samples",
    "radius": "attack radius",
    "critical_radius": "radius at which the attack flips half of what is right",
    "critical_radius_low": "lower end of its 95 % interval over test points",
    "critical_radius_high": "upper end of its 95 % interval over test points",
    "along_step": "step of the phase at which it was recorded",
}


@steady
def check_point(study: Study, at: Any) -> None:
    """Refuse what cannot be trained or judged at a point, before anything is.

    Raises:
        ConfigError: a function gives something that its place does not ask for.
    """
    problem, network = _started(study, at, _keys(study)[0])
    require_training(problem, network, study.phases(at), study.observe)
    problem.require_dimension(network.weights)
    if study.judged is not None:
        _judged(study, at, network, problem)
    for name, make in study.attacks.items():
        require_attack(f"Study: attacks[{name!r}]", make(jnp.float32(study.unit(at)), problem))


@steady
def compute_point(
    study: Study, number: int, checkpoint: Path | None = None, meter: Meter = SILENT
) -> xr.Dataset:
    """Train and measure the seeds of a point.

    Args:
        study: all of it.
        number: of the point, from 0.
        checkpoint: folder where its training is kept; None keeps nothing.
        meter: told of the progress.

    Returns:
        Variables with the dim ``lane`` first, numbered over the study; NaN for a seed whose
        training failed.

    Raises:
        CheckpointError: the folder holds another training.
        ConfigError: something given does not keep to its contract.
    """
    at, keys = study.listed[number], _keys(study)
    started = [_started(study, at, key) for key in keys]
    problems = stack([problem for problem, _ in started])
    networks = stack([network for _, network in started])

    def tell(record: Record) -> None:
        meter.at(f"{record.phase} training", record.step, record.steps)

    run = train_many(
        problems,
        networks,
        replicate(list(study.phases(at)), study.seeds),
        keys=jnp.stack([_part(key, _TRAINING) for key in keys]),
        observe=study.observe,
        records=study.records,
        test_samples=study.samples,
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint),
        on_record=tell,
    )
    rows = []
    for seed, key in enumerate(keys):
        meter.at("measuring", seed, study.seeds)
        rows.append(_of_seed(study, at, _seed(problems, seed), _networks(run, seed), key))
    table = {name: _stacked([row[name] for row in rows], run) for name in rows[0]}
    return _dataset(study, number, run, table)


def _keys(study: Study) -> list[Array]:
    """One for each seed; the same at every point."""
    root = jax.random.key(study.seed)
    return [jax.random.fold_in(root, seed) for seed in range(1, study.seeds + 1)]


def _part(key: Array, part: int) -> Array:
    return jax.random.fold_in(key, part)


def _started(study: Study, at: Any, key: Array) -> tuple[Any, Any]:
    return study.problem(at, _part(key, _PROBLEM)), study.network(at, _part(key, _NETWORK))


def _seed(tree: Any, seed: int) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda leaf: leaf[seed], arrays), rest)


def _networks(run: TrainingRun, seed: int) -> dict[str, Any]:
    return {name: _seed(network, seed) for name, network in run.networks.items()}


def _judged(study: Study, at: Any, network: Any, problem: Any) -> tuple[Classifier, Any]:
    if study.judged is None:
        return network, problem
    found = study.judged(at, network, problem)
    expect("what judged gives", found, tuple, "a pair, (classifier, problem)")
    if len(found) != 2:
        raise ConfigError(f"what judged gives must be (classifier, problem), got {len(found)}.")
    expect("judged: the first", found[0], Classifier, "a Classifier")
    expect_methods("judged: the second", found[1], ("sample",), "a problem")
    return found


def _of_seed(study: Study, at: Any, problem: Any, networks: dict[str, Any], key: Array):
    """Every measurement of a seed: name → array over phases and labels, or number."""
    pairs = [_judged(study, at, network, problem) for network in networks.values()]
    test_key, tau = _part(key, _TEST), study.unit(at)
    found: dict[str, np.ndarray] = {
        "clean_accuracy": np.array([_accuracy(pair, None, test_key, study) for pair in pairs]),
        "robust_accuracy": np.array(
            [
                [_curve(pair, make, tau, test_key, study) for make in study.attacks.values()]
                for pair in pairs
            ]
        ).reshape(len(pairs), len(study.attacks), len(study.radii)),
    }
    if study.critical:
        radii = np.full((len(pairs), len(study.critical), len(CRITICAL)), np.nan)
        # The first network classifies by chance: there is nothing to flip.
        for p, pair in list(enumerate(pairs))[1:]:
            for a, name in enumerate(study.critical):
                radii[p, a] = _critical(pair, study.attacks[name], tau, test_key, study)
        found |= {name: radii[..., i] for i, name in enumerate(CRITICAL)}
    if study.measure is not None:
        given = study.measure(Ended(at, problem, networks, _part(key, _MEASURE)))
        found |= _measured(given, study.axes)
    return found


def _accuracy(pair: tuple[Any, Any], attack: Any, key: Array, study: Study) -> float:
    return float(robust_accuracy(*pair, attack, key=key, n=study.samples).value)


def _curve(pair: tuple[Any, Any], make: Callable, tau: float, key: Array, study: Study):
    return [
        _accuracy(pair, make(jnp.float32(r * tau), pair[1]) if r else None, key, study)
        for r in study.radii
    ]


@eqx.filter_jit
def _bisect(model, problem, make, ends, key, n):
    def attack_at(radius):
        return make(radius, problem)

    low, high = ends
    return bisect_critical_radius(model, problem, attack_at, key=key, n=n, low=low, high=high)


def _critical(pair: tuple[Any, Any], make: Callable, tau: float, key: Array, study: Study):
    ends = [jnp.float32(multiple * tau) for multiple in CRITICAL_RANGE]
    found = _bisect(*pair, make, ends, key, n=study.samples)
    return [float(value) for value in found]


def _measured(given: Any, axes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What ``measure`` gives, if it is named numbers."""
    expect("what measure returns", given, Mapping, "a mapping, {'name': number} say")
    found, taken = {}, {*RESERVED, *axes}
    for name, value in given.items():
        if not str(name).isidentifier() or name in taken or str(name).startswith("along_"):
            raise ConfigError(
                f"measure names {name!r}: it must be a name as Python's variables have, not one of "
                f"{', '.join(sorted(taken))} and not begin with along_."
            )
        array = np.asarray(value, float) if np.ndim(value) == 0 else None
        if array is None:
            raise ConfigError(f"measure must give numbers, got {said(value)} for {name!r}.")
        found[name] = array
    return found


def _stacked(values: list[np.ndarray], run: TrainingRun) -> np.ndarray:
    stacked = np.stack(values).astype(float)
    stacked[np.asarray(run.status) != Status.OK] = np.nan
    return stacked


def _dataset(study: Study, number: int, run: TrainingRun, table: dict[str, np.ndarray]):
    at, names = study.listed[number], list(run.networks)
    dims = {
        "clean_accuracy": ("phase",),
        "robust_accuracy": ("phase", "attack", "relative_radius"),
        **dict.fromkeys(CRITICAL, ("phase", "critical_attack")),
    }
    variables = {name: (("lane", *dims.get(name, ())), of) for name, of in table.items()}
    variables |= curves(run)
    radii = np.tile(study.unit(at) * np.asarray(study.radii, float), (study.seeds, 1))
    variables["radius"] = ("lane", "relative_radius"), radii
    status = [Status(int(s)).name.lower() for s in run.status]
    variables["status"] = ("lane",), np.array(status)
    variables["status_step"] = ("lane",), np.asarray(run.status_step)
    reasons = [
        "" if how == OK else f"{how} since step {int(step)} of its last phase"
        for how, step in zip(status, run.status_step, strict=True)
    ]
    variables["reason"] = ("lane",), np.array(reasons)
    coords = {
        "lane": number * study.seeds + np.arange(study.seeds),
        "phase": names,
        "attack": list(study.attacks),
        "relative_radius": np.asarray(study.radii, float),
    } | ({"critical_attack": list(study.critical)} if study.critical else {})
    described = {
        name: (*of, {"long_name": _NAMES.get(name, name.replace("_", " ")), "source": "[M]"})
        for name, of in variables.items()
    }
    return xr.Dataset(described, coords, {"software": software(), "devices": devices()})
