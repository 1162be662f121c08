"""The gauge (docs/theory.md §1): in ℓ2, a rotation of features, start and noise changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import (
    FGM,
    PGD,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    SymmetricReLU,
    decompose,
    robust_accuracy,
    train,
    train_many,
)
from featpur_sim.attacks.accuracy import count_robust
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.training.bias import PerNeuron
from featpur_sim.training.loop import replicate

D, M, RADIUS = 24, 48, 0.15
KEY = jax.random.key(60)


class RotatedNoise(SparseCoding):
    """x = M(z + ξ): the noise of the gauge, carried over by M with the rest."""

    def sample(self, key, n, *, start=0):
        batch = super().sample(key, n, start=start)
        clean = self.features(batch.z)
        return batch._replace(x=clean + (batch.x - clean) @ self.M.T)


def make(sigma_x, kind=SparseCoding, dictionary="haar"):
    return kind(d=D, k=4, sigma_x=sigma_x, dictionary=dictionary, key=jax.random.key(1))


def phases(norm="l2"):
    schedule = PerNeuron(0.3, begin=0.3, end=0.7)
    attack = FGM({"l2": RADIUS, "linf": 0.05}[norm], norm)
    return [
        CleanPhase(40, batch=128, bias=schedule, weight_decay=1e-3),
        AdversarialPhase(attack, 30, batch=128, weight_decay=1e-3),
    ]


def network(M_dictionary):
    coordinates = 0.1 * jax.random.normal(jax.random.key(2), (M, D))
    weights = coordinates if M_dictionary is None else coordinates @ M_dictionary.T
    return SymmetricReLU(weights, jnp.zeros(M))


def smooth_network(M_dictionary):
    """Without steps in its gates. A hard gate that rounding flips for one sample moves a weight by
    η/batch·|x| ≈ .004, on some processors and not on others; a smooth one moves by rounding."""
    weights = network(M_dictionary).weights
    return SymmetricReLU(weights, jnp.zeros(M), sigma_rho=0.05, smoothing="closed")


def both(rotated, norm="l2", start=network):
    """The run with M, and the run in its gauge."""
    return [
        (problem, train(problem, start(problem.M), phases(norm), key=KEY, records=4))
        for problem in (rotated, in_gauge(rotated))
    ]


def in_gauge(rotated):
    plain = make(float(rotated.sigma_x), dictionary="identity")
    assert np.array_equal(plain.wstar, rotated.wstar)
    return plain


@pytest.mark.parametrize(
    ("sigma_x", "kind"),
    [pytest.param(0.0, SparseCoding, marks=pytest.mark.slow), (0.3, RotatedNoise)],
    ids=["no noise", "rotated noise"],
)
def test_training_commutes_with_the_rotation(sigma_x, kind):
    (problem, run), (plain, gauge) = both(make(sigma_x, kind), start=smooth_network)
    for phase in ("clean", "adversarial"):
        coordinates = np.asarray(problem.coordinates(run.networks[phase].weights))
        expected = np.asarray(gauge.networks[phase].weights)
        assert np.abs(expected - np.asarray(gauge.networks["init"].weights)).max() > 0.1
        np.testing.assert_allclose(coordinates, expected, atol=1e-4)
        np.testing.assert_allclose(
            run.networks[phase].bias, gauge.networks[phase].bias, rtol=1e-3, atol=1e-5
        )
    np.testing.assert_allclose(run.records["loss"], gauge.records["loss"], rtol=1e-3)
    np.testing.assert_allclose(run.records["accuracy"], gauge.records["accuracy"], atol=3e-3)
    parts, there = decompose(run.network.weights, problem), decompose(gauge.network.weights, plain)
    np.testing.assert_allclose(parts.alpha, there.alpha, atol=1e-4)
    np.testing.assert_allclose(parts.dense_norm, there.dense_norm, atol=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_attacks_see_the_rotation_in_linf_only(norm):
    rotated = make(0.3, RotatedNoise)
    plain = in_gauge(rotated)
    radius = {"l2": RADIUS, "linf": 0.1}[norm]

    def scores(problem):
        attacks = [None, FGM(radius, norm), PGD(radius, norm, steps=10),
                   DenseMixture.of(problem, radius, norm)]  # fmt: skip
        wide = SymmetricReLU(network(problem.M).weights * 5, jnp.full(M, 0.2))
        return np.array([robust_accuracy(wide, problem, a, key=KEY, n=2000).value for a in attacks])

    gap = np.abs(scores(rotated) - scores(plain))
    if norm == "l2":
        assert gap.max() <= 0.001
    else:
        assert gap[0] <= 0.001 and gap[1:].max() > 0.02


@pytest.mark.slow
def test_linf_training_does_not_commute():
    # The check above could be blind; here the same comparison has to fail.
    (problem, run), (_, gauge) = both(make(0.0), "linf")
    coordinates = np.asarray(problem.coordinates(run.networks["clean"].weights))
    np.testing.assert_allclose(coordinates, gauge.networks["clean"].weights, atol=1e-4)
    last = np.asarray(problem.coordinates(run.network.weights))
    assert np.abs(last - np.asarray(gauge.network.weights)).max() > 1e-2


@pytest.mark.slow
def test_rotation_is_invisible_on_average_when_the_noise_is_not_rotated():
    # sample() draws ξ in x, so the two runs see different noise of one law.
    seeds, n = 16, 2000
    keys = jax.random.split(KEY, seeds)
    found = []
    for problem in (make(0.5), make(0.5).gauge()):
        arguments = replicate((problem, network(problem.M), phases()), seeds)
        run = train_many(*arguments, keys=keys, records=2)

        def score(weights, bias, key, problem=problem):
            model = SymmetricReLU(weights, bias)
            attacks = (None, PGD(RADIUS, steps=10))
            counts = [count_robust(model, problem, a, key=key, n=n) for a in attacks]
            return jnp.stack([robust / labelled for robust, labelled in counts])

        final = run.network
        found.append(np.asarray(jax.jit(jax.vmap(score))(final.weights, final.bias, keys)))
    difference = found[0] - found[1]
    assert np.all(np.std(difference, axis=0) > 0)
    error = difference.std(0, ddof=1) / np.sqrt(seeds)
    # Four standard errors, themselves small enough that two points of accuracy would show.
    assert np.all(np.abs(difference.mean(0)) < 4 * error)
    assert np.all(4 * error < 0.02)
