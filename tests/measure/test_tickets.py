"""Lottery tickets planted by hand, and their rate in a random start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from featpur_sim import SparseCoding
from featpur_sim.measure.tickets import find_tickets, ticket_outcome

D = 6
WSTAR = np.array([1.0, -1, 1, 1, 1, 1])
LEVEL = np.sqrt(2 * np.log(D))  # at σ₀ = 1, c₁ = 2


@pytest.fixture(params=["identity", "haar"])
def problem(request):
    return SparseCoding(
        d=D, k=2, sigma_x=0.1, wstar=WSTAR, dictionary=request.param, key=jax.random.key(3)
    )


def weights(problem, coordinates):
    C = jnp.asarray(coordinates, jnp.float32)
    return C if problem.M is None else C @ problem.M.T


INITIAL = LEVEL * np.array(
    [
        [1.1, 0, 0.9, 0, 0, 0],  # ticket of 0
        [0, -1.1, 0, 0, 0, 0.9],  # ticket of 1, whose label is −
        [0, 1.1, 0, 0, 0, 0],  # wrong sign
        [0, 0, 1.1, -1.1, 0, 0],  # two above the level
        [0, 0, 0.95, 0, 0, 0.2],  # none above
        [0, 0, 0, 1.2, 0, 0],  # ticket of 3
        [1.3, 0, 0, 0, 0, 0],  # ticket of 0 again
    ]
)


def test_who_holds_a_ticket(problem):
    found = find_tickets(weights(problem, INITIAL), problem, 1.0)
    assert found.tolist() == [0, 1, -1, -1, -1, 3, 0]


def test_the_level_scales_with_sigma_0_and_c_1(problem):
    start = weights(problem, 0.01 * INITIAL)
    assert find_tickets(start, problem, 0.01).tolist() == [0, 1, -1, -1, -1, 3, 0]
    # At 0.8 of the level the second entries .9 and .95 count too.
    lower = find_tickets(start, problem, 0.01, c_1=2 * 0.8**2)
    assert lower.tolist() == [-1, -1, -1, -1, 2, 3, 0]


def test_who_won(problem):
    final = np.zeros((7, D))
    for i, (feature, size) in enumerate([(0, 5), (4, 5), (1, -5), (2, 5), (5, 5), (3, 1), (2, 5)]):
        final[i, feature] = size
    outcome = ticket_outcome(weights(problem, INITIAL), weights(problem, final), problem, 1.0)
    assert outcome.feature.tolist() == [0, 1, -1, -1, -1, 3, 0]
    assert float(outcome.ticket_rate) == pytest.approx(4 / 7)
    # Of the holders, neurons 0 and 5 end where their ticket said.
    assert float(outcome.win_rate) == pytest.approx(2 / 4)
    # Of the others, 2 and 3 end at their own largest start; 4 does not.
    assert float(outcome.control_rate) == pytest.approx(2 / 3)
    # Tickets were out for features 0, 1, 3; of the winners only neuron 0 is a carrier.
    assert float(outcome.features_won) == pytest.approx(1 / 3)


def test_no_ticket_at_all(problem):
    quiet = weights(problem, 0.1 * INITIAL)
    outcome = ticket_outcome(quiet, quiet, problem, 1.0)
    assert outcome.feature.tolist() == [-1] * 7
    assert [float(v) for v in (outcome.ticket_rate, outcome.win_rate)] == [0, 0]
    assert float(outcome.control_rate) == 1


def test_rate_in_a_random_start():
    # Exactly one of D Gaussians beyond √c₁√log D, half of them with the right sign.
    problem = SparseCoding(d=64, k=5, sigma_x=0.3)
    start = 0.01 * jax.random.normal(jax.random.key(1), (20_000, 64))
    tail = 2 * stats.norm.sf(np.sqrt(2 * np.log(64)))
    expected = 0.5 * 64 * tail * (1 - tail) ** 63
    rate = float(np.mean(np.asarray(find_tickets(start, problem, 0.01)) >= 0))
    assert rate == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))
