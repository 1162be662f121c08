"""Predictions in ℓ∞: by hand, against dictionaries drawn at random, and beside those in ℓ2."""

import math

import jax
import numpy as np
import pytest

from featpur_sim import SparseCoding
from featpur_sim.theory import linf
from featpur_sim.theory import predictions as ball

# Worked by hand at d = 10⁴, k = 16, ε = 0.001: √(2d/π) = 79.788, so τ = 0.079788.
VALUES = [
    (linf.dense_radius(10_000, 16, "flat"), math.sqrt(math.pi / 2) / 256),
    (linf.dense_radius(10_000, 16, "identity"), 1 / 256),
    (linf.critical_radius(10_000, 16, "flat"), math.sqrt(math.pi / 320_000)),
    (linf.critical_radius(10_000, 16, "identity"), 1 / 16),
    (linf.adversarial_dense_ratio(10_000, 16, 1e-3, "flat"), 1 / (0.0797885 * 4 * 10_000)),
    (linf.adversarial_dense_ratio(10_000, 16, 1e-3, "identity"), 0.0),
    (linf.purification_factor(10_000, 16, 1e-3), 16 * 0.0797885 * 4),
]


@pytest.mark.parametrize(("prediction", "value"), VALUES)
def test_values_by_hand(prediction, value):
    assert prediction.value == pytest.approx(value, rel=1e-6)
    assert prediction.source == "[D] §5.4" and prediction.formula and prediction.holds


def test_the_ball_and_the_box_undo_each_other():
    assert linf.effective_radius(64, linf.box_radius(64, 0.134)) == pytest.approx(0.134)
    d, k, epsilon = 4096, 20.0, 1e-3
    quotient = ball.clean_dense_ratio(d, k).value / (
        linf.adversarial_dense_ratio(d, k, epsilon, "flat").value
    )
    assert quotient == pytest.approx(linf.purification_factor(d, k, epsilon).value)
    assert linf.window(d, "flat") == ball.window(d) and linf.window(d, "identity")[0] == 1


@pytest.mark.parametrize("dictionary", ["haar", "hadamard", "dct", "identity"])
def test_a_box_is_a_ball_for_what_is_mixed(dictionary):
    """‖u‖₁/‖u‖₂ of the dense direction and of k features, over draws of signs, at d = 256."""
    d, k, rng = 256, 12, np.random.default_rng(0)
    M = SparseCoding(d=d, k=k, sigma_x=0.0, dictionary=dictionary, key=jax.random.key(1)).M
    M = np.eye(d) if M is None else np.asarray(M, float)
    rate = linf.effective_radius(d, 1.0)

    def quotient(size):
        found = []
        for _ in range(200):
            z = np.zeros(d)
            z[rng.permutation(d)[:size]] = rng.choice([-1.0, 1.0], size)
            u = M @ z
            found.append(np.abs(u).sum() / np.linalg.norm(u))
        return np.mean(found)

    if dictionary == "identity":
        assert [quotient(d), quotient(k)] == pytest.approx([math.sqrt(d), math.sqrt(k)])
    else:
        # k = 12 columns of a Hadamard matrix add to few values: 3 % off Gaussian ones.
        assert quotient(d) == pytest.approx(rate, rel=0.02)
        assert quotient(k) == pytest.approx(rate, rel=0.04)


def test_the_sign_of_the_gradient_moves_features_as_the_ball_does():
    """Mean component of −ε sign(g) along inactive features, g = Σ_active M_j + K Σ M_j."""
    d, k, K = 512, 16, 0.2
    M = np.asarray(
        SparseCoding(d=d, k=k, sigma_x=0.0, dictionary="haar", key=jax.random.key(2)).M, float
    )
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        active = rng.permutation(d)[:k]
        g = M[:, active].sum(axis=1) + K * M.sum(axis=1)
        along = M.T @ np.sign(g)
        found.append(np.delete(along, active).mean())
    predicted = linf.effective_radius(d, 1.0) * K / math.sqrt(k + 2 * K * k + K**2 * d)
    assert np.mean(found) == pytest.approx(predicted, rel=0.03)


def test_the_ceiling_is_that_of_the_ball_or_of_k_free_coordinates():
    D, k, epsilon = 64, 5.0, 0.021
    flat = linf.margin_ceiling(D, k, 1.0, epsilon, "flat").value
    assert flat == ball.margin_ceiling(D, k, 1.0, linf.effective_radius(D, epsilon)).value
    identity = linf.margin_ceiling(D, k, 1.0, epsilon, "identity").value
    assert identity > flat
    # The margin is at least 1/√k unless it vanishes; 0.021·5 is less.
    assert linf.margin_ceiling(D, 4.0, 0.0, 0.1, "identity").value == 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linf.effective_radius(0, 0.1), "d = 0"),
        (lambda: linf.effective_radius(64, 0.0), "epsilon = 0.0: must be a finite number > 0"),
        (lambda: linf.dense_radius(64, 5, "haar"), "must be one of flat, identity"),
        (lambda: linf.critical_radius(64, 65, "flat"), "k = 65"),
        (lambda: linf.margin_ceiling(64, 5, 1.0, -1.0, "flat"), "epsilon = -1.0"),
    ],
)
def test_out_of_range_is_refused(call, words, unchecked):
    with pytest.raises(ValueError, match=words):
        call()
