"""Checkers of own classes: the project's pass, and every wrong one is one line that says so."""

import importlib
import itertools
import math
from pathlib import Path
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import featpur_sim as fp
from featpur_sim.attacks.gradient import Attack, DenseMixture, FunctionAttack, Transfer
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.claims import of_classes, of_dynamics, of_readouts, of_run
from featpur_sim.claims.claim import Claim
from featpur_sim.claims.measured import Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, ByEvidence
from featpur_sim.claims.verdict import Verdict
from featpur_sim.data.laws import GaussianTwin, HiddenLaw, Levels, TwoLevel, UniformMagnitude
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.losses import hinge_loss, logistic_loss, squared_loss
from featpur_sim.runs.experiment import Watch
from featpur_sim.testing.attack import default_problem
from featpur_sim.training.bias import BiasSchedule, Frozen, LinearRamp, PerNeuron, Tabulated

ROOT = Path(__file__).parents[2]
KEY = jax.random.key(0)
COUNTER = itertools.count()


def passes(check, *given, **settings):
    assert getattr(fp.testing, f"check_{check}")(*given, **settings) is None


# The project's own.


@pytest.mark.parametrize("dictionary", ["identity", "haar", "incoherent"])
def test_sparse_coding_is_a_problem(dictionary):
    wide = {"D": 12} if dictionary == "incoherent" else {}
    passes("problem", fp.SparseCoding(8, 2, 0.3, dictionary=dictionary, **wide), key=KEY)


@pytest.mark.parametrize(
    "law",
    [
        TwoLevel(),
        TwoLevel(p_one=0.0),
        TwoLevel(p_one=2.5),
        UniformMagnitude(),
        UniformMagnitude(p_one=0.0),
        Levels([0.3, 0.5, 1.0], [4.0, 2.0, 0.5]),
    ],
)
def test_the_laws_are_laws(law):
    passes("law", law)


def test_the_gaussian_twin_is_a_law_that_leaves_the_unit_interval():
    passes("law", GaussianTwin(), bounded=False)
    with pytest.raises(ValueError, match="law GaussianTwin: magnitude reaches .*bounded=False"):
        fp.testing.check_law(GaussianTwin(50.0))


@pytest.mark.parametrize(
    "name, norm",
    [*((name, "l2") for name in get_args(AttackName)), ("FGM", "linf"), ("PGD", "linf")],
)
def test_every_attack_by_name_is_one(name, norm):
    problem = default_problem()
    source = fp.SymmetricReLU(problem.dense_direction()[None], 0.0)
    kind = AttackKind(name, norm, steps=3, restarts=2)
    attack = kind(0.2, direction=problem.dense_direction(), source=source)
    passes("attack", attack, key=KEY)


@pytest.mark.parametrize(
    "schedule",
    [
        Frozen(),
        LinearRamp(0.1, start=0.02),
        PerNeuron(0.5),
        PerNeuron(0.5, monotone=True, ceiling=0.3),
        Tabulated([0, 0.5, 1], [0.0, 0.1, 0.05]),
    ],
)
def test_the_schedules_are_schedules(schedule):
    passes("schedule", schedule)


@pytest.mark.parametrize("loss", [logistic_loss, hinge_loss, squared_loss])
def test_the_losses_are_losses(loss):
    passes("loss", loss)


def test_the_observer_of_runs_is_one():
    passes("observe", Watch(jnp.float32(0.1), "l2"), key=KEY)


def test_the_claims_are_claims():
    """Those of runs also on one: tests/claims/test_of_run.py."""
    every = *of_run.CLAIMS, *of_dynamics.CLAIMS, *of_readouts.CLAIMS, *of_classes.CLAIMS.values()
    for claim in every:
        passes("claim", claim)
    passes("claim", Claim("E", ByEvidence(Verdict.MEASURED, "w"), over_seeds, "1", "[M]", "so"))


@pytest.mark.slow
def test_the_cousins_of_the_theorem_keep_the_contracts(unchecked, monkeypatch):
    """Weights shared over patches, and inputs that carry their cluster as a tag: the annotations of
    the package, checked in these tests, give both one length d."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    patches, averaging = map(importlib.import_module, ("sparse_dense_patches", "feature_averaging"))
    passes("problem", patches.Patches(), key=KEY, length=patches.LENGTH)
    network = patches.PatchNetwork(0.3 * jax.random.normal(KEY, (8, patches.LENGTH)), 0.0)
    passes("observe", patches.coefficients, patches.Patches(), network, key=KEY)
    labels = jnp.array([1.0, -1.0, 1.0, -1.0])
    for tagged in (False, True):
        passes("problem", averaging.Clusters(labels, 16, tagged), key=KEY, length=16)
    for claim in (*patches.CLAIMS, *averaging.CLAIMS):
        passes("claim", claim)


# Wrong problems: each does one thing wrong.


class Rows(eqx.Module):
    """Right: x ~ N(0, I) by rows, labelled by its first coordinate."""

    d: int = eqx.field(static=True, default=4)

    def row(self, key, r):
        x = jax.random.normal(jax.random.fold_in(key, r), (self.d,))
        return Batch(x, jnp.sign(x[0]), x)

    def sample(self, key, n, *, start=0):
        return jax.vmap(lambda r: self.row(key, r))(start + jnp.arange(n))

    def coordinates(self, weights):
        return weights

    def require_dimension(self, weights):
        if weights.shape[-1] != self.d:
            raise ValueError("another length")


class Whole(Rows):
    """Drawn at once, so that a row hangs on n."""

    def sample(self, key, n, *, start=0):
        x = jax.random.normal(key, (n, self.d))
        return Batch(x, jnp.sign(x[:, 0]), x)


class Startless(Rows):
    def sample(self, key, n, *, start=0):
        return super().sample(key, n)


class Keyless(Rows):
    def sample(self, key, n, *, start=0):
        return super().sample(KEY, n, start=start)


class OneRow(Rows):
    def row(self, key, r):
        return super().row(key, 0 * r)


class Stateful(Rows):
    def sample(self, key, n, *, start=0):
        return super().sample(jax.random.fold_in(key, next(COUNTER)), n, start=start)


class NoLabels(Rows):
    def row(self, key, r):
        return super().row(key, r)._replace(y=jnp.zeros(()))


class Zeros(Rows):
    def row(self, key, r):
        found = super().row(key, r)
        return found._replace(y=(found.y + 1) / 4)


class Infinite(Rows):
    def row(self, key, r):
        found = super().row(key, r)
        return found._replace(x=found.x / jnp.maximum(found.x, 0))


class Integers(Rows):
    def row(self, key, r):
        found = super().row(key, r)
        return found._replace(y=found.y.astype(int))


class Tuples(Rows):
    def sample(self, key, n, *, start=0):
        return tuple(super().sample(key, n, start=start))


class Images(Rows):
    def sample(self, key, n, *, start=0):
        found = super().sample(key, n, start=start)
        return found._replace(x=found.x.reshape(n, 2, 2))


class Hosted(Rows):
    """NumPy takes the start, which training traces."""

    def sample(self, key, n, *, start=0):
        return super().sample(key, n, start=int(np.asarray(start)))


class Lenient(Rows):
    def require_dimension(self, weights):
        pass


class FixedAxis(Rows):
    """Looks at axis 1, which is another one for several networks."""

    def require_dimension(self, weights):
        if weights.shape[1] != self.d:
            raise ValueError("another length")


class Flat(Rows):
    def coordinates(self, weights):
        return weights.ravel()


class Short(Rows):
    """A fixed set with ties among its rows."""

    def sample_labelled(self, key, n):
        found = self.sample(key, n)
        return found._replace(y=found.y.at[0].set(0.0))


class Plain:
    """No pytree: its array is a constant of the program that was compiled first."""

    def __init__(self):
        self.w, self.rows = jnp.ones(4), Rows()
        self.coordinates = self.rows.coordinates
        self.require_dimension = self.rows.require_dimension

    def sample(self, key, n, *, start=0):
        found = self.rows.sample(key, n, start=start)
        return found._replace(y=jnp.sign(found.x @ self.w))


PROBLEMS = [
    (Whole, "start=12.* is not rows 12 to 23 of a longer one. Row r must depend"),
    (Startless, r"sample\(key, 12, start=12\) is not rows 12 to 23"),
    (Keyless, "two keys gave the same samples"),
    (OneRow, "all 24 rows are the same"),
    (Stateful, "gave one key two different batches"),
    (NoLabels, "none of 24 rows has a label"),
    (Zeros, r"labels .* hold \[0.5\], not only −1, 0 and 1"),
    (Infinite, "x of .* is not finite in .* entries. Look for 0/0"),
    (Integers, "y of .* has dtype int32, not float32"),
    (Tuples, "returned a tuple, not a Batch"),
    (Images, r"x of .* has shape \(24, 2, 2\), not \(n, d\)"),
    (Hosted, "traced.* cannot be traced by JAX .*jax.numpy"),
    (Lenient, r"require_dimension passed weights \[3, 5\] with d = 4"),
    (FixedAxis, r"require_dimension\(weights \[2, 3, 4\]\) .* raised ValueError"),
    (Flat, r"coordinates of weights \[3, 4\] are \(12,\)"),
    (Short, "gave 1 rows without a label"),
    (Plain, "its array w is hidden from JAX.*equinox.Module"),
]


def one_line(message, check, *given, **settings):
    with pytest.raises(ValueError, match=message) as caught:
        getattr(fp.testing, f"check_{check}")(*given, **settings)
    said = str(caught.value)
    assert "\n" not in said and check in said, said


def test_a_problem_of_one_s_own_passes():
    passes("problem", Rows(), key=KEY)


@pytest.mark.parametrize("kind, message", PROBLEMS)
def test_a_wrong_problem(unchecked, kind, message):
    one_line(message, "problem", kind(), key=KEY)


# Wrong laws.


class Triangular(HiddenLaw):
    """Right, and in no order: √u on [0, 1] with probability k/D."""

    def magnitude(self, uniform, k, D):
        inside = uniform * D / k
        return jnp.where(inside < 1, jnp.sqrt(jnp.minimum(inside, 1.0)), 0.0)

    def second_moment(self, k, D):
        return k / (2 * D)

    def nonzero_rate(self, k, D):
        return k / D


class WrongMoment(Triangular):
    def second_moment(self, k, D):
        return k / (2.02 * D)


class RightAtOneK(Triangular):
    def second_moment(self, k, D):
        return 9.0 / (2 * 64)


class WrongRate(Triangular):
    def nonzero_rate(self, k, D):
        return (k + 0.1) / D


class Large(Triangular):
    def magnitude(self, uniform, k, D):
        return 2 * super().magnitude(uniform, k, D)


class Negative(Triangular):
    def magnitude(self, uniform, k, D):
        return -super().magnitude(uniform, k, D)


class Normalised(Triangular):
    def magnitude(self, uniform, k, D):
        found = super().magnitude(uniform, k, D)
        return found / found.max()


class Branching(Triangular):
    def nonzero_rate(self, k, D):
        return k / D if k > 1 else 1 / D


LAWS = [
    (WrongMoment, r"second_moment is 0.069\d* at k = 9, D = 64, but magnitude integrates to 0.070"),
    (RightAtOneK, "second_moment is .* at k = 13.5, D = 128"),
    (WrongRate, "nonzero_rate is 0.142.* integrates to 0.1406"),
    (Large, r"magnitude reaches 2 .*\[0, 1\]"),
    (Negative, "magnitude falls to -1 "),
    (Normalised, "as a table of 8 × 12 is another"),
    (Branching, "the law, traced cannot be traced by JAX"),
]


@pytest.mark.parametrize("kind, message", LAWS)
def test_a_wrong_law(unchecked, kind, message):
    passes("law", Triangular())
    one_line(message, "law", kind())


# Wrong attacks: functions are projected and shaped; classes of one's own may do anything.


class Gradient(Attack):
    """Right: FGM, by hand."""

    def __init__(self):
        self.ball = fp.attacks.ball("l2", 0.2)

    def turn(self, delta, batch, key):
        return delta

    def __call__(self, model, batch, *, key):
        _, gradient = model.value_and_input_gradient(batch.x, key=key)
        return self.turn(-batch.y[:, None] * self.ball.maximise(gradient), batch, key)


class TooFar(Gradient):
    def turn(self, delta, batch, key):
        return 1.001 * delta


class Upwards(Gradient):
    def turn(self, delta, batch, key):
        return -delta


class Divided(Gradient):
    """0/0 where no neuron is active."""

    def turn(self, delta, batch, key):
        size = jnp.linalg.norm(delta, axis=1, keepdims=True)
        return 0.2 * jnp.where(batch.y[:, None] == 0, 0, delta / size)


class Unlabelled(Gradient):
    def turn(self, delta, batch, key):
        return delta / jnp.abs(batch.y)[:, None]


class Mixed(Gradient):
    def turn(self, delta, batch, key):
        return self.ball.project(jnp.broadcast_to(delta.mean(axis=0), delta.shape))


class Forgetful(Gradient):
    def turn(self, delta, batch, key):
        return self.ball.random(jax.random.key(next(COUNTER)), delta.shape)


class Single(Gradient):
    def turn(self, delta, batch, key):
        return delta[0]


class Half(Gradient):
    def turn(self, delta, batch, key):
        return delta.astype(jnp.bfloat16)


class Deciding(Gradient):
    def turn(self, delta, batch, key):
        return delta if jnp.abs(delta).max() > 0 else delta + 0.1


ATTACKS = [
    (TooFar, "δ is 0.2002 long at radius 0.2. Project"),
    (Upwards, "on a linear model it raises the mean margin by .*−y·∇f"),
    (Divided, "δ on a network without an active neuron is not finite"),
    (Unlabelled, "δ is not finite in . rows without a label"),
    (Mixed, "another last row changed the δ of the rows before it.*across_rows=True"),
    (Forgetful, "two calls with one key gave two different δ"),
    (Single, r"δ has shape \(16,\), not \(12, 16\)"),
    (Half, "δ has dtype bfloat16"),
    (Deciding, "a call, for two runs at once, cannot be traced by JAX"),
    (lambda: FunctionAttack(lambda *_, key: jnp.zeros(3), 0.1), "raised ConfigError: FunctionAtt"),
    (lambda: 0.1, "attack must be an Attack, .* got 0.1"),
]


@pytest.mark.parametrize("make, message", ATTACKS)
def test_a_wrong_attack(unchecked, make, message):
    one_line(message, "attack", make(), key=KEY)


def test_one_delta_for_the_whole_batch_may_be_meant(unchecked):
    passes("attack", Gradient(), key=KEY)
    passes("attack", Mixed(), key=KEY, across_rows=True)


def test_random_directions_are_not_taken_for_the_wrong_sign():
    """Examples of another network, and a dense direction of another problem."""
    sources = [fp.initialise(16, 8, sigma_0=0.3, key=jax.random.key(s)) for s in range(2)]
    for source in sources:
        passes("attack", Transfer(source, fp.FGM(0.1)), key=KEY)
    other = fp.SparseCoding(16, 3, 0.3, key=jax.random.key(5))
    passes("attack", DenseMixture.of(other, 0.1), key=KEY)


# Wrong schedules.


class Own(BiasSchedule):
    """Any function of (progress, bias, coordinates)."""

    rule: object = eqx.field(static=True)

    def __call__(self, progress, bias, coordinates):
        return self.rule(progress, bias, coordinates)


def done(progress):
    return progress.step / progress.steps


SCHEDULES = [
    (lambda p, b, c: jnp.float32(0.1), r"per neuron has shape \(\), not shape \(5,\)"),
    (lambda p, b, c: b - 0.01, "falls to -0.46"),
    (lambda p, b, c: b + jnp.sqrt(0.5 - done(p)), "is not finite"),
    (lambda p, b, c: b * 0 + 1 / (p.steps - 1), "along 1 steps .* not finite|of 1 .*not finite"),
    (lambda p, b, c: b if p.step < 3 else b + 1, "a phase .* cannot be traced by JAX"),
    (lambda p, b, c: (b * 0).astype(int), "has dtype int32, not float32"),
    (lambda p, b, c: 0.1, r"has float, not shape \(\)"),
    (lambda p, b, c: (_ for _ in ()).throw(ValueError("no")), "refuses shared .* alike: no"),
]


@pytest.mark.parametrize("rule, message", SCHEDULES)
def test_a_wrong_schedule(unchecked, rule, message):
    passes("schedule", Own(lambda p, b, c: b + 0.1 * done(p)))
    one_line(message, "schedule", Own(rule))


# Wrong losses.


LOSSES = [
    (lambda m: jnp.mean(hinge_loss(m)), r"its value has shape \(\), not shape \(161,\)"),
    (lambda m: jax.nn.softplus(m), "it rises at margin 0, which rewards mistakes"),
    (lambda m: hinge_loss(m) / jnp.max(jnp.abs(m)), "depends on which others there are"),
    (lambda m: jnp.where(m > 0, 0.0, 1.0).sum() + 0 * m, "depends on which|nothing is learned"),
    (lambda m: jnp.ones_like(m), "so that nothing is learned"),
    (lambda m: jnp.sqrt(jnp.maximum(1 - m, 0)), "its derivative is not finite"),
    (lambda m: jnp.log(m), "its value is not finite in"),
    (lambda m: np.maximum(1 - np.asarray(m), 0), "cannot be traced by JAX"),
    (lambda m: hinge_loss(m).astype(jnp.float16), "has dtype float16, not float32"),
    ("hinge", "loss must be a function of the margin, hinge_loss say, got 'hinge'"),
]


@pytest.mark.parametrize("loss, message", LOSSES)
def test_a_wrong_loss(unchecked, loss, message):
    one_line(message, "loss", loss)


# Wrong observers.


def in_one_phase(moment):
    return {} if moment.phase.attack is None else {"attacked": 1.0}


OBSERVERS = [
    (lambda m: [1.0], "it returns an object of the class list. Return a mapping"),
    (lambda m: {"a": "x"}, "it gives 'x' for 'a'"),
    (lambda m: {3: 1.0}, "a number the name 3"),
    (in_one_phase, "it gives 'attacked' in one kind of phase alone. Return the same names"),
    (lambda m: {"n": next(COUNTER)}, "two calls on one moment gave two different answers"),
    (lambda m: {"b": float(m.network.weights.max())}, "cannot be traced by JAX"),
    (lambda m: {"loss": m.network.bias}, "observe records 'loss', which training records itself"),
    (lambda m: {"w": m.network.thresholds}, "raised AttributeError"),
    ({}, "observe must be a function of one Moment"),
]


@pytest.mark.parametrize("observe, message", OBSERVERS)
def test_a_wrong_observer(unchecked, observe, message):
    one_line(message, "observe", observe, key=KEY)


# Wrong claims.


class Lenience(AtLeast):
    """Judges the mean, not the interval."""

    def judge(self, found):
        return Verdict.SUPPORTED if found.mean >= self.threshold else Verdict.CONTRADICTED


class Words(AtLeast):
    def judge(self, found):
        return "supported"


def claim(**changes):
    return Claim(
        **{
            "id": "C1",
            "rule": AtLeast(0.9, "it"),
            "measure": over_seeds,
            "predicted": "→ 1",
            "source": "[P]",
            "statement": "so it is",
        }
        | changes
    )


SUBJECT = [0.93, 0.95, 0.94]
CLAIMS = [
    (dict(source=" "), "source is ' '. Say where the prediction is from"),
    (dict(predicted=None), "predicted is None"),
    (dict(statement="a {brace"), "statement 'a {brace' raised ValueError"),
    (
        dict(statement="in {regimes}"),
        "a row of its scorecard raised KeyError: 'regimes'.*predicted",
    ),
    (dict(rule=0.9), "rule must be a rule, .* got 0.9"),
    (dict(rule=AtLeast(-math.inf, "it")), "no value .* contradicts it by its rule"),
    (dict(rule=Lenience(0.9, "it")), r"its rule calls \[−10³⁰, 10³⁰\] 'contradicted'"),
    (dict(rule=Words(0.9, "it")), "its rule returns a str, no Verdict"),
    (dict(measure=0.95), "measure is 0.95"),
    (dict(measure=lambda: SUBJECT), "measure, given one subject raised TypeError"),
    (dict(measure=lambda values: np.mean(values)), "measure returns a float64"),
    (dict(measure=lambda values: over_seeds([v + next(COUNTER) for v in values])), "two values"),
    (dict(measure=lambda values: Measured(2.0, 0.9, 1.0, 3)), "does not hold its mean 2"),
]


@pytest.mark.parametrize("changes, message", CLAIMS)
def test_a_wrong_claim(unchecked, changes, message):
    passes("claim", claim(), SUBJECT)
    one_line(message, "claim", claim(**changes), SUBJECT)
