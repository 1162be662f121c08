"""The runs of a sweep that are one run for a quantity, once each (docs/how-to/fit.md).

A sweep over 4 k and 3 τ trains every clean network three times: clean training never sees τ. For
what is measured on these networks it has 4 points, and says nothing about τ.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim.runs.diagnosis import finished
from featpur_sim.sweeps.dependence import depends, free_variables


class Distinct(NamedTuple):
    """A quantity of a sweep, with every run once.

    Attributes:
        result: the quantity and ``status``; of points with the same runs, the first one's place.
        points: of each of these points, the positions in the whole sweep of all that hold its runs.
        disagreement: largest relative difference between two values of the same run.
    """

    result: xr.Dataset
    points: list[list[int]]
    disagreement: float

    @property
    def first(self) -> NDArray[np.int64]:
        """Position of each of these points in the whole sweep."""
        return np.array([points[0] for points in self.points], dtype=np.int64)


def swept_coordinates(result: xr.Dataset) -> list[str]:
    """The coordinates along ``point``, but for its number."""
    return [str(c) for c, of in result.coords.items() if of.dims == ("point",) and c != "point"]


def each_run_once(
    result: xr.Dataset, name: str, values: NDArray[np.floating], read: tuple[str, ...] | None
) -> Distinct:
    """Put the points together that hold the same runs.

    A run that counts at one of them and failed at another, in a phase that comes later, is taken
    from where it counts.

    Args:
        result: of a sweep.
        name: of the quantity's variable.
        values: of the quantity [point, seed].
        read: what it depends on, from `featpur_sim.sweeps.dependence.settings_read`.
    """
    measured = finished(result) & np.isfinite(values)
    # The first that has a value, else the first that finished.
    worth = measured + 0.5 * finished(result)
    same = _same(result, read)
    sources, worst = [], 0.0
    for points in same:
        sources.append(np.asarray(points)[np.argmax(worth[points], axis=0)])
        worst = max(worst, _disagreement(values[points], measured[points]))
    if len(same) == len(values):
        return Distinct(result[[name, "status"]], same, 0.0)
    lanes = {
        "point": xr.DataArray(np.array(sources), dims=("point", "seed")),
        "seed": xr.DataArray(np.arange(result.sizes["seed"]), dims="seed"),
    }
    along = [str(c) for c, of in result.coords.items() if "point" in of.dims or "seed" in of.dims]
    once = result[[name, "status"]].load().drop_vars(along).isel(lanes)
    first = [points[0] for points in same]
    once = once.assign_coords(result[along].isel(point=first).coords)
    return Distinct(once, same, worst)


def _same(result: xr.Dataset, read: tuple[str, ...] | None) -> list[list[int]]:
    """Positions of the points that agree in everything that matters, group by group.

    A free variable matters through the settings that it enters, which are coordinates too.
    """
    free = free_variables(result)
    settings = [name for name in swept_coordinates(result) if name not in free]
    matter = [result[name].values.tolist() for name in settings if depends(read, name)]
    groups: dict[tuple, list[int]] = {}
    for point in range(result.sizes["point"]):
        groups.setdefault(tuple(column[point] for column in matter), []).append(point)
    return list(groups.values())


def _disagreement(values: NDArray[np.floating], known: NDArray[np.bool_]) -> float:
    """The largest relative difference within a column [point, seed]."""
    worst = 0.0
    for column, there in zip(values.T, known.T, strict=True):
        kept = column[there]
        if len(kept) > 1 and np.ptp(kept) > 0:
            worst = max(worst, float(np.ptp(kept) / np.max(np.abs(kept))))
    return worst
