"""Counts and numbers that arrive at public functions keep the rules of the settings files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import featpur_sim as fp
from featpur_sim import FGM, SparseCoding, SymmetricReLU
from featpur_sim._ground import checks
from featpur_sim.attacks.protocol import Protocol, Stage
from featpur_sim.certify import Effort, certified_radius, certify, float32_inference_error
from featpur_sim.certify.ascent import Pace
from featpur_sim.data import dictionaries as dictionary
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.measure.critical_radius import bisect_critical_radius, dense_critical_radius
from featpur_sim.models.full_polynomial import FullPolynomial
from featpur_sim.models.linear import LinearClassifier, train_linear
from featpur_sim.models.polynomial import PolynomialClassifier, symmetric_terms
from featpur_sim.models.tangent_kernel import gate_bias, random_gates
from featpur_sim.models.tangent_kernel_limit import NTKLimit, limit_kernel
from featpur_sim.runs.budget import Budget
from featpur_sim.runs.config import ConfigError
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.competitors import competitors
from featpur_sim.training.course import record_steps
from featpur_sim.training.loop import replicate
from featpur_sim.training.low_complexity import best_member, fit

KEY = jax.random.key(0)
W, POINTS = np.eye(4), np.ones((2, 4))


@pytest.fixture(scope="module")
def problem():
    return SparseCoding(8, 2, 0.3)


def network():
    return SymmetricReLU(np.eye(8), 0.1)


def proved(weights=W, bias=0.1, points=POINTS, radius=0.2, **settings):
    return certify(weights, bias, points, radius, stages=["linear"], **settings)


def dense(p, n=50, **settings):
    return dense_critical_radius(network(), p, key=KEY, n=n, **settings).value


def bisected(p, n=50, low=0.01, high=5.0, **settings):
    return bisect_critical_radius(
        network(), p, FGM, key=KEY, n=n, low=low, high=high, **settings
    ).value


def linear(p, radius=0.1, steps=2, batch=4, **settings):
    return train_linear(p, radius, key=KEY, steps=steps, batch=batch, **settings).weight


def fitted(p, steps=2, batch=4, **settings):
    start = LinearClassifier(jnp.ones(8))
    return fit(
        start, lambda m: m.weight, p, None, key=KEY, steps=steps, batch=batch, **settings
    ).weight


def best(p, n):
    return best_member({"a": network()}, p, FGM(0.1), key=KEY, n=n)[0]


def polynomial(p, degree, weights):
    return PolynomialClassifier.start(p, degree, weights, key=KEY)


def largest(value):
    return certified_radius(W, 0.1, POINTS, value, stages=["linear"], halvings=2)


def halved(value):
    return certified_radius(W, 0.1, POINTS, 1.0, stages=["linear"], halvings=value)


# Parameter → call with a value for it, the least that is allowed.
COUNTS = {
    "q1_steps": (lambda p, v: Effort(q1_steps=v).q1_steps, 0),
    "max_nodes": (lambda p, v: Effort(max_nodes=v).max_nodes, 0),
    "q2.steps": (lambda p, v: Effort(q2=Pace(v)).q2.steps, 0),
    "halvings": (lambda p, v: halved(v), 1),
    "n": (lambda p, v: dense(p, v), 1),
    "n of bisect": (lambda p, v: bisected(p, v), 1),
    "halvings of bisect": (lambda p, v: bisected(p, halvings=v), 1),
    "steps": (lambda p, v: Stage("FGM", steps=v).steps, 1),
    "restarts": (lambda p, v: Stage("FGM", restarts=v).restarts, 1),
    "steps of train_linear": (lambda p, v: linear(p, steps=v), 2),
    "batch": (lambda p, v: linear(p, batch=v), 1),
    "steps of fit": (lambda p, v: fitted(p, steps=v), 1),
    "batch of fit": (lambda p, v: fitted(p, batch=v), 1),
    "n of best_member": (lambda p, v: best(p, v), 1),
    "d": (lambda p, v: random_gates(v, 4, key=KEY), 1),
    "m": (lambda p, v: random_gates(4, v, key=KEY), 1),
    "d of gate_bias": (lambda p, v: gate_bias(v, 2), 1),
    "degree": (lambda p, v: len(symmetric_terms(v)), 1),
    "degree of start": (lambda p, v: polynomial(p, v, {(1,): 1.0}).units, 1),
    "d of zero": (lambda p, v: FullPolynomial.zero(v, 2).tensor, 1),
    "degree of zero": (lambda p, v: FullPolynomial.zero(2, v).tensor, 1),
    "steps of competitors": (lambda p, v: len(competitors(p, 0.1, steps=v)), 1),
    "n of sample": (lambda p, v: p.sample(KEY, v).x, 0),
    "start": (lambda p, v: p.sample(KEY, 2, start=v).x, 0),
    "n of sample_labelled": (lambda p, v: p.sample_labelled(KEY, v).x, 1),
    "d of haar": (lambda p, v: dictionary.haar(v, KEY), 1),
    "d of dct": (lambda p, v: dictionary.dct(v), 1),
    "D of incoherent": (lambda p, v: dictionary.incoherent(2, v, KEY), 1),
    "seeds": (lambda p, v: replicate(jnp.ones(2), v), 1),
    "records": (lambda p, v: record_steps(9, v), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts(unchecked, problem, name):
    call, least = COUNTS[name]
    for bad in (True, 2.5, -1, least - 1, "3", None, np.array([3]), 2**31):
        with pytest.raises(ConfigError, match=f"{name.split()[0]} must be an integer ≥ {least} "):
            call(problem, bad)
    expected = np.asarray(call(problem, 3))
    for good in (np.int64(3), np.array(3), jnp.int32(3)):
        np.testing.assert_array_equal(np.asarray(call(problem, good)), expected)


# Parameter → call with a value for it; the rule.
NUMBERS = {
    "radius": (lambda p, v: proved(radius=v).lower, "> 0"),
    "bias": (lambda p, v: proved(bias=v).lower, "≥ 0"),
    "smoothing": (lambda p, v: proved(smoothing=v).lower, "≥ 0"),
    "largest": (lambda p, v: largest(v), "> 0"),
    "q2.rate": (lambda p, v: Effort(q2=Pace(3, v)).q2.rate, "> 0"),
    "bias of float32_inference_error": (lambda p, v: float32_inference_error(W, v, 2.0), "≥ 0"),
    "level": (lambda p, v: dense(p, level=v), "> 0 and < 1"),
    "level of bisect": (lambda p, v: bisected(p, level=v, halvings=2), "> 0 and < 1"),
    "low": (lambda p, v: bisected(p, low=v, halvings=2), "> 0"),
    "high": (lambda p, v: bisected(p, high=v, halvings=2), "> 0"),
    "step_size": (lambda p, v: Stage("PGD", step_size=v).step_size, "≥ 0"),
    "smoothing of Stage": (lambda p, v: Stage("FGM", smoothing=v).smoothing, "≥ 0"),
    "radius of Protocol": (
        lambda p, v: (
            Protocol("x", "1", (Stage("FGM"),))(
                network(), p.sample_labelled(KEY, 4), v, key=KEY
            ).margin
        ),
        "> 0",
    ),
    "radius of train_linear": (lambda p, v: linear(p, v), "> 0"),
    "learning_rate": (lambda p, v: linear(p, learning_rate=v), "> 0"),
    "learning_rate of fit": (lambda p, v: fitted(p, learning_rate=v), "> 0"),
    "k": (lambda p, v: gate_bias(8, v), "> 0"),
    "bias of NTKLimit": (lambda p, v: NTKLimit.witness(p, v, key=KEY).bias, "> 0"),
    "bias of limit_kernel": (lambda p, v: limit_kernel(np.ones(2), np.ones(2), v), "≥ 0"),
    "radius of competitors": (lambda p, v: len(competitors(p, v)), "> 0"),
    "seconds": (lambda p, v: Budget(v).seconds, "> 0"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(unchecked, problem, name):
    call, rule = NUMBERS[name]
    said = f"{name.split()[0]}.* must be "
    for bad in (True, "0.25", None, 0.25j, "a"):
        with pytest.raises(ConfigError, match=f"{said}a number"):
            call(problem, bad)
    for bad in (-0.25, float("nan"), *([0] if ">" in rule else [])):
        with pytest.raises(ConfigError, match=f"{said}{rule}"):
            call(problem, bad)
    expected = np.asarray(call(problem, 0.25))
    for good in (np.float32(0.25), np.array(0.25), jnp.float32(0.25)):
        np.testing.assert_array_equal(np.asarray(call(problem, good)), expected)


@pytest.mark.parametrize("argument", ["weights", "points", "perturbations"])
def test_arrays_of_certificates(argument):
    whole = {"weights": W, "points": POINTS, "perturbations": np.zeros((2, 4))}[argument]
    assert proved(**{argument: whole.astype(int)}).certified.all()
    for bad in (whole.astype(bool), whole.astype(str), whole * 1j, whole[:0], whole[0]):
        with pytest.raises(ConfigError, match=f"{argument} must be "):
            proved(**{argument: bad})
    with pytest.raises(ConfigError, match=f"{argument} must be finite .*got nan among"):
        proved(**{argument: whole * np.nan})


def test_certificates_keep_the_range_of_float64():
    """Float32 ends at 1e38."""
    assert proved(W * 1e100, 0.1, POINTS).certified.all()
    assert proved(W * 1e-100, 0.1e-100, POINTS).certified.all()


@pytest.mark.parametrize("every", [True, "30", None, -1, float("nan")])
def test_seconds_between_checkpoints(unchecked, tmp_path, every):
    with pytest.raises(ConfigError, match=r"Checkpoint: every \(seconds\) must be "):
        Checkpoint(tmp_path, every=every)
    assert Checkpoint(tmp_path, every=np.array(3)).every == 3.0
    assert Checkpoint(tmp_path, every=float("inf")).every == float("inf")


def test_what_cannot_work_is_refused_before_it_starts(unchecked, problem):
    for call, message in (
        (lambda: bisected(problem, low=2.0, high=1.0), "low must be < high, got 2.0 and 1.0"),
        (lambda: Stage("PGD"), "step_size must be > 0, got 0"),
        (lambda: Protocol("x", "1", ()), "'x' has no stages"),
        (lambda: linear(problem, norm="l1"), "norm must be 'l2' or 'linf', got 'l1'"),
        (lambda: polynomial(problem, 3, {}), "weight that is not 0"),
        (lambda: limit_kernel(np.zeros(2), np.ones(2), 0.1), "x and other must not be 0"),
        (lambda: FullPolynomial.embed(polynomial(problem, 3, {(3,): 1.0}), 2),
         "degree must be an integer ≥ 3"),
        (lambda: certify(W, 0.1, POINTS, 0.2, stages="linear"), r"list of names, got 'linear'"),
        (lambda: certify(W, 0.1, POINTS, 0.2, start=(np.zeros((1, 4)), np.zeros((2, 4)))),
         r"start has shape \(1, 4\); it must have shape \(2, 4\)"),
        (lambda: squeeze(network(), problem.sample_labelled(KEY, 4), 1e-50, key=KEY),
         "radius must be > 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_messages_stay_one_line():
    for bad in (10**4000, np.full((60, 60), True), ["a"] * 500):
        with pytest.raises(ConfigError) as error:
            checks.number("radius", bad, ndim=None)
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_network_of_another_dimension_is_named(unchecked):
    problem = fp.SparseCoding(d=16, k=3, sigma_x=0.3, key=jax.random.key(0))
    other = fp.initialise(d=12, m=8, key=jax.random.key(1))
    for use in (
        lambda: fp.train(problem, other, [fp.CleanPhase(2)], key=jax.random.key(2)),
        lambda: fp.robust_accuracy(other, problem, fp.FGM(0.1), key=jax.random.key(3), n=10),
        lambda: fp.decompose(other.weights, problem),
    ):
        with pytest.raises(ValueError, match="weights of length 12 with a problem .* d = 16: give"):
            use()


def test_phases_are_phases(unchecked):
    problem = fp.SparseCoding(d=16, k=3, sigma_x=0.3, key=jax.random.key(0))
    network = fp.initialise(d=16, m=8, key=jax.random.key(1))
    with pytest.raises(ValueError, match="phases hold 'clean': give phases"):
        fp.train(problem, network, ["clean"], key=jax.random.key(2))


def test_an_adversarial_phase_has_an_attack(unchecked):
    for nothing in (None, 0.1):
        with pytest.raises(ValueError, match="attack must be an Attack"):
            fp.AdversarialPhase(nothing, 3)
