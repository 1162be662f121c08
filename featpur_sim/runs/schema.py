"""What the dataset of a run must hold for the figures, the report and the claims to be made of it.

Files that no manifest vouches for are checked against it.
"""

import tomllib
from typing import Any

import xarray as xr

from featpur_sim.runs.config import RunConfig, parse
from featpur_sim.runs.variables import DIMENSIONS

# Not in folders of development versions, which can still be read.
NEW = ("certify_points", "draw", "software")
TEXTS, NUMBERS = ("title", "version", "software", "platform"), ("wall_seconds", "training_seconds")


def require_whole(result: xr.Dataset) -> RunConfig:
    """Refuse a dataset that is not that of a run, whole.

    Returns:
        The settings of the run.

    Raises:
        ValueError: a variable or an attribute is missing or does not fit the settings.
    """
    for name, usual in DIMENSIONS.items():
        if name not in result.variables:
            raise ValueError(f"the variable {name} is missing")
        own = name == "wstar" and result.attrs.get("draw") == "per-seed"
        dims = ("seed", *usual) if own else usual
        if result[name].dims != dims:
            raise ValueError(f"{name} has the dimensions {result[name].dims}, not {dims}")
    try:
        config = parse(tomllib.loads(_attribute(result, "config", str)))
    except ValueError as error:
        raise ValueError(f"its settings cannot be read: {error}") from None
    for name in TEXTS:
        if name not in NEW or name in result.attrs:
            _attribute(result, name, str)
    for name in NUMBERS:
        _attribute(result, name, int | float)
    for name, expected in _from_settings(config).items():
        if name in NEW and name not in result.attrs:
            continue
        found = _attribute(result, name, str if isinstance(expected, str) else int | float)
        # The device rounds numbers to float32.
        same = found == expected or (
            not isinstance(expected, str) and abs(found - expected) <= 1e-6 * abs(expected)
        )
        if not same:
            raise ValueError(f"its attribute {name} is {found!r}, its settings give {expected!r}")
    sizes = {
        "seed": config.seeds,
        "neuron": config.network.neurons,
        "radius": len(config.evaluation.radii),
        "feature": config.problem.features or config.problem.d,
    }
    for name, size in sizes.items():
        if result.sizes[name] != size:
            raise ValueError(f"it has {result.sizes[name]} along {name}, its settings give {size}")
    return config


def _from_settings(config: RunConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "draw": config.draw,
        "d": config.problem.d,
        "D": config.problem.features or config.problem.d,
        "m": config.network.neurons,
        "k": config.problem.k,
        "sigma_x": config.problem.sigma_x,
        "tau": config.adversarial.radius,
        "norm": config.adversarial.norm,
        "test_samples": config.evaluation.samples,
        "certify_points": min(config.evaluation.certify_points, config.evaluation.samples),
    }


def _attribute(result: xr.Dataset, name: str, kind: Any) -> Any:
    if name not in result.attrs:
        raise ValueError(f"the attribute {name} is missing")
    value = result.attrs[name]
    if not isinstance(value, kind):
        raise ValueError(f"its attribute {name} is {value!r}")
    return value
