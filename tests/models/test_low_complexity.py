"""The competitors of §6: each model against its definition, its training against its bound."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import FGM, PGD, SparseCoding, SymmetricReLU
from featpur_sim.attacks.accuracy import robust_accuracy
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.full_polynomial import FullPolynomial
from featpur_sim.models.linear import LinearClassifier, train_linear
from featpur_sim.models.losses import logistic_loss
from featpur_sim.models.polynomial import PolynomialClassifier, symmetric_terms
from featpur_sim.models.tangent_kernel import NTKClassifier, gate_bias, random_gates
from featpur_sim.models.tangent_kernel_limit import NTKLimit, limit_kernel
from featpur_sim.theory.class_bounds import affine_bound, convex_optimum, linear_bound
from featpur_sim.theory.witnesses import tangent_kernel_witness
from featpur_sim.training.competitors import AFFINE, LINEAR, Adversary, competitors
from featpur_sim.training.low_complexity import best_member, fit

D, K, SIGMA = 64, 5, 0.3
TAU = 0.3 / math.sqrt(K)


@pytest.fixture(scope="module")
def sparse():
    return SparseCoding(D, K, SIGMA, key=jax.random.key(0))


@pytest.fixture(scope="module")
def points(sparse):
    return sparse.sample_labelled(jax.random.key(7), 50)


def ntk(sparse, width=2, seed=3):
    gates = random_gates(D, width * D, key=jax.random.key(seed))
    return NTKClassifier(jax.random.normal(jax.random.key(4), gates.shape), gates, gate_bias(D, K))


def test_linear_worst_margin_is_what_fgm_attains(sparse, points):
    weight = jax.random.normal(jax.random.key(1), (D,))
    model = LinearClassifier(weight, 0.3)
    for norm in ("l2", "linf"):
        delta = FGM(0.2, norm)(model, points, key=jax.random.key(0))
        attained = points.y * model(points.x + delta)
        claimed = model.worst_margin(points.x, points.y, jnp.float32(0.2), norm)
        np.testing.assert_allclose(attained, claimed, rtol=1e-4, atol=1e-4)


def test_linear_training_beats_the_convex_optimum_only_with_an_intercept(sparse):
    key = jax.random.key(2)
    score = {}
    for intercept in (False, True):
        model = train_linear(sparse, TAU, intercept=intercept, key=key)
        score[intercept] = robust_accuracy(model, sparse, FGM(TAU), key=key, n=20_000).value
    best = convex_optimum(D, K, SIGMA, TAU).robust_accuracy
    assert abs(score[False] - best) < 0.02
    assert score[True] > best + 0.03
    assert score[True] < affine_bound(D, K, SIGMA, TAU).bound
    assert score[False] < linear_bound(D, K, SIGMA, TAU).bound


def test_linear_training_leaves_its_start_where_another_direction_is_better():
    """In ℓ∞ a weight on few coordinates has the smaller dual norm: Mw* is the worst start."""
    problem = SparseCoding(16, 3, 0.3, wstar=(0.2, 1.0), key=jax.random.key(1))
    key = jax.random.key(3)
    trained = train_linear(problem, 0.1, norm="linf", key=key)
    scores = [
        robust_accuracy(model, problem, FGM(0.1, "linf"), key=key, n=20_000).value
        for model in (LinearClassifier(problem.dense_direction()), trained)
    ]
    assert scores[1] > scores[0] + 0.02


@pytest.mark.parametrize("degree", [2, 3, 5, 7])
def test_polynomials_equal_their_monomials(sparse, degree):
    terms = symmetric_terms(degree)
    model = PolynomialClassifier.start(
        sparse, degree, dict.fromkeys(terms, 1.0), key=jax.random.key(0)
    )
    model = eqx.tree_at(lambda m: m.coefficients, model, model.units)
    x = np.asarray(sparse.sample(jax.random.key(5), 20).x, float)
    u = x * np.asarray(sparse.wstar)
    expected = sum(np.prod([np.sum(u**r, 1) for r in term], axis=0) for term in terms)
    np.testing.assert_allclose(model(jnp.asarray(x, jnp.float32)), expected, rtol=2e-3, atol=2e-3)


def test_even_families_hold_every_symmetric_monomial():
    assert [len(symmetric_terms(q)) for q in (1, 3, 5, 7)] == [1, 4, 11, 26]
    # Partitions of 0, 1, 2, 3, 4 number 1, 1, 2, 3, 5.
    assert len(symmetric_terms(2)) == 4 and len(symmetric_terms(4)) == 12


def test_polynomials_refuse_other_data():
    problem = SparseCoding(8, 3, 0.3, wstar=(0.5, 1.0))
    with pytest.raises(ValueError, match="w\\* ∈ {±1}"):
        PolynomialClassifier.start(problem, 3, {(3,): 1.0}, key=jax.random.key(0))
    with pytest.raises(ValueError, match="weights name"):
        PolynomialClassifier.start(SparseCoding(8, 3, 0.3), 3, {(2,): 1.0}, key=jax.random.key(0))


def test_tangent_features_are_the_networks_jvp():
    """Against autodiff: the change of the network at its start, to first order in v."""
    d, m, bias = 8, 24, 0.7
    keys = jax.random.split(jax.random.key(0), 3)
    gates, v, x = (
        jax.random.normal(k, s) for k, s in zip(keys, [(m, d), (m, d), (40, d)], strict=True)
    )
    _, change = jax.jvp(lambda w: SymmetricReLU(w, bias)(x), (gates,), (v,))
    model = NTKClassifier(v, gates, bias)
    assert 0.2 < float(model.open_gates(x).mean()) < 0.95
    np.testing.assert_allclose(model(x), change, rtol=1e-4, atol=1e-4)


def test_limit_kernel_is_the_limit_of_the_networks_kernel():
    d, m, bias = 6, 200_000, 0.9
    x = np.asarray(jax.random.normal(jax.random.key(0), (4, d)), float)
    gates = random_gates(d, m, key=jax.random.key(1))
    feature = jax.vmap(jax.grad(lambda w, x: SymmetricReLU(w, bias)(x[None])[0]), (None, 0))
    for one, other in itertools.combinations_with_replacement(range(4), 2):
        parts = [np.asarray(feature(gates, jnp.asarray(x[[i]], jnp.float32))) for i in (one, other)]
        products = np.sum(parts[0][0] * parts[1][0], axis=1, dtype=float)
        error = products.std() / math.sqrt(m)
        assert abs(products.mean() - limit_kernel(x[one], x[other], bias)) < 4 * error + 1e-6
        wrong = limit_kernel(x[one], x[other], bias + 0.1)
        assert abs(products.mean() - wrong) > 4 * error


def test_smoothed_gates_are_the_expectation(sparse, points):
    model = ntk(sparse)
    width = 0.15
    smooth = model.smoothed(jnp.float32(width))
    x = points.x[:4]
    noise = width * jax.random.normal(jax.random.key(8), (40_000, 1, D))
    draws = np.asarray(jax.lax.map(lambda g: model(x + g), noise))
    error = draws.std(0) / math.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(0) - np.asarray(smooth(x))) < 4.5 * error)
    assert np.any(np.abs(np.asarray(model(x)) - np.asarray(smooth(x))) > 10 * error)


def test_smoothed_gradient_is_the_derivative_of_the_value(sparse, points):
    class Value(Classifier):
        inner: Classifier

        def __call__(self, x, *, key=None):
            return self.inner(x)

        def value_and_input_gradient(self, x, *, key=None):
            return autodiff_input_gradient(self.inner, x)

    smooth = ntk(sparse).smoothed(jnp.float32(0.1))
    value, gradient = smooth.value_and_input_gradient(points.x)
    expected = Value(smooth).value_and_input_gradient(points.x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-3, atol=2e-2)


def test_smoothing_of_width_zero_is_the_model(sparse, points):
    model = ntk(sparse)
    for got, want in zip(
        model.smoothed(jnp.float32(0)).value_and_input_gradient(points.x),
        model.value_and_input_gradient(points.x),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_smoothed_attacks_see_what_plain_ones_miss(sparse):
    """§6: the gates jump, so descents along the plain gradient are far too weak."""
    model = NTKClassifier.witness(
        sparse, random_gates(D, 4 * D, key=jax.random.key(1)), gate_bias(D, K)
    )
    key = jax.random.key(2)
    plain, smooth = (
        robust_accuracy(model, sparse, PGD(TAU, steps=30, smoothing=s), key=key, n=2000).value
        for s in (0.0, 0.8)
    )
    assert smooth < plain - 0.1


def test_limit_family_against_random_gates():
    """Every member is the mean over gates of its v: the formulas of the module's heading."""
    u = np.array([[1.2, 0.3, -0.5], [0.7, -0.9, 0.1], [2.0, 0.1, 0.1]])
    bias, d, rounds, m = 0.8, 3, 40, 20_000
    limit = NTKLimit(jnp.ones(6), jnp.ones(6), jnp.ones(d), jnp.float32(bias))
    expected = np.asarray(limit.features(jnp.asarray(u, jnp.float32)), float)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(rounds):
        w = rng.standard_normal((m, d))
        gate = np.abs(w @ u.T) >= bias
        members = [w**0, w**2 - 1, w**4 - 6 * w**2 + 3, w**6 - 15 * w**4 + 45 * w**2 - 15]
        members.append((w.sum(1, keepdims=True) ** 2 / d - 1) * np.ones(d))
        members.append((np.sum(w**2, 1, keepdims=True) - d) * np.ones(d))
        means.append(np.stack([np.mean(gate * (v @ u.T), 0) for v in members], -1))
    mean, error = np.mean(means, 0), np.std(means, 0) / math.sqrt(rounds)
    assert np.all(np.abs(mean - expected) < 5 * error)
    # A tenth off would show in every member.
    assert np.all(np.any(np.abs(mean - 0.9 * expected) > 5 * error, axis=0))


def test_limit_witness_has_the_sign_of_the_cubic(sparse, points):
    limit = NTKLimit.witness(sparse, gate_bias(D, K), key=jax.random.key(0))
    u = np.asarray(points.x * sparse.wstar, float)
    expected = tangent_kernel_witness(u, gate_bias(D, K))
    ratio = np.asarray(limit(points.x)) / expected
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)
    assert np.all(np.sign(limit(points.x)) == np.sign(np.sum(u**3, 1)))


def test_fit_trains_what_it_is_told_to(sparse):
    model = ntk(sparse)
    trained = fit(model, lambda m: m.v, sparse, None, key=jax.random.key(0), steps=30, batch=128)
    assert np.array_equal(trained.gates, model.gates) and trained.bias == model.bias
    assert not np.array_equal(trained.v, model.v)


def test_adversarial_fit_raises_robust_accuracy(sparse):
    key, attack = jax.random.key(0), PGD(TAU, steps=5, step_size=0.7)
    start = PolynomialClassifier.start(sparse, 5, {(3,): 1.0}, key=key)
    clean, robust = (
        fit(start, lambda m: m.coefficients, sparse, a, key=key, steps=200) for a in (None, attack)
    )
    scores = [
        robust_accuracy(model, sparse, PGD(TAU), key=jax.random.key(1), n=4000).value
        for model in (start, clean, robust)
    ]
    assert scores[2] > scores[0] + 0.02 and scores[2] > scores[1] + 0.02
    name, _ = best_member({"start": start, "robust": robust}, sparse, attack, key=key)
    assert name == "robust"


def test_fit_refuses_nonsense(sparse, unchecked):
    with pytest.raises(ValueError, match="surrogate must be"):
        fit(ntk(sparse), lambda m: m.v, sparse, None, key=jax.random.key(0), surrogate="hinge")
    with pytest.raises(ValueError, match="steps must be an integer ≥ 1"):
        fit(ntk(sparse), lambda m: m.v, sparse, None, key=jax.random.key(0), steps=0)
    with pytest.raises(ValueError, match="radius must be > 0"):
        train_linear(sparse, 0.0, key=jax.random.key(0))


def test_full_polynomials_hold_every_monomial():
    """Against explicit loops over the monomials of degree ≤ 3 in two variables."""
    tensor = np.random.default_rng(0).normal(size=(3, 3, 3))
    x = np.random.default_rng(1).normal(size=(7, 2))
    padded = np.concatenate([np.ones((7, 1)), x], 1)
    expected = sum(
        tensor[index] * np.prod(padded[:, index], axis=1)
        for index in itertools.product(range(3), repeat=3)
    )
    model = FullPolynomial(jnp.asarray(tensor, jnp.float32))
    np.testing.assert_allclose(model(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("degree", [2, 3])
def test_the_full_basis_embeds_the_reduced_one(degree):
    problem = SparseCoding(5, 3, 0.3, key=jax.random.key(1))
    weights = {t: 0.3 + i for i, t in enumerate(symmetric_terms(degree))}
    reduced = PolynomialClassifier.start(problem, degree, weights, key=jax.random.key(0))
    x = problem.sample(jax.random.key(2), 50).x
    full = FullPolynomial.embed(reduced, degree)
    np.testing.assert_allclose(full(x), reduced(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_full_basis_does_not_beat_the_reduced_family():
    """P2: no descent in all monomials starts from the best odd symmetric polynomial.

    The same descent from a symmetric polynomial that is not the best one does find a lower loss.
    """
    problem = SparseCoding(6, 3, 0.3, key=jax.random.key(0))
    radius, key = 0.17, jax.random.key(1)
    attack, judge = PGD(radius, steps=7, step_size=0.7), PGD(radius, steps=30, step_size=0.3)
    points = problem.sample_labelled(jax.random.key(2), 4000)

    def loss(model):
        delta = judge(model, points, key=key)
        return float(jnp.mean(logistic_loss(points.y * model(points.x + delta))))

    start = PolynomialClassifier.start(problem, 3, {(3,): 1.0}, key=key)
    best = fit(start, lambda m: m.coefficients, problem, attack, key=key, steps=1500,
               learning_rate=0.1)  # fmt: skip
    gained = []
    for reduced in (start, best):
        first = FullPolynomial.embed(reduced, 3)
        after = fit(first, lambda m: m.tensor, problem, attack, key=key, steps=150, batch=256,
                    learning_rate=0.002)  # fmt: skip
        gained.append(loss(first) - loss(after))
    assert gained[0] > 0.1
    assert gained[1] < 0.001


@pytest.mark.parametrize("scale", [2.0**-80, 2.0**80])
def test_norms_of_competitors_neither_overflow_nor_underflow(scale):
    """w* of any size names the same labels, and smoothing a gate follows its weights."""
    problem = SparseCoding(8, 2, 0.3)
    other = SparseCoding(8, 2, 0.3, wstar=scale * problem.wstar)
    weights = [
        train_linear(p, 0.1, key=jax.random.key(1), steps=4, batch=16).weight
        for p in (problem, other)
    ]
    np.testing.assert_allclose(*weights, rtol=1e-5)
    gates = random_gates(8, 16, key=jax.random.key(2))
    x = problem.sample(jax.random.key(3), 16).x
    large = 2.0**80  # the width of the smoothing has a floor
    values = [NTKClassifier(gates / s, gates * s, s).smoothed(0.3)(x) * s for s in (1.0, large)]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)


# --- in a box ----------------------------------------------------------------------------------


def test_competitors_of_a_box_are_trained_in_it():
    sparse = SparseCoding(16, 3, SIGMA, key=jax.random.key(0))
    names = [c.model_class for c in competitors(sparse, 0.05, norm="linf")]
    assert names == [c.model_class for c in competitors(sparse, 0.05)] and len(names) == 13
    linear, affine = competitors(sparse, 0.05, norm="linf", steps=10)[:2]
    key = jax.random.key(1)
    for competitor, intercept in ((linear, False), (affine, True)):
        own = train_linear(sparse, 0.05, norm="linf", intercept=intercept, key=key, steps=20)
        assert jnp.array_equal(competitor.train(key).weight, own.weight)
    against = Adversary(0.05, "linf")
    found = against.pgd(5)(linear.train(key), sparse.sample_labelled(key, 20), key=key)
    assert jnp.allclose(jnp.abs(found), 0.05)
    # What ε takes off y⟨w*,x⟩.
    assert against.gain(16) == pytest.approx(0.05 * float(jnp.abs(sparse.wstar).sum()))
    assert Adversary(0.05, "l2").gain(16) == pytest.approx(0.05 * 4)


def test_in_other_dictionaries_only_linear_classes_are_defined_in_a_box():
    haar = SparseCoding(16, 3, SIGMA, dictionary="haar", key=jax.random.key(0))
    assert [c.model_class for c in competitors(haar, 0.05, norm="linf")] == [LINEAR, AFFINE]
