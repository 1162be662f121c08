"""Which settings each variable of a sweep depends on: the table that says which runs are the same.

A network at the end of a phase is made by the problem, the start and the phases so far, and by
nothing that comes later: clean training never sees τ. What is measured *on* it may still read τ, as
the accuracy under attack at 1τ does. Two points that agree in all that a variable depends on hold
the same runs, since seed s starts from the same keys at every point (docs/how-to/fit.md).
"""

import json
from collections.abc import Mapping

import xarray as xr

from featpur_sim.sweeps.fields import SHORT

# Norm and optimisers decide whether M is rotated away (`featpur_sim.runs.experiment.simulated`).
_LATER = ("adversarial.norm", "adversarial.optimizer")

# Fields, or tables of them, that make what stands at the end of a phase: what decides the data's
# coordinates is part of the data; the first thresholds are the clean phase's.
_MADE_BY = {
    "problem": ("problem", "clean.optimizer", *_LATER),
    "init": ("problem", "network", "clean.bias", "clean.optimizer", *_LATER),
    "clean": ("problem", "network", "clean", *_LATER),
    "adversarial": ("problem", "network", "clean", "adversarial"),
}

_POINTS = ("evaluation.samples",)
_DESCENT = ("evaluation.pgd_steps", "evaluation.pgd_restarts")
_RADIUS = ("adversarial.radius",)
_OWN = ""  # measured at every phase: the label says which

# Variable → where it is measured, and what else its measurement reads. Attacks add what they read.
_MEASURED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "kappa_over_alpha", "kappa_over_alpha_mean", "kappa_over_alpha_weighted",
            "dense_norm_over_alpha", "residual_norm_over_alpha", "features_covered",
            "neurons_per_feature", "carriers", "sign_agreement", "alpha_max",
            "purity", "pure_distance", "loss", "training_loss",
        ),
        (_OWN, ()),
    ),
    # A critical radius under PGD is bisected in [τ/32, 16τ]: that moves its last digits, not the
    # radius, but cuts its interval.
    **dict.fromkeys(
        ("active_fraction", "clean_accuracy", "robust_accuracy", "critical_radius"),
        (_OWN, _POINTS),
    ),
    **dict.fromkeys(
        ("critical_radius_low", "critical_radius_high"),
        (_OWN, _POINTS + _RADIUS),
    ),
    "ticket_rate": ("init", ()),
    **dict.fromkeys(
        ("theta_init_clean", "ticket_win_rate", "ticket_control_rate", "ticket_features_won"),
        ("clean", ()),
    ),
    "cut_accuracy": ("clean", _POINTS),
    **dict.fromkeys(
        ("theta_init_adversarial", "theta_clean_adversarial", "purification_factor"),
        ("adversarial", ()),
    ),
    "excluded_fraction": ("problem", _POINTS),
    # The pure network's threshold is the one that withstands PGD at τ best.
    **dict.fromkeys(("pure_accuracy", "pure_bias"), ("problem", _POINTS + _DESCENT + _RADIUS)),
    "radius": ("problem", _RADIUS),
}  # fmt: skip


def settings_read(name: str, at: Mapping[str, str]) -> tuple[str, ...] | None:
    """The fields, or tables of fields, that a variable depends on; None if it may be any.

    Args:
        name: a variable of a sweep; one of a survey of the user's own may depend on anything.
        at: dimension → label, of those that it is read at.

    >>> settings_read("kappa_over_alpha", {"phase": "clean"})
    ('problem', 'network', 'clean', 'adversarial.norm', 'adversarial.optimizer')
    >>> "adversarial.radius" in settings_read(
    ...     "robust_accuracy", {"phase": "clean", "attack": "FGM", "relative_radius": "1"}
    ... )
    True
    """
    if name not in _MEASURED:
        return None
    measured_at, read = _MEASURED[name]
    made_by = _MADE_BY.get(measured_at or at.get("phase", ""))
    if made_by is None:
        return None
    attack = at.get("attack", at.get("critical_attack"))
    multiple = float(at.get("relative_radius", 0))
    attacked = attack == "PGD" and ("critical_attack" in at or multiple > 0)
    found = [*made_by, *read, *(_DESCENT if attacked else ())]
    if name == "robust_accuracy" and multiple > 0:
        found += _RADIUS
    return tuple(f for f in dict.fromkeys(found) if not any(_within(f, o) for o in found))


def depends(read: tuple[str, ...] | None, coordinate: str) -> bool:
    """Whether what `settings_read` gave holds a coordinate of a sweep, by its short or dotted name.

    >>> depends(("problem", "network"), "k"), depends(("problem", "network"), "tau")
    (True, False)
    """
    field = SHORT.get(coordinate, coordinate)
    return read is None or any(field == entry or _within(field, entry) for entry in read)


def free_variables(result: xr.Dataset) -> dict[str, list[str]]:
    """The free variables of a sweep's result (``[let]``) → the settings that each enters.

    They change a run through these settings alone, which are coordinates themselves; one that
    enters none only follows from others.
    """
    return json.loads(result.attrs.get("let", "{}"))


def axes_of(result: xr.Dataset) -> list[str]:
    """The coordinates that the axes of a sweep set, in the order of its file."""
    return [name for axis in json.loads(result.attrs.get("axes", "[]")) for name in axis]


def _within(field: str, table: str) -> bool:
    return field.startswith(f"{table}.")
