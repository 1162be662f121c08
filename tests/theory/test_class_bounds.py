"""Class-wide bounds against their members (docs/lower-bound.md)."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from featpur_sim.theory import joint_law
from featpur_sim.theory import witnesses as witness
from featpur_sim.theory.class_bounds import (
    affine_bound,
    convex_optimum,
    gaussian_twin_bound,
    linear_bound,
    linear_linf_bound,
    linear_moment_bound,
    quadratic_bound,
)
from featpur_sim.theory.margin import tie_probability

SIZES = [(64, 5), (128, 8), (256, 12), (1024, 20)]
SIGMA = 0.3


def hidden(d, k, n, seed, p_one=1.0):
    """Labelled z and S in the gauge w* = 1; ties dropped."""
    rng = np.random.default_rng(seed)
    u = rng.random((n, d))
    size = np.where(u < p_one / d, 1.0, np.where(u < (p_one + k) / d, 1 / math.sqrt(k), 0.0))
    z = size * rng.choice([-1.0, 1.0], (n, d))
    margin = z.sum(axis=1)
    keep = np.abs(margin) > 1e-9
    return z[keep], margin[keep]


def affine_score(w, b, z, margin, d, radius):
    """Pr[robustly right] of ⟨w,x⟩ + b for each z, the noise integrated out exactly."""
    value = np.sign(margin) * (z @ w + b) / np.linalg.norm(w) - radius
    return special.ndtr(value * math.sqrt(d) / SIGMA)


def trained(z, margin, d, radius, start, intercept):
    """Ascend the robust accuracy itself, smooth thanks to the noise, by L-BFGS."""
    scale = math.sqrt(d) / SIGMA
    y = np.sign(margin)

    def loss(p):
        w, b = p[:d], p[d] * intercept
        norm = np.linalg.norm(w)
        unit = w / norm
        value = y * (z @ unit + b) - radius
        weight = np.exp(-((value * scale) ** 2) / 2) * scale / math.sqrt(2 * math.pi) * y
        gradient_unit = z.T @ weight / len(y)
        gradient = (gradient_unit - unit * (unit @ gradient_unit)) / norm
        return -special.ndtr(value * scale).mean(), -np.append(gradient, intercept * weight.mean())

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    w = found.x[:d] / np.linalg.norm(found.x[:d])
    return w, found.x[d] * intercept


def linear_members(d, seed):
    """w* itself, near it, random, sparse and one-hot weights."""
    rng = np.random.default_rng(seed)
    members = [np.ones(d), rng.normal(size=d), np.ones(d) + rng.normal(size=d)]
    for active in (1, 2, 5, d // 8, d // 2):
        members.append(np.r_[np.ones(active), np.zeros(d - active)])
        members.append(np.r_[np.ones(active), np.full(d - active, 0.1)])
    members.append(np.arange(1, d + 1) ** -1.0)
    return members


# --- linear ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "k"), SIZES[:3])
@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_no_linear_member_exceeds_its_bound(d, k, strength):
    radius = strength / math.sqrt(k)
    z, margin = hidden(d, k, 8_000, seed=d)
    fit_z, fit_margin = hidden(d, k, 4_000, seed=d + 1)
    pure = min(bound(d, k, SIGMA, radius).bound for bound in (linear_moment_bound, linear_bound))
    shifted = affine_bound(d, k, SIGMA, radius).bound
    members = linear_members(d, seed=1)
    cases = [(w, b) for w in members for b in (0.0, 0.5 * radius, radius, 2 * radius)]
    for w in members[:6]:
        for intercept in (0.0, 1.0):
            start = np.append(w / np.linalg.norm(w), 0.9 * radius)
            cases.append(trained(fit_z, fit_margin, d, radius, start, intercept))
    scores = []
    for w, b in cases:
        score = affine_score(w, b * np.linalg.norm(w), z, margin, d, radius)
        error = 4 * score.std() / math.sqrt(len(score))
        scores.append(score.mean())
        assert scores[-1] <= shifted + error
        if b == 0:
            assert scores[-1] <= pure + error
    # The search is not idle: something with an intercept reaches a constant's ½, less its noise.
    assert max(scores) > 0.47


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_the_cell_bound_covers_every_angle_and_the_maximum_is_tight(bias):
    d, k = 64, 5
    radius = 0.3 / math.sqrt(k)
    law = joint_law.joint_law(d, k)

    def objective(angle, b):
        total = 0.0
        for threshold in (radius - b, radius + b):
            mean = np.cos(angle) * law.margin / math.sqrt(d)
            rest = (law.energy - law.margin**2 / d) / (d - 1)
            variance = np.sin(angle) ** 2 * rest + SIGMA**2 / d
            gap = threshold - mean
            ratio = np.where(gap > 0, variance / (variance + gap**2), 1.0)
            total += law.mean(ratio) / 2
        return total

    shifts = np.linspace(0, 2 * radius, 21) if bias else [0.0]
    best = max(objective(t, b) for t in np.linspace(0, np.pi, 121) for b in shifts)
    bound = (affine_bound if bias else linear_bound)(d, k, SIGMA, radius).bound
    assert best <= bound <= best + (2.2e-3 if bias else 4e-4)


def test_conditional_moments_of_the_margin():
    # The step that L2 rests on: given the multiset of coordinates, T has this mean and variance.
    rng = np.random.default_rng(0)
    values = np.array([1.0, 0.5, -0.5, 0.0, 0.0])
    d, w = values.size, rng.normal(size=values.size)
    w /= np.linalg.norm(w)
    products = [w @ np.array(p) for p in itertools.permutations(values)]
    margin, energy, cosine = values.sum(), values @ values, w.sum() / math.sqrt(d)
    assert np.mean(products) == pytest.approx(cosine * margin / math.sqrt(d))
    expected = (1 - cosine**2) * (energy - margin**2 / d) / (d - 1)
    assert np.var(products) == pytest.approx(expected)


def test_a_member_above_its_bound_is_noticed():
    # Planted: a "linear" member that peeks at the label.
    d, k = 256, 12
    radius = 0.3 / math.sqrt(k)
    z, margin = hidden(d, k, 2_000, seed=0)
    score = affine_score(
        np.ones(d), 4 * radius * np.sqrt(d) * np.sign(margin), z, margin, d, radius
    )
    assert score.mean() > affine_bound(d, k, SIGMA, radius).bound + 0.05


# Recomputed values; docs/lower-bound.md prints them.
TABLE = [
    # d, k, all w, all (w, b), w* exactly, collapse of convex training
    (64, 5, 0.819, 0.819, 0.487, False),
    (128, 8, 0.764, 0.764, 0.423, True),
    (256, 12, 0.686, 0.687, 0.347, True),
    (1024, 20, 0.410, 0.561, 0.141, True),
]


@pytest.mark.parametrize(("d", "k", "pure", "shifted", "dense", "collapses"), TABLE)
def test_table_of_bounds(d, k, pure, shifted, dense, collapses):
    radius = 0.3 / math.sqrt(k)
    linear = linear_bound(d, k, SIGMA, radius).bound
    assert linear == pytest.approx(pure, abs=6e-4)
    assert affine_bound(d, k, SIGMA, radius).bound == pytest.approx(shifted, abs=2.5e-3)
    assert quadratic_bound(d, k, SIGMA, radius).bound == (1 + linear) / 2
    optimum = convex_optimum(d, k, SIGMA, radius)
    assert optimum.robust_accuracy == pytest.approx(dense, abs=6e-4)
    assert optimum.collapses is collapses
    moment = linear_moment_bound(d, k, SIGMA, radius).bound
    assert linear <= moment <= 1


def test_bounds_move_the_right_way():
    radii = [0.05, 0.1, 0.2, 0.4]
    for bound in (linear_bound, affine_bound, quadratic_bound):
        values = [bound(64, 5, SIGMA, radius).bound for radius in radii]
        assert values[0] > values[-1] + 0.1
        assert all(a >= b - 3e-3 for a, b in itertools.pairwise(values))
    assert affine_bound(64, 5, SIGMA, 5.0).bound == pytest.approx(0.5, abs=0.01)
    assert linear_bound(64, 5, SIGMA, 5.0).bound < 0.02


# --- convex surrogates (L4) --------------------------------------------------------------------


@pytest.mark.parametrize(("d", "k"), SIZES[:2])
def test_dense_direction_has_the_closed_form(d, k):
    radius = 0.3 / math.sqrt(k)
    z, margin = hidden(d, k, 60_000, seed=7)
    score = affine_score(np.ones(d), 0.0, z, margin, d, radius)
    error = score.std() / math.sqrt(len(score))
    optimum = convex_optimum(d, k, SIGMA, radius)
    assert abs(score.mean() - optimum.robust_accuracy) < 4 * error
    assert abs(np.abs(margin).mean() - optimum.mean_margin) < 4 * margin.std() / math.sqrt(len(z))


@pytest.mark.parametrize(("strength", "collapses"), [(0.15, False), (0.6, True)])
def test_robust_logistic_training_follows_the_theorem(strength, collapses):
    # A small ridge keeps the optimum bounded on the sample; it is convex and invariant too.
    d, k = 16, 3
    radius = strength / math.sqrt(k)
    z, margin = hidden(d, k, 20_000, seed=5)
    x = z + np.random.default_rng(6).normal(scale=SIGMA / math.sqrt(d), size=z.shape)
    y = np.sign(margin)
    assert convex_optimum(d, k, SIGMA, radius).collapses is collapses

    def loss(p):
        w, b = p[:d], p[d]
        norm = max(np.linalg.norm(w), 1e-12)
        pull = -special.expit(-(y * (x @ w + b) - radius * norm)) / len(y)
        value = np.logaddexp(0, -(y * (x @ w + b) - radius * norm)).mean()
        gradient = (pull * y) @ x - pull.sum() * radius * w / norm
        return value, np.append(gradient, pull @ y)

    start = np.append(np.random.default_rng(8).normal(size=d), 0.3)
    p = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    if collapses:
        assert np.linalg.norm(p[:d]) < 1e-2
    else:
        cosine = p[:d].sum() / np.linalg.norm(p[:d]) / math.sqrt(d)
        assert cosine > 0.99 and abs(p[d]) < 0.05 * np.linalg.norm(p[:d])


# --- ℓ∞ ----------------------------------------------------------------------------------------


def random_dictionary(d, seed):
    return stats.ortho_group.rvs(d, random_state=np.random.default_rng(seed))


@pytest.mark.slow
@pytest.mark.parametrize("haar", [False, True])
def test_no_linear_member_exceeds_its_linf_bound(haar):
    d, k = 64, 5
    matrix = random_dictionary(d, 1) if haar else np.eye(d)
    z, margin = hidden(d, k, 8_000, seed=2)
    x, y = z @ matrix.T, np.sign(margin)
    norm = float(np.abs(matrix.sum(axis=1)).max())
    informative = 0
    for w in [matrix @ member for member in linear_members(d, seed=3)] + linear_members(d, seed=4):
        unit = w / np.linalg.norm(w)
        density = float(np.abs(unit).sum())
        for radius in (0.02, 0.05, 0.1, 0.3):
            score = special.ndtr((y * (x @ unit) - radius * density) * math.sqrt(d) / SIGMA)
            bound = linear_linf_bound(d, k, SIGMA, radius, norm, density=max(1.0, density)).bound
            assert score.mean() <= bound + 4 * score.std() / math.sqrt(len(score))
            informative += bound < 0.5
    assert informative > 20


@pytest.mark.parametrize("density", [1.0, 4.0, 8.0])
def test_linf_bound_implies_the_unconditional_one(density):
    d, k, radius, norm = 64, 5, 0.1, 2.5
    law = joint_law.joint_law(d, k)
    floor = norm * law.mean(law.margin) / d
    moment = (2 + SIGMA**2) / d / (1 - tie_probability(d, k))
    plain = moment / (moment + density**2 * (radius - floor) ** 2)
    conditional = linear_linf_bound(d, k, SIGMA, radius, norm, density=density).bound
    assert conditional <= plain + 2e-4


# --- every classifier --------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_x", [0.0, 0.3, 1.0])
def test_gaussian_twin_ceiling_holds_and_is_attained_without_noise(sigma_x):
    d, n = 64, 400_000
    rng = np.random.default_rng(0)
    # Linear models in the direction w* see only these two coordinates.
    signal = rng.normal(scale=math.sqrt(2 / d), size=n)
    observed = signal + rng.normal(scale=sigma_x / math.sqrt(d), size=n)
    for radius in (0.05, 0.3 / math.sqrt(5)):
        ceiling = gaussian_twin_bound(d, sigma_x, radius).bound
        scores = []
        for shift in np.linspace(0, 3 * radius, 13):
            right = np.sign(signal) * (observed + shift) > radius
            scores.append(right.mean())
        error = 4 * 0.5 / math.sqrt(n)
        assert max(scores) <= ceiling + error
        if sigma_x == 0:
            assert max(scores) >= ceiling - error


def test_no_polynomial_or_threshold_beats_the_ceiling_on_the_twin():
    d, k = 64, 5
    radius = 0.3 / math.sqrt(k)
    rng = np.random.default_rng(4)
    z = rng.normal(scale=math.sqrt(2 / d), size=(4_000, d))
    x = (z + rng.normal(scale=SIGMA / math.sqrt(d), size=z.shape)) * np.sign(z.sum(1))[:, None]
    ceiling = gaussian_twin_bound(d, SIGMA, radius).bound
    for h in (witness.cubic_witness(), witness.septic_witness(k)):
        _, upper = witness.separable_bounds(h, x, radius)
        assert np.mean(upper > 0) < ceiling


# --- the result type and bad input -------------------------------------------------------------


def test_bound_is_frozen_and_labelled():
    found = linear_bound(64, 5, 0.3, 0.1)
    assert (found.kind, found.d, found.k, found.sigma_x, found.radius) == (
        "proved",
        64,
        5,
        0.3,
        0.1,
    )
    assert found.source.startswith("[D] §6") and found.formula and found.model_class
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.bound = 0.0  # pyright: ignore[reportAttributeAccessIssue]


EVERY = [linear_moment_bound, linear_bound, affine_bound, quadratic_bound, convex_optimum]


@pytest.mark.parametrize("bound", EVERY)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius = 0.0"),
        ({"radius": math.inf}, "radius = inf"),
        ({"sigma_x": -0.1}, "sigma_x = -0.1"),
        ({"k": 0.5}, "k = 0.5"),
        ({"k": 64.0}, r"k \+ p_one = 65"),
        ({"d": 0}, "d = 0|D = 0"),
        ({"p_one": -1.0}, "p_one = -1"),
    ],
)
def test_bad_input_is_named(bound, change, message, unchecked):
    arguments = {"d": 64, "k": 5.0, "sigma_x": 0.3, "radius": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        bound(**arguments)


def test_bad_input_of_the_other_bounds(unchecked):
    with pytest.raises(ValueError, match="d = 1: must be at least 2"):
        linear_bound(1, 1, 0.3, 0.1, p_one=0.0)
    with pytest.raises(ValueError, match="dictionary_norm = 0.5"):
        linear_linf_bound(64, 5, 0.3, 0.1, 0.5)
    with pytest.raises(ValueError, match="density = 9"):
        linear_linf_bound(64, 5, 0.3, 0.1, 1.0, density=9.0)
    with pytest.raises(ValueError, match="d = 2.5"):
        gaussian_twin_bound(2.5, 0.3, 0.1)
    with pytest.raises(ValueError, match="p_one = -1"):
        gaussian_twin_bound(64, 0.3, 0.1, p_one=-1.0)
