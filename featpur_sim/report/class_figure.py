"""The figure of claim C8: robust accuracy against radius, bounds as forbidden regions (§6).

Sections are of docs/theory.md. Drawn from the rows of compare.json alone.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim._ground.rows import Row
from featpur_sim.claims.of_classes import best_rows
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    VERMILLION,
    house_style,
    write,
)
from featpur_sim.runs.model_classes import CLEAN, PURE, PURIFIED
from featpur_sim.training.competitors import (
    AFFINE,
    DEGREES,
    LINEAR,
    NTK_LIMIT,
    WIDTHS,
    ntk_class,
    polynomial_class,
)

CAPTION = (
    "Robust accuracy against radius of the best member found of each class, trained for the dotted "
    "radius, under one frozen attack protocol on the same points; bars are 95 % intervals over "
    "test points, one training seed. Hatched: proved out of reach for every member of the class of "
    "that colour, whatever trains it. Classes without hatching have no proved bound. The purified "
    "network (dashed) is in every panel; triangles: the fraction on which it is proved robust, "
    "down to the exact lower limit. Where that lies in a hatched region, the network is separated "
    "from the class by proof."
)
_PANELS = {
    "linear": (LINEAR, AFFINE),
    "polynomials": tuple(polynomial_class(q) for q in DEGREES),
    "tangent kernel": (*(ntk_class(width) for width in WIDTHS), NTK_LIMIT),
    "networks": (CLEAN, PURE),
}
_COLOURS = (VERMILLION, ORANGE, GREEN, PURPLE)


def draw(rows: list[Row], tau: float) -> Figure:
    """One panel a family; classes that are not in ``rows`` are left out.

    Args:
        rows: of compare.json.
        tau: the training radius, in units of x.
    """
    best = best_rows(rows)
    with house_style():
        figure = Figure(figsize=(PAGE, 5.0), layout="constrained")
        grid = list(figure.subplots(2, 2, sharex=True, sharey=True).flat)
        for axes, (family, classes) in zip(grid, _PANELS.items(), strict=True):
            axes.axvline(tau, color=GREY, linewidth=0.6, linestyle=":")
            for name, colour in zip(classes, _COLOURS, strict=False):
                if name in best:
                    _class(axes, best[name], name, colour)
            if PURIFIED in best:
                _line(axes, best[PURIFIED], "purified network", BLUE, "--")
                _certified(axes, best[PURIFIED])
            axes.set_title(family, loc="left")
            axes.set_ylim(0, 1.02)
            axes.legend(loc="lower left")
        for axes in grid[2:]:
            axes.set_xlabel("radius (units of x)")
        for axes in grid[::2]:
            axes.set_ylabel("robust accuracy")
        figure.draw_without_rendering()
    return figure


def save(rows: list[Row], tau: float, directory: str | Path) -> list[Path]:
    """Draw and write ``comparison.png`` and ``comparison.pdf``.

    Args:
        rows: of compare.json.
        tau: the training radius.
        directory: made if it does not exist.

    Returns:
        The files written.
    """
    return write(draw(rows, tau), directory, "comparison")


def _class(axes: Axes, row: Row, name: str, colour: str) -> None:
    _line(axes, row, name, colour, "-")
    bounded = [point for point in row["curve"] if point["class_bound"] is not None]
    if not bounded:
        return
    radius = [point["radius"] for point in bounded]
    bound = [point["class_bound"] for point in bounded]
    axes.fill_between(
        radius, bound, 1.0, facecolor="none", edgecolor=colour, hatch="////", linewidth=0, alpha=0.6
    )
    axes.plot(radius, bound, color=colour, linewidth=0.8)


def _certified(axes: Axes, row: Row) -> None:
    proved = [point for point in row["curve"] if "certified" in point]
    if not proved:
        return
    value = [point["certified"] for point in proved]
    down = [point["certified"] - point["certified_floor"] for point in proved]
    axes.errorbar(
        [point["radius"] for point in proved],
        value,
        yerr=[down, [0.0] * len(down)],
        color=BLACK,
        linestyle=":",
        marker="v",
        label="purified network, certified",
    )


def _line(axes: Axes, row: Row, name: str, colour: str, style: str) -> None:
    radius = [point["radius"] for point in row["curve"]]
    value = [point["robust_accuracy"] for point in row["curve"]]
    # Rounding can put the estimate a hair outside its own interval.
    bars = [
        [max(0.0, v - p["ci"][0]) for v, p in zip(value, row["curve"], strict=True)],
        [max(0.0, p["ci"][1] - v) for v, p in zip(value, row["curve"], strict=True)],
    ]
    axes.errorbar(
        radius, value, yerr=bars, color=colour, linestyle=style, marker="o", capsize=2, label=name
    )
