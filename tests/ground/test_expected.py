"""What is of the wrong kind, or in another argument's place, is one line that says so."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import featpur_sim as fp
from featpur_sim.attacks.gradient import DenseMixture, FunctionAttack, Transfer
from featpur_sim.data.laws import TwoLevel
from featpur_sim.training.bias import LinearRamp

KEY = jax.random.key(0)
PROBLEM = fp.SparseCoding(d=16, k=3, sigma_x=0.3)
NETWORK = fp.initialise(16, 8, key=KEY)
PHASES = [fp.CleanPhase(2, batch=8)]


def nothing(model, batch, *, key):
    return jnp.zeros_like(batch.x)


class Data:
    d = 16

    def sample(self, key, n, *, start=0):
        raise AssertionError


class Hidden(Data):
    """Complete, but its arrays are constants of whatever is compiled with it."""

    def __init__(self):
        self.centres = jnp.eye(16)

    def coordinates(self, weights):
        return weights

    def require_dimension(self, weights):
        pass


def train(*given, key=KEY, **settings):
    return fp.train(*given, key=key, **settings)


def observed(found):
    return train(PROBLEM, NETWORK, PHASES, observe=lambda moment: found)


def robust(model, problem, attack):
    return fp.robust_accuracy(model, problem, attack, key=KEY, n=10)


def coding(law):
    return fp.SparseCoding(d=16, k=3, sigma_x=0.3, law=law)


WRONG = [
    (lambda: train(NETWORK, PROBLEM, PHASES), "problem must be .*; the order is problem, network"),
    (
        lambda: train(PROBLEM, PHASES, NETWORK),
        "network must be a Trainable network, initialise.*class list",
    ),
    (lambda: train(PROBLEM, NETWORK, PHASES[0]), r"phases must be a list of phases, \[CleanPhase"),
    (lambda: train(PROBLEM, NETWORK, [PROBLEM]), "phases hold SparseCoding"),
    (lambda: train(PROBLEM, NETWORK, []), "phases need at least one entry"),
    (lambda: train(PROBLEM, NETWORK.weights, PHASES), r"network .* an array of shape \(8, 16\)"),
    (lambda: train(Data(), NETWORK, PHASES), "Data, without coordinates, require_dimension"),
    (lambda: train(Hidden(), NETWORK, PHASES), "problem: its array centres is hidden from JAX"),
    (lambda: robust(NETWORK, Hidden(), None), "problem: its array centres is hidden from JAX"),
    (lambda: train(fp.SparseCoding, NETWORK, PHASES), "class SparseCoding itself, not one of its"),
    (lambda: train(fp.SparseCoding(8, 3, 0.3), NETWORK, PHASES), "weights of length 16 .* d = 8"),
    (lambda: train(PROBLEM, NETWORK, PHASES, key=0), r"key .* got 0: write jax.random.key\(0\)"),
    (lambda: train(PROBLEM, NETWORK, PHASES, observe={}), "observe must be a function .* dict"),
    (lambda: train(PROBLEM, NETWORK, PHASES, snapshots={"x": [1]}), "unknown phases"),
    (lambda: observed(None), "what observe returns must be a mapping.*got None"),
    (lambda: observed(jnp.ones(3)), r"what observe returns .* an array of shape \(3,\)"),
    (lambda: observed({"loss": 1.0}), "observe records 'loss', which training records itself"),
    (lambda: observed({"step": 1.0}), "observe records 'step', which training records itself"),
    (lambda: observed({"a": "x"}), "observe must give numbers, got 'x' for 'a'"),
    (lambda: fp.CleanPhase(2, optimizer="adam"), "clean phase: optimizer must be .* got 'adam'"),
    (lambda: fp.CleanPhase(2, optimizer=0.1), "clean phase: optimizer must be .* got 0.1"),
    (lambda: fp.CleanPhase(2, bias=0.1), "clean phase: bias must be a schedule.* got 0.1"),
    (lambda: fp.CleanPhase(2, bias=LinearRamp), "bias .* the class LinearRamp itself"),
    (lambda: fp.CleanPhase(2, loss="hinge"), "loss must be a function of the margin.*'hinge'"),
    (lambda: fp.AdversarialPhase(0.1, 2), "attack must be an Attack, .* got 0.1"),
    (lambda: fp.AdversarialPhase(fp.FGM, 2), "the class FGM itself, not one of its objects"),
    (lambda: fp.AdversarialPhase(nothing, 2), r"FunctionAttack\(function, radius\) for .*nothing"),
    (lambda: robust(PROBLEM, NETWORK, None), "model must be a Classifier, the first argument"),
    (lambda: robust(NETWORK, NETWORK, None), "problem must be .*SymmetricReLU, without sample"),
    (lambda: robust(nothing, PROBLEM, None), "model must be a Classifier.* the function nothing"),
    (lambda: robust(NETWORK, PROBLEM, nothing), "attack must .* the function nothing"),
    (lambda: robust(NETWORK, PROBLEM, 0.1), "attack must be an Attack, .* got 0.1"),
    (lambda: fp.decompose(PROBLEM, NETWORK.weights), "problem .* the second argument of decompose"),
    (
        lambda: fp.decompose(NETWORK, PROBLEM),
        "weights .* network.weights say, got .* SymmetricReLU",
    ),
    (lambda: coding("gaussian"), "law must be a HiddenLaw.* got 'gaussian'"),
    (lambda: coding(TwoLevel), "law .* the class TwoLevel itself"),
    (lambda: DenseMixture.of(0.1, PROBLEM), "problem .* got 0.1, without dense_direction"),
    (lambda: Transfer(fp.FGM(0.1), NETWORK), "source must be a model, the first argument"),
    (lambda: Transfer(NETWORK, 0.1), "attack must be an Attack"),
    (lambda: FunctionAttack(0.1, 0.1), "function must be a function"),
    (
        lambda: robust(NETWORK, PROBLEM, FunctionAttack(lambda *_, key: jnp.zeros(3), 0.1)),
        r"one perturbation per input, of shape \(10, 16\), got \(3,\)",
    ),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_use_is_one_line(unchecked, wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_an_optax_transformation_is_taken_as_it_is():
    """With the phase's own rate or with one inside, the same descent."""
    key = jax.random.key(3)
    one, other = (
        fp.train(PROBLEM, NETWORK, [fp.CleanPhase(3, batch=8, **how)], key=key).network.weights
        for how in ({"learning_rate": 0.25}, {"optimizer": optax.sgd(0.25)})
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, NETWORK.weights)


def test_a_function_attacks_inside_its_ball():
    """As the dense attack if it goes along the dense direction, however far it wants to."""
    direction = PROBLEM.dense_direction()

    def far(model, batch, *, key):
        return -100 * batch.y[:, None] * direction

    batch = PROBLEM.sample(jax.random.key(1), 50)
    own = FunctionAttack(far, 0.2)(NETWORK, batch, key=KEY)
    given = DenseMixture.of(PROBLEM, 0.2)(NETWORK, batch, key=KEY)
    np.testing.assert_allclose(own, given, atol=1e-6)
    run = fp.train(PROBLEM, NETWORK, [fp.AdversarialPhase(FunctionAttack(far, 0.2), 2)], key=KEY)
    assert np.isfinite(run.network.weights).all()
