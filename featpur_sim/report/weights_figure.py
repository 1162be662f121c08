"""The weights of some neurons, feature by feature, before and after purification (§4)."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from featpur_sim.report._style import PAGE, PHASES, page

COLOURS = "sgn(w*ⱼ) Cᵢⱼ / |αᵢ|"
"""What the colours are of."""


def coordinates(result: xr.Dataset) -> Figure:
    """Coordinates C of some neurons of the first seed, before and after purification (§4)."""
    with page(result, PAGE, 4.6) as (figure, seeds):
        panels = figure.subplots(len(PHASES), 1, sharex=True, sharey=True)
        images = [
            draw(axes, result, seeds, phase) for axes, phase in zip(panels, PHASES, strict=True)
        ]
        panels[-1].set_xlabel("feature j")
        if len(seeds.seed) < len(result.seed):
            shown = f"{result.seed.values[0]} ({result.status.values[0]})"
            figure.supxlabel(f"shown, seed: {shown}", fontsize=7)
        bar = figure.colorbar(images[-1], ax=list(panels), extend="both", aspect=40, pad=0.02)
        bar.set_label(COLOURS)
    return figure


def draw(axes: Axes, result: xr.Dataset, seeds: xr.Dataset, phase: str) -> AxesImage:
    """One phase on Axes, without a colour bar; the scale is the same for all phases.

    Args:
        axes: where.
        result: of all seeds, whose first is shown.
        seeds: those that finished.
        phase: a key of `PHASES`.
    """
    # In the gauge w* > 0 a dense mixture shows as a background of one sign.
    wstar = result.wstar.isel(seed=0, missing_dims="ignore")
    signed = seeds.shown_coordinates * np.sign(wstar)
    relative = signed / np.maximum(np.abs(signed).max("feature"), 1e-30)
    limit = float(np.clip(3 * np.abs(relative.sel(phase="clean")).median(), 0.1, 1))
    image = axes.imshow(
        relative.sel(phase=phase),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_title(PHASES[phase][0], loc="left")
    axes.set_ylabel("neuron")
    axes.set_yticks([])
    return image
