"""Which settings a variable depends on: the table, against a sweep that changes one at a time."""

import itertools

import numpy as np
import pytest

from featpur_sim.sweeps import measurements
from featpur_sim.sweeps.dependence import depends, settings_read
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.run import run_sweep

# Field → its value everywhere but at one point, and there.
CHANGES = {
    "problem.sigma_x": (0.3, 0.5),
    "network.sigma_0": (0.05, 0.1),
    "clean.bias.start": (0.0, 0.01),
    "clean.learning_rate": (0.5, 0.25),
    "adversarial.learning_rate": (0.5, 0.25),
    "adversarial.radius": (0.15, 0.1),
}
# Of other programs, which take long to compile.
STATIC = {"evaluation.samples": (100, 130), "evaluation.pgd_steps": (5, 3)}


def swept(changes, folder):
    """A sweep whose point 0 has nothing changed, and point i the i-th field."""
    lists = {
        field: [changed if i == at else usual for i in range(len(changes) + 1)]
        for at, (field, (usual, changed)) in enumerate(changes.items(), 1)
    }
    phase = {"steps": 60, "batch": 64}
    settings = {
        "seeds": 1,
        "zip": [lists],
        "run": {
            "problem": {"d": 8, "k": 2},
            "network": {"neurons": 16, "sigma_0": 0.05},
            "records": 3,
            "clean": phase | {"bias": {"stop": 0.05}},
            "adversarial": phase | {"radius": 0.15},
            "evaluation": {"samples": 100, "radii": [0, 1], "pgd_steps": 5, "pgd_restarts": 1},
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "ATTACKS", ("dense mixture", "PGD"))
        return run_sweep(parse_sweep(settings), folder).result


def cells(result):
    """Each variable at each label: name, labels, values [point]."""
    for name, of in result.data_vars.items():
        if of.dtype.kind == "f":
            dims = [dim for dim in of.dims if dim not in ("point", "seed")]
            for labels in itertools.product(*(of[dim].values.tolist() for dim in dims)):
                at = dict(zip(dims, labels, strict=True))
                values = of.isel(seed=0).sel(at).values
                yield name, {dim: str(label) for dim, label in at.items()}, values


def require_table(result, changes):
    """What the table says cannot change a value does not; κ/α and losses change with the rest."""
    assert (result.status == "ok").all(), result.reason.values
    for name, at, values in cells(result):
        read = settings_read(name, at)
        assert read is not None, f"{name} is not in the table"
        for field, value in zip(changes, values[1:], strict=True):
            told = f"{name} {at} {field}"
            if depends(read, field):
                moves = name in ("kappa_over_alpha", "loss") and at["phase"] != "init"
                assert not moves or value != values[0], told
            elif name == "critical_radius" and at["critical_attack"] == "PGD":
                # Bisected between τ/32 and 16τ, to 1.2 %.
                np.testing.assert_allclose(value, values[0], rtol=0.02, err_msg=told)
            else:
                np.testing.assert_array_equal(value, values[0], err_msg=told)


def test_what_cannot_change_a_value_does_not(tmp_path):
    require_table(swept(CHANGES, tmp_path), CHANGES)


@pytest.mark.slow
def test_nor_do_settings_of_the_measurement_that_are_not_read(tmp_path):
    require_table(swept(STATIC, tmp_path), STATIC)


@pytest.mark.parametrize(
    ("name", "at", "coordinates"),
    [
        ("kappa_over_alpha", {"phase": "clean"}, "d k m clean.steps"),
        ("kappa_over_alpha", {"phase": "adversarial"}, "d k m clean.steps tau adversarial.rank"),
        ("alpha_max", {"phase": "init"}, "d k m"),
        ("purification_factor", {}, "d k m clean.steps tau adversarial.rank"),
        ("excluded_fraction", {}, "d k evaluation.samples"),
        ("pure_accuracy", {"relative_radius": "0.0"},
         "d k tau evaluation.samples evaluation.pgd_steps"),
        ("robust_accuracy", {"phase": "clean", "attack": "FGM", "relative_radius": "1"},
         "d k m clean.steps tau evaluation.samples"),
        ("robust_accuracy", {"phase": "clean", "attack": "PGD", "relative_radius": "0"},
         "d k m clean.steps evaluation.samples"),
        ("robust_accuracy", {"phase": "clean", "attack": "PGD", "relative_radius": "0.5"},
         "d k m clean.steps tau evaluation.samples evaluation.pgd_steps"),
        ("critical_radius", {"phase": "clean", "critical_attack": "PGD"},
         "d k m clean.steps evaluation.samples evaluation.pgd_steps"),
        ("of the user's own", {}, "d k m clean.steps tau adversarial.rank evaluation.samples "
         "evaluation.pgd_steps records"),
    ],
)  # fmt: skip
def test_what_counts(name, at, coordinates):
    every = (
        "d", "k", "m", "clean.steps", "tau", "adversarial.rank", "evaluation.samples",
        "evaluation.pgd_steps", "records",
    )  # fmt: skip
    read = settings_read(name, at)
    assert [one for one in every if depends(read, one)] == coordinates.split()
