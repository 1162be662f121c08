"""Progress of long work, told while it is done: one protocol for everything that takes minutes."""

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
