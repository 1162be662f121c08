"""Certificates at several radii against those at one."""

import numpy as np
import pytest

from featpur_sim.certify import Contradiction, Effort, certify, certify_radii, q1
from featpur_sim.certify import radii as radii_

GENERATOR = np.random.default_rng(3)
WEIGHTS = np.eye(8) + 0.15 * GENERATOR.normal(size=(8, 8))
POINTS = np.abs(GENERATOR.normal(size=(60, 8))) * (GENERATOR.random((60, 8)) < 0.5)
RADII = [0.1, 0.3, 0.6]
EFFORT = Effort(q1_steps=60)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_each_radius_is_certified_as_if_alone(norm):
    radii = RADII if norm == "l2" else [r / 3 for r in RADII]
    found = certify_radii(WEIGHTS, 0.2, POINTS, radii, norm=norm, effort=EFFORT)
    assert (np.diff(found.certified.astype(int), axis=0) <= 0).all()
    assert 0 < found.certified[2].sum() < found.certified[0].sum()
    for r, radius in enumerate(radii):
        alone = certify(
            WEIGHTS, 0.2, POINTS, radius, norm=norm, stages=["linear", "q1"], effort=EFFORT
        )
        assert (found.certified[r] != alone.certified).mean() <= 0.02
        assert (found.lower[r][found.certified[r]] <= alone.upper[found.certified[r]] + 1e-12).all()
        index, minimiser = found.weakest[r]
        assert np.array_equal(index, np.flatnonzero(~found.certified[r]))
        size = np.linalg.norm(minimiser, axis=1, ord=2 if norm == "l2" else np.inf)
        assert (size <= radius * (1 + 1e-6)).all()


def test_known_breaks_and_what_a_larger_radius_settled_take_no_work(monkeypatch):
    worked = []
    q1_dual = radii_.q1_dual

    def noted(part, *arguments):
        worked.append((float(part.radius[0]), len(part)))
        return q1_dual(part, *arguments)

    monkeypatch.setattr(radii_, "q1_dual", noted)
    broken = np.zeros((3, 60), bool)
    broken[2, :30] = True
    found = certify_radii(WEIGHTS, 0.2, POINTS, RADII, broken=broken, effort=EFFORT)
    assert not found.certified[2, :30].any() and np.isneginf(found.lower[2, :30]).all()
    assert found.certified[0, :30].any()
    at = {radius: sum(n for r, n in worked if r == radius) for radius in RADII}
    assert at[0.6] <= 30 and at[0.3] <= 60 - found.certified[2].sum()


def test_a_search_ends_where_its_bound_is_enough(monkeypatch):
    """It takes fewer steps, and proves no less than what was asked for."""
    steps = []
    ascend = q1._ascend

    def counted(fixed, first, last, *rest):
        steps.append(int(last) - int(first))
        return ascend(fixed, first, last, *rest)

    monkeypatch.setattr(q1, "_ascend", counted)
    short = certify_radii(WEIGHTS, 0.2, POINTS, [0.3], effort=Effort(q1_steps=300))
    assert short.certified.any() and sum(steps) <= 300
    some = certify_radii(WEIGHTS, 0.2, POINTS, [0.3], enough=0.3, effort=Effort(q1_steps=300))
    gained = (some.lower > 0.3) & (short.lower <= 0.3)
    assert gained.any() and (some.certified == short.certified).mean() > 0.95


def test_a_bound_above_what_is_reached_is_a_contradiction(monkeypatch):
    monkeypatch.setattr(
        "featpur_sim.certify.problem.lower_bound", lambda *args: np.full(len(args[2]), 99.0)
    )
    with pytest.raises(Contradiction, match="proved lower bound 99, .* reaches f = ") as caught:
        certify_radii(WEIGHTS, 0.2, POINTS, [0.3])
    assert caught.value.evidence["radius"] == 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": []}, "radii must be a non-empty array"),
        ({"radii": [0.2, 0.2]}, "radii must rise strictly"),
        ({"radii": [0.0, 0.2]}, "radii"),
        ({"broken": np.zeros((2, 60), bool)}, r"broken has shape \(2, 60\)"),
    ],
)
def test_bad_input_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        certify_radii(WEIGHTS, 0.2, POINTS, **({"radii": [0.3]} | change))
