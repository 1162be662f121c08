"""Foolbox's ℓ2 and ℓ∞ attacks on our networks, through its own JAX wrapper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import UNIT, input_gradient, sign_error, unit_error, within

from featpur_sim import FGM, PGD, AdversarialPhase, CleanPhase, SparseCoding, initialise, train
from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.training.bias import LinearRamp

foolbox = pytest.importorskip("foolbox")

pytestmark = pytest.mark.referees

POINTS, STEPS = 1000, 40
RADIUS = {"l2": 0.13, "linf": 0.025}
KEY = jax.random.key(80)


@pytest.fixture(scope="module")
def problem():
    return SparseCoding(d=64, k=5, sigma_x=0.3, key=jax.random.key(1))


@pytest.fixture(scope="module")
def networks(problem):
    """A clean-trained net with dense mixtures, and the purified one made of it."""
    network = initialise(64, 128, key=jax.random.key(2))
    phases = [
        CleanPhase(500, batch=256, bias=LinearRamp(0.06)),
        AdversarialPhase(FGM(RADIUS["l2"]), 400, batch=256),
    ]
    return train(problem, network, phases, key=KEY, records=2).networks


@pytest.fixture(scope="module")
def points(problem):
    return problem.sample_labelled(jax.random.key(3), POINTS)


@pytest.fixture(params=["clean", "adversarial"])
def model(request, networks):
    return networks[request.param]


@pytest.fixture(params=["l2", "linf"])
def norm(request):
    return request.param


def wrapped(model, points):
    # Logits (−f, f): the cross-entropy is log(1 + e^{−2yf}), and no step leaves the bounds.
    reach = float(jnp.max(jnp.abs(points.x))) + 1
    return foolbox.models.JAXModel(
        lambda x: jnp.stack([-model(x), model(x)], axis=-1), bounds=(-reach, reach)
    )


def theirs(attack, model, points, radius):
    """Foolbox's perturbation, and which points it counts as adversarial."""
    labels = (points.y > 0).astype(jnp.int32)
    _, clipped, success = attack(wrapped(model, points), points.x, labels, epsilons=radius)
    return np.asarray(clipped - points.x), np.asarray(success)


def robust(model, points, attack):
    margin = attacked_margin(model, points, attack, key=KEY)
    return float(np.mean(np.asarray(margin) > 0))


def test_fgm_is_theirs(model, norm, points):
    attack = {
        "l2": foolbox.attacks.L2FastGradientAttack,
        "linf": foolbox.attacks.LinfFastGradientAttack,
    }[norm](random_start=False)
    delta, _ = theirs(attack, model, points, RADIUS[norm])
    ours = np.asarray(FGM(RADIUS[norm], norm)(model, points, key=KEY))
    # Their cross-entropy slope σ(−2yf) scales the gradient; where it leaves float32's range (or
    # a coordinate of it does, which the sign would magnify) only ours still has a direction.
    sure = np.abs(np.asarray(model(points.x))) < 10
    assert sure.mean() > 0.5
    gradient, error = input_gradient(model, points.x)
    if norm == "l2":
        turned = unit_error(gradient, np.linalg.norm(error, axis=1))[:, None]
    else:
        turned = sign_error(gradient, error)
    # A tenth of a percent of a radius, for nearly every number.
    assert (turned[sure] < 1e-3).mean() > 0.95
    # Both round; and δ is the difference of two points, each with the roundings of x + δ.
    moved = 2 * UNIT * (np.abs(points.x) + RADIUS[norm])
    within(ours[sure], delta[sure], (2 * RADIUS[norm] * turned + moved)[sure])


def pgd_attacks(norm):
    kind = {
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
    }[norm]
    return {
        "default": kind(steps=STEPS),
        "from the centre": kind(steps=STEPS, random_start=False),
        "large steps": kind(steps=STEPS, rel_stepsize=0.2),
    }


def test_pgd_finds_at_least_what_theirs_finds(model, norm, points):
    ours = robust(model, points, PGD(RADIUS[norm], norm, steps=STEPS))
    clean = robust(model, points, None)
    assert 0.02 < ours < clean - 0.05  # neither attack's work is trivial
    for name, attack in pgd_attacks(norm).items():
        delta, success = theirs(attack, model, points, RADIUS[norm])
        length = np.linalg.norm(delta, 2 if norm == "l2" else np.inf, axis=-1)
        # Their ball is ours: 1e-4 of it is twenty roundings of |x| or more, and changes no count.
        assert np.all(length <= RADIUS[norm] * (1 + 1e-4))
        # Their success includes points that are wrong already, as our rule does.
        already = np.asarray(points.y * model(points.x)) <= 0
        found = float(np.mean(~(success | already)))
        assert found >= ours - 0.005, name
