"""Training: what a run returns, what may not change it, and how failures show."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from canned import CannedProblem

from featpur_sim import (
    FGM,
    PGD,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    initialise,
    train,
    train_many,
)
from featpur_sim.models.losses import hinge_loss, squared_loss
from featpur_sim.training.bias import LinearRamp, PerNeuron
from featpur_sim.training.course import record_steps, require_trained
from featpur_sim.training.loop import replicate
from featpur_sim.training.phase import Phase
from featpur_sim.training.step import Status

KEY = jax.random.key(50)
D, M = 24, 32


@pytest.fixture(scope="module")
def start():
    problem = SparseCoding(d=D, k=4, sigma_x=0.3, key=jax.random.key(1))
    return problem, initialise(D, M, sigma_0=0.05, key=jax.random.key(2))


def clean(steps=20, **settings):
    return CleanPhase(steps, **{"batch": 64, "bias": LinearRamp(0.1), **settings})


def adversarial(steps=15, **settings):
    return AdversarialPhase(FGM(0.1), steps, **{"batch": 64, **settings})


def weights(run, phase=None):
    return np.asarray((run.network if phase is None else run.networks[phase]).weights)


def test_a_run_returns_its_networks_records_and_status(start):
    seen = []
    run = train(
        *start, [clean(), adversarial()], key=KEY, records=4, test_samples=256,
        observe=lambda moment: {"largest": jnp.max(jnp.abs(moment.network.weights))},
        on_record=seen.append,
    )  # fmt: skip
    assert list(run.networks) == ["init", "clean", "adversarial"]
    assert np.array_equal(weights(run, "init"), start[1].weights)
    assert not np.array_equal(weights(run, "clean"), weights(run, "adversarial"))
    assert weights(run).shape == (M, D)
    steps = record_steps(20, 4) + record_steps(15, 4)
    assert run.record_step.tolist() == steps
    names = ["clean"] * len(record_steps(20, 4)) + ["adversarial"] * len(record_steps(15, 4))
    assert run.record_phase.tolist() == names
    assert {v.shape for v in run.records.values()} == {(len(steps),)}
    assert run.records["largest"][-1] == np.abs(weights(run)).max()
    assert run.status == Status.OK
    assert [(r.phase, r.step) for r in seen] == list(zip(names, steps, strict=True))
    assert seen[3].values["loss"] == run.records["loss"][3]


@pytest.mark.parametrize(
    ("short", "whole"), [(CleanPhase, Phase), (AdversarialPhase, Phase), (train, train_many)]
)
def test_a_shorter_call_has_the_names_and_defaults_of_the_whole_one(short, whole):
    own, wholes = (inspect.signature(f).parameters.values() for f in (short, whole))
    options = {p.name: p.default for p in own if p.kind is p.KEYWORD_ONLY and p.name != "key"}
    assert not any(p.kind is p.VAR_KEYWORD for p in own)
    assert options == {
        p.name: p.default
        for p in wholes
        if p.kind is p.KEYWORD_ONLY and p.name not in ("keys", "attack")
    }


def test_record_steps_cover_the_phase_and_thin_out():
    steps = record_steps(1000, 10)
    assert steps[0] == 0 and steps[-1] == 1000 and len(steps) == 11
    assert np.all(np.diff(steps, 2) > 0)
    assert record_steps(3, 40) == [0, 1, 2, 3]


def test_training_learns(start):
    # Accuracy must rise well past a coin toss, and its record must be the held-out accuracy.
    problem, network = start
    run = train(problem, network, [clean(300, batch=256)], key=KEY, records=2, test_samples=2000)
    assert run.records["accuracy"][0] < 0.8 < 0.9 < run.records["accuracy"][-1]
    assert run.records["loss"][-1] < 0.5 * run.records["loss"][0]
    batch = problem.sample_labelled(jax.random.key(9), 4000)
    accuracy = np.mean(np.asarray(batch.y * run.network(batch.x)) > 0)
    assert run.records["accuracy"][-1] == pytest.approx(accuracy, abs=0.03)


def test_the_bias_of_a_record_belongs_to_its_step(start):
    run = train(*start, [clean(10, bias=LinearRamp(0.5, fraction=1.0))], key=KEY, records=10)
    np.testing.assert_allclose(run.records["bias"], 0.05 * run.record_step, atol=1e-6)
    assert float(run.network.bias) == pytest.approx(0.5)


def test_the_adversarial_phase_keeps_the_threshold_of_the_clean_one(start):
    run = train(*start, [clean(), adversarial()], key=KEY)
    assert float(run.networks["clean"].bias) == pytest.approx(0.1)
    assert np.array_equal(run.network.bias, run.networks["clean"].bias)


def test_observations_see_the_held_out_batch_of_the_run(start):
    def observe(moment):
        return {"labelled": jnp.sum(moment.batch.labelled), "first": moment.batch.x[0, 0]}

    run = train(*start, [clean()], key=KEY, records=3, test_samples=128, observe=observe)
    assert len(set(run.records["first"])) == 1
    assert 64 < run.records["labelled"][0] <= 128
    other = train(
        *start, [clean()], key=jax.random.key(51), records=3, test_samples=128, observe=observe
    )
    assert other.records["first"][0] != run.records["first"][0]


def test_record_points_do_not_touch_the_trajectory(start):
    # The monotone schedule is the one that remembers: recording must not make it step twice.
    problem = start[0]
    network = initialise(D, M, sigma_0=0.05, per_neuron_bias=True, key=jax.random.key(2))
    bias = PerNeuron(0.3, begin=0.1, end=0.4, monotone=True)
    phases = [clean(bias=bias), adversarial()]
    few, many = (train(problem, network, phases, key=KEY, records=r) for r in (2, 20))
    assert np.array_equal(weights(few), weights(many))
    assert np.array_equal(few.network.bias, many.network.bias)


def test_snapshots_are_the_networks_on_the_way(start):
    phases = [clean(), adversarial()]
    run = train(*start, phases, key=KEY, records=3, snapshots={"clean": [0, 7], "adversarial": [5]})
    assert set(run.snapshots) == {("clean", 0), ("clean", 7), ("adversarial", 5)}
    assert np.array_equal(run.snapshots["clean", 0].weights, start[1].weights)
    plain = train(*start, phases, key=KEY, records=3)
    assert np.array_equal(weights(run), weights(plain))
    # The ramp reads the fraction of the phase, so a phase of 7 steps needs the same slope.
    short = [clean(7, bias=LinearRamp(0.07, fraction=1.0))]
    upto = train(*start, short, key=KEY)
    np.testing.assert_allclose(run.snapshots["clean", 7].weights, weights(upto), atol=1e-6)


def test_microbatches_give_the_step_of_the_whole_batch(start):
    phases = [clean(10), adversarial(10)]
    whole = train(*start, phases, key=KEY)
    cut = train(*start, [clean(10, microbatch=16), adversarial(10, microbatch=16)], key=KEY)
    np.testing.assert_allclose(weights(cut), weights(whole), atol=1e-6)
    moved = np.abs(weights(whole) - np.asarray(start[1].weights)).max()
    assert moved > 0.1


@pytest.mark.parametrize("microbatch", [None, 16])
def test_a_fixed_set_smaller_than_the_batch_is_used_whole(start, microbatch):
    # Full-batch descent has no sampling: 48 points, then the same 48 again.
    phases = [clean(12, dataset_size=48, microbatch=microbatch, bias=LinearRamp(0.0))]
    run = train(*start, phases, key=KEY, records=12)
    loss = run.records["training_loss"][1:]
    assert np.all(np.diff(loss) < 0)
    fresh = train(*start, [clean(12, bias=LinearRamp(0.0))], key=KEY, records=12)
    assert np.any(np.diff(fresh.records["training_loss"][1:]) > 0)


def test_a_fixed_set_is_memorised_and_fresh_samples_are_not(start):
    problem = eqx.tree_at(lambda p: p.sigma_x, start[0], jnp.float32(2.0))
    settings = {"batch": 256, "bias": LinearRamp(0.0), "learning_rate": 0.2}
    gaps = []
    for size in (40, None):
        run = train(
            problem, start[1], [clean(300, dataset_size=size, **settings)], key=KEY, records=2
        )
        gaps.append(run.records["loss"][-1] - run.records["training_loss"][-1])
    assert gaps[0] > 0.5 > 0.1 > gaps[1]


def test_minibatches_of_a_fixed_set_are_cut_alike(start):
    whole = train(*start, [clean(10, dataset_size=100)], key=KEY)
    cut = train(*start, [clean(10, dataset_size=100, microbatch=8)], key=KEY)
    np.testing.assert_allclose(weights(cut), weights(whole), atol=1e-6)
    assert not np.allclose(weights(whole), weights(train(*start, [clean(10)], key=KEY)), atol=1e-3)


def test_one_run_equals_its_row_among_many(start):
    problem, network = start
    phases, keys = [clean(), adversarial()], jax.random.split(KEY, 3)
    many = train_many(*replicate((problem, network, phases), 3), keys=keys, records=5)
    for seed in range(3):
        one = train(problem, network, phases, key=keys[seed], records=5)
        np.testing.assert_allclose(many.network.weights[seed], weights(one), atol=1e-5)
        np.testing.assert_allclose(many.records["loss"][:, seed], one.records["loss"], rtol=1e-4)
    assert not np.allclose(many.network.weights[0], many.network.weights[1], atol=1e-2)
    assert many.status.tolist() == [Status.OK] * 3


def compilations():
    """Counts XLA compilations from now on."""
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


def test_settings_do_not_recompile():
    traces = []

    def observe(moment):
        traces.append(1)
        return {}

    def run(k, sigma_x, rate, decay, radius, steps, b, seed):
        problem = SparseCoding(d=20, k=k, sigma_x=sigma_x, key=jax.random.key(seed))
        network = initialise(20, 12, key=jax.random.key(seed))
        phases = [
            clean(steps, learning_rate=rate, weight_decay=decay, bias=LinearRamp(b)),
            AdversarialPhase(FGM(radius), steps, batch=64, learning_rate=rate),
        ]
        train(
            problem, network, phases, key=jax.random.key(seed), observe=observe, records=3,
            test_samples=32,
        )  # fmt: skip

    run(3, 0.3, 0.5, 1e-4, 0.1, 10, 0.1, 0)
    first = len(traces)
    assert first == 2  # one program per phase
    compiled = compilations()
    run(5.5, 0.1, 0.2, 1e-3, 0.2, 17, 0.05, 1)
    assert len(traces) == first
    assert compiled == []
    # The counter does count: another width is another program.
    train(
        SparseCoding(d=20, k=3, sigma_x=0.3), initialise(20, 13, key=KEY), [clean(2)], key=KEY,
        records=2,
    )  # fmt: skip
    assert compiled


def many_rates(start, rates, **settings):
    problem, network = start
    problem, network, phases = replicate((problem, network, [clean(30, **settings)]), len(rates))
    phase = eqx.tree_at(lambda p: p.learning_rate, phases[0], jnp.asarray(rates, jnp.float32))
    return problem, network, [phase]


def test_divergence_stays_in_its_seed(start):
    keys = jax.random.split(KEY, 3)
    run = train_many(*many_rates(start, [0.5, 1e30, 0.5]), keys=keys, records=5)
    assert run.status.tolist() == [Status.OK, Status.DIVERGED, Status.OK]
    assert np.isfinite(np.asarray(run.network.weights)).all()
    quiet = train_many(*many_rates(start, [0.5, 0.5, 0.5]), keys=keys, records=5)
    assert quiet.status.tolist() == [Status.OK] * 3
    for seed in (0, 2):
        assert np.array_equal(run.network.weights[seed], quiet.network.weights[seed])
    status = run.records["status"][:, 1]
    assert status[0] == Status.OK and status[-1] == Status.DIVERGED
    first = run.record_step[np.argmax(status == Status.DIVERGED)]
    assert 0 < run.status_step[1] < first
    assert run.status_step[0] == 0


def test_a_step_to_infinity_is_refused_at_once(start):
    # The loss before the step is finite; the weights after it would not be.
    run = train(*start, [clean(1, learning_rate=1e30, weight_decay=1e18)], key=KEY)
    assert run.status == Status.DIVERGED
    assert np.array_equal(weights(run), start[1].weights)


def test_a_diverged_run_stays_so_in_the_next_phase(start):
    run = train(*start, [clean(learning_rate=1e30), adversarial()], key=KEY, records=3)
    assert run.status == Status.DIVERGED
    assert np.array_equal(weights(run), weights(run, "clean"))


def test_death_is_reported_per_seed(start):
    problem, network, phases = many_rates(start, [0.5, 0.5], bias=LinearRamp(0.1, fraction=0.5))
    ramp = eqx.tree_at(lambda r: r.stop, phases[0].bias, jnp.array([0.1, 50.0]))
    phases = [eqx.tree_at(lambda p: p.bias, phases[0], ramp)]
    keys = jax.random.split(KEY, 2)
    run = train_many(problem, network, phases, keys=keys, records=5)
    assert run.status.tolist() == [Status.OK, Status.DEAD]
    assert 0 < run.status_step[1] < 15
    both = train_many(*many_rates(start, [0.5, 0.5]), keys=keys, records=5)
    assert np.array_equal(run.network.weights[0], both.network.weights[0])
    # Only weight decay acts: norms shrink by (1 − ηλ(1 + ‖w‖)) a step, and no more.
    last = train_many(problem, network, phases, keys=keys, snapshots={"clean": [29]})
    before = np.linalg.norm(np.asarray(last.snapshots["clean", 29].weights[1]), axis=1)
    after = np.linalg.norm(np.asarray(last.network.weights[1]), axis=1)
    np.testing.assert_allclose(after, before * (1 - 0.5 * 1e-4 * (1 + before)), rtol=1e-6)


def test_confident_answers_are_not_death(start, batch):
    # Margins so large that every gradient underflows to 0, with all neurons active.
    problem, network = start
    huge = eqx.tree_at(lambda n: n.weights, network, 1e4 * jnp.eye(M, D) * problem.wstar[None, :])
    easy = SparseCoding(d=D, k=1, sigma_x=0.0, wstar=problem.wstar, key=jax.random.key(1))
    run = train(easy, huge, [clean(1, bias=LinearRamp(0.0), weight_decay=0.0)], key=KEY)
    assert run.records["training_loss"][-1] == 0
    assert run.status == Status.OK


def test_other_optimisers(start):
    runs = {
        name: train(*start, [clean(200, optimizer=make, learning_rate=rate)], key=KEY, records=2)
        for name, make, rate in (
            ("sgd", optax.sgd, 0.5),
            ("adam", optax.adam, 0.01),
            ("momentum", momentum, 0.05),
        )
    }
    for run in runs.values():
        assert run.records["accuracy"][-1] > 0.9
        assert run.status == Status.OK
    assert not np.allclose(weights(runs["sgd"]), weights(runs["adam"]), atol=1e-2)


@pytest.mark.parametrize("loss", [hinge_loss, squared_loss])
def test_other_losses(start, loss):
    run = train(*start, [clean(200, learning_rate=0.1, loss=loss)], key=KEY, records=2)
    assert run.records["accuracy"][-1] > 0.85
    assert run.records["loss"][-1] < 0.6 < run.records["loss"][0]
    usual = train(*start, [clean(200, learning_rate=0.1)], key=KEY, records=2)
    assert not np.allclose(weights(run), weights(usual), atol=1e-2)


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def test_the_first_adam_step_is_the_sign_of_the_gradient(start):
    problem, network = start
    batch = problem.sample(jax.random.key(3), 64)
    phase = clean(1, optimizer=optax.adam, learning_rate=0.01, bias=LinearRamp(0.0))
    run = train(CannedProblem(problem, batch), network, [phase], key=KEY)
    step = (weights(run) - np.asarray(network.weights)) / 0.01
    np.testing.assert_allclose(np.abs(step), 1, atol=1e-3)


def test_attacks_of_a_phase_may_be_any(start):
    attacks = (FGM(0.1), FGM(0.02, "linf"), PGD(0.1, steps=3, restarts=2), FGM(0.0), None)
    phases = [Phase("phase", 10, batch=64, attack=attack) for attack in attacks]
    # At b = 0 the network is linear and every attack the same; this threshold opens and closes.
    bent = eqx.tree_at(lambda n: n.bias, start[1], jnp.float32(0.03))
    runs = [train(start[0], bent, [phase], key=KEY, records=2) for phase in phases]
    assert all(run.status == Status.OK for run in runs)
    found = [weights(run) for run in runs]
    for other in found[1:]:
        assert not np.allclose(found[0], other, atol=1e-4)
    # An attack of radius 0 is clean training on the same samples.
    assert np.array_equal(found[3], found[4])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "clean phase: steps must be an integer ≥ 1 .*, got 0"),
        ({"steps": 2.5}, "clean phase: steps must be an integer ≥ 1 .*, got 2.5"),
        ({"batch": 0}, "clean phase: batch must be an integer ≥ 1 .*, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0 .*, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be ≥ 0 .*, got -1.0"),
        ({"microbatch": 3}, "microbatch must divide batch=64, got 3"),
        ({"microbatch": 0}, "microbatch must be an integer ≥ 1 .*, got 0"),
        ({"dataset_size": 0}, "dataset_size must be an integer ≥ 1 .*, got 0"),
    ],
)
def test_phases_refuse(settings, message, unchecked):
    with pytest.raises(ValueError, match=message):
        clean(**{"steps": 10, **settings})


@pytest.mark.parametrize(
    ("phases", "settings", "message"),
    [
        ([], {}, r"distinct names, got \[\]"),
        ([clean(), clean()], {}, r"distinct names, got \['clean', 'clean'\]"),
        ([clean()], {"snapshots": {"late": [1]}}, r"unknown phases \['late'\]"),
        ([clean(20)], {"snapshots": {"clean": [21]}}, r"must lie in \[0, 20\], got \{21\}"),
        (
            [clean(20)],
            {"snapshots": {"clean": [-1]}},
            "snapshot's step must be an integer ≥ 0 .*, got -1",
        ),
        ([clean()], {"records": 0}, "records must be an integer ≥ 1 .*, got 0"),
        ([clean()], {"test_samples": 64.0}, "test_samples must be an integer ≥ 1 .*, got 64.0"),
    ],
)
def test_train_refuses(start, phases, settings, message, unchecked):
    with pytest.raises(ValueError, match=message):
        train(*start, phases, key=KEY, **settings)


def test_runs_together_need_one_number_of_steps(start):
    problem, network, phases = replicate((*start, [clean()]), 2)
    phase = eqx.tree_at(lambda p: p.steps, phases[0], jnp.array([10, 20]))
    with pytest.raises(ValueError, match=r"one number of steps, got \[10, 20\]"):
        train_many(problem, network, [phase], keys=jax.random.split(KEY, 2))


def test_a_run_that_failed_is_named(start):
    run = train(*start, [clean()], key=KEY)
    require_trained(run)
    for status in (Status.DEAD, Status.DIVERGED):
        with pytest.raises(ValueError, match=rf"run 0 \({status.name.lower()}\)"):
            require_trained(run._replace(status=np.array(int(status))))
