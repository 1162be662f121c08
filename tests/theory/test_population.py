"""The heterogeneous closure against an explicit network of the same family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from featpur_sim import FGM, SparseCoding, SymmetricReLU, decompose
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.losses import loss_sum_and_gradient, regulariser_gradient
from featpur_sim.theory.dynamics import population, samples
from featpur_sim.theory.dynamics.population import Population, Thresholds
from featpur_sim.theory.dynamics.samples import Law

M, D = 24, 32
sample = jax.jit(samples.sample, static_argnums=(2, 3, 4))


@functools.partial(jax.jit, static_argnums=1)
def of_a_step(key, n):
    """The inputs and labels of step 0 of `evolve`."""
    return samples.sample(jax.random.fold_in(key, 0), LAW, n, D, M)[:2]


LAW = Law(*(jnp.float32(v) for v in (4.0, 1.0, 0.3, 0.5, 1e-3)))


def fixed(b):
    """Thresholds that stay for a step."""
    none = jnp.zeros(1)
    return population.Thresholds(none, none, b, jnp.float32(jnp.inf))


def make(residual=0.0, seed=0):
    """Three coordinates followed: one large, one half as large, one small."""
    rng = np.random.default_rng(seed)
    psi = 1 + 0.3 * rng.standard_normal(D)
    values = (
        np.stack([rng.uniform(*between, M) for between in ((0.5, 1.0), (0.3, 0.4), (-0.1, -0.05))]),
        rng.uniform(0.0, 0.05, M), np.full(M, residual), psi / psi.mean(),
    )  # fmt: skip
    carried, c, rho2, psi = (jnp.asarray(v, jnp.float32) for v in values)
    feature = np.argsort(rng.random((M, D)), axis=1)[:, :3].T
    return Population(carried, jnp.asarray(feature, jnp.int32), c, rho2, psi)


def outside(state):
    """[M, D]: 1 where a neuron's coordinate is not followed."""
    others = np.ones((M, D))
    np.put_along_axis(others, np.asarray(state.feature).T, 0, axis=1)
    return others


def opened_by(state, b):
    """[M]: the chance that a neuron's own feature, or a Gaussian of all others, opens its gate."""
    others = np.sum(
        (np.asarray(state.dense)[:, None] * state.profile * outside(state)) ** 2, axis=1
    )
    variance = (others + state.residual) * (4 / 4 + 1 + 0.3**2) / D
    return 4 / D + 2 * norm.sf(b / np.sqrt(variance))


def weights(state):
    """The explicit weights of a population without residuals."""
    w = np.asarray(state.dense)[:, None] * np.asarray(state.profile)
    np.put_along_axis(w, np.asarray(state.feature).T, np.asarray(state.carried).T, axis=1)
    return jnp.asarray(w)


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("noise", [{}, {"sigma_rho": 0.1, "smoothing": "closed"}])
def test_a_step_is_the_projection_of_the_networks_own(adversarial, noise):
    state, b, key = make(), jnp.full(M, 0.2), jax.random.key(3)
    law = LAW._replace(sigma_rho=jnp.float32(0.1)) if noise else LAW
    radius = jnp.float32(0.1)
    moved = population.evolve(
        state, fixed(b), radius, law, key, 0, 1, batch=64, adversarial=adversarial
    )
    x, y = of_a_step(key, 64)
    network = SymmetricReLU(weights(state), b, **noise)
    if adversarial:
        x = x + FGM(0.1)(network, Batch(x=x, y=y, z=x), key=key)
    _, gradient, count = loss_sum_and_gradient(network, x, y)
    total = gradient / count + 1e-3 * regulariser_gradient(network.weights)
    change = np.asarray(-0.5 * total, float)
    # The rounding of C twice, 2u|C|, and of the sums over samples and inputs: about 3e-6; the
    # change is some thousand times that.
    own = np.take_along_axis(change, np.asarray(state.feature).T, axis=1).T
    np.testing.assert_allclose(moved.carried - state.carried, own, atol=5e-6)
    # On ψ the network moves the other coordinates; own ones are left out.
    psi, others = np.asarray(state.profile, float), outside(state)
    decay = 1e-3 * (1 + np.linalg.norm(network.weights, axis=1))
    push = others * (change + 0.5 * decay[:, None] * np.asarray(network.weights))
    expected = push @ psi / (others @ psi**2) - 0.5 * decay * np.asarray(state.dense)
    np.testing.assert_allclose(moved.dense - state.dense, expected, atol=2e-6)
    # ψ moves by what all neurons together push off the profile.
    c = np.asarray(state.dense, float)
    along = c @ push / (c @ c)
    along -= psi * (along @ psi) / (psi @ psi)
    np.testing.assert_allclose(moved.profile - state.profile, along, atol=2e-5)


def test_an_attack_has_the_norm_of_its_radius_whatever_the_gates():
    state = make(residual=0.3)
    gate = jnp.asarray(np.random.default_rng(0).uniform(size=(M, 64)), jnp.float32)
    openness = population._openness(state, jnp.full(M, 0.2), LAW)
    move, along = population._attack(state, gate, openness, jnp.float32(0.1), jnp.ones(64))
    # Where Σ_i c_i q_i = Σ_i g_i q_i = 0, the square of a combination of the q_i is the sum of the
    # squares ⟨q_i, δ⟩²/‖q_i‖², and neither sum is moved.
    square = jnp.sum(move**2, axis=1) + jnp.sum(along**2 / state.residual[:, None], axis=0)
    np.testing.assert_allclose(square, 0.01, rtol=1e-5)
    for row in (state.dense, openness):
        moved, each = row @ along, jnp.abs(row) @ jnp.abs(along)
        assert float(jnp.max(jnp.abs(moved) / each)) < 1e-5


def test_sampling_noise_feeds_the_residual_like_a_random_gradient():
    """Without signal along q the residual grows by the norm of the noise of the mean gradient."""
    state, b = make(), jnp.full(M, 0.2)
    grown = []
    for seed in range(20):
        key = jax.random.key(seed)
        moved = population.evolve(
            state, fixed(b), jnp.float32(0), LAW, key, 0, 1, batch=64, adversarial=False
        )
        x, y = of_a_step(key, 64)
        u = x @ weights(state).T
        gate = np.abs(u) > 0.2
        f = np.sum(np.sign(u) * np.maximum(np.abs(u) - 0.2, 0), axis=1)
        g = np.abs(y) / (1 + np.exp(y * f)) / np.abs(y).sum()
        square = np.asarray(x) ** 2 @ outside(state).T
        # What all neurons share, along c and along how often each is open, is not left behind.
        rows = np.stack([state.dense, opened_by(state, 0.2)], axis=1)
        loose = gate.T - rows @ np.linalg.lstsq(rows, gate.T, rcond=None)[0]
        expected = 0.25 * np.sum(g[:, None] ** 2 * loose.T**2 * square, axis=0)
        np.testing.assert_allclose(moved.residual, expected, rtol=1e-4)
        grown.append(np.asarray(moved.residual))
    assert np.mean(grown) > 0


def test_normals_are_normal_and_independent():
    rows, columns = 1001, 999
    drawn = np.asarray(samples.normals(jax.random.key(4), rows, columns), float)
    error = 1 / drawn.size**0.5
    for power, moment, spread in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((drawn**power).mean() - moment) < 4 * spread * error
    for limit in (0.5, 2.0, 3.0, 4.0):
        share = 2 * norm.sf(limit)
        assert abs((np.abs(drawn) > limit).mean() - share) < 4 * share**0.5 * error
    # The two of a word are half of all numbers apart.
    flat, half = drawn.ravel(), -(-drawn.size // 2)
    for lag in (1, columns, half - 1, half, half + 1):
        for power in (1, 2):
            correlation = np.corrcoef(flat[lag:] ** power, flat[:-lag] ** power)[0, 1]
            assert abs(correlation) < 4 / (drawn.size - lag) ** 0.5
    other = np.asarray(samples.normals(jax.random.key(5), rows, columns), float)
    assert abs(np.corrcoef(other.ravel(), flat)[0, 1]) < 4 * error


def test_entries_have_the_probabilities_of_the_law():
    quiet = LAW._replace(sigma_x=jnp.float32(0))
    x, y, _ = sample(jax.random.key(2), quiet, 20_000, D, M)
    size, n = np.abs(np.asarray(x)), 20_000 * D
    for value, probability in ((1.0, 1 / D), (0.5, 4 / D)):
        found = (size == value).mean()
        assert abs(found - probability) < 5 * (probability / n) ** 0.5
    assert abs(np.sign(np.asarray(x)).sum()) < 5 * (n * 5 / D) ** 0.5
    assert set(np.unique(size)) == {0.0, 0.5, 1.0}
    assert (np.asarray(y) == np.sign(np.asarray(x).sum(1))).all()


def test_weights_of_the_family_are_recovered():
    state = make()
    found = population.of_weights(np.asarray(weights(state)), followed=3)
    np.testing.assert_array_equal(found.feature, state.feature)
    np.testing.assert_allclose(found.carried, state.carried, rtol=1e-6)
    np.testing.assert_allclose(found.dense, state.dense, atol=2e-6)
    np.testing.assert_allclose(found.profile, state.profile, atol=2e-4)
    assert (np.asarray(found.residual) < 1e-4).all()


def test_the_start_keeps_every_norm():
    w = 0.01 * np.random.default_rng(0).standard_normal((M, D))
    state = population.at_start(w)
    others = D - population.FOLLOWED
    norm = jnp.sum(state.carried**2, axis=0) + others * state.dense**2 + state.residual
    np.testing.assert_allclose(norm, (w**2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(state.carried, -np.sort(-w, axis=1)[:, : len(state.carried)].T)
    assert len(population.at_start(w[:, :6]).carried) == 3


def test_what_is_not_followed_is_the_residuals_share_of_the_weights():
    state = make(residual=0.2)
    followed = float(np.sum(np.asarray(weights(state)) ** 2))
    found = float(population.unfollowed(state))
    assert found == pytest.approx(0.2 * M / (followed + 0.2 * M), rel=1e-5)
    assert float(population.unfollowed(make())) == 0


def test_the_residual_is_seen_as_an_isotropic_vector_on_the_other_coordinates():
    """Given the inputs, ⟨q, x⟩ over explicit q has the variance that the views are drawn with."""
    state, n, draws = make(residual=0.3), 16, 4000
    x = of_a_step(jax.random.key(3), n)[0]
    q = np.random.default_rng(1).standard_normal((draws, M, D)) * outside(state)
    q *= 0.3**0.5 / np.linalg.norm(q, axis=2, keepdims=True)
    spread = np.std(q @ np.asarray(x, float).T, axis=0)
    alone = state._replace(dense=jnp.zeros(M))
    ones = population._along(alone, x, jnp.ones((M, n)), jnp.zeros(M))
    np.testing.assert_allclose(ones, spread, rtol=5 / (2 * draws) ** 0.5)
    # Of all neurons together nothing is seen along c, nor along how often they are open.
    view, opened = jax.random.normal(jax.random.key(4), (M, n)), opened_by(state, 0.2)
    openness = population._openness(state, jnp.full(M, 0.2), LAW)
    np.testing.assert_allclose(openness, opened, rtol=1e-4)
    seen = population._along(state, x, view, openness)
    for row in (np.asarray(state.dense), opened):
        assert np.max(np.abs(row @ seen) / (np.abs(row) @ np.abs(seen))) < 1e-4


def test_measured_accuracies_are_those_of_the_network():
    state, b = make(), jnp.full(M, 0.2)
    found = population.measure(state, b, jnp.float32(0.2), LAW, jax.random.key(5), n=4000)
    x, y, _ = sample(jax.random.key(5), LAW, 4000, D, M)
    network = SymmetricReLU(weights(state), b)
    labelled = np.asarray(y) != 0
    for shift, name in ((0.0, "accuracy"), (0.2 / D**0.5, "dense_accuracy")):
        margin = np.asarray(y * network(x - shift * y[:, None]))
        assert float(getattr(found, name)) == pytest.approx((margin[labelled] > 0).mean(), abs=1e-3)
    for attack, radius in (("none", 0.2), ("dense", 0.2), ("fgm", 0.2), ("fgm", 0.4)):
        score = population.accuracy(
            state, b, jnp.float32(radius), LAW, jax.random.key(5), attack=attack, n=4000
        )
        moves = {
            "none": lambda _: 0.0,
            "dense": lambda r: -r / D**0.5 * y[:, None],
            "fgm": lambda r: FGM(r)(network, Batch(x=x, y=y, z=x), key=jax.random.key(0)),
        }
        margin = np.asarray(y * network(x + moves[attack](radius)))
        assert float(score) == pytest.approx((margin[labelled] > 0).mean(), abs=1e-3), attack
    assert float(found.alpha) == pytest.approx(float(np.mean(state.carried[0])), rel=1e-5)
    assert float(found.carriers) == 1.0


def test_order_parameters_are_those_that_a_network_is_measured_by():
    state = make()
    found = population.measure(state, jnp.full(M, 0.2), jnp.float32(0.2), LAW, jax.random.key(5))
    problem = SparseCoding(D, 4, 0.3, wstar=np.ones(D))
    parts = decompose(weights(state), problem)
    assert parts.carrier.all()
    # ψ is replaced by its mean over all features: within 2 % here.
    assert float(found.ratio) == pytest.approx(float(jnp.mean(parts.kappa / parts.alpha)), rel=0.02)
    square = float(jnp.mean(parts.residual_norm**2))
    assert float(found.residual) == pytest.approx(square, rel=0.02)


def test_the_profiles_unevenness_counts_as_residual():
    """One coordinate followed: all of ρ² is that of c_i (ψ − 1) and of the residual."""
    one = make(residual=0.01)._replace(dense=jnp.full(M, 0.04))
    state = one._replace(carried=one.carried[:1], feature=one.feature[:1])
    found = population.measure(state, jnp.full(M, 0.2), jnp.float32(0.2), LAW, jax.random.key(5))
    parts = decompose(weights(state), SparseCoding(D, 4, 0.3, wstar=np.ones(D)))
    square = float(jnp.mean(parts.residual_norm**2))
    assert square > 0.003
    assert float(found.residual) == pytest.approx(0.01 + square, rel=0.02)


def test_a_phase_may_be_cut_and_thresholds_follow_their_schedule():
    state, key = make(), jax.random.key(1)
    steps = Thresholds(
        jnp.array([0.0, 0.3, 0.3]), jnp.array([0.1, 0.0, 0.0]), jnp.full(M, 0.05), jnp.float32(0.25)
    )
    constants = jnp.float32(0), LAW, key
    settings = {"batch": 64, "adversarial": False}
    whole = population.evolve(state, steps, *constants, 0, 3, **settings)
    part = population.evolve(state, steps, *constants, 0, 2, **settings)
    again = population.evolve(part, steps, *constants, 2, 3, **settings)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(population.threshold(state, steps, 0), 0.15, rtol=1e-6)
    relative = np.minimum(0.3 * np.asarray(population.largest_coordinate(state)), 0.25)
    np.testing.assert_allclose(population.threshold(state, steps, 1), relative, rtol=1e-6)
    assert relative.min() < 0.25 == relative.max()
