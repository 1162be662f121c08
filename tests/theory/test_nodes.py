"""Nodes of the reduced dynamics against the exact law of the margin."""

import numpy as np
import pytest

from featpur_sim.theory.dynamics.nodes import exact_nodes, sampled_nodes
from featpur_sim.theory.margin import margin_probability, tie_probability


def margin(nodes, k):
    c = nodes.counts
    return c[..., 0] - c[..., 1] + (c[..., 2] - c[..., 3]) / np.sqrt(k)


def test_exact_nodes_have_the_law_of_the_margin():
    d, k = 60, 4.0
    nodes = exact_nodes(d, k, points=3)
    assert nodes.weight.sum() == pytest.approx(1, abs=1e-12)
    assert (nodes.counts.sum(axis=1) == d).all() and (nodes.counts >= 0).all()
    s = margin(nodes, k)
    assert (s[nodes.weight > 0] > 0).all()
    for threshold in (0.5, 1.0, 1.5):
        found = nodes.weight[s > threshold + 1e-9].sum()
        assert found == pytest.approx(margin_probability(d, k, 1.0, threshold), abs=1e-6)
    # Unit variance of the noise needs Gauss-Hermite weights, not equal ones.
    assert nodes.weight @ nodes.noise**2 == pytest.approx(1, abs=1e-12)
    energy = nodes.counts[:, :2].sum(1) + nodes.counts[:, 2:4].sum(1) / k
    # E‖z‖² = 2 over all samples; ties take their share out.
    assert nodes.weight @ energy > 2


def test_sampled_nodes_agree_with_exact_ones():
    d, k = 128, 8.0
    exact = exact_nodes(d, k, points=1)
    sampled = sampled_nodes(d, k, n=4096, replicates=8)
    for of in (lambda c: c[..., 0], lambda c: c[..., 3], lambda c: c[..., :4].sum(-1) ** 2):
        each = np.sum(sampled.weight * of(sampled.counts), axis=1)
        error = each.std(ddof=1) / np.sqrt(8)
        assert abs(each.mean() - exact.weight @ of(exact.counts)) < 5 * error + 1e-9
        assert error < 0.01 * each.mean()


def test_ties_weigh_nothing():
    d, k = 64, 9.0
    nodes = sampled_nodes(d, k, n=2**14, replicates=1)
    s = margin(nodes, k)[0]
    tied = np.abs(s) < 1e-9
    assert (nodes.weight[0][tied] == 0).all() and (nodes.weight[0][~tied] > 0).all()
    assert tied.mean() == pytest.approx(tie_probability(d, k), abs=0.01)


def test_large_dimensions_keep_their_moments():
    d, k = 10**9, 4000.0
    nodes = sampled_nodes(d, k, n=2**12, replicates=1)
    nonzero = nodes.counts[0, :, :4].sum(-1)
    assert nonzero.mean() == pytest.approx(k + 1, rel=1e-3)
    assert nonzero.var() == pytest.approx(k + 1, rel=0.02)


def test_the_same_seed_gives_the_same_nodes_and_another_gives_others():
    first, again, other = (sampled_nodes(100, 5.0, n=64, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.noise, again.noise)
    assert (first.noise != other.noise).all()
    assert (first.noise[0] != first.noise[1]).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(d=100, k=5.0, n=1000), "n = 1000: must be a power of 2"),
        (dict(d=100, k=5.0, replicates=0), "replicates = 0"),
        (dict(d=10, k=10.0), "k \\+ p_one"),
    ],
)
def test_bad_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sampled_nodes(**arguments)
