"""The protocol in the box against a search over its vertices (experiments/box_attacks.py)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.box_attacks import soft_threshold, vertex_search
from featpur_sim import SymmetricReLU, initialise
from featpur_sim.attacks.protocol import STANDARD, Protocol
from featpur_sim.data.sparse_coding import Batch

KEY = jax.random.key(80)


def random_problem(d, m):
    generator = np.random.default_rng(d)
    return generator.normal(size=(m, d)), np.full(m, 0.7), generator.normal(size=(20, d))


@pytest.mark.parametrize("d", [7, 10])
def test_vertex_search_is_exact_where_all_coordinates_are_few(d):
    weights, bias, points = random_problem(d, 3 * d)
    vertices = 0.4 * np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    for x in points:
        least, sign = vertex_search(weights, bias, x, np.zeros(d), 0.4)
        values = soft_threshold((x + vertices) @ weights.T, bias).sum(1)
        assert least == pytest.approx(values.min(), abs=1e-9)
        at_sign = soft_threshold(weights @ (x + 0.4 * sign), bias).sum()
        assert at_sign == pytest.approx(least, abs=1e-9)


def test_vertex_search_ends_where_no_flip_of_one_or_two_coordinates_helps_much():
    d = 24
    weights, bias, points = random_problem(d, 3 * d)
    first, second = np.triu_indices(d)
    flips = np.ones((len(first), d))
    flips[np.arange(len(first)), first] = flips[np.arange(len(first)), second] = -1
    lower = 0
    for x in points:
        least, sign = vertex_search(weights, bias, x, np.ones(d), 0.4)
        values = soft_threshold((x + 0.4 * sign * flips) @ weights.T, bias).sum(1)
        # Of single flips none does; of pairs only those that are not among the few.
        assert values[first == second].min() >= least - 1e-8
        lower += values.min() < least - 1e-8
    assert lower <= 0.2 * len(points)


def test_a_gate_across_the_box_is_found():
    """Bare gradients descend along one open neuron; another opens at the opposite vertex only."""
    d, radius = 8, 0.1
    x = jnp.full((1, d), 1.0)
    # f(x) = 0.9. Downhill it is 0.1 at least; uphill, at δ = ε, the second gate takes 4 from 1.7.
    rows, bias = np.array([np.ones(d), -10 * np.ones(d)]), np.array([d - 0.9, 10 * (d + 0.4)])
    network, point = SymmetricReLU(jnp.asarray(rows), jnp.asarray(bias)), Batch(x, jnp.ones(1), x)
    bare = Protocol("bare", "1", tuple(s for s in STANDARD.stages if s.start == "zero")[2:4])
    assert [stage.smoothing for stage in bare.stages] == [0, 0]
    found = bare(network, point, radius, "linf", key=KEY)
    assert found.margin[0] == pytest.approx(0.1, abs=1e-5)
    walk = vertex_search(rows, bias, np.ones(d), found.delta[0].astype(float), radius)
    assert walk[0] == pytest.approx(1.7 - 4, abs=1e-6) and (walk[1] == 1).all()
    # The smoothed gates of the protocol see it as well.
    assert not STANDARD(network, point, radius, "linf", key=KEY).robust[0]


def test_walks_over_vertices_break_nothing_that_stands(problem):
    radius, network = 0.03, initialise(problem.d, 128, sigma_0=0.5, bias=0.8, key=KEY)
    x = problem.sample(jax.random.key(81), 200).x
    points = Batch(x, jnp.sign(network(x)), x)
    found = STANDARD(network, points, radius, "linf", key=KEY)
    y = np.asarray(points.y, float)[:, None]
    x, delta = y * np.asarray(points.x, float), y * found.delta.astype(float)
    weights = np.asarray(network.weights, float)
    bias = np.broadcast_to(np.asarray(network.bias, float), len(weights))
    random = np.random.default_rng(0).choice([-1.0, 1.0], x.shape)
    least = [
        min(vertex_search(weights, bias, x[i], start[i], radius)[0] for start in (delta, random))
        for i in range(len(x))
    ]
    least = np.array(least)
    # A referee that finds little would prove little.
    assert np.sum(least <= 0) >= 0.95 * np.sum(~found.robust) > 20
    assert np.sum((least <= 0) & found.robust) <= 0.005 * len(x)
