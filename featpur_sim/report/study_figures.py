"""The figures of a study: accuracy against radius, what was measured along an axis, training.

They are the same whatever the theorem: a line for each phase, attack or point, a mean over the
seeds that finished with its 95 % t-interval.
"""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim.claims.diagram import per_point
from featpur_sim.claims.quantity import Quantity
from featpur_sim.claims.same_runs import swept_coordinates
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PAGE,
    PHASES,
    PURPLE,
    SKY,
    VERMILLION,
    curve,
    house_style,
)
from featpur_sim.report.sweep_figures import draw_measured
from featpur_sim.runs.diagnosis import finished

_COLOURS = (VERMILLION, BLUE, GREEN, ORANGE, PURPLE, SKY, BLACK)
_LINES = ("-", "--", ":", "-.")
_MARKERS = "o^sDvP"
# Panels and lines that a page can hold.
MOST = 8
_COLUMNS = 4


def draw_all(result: xr.Dataset) -> dict[str, tuple[Figure, str]]:
    """Every figure of a study that there is something for: file name → figure and caption."""
    if not finished(result).any():
        return {}
    makers = {"study-accuracy": accuracy, "study-measured": measured, "study-training": training}
    with house_style():
        found = {name: make(result) for name, make in makers.items()}
        for drawn in found.values():
            if drawn is not None:
                # Ticks take their size when first drawn: draw them while the style holds.
                drawn[0].draw_without_rendering()
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def accuracy(result: xr.Dataset) -> tuple[Figure, str] | None:
    """Accuracy against radius, a panel for each point."""
    if result.sizes["relative_radius"] < 2 or not result.sizes["attack"]:
        return None
    points, said = _some(result.sizes["point"], "points")
    figure, panels = _panels(len(points), sharey=True)
    order = np.argsort(result.relative_radius.values)
    phases = _trained(result)
    for axes, point in zip(panels, points, strict=False):
        here = result.isel(point=point)
        values = here.robust_accuracy.values[finished(result)[point]]
        for (p, phase), (a, attack) in itertools.product(
            phases, enumerate(here.attack.values.tolist())
        ):
            style = {"linestyle": _LINES[a % len(_LINES)], "marker": "o", "label": None}
            style["label"] = f"{phase}, {attack}" if len(here.attack) > 1 else str(phase)
            radii = here.radius.values[0]
            if len(values) and np.isfinite(values[:, p, a]).any():
                curve(
                    axes, radii[order], values[:, p, a][:, order], _colour(phase, p),
                    points=float(result.attrs["test_samples"]), **style,
                )  # fmt: skip
        axes.set_title(_place(result, point), loc="left")
        axes.set_xlabel("radius")
        axes.set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("accuracy under attack")
    _legend(figure, panels[0])
    return figure, (
        "Accuracy under attack against the radius, after each phase: an upper bound on robust "
        f"accuracy. Bands: 95 % t-intervals over seeds.{said}"
    )


def measured(result: xr.Dataset) -> tuple[Figure, str] | None:
    """Critical radii and what ``measure`` gave, a panel each, against the longest axis."""
    x = _longest(result)
    quantities, said = _some_of(quantities_of(result), "quantities")
    if x is None or not quantities:
        return None
    figure, panels = _panels(len(quantities))
    groups = _groups(result, x)
    for axes, quantity in zip(panels, quantities, strict=False):
        table = per_point(result, quantity)
        looks = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), strict=False)
        for (label, points), (colour, marker) in zip(groups.items(), looks, strict=False):
            own = table.isel(point=points)
            draw_measured(axes, own, own[x].values, colour, marker, label)
            axes.plot(own[x].values, own.value.values, color=colour, linewidth=0.8)
        values = result[x].values.astype(float)
        if values.min() > 0 and values.max() > 3 * values.min():
            axes.set_xscale("log", base=2)
            axes.set_xticks(np.unique(values), [f"{v:g}" for v in np.unique(values)])
            axes.set_xticks([], minor=True)
        axes.set_xlabel(x)
        axes.set_title(_said(quantity), loc="left")
    if len(groups) > 1:
        _legend(figure, panels[0])
    return figure, (
        f"What was measured, against {x}: means over seeds with 95 % t-intervals.{said}"
    )


def training(result: xr.Dataset) -> tuple[Figure, str] | None:
    """Loss, accuracy and what was observed along training; a line for each point."""
    names = [
        str(name)
        for name in result.data_vars
        if str(name).startswith("along_")
        and name not in ("along_step", "along_bias", "along_training_loss")
    ]
    names, said = _some_of(names, "variables")
    points, also = _some(result.sizes["point"], "points")
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=False):
        for number, point in enumerate(points):
            kept = finished(result)[point]
            if kept.any():
                step, values = _joined(result, name, point, kept)
                label = _place(result, point)
                curve(axes, step, values, _COLOURS[number % len(_COLOURS)], label=label)
        axes.set_xlabel("step")
        axes.set_title(name.removeprefix("along_").replace("_", " "), loc="left")
    if len(points) > 1:
        _legend(figure, panels[0])
    return figure, (
        "Along training, one phase after another: means over seeds, bands 95 % t-intervals."
        f"{said}{also}"
    )


def quantities_of(result: xr.Dataset) -> list[Quantity]:
    """What a study measured at the end: critical radii, and every number of ``measure``."""
    found = []
    for p, phase in _trained(result):
        for attack in result.get("critical_attack", xr.DataArray([])).values.tolist():
            at = (("phase", str(phase)), ("critical_attack", str(attack)))
            if np.isfinite(result.critical_radius.isel(phase=p)).any():
                found.append(Quantity("critical_radius", at))
    own = [
        str(name)
        for name, of in result.data_vars.items()
        if set(of.dims) == {"point", "seed"} and of.dtype.kind == "f"
    ]
    return found + [Quantity(name) for name in own]


def _trained(result: xr.Dataset) -> list[tuple[int, str]]:
    """Places and names of the phases after which there is something to see."""
    return [(p, str(name)) for p, name in enumerate(result.phase.values) if name != "init"]


def _colour(phase: str, place: int) -> str:
    """Phases of the theorem's names have the colours of every other figure."""
    return PHASES[phase][1] if phase in PHASES else _COLOURS[place % len(_COLOURS)]


def _joined(result: xr.Dataset, name: str, point: int, kept: np.ndarray) -> tuple[Any, Any]:
    """Steps [n] counted through all phases, and values [S, n]."""
    steps, values, before = [], [], 0.0
    for p, _ in _trained(result):
        step = result.along_step.values[point, kept][0, p]
        there = np.isfinite(step)
        if not there.any():  # a phase of other points
            continue
        steps.append(before + step[there])
        values.append(result[name].values[point, kept][:, p, there])
        before += np.nanmax(step)
    return np.concatenate(steps), np.concatenate(values, axis=1)


def _panels(count: int, **settings: Any) -> tuple[Figure, list[Axes]]:
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    width = PAGE if columns > 2 else PAGE * max(columns, 1) / 2
    figure = Figure(figsize=(width, 2.2 * rows + 0.4), layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False, **settings)))
    for empty in panels[count:]:
        empty.set_axis_off()
    return figure, panels


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))


def _some(count: int, what: str) -> tuple[list[int], str]:
    """At most `MOST` places, spread over all of them, and a sentence where some are left out."""
    if count <= MOST:
        return list(range(count)), ""
    places = np.unique(np.linspace(0, count - 1, MOST).round().astype(int)).tolist()
    return places, f" {MOST} of {count} {what}."


def _some_of(things: list[Any], what: str) -> tuple[list[Any], str]:
    places, said = _some(len(things), what)
    return [things[i] for i in places], said


def _longest(result: xr.Dataset) -> str | None:
    """The numeric axis with the most values, at least two."""
    sizes = {
        name: len(np.unique(result[name].values))
        for name in swept_coordinates(result)
        if result[name].dtype.kind in "if"
    }
    best = max(sizes, key=lambda name: sizes[name], default=None)
    return best if best is not None and sizes[best] > 1 else None


def _groups(result: xr.Dataset, x: str) -> dict[str, list[int]]:
    """Points that agree in every axis but x, in rising order of x: label → points."""
    others = [name for name in _varying(result) if name != x]
    groups: dict[str, list[int]] = {}
    for point in np.argsort(result[x].values, kind="stable").tolist():
        label = ", ".join(_value(result, name, point) for name in others)
        groups.setdefault(label, []).append(point)
    return groups


def _varying(result: xr.Dataset) -> list[str]:
    along = swept_coordinates(result)
    return [name for name in along if len(np.unique(result[name].values)) > 1]


def _place(result: xr.Dataset, point: int) -> str:
    return ", ".join(_value(result, name, point) for name in _varying(result))


def _value(result: xr.Dataset, name: str, point: int) -> str:
    value = result[name].values[point]
    return f"{name} = {value:g}" if result[name].dtype.kind in "if" else str(value)


def _said(quantity: Quantity) -> str:
    name = quantity.name.replace("_", " ")
    return f"{name} ({', '.join(label for _, label in quantity.at)})" if quantity.at else name
