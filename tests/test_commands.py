"""Every `featpur …` that a page or a script shows is a command that there is."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from featpur_sim.cli.main import app

ROOT = Path(__file__).parent.parent
COMMANDS = typer.main.get_command(app).commands
# Of a shell block or a docstring: at the start of a line, perhaps behind a prompt; of a sentence:
# between backticks or quotes.
LINE = re.compile(r"^\s*(?:\$ |! ?)?featpur (.+)$", re.M)
INLINE = re.compile(r"[`'\"]featpur ([^`'\"\n]+)[`'\"]")
END = re.compile(r" #|   | && | \| |; ")
PLACEHOLDER = re.compile(r"[A-Z_]+|\{.*")
# Typer brings click along, under a name that changed.
UsageError = typer.BadParameter.__mro__[1]


def shown() -> list[tuple[str, str, bool]]:
    """Place, command without its first word, and whether it stands on a line of its own."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    scripts = [*(ROOT / "experiments").glob("*.py"), ROOT / "experiments/results/commands.toml"]
    found = []
    for path in sorted(pages + scripts):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        place = str(path.relative_to(ROOT))
        found += [(place, END.split(m)[0], True) for m in LINE.findall(text)]
        found += [(place, END.split(m)[0], False) for m in INLINE.findall(text)]
    return sorted(set(found))


def complaint(words: str, whole: bool) -> str:
    """What is wrong with a command; nothing if it is one. A mention may leave arguments out."""
    name, *rest = shlex.split(words.rstrip(" .,:;"))
    if name.startswith(("-", "…")):
        return ""
    if name not in COMMANDS:
        return f"there is no command {name!r}"
    command = COMMANDS[name]
    try:
        context = command.make_context(name, [word for word in rest if word != "…"])
    except typer.Exit:  # --help
        return ""
    except UsageError as error:
        absent = type(error).__name__ == "MissingParameter" and not whole
        stands_for_a_value = isinstance(error, typer.BadParameter) and any(
            PLACEHOLDER.fullmatch(word) for word in rest
        )
        return "" if absent or stands_for_a_value else error.format_message()
    files = [p for p in command.params if str(p.metavar).endswith(".toml")]
    for parameter in files:
        value = str(context.params[parameter.name])
        if not (value.endswith(".toml") or PLACEHOLDER.fullmatch(value)):
            return f"{value!r} is no {parameter.metavar}"
    return ""


@pytest.mark.parametrize(("place", "words", "whole"), shown())
def test_a_command_that_is_shown_can_be_typed(place, words, whole):
    assert complaint(words, whole) == "", f"{place}: featpur {words}"


@pytest.mark.parametrize(
    "words",
    [
        "run dense-regime --out dense",
        "runn FILE",
        "reproduce --fulll",
        "reproduce --norm l3",
        "run",
        "dynamics CONFIG.toml --a 2",
    ],
)
def test_one_that_cannot_is_noticed(words):
    assert complaint(words, whole=True)
