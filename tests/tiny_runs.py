"""The small run that most tests of whole runs start from.

Runs of these sizes share their compiled programs, which are four fifths of what a first one takes.
"""

import functools

import xarray as xr

from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import run_experiment


def tiny_settings(**changes):
    """Its settings; sections that are given replace single entries of theirs."""
    base = {
        "name": "tiny",
        "seed": 3,
        "seeds": 2,
        "records": 4,
        "problem": {"d": 16, "k": 3},
        "network": {"neurons": 32},
        "clean": {"steps": 400, "batch": 64, "bias": {"stop": 0.05}},
        "adversarial": {"steps": 400, "batch": 64, "radius": 0.17},
        "evaluation": {
            "samples": 2000,
            "radii": [0.0, 0.5, 1.0],
            "pgd_steps": 5,
            "certify_points": 0,
        },
    }
    for name, value in changes.items():
        base[name] = base[name] | value if isinstance(value, dict) else value
    return base


@functools.cache
def tiny_result() -> xr.Dataset:
    """A result to draw and to report: certified too, on other random numbers; not to be changed."""
    evaluation = {"certify_points": 100, "radii": [0.0, 1.0, 2.0]}
    settings = tiny_settings(seed=0, adversarial={"radius": 0.15}, evaluation=evaluation)
    return run_experiment(parse(settings)).result
