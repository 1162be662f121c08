"""What the commands of the command line share: options, exit codes, messages."""

import contextlib
import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

BAD_INPUT, STOPPED, CONTRADICTED, NO_SEED, INTERRUPTED, CLOSED_PIPE = 2, 3, 4, 5, 130, 141


def path_of(text: str | Path) -> Path:
    """A path that was typed; an empty one would stand for the current folder."""
    if str(text) == "":
        raise typer.BadParameter("the path is empty; write . for the current folder.")
    return Path(text)


Out = Annotated[
    Path,
    typer.Option("--out", "-o", parser=path_of, metavar="PATH", help="Folder for the results."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Every row of the scorecard, not a line a claim.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Closure = Annotated[
    bool,
    typer.Option(
        "--closure",
        help="Hold it against the population closure too, a prediction with constants (C14).",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run in DIR.")]


def _importable(allowed: bool) -> bool:
    # As with 'python -m': what lies where the command is typed can be imported.
    if allowed and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    return allowed


AllowImport = Annotated[
    bool,
    typer.Option(
        "--allow-import",
        callback=_importable,
        help="Import the code that the settings name; only for files that you trust.",
    ),
]
Radius = Annotated[
    list[float] | None,
    typer.Option(help="Radius in units of the training radius; repeat for several."),
]
ProtocolName = Literal["standard", "quick"]
EffortName = Literal["default", "high"]
Directory = Annotated[
    Path, typer.Argument(parser=path_of, metavar="DIR", help="Folder of a finished run.")
]


def print_any_character() -> None:
    """Let output in an encoding without Greek, say, show ? for it instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def stop(code: int, message: str) -> NoReturn:
    try:
        tell(f"[bold red]featpur:[/bold red] {escape(message)}")
    finally:  # the code holds even if nobody reads the message: a closed terminal or pipe
        sys.exit(code)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show what the package warns of without the line of code that does."""
    from featpur_sim._ground.disk import DiskWarning

    def show(message, category, *where) -> None:
        tell(f"[yellow]warning:[/yellow] {escape(str(message))}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", DiskWarning)
        warnings.showwarning = show
        yield


def typed(*, without: str = "", flags: tuple[str, ...] = ()) -> str:
    """The command as it was typed, less one option with its value, and less some flags."""
    words = ["featpur", *sys.argv[1:]]
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not without or (before != without and word.split("=")[0] != without)
    ]
    return shlex.join(word for word in kept if word not in flags)


def say(quiet: bool, message: str) -> None:
    if not quiet:
        tell(escape(message))


def tell(markup: str) -> None:
    # Not wrapped: a path or a command in it can be copied, and one message is one line.
    # No emoji: "local:x:" is what was typed.
    Console(stderr=True, emoji=False).print(markup, highlight=False, soft_wrap=True)
