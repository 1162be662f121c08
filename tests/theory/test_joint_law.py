"""The exact joint law of margin and energy (docs/lower-bound.md)."""

import itertools
import math

import numpy as np
import pytest

from featpur_sim.theory.joint_law import JointLaw, joint_law
from featpur_sim.theory.margin import margin_probability, tie_probability


@pytest.mark.parametrize(
    ("d", "k", "p_one"), [(4, 2, 1.0), (5, 2.5, 0.5), (3, 1, 0.0), (4, 4, 0.0)]
)
def test_joint_law_equals_enumeration(d, k, p_one):
    small = 1 / math.sqrt(k)
    levels = [(0.0, 1 - (k + p_one) / d)]
    for sign in (1, -1):
        levels += [(sign * 1.0, p_one / d / 2), (sign * small, k / d / 2)]
    expected = {}
    for outcome in itertools.product(levels, repeat=d):
        margin = abs(sum(value for value, _ in outcome))
        chance = math.prod(p for _, p in outcome)
        if margin > 1e-9 and chance > 0:
            key = (round(margin, 9), round(sum(value**2 for value, _ in outcome), 9))
            expected[key] = expected.get(key, 0.0) + chance
    law = joint_law(d, k, p_one)
    found = {}
    for margin, energy, mass in zip(law.margin, law.energy, law.mass, strict=True):
        key = (round(float(margin), 9), round(float(energy), 9))
        found[key] = found.get(key, 0.0) + float(mass)
    assert found.keys() <= expected.keys()
    for key, chance in expected.items():
        assert found.get(key, 0.0) == pytest.approx(chance, abs=1e-7)
    lost = sum(expected.values()) - float(law.mass.sum())
    assert -1e-14 <= lost <= law.missing <= 2e-7


@pytest.mark.parametrize(("d", "k"), [(64, 5), (128, 8), (256, 12), (1024, 20)])
def test_joint_law_agrees_with_the_margin_law(d, k):
    # Two independent computations: multinomial counts here, an FFT there.
    law = joint_law(d, k)
    lost = 1 - tie_probability(d, k) - float(law.mass.sum())
    assert 0 <= lost <= law.missing < 2e-7
    for threshold in (0.31, 1.13, 2.07):
        above = law.mean((law.margin > threshold).astype(float))
        assert above == pytest.approx(margin_probability(d, k, 1.0, threshold), abs=3e-7)


def test_joint_law_agrees_with_samples():
    d, k = 64, 5
    rng = np.random.default_rng(3)
    u = rng.random((40_000, d))
    size = np.where(u < 1 / d, 1.0, np.where(u < (1 + k) / d, 1 / math.sqrt(k), 0.0))
    z = size * rng.choice([-1.0, 1.0], u.shape)
    z = z[np.abs(z.sum(axis=1)) > 1e-9]
    margin = z.sum(axis=1)
    law = joint_law(d, k)
    energy = np.sum(z**2, axis=1)
    for sampled, exact in [
        (np.abs(margin), law.margin),
        (energy, law.energy),
        (np.abs(margin) * energy, law.margin * law.energy),
        (((np.abs(margin) < 1) & (energy > 2)) * 1.0, ((law.margin < 1) & (law.energy > 2)) * 1.0),
    ]:
        error = sampled.std() / math.sqrt(len(sampled))
        assert abs(sampled.mean() - law.mean(exact)) < 4 * error


def test_missing_mass_counts_against_us():
    law = JointLaw(np.array([1.0]), np.array([1.0]), np.array([0.5]), missing=0.25)
    assert law.upper_mean(np.array([0.4])) == pytest.approx((0.2 + 0.25) / 0.75)
    assert law.upper_mean(np.array([1.0])) == 1.0
