"""The headline: both training regimes, one scorecard, one report (docs/theory.md §5.3, §7.1)."""

import shutil
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import xarray as xr

from featpur_sim._ground.disk import ResultError
from featpur_sim._ground.manifest import require_ours, rewriting
from featpur_sim._ground.meter import Meter
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.rows import Row
from featpur_sim.claims import of_closure
from featpur_sim.claims import of_run as claims
from featpur_sim.claims.claim import Case
from featpur_sim.claims.claim import rows as held_together
from featpur_sim.report import closure_figure
from featpur_sim.report import run_figures as figures
from featpur_sim.report import run_page as report
from featpur_sim.runs.certificate import keep_contradiction
from featpur_sim.runs.closure import closure_run
from featpur_sim.runs.config import RunConfig, parse, parse_text
from featpur_sim.runs.diagnosis import finished
from featpur_sim.runs.experiment import Experiment, run_experiment
from featpur_sim.runs.folder import (
    CHECKPOINT,
    FIGURES,
    REPORT,
    SAVING,
    SCORECARD,
    figure_files,
    is_saved,
    load_result,
    require_free,
    save_run,
    save_scorecard,
)
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.training.identity import identify_settings, software


def presets(*, norm: Norm = "l2", seeds: int, seed: int, full: bool) -> list[RunConfig]:
    """The runs of ``featpur reproduce``; ``full`` takes larger d and a longer second phase."""
    shared: dict[str, Any] = {"norm": norm, "seeds": seeds, "seed": seed}
    if not full:
        return [dense_regime(**shared), sparse_regime(**shared)]
    dense = dense_regime(d=196, k=9, **shared)
    longer = dense.adversarial.model_copy(update={"steps": 4 * dense.adversarial.steps})
    return [
        dense.model_copy(update={"adversarial": longer}),
        sparse_regime(d=128, k=8, **shared),
    ]


def run_into(
    directory: Path, config: RunConfig, meter: Callable[[str], AbstractContextManager[Meter]]
) -> tuple[Experiment, list[Row]]:
    """One run into a folder: data files and figures. Resumes training that was cut off there.

    Raises:
        Contradiction: an attack breaks a certified point; its evidence is saved in the folder.
    """
    checkpoint = directory / CHECKPOINT
    with meter(config.name) as shown, keep_contradiction(directory):
        experiment = run_experiment(config, meter=shown, checkpoint=checkpoint)
        rows = claims.scorecard(experiment.result, own=config.parts.claims)
        checkpoint.mkdir(exist_ok=True)
        (directory / SAVING).touch()
        save_run(directory, experiment.result, experiment.weights, rows)
        if finished(experiment.result).any():
            shown.at("figures", 0, 1)
            with rewriting(directory, *figure_files(*figures.ALL)):
                figures.save_all(experiment.result, directory / FIGURES)
            shown.at("figures", 1, 1)
    (directory / SAVING).unlink()
    shutil.rmtree(checkpoint, ignore_errors=True)
    return experiment, rows


def _closure_of(
    directory: Path, result: xr.Dataset, meter: Callable[[str], AbstractContextManager[Meter]]
) -> list[Row]:
    """What the closure says of a run: what its folder holds, else found and kept there."""
    if kept := of_closure.load_closure(directory, result):
        return kept
    config = parse_text(result.attrs["config"])
    with meter(config.name) as shown:
        found = closure_run(config, directory=directory, meter=shown)
    of_closure.save_closure(directory, found)
    return found


def require_free_folders(directory: Path, configs: list[RunConfig], overwrite: bool) -> None:
    """`featpur_sim.runs.folder.require_free` for the folder of every run of `reproduce`."""
    for folder in _folders(directory, configs):
        require_free(folder, overwrite)


def _folders(directory: Path, configs: list[RunConfig]) -> list[Path]:
    return [directory, *(directory / config.name for config in configs[1:])]


def reproduce(
    directory: Path,
    configs: list[RunConfig],
    meter: Callable[[str], AbstractContextManager[Meter]],
    *,
    closure: bool = False,
    overwrite: bool = False,
) -> list[Row]:
    """Run every preset; the first into ``directory``, the others into folders by their name.

    Runs that an interrupted command has finished there are kept, unless ``overwrite``. With
    ``closure`` each is held against the heterogeneous closure of its settings too (C14).

    Returns:
        The rows of the common scorecard, which is also written to ``directory``.

    Raises:
        ResultError: a folder holds a run with other settings, or of other versions, or a figure
            that would be replaced and is not ours.
    """
    folders = _folders(directory, configs)
    for folder in folders if closure else []:
        require_ours(folder, *figure_files(closure_figure.NAME))
    kept = [
        None if overwrite else _finished(folder, config)
        for folder, config in zip(folders, configs, strict=True)
    ]
    runs: list[report.Shown] = []
    cases: list[Case] = []
    for folder, config, result in zip(folders, configs, kept, strict=True):
        if result is None:
            folder.mkdir(parents=True, exist_ok=True)
            experiment, _ = run_into(folder, config, meter)
            result, drawn = experiment.result, folder / FIGURES
        else:
            drawn = None
        predicted = _closure_of(folder, result, meter) if closure else []
        if predicted and finished(result).any():
            closure_figure.save(folder, result, predicted)
        runs.append(report.Shown(result, drawn=drawn, closure=predicted))
        cases += claims.run_cases(result, own=config.parts.claims)
        cases += of_closure.closure_cases(result, predicted)
    rows = held_together(cases)
    with rewriting(directory, SCORECARD, REPORT):
        save_scorecard(directory, rows)
        report.write_page(directory / REPORT, runs, rows)
    return rows


def _finished(folder: Path, config: RunConfig) -> xr.Dataset | None:
    if not is_saved(folder):
        return None
    result = load_result(folder)
    # Read, not compared as text: what an older file leaves out has its default.
    then = parse(tomllib.loads(result.attrs["config"]))
    by = result.attrs.get("software", f"featpur_sim {result.attrs['version']}")
    old = identify_settings(by, then.identity())
    if found := old.difference(identify_settings(software(), config.identity())):
        raise ResultError(
            f"{folder} holds another run ({found.what}): {found.undo} to go on, choose another "
            "folder with --out, or pass --overwrite to replace it."
        )
    return result
