"""How every table is laid out: a number is never cut, whatever the width of the terminal.

A column of numbers takes what its widest cell needs; columns of text wrap between words. Where even
that is too wide, each row becomes a block of lines, one per column.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

# Of a pipe or a file, unless COLUMNS says otherwise: nothing is wrapped there.
NO_LIMIT = 10_000

Cell = str | Text


class Column(NamedTuple):
    """A column; ``number``: its cells stand right and never wrap."""

    name: str
    number: bool = False


class Grid:
    """A table that rich prints, with a title above and a caption below.

    Args:
        title: one line or more.
        columns: at least one.
        rows: as many cells as columns; cells may have several lines. Strings are taken as they are,
            not as markup. An empty row is a line across the table.
        caption: one line or more.
        lines: a line below every row.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        *,
        lines: bool = False,
    ):
        self.title, self.columns, self.caption, self.lines = title, columns, caption, lines
        self.rows = [[_text(cell) for cell in row] for row in rows]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield Text(self.title, style="italic")
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._blocks()
        else:
            yield self._table(widths)
        if self.caption:
            yield Text(self.caption, style="dim italic")

    def _widths(self, available: int) -> list[int] | None:
        """The width of each column, or None where the numbers and words do not fit."""
        least, most = [], []
        for index, column in enumerate(self.columns):
            cells = [row[index] for row in self.rows if row]
            longest = max((_longest_line(cell) for cell in cells), default=0)
            words = max(map(_longest_word, [*cells, Text(column.name)]))
            least.append(max(words, longest) if column.number else words)
            most.append(max(longest, _longest_line(Text(column.name))))
        # Two spaces around each column and a line on either side of it.
        spare = available - 3 * len(least) - 1 - sum(least)
        if spare < 0:
            return None
        wanted = [high - low for low, high in zip(least, most, strict=True)]
        share = min(1.0, spare / max(sum(wanted), 1))
        return [low + int(share * more) for low, more in zip(least, wanted, strict=True)]

    def _table(self, widths: list[int]) -> Table:
        table = Table(box=box.ROUNDED if self.lines else box.SIMPLE_HEAD, show_lines=self.lines)
        for column, width in zip(self.columns, widths, strict=True):
            side = "right" if column.number else "left"
            table.add_column(Text(column.name), width=width, justify=side)
        for row in self.rows:
            if row:
                table.add_row(*row)
            else:
                table.add_section()
        return table

    def _blocks(self) -> Iterator[RenderableType]:
        for row in filter(None, self.rows):
            yield Text("")
            for column, cell in zip(self.columns, row, strict=True):
                if cell.plain:
                    name = Text(f"{column.name}: " if column.name else "", style="bold")
                    yield name + cell
        yield Text("")


def screen(*, stderr: bool = False) -> Console:
    """Where tables, or progress, are printed: a terminal at its width, a pipe without limit."""
    stream = sys.stderr if stderr else sys.stdout
    # FORCE_COLOR, which CI systems set, is about colours: a bar that moves has no place in a log.
    moves = None if stream.isatty() else False
    console = Console(stderr=stderr, emoji=False, force_interactive=moves)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console.width = NO_LIMIT
    return console


def _text(cell: Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def _longest_line(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n")), default=0)


def _longest_word(text: Text) -> int:
    return max((Text(word).cell_len for word in text.plain.split()), default=0)
