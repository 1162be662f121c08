"""Progress on the terminal: what a run is doing, how well, and how long it will still take."""

from collections.abc import Iterable

import numpy as np
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from featpur_sim.cli._grid import NO_LIMIT, screen
from featpur_sim.training.course import Record


class _Bars(Progress):
    """One line per task if all fits; else the bars go, then words wrap. No number is cut."""

    def get_renderables(self) -> Iterable[RenderableType]:
        if not self.tasks:  # rich asks before it is wholly made
            return
        whole = self.make_tasks_table(self.tasks)
        unlimited = self.console.options.update(max_width=NO_LIMIT)
        if self.console.measure(whole, options=unlimited).maximum <= self.console.width:
            yield whole
        else:
            yield from self._narrow(self.tasks)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        for column in table.columns:
            column.no_wrap = True
        return table

    def _narrow(self, tasks: Iterable[Task]) -> Iterable[RenderableType]:
        for task in tasks:
            columns = (c for c in self.columns if isinstance(c, ProgressColumn))
            parts = (column(task) for column in columns if not isinstance(column, BarColumn))
            yield Text("  ").join(part for part in parts if isinstance(part, Text) and part.plain)


class Meter:
    """A progress bar per phase with loss, accuracy and κ/α (means over seeds), and time left.

    Use as a context manager.

    Args:
        label: shown before each bar, usually the run's name.
        quiet: show nothing.
        console: where to draw; standard error by default, so that output can be piped.
    """

    def __init__(self, label: str, *, quiet: bool = False, console: Console | None = None):
        columns = (
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._label = label
        shown_on = console or screen(stderr=True)
        self._progress = _Bars(*columns, console=shown_on, disable=quiet, expand=False)
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

    def certifying(self, done: int, total: int, stage: str = "") -> None:
        """Move the bar of the certificates, or that of one of their stages."""
        self._move(f"certificates {stage}".strip(), done, total, "")

    def note(self, sentence: str) -> None:
        """Print a line above the bars."""
        if not self._progress.disable:
            self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

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
