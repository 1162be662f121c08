"""Every variable of a result: its dimensions, what it means, its units, its source.

Runs, sweeps and evaluations label what they measure from this one table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Variable(NamedTuple):
    """What a variable of a result means."""

    dims: tuple[str, ...]
    """In the dataset of a run; empty for those that only a sweep has."""
    long_name: str
    source: str
    """The paper's definition [P], one derived here [D], or [M] for a plain measurement."""
    units: str = ""
    required: bool = True
    """Of the dataset of a run; development versions lack some."""


def _of(dims: str, source: str, **long_names: str) -> dict[str, Variable]:
    return {name: Variable(tuple(dims.split()), text, source) for name, text in long_names.items()}


_SUMMARIES = {
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
    "purity": ("fraction of neurons with |⟨w,M_j⟩| > ‖w‖/2 (Sun et al. 2025)", "[M] §4"),
    "pure_distance": ("distance of W from one feature per neuron, over ‖W‖", "[M] §4"),
    "active_fraction": ("fraction of (sample, neuron) pairs with |⟨w,x⟩| > b", "[M] §4"),
}
# What else is recorded along training.
_ALONG = {
    "loss": ("logistic loss on held-out clean samples", "[P] §3"),
    "training_loss": ("logistic loss of the last batch, as attacked", "[P] §3"),
    "accuracy": ("clean accuracy on held-out samples", "[M] §5"),
    "bias": ("threshold b, median over neurons", "[P] §3"),
    "dense_attack_accuracy": ("accuracy under the dense attack at τ", "[P] §5"),
    "stationarity_weights": ("κ/α of the weights, α²-weighted over carriers", "[D] §7"),
    "push_dense": ("push of the data on κ, per pull of decay on α; equal to κ/α at rest", "[D] §7"),
    "push_pure": ("push of the data on α, per pull of decay on α; 1 at rest", "[D] §7"),
}
_YOUNG = {
    "along_stationarity_weights",
    "along_push_dense",
    "along_push_pure",
    "reason",
    "training_warning",
    "certified_accuracy",
    "attacked_accuracy",
    "reference_certified_accuracy",
    "reference_attacked_accuracy",
    "purity",
    "pure_distance",
    "along_purity",
    "along_pure_distance",
}

_ALL = (
    # Accuracies.
    _of(
        "seed phase attack radius", "[M] §5",
        robust_accuracy="accuracy under attack (an upper bound)",
    )
    | _of(
        "seed reference reference_attack radius", "[D] §5.2",
        reference_accuracy="accuracy of reference networks under attack",
    )
    | _of("seed", "[D] §1", excluded_fraction="fraction of test points without a label")
    | _of("", "[D] §5.2", pure_bias="best threshold of the pure network")
    | _of(
        "seed snapshot", "[M] §5.2", accuracy_along="PGD accuracy at τ during the adversarial phase"
    )
    | _of(
        "seed phase radius margin_quantile", "[D] §5.1",
        dense_margin="margin y f along the dense direction over the median clean margin",
    )
    | _of(
        "seed phase radius", "[D] §8",
        certified_accuracy="proved accuracy under any perturbation (a lower bound)",
    )
    | _of(
        "seed phase radius", "[M] §8",
        attacked_accuracy="accuracy under all attacks together on the points that are certified "
        "(an upper bound)",
    )
    | _of(
        "seed reference radius", "[D] §8",
        reference_certified_accuracy="proved accuracy of reference networks (a lower bound)",
    )
    | _of(
        "seed reference radius", "[M] §8",
        reference_attacked_accuracy="accuracy of reference networks under all attacks together on "
        "the points that are certified (an upper bound)",
    )
    # Weights.
    | {name: Variable(("seed", "phase"), *labels) for name, labels in _SUMMARIES.items()}
    | _of(
        "seed phase neuron", "[D] §4",
        pure_index="pure index j(i)",
        alpha="pure coefficient α",
        kappa="dense coefficient κ",
        dense_norm="norm of the dense part ‖v‖",
        residual_norm="norm of the residual ‖r‖",
        norm="norm of the weights ‖w‖",
        carrier="carries a feature: |α| ≥ half the largest",
    )
    | _of(
        "seed neuron", "[P] §4",
        theta_init_clean="overlap θ(init, clean)",
        theta_init_adversarial="overlap θ(init, adversarial)",
        theta_clean_adversarial="overlap θ(clean, adversarial)",
        beta="β of w = βw′ + v",
        kept_norm="‖βw′‖",
        removed_norm="‖v‖ = ‖w − βw′‖",
        ticket_feature="feature whose ticket the neuron holds, or −1",
    )
    | _of(
        "seed singular", "[P] v4, §4",
        update_singular_values="singular values of W′ − W",
        rescaled_update_singular_values="singular values of W − βW′",
    )
    | _of(
        "seed", "[P] §4",
        ticket_rate="fraction of neurons that hold a winning ticket at the start",
        ticket_win_rate="fraction of ticket holders that end with the ticket's feature",
        ticket_control_rate="the same for the other neurons and their largest start coordinate",
        ticket_features_won="fraction of offered features that a ticket holder carries at the end",
    )
    | _of(
        "phase shown feature", "[D] §4",
        shown_coordinates="coordinates C = WM of chosen neurons, first seed",
    )
    | _of("shown", "[M] §4", shown_neuron="which neurons are shown")
    | _of("feature", "[P] §1", wstar="label weights w*")  # of each seed where seeds draw their own
    # Training.
    | {
        f"along_{name}": Variable(("record", "seed"), *labels)
        for name, labels in (_SUMMARIES | _ALONG).items()
    }
    | _of(
        "seed", "[M]",
        status="how training ended",
        reason="why the seed is left out of every mean",
        training_warning="what to keep in mind about the seed",
    )
    | {"status_step": Variable(("seed",), "step at which that status began", "[M]", "steps")}
    # Of sweeps.
    | _of("", "[M] §5", clean_accuracy="accuracy without attack")
    | _of(
        "", "[D] §5.1",
        cut_accuracy="accuracy without attack of the clean-trained network with its dense mixtures "
        "cut out",
        purification_factor="κ/α after clean over after adversarial training",
    )
    | _of("", "[D] §5.2", pure_accuracy="accuracy of the pure network under PGD")
    | {
        name: Variable((), text, "[D] §5.1", "units of x")
        for name, text in {
            "critical_radius": "radius that flips half of the points classified right",
            "critical_radius_low": "its 95 % interval over test points, lower end",
            "critical_radius_high": "its 95 % interval over test points, upper end",
        }.items()
    }
    | _of(
        "", "[P] §3",
        loss="logistic loss on held-out clean samples at the end of the phase",
        training_loss="logistic loss of the phase's last batch, as attacked",
    )
    | {"radius": Variable((), "attack radius τ", "[P] §3", "units of x")}
)  # fmt: skip
VARIABLES: dict[str, Variable] = {
    name: found._replace(required=name not in _YOUNG) for name, found in _ALL.items()
}
"""Every variable that a run or a sweep measures, by name."""

_COORDINATES = {
    "record_phase": "record",
    "record_step": "record",
    "relative_radius": "radius",
    "shown_neuron": "shown",
} | {
    name: name
    for name in "seed phase attack radius reference reference_attack margin_quantile feature "
    "neuron snapshot".split()
}


def variable(
    name: str, values: ArrayLike, dims: Sequence[str] | None = None, *, note: str = ""
) -> tuple[Sequence[str], NDArray, dict[str, str]]:
    """A variable for xarray: dimensions, values, labels.

    Args:
        name: one of `VARIABLES`.
        values: shaped as ``dims`` say.
        dims: where they are not those of a run.
        note: what is special about the values here; added to the long name.
    """
    known = VARIABLES[name]
    attributes = {"long_name": known.long_name + (f", {note}" if note else "")}
    attributes |= {"units": known.units} if known.units else {}
    attributes["source"] = known.source
    return known.dims if dims is None else dims, np.asarray(values), attributes


def _required() -> dict[str, tuple[str, ...]]:
    """Variables and coordinates of the dataset of a run → their dimensions."""
    measured = {
        name: known.dims
        for name, known in VARIABLES.items()
        if known.required and (known.dims or name == "pure_bias")
    }
    # Coordinates first: a lost dimension is named before all that had it.
    return {name: (dim,) for name, dim in _COORDINATES.items()} | measured


DIMENSIONS = _required()
