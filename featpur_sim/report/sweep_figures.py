"""The figures of a sweep: phase diagrams and power laws (docs/theory.md §5.1).

Points are means over the runs that finished, bars their 95 % t-intervals over seeds.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from featpur_sim._ground.disk import atomic_path
from featpur_sim.claims.diagram import PLANE, per_point, phase_diagram, window_lines
from featpur_sim.claims.power_law import PowerLaw, distinct_points
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILLION,
    house_style,
    render,
)
from featpur_sim.report._ticks import label_values, plain_numbers
from featpur_sim.runs.folder import ResultError

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_MARKERS = "o^sDvP"
_LETTERS = {"tau": "τ", "sigma_x": "σ_x", "sigma_0": "σ₀"}
# A colour bar over more than this ratio of positive values is logarithmic.
_WIDE = 5


def draw_phase_diagram(
    result: xr.Dataset, quantity: Quantity, plane: tuple[str, str] = PLANE
) -> Figure:
    """One colour per point in a plane of two coordinates, both logarithmic; over d and k with the
    window's ends.

    A full grid is drawn as touching cells, other points as discs; × marks a point without a value.

    Raises:
        ResultError: as of `phase_diagram`, or no point has a value.
    """
    diagram = phase_diagram(result, quantity, plane)
    with house_style():
        figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
        axes = figure.subplots()
        drawn = draw_plane(axes, diagram, quantity, plane)
        figure.colorbar(drawn, ax=axes, label=quantity.label)
        if plane == PLANE:
            figure.legend(loc="outside upper center", ncols=2)
        along = [diagram[name].values.astype(float) for name in plane]
        label_values(figure, [axes.xaxis, axes.yaxis], along)
    return figure


def draw_plane(
    axes: Axes, diagram: xr.Dataset, quantity: Quantity, plane: tuple[str, str]
) -> ScalarMappable:
    """A phase diagram on given Axes; what its colours stand for, for a colour bar.

    Args:
        axes: where.
        diagram: of `phase_diagram`.
        quantity: that it shows.
        plane: the two coordinates.

    Raises:
        ResultError: no point has a value.
    """
    along_x, along_y, value = (diagram[name].values.astype(float) for name in (*plane, "value"))
    if not np.isfinite(value).any():
        raise ResultError(f"{quantity}: no point of the sweep has a value, so none has a colour.")
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = np.isfinite(value)
    scale = {"norm": _scale(value[shown]), "cmap": "viridis"}
    x, y = np.unique(along_x), np.unique(along_y)
    if len(value) == len(x) * len(y) and min(len(x), len(y)) > 1:
        table = np.full((len(y), len(x)), np.nan)
        table[np.searchsorted(y, along_y), np.searchsorted(x, along_x)] = value
        drawn = axes.pcolormesh(_edges(x), _edges(y), table, **scale)
    else:
        place = along_x[shown], along_y[shown]
        drawn = axes.scatter(*place, c=value[shown], s=60, zorder=3, **scale)
    blank = {"color": GREY, "markersize": 5, "linestyle": "none", "zorder": 6}
    axes.plot(along_x[~shown], along_y[~shown], "x", **blank)
    axes.set_xlabel(diagram[plane[0]].attrs.get("long_name", plane[0]))
    axes.set_ylabel(diagram[plane[1]].attrs.get("long_name", plane[1]))
    if plane == PLANE:
        _window(axes, along_x)
    return drawn


def _window(axes: Axes, d: np.ndarray) -> None:
    x_limits, y_limits = axes.get_xlim(), axes.get_ylim()
    x = np.unique(np.round(np.geomspace(*x_limits, 100)))
    for (label, line), style in zip(window_lines(x).items(), ("--", "-"), strict=True):
        axes.plot(x, line, color="white", linewidth=2.4, zorder=4)
        axes.plot(x, line, color=BLACK, linewidth=1, linestyle=style, zorder=5, label=f"${label}$")
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)


def _scale(values: np.ndarray) -> Normalize:
    if len(values) and values.min() > 0 and values.max() > _WIDE * values.min():
        return LogNorm(values.min(), values.max())
    return Normalize()


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells around rising centres, half-way between them in the logarithm."""
    logs = np.log(centres)
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))


def draw_power_law(result: xr.Dataset, fit: PowerLaw) -> Figure:
    """A panel per fitted coordinate: measurements, the fit, and the predicted slope.

    In each panel the points that agree in all other fitted coordinates have one colour and are
    joined to their own line of the common fit. The grey line has the predicted slope and goes
    through the middle of the points: the theory fixes exponents, not constants. Points are what is
    fitted, means of the logarithm; hollow ones, plain means, were excluded.
    """
    once = distinct_points(result, fit.quantity)
    table = per_point(once.result, fit.quantity, logarithmic=True)
    table["plain"] = per_point(once.result, fit.quantity).value
    table["used"] = "point", np.isin(once.first, fit.points)
    names = [exponent.coordinate for exponent in fit.exponents]
    with house_style():
        width = COLUMN if len(names) == 1 else PAGE
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, exponent in zip(panels, fit.exponents, strict=True):
            _panel(axes, table, fit, exponent, names)
        panels[0].set_ylabel(fit.quantity.label)
        label_values(figure, [axes.xaxis for axes in panels], [table[name] for name in names])
    return figure


def _panel(axes: Axes, table: xr.Dataset, fit: PowerLaw, exponent, names: list[str]) -> None:
    x = table[exponent.coordinate].values.astype(float)
    value = np.where(np.isfinite(table.value), table.value, table.plain)
    axes.set_xscale("log")
    axes.set_yscale("log")
    others = [name for name in names if name != exponent.coordinate]
    groups = np.column_stack([np.zeros(len(x)), *(table[name].values for name in others)])
    looks = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), strict=False)
    texts = [
        dict(zip(table[name].values, plain_numbers(table[name]), strict=True)) for name in others
    ]
    used = table.used.values
    for group, (colour, marker) in zip(np.unique(groups, axis=0), looks, strict=False):
        own = (groups == group).all(axis=1)
        known = zip(others, texts, group[1:], strict=True)
        label = ", ".join(f"{_LETTERS.get(name, name)} = {text[g]}" for name, text, g in known)
        draw_measured(axes, table.isel(point=own & used), x[own & used], colour, marker, label)
        hollow = own & ~used & (value > 0)
        axes.plot(x[hollow], value[hollow], marker, color=colour, mfc="none", linestyle="none")
        ends = np.array([x[own].min(), x[own].max()])
        place = dict(zip(others, group[1:], strict=True)) | {exponent.coordinate: ends}
        axes.plot(ends, fit(place), color=colour, linewidth=0.9)
    if exponent.predicted is not None:
        _predicted(axes, x[used], value[used], exponent.predicted)
    shown = value[value > 0]
    axes.set_ylim(shown.min() / 1.4, shown.max() * 1.4)
    axes.set_xlabel(table[exponent.coordinate].attrs.get("long_name", exponent.coordinate))
    axes.set_title(_slope(exponent), loc="left")
    if len(np.unique(groups, axis=0)) <= 12 and (others or exponent.predicted is not None):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)


def draw_measured(
    axes: Axes, table: xr.Dataset, x: Any, colour: str, marker: str, label: str = ""
) -> None:
    """The means of `per_point` against x, [point], with their 95 % t-intervals."""
    value, low, high = (table[name].values for name in ("value", "low", "high"))
    bars = np.nan_to_num(np.stack([value - low, high - value]))
    style = {"color": colour, "marker": marker, "linestyle": "none", "elinewidth": 0.8}
    axes.errorbar(x, value, yerr=bars, label=label or None, **style)


def _predicted(axes: Axes, x: np.ndarray, value: np.ndarray, slope: float) -> None:
    middle_x, middle = np.exp(np.mean(np.log(x))), np.exp(np.mean(np.log(value)))
    ends = np.array([x.min(), x.max()])
    line = middle * (ends / middle_x) ** slope
    axes.plot(ends, line, color=GREY, linestyle="--", linewidth=1.6, label="predicted slope")


def _slope(exponent) -> str:
    name = _LETTERS.get(exponent.coordinate, exponent.coordinate)
    text = f"slope in {name}: {exponent.value:.3f}"
    if np.isfinite(exponent.low):
        text += f" [{exponent.low:.3f}, {exponent.high:.3f}]"
    if exponent.predicted is not None:
        text += f"\npredicted: {exponent.predicted:.3f}"
    return text.replace("-", "−")


def caption(figure_of: PowerLaw | Quantity, plane: tuple[str, str] = PLANE) -> str:
    """The caption of a figure of `draw_all`; a diagram's names its plane."""
    if isinstance(figure_of, Quantity):
        x, y = (_LETTERS.get(name, name) for name in plane)
        window = " Lines: the ends of the paper's window, exponents only (constants are not known)."
        return (
            f"{figure_of.label} over {x} and {y}: means over the runs that finished, × where there "
            f"is none.{window if plane == PLANE else ''}"
        )
    said = "The theory predicts nothing here."
    if figure_of.prediction is not None:
        p = figure_of.prediction
        said = f"Dashed: the predicted slope, {p.formula} ({p.source}; holds: {p.holds})."
    hollow = " Hollow: points that the fit leaves out." if figure_of.excluded else ""
    return (
        f"{figure_of.quantity.label}: means of the logarithm over the runs that finished, 95 % "
        f"t-intervals over seeds, and the fitted power law, R² = {figure_of.r_squared:.3f}. The "
        f"slope's interval is over the slopes of the seeds.{hollow} {said}"
    )


def save(figure: Figure, directory: str | Path, name: str) -> list[Path]:
    """Write a figure as PNG and PDF into ``directory``, each whole or not at all; their paths."""
    paths = [Path(directory) / f"{name}.{ending}" for ending in ("png", "pdf")]
    for path in paths:
        with atomic_path(path) as temporary:
            temporary.write_bytes(render(figure, path.suffix[1:]))
    return paths


def slug(quantity: Quantity) -> str:
    """A quantity as part of a file's name."""
    parts = (quantity.name, *(label for _, label in quantity.at))
    return "-".join(part.replace(" ", "-").replace("/", "-") for part in parts)
