"""Both sides at several radii: each point decided once, and as one radius at a time decides it."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from featpur_sim._ground.norms import Norm
from featpur_sim.attacks.protocol import QUICK, Protocol, Stage
from featpur_sim.certify import Effort
from featpur_sim.measure import curve
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.measure.curve import prove_radii, rounding_room, squeeze_radii

KEY = jax.random.key(70)
RADII = [0.03, 0.07, 0.12]
OPTIONS: dict[str, Any] = {"key": KEY, "protocol": QUICK, "effort": Effort(q1_steps=100)}


@pytest.fixture(scope="module")
def points(problem):
    return problem.sample_labelled(jax.random.key(71), 100)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_radii_share_their_work_and_agree(mixed_network, points, norm: Norm):
    radii = RADII if norm == "l2" else [r / 4 for r in RADII]
    certified, standing = squeeze_radii(mixed_network, points, radii, norm, **OPTIONS)
    assert certified.shape == standing.shape == (3, 100)
    assert np.all(np.diff(certified.astype(int), axis=0) <= 0)
    assert np.all(np.diff(standing.astype(int), axis=0) <= 0)
    assert np.all(certified <= standing) and certified[0].sum() > certified[2].sum()
    for r, radius in enumerate(radii):
        alone = squeeze(mixed_network, points, radius, norm, stages=("linear", "q1"), **OPTIONS)
        # What one search proves, the other may miss, but neither may contradict the other.
        assert np.all(certified[r] <= alone.standing) and np.all(alone.certified <= standing[r])
        assert np.mean(certified[r] != alone.certified) <= 0.03


def test_one_decomposition_of_the_network_serves_all_radii(mixed_network, points, monkeypatch):
    calls, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (calls.append(1), eigh(matrix))[1])
    certified, _ = squeeze_radii(mixed_network, points, RADII, **OPTIONS)
    assert 0 < certified[2].sum() < 100 and len(calls) == 1


def test_a_decided_point_is_not_worked_on_again(mixed_network, points, monkeypatch):
    """No certificate for what one step breaks, no search for what is certified."""
    proved, attacked = [], []
    prove, attack = curve.prove_radii, curve.RisingAttack.attack

    def noted(*arguments, broken, effort):
        proof = prove(*arguments, broken=broken, effort=effort)
        proved.append((broken.copy(), proof.certificate.certified))
        return proof

    def searched(self, protocol, open_, starts=None):
        attacked.append((len(protocol.stages), open_.copy()))
        attack(self, protocol, open_, starts)

    monkeypatch.setattr(curve, "prove_radii", noted)
    monkeypatch.setattr(curve.RisingAttack, "attack", searched)
    squeeze_radii(mixed_network, points, RADII, **OPTIONS)
    ((broken, certified),) = proved
    assert broken.any() and not (certified & broken).any()
    (first, _), (whole, open_) = attacked
    assert first == 2 < whole and not (open_ & certified).any()
    assert 0 < (open_ & ~broken).sum() < 30


def test_what_a_smaller_radius_breaks_stays_broken(mixed_network, points):
    class Forgetful(Protocol):
        """Searches at small radii only; at others it tries δ = 0."""

        def __call__(self, model, batch, radius, norm: Norm = "l2", **options):
            found = QUICK(model, batch, radius, norm, **options)
            if radius < 0.1:
                return found
            return replace(found, delta=np.zeros_like(found.delta))

    protocol = Forgetful("f", "1", (Stage("PGD", step_size=1.0),))
    none = Effort(q1_steps=0)
    _, standing = squeeze_radii(
        mixed_network, points, [0.08, 0.1], key=KEY, protocol=protocol, effort=none
    )
    u = np.asarray(points.x, np.float64) @ np.asarray(mixed_network.weights, np.float64).T
    f = (np.sign(u) * np.maximum(np.abs(u) - float(mixed_network.bias), 0)).sum(-1)
    clean = np.asarray(points.y) * f > 0
    assert standing[0].sum() < clean.sum() and np.array_equal(standing[1], standing[0])


def test_what_withstands_does_so_in_float32_too(mixed_network, points):
    """Bounds are above the room for rounding, and some certified points are not."""
    nothing = np.zeros((3, 100), bool)
    proof = prove_radii(mixed_network, points, RADII, broken=nothing, effort=Effort(q1_steps=30))
    room = rounding_room(mixed_network, np.asarray(points.x), RADII[-1], "l2")
    assert np.all(proof.withstands == (proof.certificate.lower > room))
    x64 = np.asarray(points.x, np.float64) @ np.asarray(mixed_network.weights, np.float64).T
    f64 = (np.sign(x64) * np.maximum(np.abs(x64) - float(mixed_network.bias), 0)).sum(-1)
    assert np.all(np.abs(np.asarray(mixed_network(points.x)) - f64) < room) and room.max() < 0.01


def test_unsorted_radii_are_refused(mixed_network, points):
    with pytest.raises(ValueError, match="radii must rise strictly"):
        squeeze_radii(mixed_network, points, [0.2, 0.1], key=KEY)
