"""Branch and bound on the neurons' pre-activations (docs/theory.md, section 8).

A node is an interval [low, high] of t = Wδ for every neuron; its bound is Q2's. It is split at the
concave kink t = −b − u of the neuron whose parabola is slackest at the node's minimiser: in either
half that neuron is convex. Each half is the ball or box cut by a half-space, over which the range
of every other neuron has a closed form, so a split also tightens all neurons that point a similar
way. A point is certified when every leaf's rigorous bound is positive: the leaves cover the ball.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q2 import BATCH, complete, q2_dual
from featpur_sim.certify.relaxation import soft_threshold
from featpur_sim.certify.rounding import UNDERFLOW, UNIT, gamma, neuron_minimum_down

MARGIN = 1e-3  # a split leaves at least this share of the ball's range on either side
NODE_PACE = Pace(100, 0.03, 0.01)  # a node starts from its parent's dual point


def half_ball_reach(
    weights: np.ndarray, norms: np.ndarray, radius: float, normal: np.ndarray, threshold: float
) -> np.ndarray:
    """max ⟨w_j, δ⟩ over {‖δ‖ ≤ τ, ⟨p, δ⟩ ≤ s} for every j, rounded up [D].

    With G the cosine of p and w_j and a = s/(τ‖p‖) it is τ‖w_j‖ if G ≤ a, else τ‖w_j‖(Ga +
    √(1−G²)√(1−a²)). G and a err by at most γ_{2d+16}; a few of those are added wherever they
    matter.

    Args:
        weights: W, [m, d] float64.
        norms: upper bounds on ‖w_j‖, [m].
        radius: τ.
        normal: p, [d]; one that is 0 cuts nothing.
        threshold: s, |s| ≤ τ‖p‖.

    Returns:
        [m].
    """
    slack = 4 * gamma(2 * weights.shape[1] + 16)
    length = float(np.linalg.norm(normal))
    if length < UNDERFLOW:
        return radius * norms
    cosine = (weights @ normal) / (norms * length)
    level = threshold / (length * radius)
    sines = np.sqrt((np.maximum(1 - cosine**2, 0) + slack) * (max(1 - level**2, 0) + slack))
    share = np.where(cosine <= level + slack, 1, np.minimum(cosine * level + sines + slack, 1))
    return radius * norms * share * (1 + 8 * UNIT)


def half_box_reach(
    weights: np.ndarray, radius: float, normal: np.ndarray, threshold: float
) -> np.ndarray:
    """max ⟨w_j, δ⟩ over {|δ_l| ≤ ε, ⟨p, δ⟩ ≤ s} for every j, rounded up [D].

    A continuous knapsack: by duality it is the least of λs + ε Σ_l |w_jl − λp_l| over λ ≥ 0, convex
    in λ and linear between the places w_jl/p_l. Every λ gives an upper bound; the place where the
    slope s − ε‖p‖₁ + 2ε Σ|p_l|, over the places up to there, turns positive gives the least.

    Args:
        weights: W, [m, d] float64.
        radius: ε.
        normal: p, [d]; one that is 0 cuts nothing.
        threshold: s ≥ −ε‖p‖₁.

    Returns:
        [m].
    """
    used = np.abs(normal) > UNDERFLOW
    weight = np.where(used, np.abs(normal), 0)
    level = np.zeros((len(weights), 1))
    if threshold < radius * weight.sum():
        places = weights[:, used] / normal[used]
        order = places.argsort(1)
        slope = threshold - radius * weight.sum() + 2 * radius * weight[used][order].cumsum(1)
        turn = (slope < 0).sum(1, keepdims=True).clip(max=used.sum() - 1)
        level = np.take_along_axis(places, np.take_along_axis(order, turn, 1), 1).clip(0)
    value = level[:, 0] * threshold + radius * np.abs(weights - level * normal).sum(1)
    terms = level[:, 0] * abs(threshold) + radius * (np.abs(weights) + level * np.abs(normal)).sum(
        1
    )
    return value + 2 * gamma(weights.shape[1] + 8) * terms


@dataclass(frozen=True)
class Node:
    """A region of one point's ball, with the best dual point known for it.

    Attributes:
        point: the point's place in the problem.
        low: lower ends of t, [m].
        high: upper ends of t, [m].
        slope: θ, [m].
        curvature: q, [m].
        minimiser: δ̂, [d].
        bound: proved lower bound on f over the region.
    """

    point: int
    low: np.ndarray
    high: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    minimiser: np.ndarray
    bound: float


def choose_split(problem: Problem, node: Node) -> tuple[int, float]:
    """The neuron whose parabola is slackest at the node's minimiser, and where to split it.

    Args:
        problem: network and points.
        node: the node.

    Returns:
        (neuron, threshold of t): its concave kink, or the middle where the kink is outside.
    """
    u, low, high = problem.pre_activation[node.point], node.low, node.high
    a = np.clip(problem.weights @ node.minimiser, low, high)
    phi = neuron_minimum_down(u, low, high, node.slope, node.curvature, problem.bias)
    slack = soft_threshold(u + a, problem.bias) + (node.curvature * a - node.slope) * a - phi
    keep = MARGIN * problem.reach[node.point]
    kink = -problem.bias - u
    inside = (kink > low + keep) & (kink < high - keep)
    neuron = int(np.where(high - low > 4 * keep, slack, -np.inf).argmax())
    return neuron, float(kink[neuron] if inside[neuron] else (low[neuron] + high[neuron]) / 2)


def split(problem: Problem, node: Node) -> list[Node]:
    """The node's halves t_i ≤ s and t_i ≥ s, their intervals tightened; a half proved empty is
    left out.

    Args:
        problem: network and points.
        node: the node.

    Returns:
        At most two nodes that inherit the dual point and the bound.
    """
    neuron, threshold = choose_split(problem, node)
    radius = float(problem.radius[node.point])

    def reach(weights: np.ndarray, normal: np.ndarray, threshold: float) -> np.ndarray:
        if problem.box:
            return half_box_reach(weights, radius, normal, threshold)
        return half_ball_reach(weights, problem.dual_norms, radius, normal, threshold)

    halves: list[Node] = []
    for side in (1.0, -1.0):  # side·t_i ≤ side·s
        normal, bound = side * problem.weights[neuron], side * threshold
        high = np.minimum(node.high, reach(problem.weights, normal, bound))
        low = np.maximum(node.low, -reach(-problem.weights, normal, bound))
        if side > 0:
            high[neuron] = min(high[neuron], threshold)
        else:
            low[neuron] = max(low[neuron], threshold)
        if not (low > high).any():
            halves.append(replace(node, low=low, high=high))
    return halves


@dataclass(frozen=True)
class Outcome:
    """What branch and bound found.

    Attributes:
        lower: proved lower bound on f over each ball, [n].
        upper: least f seen, [n].
        minimiser: where, [n, d].
        nodes: nodes spent, [n].
    """

    lower: np.ndarray
    upper: np.ndarray
    minimiser: np.ndarray
    nodes: np.ndarray


def _pick(queues: list[list[Node]], active: list[int]) -> list[Node]:
    """The worst open nodes of the active points, in turn: half a batch, which their halves fill."""
    for i in active:
        queues[i].sort(key=lambda node: -node.bound)
    chosen: list[Node] = []
    while len(chosen) < BATCH // 2 and any(queues[i] for i in active):
        for i in active:
            if queues[i] and len(chosen) < BATCH // 2:
                chosen.append(queues[i].pop())
    return chosen


def _explore(problem: Problem, nodes: list[Node]) -> tuple[list[Node], np.ndarray]:
    """The nodes with their own bounds and dual points, and f at their minimisers."""

    def stack(name: str) -> np.ndarray:
        return np.stack([getattr(node, name) for node in nodes])

    part = problem.select(np.array([node.point for node in nodes]))
    low, high = stack("low"), stack("high")
    dual = q2_dual(part, low, high, stack("slope"), stack("curvature"), NODE_PACE)
    # A half lies in its parent, so the parent's bound holds for it too.
    bound = np.maximum(part.bound(dual, low, high), stack("bound"))
    fresh = [
        replace(node, slope=slope, curvature=curvature, minimiser=minimiser, bound=float(own))
        for node, slope, curvature, minimiser, own in zip(
            nodes, dual.slope, dual.curvature, dual.minimiser, bound, strict=True
        )
    ]
    return fresh, part.value(dual.minimiser)


def branch_and_bound(
    problem: Problem,
    slope: np.ndarray,
    curvature: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    max_nodes: int = 200,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Splits balls until every point is certified, broken, or out of nodes.

    Args:
        problem: network, points and radii.
        slope: θ of each point's best dual point so far, [n, m].
        curvature: q of the same, [n, m].
        lower: proved lower bounds, [n].
        upper: least f known, [n].
        max_nodes: nodes to spend on a point.
        stop: asked before each batch of nodes; where it says True, the search ends with the bounds
            that it has.

    Returns:
        The outcome; a point is certified where lower > 0.
    """
    roots = complete(problem, slope, curvature)
    queues = [
        [Node(i, -reach, reach, roots.slope[i], roots.curvature[i], roots.minimiser[i], lower[i])]
        for i, reach in enumerate(problem.reach)
    ]
    closed = np.full(len(problem), np.inf)  # the least bound among finished leaves
    outcome = Outcome(
        lower.copy(), upper.copy(), roots.minimiser.copy(), np.ones(len(problem), int)
    )
    active = [i for i in range(len(problem)) if lower[i] <= 0 < upper[i]]
    while active and not stop():
        halves = [half for node in _pick(queues, active) for half in split(problem, node)]
        nodes, values = _explore(problem, halves) if halves else ([], np.zeros(0))
        for node, value in zip(nodes, values, strict=True):
            i = node.point
            outcome.nodes[i] += 1
            if value < outcome.upper[i]:
                outcome.upper[i], outcome.minimiser[i] = value, node.minimiser
            if node.bound > 0:
                closed[i] = min(closed[i], node.bound)
            else:
                queues[i].append(node)
        for i in active:
            outcome.lower[i] = min([closed[i], *(node.bound for node in queues[i])])
        active = [
            i for i in active if queues[i] and outcome.upper[i] > 0 and outcome.nodes[i] < max_nodes
        ]
    return outcome
