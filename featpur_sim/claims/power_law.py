"""Scaling exponents of a sweep: power laws by least squares in logarithms (docs/theory.md §5.1).

Fits ln y = ln A + Σ_c γ_c ln c over the points of a sweep, y being any measured quantity and c any
coordinates (d, k, τ, …). A point's ln y is the mean over its seeds, and all points weigh the same.
The interval of γ comes from the variances of those means: it holds the scatter between seeds, not
a bend away from a power law, which R² and the scatter about the fit show. The predicted exponent is
the same least squares through the theory's own values at the same points, so it is comparable
whatever path the sweep takes through (d, k, τ).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from featpur_sim._ground.rows import Row
from featpur_sim.runs.diagnosis import finished
from featpur_sim.runs.folder import ResultError
from featpur_sim.theory import predictions as theory
from featpur_sim.theory.predictions import Prediction

_SYMBOLS = {
    "kappa_over_alpha": "κ/α",
    "dense_norm_over_alpha": "‖v‖/|α|",
    "residual_norm_over_alpha": "‖r‖/|α|",
    "theta_init_clean": "θ(init, clean)",
    "theta_init_adversarial": "θ(init, adversarial)",
    "theta_clean_adversarial": "θ(clean, adversarial)",
}
_FORM = re.compile(r"(?P<name>\w+)(\[(?P<at>[^\]]*)\])?")


class Quantity(NamedTuple):
    """A measured variable at chosen labels: one number per point and seed.

    >>> str(Quantity.parse("critical_radius[phase=clean, critical_attack=dense mixture]"))
    'critical_radius[clean, dense mixture]'
    >>> Quantity.parse("robust_accuracy[phase=clean, attack=PGD, relative_radius=1]").label
    'robust accuracy (clean, PGD, 1τ)'
    """

    name: str
    at: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(label for _, label in self.at)}]" if self.at else self.name

    @property
    def label(self) -> str:
        """As an axis names it."""
        name = _SYMBOLS.get(self.name, self.name.replace("_", " "))
        at = [label + "τ" * (dim == "relative_radius") for dim, label in self.at]
        return f"{name} ({', '.join(at)})" if at else name

    @classmethod
    def parse(cls, text: str) -> "Quantity":
        """``name`` or ``name[dim=label, dim=label]``.

        Raises:
            ResultError: the text has another form.
        """
        found = _FORM.fullmatch(text.strip())
        parts = [part.partition("=") for part in (found["at"] or "").split(",")] if found else []
        labels = tuple((dim.strip(), label.strip()) for dim, _, label in parts if dim.strip())
        if found is None or not all(dim and label for dim, label in labels):
            raise ResultError(
                f"quantity {text!r}: must be a name, or name[dim=label, …], such as "
                "'kappa_over_alpha[phase=clean]'."
            )
        return cls(found["name"], labels)

    def read(self, result: xr.Dataset) -> xr.DataArray:
        """Its values [point, seed].

        Raises:
            ResultError: no such variable or label, or a dimension is left open.
        """
        known = [str(name) for name, of in result.data_vars.items() if of.dtype.kind == "f"]
        if self.name not in known:
            raise ResultError(
                f"the sweep has no quantity '{self.name}': it has {', '.join(sorted(known))}."
            )
        values = result[self.name]
        for dim, label in self.at:
            if dim not in values.dims:
                dims = ", ".join(map(str, values.dims))
                raise ResultError(f"{self.name} has no dimension '{dim}': it has {dims}.")
            labels = values[dim].values
            place = [i for i, known in enumerate(labels) if _same(known, label)]
            if not place:
                raise ResultError(
                    f"{self.name}[{dim}={label}]: {dim} must be one of "
                    f"{', '.join(map(str, labels))}."
                )
            values = values.isel({dim: place[0]})
        if open_dims := [str(dim) for dim in values.dims if dim not in ("point", "seed")]:
            dim = open_dims[0]
            raise ResultError(
                f"{self.name} needs a label for {dim}: write {self.name}[{dim}=…] with one of "
                f"{', '.join(map(str, values[dim].values))}."
            )
        return values.transpose("point", "seed")


def _same(known: Any, label: str) -> bool:
    try:
        return str(known) == label or float(known) == float(label)
    except ValueError:
        return False


def _of(name: str, **at: str) -> Quantity:
    return Quantity(name, tuple(at.items()))


# What the theory predicts for a quantity, as a function of (d, k, τ).
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


class Exponent(NamedTuple):
    """γ of one coordinate, with its 95 % interval over seeds (NaN with one seed a point)."""

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
        points: index of each point that was used.
        excluded: index of each point that was not → why.
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
    bias the point.

    Args:
        result: of a sweep: dims point and seed, coordinates along point, ``status``.
        quantity: what to fit.
        against: coordinates; `free_coordinates` by default.

    Returns:
        A `PowerLaw`.

    Raises:
        ResultError: the quantity or a coordinate is unknown, too few points remain, or the
            coordinates do not vary independently.
    """
    values = quantity.read(result).values
    against = tuple(free_coordinates(result) if against is None else against)
    logs = [_log_coordinate(result, name) for name in against]
    ok = finished(result)
    excluded = _excluded(values, ok)
    used = np.array([p for p in range(len(values)) if p not in excluded], dtype=np.int64)
    design = np.column_stack([np.ones(len(used)), *(log[used] for log in logs)])
    _require_determined(design, quantity, against, excluded)
    samples = [np.log(values[p][ok[p]]) for p in used]
    means = np.array([sample.mean() for sample in samples])
    solve = np.linalg.pinv(design)
    coefficients = solve @ means
    residual = means - design @ coefficients
    spread = np.sum((means - means.mean()) ** 2)
    half = _half_widths(samples, solve)
    low, high = (coefficients[1:] - half).tolist(), (coefficients[1:] + half).tolist()
    predict = PREDICTED.get(quantity)
    predicted, prediction = [None] * len(against), None
    if predict is not None:
        table = [predict(*_place(result, p)) for p in used.tolist()]
        prediction = table[0]
        exact = (solve @ np.log([entry.value for entry in table]))[1:]
        # Settings have six digits, so τ = 0.3/√k is one up to 1e-6; adding 0 turns −0 into 0.
        predicted = (np.round(exact, 5) + 0.0).tolist()
    return PowerLaw(
        quantity,
        tuple(map(Exponent, against, coefficients[1:].tolist(), low, high, predicted)),
        float(coefficients[0]),
        float(1 - np.sum(residual**2) / spread) if spread > 0 else float("nan"),
        float(np.sqrt(np.mean(residual**2))),
        used,
        excluded,
        int(np.sum(~ok[used])),
        prediction,
    )


def free_coordinates(result: xr.Dataset) -> tuple[str, ...]:
    """The coordinates that the sweep varies independently: d, k and τ first, then what else it
    sweeps; one that is a power law of those before it (τ = 0.3/√k, m = 4d) is left out.
    """
    along = [str(name) for name, of in result.coords.items() if of.dims == ("point",)]
    first = [name for name in ("d", "k", "tau") if name in along]
    rest = [name for name in along if name not in (*first, "m", "point")]
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


def _log_coordinate(result: xr.Dataset, name: str) -> NDArray[np.floating]:
    along = [str(c) for c, of in result.coords.items() if of.dims == ("point",) and c != "point"]
    if name not in along:
        raise ResultError(f"the sweep has no coordinate '{name}': it has {', '.join(along)}.")
    values = result[name].values
    if values.dtype.kind not in "if" or not (values > 0).all():
        raise ResultError(f"{name} has values that are not positive numbers: no power law in it.")
    return np.log(values.astype(float))


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


def _require_determined(design, quantity, against, excluded) -> None:
    points, unknowns = design.shape
    if not against:
        raise ResultError("no coordinate of the sweep varies: there is nothing to fit against.")
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


def _half_widths(samples, solve):
    """Half the 95 % intervals of the exponents, t·√Σ(solve²s²/S). [D]

    An exponent is a fixed combination, ``solve``, of the points' means, whose variances are s²/S
    for S seeds; t is Student's quantile at Σ(S − 1) degrees of freedom. Measured coverage at twelve
    points is 95 % with three seeds and 94 % with two. [M]
    """
    counts = np.array([len(sample) for sample in samples])
    if counts.min() < 2:
        return np.full(len(solve) - 1, np.nan)
    variances = np.array([sample.var(ddof=1) for sample in samples]) / counts
    quantile = special.stdtrit(np.sum(counts - 1), 0.975)
    return (quantile * np.sqrt(solve**2 @ variances))[1:]


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
        "lanes_left_out": fit.lanes_left_out,
        "prediction": None
        if prediction is None
        else {
            "formula": prediction.formula,
            "source": prediction.source,
            "holds": prediction.holds,
        },
    }
