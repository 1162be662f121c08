"""The labelled result of a run: one xarray Dataset (docs/theory.md §4, §5).

Every variable carries ``long_name``, ``units`` where it has one, and ``source``: the paper's
definition [P], one derived here [D], or [M] for a plain measurement.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim import __version__
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.tickets import ticket_outcome
from featpur_sim.measure.weights import decompose, overlap, rescaling, summarise, update_spectrum
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs import evaluation
from featpur_sim.runs.config import RunConfig, dump
from featpur_sim.runs.diagnosis import diagnose
from featpur_sim.training.course import TrainingRun
from featpur_sim.training.step import Status

PHASES = ("init", "clean", "adversarial")
REFERENCE_ATTACKS = ("dense mixture", "FGM", "PGD")
# Neurons whose coordinates are kept for the heat map, from the first seed.
SHOWN_NEURONS = 24

SUMMARIES = {
    "kappa_over_alpha": ("signed κ/|α|, median over carriers", "[D] §4"),
    "kappa_over_alpha_mean": ("signed κ/|α|, mean over carriers", "[D] §4"),
    "kappa_over_alpha_weighted": ("signed κ/|α|, α²-weighted mean over carriers", "[D] §4"),
    "dense_norm_over_alpha": ("‖v‖/|α|, median over carriers", "[D] §4"),
    "residual_norm_over_alpha": ("‖r‖/|α|, median over carriers", "[D] §4"),
    "features_covered": ("fraction of the features that some carrier holds", "[M] §4"),
    "neurons_per_feature": ("carriers per covered feature", "[M] §4"),
    "carriers": ("fraction of neurons with |α| ≥ half the largest", "[M] §4"),
    "sign_agreement": ("fraction of carriers with sgn α = sgn w*", "[M] §4"),
    "alpha_max": ("largest |α|", "[M] §4"),
    "active_fraction": ("fraction of (sample, neuron) pairs with |⟨w,x⟩| > b", "[M] §4"),
}
# Field of a `TicketOutcome` → what it says.
TICKETS = {
    "ticket_rate": "fraction of neurons that hold a winning ticket at the start",
    "win_rate": "fraction of ticket holders that end with the ticket's feature",
    "control_rate": "the same for the other neurons and their largest start coordinate",
    "features_won": "fraction of offered features that a ticket holder carries at the end",
}


class Scores(NamedTuple):
    """What evaluation hands over; arrays start with the seed axis."""

    accuracy: np.ndarray
    """[seed, phase, attack, radius]"""
    reference_accuracy: np.ndarray
    """[seed, reference, attack, radius]"""
    pure_bias: float
    excluded: np.ndarray
    """Fraction of the test points without a label, [seed]."""
    along: dict[int, np.ndarray]
    """Step of the adversarial phase → PGD accuracy at the training radius, [seed]."""
    margins: np.ndarray
    """[seed, phase, radius, quantile]"""
    sides: tuple[np.ndarray, np.ndarray] | None
    """Certified and attacked accuracy, each [seed, certified phase, radius], where there are any"""


def assemble(
    config: RunConfig, problem: SparseCoding, trained: TrainingRun, scores: Scores
) -> xr.Dataset:
    """Put everything a run measured under its labels."""
    variables: dict[str, tuple] = {}
    variables |= _accuracies(config, scores)
    variables |= _both_sides(scores)
    variables |= _weights(problem, trained)
    variables |= _pairs(config, problem, trained)
    variables |= _trajectories(trained)
    variables |= _shown(problem, trained)
    variables |= _health(problem, trained)
    variables["status_step"] = (
        "seed",
        trained.status_step,
        {"long_name": "step at which that status began", "units": "steps", "source": "[M]"},
    )
    radii = np.asarray(config.evaluation.radii) * config.adversarial.radius
    coords = {
        "seed": np.arange(1, config.seeds + 1),
        "phase": list(PHASES),
        "attack": list(evaluation.ATTACKS),
        "radius": ("radius", radii, {"long_name": "attack radius τ", "units": "units of x"}),
        "relative_radius": ("radius", np.asarray(config.evaluation.radii)),
        "reference": list(evaluation.REFERENCES),
        "reference_attack": list(REFERENCE_ATTACKS),
        "margin_quantile": list(evaluation.MARGIN_QUANTILES),
        "feature": np.arange(problem.D),
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
        "d": problem.d,
        "D": problem.D,
        "m": config.network.neurons,
        "k": float(problem.k),
        "sigma_x": float(problem.sigma_x),
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
    labels = {
        "status": "how the seed's training ended",
        "reason": "why the seed is left out of every mean",
        "training_warning": "what to keep in mind about the seed",
    }
    return {
        name: ("seed", text, {"long_name": long_name, "source": "[M]"})
        for (name, long_name), text in zip(labels.items(), found, strict=True)
    }


def _accuracies(config: RunConfig, scores: Scores) -> dict[str, tuple]:
    return {
        "robust_accuracy": (
            ("seed", "phase", "attack", "radius"),
            scores.accuracy,
            {"long_name": "accuracy under attack (an upper bound)", "source": "[M] §5"},
        ),
        "reference_accuracy": (
            ("seed", "reference", "reference_attack", "radius"),
            scores.reference_accuracy,
            {"long_name": "accuracy of reference networks under attack", "source": "[D] §5.2"},
        ),
        "pure_bias": (
            (),
            scores.pure_bias,
            {"long_name": "best threshold of the pure network", "source": "[D] §5.2"},
        ),
        "excluded_fraction": (
            "seed",
            scores.excluded,
            {"long_name": "fraction of test points without a label", "source": "[D] §1"},
        ),
        "accuracy_along": (
            ("seed", "snapshot"),
            np.stack(list(scores.along.values()), axis=1),
            {"long_name": "PGD accuracy at τ during the adversarial phase", "source": "[M] §5.2"},
        ),
        "dense_margin": (
            ("seed", "phase", "radius", "margin_quantile"),
            scores.margins,
            {
                "long_name": "margin y f along the dense direction over the median clean margin",
                "source": "[D] §5.1",
            },
        ),
    }


def _both_sides(scores: Scores) -> dict[str, tuple]:
    """The certified accuracy and the attacked one on the same points, NaN for "init"."""
    if scores.sides is None:
        return {}
    seeds, _, radii = scores.sides[0].shape
    labels = {
        "certified_accuracy": ("proved accuracy under any perturbation (a lower bound)", "[D] §8"),
        "attacked_accuracy": (
            "accuracy under the quick protocol on the certified points (an upper bound)",
            "[M] §8",
        ),
    }
    variables: dict[str, tuple] = {}
    for (name, (long_name, source)), side in zip(labels.items(), scores.sides, strict=True):
        table = np.full((seeds, len(PHASES), radii), np.nan)
        table[:, [PHASES.index(phase) for phase in evaluation.CERTIFIED_PHASES]] = side
        dims = ("seed", "phase", "radius")
        variables[name] = (dims, table, {"long_name": long_name, "source": source})
    return variables


def _stack(trained: TrainingRun):
    return jnp.stack([trained.networks[name].weights for name in PHASES], axis=1)


def _weights(problem: SparseCoding, trained: TrainingRun) -> dict[str, tuple]:
    """Per-neuron decomposition and its aggregates, for every seed and phase."""

    @jax.jit
    def measure(weights):
        parts = jax.vmap(jax.vmap(lambda w: decompose(w, problem)))(weights)
        totals = jax.vmap(jax.vmap(lambda p: summarise(p, problem)))(parts)
        return parts, totals

    parts, totals = measure(_stack(trained))
    variables = {}
    names = {
        "pure_index": "pure index j(i)",
        "alpha": "pure coefficient α",
        "kappa": "dense coefficient κ",
        "dense_norm": "norm of the dense part ‖v‖",
        "residual_norm": "norm of the residual ‖r‖",
        "norm": "norm of the weights ‖w‖",
        "carrier": "carries a feature: |α| ≥ half the largest",
    }
    for name, long_name in names.items():
        value = np.asarray(getattr(parts, name))
        value = value.astype(np.int8) if value.dtype == bool else value
        variables[name] = (
            ("seed", "phase", "neuron"),
            value,
            {"long_name": long_name, "source": "[D] §4"},
        )
    for name, value in totals.items():
        long_name, source = SUMMARIES[name]
        variables[name] = (
            ("seed", "phase"),
            np.asarray(value),
            {"long_name": long_name, "source": source},
        )
    return variables


def _pairs(config: RunConfig, problem: SparseCoding, trained: TrainingRun) -> dict[str, tuple]:
    """What relates the weights of two phases: overlaps, rescaling, spectra, tickets."""
    init, clean, adversarial = (trained.networks[name].weights for name in PHASES)
    per_neuron, source = ("seed", "neuron"), "[P] §4"
    pairs = {
        "theta_init_clean": (init, clean, "θ(init, clean)"),
        "theta_init_adversarial": (init, adversarial, "θ(init, adversarial)"),
        "theta_clean_adversarial": (clean, adversarial, "θ(clean, adversarial)"),
    }
    variables: dict[str, tuple] = {
        name: (
            per_neuron,
            np.asarray(jax.vmap(overlap)(u, v)),
            {"long_name": f"overlap {label}", "source": source},
        )
        for name, (u, v, label) in pairs.items()
    }
    split = jax.vmap(rescaling)(clean, adversarial)
    for field, label in (
        ("beta", "β of w = βw′ + v"),
        ("kept_norm", "‖βw′‖"),
        ("removed_norm", "‖v‖ = ‖w − βw′‖"),
    ):
        variables[field] = (
            per_neuron,
            np.asarray(getattr(split, field)),
            {"long_name": label, "source": source},
        )
    plain, rescaled = jax.vmap(update_spectrum)(clean, adversarial)
    for name, value, label in (
        ("update_singular_values", plain, "singular values of W′ − W"),
        ("rescaled_update_singular_values", rescaled, "singular values of W − βW′"),
    ):
        variables[name] = (
            ("seed", "singular"),
            np.asarray(value),
            {"long_name": label, "source": "[P] v4, §4"},
        )
    sigma_0 = config.network.sigma_0
    outcome = jax.vmap(lambda a, b: ticket_outcome(a, b, problem, sigma_0))(init, clean)
    for name, label in TICKETS.items():
        variables[f"ticket_{name.removeprefix('ticket_')}"] = (
            "seed",
            np.asarray(getattr(outcome, name)),
            {"long_name": label, "source": "[P] §4"},
        )
    variables["ticket_feature"] = (
        per_neuron,
        np.asarray(outcome.feature),
        {"long_name": "feature whose ticket the neuron holds, or −1", "source": "[P] §4"},
    )
    return variables


def _trajectories(trained: TrainingRun) -> dict[str, tuple]:
    """What was recorded along training: dims (record, seed), names with the prefix ``along_``."""
    extra = {
        "loss": ("logistic loss on held-out clean samples", "[P] §3"),
        "training_loss": ("logistic loss of the last batch, as attacked", "[P] §3"),
        "accuracy": ("clean accuracy on held-out samples", "[M] §5"),
        "bias": ("threshold b, median over neurons", "[P] §3"),
        "dense_attack_accuracy": ("accuracy under the dense attack at τ", "[P] §5"),
        "stationarity_weights": ("κ/α of the weights, α²-weighted over carriers", "[D] §7"),
        "push_dense": (
            "push of the data on κ, per pull of decay on α; equal to κ/α at rest",
            "[D] §7",
        ),
        "push_pure": ("push of the data on α, per pull of decay on α; 1 at rest", "[D] §7"),
    }
    labels = SUMMARIES | extra
    return {
        f"along_{name}": (
            ("record", "seed"),
            values,
            {"long_name": labels[name][0], "source": labels[name][1]},
        )
        for name, values in trained.records.items()
        if name in labels
    }


def _shown(problem: SparseCoding, trained: TrainingRun) -> dict[str, tuple]:
    """Coordinates C of some neurons of the first seed: those with the largest clean |α|."""
    weights = _stack(trained)[0]
    coordinates = np.asarray(problem.coordinates(weights))
    strength = np.abs(coordinates[1]).max(axis=-1)
    order = np.argsort(-strength)[: max(SHOWN_NEURONS, 1)]
    order = order[np.argsort(np.abs(coordinates[1][order]).argmax(axis=-1), kind="stable")]
    return {
        "shown_coordinates": (
            ("phase", "shown", "feature"),
            coordinates[:, order],
            {"long_name": "coordinates C = WM of chosen neurons, first seed", "source": "[D] §4"},
        ),
        "shown_neuron": (
            "shown",
            order,
            {"long_name": "which neurons are shown", "source": "[M] §4"},
        ),
        "wstar": (
            "feature",
            np.asarray(problem.wstar),
            {"long_name": "label weights w*", "source": "[P] §1"},
        ),
    }


def weights(
    config: RunConfig, given: SparseCoding, simulated: SparseCoding, trained: TrainingRun
) -> dict[str, np.ndarray]:
    """The arrays of ``weights.npz``, in the coordinates of the user's own dictionary.

    Another tool can check a run from these alone: weights [S, m, d] and thresholds of each phase,
    M (absent for the identity), w* [S, D] and the scalars of the problem.
    """
    for network in trained.networks.values():
        if type(network) is not SymmetricReLU:
            raise ValueError(
                f"a {type(network).__name__} cannot be saved: weights and thresholds are read back "
                "as a SymmetricReLU. Save its arrays yourself."
            )
    rotated = given.M is not None and simulated.M is None

    def back(name):
        value = trained.networks[name].weights
        return np.asarray(value @ given.M.T if rotated and given.M is not None else value)

    arrays = {
        "W0": back("init"),
        "W_clean": back("clean"),
        "W_adv": back("adversarial"),
        "b_clean": np.asarray(trained.networks["clean"].bias),
        "b_adv": np.asarray(trained.networks["adversarial"].bias),
        "wstar": np.broadcast_to(np.asarray(given.wstar), (config.seeds, given.D)).copy(),
        "d": np.int64(given.d),
        "D": np.int64(given.D),
        "m": np.int64(config.network.neurons),
        "k": np.float64(config.problem.k),
        "sigma_x": np.float64(config.problem.sigma_x),
        "tau": np.float64(config.adversarial.radius),
        "p_one": np.float64(config.problem.p_one),
        "sigma_rho": np.float64(config.network.sigma_rho),
    }
    if given.M is not None:
        arrays["M"] = np.asarray(given.M)
    return arrays
