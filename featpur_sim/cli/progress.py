"""Progress on the terminal or in a log: what is done, how well, and how long it will still take."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from rich.console import Console, RenderableType
from rich.highlighter import Highlighter
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

from featpur_sim._ground.meter import SILENT, Lines, Meter
from featpur_sim.cli._grid import NO_LIMIT, screen


class _Fitted(Progress):
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


class _Failures(Highlighter):
    """Seeds that died or diverged, in red."""

    def highlight(self, text: Text) -> None:
        text.highlight_regex(r"\d+ seed\(s\) dead or diverged", "red")


class Bars:
    """A progress bar per stage, with what is being done, or how it goes, and time left.

    Args:
        label: shown before each bar, usually the run's name.
        console: where to draw.
    """

    def __init__(self, label: str, console: Console):
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False, highlighter=_Failures()),
        )
        self._label = label
        self._progress = _Fitted(*columns, console=console, expand=False)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *exception) -> None:
        # Without a bar there is nothing to close; rich would end with an empty line.
        if self._tasks:
            self._progress.stop()

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Move the bar of the stage."""
        if stage not in self._tasks:
            self._progress.start()
            description = f"{self._label}: {stage}"
            self._tasks[stage] = self._progress.add_task(description, total=total, detail="")
        self._progress.update(self._tasks[stage], completed=done, detail=detail)

    def note(self, sentence: str) -> None:
        """Print a line above the bars."""
        _print(self._progress.console, sentence)


def meter(
    label: str, *, quiet: bool = False, console: Console | None = None
) -> AbstractContextManager[Meter]:
    """What shows progress: bars on a terminal, lines in a log, a pipe or a notebook.

    Args:
        label: usually the run's name.
        quiet: show nothing.
        console: where to; standard error by default, so that output can be piped.
    """
    if quiet:
        return nullcontext(SILENT)
    console = console or screen(stderr=True)
    return (
        Bars(label, console) if console.is_interactive else Lines(label, partial(_print, console))
    )


def _print(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
