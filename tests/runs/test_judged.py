"""Each point decided once: every accuracy as its attack defines it, and two sides that hold it."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SparseCoding, pure_network
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.measure import standing
from featpur_sim.measure.lanes import Lanes
from featpur_sim.runs import judged
from featpur_sim.runs.evaluation_parts import EvaluationParts
from featpur_sim.runs.judged import Judged
from featpur_sim.training.loop import replicate

N, RADII = 400, np.array([0.05, 0.12, 0.2])
KINDS = {
    name: AttackKind(name, steps=12, restarts=2 if name == "PGD" else 1)
    for name in ("random noise", "dense mixture", "FGM", "PGD", "PGD on support")
}


@pytest.fixture(scope="module")
def lanes():
    problem = SparseCoding(d=16, k=3, sigma_x=0.3, key=jax.random.key(1))
    return Lanes(replicate(problem, 2), jax.random.split(jax.random.key(5), 2), N)


@pytest.fixture(scope="module")
def networks(lanes):
    """Two seeds with dense parts, so that certificates and attacks leave something between them."""
    pure = pure_network(lanes.problem.wstar[0], 0.25)
    noise = 0.1 * jax.random.normal(jax.random.key(2), (2, *pure.weights.shape))
    dense = 0.08 * lanes.problem.wstar[0]
    return jax.vmap(lambda own: eqx.tree_at(lambda n: n.weights, pure, pure.weights + own))(
        noise + dense
    )


def judge(lanes, networks, points=N, norm="l2", radii=RADII, parts=None):
    parts = EvaluationParts() if parts is None else parts
    found = Judged("clean", networks, lanes, radii, norm, points, parts)
    curves = {}
    for name in ("random noise", "dense mixture", "FGM", None, "PGD", "PGD on support"):
        if name is None:
            found.certify()
        else:
            kind = KINDS[name]
            curves[name] = found.under(AttackKind(name, norm, kind.steps, kind.restarts))
    return found, curves


def test_every_accuracy_is_as_defined_point_by_point(lanes, networks):
    """Against descents through which every point goes."""
    found, curves = judge(lanes, networks)
    for name, curve in curves.items():
        for r, radius in enumerate(RADII):
            stands = lanes.standing.withstand(
                networks, KINDS[name], jnp.full(2, radius, jnp.float32)
            )
            labelled = lanes.standing.labelled
            assert np.array_equal(curve[:, r], (stands & labelled).sum(1) / labelled.sum(1)), name
            # What is spared withstands.
            assert name == "random noise" or not (found._spared[r] & ~stands).any(), name
    assert 0.2 < found._spared[1].mean() < 0.9


@pytest.mark.parametrize(("norm", "radii"), [("l2", RADII), ("linf", RADII / 4)])
def test_the_sides_hold_every_attack_between_them(lanes, networks, norm, radii):
    found, curves = judge(lanes, networks, norm=norm, radii=radii)
    certified, attacked = found.sides()
    assert certified.shape == attacked.shape == (2, 4)
    assert np.array_equal(certified[:, 0], attacked[:, 0])
    assert np.array_equal(certified[:, 0], found.clean)
    assert (np.diff(certified, axis=1) <= 0).all() and (np.diff(attacked, axis=1) <= 0).all()
    for name in ("dense mixture", "FGM", "PGD", "PGD on support"):
        assert (certified[:, 1:] <= curves[name]).all()
        # An attack that breaks a point by no more than rounding has not broken it for sure.
        assert (attacked[:, 1:] <= curves[name] + 0.005).all()
    assert 0 < (attacked - certified).max() < 0.1 and certified[:, 1].min() > 0.5


def test_certified_points_are_not_attacked(lanes, networks, monkeypatch):
    worked = []
    advance = standing._advance

    def counted(pgd, first, last, width, *data):
        worked.append(int(((last - first) * (data[-1] < N)).sum()))
        return advance(pgd, first, last, width, *data)

    monkeypatch.setattr(standing, "_advance", counted)
    judge(lanes, networks)
    both, worked[:] = sum(worked), []
    judge(lanes, networks, points=0)
    assert 0 < both < 0.6 * sum(worked)


def test_only_the_first_points_are_certified(lanes, networks):
    found, _ = judge(lanes, networks, points=50)
    certified, _ = found.sides()
    first = found.judged.sum(1)
    assert (first <= 50).all() and not found.certified[:, :, 50:].any()
    assert np.allclose(certified * first[:, None] % 1, 0, atol=1e-9)
    none, _ = judge(lanes, networks, points=0)
    assert all(np.isnan(side).all() for side in none.sides())


def test_it_goes_on_from_what_was_kept(lanes, networks, monkeypatch):
    """The same sides from parts, with nothing proved again."""

    class Kept(EvaluationParts):
        def __init__(self):
            super().__init__()
            self.arrays = {}

        def kept(self, name, compute):
            if name not in self.arrays:
                self.arrays[name] = compute()
            return self.arrays[name]

    parts = Kept()
    first, curves = judge(lanes, networks, parts=parts)
    monkeypatch.setattr(judged, "prove_radii", None)
    monkeypatch.setattr(standing, "_advance", None)
    again, same = judge(lanes, networks, parts=parts)
    assert np.array_equal(first.sides(), again.sides())
    assert all(np.array_equal(curves[name], same[name]) for name in curves)
    assert all(np.asarray(array).dtype != object for array in parts.arrays.values())


def test_the_first_seed_compiles_for_the_others(unchecked):
    main, where = threading.get_ident(), []

    def prove(seed):
        where.append((seed, threading.get_ident() == main))
        return seed

    assert judged._proofs(prove, [0, 1, 2]) == [0, 1, 2]
    assert sorted(where) == [(0, True), (1, False), (2, False)]
