"""Progress of long work, told while it is done: one protocol for everything that takes minutes."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Meter(Protocol):
    """What long work tells of its progress; `featpur_sim.cli.progress` shows it."""

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """How far a stage is.

        Args:
            stage: such as "clean training"; told for the first time before its work begins.
            done: steps that are done.
            total: steps of the whole stage, 0 if nobody knows.
            detail: what is being done, or how it goes.
        """

    def note(self, sentence: str) -> None:
        """Something that is said once, such as where a resumed run goes on."""


class Silent:
    """A meter that shows nothing."""

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Ignore."""

    def note(self, sentence: str) -> None:
        """Ignore."""


SILENT = Silent()

EVERY = 30.0
"""Seconds between two lines of a stage, where there are no bars."""


class Lines:
    """A meter that prints a plain line where a stage begins, where it ends, and at most every half
    minute in between.

    Args:
        label: shown before each stage, usually the run's name.
        write: prints one line; on standard error by default.
        clock: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        label: str,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._label, self._clock = label, clock
        self._write = _to_standard_error if write is None else write
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exception) -> None:
        """Nothing is left open."""

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Print a line if it is time to."""
        now = self._clock()
        known = self._stages.get(stage)
        if known is None:
            self._stages[stage] = known = _Stage(now, done, now)
            times = ""
        elif known.ended or (now - known.printed < EVERY and done < total):
            return
        else:
            times = f", {_time(now - known.began)} elapsed"
            if known.first < done < total:
                left = (now - known.began) * (total - done) / (done - known.first)
                times += f", {_time(left)} left"
        known.printed, known.ended = now, done >= total
        how = f"; {detail}" if detail else ""
        self._write(f"{self._label}: {stage} {done} of {total}{times}{how}")

    def note(self, sentence: str) -> None:
        """Print a line."""
        self._write(sentence)


@dataclass
class _Stage:
    """When a stage began and what of it was done then; when it was last printed, and if whole."""

    began: float
    first: int
    printed: float
    ended: bool = False


def _to_standard_error(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    """Minutes and seconds, after an hour hours too.

    >>> _time(75.2), _time(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
