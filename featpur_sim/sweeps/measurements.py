"""What a sweep measures: many independent runs at once, one lane each (docs/theory.md §4, §5).

A lane is one training run. Lanes share their sizes; k, σ_x, τ, p₁, w* and keys are data. There is
one compiled program per attack and shape, for all phases, radii and lanes. Lanes go through it
side by side, as many as fit in the memory allowed.
"""

import copy
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float
from featpur_sim.attacks.accuracy import CHUNK, count_robust, is_finite
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.critical_radius import bisect_critical_radius, dense_critical_radius
from featpur_sim.measure.tickets import ticket_outcome
from featpur_sim.measure.weights import decompose, dense_part, overlap, summarise
from featpur_sim.models.symmetric_relu import SymmetricReLU, pure_network
from featpur_sim.runs.config import EvaluationConfig
from featpur_sim.runs.dataset import SUMMARIES, TICKETS
from featpur_sim.runs.diagnosis import OK, diagnose
from featpur_sim.runs.evaluation import PURE_BIASES
from featpur_sim.training.course import TrainingRun
from featpur_sim.training.step import Status

ATTACKS: tuple[AttackName, ...] = ("random noise", "dense mixture", "FGM", "PGD")
CRITICAL_ATTACKS: tuple[AttackName, ...] = ("dense mixture", "PGD")
# Bracket of the bisected critical radius in units of τ, which presets put at 0.3/√k.
CRITICAL_RANGE = (1 / 32, 16.0)
# Stream of a lane's key that names the points on which the pure network's threshold is chosen.
_TUNING = 1

_PAIRS = {
    "theta_init_clean": ("init", "clean"),
    "theta_init_adversarial": ("init", "adversarial"),
    "theta_clean_adversarial": ("clean", "adversarial"),
}


@steady
def survey(
    problem: SparseCoding,
    run: TrainingRun,
    keys: Array,
    evaluation: EvaluationConfig,
    tau: Float[Array, " L"],
    norm: Norm = "l2",
    *,
    memory: int = 2**30,
) -> xr.Dataset:
    """Attack and measure L trained runs.

    Args:
        problem: batched along L; sizes shared, everything else may differ.
        run: from `featpur_sim.training.loop.train_many`, with phases "clean" and "adversarial".
        keys: one key per lane for its test points; lanes with equal keys and laws share points.
        evaluation: samples, radii (multiples of τ), PGD steps and restarts.
        tau: each lane's training radius.
        norm: threat model of the attacks.
        memory: bytes that attacked samples may take; more lanes than fit go one group after
            another.

    Returns:
        A Dataset whose variables all have the leading dimension "lane", further ones among
        "phase", "attack", "relative_radius", "critical_attack". Measurements of a lane whose
        status is not "ok" are NaN; its ``reason`` says why (`featpur_sim.runs.diagnosis`).
    """
    lanes = _Lanes(problem, run, keys, evaluation, jnp.asarray(tau, jnp.float32), norm, memory)
    table = lanes.accuracies() | lanes.pure() | lanes.weights() | lanes.critical() | _losses(run)
    found = diagnose(
        [Status(int(s)).name.lower() for s in run.status],
        run.status_step,
        run.record_phase,
        {**run.records, **_at_records(run, table)},
        np.asarray(problem.k) / problem.d,
    )
    failed = found.status != OK
    for dims, values, _ in table.values():
        values[failed] = np.nan
        assert dims[0] == "lane" and values.shape[0] == len(failed)
    relative = np.asarray(evaluation.radii)
    table["radius"] = (
        ("lane", "relative_radius"),
        np.asarray(tau)[:, None] * relative,
        {"long_name": "attack radius τ", "units": "units of x", "source": "[P] §3"},
    )
    table["status"] = (
        ("lane",),
        found.status,
        {"long_name": "how training ended", "source": "[M]"},
    )
    for name, text, long_name in (
        ("reason", found.reason, "why a run failed"),
        ("training_warning", found.warning, "what to keep in mind about a run"),
    ):
        table[name] = (("lane",), text, {"long_name": long_name, "source": "[M]"})
    table["status_step"] = (
        ("lane",),
        np.asarray(run.status_step),
        {"long_name": "step at which that status began", "units": "steps", "source": "[M]"},
    )
    coords = {
        "phase": list(run.networks),
        "attack": list(ATTACKS),
        "critical_attack": list(CRITICAL_ATTACKS),
        "relative_radius": relative,
    }
    return xr.Dataset(table, coords, {"norm": norm, "test_samples": evaluation.samples})


def _at_records(run: TrainingRun, table: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """What a diagnosis reads of the weights, [record, lane]: that of the end of the record's phase.

    A sweep records the loss alone along training.
    """
    phases = [list(run.networks).index(name) for name in run.record_phase]
    return {name: table[name][1][:, phases].T for name in ("active_fraction", "kappa_over_alpha")}


class _Lanes:
    """The arguments of `survey` and what is measured on them, as (dims, values, attributes)."""

    def __init__(self, problem, run, keys, evaluation, tau, norm, memory):
        self.problem, self.networks, self.keys, self.tau = problem, run.networks, keys, tau
        self.n, self.radii = evaluation.samples, np.asarray(evaluation.radii)
        self.norm, self.memory = norm, memory
        self.kinds = {
            name: AttackKind(name, norm, evaluation.pgd_steps, evaluation.pgd_restarts)
            for name in ATTACKS
        }

    def width(self, network: SymmetricReLU) -> int:
        """Lanes that one pass may hold: activations, their kinks (§ critical radius), samples."""
        lane = 4 * min(CHUNK, self.n) * (12 * network.m + 6 * (self.problem.d + self.problem.D))
        return int(np.clip(self.memory // lane, 1, len(self.keys)))

    def accuracy(self, networks, attack: str, multiple: float) -> Float[np.ndarray, " L"]:
        """Accuracy [L] under one attack at ``multiple``·τ; at 0 without an attack."""
        kind = self.kinds[attack] if multiple else None
        radius = jnp.float32(multiple) * self.tau
        width = self.width(networks)
        found = _accuracy(networks, self.problem, radius, self.keys, kind, self.n, width)
        return np.array(found, float)

    def curve(self, networks: SymmetricReLU, attack: str) -> Float[np.ndarray, "L r"]:
        """Accuracy at every radius."""
        return np.stack([self.accuracy(networks, attack, r) for r in self.radii], axis=1)

    def accuracies(self) -> dict[str, tuple]:
        curves = [[self.curve(net, a) for a in ATTACKS] for net in self.networks.values()]
        table = np.moveaxis(np.array(curves), 2, 0)
        excluded = _excluded(self.problem, self.keys, self.n)
        cut = _without_mixtures(self.networks["clean"], self.problem)
        return {
            "robust_accuracy": (
                ("lane", "phase", "attack", "relative_radius"),
                table,
                {"long_name": "accuracy under attack (an upper bound)", "source": "[M] §5"},
            ),
            "clean_accuracy": (
                ("lane", "phase"),
                table[:, :, 0, self.radii == 0][..., 0].copy(),
                {"long_name": "accuracy without attack", "source": "[M] §5"},
            ),
            "cut_accuracy": (
                ("lane",),
                self.accuracy(cut, ATTACKS[0], 0.0),
                {
                    "long_name": "accuracy without attack of the clean-trained network with its "
                    "dense mixtures cut out",
                    "source": "[D] §5.1",
                },
            ),
            "excluded_fraction": (
                ("lane",),
                np.array(excluded, float),
                {"long_name": "fraction of test points without a label", "source": "[D] §1"},
            ),
        }

    def pure(self) -> dict[str, tuple]:
        """The pure network with the threshold that withstands PGD best on other points (§5.2)."""
        build = jax.vmap(lambda p, bias: pure_network(p.wstar, bias, p.M))
        multiples = jnp.asarray(PURE_BIASES, jnp.float32)
        biases = multiples[:, None] / jnp.sqrt(self.problem.k)
        tuning = copy.copy(self)
        tuning.keys = jax.vmap(lambda key: jax.random.fold_in(key, _TUNING))(self.keys)
        scores = [tuning.accuracy(build(self.problem, b), "PGD", 1.0) for b in biases]
        best = np.argmax(np.array(scores), axis=0)
        bias = jnp.take_along_axis(biases, jnp.asarray(best)[None], axis=0)[0]
        return {
            "pure_accuracy": (
                ("lane", "relative_radius"),
                self.curve(build(self.problem, bias), "PGD"),
                {"long_name": "accuracy of the pure network under PGD", "source": "[D] §5.2"},
            ),
            "pure_bias": (
                ("lane",),
                np.array(bias, float),
                {"long_name": "best threshold of the pure network", "source": "[D] §5.2"},
            ),
        }

    def weights(self) -> dict[str, tuple]:
        width = self.width(self.networks["init"])
        found = {
            phase: _statistics(network, self.problem, self.keys, self.n, width)
            for phase, network in self.networks.items()
        }
        variables: dict[str, tuple] = {}
        for name in next(iter(found.values())):
            long_name, source = SUMMARIES[name]
            values = np.stack([np.array(of[name], float) for of in found.values()], axis=1)
            attributes = {"long_name": long_name, "source": source}
            variables[name] = (("lane", "phase"), values, attributes)
        ratio = variables["kappa_over_alpha"][1]
        clean, adversarial = (list(found).index(phase) for phase in ("clean", "adversarial"))
        labels = {f"ticket_{name.removeprefix('ticket_')}": of for name, of in TICKETS.items()}
        labels |= {
            name: f"overlap θ({', '.join(pair)}), median over clean carriers"
            for name, pair in _PAIRS.items()
        }
        for name, value in _relations(self.networks, self.problem, width).items():
            attributes = {"long_name": labels[name], "source": "[P] §4"}
            variables[name] = (("lane",), np.array(value, float), attributes)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = ratio[:, clean] / ratio[:, adversarial]
        variables["purification_factor"] = (
            ("lane",),
            factor,
            {"long_name": "κ/α after clean over after adversarial training", "source": "[D] §5.1"},
        )
        return variables

    def critical(self) -> dict[str, tuple]:
        shape = (len(self.keys), len(self.networks), len(CRITICAL_ATTACKS))
        tables = np.full((3, *shape), np.nan)
        for p, (phase, network) in enumerate(self.networks.items()):
            if phase == "init":  # it classifies by chance: there is nothing to flip
                continue
            for a, attack in enumerate(CRITICAL_ATTACKS):
                found = _critical(
                    network, self.problem, self.tau, self.keys, self.kinds[attack], self.n,
                    self.width(network),
                )  # fmt: skip
                tables[:, :, p, a] = np.array(found)
        names = {
            "critical_radius": "radius that flips half of the points classified right",
            "critical_radius_low": "its 95 % interval over test points, lower end",
            "critical_radius_high": "its 95 % interval over test points, upper end",
        }
        return {
            name: (
                ("lane", "phase", "critical_attack"),
                values,
                {"long_name": long_name, "units": "units of x", "source": "[D] §5.1"},
            )
            for (name, long_name), values in zip(names.items(), tables, strict=True)
        }


def _over_lanes(one, width: int, *lanes):
    return lax.map(lambda lane: one(*lane), lanes, batch_size=width)


@eqx.filter_jit
def _accuracy(networks, problem, radius, keys, kind: AttackKind | None, n, width):
    """Accuracy [L] at each lane's radius."""

    def lane(network, problem, radius, key):
        attack = kind and kind(radius, direction=problem.dense_direction())
        robust, labelled = count_robust(network, problem, attack, key=key, n=n)
        return jnp.where(is_finite(network), robust / labelled, jnp.nan)

    return _over_lanes(lane, width, networks, problem, radius, keys)


@eqx.filter_jit
def _without_mixtures(networks, problem) -> SymmetricReLU:
    mixtures = jax.vmap(lambda network, own: dense_part(network.weights, own))(networks, problem)
    return eqx.tree_at(lambda n: n.weights, networks, networks.weights - mixtures)


@eqx.filter_jit
def _excluded(problem, keys, n):
    """Fraction of the first test points without a label, [L]."""

    def lane(problem, key):
        sample_key, _ = jax.random.split(key)
        return jnp.mean(~problem.sample(sample_key, n).labelled)

    return _over_lanes(lane, 1, problem, keys)


@eqx.filter_jit
def _statistics(networks, problem, keys, n, width) -> Mapping[str, Array]:
    """The weight statistics of `summarise` and the active fraction, [L] each."""

    def lane(network, problem, key):
        sample_key, _ = jax.random.split(key)
        active = network.active(problem.sample(sample_key, min(CHUNK, n)).x)
        parts = decompose(network.weights, problem)
        return summarise(parts, problem) | {"active_fraction": jnp.mean(active.astype(jnp.float32))}

    return _over_lanes(lane, width, networks, problem, keys)


@eqx.filter_jit
def _relations(networks: Mapping[str, SymmetricReLU], problem, width) -> Mapping[str, Array]:
    """Overlaps between phases and the fate of the lottery tickets, [L] each."""

    def lane(weights, problem):
        carrier = decompose(weights["clean"], problem).carrier
        found = {
            name: jnp.nanmedian(jnp.where(carrier, overlap(weights[a], weights[b]), jnp.nan))
            for name, (a, b) in _PAIRS.items()
        }
        # σ₀ as drawn: known to 1/√(2md) of itself.
        sigma_0 = jnp.sqrt(jnp.mean(weights["init"] ** 2))
        outcome = ticket_outcome(weights["init"], weights["clean"], problem, sigma_0)
        return found | {
            f"ticket_{name.removeprefix('ticket_')}": getattr(outcome, name) for name in TICKETS
        }

    weights = {phase: network.weights for phase, network in networks.items()}
    return _over_lanes(lane, width, weights, problem)


@eqx.filter_jit
def _critical(networks, problem, tau, keys, kind: AttackKind, n, width):
    """Critical radius and its interval, [L] each; exact along a fixed direction."""

    def lane(network, problem, tau, key):
        exact = type(network) is SymmetricReLU and network.smoothing == "none"
        if kind.name == "dense mixture" and exact:
            return dense_critical_radius(network, problem, kind.norm, key=key, n=n)
        low, high = (multiple * tau for multiple in CRITICAL_RANGE)
        direction = problem.dense_direction()
        return bisect_critical_radius(
            network,
            problem,
            lambda r: kind(r, direction=direction),
            key=key,
            n=n,
            low=low,
            high=high,
        )

    return _over_lanes(lane, width, networks, problem, tau, keys)


def _losses(run: TrainingRun) -> dict[str, tuple[Any, ...]]:
    """The last recorded losses of each phase; "init" is the first record."""
    last = [0, *(int(np.flatnonzero(run.record_phase == p)[-1]) for p in list(run.networks)[1:])]
    labels = {
        "loss": "logistic loss on held-out clean samples at the end of the phase",
        "training_loss": "logistic loss of the phase's last batch, as attacked",
    }
    return {
        name: (
            ("lane", "phase"),
            np.array(run.records[name][last].T, float),
            {"long_name": label, "source": "[P] §3"},
        )
        for name, label in labels.items()
    }
