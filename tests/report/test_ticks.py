"""Ticks at swept values: whole numbers in full, labels that never touch, measured as drawn."""

import itertools

import numpy as np
import pytest
from made_up_sweeps import made_up
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featpur_sim.claims.power_law import fit_power_law
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report import sweep_figures
from featpur_sim.report._style import COLUMN, DPI, house_style
from featpur_sim.report._ticks import label_values, plain_numbers

DIMENSIONS = [64, 96, 128, 192, 256, 384, 512, 1024, 2048]
SPARSITIES = [5, 6, 7, 8, 9, 10, 11, 12]
NEARBY = [round(0.3 / k**0.5, 6) for k in np.linspace(5, 9, 20).tolist()]
CLEAN = Quantity.parse("kappa_over_alpha[phase=clean]")


def shown(figure, axis):
    """Text and box of every label, as the Agg renderer draws them into the file."""
    with house_style():
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        labels = [label for label in axis.get_majorticklabels() if label.get_text()]
        return [(at.get_text(), at.get_window_extent(canvas.get_renderer())) for at in labels]


def require_apart(boxes):
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), (first, second)
    return [text for text, _ in boxes]


@pytest.mark.parametrize("side", ["x", "y"])
@pytest.mark.parametrize(
    "values, least",
    [
        pytest.param(DIMENSIONS, 6, id="dimensions"),
        pytest.param(SPARSITIES, 5, id="sparsities"),
        pytest.param(NEARBY, 4, id="nearby"),
        pytest.param([100, 101], 2, id="one percent"),
        pytest.param([0.134164, 0.1345, 0.1355], 2, id="one percent, six digits"),
        pytest.param([300], 1, id="one value"),
        pytest.param(list(range(2, 60)), 5, id="many"),
        pytest.param([1e-7, 1e-3, 1.0, 10.0, 11.0, 12.0], 4, id="wide"),
    ],
)
def test_labels_never_touch_and_the_ends_have_one(values, least, side):
    with house_style():
        figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log")
        axes.plot(values, values, "o")
        axis = axes.xaxis if side == "x" else axes.yaxis
        label_values(figure, [axis], [values])
    written = [float(text) for text in require_apart(shown(figure, axis))]
    assert len(written) >= least
    ends = [min(values), max(values)]
    np.testing.assert_allclose([written[0], written[-1]], ends, rtol=2e-3)
    assert len(axis.get_majorticklocs()) == len(values)


@pytest.mark.parametrize(
    "values, texts",
    [
        (DIMENSIONS, list(map(str, DIMENSIONS))),
        ([1048576.0, 3.0], ["1048576", "3"]),
        ([0.134164], ["0.134"]),
        ([0.1, 0.1005, 0.101], ["0.1", "0.1005", "0.101"]),
        ([4, 4.5, 4.5], ["4", "4.5", "4.5"]),
    ],
)
def test_numbers_are_told_apart_with_few_digits(values, texts):
    assert plain_numbers(values) == texts


def test_sweep_figures_label_what_was_swept():
    crossed = made_up(ds=DIMENSIONS, ks=SPARSITIES, seeds=2, noise=0.1)
    figure = sweep_figures.draw_phase_diagram(crossed, CLEAN)
    in_d = require_apart(shown(figure, figure.axes[0].xaxis))
    in_k = require_apart(shown(figure, figure.axes[0].yaxis))
    assert {"64", "2048"} <= set(in_d) <= set(map(str, DIMENSIONS))
    assert in_k == list(map(str, SPARSITIES))
    figure = sweep_figures.draw_power_law(crossed, fit_power_law(crossed, CLEAN))
    for axes in figure.axes:
        require_apart(shown(figure, axes.xaxis))
    in_k = figure.axes[1].get_legend_handles_labels()
    assert "d = 1024" in in_k[1]
    # Nine groups, nine looks.
    looks = {(bar[0].get_color(), bar[0].get_marker()) for bar in figure.axes[1].containers}
    assert len(looks) == len(DIMENSIONS)
