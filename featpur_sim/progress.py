"""Progress on the terminal: what a run is doing, how well, and how long it will still take."""

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from featpur_sim.train import Record


class Meter:
    """A progress bar per phase with loss, accuracy and κ/α (means over seeds), and time left.

    Use as a context manager.

    Args:
        label: shown before each bar, usually the run's name.
        quiet: show nothing.
        console: where to draw; standard error by default, so that output can be piped.
    """

    def __init__(self, label: str, *, quiet: bool = False, console: Console | None = None):
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._label = label
        self._progress = Progress(
            *columns, console=console or Console(stderr=True), disable=quiet, expand=False
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *exception) -> None:
        # Without a bar there is nothing to close; rich would end with an empty line.
        if self._tasks and not self._progress.disable:
            self._progress.stop()

    def training(self, record: Record) -> None:
        """Move the bar of the record's phase."""
        values = record.values
        status = (
            f"loss {_mean(values['loss']):.3f}  "
            f"accuracy {_mean(values['accuracy']):.3f}  "
            f"κ/α {_mean(values['kappa_over_alpha']):+.4f}"
        )
        failed = int(np.count_nonzero(values["status"]))
        if failed:
            status += f"  [red]{failed} seed(s) dead or diverged[/red]"
        self._move(f"{record.phase} training", record.step, record.steps, status)

    def evaluating(self, done: int, total: int) -> None:
        """Move the bar of the attacks."""
        self._move("attacks", done, total, "")

    def certifying(self, done: int, total: int) -> None:
        """Move the bar of the certificates."""
        self._move("certificates", done, total, "")

    def comparing(self, done: int, total: int) -> None:
        """Move the bar of the competitors."""
        self._move("competitors", done, total, "")

    def reducing(self, done: int, total: int) -> None:
        """Move the bar of the reduced dynamics."""
        self._move("reduced dynamics", done, total, "")

    def sweeping(self, done: int, total: int, status: str) -> None:
        """Move the bar of a sweep's batches; ``status`` says what the present one does."""
        self._move("batches", done, total, status)

    def _move(self, name: str, done: int, total: int, status: str) -> None:
        if name not in self._tasks:
            self._progress.start()
            description = escape(f"{self._label}: {name}")
            self._tasks[name] = self._progress.add_task(description, total=total, status="")
        self._progress.update(self._tasks[name], completed=done, status=status)


def _mean(values: np.ndarray) -> float:
    """Mean over the seeds that have a value; NaN if none has."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
