"""A run as an object: made from settings and code, or read back; its results, its scorecard."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from html import escape
from pathlib import Path
from typing import Any, overload

import pandas as pd

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.disk import claim_folder
from featpur_sim._ground.meter import SILENT, Lines, Meter
from featpur_sim._ground.rows import Row
from featpur_sim.claims.claim import Claim, summary
from featpur_sim.claims.family import RULE, families, title
from featpur_sim.claims.of_run import require_own, scorecard
from featpur_sim.report.one_study import run_judged
from featpur_sim.report.one_sweep import Swept
from featpur_sim.report.reproduce import reproduce, require_free_folders
from featpur_sim.report.run_plots import Plots
from featpur_sim.runs import config as configuration
from featpur_sim.runs import diagnosis
from featpur_sim.runs.closure import require_closed
from featpur_sim.runs.config import RunConfig
from featpur_sim.runs.experiment import check, run_experiment
from featpur_sim.runs.folder import RESULT, SCORECARD, is_saved, load_scorecard
from featpur_sim.runs.own import resolve
from featpur_sim.runs.saved import SavedRun, load_run, restored
from featpur_sim.sweeps.run import SWEEP, load_sweep
from featpur_sim.sweeps.study import Study


class Run:
    """A finished run.

    Attributes:
        config: its settings.
        data: every measurement, an xarray Dataset.
        networks: the network of each phase, ``init``, ``clean`` and ``adversarial``, seeds along
            the first axis.
        problems: the data of each seed, likewise.
        folder: where it is stored; None if it is in memory alone.
        plot: draws it: ``run.plot.both_sides()``, see `featpur_sim.report.run_plots.Plots`.
    """

    def __init__(self, saved: SavedRun, rows: Sequence[Row], folder: Path | None):
        self.config, self.data = saved.config, saved.result
        self.networks, self.problems = saved.networks, saved.problems
        self.folder = folder
        self.plot = Plots(saved.result)
        self._rows = list(rows)

    def scorecard(self) -> pd.DataFrame:
        """Claim by claim: what is predicted, what was measured, and the verdict.

        Every entry of `featpur_sim.claims.claim.rows` is a column.
        """
        return pd.DataFrame(self._rows)

    def to_dataframe(self) -> pd.DataFrame:
        """Accuracies under attack (upper bounds on robust accuracy), one in each row.

        Returns:
            Columns ``seed, phase, attack, radius, relative_radius, robust_accuracy``. Seeds that
            did not finish are left out, and so are attacks where they do not apply.
        """
        columns = ["seed", "phase", "attack", "radius", "relative_radius", "robust_accuracy"]
        table = diagnosis.only_finished(self.data).robust_accuracy.to_dataframe().reset_index()
        return table[columns].dropna(ignore_index=True)

    def __repr__(self) -> str:
        return f"Run({self._settings()}, {self._where()}; {summary(self._rows)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: settings in short, a line for each claim, where it is stored."""
        head = f"<p><strong>Run</strong> {escape(self._settings())}; {escape(self._where())}</p>"
        lines = "".join(
            f"<tr><th>{escape(one.id)}</th><td>{escape(title(one))}</td>"
            f"<td>{escape(one.regime)}</td><td>{one.verdict.sign} {escape(str(one))}</td></tr>"
            for one in families(self._rows)
        )
        rule = f"<p><small>{escape(RULE)} Every row: <code>.scorecard()</code></small></p>"
        return f"{head}<table>{lines}</table>{rule}"

    def _settings(self) -> str:
        c = self.config
        return (
            f"{c.name}, d={c.problem.d}, k={c.problem.k:g}, m={c.network.neurons}, "
            f"τ={c.adversarial.radius:g}, {c.seeds} seeds"
        )

    def _where(self) -> str:
        return "in memory" if self.folder is None else str(self.folder)


@overload
def run(
    settings: Study,
    out: str | Path | None = None,
    *,
    claims: Sequence[Claim] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Swept: ...


@overload
def run(
    settings: RunConfig | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    problem: Any = None,
    network: Any = None,
    phases: Any = None,
    observe: Any = None,
    claims: Sequence[Claim] | None = None,
    closure: bool = False,
    allow_import: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run: ...


def run(
    settings: Study | RunConfig | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    problem: Any = None,
    network: Any = None,
    phases: Any = None,
    observe: Any = None,
    claims: Sequence[Claim] | None = None,
    closure: bool = False,
    allow_import: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run | Swept:
    """One run, or one study, from end to end: trained, attacked, certified, measured, judged.

    A `featpur_sim.sweeps.study.Study` is of any theorem, and says all in code. In a run of this
    one, what is given here as code takes the place of what the settings say; its numbers (d, k,
    σ_x, steps, η, τ, …) are written into them, and so are its name and a hash of its source.

    Args:
        settings: a preset (`featpur_sim.runs.presets`), a nested dictionary, a TOML file, or a
            `Study`, which takes ``out``, ``claims``, ``overwrite`` and ``quiet`` alone.
        out: folder for data, figures and report; nothing is written without one. The same call
            goes on where it was stopped, and reads back what is finished.
        problem: a `SparseCoding` for all seeds, or a function of (settings, seed) for each.
        network: the `SymmetricReLU` before step 0 for all seeds, or a function of (settings, key).
        phases: ``[CleanPhase(…), AdversarialPhase(…)]``, or a function of the settings.
        observe: `Moment` → named numbers; recorded as ``along_<name>``.
        claims: judged on the result, and held together with those of the scorecard.
        closure: hold the run against the population closure of its settings too (C14); it is
            kept in ``out``.
        allow_import: whether to import the code that the settings name.
        overwrite: replace another run in the folder.
        quiet: print no progress.

    Returns:
        A `Run`; of a study a `featpur_sim.report.one_sweep.Swept`.

    Raises:
        ConfigError: a setting is wrong, or something given is not what its place asks for.
        ResultError: the folder holds another run.
    """
    given = {"problem": problem, "network": network, "phases": phases, "observe": observe}
    if isinstance(settings, Study):
        given |= {"allow_import": allow_import or None, "closure": closure or None}
        if own := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{own[0]} is given beside a Study, which has its own: set it there.")
        return run_judged(settings, out, claims or (), overwrite=overwrite, quiet=quiet)
    config, folder = _read(settings)
    given["claims"] = claims
    config = resolve(config, allow_import=allow_import, folder=folder, given=given)
    check(config)
    require_own(config.parts.claims)
    if closure and out is None:
        raise ConfigError(
            "closure = True keeps what it finds beside the run: give it a folder, out."
        )
    if closure:
        require_closed(config)
    if out is None:
        experiment = run_experiment(config, meter=SILENT if quiet else Lines(config.name))
        rows = scorecard(experiment.result, own=config.parts.claims)
        return Run(restored(config, experiment.result, experiment.weights), rows, None)
    out = Path(out)
    if overwrite or not is_saved(out):
        require_free_folders(out, [config], overwrite)
    meter = _silent if quiet else Lines
    with claim_folder(out):
        rows = reproduce(out, [config], meter, closure=closure, overwrite=overwrite)
    return Run(load_run(out, allow_import=allow_import, problem=problem), rows, out)


def load(directory: str | Path, *, allow_import: bool = False, problem: Any = None) -> Run | Swept:
    """Read a finished run, or a finished sweep, back.

    Args:
        directory: its folder.
        allow_import: whether the law or the problem may be imported that a run's settings name as
            code.
        problem: of a run that was given one in Python, the same again.

    Returns:
        A `Run`; of a sweep or a study a `featpur_sim.report.one_sweep.Swept`.

    Raises:
        ResultError: the folder holds no whole run of this version, and no whole sweep.
        ConfigError: the samples of the run are drawn by code that is not here, or is another now.
    """
    directory = Path(directory)
    if (directory / SWEEP).is_file() and not (directory / RESULT).exists():
        rows = load_scorecard(directory) if (directory / SCORECARD).exists() else []
        return Swept(load_sweep(directory), directory, rows)
    saved = load_run(directory, allow_import=allow_import, problem=problem)
    return Run(saved, load_scorecard(directory), directory)


def _silent(label: str) -> AbstractContextManager[Meter]:
    return nullcontext(SILENT)


def _read(settings: Any) -> tuple[RunConfig, Path]:
    """Settings however they are given, and where their files are looked up."""
    if isinstance(settings, RunConfig):
        return settings, Path()
    if isinstance(settings, str | Path):
        return configuration.load(settings), Path(settings).parent
    return configuration.parse(dict(settings)), Path()
