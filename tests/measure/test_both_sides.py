"""Both sides of robust accuracy on planted networks; a contradiction stops everything."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SymmetricReLU
from featpur_sim.attacks.protocol import QUICK, Protocol, Stage
from featpur_sim.certify import Contradiction, Effort, NotCertified, cascade, certify
from featpur_sim.certify.ascent import Pace
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient

KEY = jax.random.key(70)
CHEAP = ("linear", "q1")
HASTY = Effort(q1_steps=30)


@pytest.fixture(scope="module")
def points(problem):
    return problem.sample_labelled(jax.random.key(71), 100)


@pytest.fixture(scope="module")
def both(mixed_network, points):
    return squeeze(mixed_network, points, 0.1, key=KEY, protocol=QUICK, stages=CHEAP)


def own_labels(network, points):
    """The points where f ≠ 0, with the network's own sign as their label."""
    y = jnp.sign(network(points.x))
    kept = np.flatnonzero(np.asarray(y))
    assert len(kept) > 90
    return points._replace(x=points.x[kept], y=y[kept], z=points.z[kept])


def value(network, x):
    """f in float64."""
    weights, bias = (np.asarray(v, np.float64) for v in (network.weights, network.bias))
    u = x @ weights.T
    return (np.sign(u) * np.maximum(np.abs(u) - bias, 0)).sum(-1)


def test_the_truth_lies_between(both, mixed_network, points):
    assert np.all(both.lower <= both.upper)
    assert np.all(both.certified <= both.standing)
    assert 0 < both.certified.sum() <= both.standing.sum() < 100
    decided = both.by_stage()
    assert sum(decided.values()) == 100
    assert decided["undecided"] == len(both.undecided)
    assert decided["broken"] == (~both.standing).sum()
    assert decided["linear"] + decided["q1"] == both.certified.sum() and decided["q1"] > 0
    assert np.all(both.stage[both.undecided] == "undecided")
    assert np.all(both.float32 <= both.certified) and both.float32.any()
    assert set(both.seconds) == set(both.evaluated) == {"attack", *CHEAP}
    assert both.evaluated["attack"] == 100 > both.evaluated["linear"] > both.evaluated["q1"] > 0
    # The upper side is no more than f at x itself, in float64.
    clean = np.asarray(points.y) * value(mixed_network, np.asarray(points.x, np.float64))
    assert np.all(both.upper <= clean + 1e-12)


def test_labels_only_turn_the_points_round(both, mixed_network, points):
    turned = points._replace(x=points.x * points.y[:, None], y=jnp.ones_like(points.y))
    again = squeeze(mixed_network, turned, 0.1, key=KEY, protocol=QUICK, stages=CHEAP)
    assert np.array_equal(again.certified, both.certified)
    assert np.array_equal(again.standing, both.standing)


def test_the_certificate_shows_the_attack_where_to_look(problem, points):
    # With thresholds this high the gradient at x is that of few neurons, and FGM misses.
    weights = jax.random.normal(jax.random.key(72), (128, problem.d)) * 0.5
    network = SymmetricReLU(weights, 0.8)
    own = own_labels(network, points)
    blind = Protocol("blind", "1", (Stage("FGM"),))
    seeing = Protocol("seeing", "1", (Stage("FGM"), Stage("PGD", "given", 1, 50, 0.2)))
    stood = [
        squeeze(network, own, 0.15, key=KEY, protocol=p, stages=CHEAP, effort=HASTY).standing
        for p in (blind, seeing)
    ]
    assert np.all(stood[1] <= stood[0]) and stood[1].sum() < stood[0].sum()


def test_later_stages_decide_what_is_left(problem, points):
    weights = jax.random.normal(jax.random.key(72), (64, problem.d)) * 0.5
    network = SymmetricReLU(weights, 0.5)
    own = own_labels(network, points)
    effort = Effort(q1_steps=100, max_nodes=10)
    few = squeeze(network, own, 0.12, key=KEY, protocol=QUICK, stages=CHEAP, effort=effort)
    all_of_them = squeeze(network, own, 0.12, key=KEY, protocol=QUICK, effort=effort)
    assert len(all_of_them.undecided) < len(few.undecided)
    assert np.all(few.certified <= all_of_them.certified)
    assert all_of_them.by_stage()["q2"] > 0
    assert 0 < all_of_them.evaluated["q2"] <= len(few.undecided)


def test_later_stages_go_on_from_the_dual_points_of_earlier_ones(problem, points, monkeypatch):
    """Q1 runs once per point, and two passes prove what one cascade proves, to the bit; what is
    attacked agrees to the rounding of f."""
    weights = jax.random.normal(jax.random.key(72), (64, problem.d)) * 0.5
    network = SymmetricReLU(weights, 0.5)
    own = own_labels(network, points)
    # No attack starts from the certificate: both sides see the same perturbations.
    blind = Protocol("blind", "1", (Stage("FGM"),))
    effort = Effort(q1_steps=50, q2=Pace(steps=20), max_nodes=6)
    delta = blind(network, own, 0.12, key=KEY).delta * np.asarray(own.y)[:, None]
    x = np.asarray(own.x * own.y[:, None])
    whole = certify(weights, 0.5, x, 0.12, perturbations=delta, effort=effort)
    entered, q1_dual = [], cascade.q1_dual

    def q1(part, *arguments):
        entered.extend(map(bytes, part.points))
        return q1_dual(part, *arguments)

    monkeypatch.setattr(cascade, "q1_dual", q1)
    both = squeeze(network, own, 0.12, key=KEY, protocol=blind, effort=effort)
    assert len(entered) == len(set(entered)) == both.evaluated["q1"]
    assert min(both.evaluated.values()) > 0
    for name in ("lower", "stage"):
        assert np.array_equal(getattr(both, name), getattr(whole, name))
    # f where it is attacked, in float64: products of other batches are added up in another order.
    terms = np.abs(x).sum(1).max() + 0.12 * np.sqrt(problem.d)
    rounding = (problem.d + len(weights)) * 2.0**-53 * float(jnp.abs(weights).sum()) * terms
    assert np.abs(both.upper - whole.upper).max() <= rounding < 1e-9
    assert whole.evaluated.items() <= both.evaluated.items()


def test_a_contradiction_stops_and_carries_its_evidence(mixed_network, points, monkeypatch):
    monkeypatch.setattr(
        "featpur_sim.certify.problem.lower_bound", lambda *args: np.full(len(args[2]), 9.0)
    )
    with pytest.raises(Contradiction, match="proved lower bound 9, .* reaches f = ") as caught:
        squeeze(mixed_network, points, 0.1, key=KEY, protocol=QUICK, stages=CHEAP)
    found = caught.value.evidence
    assert found["lower"] == 9.0 > found["value"] and found["norm"] == "l2"
    # The evidence alone reproduces the value, and names the point.
    np.testing.assert_array_equal(
        found["point"], np.asarray(points.x * points.y[:, None])[caught.value.index]
    )
    u = found["weights"] @ (found["point"] + found["perturbation"])
    f = np.sum(np.sign(u) * np.maximum(np.abs(u) - found["bias"], 0))
    assert f == pytest.approx(float(found["value"]), abs=1e-12)
    assert np.linalg.norm(found["perturbation"]) <= float(found["radius"]) * (1 + 1e-12)


def test_an_attack_that_breaks_a_certified_point_is_a_contradiction(
    mixed_network, points, monkeypatch
):
    """The certificate believes its own bound and minimiser; the attack that follows disagrees."""

    def credulous(ledger, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "featpur_sim.certify.problem.lower_bound", lambda *args: np.full(len(args[2]), 1e-3)
            )
            patch.setattr(cascade, "require_consistent", lambda *args: None)
            return run_stages(cascade.Ledger(ledger.problem), *arguments)

    run_stages = cascade.run_stages
    monkeypatch.setattr("featpur_sim.measure.both_sides.run_stages", credulous)
    blind = Protocol("blind", "1", (Stage("FGM"), Stage("PGD", "given", 1, 50, 0.5)))
    with pytest.raises(Contradiction) as caught:
        squeeze(mixed_network, points, 0.3, key=KEY, protocol=blind, stages=["linear"])
    assert caught.value.lower == 1e-3 > caught.value.value


class Straight(Classifier):
    """f(x) = Σ x_j."""

    scale: jax.Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def __call__(self, x, *, key=None):
        return self.scale * x.sum(-1)

    def value_and_input_gradient(self, x, *, key=None):
        return autodiff_input_gradient(self, x, key=key)


def test_models_without_a_certificate_are_refused(mixed_network, points):
    with pytest.raises(NotCertified, match="the model is a Straight: certificates exist for Sym"):
        squeeze(Straight(), points, 0.1, key=KEY)
    noisy = SymmetricReLU(
        mixed_network.weights, mixed_network.bias, sigma_rho=0.01, smoothing="sampled"
    )
    with pytest.raises(NotCertified, match="smoothing is 'sampled'.*smoothing = 'closed'"):
        squeeze(noisy, points, 0.1, key=KEY)


class Leaky(SymmetricReLU):
    """The activation of the theorem minus a third of u: another function of the same weights."""

    def output_and_gate(self, u, *, neurons=-1, key=None):
        value, gate = super().output_and_gate(u, neurons=neurons, key=key)
        return value - jnp.sum(u, neurons) / 3, gate - 1 / 3


def test_a_subclass_is_not_certified_as_the_network_it_is_not(mixed_network, points):
    # pyright takes it for a dataclass of its own, with a constructor made from the fields.
    leaky = Leaky(mixed_network.weights, mixed_network.bias)  # pyright: ignore[reportCallIssue]
    own = np.asarray(points.y * leaky(points.x)) > 0
    proved = certify(
        leaky.weights, leaky.bias, np.asarray(points.x * points.y[:, None]), 0.01, stages=CHEAP
    ).certified
    # The bounds of its weights and thresholds prove points that it classifies wrongly.
    assert np.sum(proved & ~own) > 0
    with pytest.raises(NotCertified, match="the model is a Leaky: .* not for subclasses"):
        squeeze(leaky, points, 0.01, key=KEY)


def test_a_model_that_computes_something_else_is_refused(mixed_network, points, monkeypatch):
    plain = SymmetricReLU.output_and_gate

    def off(self, u, **options):
        value, gate = plain(self, u, **options)
        return value + 1e-2, gate

    monkeypatch.setattr(SymmetricReLU, "output_and_gate", off)
    jax.clear_caches()
    try:
        with pytest.raises(NotCertified, match=r"the model's own output is .*\(100 of 100 points"):
            squeeze(mixed_network, points, 0.01, key=KEY, protocol=QUICK, stages=CHEAP)
    finally:
        jax.clear_caches()


def test_the_closed_smoothing_is_certified(mixed_network, points):
    smooth = SymmetricReLU(
        mixed_network.weights, mixed_network.bias, sigma_rho=0.005, smoothing="closed"
    )
    both = squeeze(smooth, points, 0.05, key=KEY, protocol=QUICK, stages=CHEAP, effort=HASTY)
    assert both.certified.any() and np.all(both.lower <= both.upper)
    # The a-priori error of float32 is that of the plain gate.
    assert not both.float32.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"radius": 0.0}, ValueError, "radius"),
        ({"radius": -0.1}, ValueError, "radius"),
        ({"norm": "l1"}, ValueError, "norm"),
        ({"stages": ["q3"]}, ValueError, "q3"),
    ],
)
def test_bad_input_says_what_is_wrong(mixed_network, points, change, error, message, unchecked):
    options = {"radius": 0.1, "norm": "l2", "key": KEY, "protocol": QUICK} | change
    with pytest.raises(error, match=message):
        squeeze(mixed_network, points, options.pop("radius"), options.pop("norm"), **options)


def test_points_without_a_label_are_refused(mixed_network, points):
    tied = points._replace(y=points.y.at[3].set(0.0))
    with pytest.raises(ValueError, match="1 of the 100 points have no label"):
        squeeze(mixed_network, tied, 0.1, key=KEY)
