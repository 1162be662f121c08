"""Attacks on images: in the ball, in [0, 1], right against PyTorch and Foolbox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_twin import Twin, channels_first, loss_gradient, tensor

from experiments.cifar10 import attack
from experiments.cifar10.attack import Labelled, attacked
from featpur_sim.apgd import APGD
from featpur_sim.attack import FGM, PGD

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


def test_fgm_follows_pytorchs_gradient_of_the_loss(network, images):
    pixels = images.pixels.astype(np.float32) / 255
    gradient = loss_gradient(network, pixels, images.labels)
    flat = gradient.reshape(len(pixels), -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    expected = np.clip(pixels + RADIUS["l2"] * unit.reshape(pixels.shape), 0, 1)
    found = perturbed(FGM(RADIUS["l2"]), network, pixels, images.labels, "log-probability")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_values_are_those_of_the_logits(network, pixels, images):
    logits = np.asarray(eqx.filter_jit(network)(jnp.asarray(pixels)), np.float64)
    own = logits[np.arange(len(logits)), images.labels]
    others = np.where(np.eye(10)[images.labels] > 0, -np.inf, logits)
    flat = pixels.reshape(len(pixels), -1)
    margin = Labelled(network, jnp.asarray(images.labels), "margin")
    margin = eqx.filter_jit(margin)(flat)
    np.testing.assert_allclose(margin, own - others.max(1), rtol=1e-4, atol=1e-4)
    score = Labelled(network, jnp.asarray(images.labels), "log-probability")
    score = eqx.filter_jit(score)(flat)
    expected = own - np.log(np.exp(logits).sum(1))
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)


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
    standing = attack.robust(network, images, "l2", RADIUS["l2"], steps=1, key=KEY)
    assert 0.05 < standing.mean() < 0.95
    theirs = withstand("L2FastGradientAttack", network, images, RADIUS["l2"])
    # The same points up to rounding at the boundary.
    assert (standing != theirs).sum() <= 1


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
