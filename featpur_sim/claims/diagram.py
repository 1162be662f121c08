"""A measured quantity over the plane of d and k, or of other coordinates (docs/theory.md §5.1).

Between k = d^{1/3} and k = d^{1/2} clean training should give networks that are accurate and yet
defeated below 1/√k; constants are not known, so a measured boundary is compared by its slope.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featpur_sim.claims.quantity import Quantity
from featpur_sim.runs.diagnosis import finished
from featpur_sim.runs.folder import ResultError
from featpur_sim.statistics import fraction_interval, mean_interval
from featpur_sim.sweeps.dependence import axes_of
from featpur_sim.theory import predictions as theory

PLANE = ("d", "k")
"""The coordinates of a phase diagram: those of the paper's window."""


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
    if logarithmic:
        values = np.log(values, where=values > 0, out=np.full(values.shape, np.nan))
    counted = quantity.name.endswith("accuracy") and not logarithmic
    samples = result.attrs.get("test_samples") if counted else None
    rows = point_intervals(values, ok, None if samples is None else float(samples))
    rows = np.exp(rows) if logarithmic else rows
    variables = dict(zip(("value", "low", "high"), rows, strict=True))
    variables |= {"finished": ok.sum(axis=1), "failed": (~ok).sum(axis=1)}
    return xr.Dataset(
        {name: ("point", column) for name, column in variables.items()},
        {name: result[name] for name in _along(result)},
        {"quantity": str(quantity), "long_name": result[quantity.name].attrs["long_name"]},
    )


def point_intervals(
    values: NDArray[np.floating],
    ok: NDArray[np.bool_],
    points: float | None = None,
    least: float = 0.0,
) -> NDArray[np.floating]:
    """Means over the runs of each point that finished, with their 95 % t-intervals.

    Args:
        values: [point, seed].
        ok: which runs finished, [point, seed].
        points: test points of one seed, for values that are fractions of them.
        least: of such values: 0, or −1 for differences of fractions.

    Returns:
        Mean, low and high [3, point]: NaN where no run finished or one that did has no value; no
        interval for a single run.
    """
    rows = np.full((3, len(values)), np.nan)
    for point, (row, used) in enumerate(zip(values, ok, strict=True)):
        kept = row[used]
        if not len(kept) or not np.isfinite(kept).all():
            continue
        if len(kept) == 1:
            rows[0, point] = kept[0]
        elif points is None:
            rows[:, point] = mean_interval(kept)
        else:
            rows[:, point] = fraction_interval(kept, points, least=least)
    return rows


def select(result: xr.Dataset, at: Mapping[str, str | float]) -> xr.Dataset:
    """The points of a sweep with the given coordinates.

    Args:
        result: of a sweep.
        at: coordinate → value. Numbers agree to the six digits of a settings file, text in full;
            text that reads as a number is one.

    Raises:
        ResultError: no such coordinate, no number where there are numbers, or no such point.
    """
    for name, value in at.items():
        require_coordinate(result, name)
        values = result[name].values
        if values.dtype.kind in "if":
            same = np.isclose(values.astype(float), _number(name, value), rtol=1e-5, atol=0)
        else:
            same = values.astype(str) == str(value)
        if not same.any():
            known = ", ".join(map(_text, np.unique(values)))
            raise ResultError(f"no point has {name} = {_text(value)}: the sweep has {known}.")
        result = result.isel(point=np.flatnonzero(same))
    return result


def require_coordinate(result: xr.Dataset, name: str) -> None:
    """Refuse a name that is no coordinate of a sweep's points.

    Raises:
        ResultError: it is none; the message names those that are.
    """
    along = _along(result)
    if name not in along:
        raise ResultError(f"the sweep has no coordinate '{name}': it has {', '.join(along)}.")


def _along(result: xr.Dataset) -> list[str]:
    return [str(name) for name, of in result.coords.items() if of.dims == ("point",)]


def _number(name: str, value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise ResultError(
            f"{name} = {value!r}: {name} is a number in this sweep, so give one."
        ) from None


def _text(value: Any) -> str:
    """A coordinate as ``--at`` takes it."""
    return str(value) if isinstance(value, str) else f"{value:.6g}"


def phase_diagram(
    result: xr.Dataset, quantity: Quantity, plane: tuple[str, str] = PLANE
) -> xr.Dataset:
    """`per_point` of a sweep in which every point has its own place in a plane, on a grid or not.

    Args:
        result: of a sweep.
        quantity: what to average.
        plane: two coordinates; both axes of a diagram are logarithmic.

    Raises:
        ResultError: the quantity or a coordinate is unknown, a coordinate has values that are not
            positive numbers, or two points share one place.
    """
    places = np.column_stack([_positive(result, name) for name in plane])
    _, first, counts = np.unique(places, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        worst = int(np.argmax(counts))
        place = places[first[worst]]
        same = result.isel(point=np.flatnonzero((places == place).all(axis=1)))
        at = ", ".join(f"{name} = {value:g}" for name, value in zip(plane, place, strict=True))
        shared = f"{counts[worst]} points of the sweep share {at}"
        # What an axis sets is easier to choose than what follows from it.
        along = sorted(_along(same), key=lambda name: name not in axes_of(result))
        others = [name for name in along if name != "point" and len(np.unique(same[name])) > 1]
        if not others:
            extra = ", ".join(map(str, same.point.values[1:]))
            raise ResultError(
                f"{shared} and every other coordinate, and one place shows one of them: leave out "
                f"the others, result.drop_sel(point=[{extra}])."
            )
        name = others[0]
        raise ResultError(
            f"{shared}: choose one value of {', '.join(others)}, such as --at "
            f"{name}={_text(same[name].values[0])}."
        )
    return per_point(result, quantity)


def _positive(result: xr.Dataset, name: str) -> NDArray[np.floating]:
    require_coordinate(result, name)
    values = result[name].values
    if values.dtype.kind not in "if" or not (values > 0).all():
        raise ResultError(f"{name} has values that are not positive numbers: no diagram over it.")
    return values.astype(float)


def window_lines(d: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """The ends of the window at each d: label → k. [P?], re-derived in §5.1 [D]."""
    low, high = np.array([theory.window(int(one)) for one in d]).T
    return {"k = d^{1/3}": low, "k = d^{1/2}": high}
