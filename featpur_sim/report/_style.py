"""How every figure is drawn: sizes, colours, intervals over seeds, bytes (docs/theory.md §5.2).

A measured curve is a mean over the seeds that finished, with its 95 % t-interval as a band; a seed
that did not finish is named, never averaged. The user's matplotlib settings neither
matter nor change.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from featpur_sim._ground.disk import atomic_path
from featpur_sim.runs.diagnosis import OK, finished, only_finished
from featpur_sim.statistics import fraction_interval, mean_interval

DPI = 200
# Inches: one and two columns of a journal page.
COLUMN, PAGE = 3.4, 7.0

# Okabe and Ito's colours, told apart by readers with any common colour blindness.
BLACK, GREY, ORANGE, SKY = "#000000", "#6F6F6F", "#E69F00", "#56B4E9"
GREEN, BLUE, VERMILLION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"
# Phase → label, colour, marker.
PHASES = {
    "init": ("untrained", GREY, "s"),
    "clean": ("clean-trained", VERMILLION, "o"),
    "adversarial": ("adversarially trained", BLUE, "^"),
}

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults and `STYLE`, whatever the user's settings are; they hold afterwards.

    A figure must be drawn and rendered inside: text.usetex without LaTeX, say, fails in either.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def to_average(result: xr.Dataset) -> xr.Dataset:
    """The seeds that finished; a ValueError where none did."""
    if not finished(result).any():
        raise ValueError(
            "result has no seed with status 'ok': there is nothing to average. Lower "
            "clean.learning_rate or the final bias."
        )
    return only_finished(result)


@contextlib.contextmanager
def page(result: xr.Dataset, width: float, height: float) -> Iterator[tuple[Figure, xr.Dataset]]:
    """A figure in the house style, and the result restricted to the seeds that finished."""
    seeds = to_average(result)
    with house_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        failed = [
            f"{seed} ({how})"
            for seed, how in zip(result.seed.values, result.status.values, strict=True)
            if how != OK
        ]
        if failed:
            figure.supxlabel(f"left out, seed: {', '.join(failed)}", fontsize=7)
        yield figure, seeds
        # Ticks take their size when first drawn: draw them while the style holds.
        figure.draw_without_rendering()


def seed_interval(values: Any, points: float | None = None) -> np.ndarray:
    """Mean, low and high [3, n] over the first axis of values [S, n]; NaN where undefined.

    ``points``: of one seed, for values that are fractions of test points.
    """
    table = np.asarray(values, float)
    if len(table) == 1:
        return np.stack([table[0], *np.full((2, table.shape[1]), np.nan)])
    undefined = (math.nan, math.nan, math.nan)
    find = mean_interval if points is None else partial(fraction_interval, points=points)
    columns = [find(c) if np.isfinite(c).all() else undefined for c in table.T]
    return np.array(columns).T


def curve(
    axes: Axes, x: Any, values: Any, colour: str, *, points: float | None = None, **style: Any
) -> None:
    """Mean over seeds of values [S, n] against x [n], with its interval as a band.

    ``points``: as for `seed_interval`.
    """
    mean, low, high = seed_interval(values, points)
    axes.plot(x, mean, color=colour, **style)
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)


def name_training_radius(axes: Axes, tau: float) -> None:
    """Beside the line of the training radius; legible where curves cross it too."""
    halo = withStroke(linewidth=2, foreground="white")
    axes.text(tau, 0.02, " training τ", fontsize=7, color=GREY, path_effects=[halo])


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)


def render(figure: Figure, file_format: str) -> bytes:
    """A figure as the bytes of a ``"png"`` (200 dpi) or ``"pdf"`` file, without a time stamp."""
    buffer = io.BytesIO()
    metadata = {"CreationDate": None} if file_format == "pdf" else None
    with house_style():
        figure.savefig(buffer, format=file_format, dpi=DPI, metadata=metadata)
        # Laid out for good: the other format shows the same, in half the time.
        figure.set_layout_engine("none")
    return buffer.getvalue()


def write(figure: Figure, directory: str | Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.pdf``, each whole or not at all; the files written."""
    paths = [Path(directory) / f"{name}.{kind}" for kind in ("png", "pdf")]
    for path in paths:
        content = render(figure, path.suffix[1:])
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return paths
