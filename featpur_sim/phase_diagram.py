"""A measured quantity over the plane of d and k, with the theory's lines (docs/theory.md §5.1).

Between k = d^{1/3} and k = d^{1/2} clean training should give networks that are accurate and yet
defeated below 1/√k; constants are not known, so a measured boundary is compared by its slope.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim import theory
from featpur_sim.diagnosis import finished
from featpur_sim.exponents import Quantity
from featpur_sim.result import ResultError
from featpur_sim.statistics import fraction_interval, mean_interval


def per_point(result: xr.Dataset, quantity: Quantity, *, logarithmic: bool = False) -> xr.Dataset:
    """A quantity's mean over the runs of each point that finished, with its 95 % t-interval.

    Args:
        result: of a sweep.
        quantity: what to average.
        logarithmic: average ln y and take the exponential, as `fit_power_law` does; a point with a
            value that is not positive is NaN then.

    Returns:
        ``value``, ``low``, ``high`` (NaN where no run finished; no interval for a single run) and
        the counts ``finished`` and ``failed``, all [point], with the sweep's coordinates.

    Raises:
        ResultError: the quantity is unknown.
    """
    values = quantity.read(result).values
    ok = finished(result)
    rows = np.full((3, len(values)), np.nan)
    counted = quantity.name.endswith("accuracy") and not logarithmic
    points = result.attrs.get("test_samples") if counted else None
    for point, (row, used) in enumerate(zip(values, ok, strict=True)):
        kept = row[used]
        if logarithmic:
            kept = np.log(kept, where=kept > 0, out=np.full(len(kept), np.nan))
        if len(kept) and np.isfinite(kept).all():
            rows[:, point] = _interval(kept, points) if len(kept) > 1 else (kept[0], *[np.nan] * 2)
    rows = np.exp(rows) if logarithmic else rows
    along = [name for name, of in result.coords.items() if of.dims == ("point",)]
    variables = dict(zip(("value", "low", "high"), rows, strict=True))
    variables |= {"finished": ok.sum(axis=1), "failed": (~ok).sum(axis=1)}
    return xr.Dataset(
        {name: ("point", column) for name, column in variables.items()},
        {name: result[name] for name in along},
        {"quantity": str(quantity), "long_name": result[quantity.name].attrs["long_name"]},
    )


def _interval(values: NDArray, points: float | None) -> tuple[float, float, float]:
    return mean_interval(values) if points is None else fraction_interval(values, points)


def select(result: xr.Dataset, at: Mapping[str, float]) -> xr.Dataset:
    """The points of a sweep with the given coordinates, to the six digits of a settings file.

    Raises:
        ResultError: no such coordinate, or no such point.
    """
    for name, value in at.items():
        if name not in result.coords or result[name].dims != ("point",):
            raise ResultError(f"the sweep has no coordinate '{name}'.")
        kept = np.flatnonzero(np.isclose(result[name].values.astype(float), value, rtol=1e-5))
        if not len(kept):
            known = ", ".join(f"{v:g}" for v in np.unique(result[name].values))
            raise ResultError(f"no point has {name} = {value:g}: the sweep has {known}.")
        result = result.isel(point=kept)
    return result


def phase_diagram(result: xr.Dataset, quantity: Quantity) -> xr.Dataset:
    """`per_point` of a sweep in which every point has its own place (d, k), on a grid or not.

    Raises:
        ResultError: the quantity is unknown, or two points share one place.
    """
    places = np.column_stack([result.d.values, result.k.values])
    _, first, counts = np.unique(places, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        d, k = places[first[np.argmax(counts > 1)]]
        same = (places == (d, k)).all(axis=1)
        others = [
            str(name)
            for name, of in result.coords.items()
            if of.dims == ("point",) and name != "point" and len(np.unique(of.values[same])) > 1
        ]
        raise ResultError(
            f"{int(counts.max())} points of the sweep share d = {d:g}, k = {k:g}: choose one value "
            f"of {', '.join(others)}, such as --at {others[0]}={result[others[0]].values[0]:g}."
        )
    return per_point(result, quantity)


def window_lines(d: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """The ends of the window at each d: label → k. [P?], re-derived in §5.1 [D]."""
    low, high = np.array([theory.window(int(one)) for one in d]).T
    return {"k = d^{1/3}": low, "k = d^{1/2}": high}
