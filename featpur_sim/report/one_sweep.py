"""A sweep or a study as an object: its results, as a grid, as a table, as a picture, judged."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from featpur_sim._ground.rows import Row
from featpur_sim.claims.claim import summary
from featpur_sim.claims.diagram import PLANE, per_point, phase_diagram, require_coordinate, select
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report._style import BLUE
from featpur_sim.report._ticks import label_values
from featpur_sim.report.run_plots import axes_or_new
from featpur_sim.report.sweep_figures import draw_measured, draw_plane
from featpur_sim.sweeps.assemble import as_grid
from featpur_sim.sweeps.dependence import axes_of


class SweepPlots:
    """What can be drawn of a sweep; every method returns the Axes.

    A quantity is a variable at chosen labels, ``"kappa_over_alpha[phase=clean]"``. ``at`` chooses
    the points: ``at={"sigma_x": 0.3}``. ``ax=None`` makes a new figure, which a notebook shows.
    """

    def __init__(self, data: xr.Dataset):
        self._data = data

    def __repr__(self) -> str:
        return "plot.phase_diagram(x, y, quantity), .against(x, quantity)"

    def phase_diagram(
        self,
        x: str = PLANE[0],
        y: str = PLANE[1],
        quantity: str = "robust_accuracy[phase=adversarial, attack=PGD, relative_radius=1]",
        *,
        at: dict[str, str | float] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """One colour per point in a plane of two coordinates; over d and k with the window's ends.

        Args:
            x: a coordinate of the points with values > 0; the axis is logarithmic.
            y: likewise.
            quantity: what the colour is.
            at: coordinate → value, where several points share a place.
            ax: where; None makes a new figure.

        Raises:
            ResultError: there is no such quantity or coordinate, or two points share a place.
        """
        found, plane = Quantity.parse(quantity), (x, y)
        diagram = phase_diagram(select(self._data, at or {}), found, plane)
        axes = axes_or_new(ax)
        bar = axes.figure.colorbar(draw_plane(axes, diagram, found, plane), ax=axes)
        bar.set_label(found.label)
        if plane == PLANE:
            axes.legend()
        # The figure of a SubFigure is the whole one, and that of the whole one is itself.
        label_values(
            axes.figure.figure, [axes.xaxis, axes.yaxis], [diagram[name].values for name in plane]
        )
        return axes

    def against(
        self,
        x: str,
        quantity: str,
        *,
        at: dict[str, str | float] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """A quantity against one coordinate: means over seeds with 95 % t-intervals.

        Args:
            x: a coordinate of the points.
            quantity: what is on the other axis.
            at: coordinate → value, to choose the points.
            ax: where; None makes a new figure.

        Raises:
            ResultError: there is no such quantity or coordinate.
        """
        found = Quantity.parse(quantity)
        require_coordinate(self._data, x)
        table = per_point(select(self._data, at or {}), found)
        axes = axes_or_new(ax)
        draw_measured(axes, table, table[x].values, BLUE, "o")
        axes.set_xlabel(table[x].attrs.get("long_name", x))
        axes.set_ylabel(found.label)
        return axes


class Swept:
    """A finished sweep, or a finished study.

    Attributes:
        data: every measurement, an xarray Dataset; dimensions ``point``, ``seed`` and their own.
        folder: where it is stored; None if it is in memory alone.
        plot: draws it: ``swept.plot.phase_diagram("k", "tau", quantity)``.
    """

    def __init__(self, data: xr.Dataset, folder: Path | None, rows: Sequence[Row] = ()):
        self.data, self.folder = data, folder
        self.plot = SweepPlots(data)
        self._rows = list(rows)

    def scorecard(self) -> pd.DataFrame:
        """The claims on a study, as of `featpur_sim.report.one_run.Run.scorecard`; empty without.

        Every entry of `featpur_sim.claims.claim.rows` is a column.
        """
        return pd.DataFrame(self._rows)

    def grid(self) -> xr.Dataset:
        """``data`` with one dimension per axis of the sweep in place of ``point``.

        Raises:
            ResultError: points were left out.
        """
        return as_grid(self.data)

    def table(self, quantity: str) -> pd.DataFrame:
        """A quantity at every point: its mean over the seeds that finished, with a 95 % t-interval.

        Args:
            quantity: a variable at chosen labels, ``"kappa_over_alpha[phase=clean]"``.

        Returns:
            One row per point: its coordinates, ``value, low, high`` and how many seeds ``finished``
            and ``failed``.

        Raises:
            ResultError: there is no such quantity.
        """
        return per_point(self.data, Quantity.parse(quantity)).to_dataframe().reset_index(drop=True)

    def __repr__(self) -> str:
        judged = f"; {summary(self._rows)}" if self._rows else ""
        return f"Swept({self._said()}, {self._where()}{judged})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the axes, what was measured, where it is stored."""
        names = ", ".join(str(name) for name, v in self.data.data_vars.items() if "seed" in v.dims)
        return (
            f"<p><strong>Sweep</strong> {escape(self._said())}; {escape(self._where())}</p>"
            f"{self._claims()}"
            f"<p><small>Quantities: {escape(names)}. <code>.table(quantity)</code>, "
            "<code>.plot.phase_diagram(x, y, quantity)</code></small></p>"
        )

    def _where(self) -> str:
        return "in memory" if self.folder is None else str(self.folder)

    def _claims(self) -> str:
        lines = "".join(
            f"<tr><th>{escape(row['id'])}</th><td>{escape(row['statement'])}</td>"
            f"<td>{row['measured']:.3g}</td><td>{escape(row['verdict'])}</td></tr>"
            for row in self._rows
        )
        return f"<table>{lines}</table>" if lines else ""

    def _said(self) -> str:
        data = self.data
        along = ", ".join(
            f"{name}={_span(data[name].values)}" for name in axes_of(data) if name in data.coords
        )
        ended = pd.Series(data.status.values.ravel()).value_counts()
        runs = ", ".join(f"{count} {status}" for status, count in ended.items())
        sizes = f"{data.sizes['point']} points, {data.sizes['seed']} seeds"
        return ", ".join(filter(None, [str(data.attrs.get("name", "")), along, sizes, runs]))


def _span(values: np.ndarray) -> str:
    known = np.unique(values)
    if known.dtype.kind not in "if":
        return "|".join(map(str, known))
    return f"{known[0]:g}" if len(known) == 1 else f"{known[0]:g}–{known[-1]:g}"
