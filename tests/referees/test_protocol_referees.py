"""Outside attacks find next to nothing that the standard protocol misses (docs/theory.md §8).

AutoPGD of the Adversarial Robustness Toolbox and four attacks of Foolbox, on the same weights in
PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outside_attacks import outside, planted_networks

from featpur_sim.attacks.protocol import STANDARD

pytestmark = [pytest.mark.slow, pytest.mark.referees]

N = 500


@pytest.fixture(scope="module")
def points(problem):
    return problem.sample_labelled(jax.random.key(40), N)


@pytest.fixture(scope="module")
def networks(problem, mixed_network):
    return planted_networks(problem, mixed_network)


# τ = 0.3/√k for ℓ2.
@pytest.mark.parametrize(("norm", "unit"), [("l2", 0.15), ("linf", 0.03)])
@pytest.mark.parametrize("relative", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("name", ["mixed", "purified", "rugged"])
@pytest.mark.filterwarnings("ignore")
def test_outside_attacks_find_no_more(networks, points, problem, name, relative, norm, unit):
    network, radius = networks[name], relative * unit
    found = STANDARD(
        network, points, radius, norm, key=jax.random.key(42), direction=problem.dense_direction()
    )
    ours = ~found.robust
    theirs = {
        attack: ~(np.asarray(points.y * network(points.x + jnp.asarray(delta))) > 0)
        for attack, delta in outside(network, points, radius, norm)
    }
    for attack, broken in theirs.items():
        assert np.sum(broken & ~ours) <= 0.005 * N, attack
    # A referee that finds little would prove little.
    union = np.any(list(theirs.values()), axis=0)
    assert union.sum() >= 0.97 * ours.sum()
