"""No outside attack breaks a point that is certified (docs/theory.md §8)."""

import jax
import numpy as np
import pytest
from outside_attacks import outside, planted_networks

from featpur_sim.attacks.protocol import QUICK
from featpur_sim.measure.both_sides import squeeze

pytestmark = [pytest.mark.slow, pytest.mark.referees]

N = 300


def value(network, x):
    """f in float64."""
    weights, bias = (np.asarray(v, np.float64) for v in (network.weights, network.bias))
    u = x @ weights.T
    return (np.sign(u) * np.maximum(np.abs(u) - bias, 0)).sum(-1)


@pytest.mark.parametrize(("norm", "unit"), [("l2", 0.15), ("linf", 0.03)])
@pytest.mark.parametrize("relative", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("name", ["mixed", "purified", "rugged"])
@pytest.mark.filterwarnings("ignore")
def test_certified_points_stand(problem, mixed_network, name, relative, norm, unit):
    network = planted_networks(problem, mixed_network)[name]
    points, radius = problem.sample_labelled(jax.random.key(43), N), relative * unit
    both = squeeze(
        network,
        points,
        radius,
        norm,
        key=jax.random.key(44),
        protocol=QUICK,
        stages=["linear", "q1"],
    )
    x, y = np.asarray(points.x, np.float64), np.asarray(points.y)
    fallen = np.zeros(N, bool)
    for attack, delta in outside(network, points, radius, norm):
        least = y * value(network, x + delta)
        # The bound holds, not only its sign.
        assert np.all(least >= both.lower - 1e-12), attack
        fallen |= least <= 0
    assert not np.any(fallen & both.certified)
    # The referee does break points, and the certificate does prove some.
    assert fallen.any() and both.certified.any()
