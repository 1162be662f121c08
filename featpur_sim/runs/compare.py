"""The network against its competitors on a run's own data (docs/theory.md §6, claim C8).

All models are attacked by one frozen protocol on the same points. Beside each stands what no member
of its class can exceed, where that is proved. The purified network is also certified (§8): where
its certificate lies above a class-wide bound, the two are separated by proof.
"""

import time
from collections.abc import Sequence

import jax
import numpy as np

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.protocol import QUICK, Protocol
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.measure.curve import squeeze_radii
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU, pure_network
from featpur_sim.runs.config import ConfigError
from featpur_sim.runs.diagnosis import finished, require_finished
from featpur_sim.runs.model_classes import (
    CLEAN,
    PURE,
    PURIFIED,
    class_bound,
    label,
    separations,
    witness_floor,
)
from featpur_sim.runs.own import require_plain_phases
from featpur_sim.runs.saved import SavedRun
from featpur_sim.statistics import exact_lower_limit
from featpur_sim.training.competitors import Competitor, competitors

RADII = (0.5, 1.0, 1.5, 2.0)
# Key of the competitors: no seed of a run uses it.
_STREAM = 2**31 - 2


@steady
def compare_run(
    run: SavedRun,
    *,
    protocol: Protocol = QUICK,
    samples: int = 1000,
    radii: Sequence[float] = RADII,
    steps: int = 300,
    certify_points: int = 10_000,
    seed: int = 1,
    meter: Meter = SILENT,
) -> list[Row]:
    """Train every competitor, attack it and the run's networks, and label each class.

    Networks and data are those of the first seed that finished.

    Args:
        run: from `load_run`, with a unitary dictionary and w* ∈ {±1}^d. In ℓ∞ with M ≠ I the
            linear classes are the only competitors, as no other is defined there.
        protocol: the attacks.
        samples: test points, all with a label.
        radii: in units of the training radius, each > 0; 1 is added if missing.
        steps: gradient steps of each stage of a competitor's training.
        certify_points: fresh labelled points on which the purified network is certified; 0: none.
        seed: names the test points and the training of the competitors.
        meter: told of the progress, model by model.

    Returns:
        Rows with ``model, class, training, robust_accuracy, ci, class_bound, bound_kind, label,
        seconds`` at the training radius, and ``curve``: ``radius`` (units of x), ``robust_accuracy,
        ci, class_bound`` at every radius. Robust accuracies are upper bounds. The curve of the
        purified network also has ``certified``, the fraction proved robust, and
        ``certified_floor``, its exact lower limit; the floors hold at all radii together with
        probability 0.95. Neither is there for a network with sampled noise, or if
        ``certify_points`` is 0.

    Raises:
        ResultError: training failed in every seed.
        ConfigError: a run that the competitors are not defined for, or a setting out of range.
        Contradiction: an attack breaks a certified point.
    """
    _check(run, samples, radii, steps, certify_points, seed)
    tau, norm = run.config.adversarial.radius, run.config.adversarial.norm
    points_key, train_key, attack_key, certify_key = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(run.config.seed), _STREAM), seed), 4
    )
    problem = _problem(run)
    points = problem.sample_labelled(points_key, samples)
    dense_norm = float(np.abs(np.asarray(problem.dense_direction(), np.float64)).max())
    league = [*competitors(problem, tau, norm=norm, steps=steps), *_networks(run)]
    floor = witness_floor(run.config, tau)
    relative = sorted({1.0, *map(float, radii)})
    bounds: dict[tuple[str, float], float | None] = {}
    rows = []
    for position, entry in enumerate(league):
        meter.at("competitors", position, len(league), f"{entry.model_class}: {entry.training}")
        began = time.perf_counter()
        model = entry.train(jax.random.fold_in(train_key, position))
        curve = []
        for r in relative:
            at = entry.model_class, r
            if at not in bounds:
                bounds[at] = class_bound(
                    entry.model_class, run.config, r * tau, dense_norm=dense_norm
                )
            found = _attack(model, points, r * tau, norm, protocol, problem, attack_key)
            curve.append({"radius": r * tau, **found, "class_bound": bounds[at]})
        if entry.model_class == PURIFIED and certify_points:
            proved = _certify(run, [r * tau for r in relative], certify_points, certify_key)
            curve = [point | floor for point, floor in zip(curve, proved, strict=True)]
        rows.append(_row(entry, curve[relative.index(1.0)], curve, began))
    meter.at("competitors", len(league), len(league))
    certified = rows[-1]["curve"]
    return [row | {"label": _label(row, certified, tau, floor)} for row in rows]


def _label(row: Row, certified: list[Row], tau: float, floor: float) -> str:
    proved = separations(row["curve"], certified) or []
    at_tau = any(one.radius == tau for one in proved)
    return label(row["class"], row["class_bound"], floor, separated=at_tau)


def _networks(run: SavedRun) -> list[Competitor]:
    """The run's own networks, and the pure one at the run's bias."""
    bias, problem = float(run.result.pure_bias), _problem(run)
    clean, purified = (_saved(run, phase) for phase in ("clean", "adversarial"))
    return [
        Competitor(PURE, "none", lambda key: pure_network(problem.wstar, bias, problem.M)),
        Competitor(CLEAN, "clean", lambda key: clean),
        Competitor(PURIFIED, "clean, then adversarial", lambda key: purified),
    ]


def _first(run: SavedRun) -> int:
    """The position of the first seed that finished."""
    return int(np.flatnonzero(finished(run.result))[0])


def _problem(run: SavedRun) -> SparseCoding:
    return run.problem_of(_first(run))


def _saved(run: SavedRun, phase: str) -> SymmetricReLU:
    return jax.tree.map(lambda leaf: leaf[_first(run)], run.networks[phase])


def _attack(
    model: Classifier,
    points: Batch,
    radius: float,
    norm: Norm,
    protocol: Protocol,
    problem: SparseCoding,
    key: PRNGKey,
):
    direction = problem.dense_direction()
    accuracy = protocol(model, points, radius, norm, key=key, direction=direction).accuracy
    return {"robust_accuracy": accuracy.value, "ci": [accuracy.low, accuracy.high]}


def _certify(run: SavedRun, radii: list[float], n: int, key) -> list[dict[str, float]]:
    """The purified network's proved fraction at each radius and its lower limit.

    Empty where there is no certificate.

    The points are independent of the network, so the count of those where it is robust is binomial,
    and the certified count is never larger. The level is Bonferroni's: all limits hold together
    with probability 0.95.
    """
    network = _saved(run, "adversarial")
    if network.smoothing == "sampled":
        return [{} for _ in radii]
    point_key, attack_key = jax.random.split(key)
    problem = _problem(run)
    certified, _ = squeeze_radii(
        network,
        problem.sample_labelled(point_key, n),
        radii,
        run.config.adversarial.norm,
        key=attack_key,
        direction=problem.dense_direction(),
        protocol=QUICK,
    )
    level = 1 - 0.05 / len(radii)
    return [
        {
            "certified": float(proved.mean()),
            "certified_floor": exact_lower_limit(int(proved.sum()), n, level),
        }
        for proved in certified
    ]


def _row(entry: Competitor, at_tau: Row, curve, began: float) -> Row:
    bound = at_tau["class_bound"]
    return {
        "model": f"{entry.model_class}: {entry.training}",
        "class": entry.model_class,
        "training": entry.training,
        "robust_accuracy": at_tau["robust_accuracy"],
        "ci": at_tau["ci"],
        "class_bound": bound,
        "bound_kind": "none" if bound is None else "proved",
        "seconds": time.perf_counter() - began,
        "curve": curve,
    }


def _check(
    run: SavedRun,
    samples: int,
    radii: Sequence[float],
    steps: int,
    certify_points: int,
    seed: int,
) -> None:
    config = run.config
    require_finished(run.result)
    if config.adversarial.norm == "l2" and run.problems.M is not None:
        raise ConfigError(
            f"problem.dictionary = {config.problem.dictionary!r}: the competitors are stated for a "
            "dictionary that is rotated away. Compare a run with 'identity', or with 'haar', "
            "'hadamard' or 'dct' and optimizer = 'sgd' in both phases."
        )
    if not _problem(run).unitary:
        raise ConfigError(
            f"problem.dictionary = {config.problem.dictionary!r}: the competitors are stated for a "
            "unitary dictionary. Compare a run with 'identity', 'haar', 'hadamard' or 'dct'."
        )
    if not np.all(np.abs(np.asarray(run.problems.wstar)) == 1):
        raise ConfigError(
            f"problem.wstar = {config.problem.wstar!r}: the competitors are stated for w* ∈ "
            "{±1}^d. Compare a run with wstar = 'signs'."
        )
    require_plain_phases(config, "competitors are trained as")
    count("samples", samples, 100)  # fewer give no interval
    count("steps", steps)
    count("certify_points", certify_points, 0)
    count("seed", seed, 0)
    for radius in radii:
        number("a radius, in units of the run's own,", radius, above=0)
