"""Polynomials and the tangent kernel that defend, and their bracket (docs/lower-bound.md)."""

import itertools
import math

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy import stats

from featpur_sim.statistics import wilson_interval
from featpur_sim.theory.class_bounds import affine_bound, convex_optimum
from featpur_sim.theory.witnesses import (
    _coordinate_minima,
    cubic_witness,
    power_sum_basis,
    separable_bounds,
    septic_witness,
    tangent_kernel_witness,
    witness_robust_accuracy,
)

LINEAR = Polynomial([0.0, 1.0])
WITNESSES = [LINEAR, cubic_witness(), septic_witness(4), septic_witness(30)]


def features(x, basis):
    """Products of power sums, shape [n, terms]."""
    return np.stack([math.prod(np.sum(x**r, axis=1) for r in term) for term in basis], axis=1)


# --- the reduction (P2) ------------------------------------------------------------------------


@pytest.mark.parametrize(("degree", "count"), [(1, 1), (2, 1), (3, 4), (4, 4), (5, 11), (7, 26)])
def test_basis_has_the_stated_size_and_is_independent(degree, count):
    basis = power_sum_basis(degree)
    assert len(set(basis)) == len(basis) == count
    assert all(sum(term) % 2 == 1 and sum(term) <= degree for term in basis)
    assert all(tuple(sorted(term, reverse=True)) == term for term in basis)
    x = np.random.default_rng(0).normal(size=(200, 8))
    columns = features(x, basis)
    scaled = columns / np.linalg.norm(columns, axis=0)
    assert np.linalg.matrix_rank(scaled, tol=1e-9) == count


@pytest.mark.parametrize("degree", [3, 5])
def test_averaging_any_polynomial_over_the_symmetries_lands_in_the_basis(degree):
    d = 3
    rng = np.random.default_rng(1)
    powers = [p for p in itertools.product(range(degree + 1), repeat=d) if sum(p) <= degree]
    weights = rng.normal(size=len(powers))

    def polynomial(x):
        return sum(c * np.prod(x**p, axis=1) for c, p in zip(weights, powers, strict=True))

    x = rng.normal(size=(100, d))
    average = np.zeros(100)
    for order in itertools.permutations(range(d)):
        average += polynomial(x[:, order]) - polynomial(-x[:, order])
    basis = features(x, power_sum_basis(degree))
    residual = average - basis @ np.linalg.lstsq(basis, average, rcond=None)[0]
    assert np.abs(average).max() > 1
    assert np.abs(residual).max() < 1e-8 * np.abs(average).max()


def test_averaging_never_raises_a_convex_robust_loss():
    # d = 2, the law listed in full, the ball replaced by a symmetric finite set of perturbations.
    angles = np.arange(8) * np.pi / 4
    ball = 0.2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    z = np.array([p for p in itertools.product([-1, -0.5, 0, 0.5, 1], repeat=2) if sum(p)])
    chance = 0.3 ** np.count_nonzero(z, axis=1)
    y = np.sign(z.sum(axis=1))
    powers = [p for p in itertools.product(range(4), repeat=2) if sum(p) <= 3]
    inputs = z[:, None, :] + ball

    def monomials(x):
        return np.stack([np.prod(x**p, axis=-1) for p in powers], axis=-1)

    def loss(values):
        return chance @ np.logaddexp(0, -y[:, None] * values).max(axis=1)

    plain = monomials(inputs)
    orbit = [s * monomials(s * inputs[..., o]) for s in (1, -1) for o in ([0, 1], [1, 0])]
    averaged = sum(orbit) / 4
    draws = np.random.default_rng(2).normal(size=(50, len(powers)))
    gains = [loss(plain @ weights) - loss(averaged @ weights) for weights in draws]
    assert min(gains) >= -1e-12 and max(gains) > 0.01


# --- the septic polynomial (P3) ----------------------------------------------------------------


@pytest.mark.parametrize("k", [1.0, 2.5, 5.0, 100.0])
def test_septic_interpolates_the_two_sizes(k):
    h, small = septic_witness(k), 1 / math.sqrt(k)
    t = np.linspace(-1.2, 1.2, 25)
    a = k + 2
    assert h(small) == pytest.approx(small, rel=1e-9)
    assert h(1.0) == pytest.approx(1.0) and h.deriv()(1.0) == pytest.approx(1.0)
    assert h.deriv()(small) == pytest.approx(3 - 4 / k + 2 / k**2)
    np.testing.assert_allclose(h(t), a * t**3 * (1 - t**2) ** 2 + 3 * t**5 - 2 * t**7, atol=1e-10)


# --- the bracket -------------------------------------------------------------------------------


@pytest.mark.parametrize("h", WITNESSES)
@pytest.mark.parametrize("price", [0.01, 1.0, 10.0, 100.0])
def test_coordinate_minima_are_sound_and_close(h, price):
    radius = 0.1
    x = np.linspace(-1.1, 1.1, 89)[:, None]
    fine = np.linspace(-radius, radius, 20_001)
    true = (h(x + fine) + price * fine**2).min(axis=1)
    value, t = _coordinate_minima(h, x, np.full((len(x), 1), price), radius, np.zeros_like(x))
    assert np.all(np.abs(t) <= radius)
    assert np.all(value[:, 0] <= true + 1e-12)
    assert np.all(value[:, 0] >= true - 1e-3)


@pytest.mark.parametrize("h", WITNESSES)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_bracket_holds_the_brute_force_minimum(h, d):
    rng = np.random.default_rng(d)
    radius = 0.25
    levels = np.array([0.0, 0.0, 0.5, -0.5, 1.0, -1.0])
    x = rng.choice(levels, size=(40, d)) + rng.normal(scale=0.05, size=(40, d))
    line = np.linspace(-radius, radius, {1: 4001, 2: 401, 3: 81}[d])
    cube = np.stack(np.meshgrid(*[line] * d), axis=-1).reshape(-1, d)
    inside = cube[np.linalg.norm(cube, axis=1) <= radius]
    directions = rng.normal(size=(4_000, d))
    sphere = radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.concatenate([inside, sphere])
    brute = np.array([h(row + points).sum(axis=1).min() for row in x])
    lower, upper = separable_bounds(h, x, radius)
    steepest = np.abs(h.deriv()(np.linspace(-1.6, 1.6, 999))).max() * math.sqrt(d)
    assert np.all(lower <= brute + 1e-12)
    # No feasible point goes below the minimum, which a grid misses by its spacing at most.
    assert np.all(upper >= brute - steepest * (line[1] - line[0]) * math.sqrt(d))
    assert np.all(lower <= upper + 1e-12)


def test_bracket_of_a_linear_function_is_exact():
    x = np.random.default_rng(0).normal(size=(20, 50))
    lower, upper = separable_bounds(LINEAR, x, 0.3)
    exact = x.sum(axis=1) - 0.3 * math.sqrt(50)
    np.testing.assert_allclose(lower, exact, atol=1e-6)
    np.testing.assert_allclose(upper, exact, atol=1e-9)


@pytest.mark.parametrize("h", [cubic_witness(), septic_witness(5)])
def test_no_independent_attack_goes_below_the_lower_bound(h):
    d, radius, n = 64, 0.3 / math.sqrt(5), 200
    rng = np.random.default_rng(9)
    u = rng.random((n, d))
    x = np.where(u < 1 / d, 1.0, np.where(u < 6 / d, 5**-0.5, 0.0)) * rng.choice([-1, 1], (n, d))
    x += rng.normal(scale=0.3 / 8, size=x.shape)
    lower, upper = separable_bounds(h, x, radius)
    assert np.all(lower <= upper)
    found = np.full(n, np.inf)
    for _ in range(4):
        delta = rng.normal(size=x.shape)
        for step in np.geomspace(1, 0.02, 60):
            gradient = h.deriv()(x + delta)
            delta = delta - step * radius * gradient / np.linalg.norm(gradient, axis=1)[:, None]
            delta *= np.minimum(1, radius / np.linalg.norm(delta, axis=1))[:, None]
            found = np.minimum(found, h(x + delta).sum(axis=1))
    assert np.all(found >= lower - 1e-12)
    # The bracket's own attack is at least as good nearly everywhere.
    assert np.mean(upper <= found + 1e-4) > 0.97


def test_linear_score_matches_the_closed_form():
    d, k, radius, n = 128, 8, 0.08, 4_000
    score = witness_robust_accuracy(LINEAR, d, k, 0.3, radius, n=n)
    low, high = wilson_interval(round(score.lower * n), n, level=0.999)
    assert score.lower == score.upper
    assert low < convex_optimum(d, k, 0.3, radius).robust_accuracy < high


def test_septic_bracket_is_narrow_and_improves_with_size_at_a_shrinking_radius():
    scores = {
        (d, k): witness_robust_accuracy(septic_witness(k), d, k, 0.3, 0.3 / k, n=800)
        for d, k in [(64, 5), (4096, 42)]
    }
    for score in scores.values():
        assert 0 < score.lower <= score.upper <= min(score.lower + 0.01, score.clean_accuracy)
    assert scores[4096, 42].lower > scores[64, 5].upper


def test_the_cubic_is_provably_above_every_affine_classifier():
    # A counterexample to the claim for degree 3, at a size where it has a margin: the lower end of
    # the bracket less its sampling error, against a bound on the whole class.
    d, k, n = 1024, 20, 2_000
    radius = 0.3 / math.sqrt(k)
    score = witness_robust_accuracy(cubic_witness(), d, k, 0.3, radius, n=n)
    assert wilson_interval(round(score.lower * n), n)[0] > affine_bound(d, k, 0.3, radius).bound


# --- the tangent kernel (N2) -------------------------------------------------------------------


def test_tangent_kernel_is_the_limit_of_finite_widths():
    d, bias, width = 6, 0.9, 400_000
    rng = np.random.default_rng(0)
    x = np.concatenate([np.eye(d)[:2], rng.normal(size=(6, d))])
    w = rng.normal(size=(width, d))
    gate = np.abs(w @ x.T) >= bias
    terms = ((w**2 - 1) @ x.T) * gate
    error = terms.std(axis=0) / math.sqrt(width)
    limit = tangent_kernel_witness(x, bias)
    assert np.all(np.abs(terms.mean(axis=0) - limit) < 4 * error)
    assert np.all(np.abs(limit[:2]) > 20 * error[:2])


def test_at_zero_bias_finite_widths_are_linear():
    # N1: every gate is open, so f(x) = ⟨Σ v_i, x⟩.
    rng = np.random.default_rng(1)
    w, v, x = rng.normal(size=(30, 5)), rng.normal(size=(30, 5)), rng.normal(size=(9, 5))
    value = np.sum((x @ v.T) * (np.abs(x @ w.T) >= 0), axis=1)
    np.testing.assert_allclose(value, x @ v.sum(axis=0), rtol=1e-12)


def test_tangent_kernel_has_the_sign_of_the_cubic():
    x = np.concatenate([np.random.default_rng(2).normal(size=(50, 7)), np.zeros((1, 7))])
    value = tangent_kernel_witness(x, 0.5)
    np.testing.assert_array_equal(np.sign(value), np.sign(np.sum(x**3, axis=1)))
    assert value[-1] == 0


def test_expectation_over_open_gates():
    # E[(g² − 1) 1{|g| ≥ β}] = 2βφ(β), the one integral that N2 needs.
    beta = 0.7
    g = np.linspace(-12, 12, 2_400_001)
    integral = np.sum((g**2 - 1) * (np.abs(g) >= beta) * stats.norm.pdf(g)) * (g[1] - g[0])
    assert integral == pytest.approx(2 * beta * stats.norm.pdf(beta), abs=1e-5)


# --- bad input ---------------------------------------------------------------------------------


def test_bad_input_is_named(unchecked):
    x = np.zeros((2, 3))
    for degree in (0, 2.5):
        with pytest.raises(ValueError, match=f"degree = {degree}"):
            power_sum_basis(degree)
    with pytest.raises(ValueError, match="k = 0.5"):
        septic_witness(0.5)
    with pytest.raises(ValueError, match="bias = 0"):
        tangent_kernel_witness(x, 0.0)
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        tangent_kernel_witness(x[0], 1.0)
    with pytest.raises(ValueError, match="zeros at the even"):
        separable_bounds(Polynomial([0, 1, 1]), x, 0.1)
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        separable_bounds(LINEAR, x[0], 0.1)
    with pytest.raises(ValueError, match="radius = -1"):
        separable_bounds(LINEAR, x, -1.0)
    with pytest.raises(ValueError, match="n = 0"):
        witness_robust_accuracy(LINEAR, 8, 2, 0.3, 0.1, n=0)
    with pytest.raises(ValueError, match="radius = 0"):
        witness_robust_accuracy(LINEAR, 8, 2, 0.3, 0.0)
