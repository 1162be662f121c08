"""The figures of a run: accuracy, overlap, rank, filters, neurons, density (docs/cifar10.md)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cifar10.maximise import maximising
from experiments.cifar10.run import Networks
from experiments.cifar10.settings import CLEAN, CONTINUED, HEADLINE, INIT, Settings, low_rank_name
from experiments.cifar10.tables import NORM_NAMES, shown
from featpur_sim._ground.disk import atomic_path
from featpur_sim.report._style import (
    BLUE,
    COLUMN,
    GREY,
    ORANGE,
    PAGE,
    VERMILLION,
    house_style,
    legend_above,
    render,
    seed_interval,
)

SHOWN_FILTERS, SHOWN_NEURONS = 24, 8
COMPARED = (INIT, CLEAN, CONTINUED, HEADLINE)


@contextlib.contextmanager
def _page(width: float, height: float) -> Iterator[Figure]:
    with house_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.draw_without_rendering()


def _points(axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, label: str, marker="o"):
    """Means over seeds of values [S, n] at x, with intervals as bars."""
    mean, low, high = seed_interval(values)
    bars = np.stack([mean - low, high - mean])
    axes.errorbar(x, mean, bars, color=colour, fmt=marker, label=label, linewidth=1)


def accuracy(result: xr.Dataset, settings: Settings) -> Figure:
    """Accuracy of every network without attack and under both norms."""
    names = [str(name) for name in result.network.values if name != INIT]
    at = np.arange(len(names))
    styles = ((-0.12, 0.5, ORANGE, "s"), (0.12, 1.0, BLUE, "o"))
    with _page(PAGE, 2.9) as figure:
        panels = figure.subplots(1, 3, sharey=True)
        _points(panels[0], at, result.accuracy.sel(network=names).values, GREY, "")
        panels[0].set_title("no attack", loc="left")
        for axes, norm in zip(panels[1:], result.norm.values, strict=True):
            for shift, relative, colour, marker in styles:
                label = f"{relative:g} τ"
                values = result.robust_accuracy.sel(
                    network=names, norm=norm, relative_radius=relative
                )
                _points(axes, at + shift, values.values, colour, label, marker)
            axes.set_title(f"{NORM_NAMES[norm]}, τ = {settings.radius(norm):.3g}", loc="left")
        for axes in panels:
            axes.set_xticks(at, [*map(shown, names)], rotation=60, ha="right")
            axes.set_ylim(0, 1)
        panels[0].set_ylabel("test accuracy")
        panels[1].legend(loc="upper left")
    return figure


def overlap(result: xr.Dataset) -> Figure:
    """The three overlaps by layer, after the headline attack and after the control."""
    layers = list(dict.fromkeys(result.layer.values))
    at = np.arange(len(layers))

    def medians(values):
        groups = [values.isel(filter=np.flatnonzero(result.layer == layer)) for layer in layers]
        return np.stack([group.median("filter").values for group in groups], axis=1)

    with _page(PAGE, 2.9) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, (HEADLINE, CONTINUED), strict=True):
            clean, other = result.sel(network=CLEAN), result.sel(network=name)
            _points(axes, at - 0.15, medians(clean.theta_init), GREY, "θ(init, clean)", "s")
            _points(axes, at, medians(other.theta_init), VERMILLION, "θ(init, w′)")
            _points(axes, at + 0.15, medians(other.theta_clean), BLUE, "θ(clean, w′)", "^")
            axes.set_title(f"w′: {shown(name)}", loc="left")
            axes.set_xticks(at, layers, rotation=45, ha="right")
            axes.set_ylim(0, 1.02)
        panels[0].set_ylabel("overlap, median over filters")
        legend_above(figure, panels[0], 3)
    return figure


def rank(result: xr.Dataset, settings: Settings) -> Figure:
    """Robust accuracy at τ against the rank of the updates."""
    names = [CLEAN, *map(low_rank_name, settings.ranks), HEADLINE]
    at = np.arange(len(names))
    with _page(COLUMN, 2.4) as figure:
        axes = figure.subplots()
        _points(axes, at, result.accuracy.sel(network=names).values, GREY, "no attack", "s")
        for norm, colour, marker in (("l2", BLUE, "o"), ("linf", VERMILLION, "^")):
            values = result.robust_accuracy.sel(network=names, norm=norm, relative_radius=1.0)
            label = f"{NORM_NAMES[norm]}, {settings.radius(norm):.3g}"
            _points(axes, at, values.values, colour, label, marker)
        axes.set_xticks(at, ["clean", *map(str, settings.ranks), "free"])
        axes.set_xlabel(f"rank of the updates in {shown(HEADLINE)} training")
        axes.set_ylabel("test accuracy")
        axes.set_ylim(0, 1)
        legend_above(figure, axes, 3)
    return figure


def density(result: xr.Dataset) -> Figure:
    """Atoms per first-layer filter beside the control of the same spectrum."""
    names = [str(name) for name in result.network.values]
    at = np.arange(len(names))
    with _page(PAGE, 2.9) as figure:
        axes = figure.subplots()
        own = result.atoms.mean("first_filter").values
        control = result.atoms_scrambled.mean("first_filter").values
        _points(axes, at - 0.1, own, BLUE, "filters")
        _points(axes, at + 0.1, control, GREY, "random filters of the same spectrum", "s")
        axes.axhline(float(result.patch_atoms.mean()), color=ORANGE, label="test patches")
        axes.set_xticks(at, [*map(shown, names)], rotation=45, ha="right")
        axes.set_ylabel("atoms for 90 % of a filter")
        axes.set_ylim(bottom=0)
        legend_above(figure, axes, 3)
    return figure


def filters(networks: Networks) -> Figure:
    """First-layer filters: columns are neurons, the largest clean ones first; rows are networks."""
    rows = [np.asarray(next(iter(networks[n].convolutions().values())).weight) for n in COMPARED]
    order = np.argsort(-np.linalg.norm(rows[1].reshape(-1, rows[1].shape[-1]), axis=0))
    grid = np.stack([np.moveaxis(row, -1, 0)[order[:SHOWN_FILTERS]] for row in rows])
    scale = np.abs(grid).max((2, 3, 4), keepdims=True)
    return _mosaic(0.5 + 0.5 * grid / np.maximum(scale, 1e-30), COMPARED)


def neurons(networks: Networks, layer: str) -> Figure:
    """Inputs that maximise the neurons of a layer: columns are neurons, rows networks."""
    layers = networks[CLEAN].convolutions()
    length = np.linalg.norm(np.asarray(layers[layer].filters()), axis=1)
    channels = jnp.asarray(np.argsort(-length)[:SHOWN_NEURONS])
    key = jax.random.key(0)
    grid = [maximising(networks[name], layer, channels, key=key) for name in COMPARED]
    return _mosaic(np.stack([np.asarray(row) for row in grid]), COMPARED)


def _mosaic(grid: np.ndarray, labels: tuple[str, ...]) -> Figure:
    """Images grid [rows, columns, height, width, 3] with values in [0, 1]; rows are labelled."""
    rows, columns, height, width, _ = grid.shape
    gap = max(1, height // 10)
    framed = np.pad(grid, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1)
    sheet = framed.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), columns * (width + gap), 3
    )
    with _page(PAGE, (PAGE - 0.7) * len(sheet) / sheet.shape[1] + 0.1) as figure:
        axes = figure.subplots()
        axes.imshow(sheet, interpolation="nearest")
        axes.set_yticks((height + gap) * np.arange(rows) + height / 2 - 0.5, [*map(shown, labels)])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def draw(result: xr.Dataset, networks: Networks, settings: Settings, folder: Path) -> list[Path]:
    """Write every figure of a run as PNG; pictures of filters and neurons are of one seed."""
    figures = {
        "accuracy": accuracy(result, settings),
        "overlap": overlap(result),
        "filters": filters(networks),
    }
    if "atoms" in result:
        figures["density"] = density(result)
    if settings.ranks:
        figures["rank"] = rank(result, settings)
    # What maximises a neuron of the first layer is its filter.
    for i, layer in list(enumerate(networks[CLEAN].convolutions()))[1:]:
        figures[f"neurons-{i}"] = neurons(networks, layer)
    paths = []
    for name, figure in figures.items():
        path = folder / "figures" / f"{name}.png"
        with atomic_path(path) as temporary:
            temporary.write_bytes(render(figure, "png"))
        paths.append(path)
    return paths
