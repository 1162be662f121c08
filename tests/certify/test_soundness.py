"""The bound never exceeds what an attack finds: over 10⁵ points on random networks and radii."""

import numpy as np
import pytest
from small_networks import descend, network_value, random_network

from featpur_sim.certify import Effort, certify
from featpur_sim.certify.ascent import Pace

pytestmark = pytest.mark.slow

# Width, size, networks, points each; radii drawn per point.
SHAPES = [(8, 3, 10, 2048), (24, 8, 10, 2048), (48, 16, 8, 2048), (96, 24, 4, 2048)]


def radii(seed, count, least=0.005, most=3.0):
    """Log-uniform, one for each point."""
    return np.exp(np.random.default_rng(seed).uniform(np.log(least), np.log(most), count))


@pytest.mark.parametrize(("norm", "most"), [("l2", 3.0), ("linf", 0.8)])
@pytest.mark.parametrize(("width", "size", "networks", "count"), SHAPES)
def test_first_stages(norm, most, width, size, networks, count):
    certified = 0
    for seed in range(networks):
        weights, bias, points = random_network(seed, width, size, count, bias=0.05 * (1 + seed))
        tau = radii(seed, count, most=most)
        effort = Effort(q1_steps=30)
        first = certify(weights, bias, points, tau, norm=norm, stages=["linear"], effort=effort)
        second = certify(weights, bias, points, tau, norm=norm, stages=["q1"], effort=effort)
        starts = [first.minimiser, second.minimiser]
        attacked, _ = descend(
            weights, bias, points, tau, norm=norm, restarts=1, steps=25, starts=starts, seed=seed
        )
        for result in (first, second):
            assert np.all(result.lower <= attacked + 1e-12)
            assert np.all(result.lower <= network_value(weights, bias, points) + 1e-6)
        certified += int(second.certified.sum())
    # The bounds say something, and not everything.
    assert 0.05 * networks * count < certified < 0.95 * networks * count


@pytest.mark.parametrize(("norm", "most"), [("l2", 3.0), ("linf", 0.8)])
@pytest.mark.parametrize(("width", "size"), [(8, 3), (24, 8), (48, 16)])
def test_the_whole_cascade(norm, most, width, size):
    effort = Effort(q1_steps=30, q2=Pace(30, 0.1, 0.3), max_nodes=12)
    last = 0
    for seed in range(3):
        weights, bias, points = random_network(100 + seed, width, size, 400, bias=0.2)
        tau = radii(seed, 400, most=most)
        result = certify(weights, bias, points, tau, norm=norm, effort=effort)
        attacked, _ = descend(
            weights, bias, points, tau, norm, restarts=3, steps=50, starts=[result.minimiser]
        )
        assert np.all(result.lower <= attacked + 1e-12)
        last += result.by_stage()["q2"] + result.by_stage()["branch"]
    assert last > 0
