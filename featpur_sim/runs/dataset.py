"""The labelled result of a run: one xarray Dataset (docs/theory.md §4, §5).

Every variable carries ``long_name``, ``units`` where it has one, and ``source``; see
`featpur_sim.runs.variables`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim import __version__
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.lanes import Lanes, overlaps
from featpur_sim.measure.weights import decompose, rescaling, strongest, update_spectrum
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs import evaluation
from featpur_sim.runs.config import RunConfig, dump
from featpur_sim.runs.diagnosis import diagnose
from featpur_sim.runs.variables import VARIABLES, variable
from featpur_sim.training.course import TrainingRun
from featpur_sim.training.identity import software
from featpur_sim.training.step import Status

PHASES = ("init", "clean", "adversarial")
REFERENCE_ATTACKS = ("dense mixture", "FGM", "PGD")
# Neurons whose coordinates are kept for the heat map, from the first seed.
SHOWN_NEURONS = 24


class Scores(NamedTuple):
    """What evaluation hands over; arrays start with the seed axis."""

    networks: evaluation.Judgement
    """Of the three phases."""
    references: evaluation.Judgement
    pure_bias: float
    excluded: np.ndarray
    """Fraction of the test points without a label, [seed]."""
    along: dict[int, np.ndarray]
    """Step of the adversarial phase → PGD accuracy at the training radius, [seed]."""
    margins: np.ndarray
    """[seed, phase, radius, quantile]"""


def assemble(config: RunConfig, lanes: Lanes, trained: TrainingRun, scores: Scores) -> xr.Dataset:
    """Put everything a run measured under its labels; the lanes are its seeds."""
    first = jax.tree.map(lambda leaf: leaf[0], lanes.problem)
    variables: dict[str, tuple] = {}
    variables |= _accuracies(scores)
    variables |= _weights(lanes, trained)
    variables |= _pairs(config, lanes, trained)
    variables |= _trajectories(trained)
    variables |= _shown(first, trained)
    variables |= _health(first, trained)
    variables["wstar"] = (
        variable("wstar", lanes.problem.wstar, ("seed", "feature"))
        if config.draw == "per-seed"
        else variable("wstar", first.wstar)
    )
    variables["status_step"] = variable("status_step", trained.status_step)
    radii = np.asarray(config.evaluation.radii) * config.adversarial.radius
    coords = {
        "seed": np.arange(1, config.seeds + 1),
        "phase": list(PHASES),
        "attack": list(evaluation.ATTACKS),
        "radius": variable("radius", radii, ("radius",)),
        "relative_radius": ("radius", np.asarray(config.evaluation.radii)),
        "reference": list(evaluation.REFERENCES),
        "reference_attack": list(REFERENCE_ATTACKS),
        "margin_quantile": list(evaluation.MARGIN_QUANTILES),
        "feature": np.arange(first.D),
        "neuron": np.arange(config.network.neurons),
        "record_phase": ("record", trained.record_phase.astype(str)),
        "record_step": ("record", trained.record_step, {"units": "steps"}),
        "snapshot": ("snapshot", list(scores.along), {"units": "steps"}),
    }
    attributes = {
        "title": f"featpur_sim run '{config.name}'",
        "name": config.name,
        "config": dump(config),
        "version": __version__,
        "software": software(),
        "draw": config.draw,
        "d": first.d,
        "D": first.D,
        "m": config.network.neurons,
        "k": float(first.k),
        "sigma_x": float(first.sigma_x),
        "tau": config.adversarial.radius,
        "norm": config.adversarial.norm,
        "test_samples": config.evaluation.samples,
        "certify_points": min(config.evaluation.certify_points, config.evaluation.samples),
    }
    return xr.Dataset(variables, coords, attributes)


def _health(problem: SparseCoding, trained: TrainingRun) -> dict[str, tuple]:
    """How the training of each seed went, and why; see `featpur_sim.runs.diagnosis`."""
    found = diagnose(
        [Status(int(s)).name.lower() for s in trained.status],
        trained.status_step,
        trained.record_phase,
        trained.records,
        float(problem.k) / problem.d,
    )
    return {
        name: variable(name, text)
        for name, text in zip(("status", "reason", "training_warning"), found, strict=True)
    }


def _accuracies(scores: Scores) -> dict[str, tuple]:
    found = {
        "robust_accuracy": scores.networks.accuracy,
        "reference_accuracy": scores.references.accuracy,
        "pure_bias": scores.pure_bias,
        "excluded_fraction": scores.excluded,
        "accuracy_along": np.stack(list(scores.along.values()), axis=1),
        "dense_margin": scores.margins,
    }
    if np.isfinite(scores.networks.certified).any():
        found |= {
            "certified_accuracy": scores.networks.certified,
            "attacked_accuracy": scores.networks.attacked,
            "reference_certified_accuracy": scores.references.certified,
            "reference_attacked_accuracy": scores.references.attacked,
        }
    return {name: variable(name, values) for name, values in found.items()}


def _stack(trained: TrainingRun):
    weights = [np.asarray(trained.networks[name].weights) for name in PHASES]
    return jax.device_put(np.stack(weights, axis=1))


def _weights(lanes: Lanes, trained: TrainingRun) -> dict[str, tuple]:
    """Per-neuron decomposition and its aggregates, for every seed and phase."""
    networks = [trained.networks[phase] for phase in PHASES]
    parts = _decompose(_stack(trained), lanes.problem)
    totals = [lanes.statistics(network) for network in networks]
    found = {name: np.asarray(getattr(parts, name)) for name in _PER_NEURON}
    found["carrier"] = found["carrier"].astype(np.int8)
    found |= {name: np.stack([of[name] for of in totals], axis=1) for name in totals[0]}
    return {name: variable(name, values) for name, values in found.items()}


_PER_NEURON = (
    "pure_index", "alpha", "kappa", "dense_norm", "residual_norm", "norm", "carrier"
)  # fmt: skip


@jax.jit
def _decompose(weights, problem):
    """Of weights [S, phase, m, d]."""
    return jax.vmap(lambda own, p: jax.vmap(lambda w: decompose(w, p))(own))(weights, problem)


@jax.jit
def _updates(clean, adversarial):
    """What purification changed in every neuron, and its spectrum."""
    return jax.vmap(rescaling)(clean, adversarial), jax.vmap(update_spectrum)(clean, adversarial)


def _pairs(config: RunConfig, lanes: Lanes, trained: TrainingRun) -> dict[str, tuple]:
    """What relates the weights of two phases: overlaps, rescaling, spectra, tickets."""
    networks = trained.networks
    clean, adversarial = networks["clean"].weights, networks["adversarial"].weights
    found: dict[str, Any] = overlaps(networks)
    split, (plain, rescaled) = _updates(clean, adversarial)
    found |= {name: getattr(split, name) for name in ("beta", "kept_norm", "removed_norm")}
    found |= {"update_singular_values": plain, "rescaled_update_singular_values": rescaled}
    sigma_0 = jnp.full(config.seeds, config.network.sigma_0, jnp.float32)
    found |= lanes.tickets(networks["init"], networks["clean"], sigma_0)
    return {name: variable(name, values) for name, values in found.items()}


def _trajectories(trained: TrainingRun) -> dict[str, tuple]:
    """What was recorded along training: dims (record, seed), names with the prefix ``along_``."""
    found: dict[str, tuple] = {}
    for name, values in trained.records.items():
        along = f"along_{name}"
        if along in VARIABLES:
            found[along] = variable(along, values)
        elif name != "status":  # told apart by `_health`
            dims = ("record", "seed", *(f"{along}_{i}" for i in range(values.ndim - 2)))
            labels = {"long_name": f"{name}, observed by the user", "source": "[M]"}
            found[along] = (dims, values, labels)
    return found


def _shown(problem: SparseCoding, trained: TrainingRun) -> dict[str, tuple]:
    """Coordinates C of some neurons of the first seed: those with the largest clean |α|."""
    weights = jax.device_put(np.stack([trained.networks[name].weights[0] for name in PHASES]))
    coordinates = np.asarray(problem.coordinates(weights))
    order = strongest(coordinates[PHASES.index("clean")], SHOWN_NEURONS)
    found = {
        "shown_coordinates": coordinates[:, order],
        "shown_neuron": order,
    }
    return {name: variable(name, values) for name, values in found.items()}


def weights(
    config: RunConfig, given: SparseCoding, simulated: SparseCoding, trained: TrainingRun
) -> dict[str, np.ndarray]:
    """The arrays of ``weights.npz``, in the coordinates of the user's own dictionary.

    Another tool can check a run from these alone: weights [S, m, d] and thresholds of each phase,
    w* [S, D], M ([d, D] if the seeds share it, else [S, d, D]; absent for the identity) and the
    scalars of the problem.

    Args:
        config: of the run.
        given: the problem of each seed, in the user's coordinates.
        simulated: the same in those of the networks.
        trained: the networks.
    """
    for network in trained.networks.values():
        if type(network) is not SymmetricReLU:
            raise ValueError(
                f"a {type(network).__name__} cannot be saved: weights and thresholds are read back "
                "as a SymmetricReLU. Save its arrays yourself."
            )
    M = given.M[0] if given.M is not None and config.draw == "shared" else given.M
    rotation = M if simulated.M is None else None

    def back(name):
        value = trained.networks[name].weights
        return np.asarray(value if rotation is None else value @ jnp.swapaxes(rotation, -1, -2))

    arrays = {
        "W0": back("init"),
        "W_clean": back("clean"),
        "W_adv": back("adversarial"),
        "b_clean": np.asarray(trained.networks["clean"].bias),
        "b_adv": np.asarray(trained.networks["adversarial"].bias),
        "wstar": np.asarray(given.wstar),
        "d": np.int64(given.d),
        "D": np.int64(given.D),
        "m": np.int64(config.network.neurons),
        "k": np.float64(config.problem.k),
        "sigma_x": np.float64(config.problem.sigma_x),
        "tau": np.float64(config.adversarial.radius),
        "p_one": np.float64(config.problem.p_one),
        "sigma_rho": np.float64(config.network.sigma_rho),
    }
    if config.parts.network is not None:
        arrays["b_init"] = np.asarray(trained.networks["init"].bias)
    if M is not None:
        arrays["M"] = np.asarray(M)
    return arrays
