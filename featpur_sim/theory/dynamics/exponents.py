"""The theorem's exponents from the reduced dynamics at d = 10⁴ … 10⁹ (docs/dynamics.md).

Both phases are integrated at k = d^a with b = ν_f α/√k, and each quantity is fitted as a power of
d. The interval has two parts: the scatter of the points about the line, a property of the model at
finite d, and the sampling error, from independent replicates of the nodes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Real, Scalar
from featpur_sim.theory import predictions as theory
from featpur_sim.theory.dynamics.equations import Order, Setting, accuracy, radius_at
from featpur_sim.theory.dynamics.nodes import Nodes, double_precision, sampled_nodes
from featpur_sim.theory.dynamics.trajectory import Trajectory, constant, integrate_phase

DIMENSIONS = tuple(10**i for i in range(4, 10))
ANSATZ = (
    "ρ = 0, one feature a neuron and b/α between σ_x/√d and 1/√k are put in by hand; a check of "
    "the scaling, not of whether training gets there"
)
"""What the exponents take for granted (docs/dynamics.md)."""


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the settings of a run scale with d. Defaults: docs/theory.md §7.

    Attributes:
        sigma_x: noise.
        p_one: expected number of coordinates of size 1.
        copies: r, neurons per feature.
        decay: λd.
        bias_fraction: ν_f in b = ν_f α/√k.
        radius: ε in the training radius τ = ε k^{-1/2-c}.
        radius_exponent: c.
        clean_time: length of the clean phase in t′ = η·step/d.
        adversarial_time: length of the adversarial phase.
        alpha: α at the start, with C = 0 and ρ = 0.
    """

    sigma_x: float = 0.3
    p_one: float = 1.0
    copies: float = 4.0
    decay: float = 0.0128
    bias_fraction: float = 0.5
    radius: float = 0.25
    radius_exponent: float = 0.05
    clean_time: float = 12.0
    adversarial_time: float = 20.0
    alpha: float = 0.03


DEFAULT = Scaling()


class _Clean(NamedTuple):
    """What the clean phase ends in; as in `Point`."""

    order: Order
    bias: Scalar
    ratio: Scalar
    active: Scalar
    accuracy: Scalar
    pure_accuracy: Scalar
    dense_radius: Scalar
    dense_accuracy: Scalar
    pure_radius: Scalar
    arrived: Array


class _Purified(NamedTuple):
    """What the adversarial phase ends in; as in `Point`."""

    alpha: Scalar
    ratio: Scalar
    radius: Scalar
    arrived: Array


class Point(NamedTuple):
    """What both phases end in, at one (d, k); arrays [R] over replicates."""

    clean_alpha: np.ndarray
    clean_ratio: np.ndarray
    """c/α"""
    clean_active: np.ndarray
    """fraction of (sample, neuron) pairs, clean samples"""
    clean_accuracy: np.ndarray
    pure_accuracy: np.ndarray
    """of the network with the same α and b, and c = 0"""
    dense_radius: np.ndarray
    """at which the dense attack takes the clean network to accuracy ½"""
    dense_accuracy: np.ndarray
    """of the clean network, dense attack at the training radius"""
    pure_radius: np.ndarray
    """at which FGM takes the network with c = 0 to accuracy ½"""
    adversarial_alpha: np.ndarray
    adversarial_ratio: np.ndarray
    purified_radius: np.ndarray
    """at which FGM takes the purified network to accuracy ½"""
    arrived: np.ndarray


@steady
def solve(d: int, k: float, scaling: Scaling, nodes: Nodes) -> Point:
    """Both phases at one size.

    Args:
        d: dimension.
        k: sparsity.
        scaling: the other settings.
        nodes: of this (d, k), with a leading axis of replicates.
    """
    with double_precision():
        setting = _setting(d, k, scaling)
        tau = scaling.radius * k ** (-0.5 - scaling.radius_exponent)
        fraction = scaling.bias_fraction / k**0.5
        nodes = _on_device(nodes)
        clean = cast(
            _Clean, _clean(nodes, setting, fraction, scaling.alpha, scaling.clean_time, tau)
        )
        purified = cast(
            _Purified,
            _purify(clean.order, clean.bias, nodes, setting, tau, scaling.adversarial_time),
        )
        return Point(
            clean_alpha=np.asarray(clean.order.alpha),
            clean_ratio=np.asarray(clean.ratio),
            clean_active=np.asarray(clean.active),
            clean_accuracy=np.asarray(clean.accuracy),
            pure_accuracy=np.asarray(clean.pure_accuracy),
            dense_radius=np.asarray(clean.dense_radius),
            dense_accuracy=np.asarray(clean.dense_accuracy),
            pure_radius=np.asarray(clean.pure_radius),
            adversarial_alpha=np.asarray(purified.alpha),
            adversarial_ratio=np.asarray(purified.ratio),
            purified_radius=np.asarray(purified.radius),
            arrived=np.asarray(clean.arrived & purified.arrived),
        )


def _setting(d: int, k: float, scaling: Scaling) -> Setting:
    values = (d, k, scaling.sigma_x, scaling.copies, scaling.decay, 0.0)
    return Setting(*(jnp.asarray(float(v)) for v in values))


def _on_device(nodes: Nodes) -> Nodes:
    return Nodes(*(jnp.asarray(v) for v in nodes))


def _last(order: Order) -> Order:
    """The end of a trajectory."""
    return Order(order.alpha[-1], order.dense[-1], order.residual[-1])


@jax.jit
def _clean(
    nodes: Nodes, setting: Setting, fraction: Real, alpha: Real, duration: Real, tau: Real
) -> _Clean:
    """The clean phase from a small α, and how the network it leads to stands up; arrays [R]."""

    def one(sample: Nodes) -> _Clean:
        zero = jnp.asarray(0.0)
        relative = constant(fraction)._replace(relative=zero + 1)
        start = Order(alpha + zero, zero, zero)
        times = jnp.stack([zero, zero + duration])
        run = cast(Trajectory, integrate_phase(start, zero, relative, 0.0, times, sample, setting))
        order, b = _last(run.order), run.bias[-1]
        attacked = (b, sample, setting)
        return _Clean(
            order,
            b,
            order.dense / setting.d / order.alpha,
            run.drive.active[-1],
            accuracy(order, b, 0.0, sample, setting),
            accuracy(order._replace(dense=zero), b, 0.0, sample, setting),
            radius_at(0.5, order, *attacked, "dense"),
            accuracy(order, b, tau, sample, setting, "dense"),
            radius_at(0.5, order._replace(dense=zero), *attacked, "fgm"),
            run.arrived,
        )

    return cast(_Clean, lax.map(one, nodes))


@jax.jit
def _purify(
    order: Order, b: Float[Array, " R"], nodes: Nodes, setting: Setting, tau: Real, duration: Real
) -> _Purified:
    """The adversarial phase; arrays [R]."""

    def one(inputs: tuple[Order, Scalar, Nodes]) -> _Purified:
        start, bias, sample = inputs
        times = jnp.stack([jnp.asarray(0.0), jnp.asarray(0.0) + duration])
        run = cast(
            Trajectory,
            integrate_phase(start, bias, constant(bias), tau, times, sample, setting, attack="fgm"),
        )
        final = _last(run.order)
        ratio = final.dense / setting.d / final.alpha
        radius = radius_at(0.5, final, bias, sample, setting, "fgm")
        return _Purified(final.alpha, ratio, radius, run.arrived)

    return cast(_Purified, lax.map(one, (order, b, nodes)))


@steady
def boundary(
    d: int, scaling: Scaling = DEFAULT, *, n: int = 512, replicates: int = 2, seed: int = 0
) -> tuple[float, float]:
    """The sparsity from which on the dense attack beats the clean network before the pure radius.

    Where the radius at which the dense attack takes the accuracy to ½ of the clean-trained network
    equals that at which FGM does the same to the pure network: the lower end of the window,
    k ≈ d^{1/3} with its constant. [D] §5.1, §7

    Args:
        d: dimension.
        scaling: the other settings.
        n: nodes per replicate, a power of 2.
        replicates: independent sets of nodes, at least 2.
        seed: of the nodes.

    Returns:
        k, a real number, and its standard error over the replicates.

    Raises:
        ValueError: there is no such k near d^{1/3}.
    """

    def excess(log_k: float) -> Float[np.ndarray, " R"]:
        k = float(np.exp(log_k))
        nodes = sampled_nodes(d, k, scaling.p_one, n=n, replicates=replicates, seed=seed)
        with double_precision():
            clean = cast(
                _Clean,
                _clean(
                    _on_device(nodes), _setting(d, k, scaling),
                    scaling.bias_fraction / k**0.5, scaling.alpha, scaling.clean_time, 0.0,
                ),
            )  # fmt: skip
            return np.log(np.asarray(clean.pure_radius) / np.asarray(clean.dense_radius))

    # Bisection: rounding of the counts makes the ratio a little rough in k. Then a straight line.
    low, high = np.log(d) / 3 - 0.6, np.log(d) / 3 + 0.6
    at_low, at_high = excess(low), excess(high)
    if not at_low.mean() < 0 < at_high.mean():
        raise ValueError(f"d = {d}: no boundary within a factor 1.8 of d^(1/3). Take another d.")
    for _ in range(6):
        middle = (low + high) / 2
        found = excess(middle)
        if found.mean() < 0:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    roots = low - (high - low) * at_low / (at_high.mean() - at_low.mean())
    k = float(np.exp(roots.mean()))
    return k, k * float(roots.std(ddof=1)) / len(roots) ** 0.5


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What is fitted against d, and what is predicted for it."""

    name: str
    of: Callable[[Point], np.ndarray]
    predicted: Callable[[int, float, float], float]
    """(d, k, τ) ↦ the predicted value, up to a constant"""
    source: str


QUANTITIES = (
    Quantity(
        "clean c/α",
        lambda p: p.clean_ratio,
        lambda d, k, tau: theory.clean_dense_ratio(d, k).value,
        "k/d [D] §5.1",
    ),
    Quantity(
        "adversarial c/α",
        lambda p: p.adversarial_ratio,
        lambda d, k, tau: theory.adversarial_dense_ratio(d, k, tau).value,
        "1/(τ√k·d) [D] §5.1",
    ),
    Quantity(
        "dense-attack radius, clean",
        lambda p: p.dense_radius,
        lambda d, k, tau: theory.dense_radius(d, k).value,
        "√d/k² [D] §5.1",
    ),
    Quantity(
        "FGM radius, purified",
        lambda p: p.purified_radius,
        lambda d, k, tau: theory.critical_radius(k).value,
        "1/√k [P]",
    ),
)


@steady
def solve_all(
    a: float,
    scaling: Scaling = DEFAULT,
    *,
    dimensions: Sequence[int] = DIMENSIONS,
    n: int = 512,
    replicates: int = 4,
    seed: int = 0,
    meter: Meter = SILENT,
) -> dict[int, Point]:
    """Both phases at every dimension, with k = round(d^a).

    Args:
        a: log k/log d, in (0, 1).
        scaling: the other settings.
        dimensions: the values of d.
        n: nodes per replicate, a power of 2.
        replicates: independent sets of nodes, at least 2.
        seed: of the nodes.
        meter: told of the progress, dimension by dimension.

    Returns:
        dimension → point.

    Raises:
        ValueError: a parameter is out of range, or an integration did not reach its end.
    """
    if not 0 < a < 1:
        raise ValueError(f"a = {a!r}: must be in (0, 1), k = d^a. The window is 1/3 to 1/2.")
    points: dict[int, Point] = {}
    stage = f"reduced dynamics a = {a:g}"
    for number, d in enumerate(dimensions):
        meter.at(stage, number, len(dimensions), f"d = {d}")
        k = float(round(d**a))
        nodes = sampled_nodes(d, k, scaling.p_one, n=n, replicates=replicates, seed=seed)
        points[d] = solve(d, k, scaling, nodes)
        if not points[d].arrived.all():
            raise ValueError(
                f"d = {d}, k = {k:g}: the integration did not reach its end. Lower the durations, "
                "or take more nodes."
            )
    meter.at(stage, len(dimensions), len(dimensions))
    return points


def power(
    dimensions: np.ndarray, table: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
    """The exponent of d, and its interval.

    Args:
        dimensions: shape [p], at least 3.
        table: positive values, shape [p, R]; replicates R ≥ 2.
        level: coverage, in (0, 1).

    Returns:
        (exponent, low, high). The half-width joins the t-interval of the regression and that of
        the replicates' own exponents in quadrature.

    Example:
        >>> d = np.array([10.0, 100.0, 1000.0])
        >>> power(d, np.stack([d**-0.5, d**-0.5], axis=1))
        (-0.50, -0.50, -0.50)
    """
    log_d = np.log(dimensions)
    line: Any = stats.linregress(log_d, np.log(table.mean(axis=1)))
    each = np.polyfit(log_d, np.log(table), 1)[0]
    half = np.hypot(
        stats.t.ppf((1 + level) / 2, len(log_d) - 2) * line.stderr,
        stats.t.ppf((1 + level) / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)),
    )
    return float(line.slope), float(line.slope - half), float(line.slope + half)


def fit(a: float, points: dict[int, Point], scaling: Scaling = DEFAULT) -> list[Row]:
    """Power laws in d through the points of `solve_all`.

    Returns:
        One row a quantity: ``quantity, a, exponent, ci, predicted, source, d_min, d_max``;
        ``predicted`` is the exponent of the formula at the same integers k.
    """
    dimensions = np.array(sorted(points))
    log_d = np.log(dimensions)
    rows: list[Row] = []
    for quantity in QUANTITIES:
        table = np.array([quantity.of(points[int(d)]) for d in dimensions])  # [d, R]
        formula: list[float] = []
        for d in dimensions.tolist():
            k = float(round(d**a))
            tau = scaling.radius * k ** (-0.5 - scaling.radius_exponent)
            formula.append(quantity.predicted(d, k, tau))
        slope, low, high = power(dimensions, table)
        rows.append(
            {
                "quantity": quantity.name,
                "a": a,
                "exponent": slope,
                "ci": [low, high],
                "predicted": float(np.polyfit(log_d, np.log(formula), 1)[0]),
                "source": quantity.source,
                "d_min": int(dimensions[0]),
                "d_max": int(dimensions[-1]),
            }
        )
    return rows
