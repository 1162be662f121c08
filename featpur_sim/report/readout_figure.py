"""The figure of claims C12 and C13: accuracy of readouts on frozen features (docs/theory.md §3).

Drawn from the rows of readouts.json alone.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim._ground.rows import Row
from featpur_sim.claims.of_readouts import intervals, pair_of
from featpur_sim.report._style import (
    BLUE,
    GREY,
    PAGE,
    VERMILLION,
    house_style,
    legend_above,
    write,
)

CAPTION = (
    "Readouts trained anew on hidden weights that stay. Filled: accuracy under the run's PGD at τ; "
    "triangles: the fraction proved robust at τ; open: accuracy without attack. Means over seeds "
    "with 95 % intervals. 'Own' readouts are those of the run, whose levels the dotted lines "
    "continue. Random features: the weights before training, as often open as the clean network's."
)
_COLOURS = {"clean": VERMILLION, "purified": BLUE, "random": GREY}
# Accuracy → marker, filled, label.
_MARKS = {
    "accuracy": ("o", False, "no attack"),
    "pgd": ("o", True, "PGD at τ"),
    "certified": ("v", True, "certified at τ"),
}


def draw(rows: list[Row]) -> Figure:
    """One line a row, in their order from the top.

    Args:
        rows: of readouts.json.
    """
    with house_style():
        figure = Figure(figsize=(PAGE * 0.8, 0.6 + 0.26 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for position, row in enumerate(rows):
            pair, found = pair_of(row), intervals(row)
            colour = _COLOURS[pair.features]
            if pair.readout == "own":
                axes.axvline(found["pgd"][0], color=colour, linewidth=0.6, linestyle=":")
            for name, (marker, filled, _) in _MARKS.items():
                _point(axes, position, found[name], colour, marker, filled)
        for marker, filled, label in _MARKS.values():
            face = GREY if filled else "none"
            axes.plot([], [], marker, color=GREY, markerfacecolor=face, label=label)
        axes.set_yticks(range(len(rows)), [str(pair_of(row)) for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("accuracy")
        axes.set_xlim(right=1.01)
        legend_above(figure, axes, len(_MARKS))
        figure.draw_without_rendering()
    return figure


def save(rows: list[Row], directory: str | Path) -> list[Path]:
    """Draw and write ``readouts.png`` and ``readouts.pdf``.

    Args:
        rows: of readouts.json.
        directory: made if it does not exist.

    Returns:
        The files written.
    """
    return write(draw(rows), directory, "readouts")


def _point(
    axes: Axes, position: int, found: tuple[float, ...], colour: str, marker: str, filled: bool
) -> None:
    """A mean with its interval, if it has one."""
    mean, low, high = found
    if low == low:
        axes.hlines(position, low, high, color=colour, linewidth=0.8)
    axes.plot(mean, position, marker, color=colour, markerfacecolor=colour if filled else "white")
