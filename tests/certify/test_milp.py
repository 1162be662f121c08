"""Both sides in ℓ∞ against the exact minimum of a mixed-integer program, by HiGHS (SciPy)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from small_networks import network_value, random_network

from featpur_sim import SymmetricReLU
from featpur_sim.attacks.protocol import STANDARD
from featpur_sim.certify import certify
from featpur_sim.data.sparse_coding import Batch


def exact_box_minimum(weights, bias, x, radius):
    """min Σ p_i − n_i over δ, with p_i ≥ ReLU(u_i − b_i) and n_i ≤ ReLU(−u_i − b_i).

    The minimum makes p_i an equality by itself; n_i needs a binary s_i that says whether the
    second ReLU is on: n_i ≤ H_i s_i and n_i ≤ −u_i − b_i + L_i (1 − s_i).
    """
    m, d = weights.shape
    u = weights @ x
    reach = radius * np.abs(weights).sum(1)
    on = np.maximum(-u - bias + reach, 0)  # the most that n_i can be
    off = np.maximum(u + bias + reach, 0)  # the most that −u_i − b_i can lie below 0
    zero, one = np.zeros((m, m)), np.eye(m)
    # Columns δ, p, n, s.
    rows = [
        (np.hstack([-weights, one, zero, zero]), u - bias),
        (np.hstack([np.zeros((m, d)), zero, -one, np.diag(on)]), np.zeros(m)),
        (np.hstack([-weights, zero, -one, -np.diag(off)]), u + bias - off),
    ]
    constraints = [LinearConstraint(matrix, low, np.inf) for matrix, low in rows]
    low = np.concatenate([np.full(d, -radius), np.zeros(3 * m)])
    high = np.concatenate([np.full(d, radius), np.full(2 * m, np.inf), np.ones(m)])
    cost = np.concatenate([np.zeros(d), np.ones(m), -np.ones(m), np.zeros(m)])
    kind = np.concatenate([np.zeros(d + 2 * m), np.ones(m)])
    solved = milp(
        cost,
        integrality=kind,
        bounds=Bounds(low, high),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    assert solved.success, solved.message
    return solved.fun, solved.x[:d]


@pytest.mark.parametrize(("radius", "share"), [(0.05, 0.9), (0.15, 0.5), (0.4, 0.0)])
def test_cheap_box_certificates_against_the_exact_minimum(radius, share):
    robust = proved = broken = 0
    for seed in range(3):
        weights, bias, points = random_network(seed, width=12, size=5, count=12, bias=0.3)
        weights, bias, points = (np.asarray(v, np.float64) for v in (weights, bias, points))
        solved = [exact_box_minimum(weights, bias, x, radius) for x in points]
        exact, delta = np.array([s[0] for s in solved]), np.stack([s[1] for s in solved])
        # The program solves the problem that it should.
        np.testing.assert_allclose(network_value(weights, bias, points + delta), exact, atol=1e-6)
        result = certify(weights, bias, points, radius, norm="linf", stages=["linear", "q1"])
        assert np.all(result.lower <= exact + 1e-6)
        assert np.all(result.upper >= exact - 1e-6)
        assert not np.any(result.certified & (exact < -1e-6))
        robust += int((exact > 1e-6).sum())
        broken += int((exact < -1e-6).sum())
        proved += int(result.certified.sum())
    assert proved >= share * robust and broken > 0


def test_box_certificates_are_close_to_exact_at_small_radii():
    weights, bias, points = random_network(7, width=12, size=5, count=20, bias=0.3)
    exact = np.array([exact_box_minimum(weights, bias, x, 0.05)[0] for x in points])
    result = certify(weights, bias, points, 0.05, norm="linf", stages=["q1"])
    at_zero = network_value(weights, bias, points)
    # Of what the ball takes from f, the bound overstates a tenth at most in the median.
    assert np.median((exact - result.lower) / (at_zero - exact)) < 0.1


@pytest.mark.parametrize("radius", [0.15, 0.4])
def test_the_attack_protocol_ends_at_the_exact_minimum(radius):
    excess = []
    for seed in range(3):
        network = random_network(seed, width=12, size=5, count=12, bias=0.3)
        weights, bias, points = (np.asarray(v, np.float64) for v in network)
        exact = np.array([exact_box_minimum(weights, bias, x, radius)[0] for x in points])
        model, x = SymmetricReLU(*map(jnp.asarray, network[:2])), jnp.asarray(network[2])
        found = STANDARD(
            model,
            Batch(x, jnp.ones(len(x)), x),
            radius,
            "linf",
            key=jax.random.key(0),
            cascade=False,
        )
        assert np.all(found.margin >= exact - 1e-5)
        # Exactly those points fall that can.
        clear = np.abs(exact) > 1e-5
        assert clear.sum() >= 10 and np.array_equal(found.robust[clear], exact[clear] > 0)
        excess += list((found.margin - exact) / (network_value(weights, bias, points) - exact))
    # In units of what the box takes from f.
    assert np.mean(excess) < 0.005 and np.mean(np.array(excess) < 1e-3) > 0.8
