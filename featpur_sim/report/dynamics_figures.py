"""Figures of the reduced dynamics (docs/dynamics.md): runs, exponents, the phase boundary.

Drawn from the rows of dynamics.json, of `experiments/dynamics_against_direct.py`, or the Dataset of
a run; nothing is computed here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

from featpur_sim._ground.disk import atomic_path
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PHASES,
    VERMILLION,
    curve,
    house_style,
    legend_above,
    page,
    render,
)
from featpur_sim.report._ticks import label_values

Row = Mapping[str, Any]

# ±.1: a deviation of .005 from the prediction must look as small as it is.
_LEAST_SPAN = 0.2

_CLOSURES = {
    "direct": ("direct simulation", BLACK, "o", ""),
    "homogeneous": ("homogeneous closure", ORANGE, "", "--"),
    "population": ("population, from the start", BLUE, "", "-"),
    "population (measured)": ("population, from measured clean weights", GREEN, "", ":"),
}
_STATISTICS = {
    "alpha": "α",
    "ratio": "κ/α",
    "residual": "ρ²",
    "active": "active fraction",
    "accuracy": "clean accuracy",
    "dense_accuracy": "accuracy, dense attack at τ",
}

# Neighbouring records whose pushes are averaged in the figure of stationarity.
POOLED = 5


def against_direct(rows: Sequence[Row]) -> Figure:
    """Order parameters and accuracies along both phases, direct points over the closures' lines.

    Args:
        rows: with ``closure, phase, step`` and the entries of
            `featpur_sim.theory.dynamics.population.Statistics`.
    """
    clean = max(r["step"] for r in rows if r["phase"] == "clean")
    with house_style():
        figure = Figure(figsize=(PAGE, 4.4), layout="constrained")
        grid = list(figure.subplots(2, 3, sharex=True).flat)
        for axes, (name, label) in zip(grid, _STATISTICS.items(), strict=True):
            axes.axvline(clean, color=GREY, linewidth=0.6, linestyle=":")
            for closure, (legend, colour, marker, line) in _CLOSURES.items():
                found = [r for r in rows if r["closure"] == closure and name in r]
                step = [r["step"] + clean * (r["phase"] == "adversarial") for r in found]
                axes.plot(
                    step, [r[name] for r in found], color=colour, label=legend, marker=marker,
                    linestyle=line or "none",
                )  # fmt: skip
            axes.set_ylabel(label)
            if name == "ratio":
                axes.set_yscale("log", nonpositive="mask")  # of either sign before step 1
            if "accuracy" in name:
                axes.set_ylim(0, 1.02)
        for axes in grid[3:]:
            axes.set_xlabel("step")
        legend_above(figure, grid[0], 2)
        figure.draw_without_rendering()
    return figure


def trajectories(result: xr.Dataset) -> Figure:
    """Order parameters of a reduced run against time, both phases one after the other.

    Lines break where the phase changes: active fraction and point of rest are those of the inputs
    trained on, which are other ones from then on.

    Args:
        result: of `featpur_sim.runs.reduced.to_dataset`; lines are means over the replicates.
    """
    names = {"alpha": "α", "dense_ratio": "c/α", "residual": "ρ²",
             "active_fraction": "active fraction"}  # fmt: skip
    with house_style():
        figure = Figure(figsize=(PAGE, 4.0), layout="constrained")
        grid = list(figure.subplots(2, 2, sharex=True).flat)
        clean = float(result.time.sel(phase="clean").max())
        mean = result.mean("replicate")
        for axes, (name, label) in zip(grid, names.items(), strict=True):
            axes.axvline(clean, color=GREY, linewidth=0.6, linestyle=":")
            for phase, start in (("clean", 0.0), ("adversarial", clean)):
                part = mean.sel(phase=phase)
                _, colour, _ = PHASES[phase]
                axes.plot(start + part.time, part[name], color=colour, label=f"{phase} phase")
                if name == "dense_ratio":
                    rest = None if start else "where it would rest"
                    axes.plot(
                        start + part.time, part.stationary_ratio, color=BLACK, linestyle="--",
                        linewidth=0.8, label=rest,
                    )  # fmt: skip
            axes.set_ylabel(label)
            if name != "dense_ratio":
                axes.set_ylim(bottom=0)
        _limit_ratio(grid[1], mean)
        for axes in grid[2:]:
            axes.set_xlabel("t′ = η·step/d")
        legend_above(figure, grid[1], 3)
        figure.draw_without_rendering()
    return figure


def _limit_ratio(axes: Axes, mean: xr.Dataset) -> None:
    """c/α in full; the point of rest, which starts far off, as far as three times as high."""
    axes.axhline(0, color=GREY, linewidth=0.6)
    largest = float(np.abs(mean.dense_ratio).max())
    shown = np.clip(mean.stationary_ratio, -3 * largest, 1.5 * largest)
    axes.set_ylim(min(0.0, float(shown.min())) - 0.1 * largest, 1.6 * largest)


def exponents(rows: Sequence[Row]) -> Figure:
    """Fitted exponents against a = log k/log d, with the predicted lines.

    All vertical axes span the same, so that a deviation has the same size in every panel: as much
    as the widest panel needs, and never less than `_LEAST_SPAN`.

    Args:
        rows: of dynamics.json, at least one.
    """
    names = list(dict.fromkeys(row["quantity"] for row in rows))
    columns = len(names) if len(names) <= 3 else 2
    lines = -(-len(names) // columns)
    with house_style():
        width = COLUMN if columns == 1 else PAGE
        figure = Figure(figsize=(width, 0.6 + 2.0 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes in grid[len(names) :]:
            axes.remove()
        panels = dict(zip(names, grid, strict=False))
        found = {name: [r for r in rows if r["quantity"] == name] for name in names}
        for name, axes in panels.items():
            _exponent(axes, name, sorted(found[name], key=lambda r: r["a"]))
        span = _same_span(list(panels.values()))
        for axes in grid[len(names) - columns : len(names)]:
            axes.set_xlabel("a = log k / log d")
        figure.supxlabel(f"every vertical axis spans {span:.2f}", fontsize=7)
        legend_above(figure, grid[0], min(columns, 2))
        values = [[row["a"] for row in found[name]] for name in names]
        label_values(figure, [axes.xaxis for axes in panels.values()], values)
    return figure


def _exponent(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    a = [r["a"] for r in rows]
    value = np.array([r["exponent"] for r in rows])
    ends = np.array([r["ci"] for r in rows]).T
    low, high = (_power_of_ten(rows[0][end]) for end in ("d_min", "d_max"))
    axes.errorbar(
        a, value, yerr=[value - ends[0], ends[1] - value], color=BLUE, marker="o",
        linestyle="none", capsize=2, label=f"fit over d = {low} … {high}, 95 % interval",
    )  # fmt: skip
    # A line through one point would not be seen.
    marker = "_" if len(set(a)) == 1 else ""
    axes.plot(
        a, [r["predicted"] for r in rows], color=BLACK, linestyle="--", marker=marker,
        markersize=12, label="predicted",
    )  # fmt: skip
    axes.set_title(f"{name}\npredicted: {rows[0]['source']}", loc="left")
    axes.set_ylabel("exponent of d")
    axes.margins(x=0.15)


def _power_of_ten(d: int) -> str:
    power = round(np.log10(d))
    return f"$10^{{{power}}}$" if d == 10**power else f"{d}"


def _same_span(panels: Sequence[Axes]) -> float:
    """Let every vertical axis have the same length in data, its own data in the middle."""
    limits = [axes.dataLim.intervaly for axes in panels]
    span = max(_LEAST_SPAN, *(1.2 * (high - low) for low, high in limits))
    for axes, (low, high) in zip(panels, limits, strict=True):
        middle = (low + high) / 2
        axes.set_ylim(middle - span / 2, middle + span / 2)
    return span


def boundary(rows: Sequence[Row], runs: Sequence[Row] = ()) -> Figure:
    """Where clean training becomes non-robust: the k at which the dense radius is the pure one's.

    Args:
        rows: with ``d, k`` of the boundary in the reduced model.
        runs: direct runs, with ``d, k, ratio``: the radius at which the dense attack defeats half
            of the clean network's points over that at which FGM defeats half of the pure one's.
    """
    with house_style():
        figure = Figure(figsize=(COLUMN, 3.0), layout="constrained")
        axes = figure.subplots()
        d = np.array([row["d"] for row in rows], float)
        span = np.geomspace(d.min(), d.max(), 50)
        axes.plot(span, span ** (1 / 3), color=GREY, linestyle=":", label="$d^{1/3}$")
        axes.plot(span, span**0.5, color=GREY, linestyle="-.", label="$d^{1/2}$")
        axes.plot(d, [row["k"] for row in rows], color=BLUE, label="reduced model: boundary")
        for robust, colour, label in (
            (False, VERMILLION, "direct: dense attack wins"),
            (True, GREEN, "direct: robust at the pure radius"),
        ):
            chosen = [r for r in runs if (r["ratio"] >= 1) == robust]
            axes.plot(
                [r["d"] for r in chosen], [r["k"] for r in chosen], color=colour, marker="o",
                linestyle="none", label=label if chosen else None,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("d")
        axes.set_ylabel("k")
        axes.legend(loc="upper left")
        figure.draw_without_rendering()
    return figure


def stationarity(result: xr.Dataset) -> Figure:
    """Both sides of the stationarity identity along training; equal where training rests (§7).

    The data's side is a mean over `POOLED` records on samples of their own: single ones are noise
    where robust training leaves few errors.
    """
    with page(result, PAGE, 2.6) as (figure, seeds):
        panels = figure.subplots(1, 2)
        for axes, phase in zip(panels, ("clean", "adversarial"), strict=True):
            _, colour, _ = PHASES[phase]
            inside = seeds.record_phase.values == phase
            step = seeds.record_step.values[inside]
            # Results of early development versions lack one or both.
            if "along_stationarity_weights" in seeds:
                held = seeds.along_stationarity_weights.values[inside].T
                curve(axes, step, held, colour, label="κ/α of the weights")
            if "along_push_dense" in seeds:
                pushed = seeds.along_push_dense.values[inside].T
                window = min(POOLED, len(step))
                pooled = sliding_window_view(pushed, window, axis=-1).mean(-1)
                middle = sliding_window_view(step, window).mean(-1)
                curve(axes, middle, pooled, BLACK, linestyle="--", label="κ/α that the data hold")
            axes.axhline(0, color=GREY, linewidth=0.6)
            axes.set_yscale("symlog", linthresh=0.001)  # a phase starts hundreds of times off
            axes.set_title(PHASES[phase][0], loc="left")
            axes.set_xlabel("step of the phase")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best")
        panels[0].set_ylabel("κ/α")
    return figure


def save(figures: Mapping[str, Figure], directory: str | Path) -> list[Path]:
    """Write each figure as PNG and PDF.

    Args:
        figures: name → figure.
        directory: made if it does not exist.

    Returns:
        The files written.
    """
    paths = []
    for name, figure in figures.items():
        for kind in ("png", "pdf"):
            content = render(figure, kind)
            path = Path(directory) / f"{name}.{kind}"
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            paths.append(path)
    return paths
