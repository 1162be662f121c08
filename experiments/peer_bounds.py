"""Lower bounds that others published, in NumPy and float64, from the papers' formulas.

They are referees of featpur_sim.certify and rows of docs/certificates.md, and import nothing of the
package. Their arithmetic is rounded to nearest: bounds to compare with, not certificates.

f(x) = Σ_i [ReLU(u_i − b_i) − ReLU(−u_i − b_i)] is for them a network of 2m ReLUs with the rows
[W; −W], the bias −[b; b] and the output weights c = (1, …, 1, −1, …, −1).

CROWN: Zhang et al., NeurIPS 2018. α-CROWN: Xu et al., ICLR 2021. SDP-CROWN: Chiu et al., ICML 2025,
arXiv:2506.06665.

Over the box |δ_j| ≤ ε the linear part's minimum is the box's in all three. SDP-CROWN is a method
for a ball: its offset is that of the ball of radius ε√d around the box.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SMALLEST_LAMBDA = 1e-6


class Ascent(NamedTuple):
    """A search by Adam.

    Attributes:
        steps: how many.
        slope_rate: first learning rate in the slopes.
        lambda_rate: the same in λ, in units of its start.
        decay: of the rates, a step; 0 anneals them by a cosine to 0 instead.
    """

    steps: int = 1000
    slope_rate: float = 0.05
    lambda_rate: float = 0.05
    decay: float = 0.0


# What the authors' programs use where nothing is said. λ starts from 1.
PUBLISHED = Ascent(300, 0.5, 0.05, 0.98)
TUNED = Ascent()


class PairForm(NamedTuple):
    """The network as 2m ReLUs, at n points.

    Attributes:
        rows: [2m, d].
        output: c, [2m].
        centre: pre-activations ẑ, [n, 2m].
        reach: how far each moves in the ball, [n, 2m].
        radius: τ, [n, 1].
        rho: radius of a ball around ẑ that holds all pre-activations, τ‖[W; −W]‖₂, [n, 1]; in the
            box √d of that.
        box: whether the ball is ℓ∞'s.
    """

    rows: np.ndarray
    output: np.ndarray
    centre: np.ndarray
    reach: np.ndarray
    radius: np.ndarray
    rho: np.ndarray
    box: bool


def pair_form(
    weights: np.ndarray,
    bias: np.ndarray,
    points: np.ndarray,
    radius: float | np.ndarray,
    norm: str = "l2",
) -> PairForm:
    """W [m, d], b [m], x times its label [n, d] and τ (scalar or [n]) as 2m ReLUs."""
    box = norm == "linf"
    weights, bias, points = (np.asarray(v, np.float64) for v in (weights, bias, points))
    rows = np.concatenate([weights, -weights])
    output = np.repeat([1.0, -1.0], len(weights))
    tau = np.broadcast_to(np.asarray(radius, np.float64), len(points))[:, None]
    centre = points @ rows.T - np.tile(np.broadcast_to(bias, len(weights)), 2)
    reach = tau * np.linalg.norm(rows, axis=1, ord=1 if box else 2)
    rho = tau * np.linalg.norm(rows, 2) * (points.shape[1] ** 0.5 if box else 1)
    return PairForm(rows, output, centre, reach, tau, rho, box)


class Triangle(NamedTuple):
    """Each ReLU between its lines: g z + constant ≤ c ReLU(z) on its interval.

    Attributes:
        slope: g with CROWN's lower lines, [n, 2m].
        constant: [n, 2m]; 0 for the lower lines, whatever their slope.
        free: where g is a lower line's slope, anything in [0, 1], [n, 2m].
    """

    slope: np.ndarray
    constant: np.ndarray
    free: np.ndarray


def triangle(net: PairForm) -> Triangle:
    """The lines of CROWN; a lower line has slope 1 where the interval leans to the positive."""
    low, high = net.centre - net.reach, net.centre + net.reach
    spans = (low < 0) & (high > 0)
    always = (low >= 0).astype(np.float64)
    chord = np.where(spans, high / np.where(spans, high - low, 1), always)
    lower = np.where(spans, (high > -low).astype(np.float64), always)
    slope = np.where(net.output > 0, lower, -chord)
    constant = np.where(spans & (net.output < 0), chord * low, 0)
    return Triangle(slope, constant, spans & (net.output > 0))


def minimised(net: PairForm, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """min of ⟨g, z⟩ over the ball of x, [n], and the z that attains it, [n, 2m]."""
    direction = slope @ net.rows
    if net.box:
        delta = -net.radius * np.sign(direction)
    else:
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        delta = -net.radius * direction / np.maximum(length, 1e-300)
    worst = net.centre + delta @ net.rows.T
    return (slope * worst).sum(1), worst


def crown(net: PairForm) -> np.ndarray:
    """CROWN's bound, [n]."""
    lines = triangle(net)
    return minimised(net, lines.slope)[0] + lines.constant.sum(1)


def alpha_crown(net: PairForm, ascent: Ascent = TUNED) -> np.ndarray:
    """α-CROWN's bound, [n]: the lower lines' slopes by projected supergradients."""
    lines = triangle(net)

    def objective(slope: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        value, worst = minimised(net, slope)
        return value + lines.constant.sum(1), [np.where(lines.free, worst, 0)]

    def project(slope: np.ndarray) -> list[np.ndarray]:
        return [np.where(lines.free, np.clip(slope, 0, 1), lines.slope)]

    return ascend([lines.slope], objective, project, [ascent.slope_rate], ascent)[0]


def offset(
    output: np.ndarray, slope: np.ndarray, level: np.ndarray, centre: np.ndarray, rho: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SDP-CROWN's h(g, λ) with ⟨c, ReLU(z)⟩ ≥ ⟨g, z⟩ + h whenever ‖z − ẑ‖ ≤ ρ, and a z where the
    Lagrangian that it is the minimum of is least.

        h = −½(λ(ρ² − ‖ẑ‖²) + ‖φ‖²/λ),      φ_i = min{c_i − g_i − λẑ_i, g_i + λẑ_i, 0}

    Args:
        output: c, [k].
        slope: g, [n, k].
        level: λ > 0, [n, 1].
        centre: ẑ, [n, k].
        rho: ρ, [n, 1].

    Returns:
        ([n], [n, k]).
    """
    on, off = output - slope - level * centre, slope + level * centre
    phi = np.minimum(np.minimum(on, off), 0)
    h = level[:, 0] * (rho[:, 0] ** 2 - (centre**2).sum(1)) + (phi**2).sum(1) / level[:, 0]
    return -h / 2, np.where(on < off, -phi, phi) / level


def sdp_bound(
    net: PairForm, slope: np.ndarray, level: np.ndarray
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """SDP-CROWN's bound for given (g, λ), [n], and its supergradients in both."""
    h, place = offset(net.output, slope, level, net.centre, net.rho)
    value, worst = minimised(net, slope)
    used = ((place - net.centre) ** 2).sum(1, keepdims=True)
    return value + h, [worst - place, (used - net.rho**2) / 2]


class Found(NamedTuple):
    """What a search of SDP-CROWN ended with: its bound [n], g [n, 2m] and λ [n, 1]."""

    bound: np.ndarray
    slope: np.ndarray
    level: np.ndarray


def sdp_crown(
    net: PairForm,
    *,
    start: Found | None = None,
    free: bool = False,
    ascent: Ascent = TUNED,
) -> Found:
    """SDP-CROWN's bound, the slopes and λ searched for.

    Args:
        net: the network at its points.
        start: where to begin; by default CROWN's slopes and λ = 1, as the authors' program does.
        free: any slopes instead of α-CROWN's: upper lines along the chord, lower ones between 0
            and 1, and those of settled ReLUs fixed.
        ascent: the search.

    Returns:
        The best bound met.
    """
    lines = triangle(net)
    if start is None:
        start = Found(np.zeros(0), lines.slope, np.ones_like(net.radius))
    unit = start.level

    def objective(slope: np.ndarray, share: np.ndarray):
        value, (by_slope, by_level) = sdp_bound(net, slope, share * unit)
        return value, [by_slope if free else np.where(lines.free, by_slope, 0), by_level * unit]

    def project(slope: np.ndarray, share: np.ndarray) -> list[np.ndarray]:
        if not free:
            slope = np.where(lines.free, np.clip(slope, 0, 1), lines.slope)
        return [slope, np.maximum(share, SMALLEST_LAMBDA / unit)]

    rates = [ascent.slope_rate, ascent.lambda_rate]
    bound, (slope, share) = ascend(
        [start.slope, np.ones_like(unit)], objective, project, rates, ascent
    )
    return Found(bound, slope, share * unit)


def best_level(net: PairForm) -> Found:
    """CROWN's slopes with the best λ of a grid: a start for `sdp_crown`."""
    slope = triangle(net).slope
    grid = np.geomspace(1e-3, 1e3, 61)
    levels = [np.full_like(net.radius, level) for level in grid]
    bounds = np.stack([sdp_bound(net, slope, level)[0] for level in levels])
    return Found(bounds.max(0), slope, grid[bounds.argmax(0)][:, None])


def ascend(
    variables: list[np.ndarray],
    objective: Callable[..., tuple[np.ndarray, Sequence[np.ndarray]]],
    project: Callable[..., list[np.ndarray]],
    rates: Sequence[float],
    ascent: Ascent,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Projected ascent by Adam, each point by itself: the best value met, [n], and where."""
    first, second = ([np.zeros_like(v) for v in variables] for _ in range(2))
    best, where = np.full(len(variables[0]), -np.inf), [v.copy() for v in variables]
    for step in range(ascent.steps + 1):
        value, gradients = objective(*variables)
        better = value > best
        best[better] = value[better]
        for kept, variable in zip(where, variables, strict=True):
            kept[better] = variable[better]
        cosine = (1 + np.cos(np.pi * step / ascent.steps)) / 2
        fade = ascent.decay**step if ascent.decay else cosine
        moved = []
        for k, gradient in enumerate(gradients):
            first[k] = 0.9 * first[k] + 0.1 * gradient
            second[k] = 0.999 * second[k] + 0.001 * gradient**2
            mean = first[k] / (1 - 0.9 ** (step + 1))
            spread = np.sqrt(second[k] / (1 - 0.999 ** (step + 1)))
            moved.append(variables[k] + fade * rates[k] * mean / (spread + 1e-12))
        variables = project(*moved)
    return best, where
