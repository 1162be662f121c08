"""Counting robust samples: which samples, which rule, which interval."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from canned import CannedProblem

from featpur_sim import FGM, PGD, SparseCoding, robust_accuracy, stack
from featpur_sim.attacks.accuracy import count_robust
from featpur_sim.attacks.balls import ball
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.laws import Levels
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import pure_network
from featpur_sim.statistics import wilson_interval

KEY = jax.random.key(30)


class Constant(Classifier):
    """f = value everywhere."""

    value: jax.Array

    def __call__(self, x, *, key=None):
        return jnp.full(len(x), self.value)

    def value_and_input_gradient(self, x, *, key=None):
        return self(x), jnp.zeros_like(x)


class Flipped(Classifier):
    """−f."""

    model: Classifier

    def __call__(self, x, *, key=None):
        return -self.model(x, key=key)

    def value_and_input_gradient(self, x, *, key=None):
        value, gradient = self.model.value_and_input_gradient(x, key=key)
        return -value, -gradient


class Helper(Attack):
    """Moves every sample towards its own label, which an attacker would not do."""

    def __init__(self):
        self.ball = ball("l2", 0.5)

    def __call__(self, model, batch, *, key):
        return -FGM(0.5)(model, batch, key=key)


class Shove(Helper):
    """The same as noise, not as a worst case."""

    worst_case = False


@pytest.fixture(scope="module")
def sparse():
    """k = 1: a third of the samples are ties."""
    return SparseCoding(d=8, k=1, sigma_x=0.3, key=jax.random.key(0))


def test_ties_are_excluded_and_the_interval_is_wilsons(sparse):
    canned = CannedProblem(sparse, sparse.sample(jax.random.key(1), 3000))
    y = np.asarray(canned.batch.y)
    assert 0.2 < np.mean(y == 0) < 0.5
    score = robust_accuracy(Constant(jnp.float32(1)), canned, key=KEY, n=3000)
    positive, labelled = int(np.sum(y == 1)), int(np.sum(y != 0))
    assert score.n == labelled
    assert score.value == positive / labelled
    assert (score.low, score.high) == wilson_interval(positive, labelled)


def test_same_key_same_points_for_every_model(problem):
    model = pure_network(problem.wstar, 0.0)
    one, other = (robust_accuracy(m, problem, key=KEY, n=2000) for m in (model, Flipped(model)))
    # f ≠ 0 on every point, so the model and its opposite split one set of points between them.
    assert one.n == other.n
    assert one.value + other.value == pytest.approx(1, abs=1e-12)
    again = robust_accuracy(model, problem, key=KEY, n=2000)
    assert again == one
    assert robust_accuracy(model, problem, key=jax.random.key(31), n=2000) != one


@pytest.mark.parametrize("attack", [None, FGM(0.1)], ids=["clean", "fgm"])
def test_chunks_do_not_change_the_counts(problem, mixed_network, attack):
    count = eqx.filter_jit(count_robust)
    expected = count(mixed_network, problem, attack, key=KEY, n=1000, chunk=1000)
    assert 100 < int(expected[0]) < int(expected[1]) < 1000
    for chunk in (64, 333, 5000):
        found = count(mixed_network, problem, attack, key=KEY, n=1000, chunk=chunk)
        assert tuple(map(int, found)) == tuple(map(int, expected))


def test_n_counts_samples_not_chunks(problem, mixed_network, batch):
    canned = CannedProblem(problem, batch)
    found = count_robust(mixed_network, canned, None, key=KEY, n=150, chunk=64)
    margin = np.asarray(batch.y * mixed_network(batch.x))[:150]
    assert tuple(map(int, found)) == (np.sum(margin > 0), np.sum(np.asarray(batch.y)[:150] != 0))


def test_an_attacker_may_leave_a_sample_alone(problem, mixed_network):
    wrong_bias = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(0.6))
    clean, helped, shoved = (
        robust_accuracy(wrong_bias, problem, attack, key=KEY, n=1000).value
        for attack in (None, Helper(), Shove())
    )
    assert helped == clean < shoved


def test_no_answer_is_not_a_right_answer(problem):
    assert robust_accuracy(Constant(jnp.float32(0)), problem, key=KEY, n=500).value == 0


def test_a_model_that_is_not_finite_has_no_accuracy(problem):
    score = robust_accuracy(Constant(jnp.float32(jnp.nan)), problem, key=KEY, n=500)
    assert np.isnan([score.value, score.low, score.high]).all()


@pytest.mark.parametrize("attack", [None, PGD(0.1, steps=5)], ids=["clean", "pgd"])
def test_networks_at_once_are_the_loop_over_them(problem, mixed_network, attack):
    weak = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(0.6))
    broken = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(jnp.nan))
    networks = [mixed_network, weak, broken, pure_network(problem.wstar, 0.2)]
    with pytest.raises(ValueError, match="float32"):  # half as many neurons
        stack(networks)
    networks = networks[:3]
    settings = {"key": KEY, "n": 600, "chunk": 256}
    many = robust_accuracy(stack(networks), problem, attack, **settings)
    alone = [robust_accuracy(network, problem, attack, **settings) for network in networks]
    assert {field.shape for field in many} == {(3,)} and many.n.dtype.kind == "i"
    for row, one in zip(zip(*many, strict=True), alone, strict=True):
        np.testing.assert_array_equal(row, one)
    assert many.value[0] != many.value[1] and np.isnan(many.value[2])


def test_each_network_may_have_its_problem_and_its_attack(problem, mixed_network):
    problems = [eqx.tree_at(lambda p: p.k, problem, jnp.float32(k)) for k in (3, 5)]
    attacks = [FGM(0.05), FGM(0.15)]
    weak = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(0.4))
    settings = {"key": KEY, "n": 500}
    for models, laws, rules in (
        ([mixed_network, weak], problems, attacks),
        ([mixed_network] * 2, problems, attacks),
        ([mixed_network, weak], [problem] * 2, attacks),
        ([mixed_network] * 2, problems, [attacks[1]] * 2),
    ):
        together = [stack(x) if x[0] is not x[1] else x[0] for x in (models, laws, rules)]
        many = robust_accuracy(*together, **settings)
        rows = [robust_accuracy(*row, **settings) for row in zip(models, laws, rules, strict=True)]
        assert [tuple(row) for row in zip(*many, strict=True)] == [tuple(row) for row in rows]
        assert many.value[0] != many.value[1]


def test_runs_that_do_not_match_are_refused(problem, mixed_network):
    three = stack([mixed_network] * 3)
    with pytest.raises(ValueError, match="equally many, or one for all: got .*3 runs.*2 runs"):
        robust_accuracy(three, problem, stack([FGM(0.1)] * 2), key=KEY, n=10)
    half = eqx.tree_at(lambda n: n.bias, three, jnp.float32(0.2))
    with pytest.raises(ValueError, match=r"shape \(\): where 3 runs .*featpur_sim\.stack"):
        robust_accuracy(half, problem, key=KEY, n=10)


def test_accuracy_falls_with_the_radius_under_vmap(problem, mixed_network):
    radii = jnp.array([0.0, 0.05, 0.1, 0.2])

    def count(radius):
        return count_robust(mixed_network, problem, FGM(radius), key=KEY, n=600, chunk=200)

    robust, labelled = jax.vmap(count)(radii)
    alone = [count(r) for r in radii]
    assert [int(v) for v in robust] == [int(a[0]) for a in alone]
    assert np.all(np.diff(np.asarray(robust)) < 0)
    assert len(set(np.asarray(labelled).tolist())) == 1


def test_agreement_with_a_direct_evaluation(problem, mixed_network, batch):
    attack = PGD(0.1, steps=5)
    score = robust_accuracy(mixed_network, CannedProblem(problem, batch), attack, key=KEY, n=200)
    delta = attack(mixed_network, batch, key=KEY)
    margin = np.asarray(batch.y * mixed_network(batch.x + delta))[np.asarray(batch.labelled)]
    assert 0 < score.value < 1
    assert score.value == pytest.approx(np.mean(margin > 0), abs=1e-12)


def test_counts_may_be_numpys(problem, mixed_network, unchecked):
    plain = robust_accuracy(mixed_network, problem, key=KEY, n=100, chunk=64)
    counts = {"n": np.int64(100), "chunk": np.int32(64)}
    assert robust_accuracy(mixed_network, problem, key=KEY, **counts) == plain


def test_refusals(problem):
    model = Constant(jnp.float32(1))
    with pytest.raises(ValueError, match="n must be an integer ≥ 1 .*, got 0"):
        robust_accuracy(model, problem, key=KEY, n=0)
    empty = SparseCoding(d=8, k=1, sigma_x=0.3, law=Levels([1.0], [0.0]))
    with pytest.raises(ValueError, match="none of the 20 samples drawn has a label"):
        robust_accuracy(model, empty, key=KEY, n=20)
