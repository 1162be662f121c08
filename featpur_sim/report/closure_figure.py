"""The figure of claim C14: a run along both phases, and what the closure predicts of it.

The closure knows the settings and the initial weights, and nothing that the run measured
(docs/dynamics.md, step 8).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim._ground.manifest import rewriting
from featpur_sim._ground.rows import Row
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PAGE,
    PURPLE,
    curve,
    legend_above,
    page,
    seed_interval,
    write,
)
from featpur_sim.report.run_figures import name_phases, steps
from featpur_sim.runs.folder import FIGURES, figure_files

NAME = "closure"
CAPTION = (
    "The run (lines) and what the closure predicts for it from its settings and its initial "
    "weights, with nothing fitted (points): means over seeds with 95 % t-intervals. Both phases, "
    "one after the other. Carriers: neurons whose |α| is at least half of the largest; before the "
    "first step the closure counts coordinates towards the label alone."
)
# Quantity of the run → that of the closure, label on the axis, panel, colour.
_SHOWN = (
    ("along_kappa_over_alpha_mean", "ratio", "κ/α, mean over carriers", 0, BLUE),
    ("along_active_fraction", "active", "fraction of open gates", 1, BLUE),
    ("along_carriers", "carriers", "carriers, of all neurons", 2, BLUE),
    ("along_accuracy", "accuracy", "accuracy", 3, GREEN),
    ("along_dense_attack_accuracy", "dense_accuracy", "accuracy", 3, PURPLE),
)


def draw(result: xr.Dataset, rows: Sequence[Row]) -> Figure:
    """Four panels: κ/α, open gates, carriers, and accuracy without and under the dense attack.

    Args:
        result: the Dataset of a run with a seed that finished.
        rows: of population.json.
    """
    with page(result, PAGE, 4.2) as (figure, seeds):
        panels = list(figure.subplots(2, 2, sharex=True).flat)
        along, (step, boundary) = seeds.transpose("seed", "record", ...), steps(seeds)
        at = [row["step"] + boundary * (row["phase"] == "adversarial") for row in rows]
        for name, predicted, label, panel, colour in _SHOWN:
            points = seeds.attrs["test_samples"] if panel == 3 else None
            curve(panels[panel], step, along[name], colour, points=points)
            found = np.array([row[predicted] for row in rows]).T[seeds.seed.values - 1]
            _predicted(panels[panel], at, found, colour)
            panels[panel].set_ylabel(label)
        panels[0].axhline(0, color=GREY, linewidth=0.4)
        panels[1].set_ylim(bottom=0)
        for axes in panels[2:]:
            axes.set_ylim(0, 1.05)
        for axes in panels:
            axes.axvline(boundary, color=GREY, linewidth=0.8)
        for axes in panels[:2]:
            name_phases(axes, boundary, int(step[-1]))
        for axes in panels[2:]:
            axes.set_xlabel("training step")
        for label, colour in (("no attack", GREEN), ("dense mixture at τ", PURPLE)):
            panels[3].plot([], [], color=colour, label=label)
        panels[3].legend()
        panels[0].plot([], [], color=BLACK, label="run")
        panels[0].plot([], [], "o", color=BLACK, markerfacecolor="white", label="closure")
        legend_above(figure, panels[0], 2)
    return figure


def _predicted(axes: Axes, at: list[int], values: np.ndarray, colour: str) -> None:
    mean, low, high = seed_interval(values)
    bars = None if np.isnan(low).all() else (mean - low, high - mean)
    axes.errorbar(at, mean, bars, fmt="o", color=colour, markerfacecolor="white", linewidth=0.8)


def save(directory: str | Path, result: xr.Dataset, rows: Sequence[Row]) -> list[Path]:
    """Draw and write ``figures/closure.png`` and ``closure.pdf`` in a run's folder.

    Args:
        directory: of the run, claimed.
        result: see `draw`.
        rows: likewise.

    Returns:
        The files written.
    """
    with rewriting(directory, *figure_files(NAME)):
        return write(draw(result, rows), Path(directory) / FIGURES, NAME)
