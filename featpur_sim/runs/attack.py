"""A protocol over the networks of a saved run: seeds × phases × radii (docs/theory.md §8)."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.attacks import warning_signs
from featpur_sim.attacks.protocol import STANDARD, Attacked, Protocol
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier
from featpur_sim.runs.config import ConfigError
from featpur_sim.runs.diagnosis import require_finished
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.folder import load_rows
from featpur_sim.runs.saved import SavedRun
from featpur_sim.runs.variables import variable

EVALUATION = "evaluation.json"


def attack_radii(
    protocol: Protocol,
    model: Classifier,
    batch: Batch,
    radii: Sequence[float],
    norm: Norm = "l2",
    *,
    key: PRNGKey,
    direction: Float[Array, " d"] | None = None,
) -> list[Attacked]:
    """The protocol at rising radii on the same points.

    The radii are searched independently. A point that a smaller radius breaks is broken at every
    larger one too; where the search there missed it, that is corrected and warned of.

    Args:
        protocol: what to attack with.
        model: any classifier.
        batch: n points.
        radii: strictly rising, > 0, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        key: names the random starts.
        direction: Mw* for the dense mixture, which is left out without it.

    Returns:
        One result a radius.

    Raises:
        ValueError: the radii do not rise; and those of `Protocol`.
    """
    if any(b <= a for a, b in itertools.pairwise(radii)):
        raise ValueError(f"radii must rise strictly, got {list(radii)}: sort them.")
    results: list[Attacked] = []
    for position, radius in enumerate(radii):
        found = protocol(model, batch, radius, norm, key=key, direction=direction)
        if results:
            before = results[-1]
            pair = (radii[position - 1], radius)
            sentence = warning_signs.rises_with_radius(before.robust, found.robust, pair)
            missed = found.robust & ~before.robust
            found = replace(
                found,
                robust=found.robust & ~missed,
                margin=np.where(missed, before.margin, found.margin),
                delta=np.where(missed[:, None], before.delta, found.delta),
                warnings=[*found.warnings, sentence] if sentence else found.warnings,
            )
        results.append(found)
    return results


@steady
def attack_run(
    run: SavedRun,
    *,
    protocol: Protocol = STANDARD,
    radii: Sequence[float] = (0.5, 1.0, 1.5),
    phases: Sequence[str] = ("clean", "adversarial"),
    samples: int = 1000,
    seed: int = 1,
    meter: Meter = SILENT,
) -> list[Row]:
    """Attack every network of a saved run on fresh points, the same for all phases and radii.

    Args:
        run: from `featpur_sim.runs.saved.load_run`.
        protocol: what to attack with.
        radii: in units of the training radius τ, rising.
        phases: which networks.
        samples: labelled test points per seed.
        seed: names the test points.
        meter: told of the progress, network by network.

    Returns:
        A row for each seed that finished, phase and radius: ``seed, phase, norm, radius`` (units
        of x), ``relative_radius, n, attacked`` (robust accuracy, an upper bound) with its 95 %
        Wilson interval ``low, high``, ``seconds_per_point`` (all radii alike), ``attacks`` (a row
        for each attack: `featpur_sim.attacks.protocol.Attacked.table`), ``protocol, warnings``.

    Raises:
        ConfigError: samples or seed out of range, an unknown phase, or bad radii.
        ResultError: training failed in every seed.
    """
    used = require_finished(run.result)
    unknown = [phase for phase in phases if phase not in run.networks]
    if unknown:
        raise ConfigError(f"phases must be among {list(run.networks)}, got {unknown}.")
    samples, seed = count("samples", samples), count("seed", seed, 0)
    for radius in radii:
        number("a radius, in units of the run's own,", radius, above=0)
    if not radii or list(radii) != sorted(set(radii)):
        raise ConfigError(
            f"radii must be at least one and rise strictly, got {list(radii)}; they are in units "
            "of the training radius."
        )
    norm, tau = run.config.adversarial.norm, run.config.adversarial.radius
    rows: list[Row] = []
    done, total = 0, int(used.sum()) * len(phases)
    for position, test_key in enumerate(seed_keys(run.config)[2]):
        if not used[position]:
            continue
        point_key, attack_key = jax.random.split(jax.random.fold_in(test_key, seed))
        problem = run.problem_of(position)
        points = problem.sample_labelled(point_key, samples)
        for phase in phases:
            meter.at("attacks", done, total, phase)
            network = jax.tree.map(lambda leaf, s=position: leaf[s], run.networks[phase])
            began = time.perf_counter()
            found = attack_radii(
                protocol,
                network,
                points,
                [relative * tau for relative in radii],
                norm,
                key=attack_key,
                direction=problem.dense_direction(),
            )
            done += 1
            meter.at("attacks", done, total)
            seconds = (time.perf_counter() - began) / (samples * len(radii))
            for relative, at in zip(radii, found, strict=True):
                rows.append(
                    {
                        "seed": int(run.result.seed[position]),
                        "phase": phase,
                        "norm": norm,
                        "radius": relative * tau,
                        "relative_radius": relative,
                        "n": at.accuracy.n,
                        "attacked": at.accuracy.value,
                        "low": at.accuracy.low,
                        "high": at.accuracy.high,
                        "seconds_per_point": seconds,
                        "attacks": at.table,
                        "protocol": at.protocol,
                        "warnings": at.warnings,
                    }
                )
    return rows


def contributions(rows: list[Row]) -> list[Row]:
    """What each attack of the protocol added, over all the rows of `attack_run`.

    Returns:
        In the protocol's order: ``attack``, ``points`` it ran on, ``broken`` by it, ``new`` (broken
        by no attack before it), ``seconds`` (compilation included).
    """
    totals: dict[str, Row] = {}
    for row in rows:
        for attack in row["attacks"]:
            name = attack["attack"]
            zero = {"attack": name, "points": 0, "broken": 0, "new": 0, "seconds": 0.0}
            total = totals.setdefault(name, zero)
            for key in ("points", "broken", "new", "seconds"):
                total[key] += attack[key]
    return list(totals.values())


def load_attacked(directory: str | Path) -> list[Row]:
    """The rows of ``evaluation.json``; none if the folder has no such file.

    Raises:
        ResultError: the file is damaged.
    """
    needed = {"seed", "phase", "relative_radius", "n", "attacked", "protocol"}
    command = "featpur evaluate --protocol"
    return load_rows(Path(directory) / EVALUATION, needed, command)


def as_dataset(rows: list[Row]) -> xr.Dataset:
    """The rows of `attack_run` as ``robust_accuracy`` [seed, phase, attack, radius]."""
    axes = {name: list(dict.fromkeys(row[name] for row in rows)) for name in ("seed", "phase")}
    relative = list(dict.fromkeys(row["relative_radius"] for row in rows))
    found = {(row["seed"], row["phase"], row["relative_radius"]): row for row in rows}
    table = [
        [[[found[s, p, r]["attacked"] for r in relative]] for p in axes["phase"]]
        for s in axes["seed"]
    ]
    first = rows[0]
    tau = first["radius"] / first["relative_radius"]
    return xr.Dataset(
        {"robust_accuracy": variable("robust_accuracy", table)},
        {
            **axes,
            "attack": [first["protocol"]],
            "radius": variable("radius", [r * tau for r in relative], ("radius",)),
            "relative_radius": ("radius", relative),
        },
        {"tau": tau, "norm": first["norm"], "samples": first["n"], "protocol": first["protocol"]},
    )
