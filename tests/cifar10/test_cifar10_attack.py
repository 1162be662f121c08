"""Attacks on images: in the ball, in [0, 1], right against PyTorch and Foolbox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import UNIT, gamma, unit_error, within
from torch_twin import Twin, channels_first, rounded_look, tensor

from experiments.cifar10 import attack
from experiments.cifar10.attack import Labelled, attacked
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import FGM, PGD

pytestmark = pytest.mark.referees
KEY = jax.random.key(0)
RADIUS = {"l2": 1.5, "linf": 0.05}
ORDER = {"l2": 2, "linf": np.inf}


@pytest.fixture(scope="module")
def network(learning):
    """A small net that has learned the generated classes."""
    return learning[0]


@pytest.fixture(scope="module")
def pixels(images):
    """The images in [0, 1], some of their pixels on the border."""
    x = images.pixels.astype(np.float32) / 255
    x[:, :8], x[:, 24:] = 0.0, 1.0
    return x


@eqx.filter_jit
def perturbed(rule, network, x, labels, value):
    return attacked(rule, network, x, labels, value, key=KEY)


# Each attack and each norm by default, every pair when slow.
@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        (FGM, "l2"),
        (FGM, "linf"),
        (PGD, "linf"),
        (APGD, "l2"),
        pytest.param(PGD, "l2", marks=pytest.mark.slow),
        pytest.param(APGD, "linf", marks=pytest.mark.slow),
    ],
)
def test_attacked_images_stay_in_the_ball_and_in_the_box(network, pixels, images, kind, norm):
    budget = {} if kind is FGM else {"steps": 5, "restarts": 2}
    rule = kind(RADIUS[norm], norm, **budget)
    value = "margin" if kind is APGD else "log-probability"
    found = np.asarray(perturbed(rule, network, pixels, images.labels, value))
    assert found.min() >= 0 and found.max() <= 1
    delta = (found - pixels).reshape(len(pixels), -1).astype(np.float64)
    length = np.linalg.norm(delta, ORDER[norm], axis=1)
    assert (length <= RADIUS[norm] * (1 + 1e-5)).all()
    assert length.max() > 0.5 * RADIUS[norm]


def sharper(network, factor):
    """The same net with its logits, and so its confidence, times ``factor``."""
    return eqx.tree_at(
        lambda n: (n.head.weight, n.head.bias),
        network,
        (factor * network.head.weight, factor * network.head.bias),
    )


def one_step(network, pixels, labels, radius):
    """The images after one ℓ2 step of ``radius``, and how far float32 may put each of them."""
    _, (gradient, error) = rounded_look(network, pixels, labels)
    unit = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    # The move, and the roundings of x + δ.
    off = radius * unit_error(gradient, error) + UNIT * unit.shape[1] ** 0.5
    return np.clip(pixels - radius * unit.reshape(pixels.shape), 0, 1), off


@pytest.mark.parametrize("factor", [1, 3])
def test_fgm_follows_pytorchs_gradient_of_the_loss(network, images, factor):
    network, images, radius = sharper(network, factor), images.first(50), RADIUS["l2"]
    pixels = images.pixels.astype(np.float32) / 255
    expected, allowed = one_step(network, pixels, images.labels, radius)
    found = perturbed(FGM(radius), network, pixels, images.labels, "log-probability")
    off = np.linalg.norm((found - expected).reshape(len(pixels), -1), axis=1)
    within(off, 0, allowed)
    if factor == 1:
        # Most images would show a gradient that is a percent off in one direction.
        assert np.median(allowed) < 0.01 * radius
    else:
        # Where 1 − p vanishes beside 1, only part of the gradient's terms are left in float32.
        assert (allowed > radius).sum() > 10 and off.max() > 0.1 * radius


def margins(logits, labels):
    """The logit of the label less the largest other one."""
    own = logits[np.arange(len(logits)), labels]
    return own - np.where(np.eye(10)[labels] > 0, -np.inf, logits).max(1)


def test_the_values_are_those_of_the_logits(network, pixels, images):
    pixels, labels = pixels[:20], images.labels[:20]
    (logits, error), _ = rounded_look(network, pixels, labels)
    own = logits[np.arange(20), labels]
    expected = {
        "margin": margins(logits, labels),
        "log-probability": own - np.log(np.exp(logits).sum(1)),
    }
    # Two logits, or one and the sum of ten exponentials, which have the scale of the largest.
    allowed = 2 * error + gamma(20) * (1 + np.abs(logits).max(1))
    for value, exact in expected.items():
        model = Labelled(network, jnp.asarray(labels), value)
        within(eqx.filter_jit(model)(pixels.reshape(20, -1)), exact, allowed)


def test_outside_the_box_the_value_is_that_of_the_border(network, pixels, images):
    model = Labelled(network, jnp.asarray(images.labels), "margin")
    flat = jnp.asarray(pixels.reshape(len(pixels), -1))
    # Black and white pixels pushed further out: the same image, and the same gradient to return by.
    outside = jnp.where(flat == 0, -0.3, jnp.where(flat == 1, 1.3, flat))
    look = eqx.filter_jit(model.value_and_input_gradient)
    here, there = look(flat), look(outside)
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(here[1], there[1])
    assert (np.abs(here[1])[:, : 8 * 32 * 3] > 0).mean() > 0.5


def withstand(rule, network, images, radius):
    """Which images withstand a Foolbox attack."""
    foolbox = pytest.importorskip("foolbox")
    outside = foolbox.PyTorchModel(Twin(network).eval(), bounds=(0, 1), device="cpu")
    x = channels_first(images.pixels.astype(np.float32) / 255)
    budget = {} if "Fast" in rule else {"steps": 20}
    outside_attack = getattr(foolbox.attacks, rule)(**budget)
    _, _, fooled = outside_attack(outside, x, tensor(images.labels).long(), epsilons=radius)
    return ~fooled.numpy()


def test_the_first_stage_leaves_what_foolboxs_one_step_leaves(network, images, monkeypatch):
    stages = attack.stages
    monkeypatch.setattr(attack, "stages", lambda *budget: stages(*budget)[:1])
    radius = 1.25  # where a change by a tenth changes several points
    standing = attack.robust(network, images, "l2", radius, steps=1, key=KEY)
    theirs = withstand("L2FastGradientAttack", network, images, radius)
    # The same points, but for those that rounding may put on either side of the boundary.
    pixels = images.pixels.astype(np.float32) / 255
    moved, off = one_step(network, pixels, images.labels, radius)
    (logits, error), _ = rounded_look(network, moved, images.labels)
    model = Labelled(network, jnp.asarray(images.labels), "margin")
    flat = jnp.asarray(moved.reshape(len(moved), -1), jnp.float32)
    _, slope = eqx.filter_jit(model.value_and_input_gradient)(flat)
    margin, steep = margins(logits, images.labels), np.linalg.norm(slope, axis=1)
    clear = np.abs(margin) > 2 * error + steep * off
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(standing[clear], theirs[clear])
    np.testing.assert_array_equal(standing[clear], margin[clear] > 0)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_protocol_finds_what_foolbox_finds(network, images, norm):
    radius = RADIUS[norm]
    standing = attack.robust(network, images, norm, radius, steps=20, key=KEY)
    right = attack.right(network, images)
    assert right.mean() > 0.9 and 0.05 < standing.mean() < 0.95
    assert not (standing & ~right).any()

    theirs = withstand("L2PGD" if norm == "l2" else "LinfPGD", network, images, radius)
    # Ours holds several attacks: what Foolbox breaks and we do not is at most a point in fifty.
    assert (standing & ~theirs).sum() <= 2
    assert standing.sum() <= theirs.sum()


@pytest.mark.slow
def test_a_larger_radius_leaves_fewer_and_none_leaves_all(network, images):
    counts = [
        attack.robust(network, images, "l2", radius, steps=3, key=KEY).sum()
        for radius in (0.0, 1.0, 2.0, 4.0)
    ]
    assert counts[0] == attack.right(network, images).sum()
    assert counts[0] > counts[1] > counts[2] > counts[3]
