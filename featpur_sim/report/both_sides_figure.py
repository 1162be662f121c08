"""Robust accuracy against any perturbation, from both sides (docs/theory.md §8)."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim.report._style import (
    BLACK,
    GREY,
    PAGE,
    PHASES,
    name_training_radius,
    page,
    seed_interval,
)


def both_sides(result: xr.Dataset) -> Figure:
    """Certified and attacked accuracy against radius, and the gap that holds the true one.

    Before training, after each phase, and of the pure network.

    Args:
        result: of a run; without certificates the figure says so.
    """
    with page(result, PAGE * 0.72, 3.1) as (figure, seeds):
        axes = figure.subplots()
        draw(axes, seeds)
        if "certified_accuracy" in seeds:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def draw(axes: Axes, seeds: xr.Dataset) -> None:
    """The same on Axes, without a legend; ``seeds`` are those that finished."""
    if "certified_accuracy" not in seeds:
        axes.text(0.5, 0.5, "this run certified no points", ha="center")
        return
    axes.axvline(float(seeds.attrs["tau"]), color=GREY, linewidth=0.6, linestyle=":")
    for phase, (label, colour, marker) in PHASES.items():
        low, high = (
            seeds[f"{side}_accuracy"].sel(phase=phase) for side in ("certified", "attacked")
        )
        _band(axes, seeds, low, high, colour, label, marker)
    if "reference_certified_accuracy" in seeds:
        low, high = (
            seeds[f"reference_{side}_accuracy"].sel(reference="pure network")
            for side in ("certified", "attacked")
        )
        _band(axes, seeds, low, high, BLACK, "pure network", "")
    axes.plot([], [], color=GREY, label="no attack breaks it")
    axes.plot([], [], color=GREY, linestyle="-.", linewidth=0.8, label="certified")
    name_training_radius(axes, float(seeds.attrs["tau"]))
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("robust accuracy")
    axes.set_xlabel("radius τ (units of x)")


def _band(
    axes: Axes,
    seeds: xr.Dataset,
    low: xr.DataArray,
    high: xr.DataArray,
    colour: str,
    label: str,
    marker: str,
) -> None:
    """The two sides as lines, the gap between their means shaded, intervals over seeds as bars."""
    n = seeds.attrs.get("certify_points", seeds.attrs["test_samples"])
    radius = seeds.radius.values
    lower, start, _ = seed_interval(low.values, n)
    upper, _, end = seed_interval(high.values, n)
    axes.plot(radius, upper, color=colour, marker=marker, label=label)
    axes.plot(radius, lower, color=colour, linestyle="-.", linewidth=0.8)
    axes.fill_between(radius, lower, upper, color=colour, alpha=0.25, linewidth=0)
    axes.vlines(radius, start, end, color=colour, linewidth=0.8)
