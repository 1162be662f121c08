"""Scaling exponents of a sweep: power laws by least squares in logarithms (docs/theory.md §5.1).

Fits ln y = ln A + Σ_c γ_c ln c over the points of a sweep, y being any measured quantity and c any
coordinates (d, k, τ, …). A point's ln y is the mean over its seeds, and all points weigh the same.
The interval of γ is Student's over the slopes of the seeds, each fitted alone: it holds what seeds
do to the slope, not a bend away from a power law, which R² and the scatter about the fit show.
Points with the same runs are one point (`featpur_sim.claims.same_runs`). The predicted exponent is
the same least squares through the theory's own values at the same points, so it is comparable
whatever path the sweep takes through (d, k, τ).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from featpur_sim._ground.rows import Row
from featpur_sim.claims.quantity import Quantity
from featpur_sim.claims.same_runs import Distinct, each_run_once, swept_coordinates
from featpur_sim.runs.diagnosis import finished
from featpur_sim.runs.folder import ResultError
from featpur_sim.sweeps.dependence import axes_of, free_variables
from featpur_sim.theory import linf
from featpur_sim.theory import predictions as theory
from featpur_sim.theory.predictions import Prediction

# Relative difference between two computations of one run that float32 explains.
_ROUNDING = 1e-5


def _of(name: str, **at: str) -> Quantity:
    return Quantity(name, tuple(at.items()))


# What the theory predicts for a quantity in ℓ2, as a function of (d, k, τ).
PREDICTED: Mapping[Quantity, Callable[[int, float, float], Prediction]] = {
    _of("kappa_over_alpha", phase="clean"): lambda d, k, tau: theory.clean_dense_ratio(d, k),
    _of("kappa_over_alpha", phase="adversarial"): theory.adversarial_dense_ratio,
    _of("dense_norm_over_alpha", phase="clean"): (
        lambda d, k, tau: theory.clean_dense_norm_ratio(d, k)
    ),
    _of("purification_factor"): lambda d, k, tau: theory.purification_factor(k, tau),
    _of("critical_radius", phase="clean", critical_attack="dense mixture"): (
        lambda d, k, tau: theory.dense_radius(d, k)
    ),
    _of("critical_radius", phase="adversarial", critical_attack="PGD"): (
        lambda d, k, tau: theory.critical_radius(k)
    ),
}

# And in ℓ∞, as a function of (d, k, ε) and of what the dictionary is to a box.
PREDICTED_IN_BOX: Mapping[Quantity, Callable[[int, float, float, linf.Dictionary], Prediction]] = {
    _of("kappa_over_alpha", phase="clean"): lambda d, k, _, box: theory.clean_dense_ratio(d, k),
    _of("kappa_over_alpha", phase="adversarial"): linf.adversarial_dense_ratio,
    _of("dense_norm_over_alpha", phase="clean"): (
        lambda d, k, _, box: theory.clean_dense_norm_ratio(d, k)
    ),
    _of("critical_radius", phase="clean", critical_attack="dense mixture"): (
        lambda d, k, _, box: linf.dense_radius(d, k, box)
    ),
    _of("critical_radius", phase="adversarial", critical_attack="PGD"): (
        lambda d, k, _, box: linf.critical_radius(d, k, box)
    ),
}


class Exponent(NamedTuple):
    """γ of one coordinate, with its 95 % interval over seeds (NaN if a point has one seed)."""

    coordinate: str
    value: float
    low: float
    high: float
    predicted: float | None
    """The same fit through the theory's values; None if the theory says nothing."""


class PowerLaw(NamedTuple):
    """A fitted power law y = A Π_c c^γ_c.

    Attributes:
        quantity: what was fitted.
        exponents: one per coordinate.
        log_prefactor: ln A.
        r_squared: share of the points' variance of ln y that the fit explains.
        scatter: root mean square of the residuals in ln y: 0.1 is about 10 % in y.
        points: index of each point that was used; of points with the same runs, the first.
        excluded: index of each point that was not → why.
        repeats: points with the same runs as an earlier one, for this quantity.
        disagreement: largest relative difference between two values of the same run.
        no_exponent: coordinate that varies, but cannot change the quantity → why.
        lanes_left_out: runs among the used points that failed.
        prediction: formula, source and range of the prediction, without its value, or None.
    """

    quantity: Quantity
    exponents: tuple[Exponent, ...]
    log_prefactor: float
    r_squared: float
    scatter: float
    points: NDArray[np.int64]
    excluded: dict[int, str]
    repeats: int
    disagreement: float
    no_exponent: dict[str, str]
    lanes_left_out: int
    prediction: Prediction | None

    def __call__(self, coordinates: Mapping[str, Any]) -> Any:
        """y at the given coordinates."""
        terms = [e.value * np.log(coordinates[e.coordinate]) for e in self.exponents]
        return np.exp(self.log_prefactor + sum(terms))


def fit_power_law(
    result: xr.Dataset,
    quantity: Quantity,
    against: Sequence[str] | None = None,
) -> PowerLaw:
    """Fit a power law to a sweep.

    A run that did not finish is left out. A point is excluded if none of its runs finished, or if
    one of them has a value that is not positive or not finite: dropping such seeds alone would
    bias the point. Points that hold the same runs, as far as the quantity can tell, are one point.

    Args:
        result: of a sweep: dims point and seed, coordinates along point, ``status``.
        quantity: what to fit.
        against: coordinates; `free_coordinates` of the quantity by default.

    Returns:
        A `PowerLaw`.

    Raises:
        ResultError: the quantity or a coordinate is unknown, the quantity cannot depend on a
            coordinate, too few points remain, or the coordinates do not vary independently.
    """
    once = distinct_points(result, quantity)
    chosen = tuple(free_coordinates(result, quantity) if against is None else against)
    logs = [_log_coordinate(result, name)[once.first] for name in chosen]
    for name in chosen:
        why = quantity.cannot_depend_on(name, result)
        if why := why or _ambiguous(result, quantity, once, name):
            raise ResultError(f"{why} Fit it against something else.")
    without = _no_exponent(result, quantity) if against is None else {}
    values, ok = quantity.read(once.result).values, finished(once.result)
    excluded = _excluded(values, ok)
    used = np.array([p for p in range(len(values)) if p not in excluded], dtype=np.int64)
    design = np.column_stack([np.ones(len(used)), *(log[used] for log in logs)])
    _require_determined(design, quantity, chosen, excluded, without)
    samples = np.full(values[used].shape, np.nan)
    np.log(values[used], where=ok[used], out=samples)
    means = np.nanmean(samples, axis=1)
    solve = np.linalg.pinv(design)
    coefficients = solve @ means
    residual = means - design @ coefficients
    spread = np.sum((means - means.mean()) ** 2)
    half = half_widths(samples, solve)
    low, high = (coefficients[1:] - half).tolist(), (coefficients[1:] + half).tolist()
    predicted, prediction = _predict(once.result, quantity, used, solve)
    return PowerLaw(
        quantity,
        tuple(map(Exponent, chosen, coefficients[1:].tolist(), low, high, predicted)),
        float(coefficients[0]),
        float(1 - np.sum(residual**2) / spread) if spread > 0 else float("nan"),
        float(np.sqrt(np.mean(residual**2))),
        once.first[used],
        {int(once.first[p]): why for p, why in excluded.items()},
        result.sizes["point"] - len(once.first),
        once.disagreement,
        without,
        int(np.sum(~ok[used])),
        prediction,
    )


def distinct_points(result: xr.Dataset, quantity: Quantity) -> Distinct:
    """The points of a sweep that are distinct for a quantity."""
    values = quantity.read(result).values
    return each_run_once(result, quantity.name, values, quantity.settings(result))


def free_coordinates(result: xr.Dataset, quantity: Quantity | None = None) -> tuple[str, ...]:
    """The coordinates that the sweep varies independently: d, k, free variables that are axes and
    τ first, then what else it sweeps; one that is a power law of those before it (τ = c/√k,
    m = 4d) is left out, and so is a free variable that follows from others.

    Args:
        result: of a sweep.
        quantity: leave out what it cannot depend on.
    """
    free, axes = free_variables(result), axes_of(result)
    along = [name for name in swept_coordinates(result) if name not in free or name in axes]
    if quantity is not None:
        along = [name for name in along if not quantity.cannot_depend_on(name, result)]
    first = [name for name in ("d", "k", *free, "tau") if name in along]
    rest = [name for name in along if name not in (*first, "m")]
    last = [name for name in ("m",) if name in along]
    columns, chosen = [np.ones(result.sizes["point"])], []
    for name in (*first, *rest, *last):
        values = result[name].values
        if values.dtype.kind not in "if" or not (values > 0).all():
            continue
        column = np.log(values.astype(float))
        base = np.column_stack(columns)
        left = column - base @ np.linalg.lstsq(base, column, rcond=None)[0]
        # Settings are written with six digits: less than that is rounding.
        if np.max(np.abs(left)) > 1e-3:
            columns.append(column)
            chosen.append(name)
    return tuple(chosen)


def _no_exponent(result: xr.Dataset, quantity: Quantity) -> dict[str, str]:
    """The coordinates that would be free if the quantity could depend on them."""
    reasons = {name: quantity.cannot_depend_on(name, result) for name in free_coordinates(result)}
    return {name: why for name, why in reasons.items() if why}


def _ambiguous(result: xr.Dataset, quantity: Quantity, once: Distinct, name: str) -> str:
    """Why a coordinate says nothing about a quantity: it differs where the runs are the same."""
    values = result[name].values
    for points in once.points:
        if np.ptp(values[points]) > 0:
            one, other = points[0], points[int(np.argmax(values[points] != values[points[0]]))]
            return (
                f"no exponent in {name}: points {one} and {other} hold the same runs for "
                f"{quantity}, at {name} = {values[one]:.6g} and {values[other]:.6g}."
            )
    return ""


def _log_coordinate(result: xr.Dataset, name: str) -> NDArray[np.floating]:
    along = swept_coordinates(result)
    if name not in along:
        raise ResultError(f"the sweep has no coordinate '{name}': it has {', '.join(along)}.")
    values = result[name].values
    if values.dtype.kind not in "if" or not (values > 0).all():
        raise ResultError(f"{name} has values that are not positive numbers: no power law in it.")
    return np.log(values.astype(float))


def predictions(result: xr.Dataset, quantity: Quantity) -> list[Prediction] | None:
    """What the theory says of a quantity at every point of a sweep; None where it says nothing.

    Args:
        result: of a sweep, in either norm.
        quantity: at the labels that the theory names.
    """
    # A study is of another theorem.
    if result.attrs.get("own"):
        return None
    places = [_place(result, point) for point in range(result.sizes["point"])]
    if result.attrs.get("norm", "l2") == "l2":
        predict = PREDICTED.get(quantity)
        return predict and [predict(*place) for place in places]
    in_box, boxes = PREDICTED_IN_BOX.get(quantity), _boxes(result)
    if in_box is None or boxes is None:
        return None
    return [in_box(*place, box) for place, box in zip(places, boxes, strict=True)]


def _boxes(result: xr.Dataset) -> list[linf.Dictionary] | None:
    """What each point's dictionary is to a box; None for sweeps of versions that did not say."""
    points = result.sizes["point"]
    names = [result.attrs.get("dictionary", "")] * points
    if "problem.dictionary" in result.coords:
        names = result["problem.dictionary"].values.tolist()
    if not set(names) <= {"identity", "haar", "hadamard", "dct"}:
        return None
    return ["identity" if name == "identity" else "flat" for name in names]


def _predict(result, quantity, used, solve):
    """The exponents through the theory's values at the same points, and the theory's statement."""
    told = predictions(result, quantity)
    # What is predicted to vanish has no exponent.
    if told is None or any(told[point].value <= 0 for point in used):
        return [None] * (len(solve) - 1), None
    table = [told[point] for point in used]
    exact = (solve @ np.log([entry.value for entry in table]))[1:]
    # Settings have six digits, so τ = 0.3/√k is one up to 1e-6; adding 0 turns −0 into 0.
    return (np.round(exact, 5) + 0.0).tolist(), table[0]


def _place(result: xr.Dataset, point: int) -> tuple[int, float, float]:
    d, k, tau = (result[name].values[point] for name in ("d", "k", "tau"))
    return int(d), float(k), float(tau)


def _excluded(values: NDArray[np.floating], ok: NDArray[np.bool_]) -> dict[int, str]:
    reasons = {}
    for point, (row, kept) in enumerate(zip(values, ok, strict=True)):
        usable = row[kept]
        if not len(usable):
            reasons[point] = "no run finished"
        elif not np.isfinite(usable).all():
            reasons[point] = "not measured"
        elif not (usable > 0).all():
            reasons[point] = "not positive"
    return reasons


def _require_determined(design, quantity, against, excluded, without) -> None:
    points, unknowns = design.shape
    if not against:
        reasons = " ".join(without.values()) or "no coordinate of the sweep varies."
        raise ResultError(f"there is nothing to fit against: {reasons}")
    why = sorted(set(excluded.values()))
    left_out = f" ({len(excluded)} points excluded: {', '.join(why)})" if excluded else ""
    if points < unknowns + 1:
        raise ResultError(
            f"{quantity}: {points} usable points{left_out} are too few to fit {unknowns} numbers "
            "with an error. Sweep more points."
        )
    centred = design[:, 1:] - design[:, 1:].mean(axis=0)
    if np.linalg.matrix_rank(centred, tol=1e-3) < len(against):
        raise ResultError(
            f"{', '.join(against)} do not vary independently over the {points} usable points of "
            f"{quantity}{left_out}: fit against fewer of them."
        )


def half_widths(samples: NDArray[np.floating], solve: NDArray[np.floating]) -> NDArray[np.floating]:
    """Half the 95 % intervals of the exponents: Student's, over the seeds' own slopes. [D]

    Seed s starts from the same keys at every point, so its values are not independent, and neither
    the scatter within points nor a resampling of each point's seeds says how well the slope is
    known: what a seed adds to all points alike moves no slope, what grows along the sweep moves it
    by more than independent scatter would. Seeds are independent of each other. An exponent is a
    fixed combination, ``solve``, of the points' means, that is the mean over S seeds of the same
    combination of each seed's values: S independent slopes, hence t_{S−1}·s/√S. Resampling
    the seeds jointly has the same variance, but its percentiles are too narrow with 3 to 5 seeds.

    Where a run is missing, a seed's part is Σ solve·(ln y − mean)/√(n(n − 1)) over the points
    where it is, n being the point's seeds: the sum of their squares over seeds is s²/S if none is
    missing, and has the right mean if runs fail at random. Measured coverage with S = 3, 5 and 10
    is 95 %; with up to 15 % of the runs missing 95 to 97 %, or up to 99 % if seeds differ by ten
    times the noise of a run (``experiments/fit_coverage.py``). [M]

    Args:
        samples: ln y [point, seed]; NaN where a run is missing.
        solve: the pseudoinverse of the design [1 + coordinates, point].

    Returns:
        One per coordinate; NaN if a point has one run.
    """
    there = np.isfinite(samples)
    counts = there.sum(axis=1, keepdims=True)
    if counts.min() < 2:
        return np.full(len(solve) - 1, np.nan)
    away = np.where(there, samples - np.nanmean(samples, axis=1, keepdims=True), 0.0)
    parts = solve @ (away / np.sqrt(counts * (counts - 1)))
    quantile = special.stdtrit(np.sum(there.any(axis=0)) - 1, 0.975)
    return quantile * np.sqrt(np.sum(parts[1:] ** 2, axis=1))


def remarks(fit: PowerLaw) -> list[str]:
    """What to keep in mind about a fit, in sentences."""
    said = list(fit.no_exponent.values())
    if fit.disagreement > _ROUNDING:
        said.append(
            f"{fit.quantity}: points with the same runs differ by up to "
            f"{100 * fit.disagreement:.2g} %; the first one's values are fitted."
        )
    if any(np.isnan(exponent.low) for exponent in fit.exponents):
        said.append(f"{fit.quantity}: no interval, since a point has one run that finished.")
    return said


def as_row(fit: PowerLaw) -> Row:
    """A fit as plain values, for ``fit.json``."""
    prediction = fit.prediction
    return {
        "quantity": str(fit.quantity),
        "label": fit.quantity.label,
        "variable": fit.quantity.name,
        "at": dict(fit.quantity.at),
        "exponents": [exponent._asdict() for exponent in fit.exponents],
        "log_prefactor": fit.log_prefactor,
        "r_squared": fit.r_squared,
        "scatter": fit.scatter,
        "points": len(fit.points),
        "excluded": {str(point): reason for point, reason in fit.excluded.items()},
        "repeats": fit.repeats,
        "disagreement": fit.disagreement,
        "no_exponent": fit.no_exponent,
        "remarks": remarks(fit),
        "lanes_left_out": fit.lanes_left_out,
        "prediction": None
        if prediction is None
        else {
            "formula": prediction.formula,
            "source": prediction.source,
            "holds": prediction.holds,
        },
    }
