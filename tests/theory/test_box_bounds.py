"""Class-wide bounds in ℓ∞ where M = I, against their members (lower-bound-proofs.md, L5, P1)."""

import itertools
import math

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy import optimize, special

from featpur_sim.theory import box_bounds
from featpur_sim.theory.box_bounds import linear_box_bound, odd_part_bound
from featpur_sim.theory.class_bounds import linear_linf_bound
from featpur_sim.theory.pure_network import labelled_sample
from featpur_sim.theory.witnesses import cubic_witness, septic_witness, witness_box_accuracy

SIGMA = 0.3
# Where the bound says something: d, k, ε.
PLACES = [(64, 5, 0.084), (100, 5, 0.063), (128, 5, 0.042)]


def hidden(d, k, n, seed):
    """Labelled y·z in the gauge w* = 1, and its margin |S|."""
    x = labelled_sample(d, k, 0.0, 1.0, n, seed)
    return x, x.sum(axis=1)


def scores(w, z, radius, b=0.0, y=1.0):
    """Pr[robustly right] of ⟨w,x⟩ + b for each y·z, the noise integrated out exactly."""
    value = z @ w + y * b - radius * np.abs(w).sum()
    return special.ndtr(value * math.sqrt(z.shape[1]) / (SIGMA * np.linalg.norm(w)))


def ascended(w, z, radius):
    """Ascend the robust accuracy itself, smooth thanks to the noise, by L-BFGS."""
    scale = math.sqrt(z.shape[1]) / SIGMA

    def loss(w):
        norm = np.linalg.norm(w)
        margin = z @ w - radius * np.abs(w).sum()
        at = margin * scale / norm
        density = np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi) * scale / norm
        slope = density @ (z - radius * np.sign(w)) - (density @ margin) * w / norm**2
        return -special.ndtr(at).mean(), -slope / len(z)

    return optimize.minimize(loss, w, jac=True, method="L-BFGS-B", options={"maxiter": 40}).x


def starts(d, seed):
    rng = np.random.default_rng(seed)
    equal = [np.r_[np.ones(n), np.full(d - n, 1e-3)] for n in (1, 2, 4, 8, 16, 32)]
    uneven = [np.r_[np.full(n, 3.0), np.full(3 * n, 1.0), np.zeros(d - 4 * n)] for n in (1, 3, 6)]
    return [*equal, *uneven, np.ones(d), rng.normal(size=d), np.arange(1, d + 1) ** -1.0]


@pytest.mark.parametrize(("d", "k", "radius"), PLACES)
def test_no_linear_member_exceeds_its_bound(d, k, radius):
    z, _ = hidden(d, k, 20_000, seed=1)
    fit, _ = hidden(d, k, 2_000, seed=2)
    bound = linear_box_bound(d, k, SIGMA, radius).bound
    assert bound < 0.5
    members = starts(d, seed=3)
    members += [ascended(w, fit, radius) for w in members]
    found = [scores(w, z, radius) for w in members]
    for score in found:
        assert score.mean() <= bound + 4 * score.std() / math.sqrt(len(score))
    # The search is not idle: some member gets the points on which its few features are active.
    assert max(score.mean() for score in found) > bound / 3


def success(w, n, theta, radius, z, noise):
    """Ψ of the proof, point by point, from z and ξ instead of the laws of sums."""
    w = np.sort(np.abs(w))[::-1] / np.abs(w).sum()
    y = np.sign(np.round(z.sum(axis=1), 9))
    active = np.count_nonzero(z[:, :n], axis=1)
    stray = y * (z[:, n:] @ w[n:] + noise @ w)
    hinge = np.maximum(stray - theta, 0) / (radius - theta)
    agrees = y * z[:, :n].sum(axis=1) > 0
    value = np.where(active == 0, hinge, np.where((active > 1) | agrees, 1.0, hinge))
    return np.where((y != 0) | (active > 1), value, 0.0), (y * (z @ w + noise @ w) > radius) & (
        y != 0
    )


def drawn(d, k, n, seed):
    """z and ξ, ties and all."""
    rng = np.random.default_rng(seed)
    u = rng.random((n, d))
    size = np.where(u < 1 / d, 1.0, np.where(u < (1 + k) / d, 1 / math.sqrt(k), 0.0))
    return size * rng.choice([-1.0, 1.0], (n, d)), rng.normal(0, SIGMA / math.sqrt(d), (n, d))


@pytest.mark.parametrize(
    ("m", "n", "share"), [(1, 0, 0.0), (3, 4, 0.5), (15, 6, 0.4), (64, 8, 0.2)]
)
def test_the_mean_of_psi_is_that_of_samples(m, n, share):
    d, k, radius = 64, 5, 0.06
    z, noise = drawn(d, k, 60_000, seed=m)
    value, _ = success(np.r_[np.ones(m), np.zeros(d - m)], n, share * radius, radius, z, noise)
    exact = box_bounds._share(box_bounds._Sums(d, k, 1.0), n, share * radius, m, SIGMA, radius)
    assert abs(value.mean() - exact) < 4 * value.std() / math.sqrt(len(value))


@pytest.mark.parametrize(("n", "share"), [(0, 0.0), (2, 0.5), (6, 0.4)])
def test_psi_is_above_success_and_worst_at_equal_weights(n, share):
    """Steps 2 and 3: point by point, and over sorted weights of every shape."""
    d, k, radius = 32, 4, 0.1
    z, noise = drawn(d, k, 20_000, seed=1)
    rng = np.random.default_rng(2)
    equal = [np.r_[np.ones(m), np.zeros(d - m)] for m in range(1, d + 1)]
    others = [rng.random(d) ** rng.uniform(0.1, 8) for _ in range(30)]
    most = max(success(w, n, share * radius, radius, z, noise)[0].mean() for w in equal)
    for w in others:
        above, succeeded = success(w, n, share * radius, radius, z, noise)
        assert np.all(above >= succeeded)
        # Exact for the empirical law too, up to the exchange of coordinates.
        assert above.mean() <= most + 4 * above.std() / math.sqrt(len(above))


def test_a_sign_against_the_label_never_helps():
    """Step 1, on the points of one law: every sign of a weight, by brute force."""
    d, k, radius = 6, 2, 0.2
    z, noise = drawn(d, k, 30_000, seed=3)
    y = np.sign(np.round(z.sum(axis=1), 9))
    sizes = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    kept = {
        signs: np.mean(y * ((z + noise) @ (sizes * signs)) > radius)
        for signs in itertools.product([1.0, -1.0], repeat=d)
    }
    assert max(kept, key=kept.get) == (1.0,) * d


def test_no_quadratic_exceeds_its_bound():
    """Symmetric quadratics at d = 10 on all corners of the box, which can only flatter them."""
    d, k, radius, n = 10, 2, 0.3, 600
    linear = linear_box_bound(d, k, SIGMA, radius)
    bound = odd_part_bound(linear, "quadratic").bound
    assert linear.bound < 0.9
    x = labelled_sample(d, k, SIGMA, 1.0, n, seed=5)
    rng = np.random.default_rng(6)
    y = rng.choice([-1.0, 1.0], n)
    corners = radius * np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    sums = y[:, None] * x.sum(axis=1)[:, None] + corners.sum(axis=1)
    squares = (x**2).sum(axis=1)[:, None] + 2 * (y[:, None] * x) @ corners.T + d * radius**2
    best = 0.0
    for a in rng.normal(size=(150, 4)):
        value = y[:, None] * (a[0] + a[1] * sums + a[2] * sums**2 + a[3] * squares)
        best = max(best, float((value.min(axis=1) > 0).mean()))
    assert best <= bound + 4 * 0.5 / math.sqrt(n)
    assert best > 0.4  # a constant has ½


def test_no_affine_member_exceeds_the_bound_of_odd_parts():
    d, k, radius = PLACES[1]
    z, _ = hidden(d, k, 10_000, seed=7)
    bound = odd_part_bound(linear_box_bound(d, k, SIGMA, radius), "linear with intercept").bound
    found = []
    for w in starts(d, seed=8):
        for shift in (0.5, 1.0, 1.5):
            b = shift * radius * np.abs(w).sum()
            both = (scores(w, z, radius, b) + scores(w, z, radius, b, y=-1.0)) / 2
            assert both.mean() <= bound + 4 * both.std() / math.sqrt(len(both))
            found.append(both.mean())
    assert max(found) >= 0.5


def test_a_member_above_its_bound_is_noticed():
    # Planted: a "linear" member whose features are three times as large.
    d, k, radius = PLACES[1]
    z, _ = hidden(d, k, 20_000, seed=9)
    score = scores(np.r_[np.ones(20), np.zeros(d - 20)], 3 * z, radius)
    assert score.mean() > linear_box_bound(d, k, SIGMA, radius).bound + 0.05


def test_the_smaller_of_two_bounds():
    # At small ε the angle is the better one.
    for radius, better in ((0.005, "angle"), (0.063, "head")):
        found = linear_box_bound(100, 5, SIGMA, radius)
        angle = linear_linf_bound(100, 5, SIGMA, radius, 1.0)
        assert (found.bound == angle.bound) is (better == "angle")
        assert found.bound <= angle.bound and ("Ψ" in found.formula) is (better == "head")
        assert 0 < found.bound <= 1 and found.kind == "proved"


def test_it_falls_inside_the_window():
    # k = d^0.4 and ε = 0.3/k, which pure networks withstand.
    values = [linear_box_bound(d, d**0.4, SIGMA, 0.3 / d**0.4).bound for d in (48, 128, 384)]
    assert values[0] > values[1] > values[2] and values[2] < 0.6


def test_the_cubic_in_a_box():
    d, k, radius = 8, 2, 0.1
    x = labelled_sample(d, k, SIGMA, 1.0, 300, seed=3)
    corners = radius * np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    worst = np.min([((x + c) ** 3).sum(axis=1) for c in corners], axis=0)
    found = witness_box_accuracy(cubic_witness(), d, k, SIGMA, radius, n=300, seed=3)
    assert found == np.mean(worst > 0) and 0.3 < found < 0.9
    with pytest.raises(ValueError, match="must all be ≥ 0"):
        witness_box_accuracy(septic_witness(5), d, k, SIGMA, radius)
    with pytest.raises(ValueError, match="zeros at the even powers"):
        witness_box_accuracy(Polynomial([0, 0, 1]), d, k, SIGMA, radius)
    with pytest.raises(ValueError, match="radius = 0"):
        witness_box_accuracy(cubic_witness(), d, k, SIGMA, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius = 0.0"),
        ({"sigma_x": -0.1}, "sigma_x = -0.1"),
        ({"k": 0.5}, "k = 0.5"),
        ({"d": 1}, "d = 1: must be at least 2"),
        ({"p_one": -1.0}, "p_one = -1"),
    ],
)
def test_bad_input_is_named(change, message, unchecked):
    arguments = {"d": 64, "k": 5.0, "sigma_x": 0.3, "radius": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        linear_box_bound(**arguments)
