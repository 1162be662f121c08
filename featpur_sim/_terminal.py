"""What the commands of the command line share: options, exit codes, messages."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

BAD_INPUT, STOPPED, CONTRADICTED, NO_SEED, INTERRUPTED, CLOSED_PIPE = 2, 3, 4, 5, 130, 141

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, no tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run in DIR.")]
Radius = Annotated[
    list[float] | None,
    typer.Option(help="Radius in units of the training radius; repeat for several."),
]
ProtocolName = Literal["standard", "quick"]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")]


def stop(code: int, message: str) -> NoReturn:
    try:
        tell(f"[bold red]featpur:[/bold red] {escape(message)}")
    finally:  # the code holds even if nobody reads the message: a closed terminal or pipe
        sys.exit(code)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show what the package warns of without the line of code that does."""
    from featpur_sim.disk import DiskWarning

    def show(message, category, *where) -> None:
        tell(f"[yellow]warning:[/yellow] {escape(str(message))}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", DiskWarning)
        warnings.showwarning = show
        yield


def say(quiet: bool, message: str) -> None:
    if not quiet:
        tell(escape(message))


def tell(markup: str) -> None:
    # Not wrapped: a path or a command in it can be copied, and one message is one line.
    # No emoji: "local:x:" is what was typed.
    Console(stderr=True, emoji=False).print(markup, highlight=False, soft_wrap=True)
