"""What a sweep measures of its lanes, labelled (`measure.lanes`; docs/theory.md §4, §5).

A run measures more of fewer networks; see `featpur_sim.runs.evaluation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.lanes import Lanes, put
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.config import EvaluationConfig
from featpur_sim.runs.diagnosis import OK, diagnose
from featpur_sim.runs.variables import variable
from featpur_sim.sweeps.keep import kept, numbered
from featpur_sim.training.course import TrainingRun
from featpur_sim.training.step import Status

ATTACKS: tuple[AttackName, ...] = ("random noise", "dense mixture", "FGM", "PGD")
CRITICAL_ATTACKS: tuple[AttackName, ...] = ("dense mixture", "PGD")
# Bracket of the bisected critical radius in units of τ, which presets put at 0.3/√k.
CRITICAL_RANGE = (1 / 32, 16.0)
# Stream of a lane's key that names the points on which the pure network's threshold is chosen.
_TUNING = 1


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
    keep: Sequence[str] = (),
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
        keep: what else to put into it; see `featpur_sim.sweeps.keep`.

    Returns:
        A Dataset whose variables all have the leading dimension "lane", further ones among
        "phase", "attack", "relative_radius", "critical_attack". Measurements of a lane whose
        status is not "ok" are NaN; its ``reason`` says why (`featpur_sim.runs.diagnosis`).
    """
    survey_of = _Survey(problem, run, keys, evaluation, jnp.asarray(tau, jnp.float32), norm, memory)
    table = survey_of.accuracies() | survey_of.pure() | survey_of.weights() | survey_of.critical()
    table |= _losses(run)
    also = kept(problem, run, keep)
    table |= also
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
    others: dict[str, ArrayLike] = {
        "status": found.status,
        "reason": found.reason,
        "training_warning": found.warning,
        "status_step": run.status_step,
    }
    table |= {name: variable(name, values, ("lane",)) for name, values in others.items()}
    radii = np.asarray(tau)[:, None] * relative
    table["radius"] = variable("radius", radii, ("lane", "relative_radius"))
    coords = {
        "phase": list(run.networks),
        "attack": list(ATTACKS),
        "critical_attack": list(CRITICAL_ATTACKS),
        "relative_radius": relative,
        **numbered(also),
    }
    return xr.Dataset(table, coords, {"norm": norm, "test_samples": evaluation.samples})


def _at_records(run: TrainingRun, table: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """What a diagnosis reads of the weights, [record, lane]: that of the end of the record's phase.

    A sweep records the loss alone along training.
    """
    phases = [list(run.networks).index(name) for name in run.record_phase]
    return {name: table[name][1][:, phases].T for name in ("active_fraction", "kappa_over_alpha")}


class _Survey:
    """The arguments of `survey` and what is measured on them, as variables."""

    def __init__(self, problem, run, keys, evaluation, tau, norm, memory):
        self.lanes = Lanes(problem, keys, evaluation.samples, memory)
        self.networks, self.tau = run.networks, tau
        self.radii = np.asarray(evaluation.radii)
        self.kinds = {
            name: AttackKind(name, norm, evaluation.pgd_steps, evaluation.pgd_restarts)
            for name in ATTACKS
        }

    def curve(self, networks: SymmetricReLU, attack: str) -> Float[np.ndarray, "L r"]:
        """Accuracy at every radius."""
        accuracies = [
            self.lanes.accuracy(networks, self.kinds[attack], jnp.float32(multiple) * self.tau)
            if multiple
            else self.lanes.accuracy(networks)
            for multiple in self.radii
        ]
        return np.stack(accuracies, axis=1)

    def accuracies(self) -> dict[str, tuple]:
        curves = [[self.curve(net, a) for a in ATTACKS] for net in self.networks.values()]
        table = np.moveaxis(np.array(curves), 2, 0)
        clean = self.networks["clean"]
        cut = put(clean, -self.lanes.mixtures(clean))
        by_radius = ("lane", "phase", "attack", "relative_radius")
        at_zero = table[:, :, 0, self.radii == 0][..., 0].copy()
        return {
            "robust_accuracy": variable("robust_accuracy", table, by_radius),
            "clean_accuracy": variable("clean_accuracy", at_zero, ("lane", "phase")),
            "cut_accuracy": variable("cut_accuracy", self.lanes.accuracy(cut), ("lane",)),
            "excluded_fraction": variable("excluded_fraction", self.lanes.excluded(), ("lane",)),
        }

    def pure(self) -> dict[str, tuple]:
        """The pure network with the threshold that withstands PGD best on other points (§5.2)."""
        fresh = jax.vmap(lambda key: jax.random.fold_in(key, _TUNING))(self.lanes.keys)
        scores = self.lanes.on(fresh).pure_scores(self.kinds["PGD"], self.tau)
        best = np.argmax(scores, axis=0)
        bias = np.take_along_axis(self.lanes.pure_biases(), best[None], axis=0)[0]
        curve = self.curve(self.lanes.pure_networks(bias), "PGD")
        return {
            "pure_accuracy": variable("pure_accuracy", curve, ("lane", "relative_radius")),
            "pure_bias": variable("pure_bias", np.array(bias, float), ("lane",)),
        }

    def weights(self) -> dict[str, tuple]:
        phases = list(self.networks)
        found = [self.lanes.statistics(network) for network in self.networks.values()]
        totals = {name: np.stack([of[name] for of in found], axis=1) for name in found[0]}
        variables = {
            name: variable(name, values, ("lane", "phase")) for name, values in totals.items()
        }
        for name, values in self.lanes.median_overlaps(self.networks).items():
            of_clean = "median over clean carriers"
            variables[name] = variable(name, values, ("lane",), note=of_clean)
        initial = self.networks["init"]
        # σ₀ as drawn: known to 1/√(2md) of itself.
        sigma_0 = jnp.sqrt(jnp.mean(initial.weights**2, axis=(1, 2)))
        fates = self.lanes.tickets(initial, self.networks["clean"], sigma_0)
        for name in fates.keys() - {"ticket_feature"}:
            variables[name] = variable(name, np.array(fates[name], float), ("lane",))
        ratio = totals["kappa_over_alpha"]
        clean, adversarial = phases.index("clean"), phases.index("adversarial")
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = ratio[:, clean] / ratio[:, adversarial]
        variables["purification_factor"] = variable("purification_factor", factor, ("lane",))
        return variables

    def critical(self) -> dict[str, tuple]:
        shape = (len(self.tau), len(self.networks), len(CRITICAL_ATTACKS))
        tables = np.full((3, *shape), np.nan)
        low, high = (jnp.multiply(multiple, self.tau) for multiple in CRITICAL_RANGE)
        for p, (phase, network) in enumerate(self.networks.items()):
            if phase == "init":  # it classifies by chance: there is nothing to flip
                continue
            for a, attack in enumerate(CRITICAL_ATTACKS):
                kind = self.kinds[attack]
                tables[:, :, p, a] = self.lanes.critical_radius(network, kind, low, high)
        dims = ("lane", "phase", "critical_attack")
        names = ("critical_radius", "critical_radius_low", "critical_radius_high")
        return {name: variable(name, t, dims) for name, t in zip(names, tables, strict=True)}


def _losses(run: TrainingRun) -> dict[str, tuple[Any, ...]]:
    """The last recorded losses of each phase; "init" is the first record."""
    last = [0, *(int(np.flatnonzero(run.record_phase == p)[-1]) for p in list(run.networks)[1:])]
    return {
        name: variable(name, np.array(run.records[name][last].T, float), ("lane", "phase"))
        for name in ("loss", "training_loss")
    }
