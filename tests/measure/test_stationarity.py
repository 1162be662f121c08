"""Both sides of the stationarity identity: equal at rest, computed from scratch elsewhere."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import doubtful_gates

from featpur_sim import FGM, SparseCoding, SymmetricReLU
from featpur_sim.measure.stationarity import measure_stationarity
from featpur_sim.models.losses import loss_sum_and_gradient, regulariser_gradient

KEY = jax.random.key(0)
DECAY = 0.02
both_sides = eqx.filter_jit(partial(measure_stationarity, weight_decay=DECAY))


@pytest.mark.parametrize("attack", [None, FGM(0.1)], ids=["clean", "fgm"])
def test_against_numpy(mixed_network, problem, batch, attack):
    found = both_sides(mixed_network, problem, batch, attack, key=KEY)
    x = np.asarray(batch.x if attack is None else batch.x + attack(mixed_network, batch, key=KEY))
    # A gate that rounding opens would push by a whole sample.
    doubt = doubtful_gates(mixed_network.weights, mixed_network.bias, x)
    assert not doubt[np.asarray(batch.labelled)].any()
    w, y = np.asarray(mixed_network.weights, float), np.asarray(batch.y, float)
    gauge = np.asarray(problem.wstar)
    u = x @ w.T
    f = np.sum(np.sign(u) * np.maximum(np.abs(u) - 0.2, 0), axis=1)
    g = y / (1 + np.exp(y * f)) * (y != 0)
    push = np.einsum("nm,nd->md", g[:, None] * (np.abs(u) > 0.2), x) * gauge
    c = w * gauge
    j = np.abs(c).argmax(1)
    rows = np.arange(len(c))
    alpha = c[rows, j]
    keep = np.abs(alpha) >= 0.5 * np.abs(alpha).max()

    decay = DECAY * (1 + np.linalg.norm(w, axis=1)) * alpha

    def along(v):
        pure, dense = v[rows, j], (v.sum(1) - v[rows, j]) / (v.shape[1] - 1)
        return np.array([np.sum((alpha * part)[keep]) for part in (pure, dense)])

    pushed = along(push / (batch.y != 0).sum()) / np.sum((alpha * decay)[keep])
    held = along(c)
    assert float(found.weights) == pytest.approx(held[1] / held[0], rel=1e-4)
    assert float(found.pure) == pytest.approx(pushed[0], rel=1e-3)
    assert float(found.dense) == pytest.approx(pushed[1], rel=1e-3)


def test_the_sides_meet_where_training_rests():
    problem = SparseCoding(d=8, k=2, sigma_x=0.3, key=KEY)
    batch = problem.sample(jax.random.key(1), 256)
    start = SymmetricReLU(0.3 * jax.random.normal(jax.random.key(2), (12, 8)), 0.05)

    def step(weights, rate):
        _, gradient, count = loss_sum_and_gradient(SymmetricReLU(weights, 0.05), batch.x, batch.y)
        return weights - rate * (gradient / count + DECAY * regulariser_gradient(weights)), None

    # Gates jump, so that descent ends hopping about the point of rest, on each processor its own
    # way, by a deviation of .02 in `pure`: the mean over its last steps is at rest.
    def last(weights, _):
        weights, _ = step(weights, 0.02)
        return weights, both_sides(SymmetricReLU(weights, 0.05), problem, batch, key=KEY)

    rates = 0.5 / (1 + jnp.arange(5_000) / 500)
    near, _ = jax.jit(lambda w: jax.lax.scan(step, w, rates))(start.weights)
    _, along = jax.jit(lambda w: jax.lax.scan(last, w, length=500))(near)
    before = both_sides(start, problem, batch, key=KEY)
    after = jax.tree.map(jnp.mean, along)
    assert abs(float(before.weights - before.dense)) > 0.05
    assert abs(float(before.pure) - 1) > 0.5
    assert float(after.weights) == pytest.approx(float(after.dense), abs=0.002)
    assert float(after.pure) == pytest.approx(1, abs=0.005)
    assert abs(float(after.weights)) > 0.02


def test_nothing_pushes_a_network_that_is_never_active(problem, batch):
    found = both_sides(SymmetricReLU(jnp.eye(32), 100.0), problem, batch, key=KEY)
    assert found.dense == 0
    assert found.pure == 0
