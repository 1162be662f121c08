"""The problem and the networks of a saved run, rebuilt from its folder."""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim._ground import checks
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs import evaluation
from featpur_sim.runs.build import initial_bias, make_problems, simulated
from featpur_sim.runs.config import Draw, RunConfig, parse
from featpur_sim.runs.dataset import PHASES
from featpur_sim.runs.diagnosis import count, require_finished
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.folder import ResultError, load_result, load_weights
from featpur_sim.runs.own import resolve
from featpur_sim.runs.variables import variable


class SavedRun(NamedTuple):
    """A run read back; problems and networks have a leading axis over seeds."""

    config: RunConfig
    result: xr.Dataset
    problems: SparseCoding
    networks: dict[str, SymmetricReLU]

    def problem_of(self, position: int) -> SparseCoding:
        """The data of one seed, counted from 0 as along the axes of the arrays."""
        return jax.tree.map(lambda leaf: leaf[position], self.problems)


@steady
def load_run(directory: str | Path, *, allow_import: bool = False, problem: Any = None) -> SavedRun:
    """Read a run's settings, results and networks.

    Args:
        directory: of a finished run.
        allow_import: whether the law or the problem may be imported that its settings name as code.
        problem: of a run that was given one in Python, the same again.

    Raises:
        ResultError: the folder holds no whole run of this version.
        ConfigError: the samples of the run are drawn by code that is not here, or is another now.
    """
    result, arrays = load_result(directory), load_weights(directory)
    config = _as_drawn(parse(tomllib.loads(result.attrs["config"])), result.attrs["draw"])
    _require_weights(directory, arrays, config)
    config = resolve(config, allow_import=allow_import, kept=True, given=_given(arrays, problem))
    if not np.array_equal(arrays["wstar"], np.asarray(make_problems(config).wstar)):
        raise ResultError(
            f"the w* in {directory} is not the one that its settings give: the folder mixes "
            "files of two runs."
        )
    return restored(config, result, arrays)


def restored(config: RunConfig, result: xr.Dataset, arrays: dict[str, np.ndarray]) -> SavedRun:
    """The problem and the networks of a run, from its settings and the arrays of its weights."""
    given = make_problems(config)
    rotation = given.M if config.in_gauge else None
    start = initial_bias(config.clean.bias)
    first = arrays.get("b_init", np.full_like(arrays["b_clean"], start))
    biases = {"init": first, "clean": arrays["b_clean"]}
    biases["adversarial"] = arrays["b_adv"]
    names = {"init": "W0", "clean": "W_clean", "adversarial": "W_adv"}
    networks = {}
    for phase in PHASES:
        weights = jnp.asarray(arrays[names[phase]])
        weights = weights if rotation is None else weights @ rotation
        networks[phase] = jax.vmap(
            lambda w, b: SymmetricReLU(
                w, b, sigma_rho=config.network.sigma_rho, smoothing=config.network.smoothing
            )
        )(weights, jnp.asarray(biases[phase]))
    return SavedRun(config, result, simulated(config, given), networks)


def _given(arrays: dict[str, np.ndarray], problem: Any) -> dict[str, Any]:
    """What a run's folder holds of the parts that its settings name."""
    M = arrays.get("M")
    one = M[0] if M is not None and M.ndim == 3 else M
    return {"problem": problem, "wstar": arrays["wstar"][0], "dictionary": one}


def _as_drawn(config: RunConfig, draw: Draw) -> RunConfig:
    """The settings with the draw that the run had, if today's default is another."""
    if config.draw == draw:
        return config
    return config.model_copy(update={"problem": config.problem.model_copy(update={"draw": draw})})


@steady
def evaluate_run(
    run: SavedRun,
    *,
    samples: int | None = None,
    restarts: int | None = None,
    steps: int | None = None,
    radii: list[float] | None = None,
    seed: int = 1,
    meter: Meter = SILENT,
) -> xr.Dataset:
    """Attack the networks of a saved run again, on fresh test points.

    Args:
        run: from `load_run`.
        samples: test points per seed; this and the next three replace the run's own settings.
        restarts: PGD starts.
        steps: PGD steps per start.
        radii: in units of the training radius, 0 and 1 among them.
        seed: names the fresh test points; 0 repeats those of the run.
        meter: told of the progress.

    Returns:
        ``robust_accuracy`` [seed, phase, attack, radius] with the settings as attributes, the
        ``status`` of each seed, and ``certified_accuracy`` and ``attacked_accuracy`` [seed, phase,
        radius] of the first ``certify_points`` points, if any were. NaN for a seed whose training
        failed, and for examples transferred from one.

    Raises:
        ConfigError: a setting is out of range.
        ResultError: training failed in every seed.
    """
    used = require_finished(run.result)
    seed = checks.count("seed", seed, 0)
    changes = {"samples": samples, "pgd_restarts": restarts, "pgd_steps": steps, "radii": radii}
    settings = run.config.model_dump()
    settings["evaluation"] |= {k: v for k, v in changes.items() if v is not None}
    config = parse(settings)
    keys = point_keys(config, seed)
    evaluator = evaluation.Evaluator(config, run.problems, keys, run.networks["clean"])
    found = evaluator.judge(run.networks, evaluation.ATTACKS, meter)
    table = found.accuracy
    table[~used] = np.nan
    if "transfer" in evaluation.ATTACKS:
        table[~np.roll(used, 1), :, evaluation.ATTACKS.index("transfer")] = np.nan
    return xr.Dataset(
        {
            "robust_accuracy": variable("robust_accuracy", table),
            "status": run.result.status,
            **{
                name: variable(name, np.where(used[:, None, None], side, np.nan))
                for name, side in (
                    ("certified_accuracy", found.certified),
                    ("attacked_accuracy", found.attacked),
                )
                if np.isfinite(side).any()
            },
        },
        {
            "seed": run.result.seed,
            "phase": list(run.networks),
            "attack": list(evaluation.ATTACKS),
            "radius": variable("radius", evaluator.radii, ("radius",)),
            "relative_radius": ("radius", np.asarray(config.evaluation.radii)),
        },
        {"tau": config.adversarial.radius, **config.evaluation.model_dump(), "test_seed": seed},
    )


def point_keys(config: RunConfig, seed: int) -> Array:
    """Keys [S] of fresh test points by that name; of the run's own for 0."""
    own = seed_keys(config)[2]
    return own if seed == 0 else jax.vmap(lambda key: jax.random.fold_in(key, seed))(own)


def means(scores: xr.Dataset) -> list[Row]:
    """Means over the seeds of `evaluate_run`.

    Returns:
        Rows ``phase, attack, radius, relative_radius, accuracy`` and ``seeds``, how many seeds the
        mean is of; what has a value for no seed is left out.
    """
    table = scores.robust_accuracy
    both = xr.Dataset({"accuracy": table.mean("seed"), "used": table.count("seed")})
    rows = both.to_dataframe().dropna().reset_index().to_dict("records")
    seeds = [count(scores, int(row.pop("used"))) for row in rows]
    return [{**row, "seeds": said} for row, said in zip(rows, seeds, strict=True)]


def _require_weights(directory: str | Path, arrays: dict[str, np.ndarray], config: RunConfig):
    """Refuse an archive whose arrays are not those of ``config``."""
    shape = (config.seeds, config.network.neurons, config.problem.d)
    bias = shape[:2] if config.clean.bias.schedule == "per-neuron" else shape[:1]
    if "b_init" in arrays:  # of a network that code gave
        bias = arrays["b_init"].shape
    wanted: dict[str, tuple[int, ...]] = {
        "W0": shape,
        "W_clean": shape,
        "W_adv": shape,
        "b_clean": bias,
        "b_adv": bias,
        "wstar": (config.seeds, config.problem.features or config.problem.d),
    }
    for name, expected in wanted.items():
        found = arrays[name].shape if name in arrays else "no such array"
        if found != expected:
            raise ResultError(
                f"{name} in {directory} has shape {found}, but the run's settings give {expected}: "
                "the file is damaged or belongs to another run. Repeat the run."
            )
