"""Whatever JAX's global switches are, results are the same to the bit, or one line says why not."""

import contextlib
import os
import subprocess
import sys

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
    initialise,
    robust_accuracy,
    train,
    train_many,
)
from featpur_sim._ground.switches import _HELD, overruled, require_key, x64
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import DenseMixture, RandomNoise
from featpur_sim.attacks.protocol import QUICK
from featpur_sim.data.laws import UniformMagnitude
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.measure.weights import overlap, summarise, update_spectrum
from featpur_sim.training.bias import LinearRamp, PerNeuron
from featpur_sim.training.loop import replicate

SWITCHES = {
    "x64": lambda: x64(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "disable_jit": lambda: jax.disable_jit(True),
    "no_tracing": lambda: jax.no_tracing(True),
    "rbg": lambda: jax.default_prng_impl("rbg"),
    "unsafe_rbg": lambda: jax.default_prng_impl("unsafe_rbg"),
    "threefry": lambda: jax.threefry_partitionable(False),
    "tracer_leaks": lambda: jax.check_tracer_leaks(True),
    "key_reuse": lambda: jax.debug_key_reuse(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "matmul_precision": lambda: jax.default_matmul_precision("highest"),
}
if hasattr(jax, "no_execution"):  # not in the oldest JAX
    SWITCHES["no_execution"] = lambda: jax.no_execution(True)


@contextlib.contextmanager
def everything():
    """All switches at once, but those that only look on."""
    with contextlib.ExitStack() as stack:
        for make in SWITCHES.values():
            stack.enter_context(make())
        yield


@pytest.fixture(scope="module")
def given():
    """Keys, weights and points as a user has them, made before any switch is thrown."""
    keys = [jax.random.key(s) for s in range(10)]
    return {
        "keys": keys,
        "pairs": jnp.stack(keys[4:6]),
        "weights": np.asarray(jax.random.normal(keys[6], (8, 8)), float) * 0.3,
        "x": np.asarray(jax.random.normal(keys[7], (5, 8)), float),
    }


def training(keys, pairs, **_):
    problem = SparseCoding(8, 4, 0.3, key=keys[0])
    phases = [
        CleanPhase(4, batch=16, bias=LinearRamp(0.05)),
        AdversarialPhase(FGM(0.1), 4, batch=16, microbatch=8),
    ]
    network = initialise(8, 8, key=keys[2])
    run = train(problem, network, phases, key=keys[3], records=2, test_samples=64)
    assert np.isnan(run.records["training_loss"][0])
    yield from run.records.items()
    yield "weights", run.network.weights
    yield "bias", run.network.bias
    other = SparseCoding(8, 4, 0.3, dictionary="haar", law=UniformMagnitude(), key=keys[0])
    network = initialise(8, 8, per_neuron_bias=True, key=keys[2])
    phases = [CleanPhase(4, batch=16, dataset_size=32, bias=PerNeuron(0.3), rank=2)]
    many = train_many(
        *replicate((other, network, phases), 2), keys=pairs, records=2, test_samples=64
    )
    yield "many", many.network.weights


def attacks(keys, weights, **_):
    problem = SparseCoding(8, 4, 0.3, key=keys[0])
    network = SymmetricReLU(weights, 0.1)
    points = problem.sample_labelled(keys[1], 64)
    yield "x", points.x
    for name, attack in {
        "fgm": FGM(0.1),
        "pgd": PGD(0.1, steps=4, restarts=2),
        "smoothed pgd": PGD(0.05, "linf", steps=4, smoothing=0.5),
        "apgd": APGD(0.1, steps=8, restarts=2),
        "dense": DenseMixture.of(problem, 0.1),
        "noise": RandomNoise(0.1),
        "signs": RandomNoise(0.1, "linf"),
    }.items():
        yield name, attack(network, points, key=keys[7])
        yield f"{name} score", robust_accuracy(network, problem, attack, key=keys[8], n=100)
    # Weights as large as this classify something, so that neither side is empty.
    strong = SymmetricReLU(np.eye(8) * np.asarray(problem.wstar) + 0.02 * weights, 0.1)
    few = jax.tree.map(lambda leaf: leaf[:8], points)
    both = squeeze(strong, few, 0.1, key=keys[9], protocol=QUICK, stages=["linear", "q1"])
    assert both.certified.any()
    yield "lower", both.lower
    yield "upper", both.upper


def measures(keys, weights, x, **_):
    problem = SparseCoding(8, 4, 0.3, key=keys[0])
    network = SymmetricReLU(weights, 0.1)
    array = jnp.asarray(weights)
    parts = decompose(array, problem)
    yield from parts._asdict().items()
    yield from summarise(parts, problem).items()
    yield "overlap", overlap(array, array[::-1])
    yield "spectrum", update_spectrum(array, array[::-1])[1]
    yield "value", network(jnp.asarray(x))
    yield "gradient", network.value_and_input_gradient(jnp.asarray(x))[1]
    yield "smoothed", network.smoothed(0.1)(jnp.asarray(x))
    yield "active", network.active(jnp.asarray(x))
    # The constants a problem holds itself.
    yield "default key", SparseCoding(8, 4, 0.3, dictionary="incoherent", D=10).M


def results(part, given):
    return {name: np.asarray(value) for name, value in part(**given)}


@pytest.fixture(scope="module")
def plain(given):
    return {part: results(part, given) for part in (training, attacks, measures)}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].tobytes() == value.tobytes(), name


CASES = [(switch, part) for switch in SWITCHES for part in (training, attacks, measures)]
# These compute outside the package, and make arrays of NumPy's, which a user may not under these.
BARRED = ("transfer_guard", "no_tracing", "no_execution")
CASES = [case for case in CASES if case[0] not in BARRED or case[1] is training]
# Compiled anew under this one, which the package leaves to the user.
CASES = [case for case in CASES if case[0] != "matmul_precision" or case[1] is measures]


@pytest.mark.slow
@pytest.mark.parametrize(("switch", "part"), CASES)
def test_same_bits_under_every_switch(plain, given, switch, part):
    with SWITCHES[switch]():
        equal(results(part, given), plain[part])


def test_the_switches_of_this_test_would_matter():
    """Each is one that the package holds, or is named here."""
    held = set()
    for name, make in SWITCHES.items():
        with make():
            held |= set(overruled())
            assert overruled() or name == "matmul_precision", name
    assert held == {name.upper() for name in _HELD if hasattr(jax.config, name)}


@pytest.mark.skipif(
    not hasattr(jax, "enable_x64"),
    reason="older JAX lowers the inner program with the outer switch",
)
def test_under_a_jit_of_the_users(given):
    problem = SparseCoding(8, 4, 0.3, key=given["keys"][0])
    points = problem.sample_labelled(given["keys"][1], 16)

    def both(weights, points):
        delta = PGD(0.1, steps=3)(SymmetricReLU(weights, 0.1), points, key=given["keys"][2])
        return delta, decompose(weights, problem).kappa

    expected = jax.jit(both)(jnp.asarray(given["weights"]), points)
    with x64(True), jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jit(both)(jnp.asarray(given["weights"]), points)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, r"key must be a PRNG key, got 3: write jax.random.key\(3\)\.$"),
        (np.int64(3), r"got 3: write jax.random.key\(3\)\.$"),
        (np.array([0, 3], np.uint32), r"old-style key, .* jax.random.wrap_key_data\(key, "),
        ("3", r"got str: write jax.random.key\(seed\)\.$"),
        (jax.random.split(jax.random.key(3), 2), r"must be one PRNG key, got shape \(2,\): write"),
    ],
)
def test_what_is_no_key_is_refused_in_one_line(unchecked, key, message):
    problem = SparseCoding(8, 4, 0.3)
    network = initialise(8, 8, key=jax.random.key(0))
    for call in (
        lambda: SparseCoding(8, 4, 0.3, key=key),
        lambda: problem.sample(key, 4),
        lambda: initialise(8, 8, key=key),
        lambda: train(problem, network, [CleanPhase(2)], key=key),
        lambda: robust_accuracy(network, problem, key=key),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_no_key_where_one_is_needed_is_one_line(unchecked, given):
    """None is for what has a default key, or needs none."""
    problem = SparseCoding(8, 4, 0.3, key=None)
    network = initialise(8, 8, key=given["keys"][0])
    points = problem.sample_labelled(given["keys"][1], 8)
    phases = [CleanPhase(2)]
    for call in (
        lambda: problem.sample(None, 4),
        lambda: problem.sample_labelled(None, 4),
        lambda: initialise(8, 8, key=None),
        lambda: train(problem, network, phases, key=None),
        lambda: robust_accuracy(network, problem, key=None),
        lambda: PGD(0.1, steps=3, restarts=2)(network, points, key=None),
        lambda: RandomNoise(0.1)(network, points, key=None),
        lambda: QUICK(network, points, 0.1, key=None),
        lambda: squeeze(network, points, 0.1, key=None),
    ):
        with pytest.raises(ValueError, match=r"key must be a PRNG key, got None: write jax.random"):
            call()
    assert network(points.x, key=None).shape == (8,)
    with pytest.raises(TypeError, match="missing 1 required"):
        initialise(8, 8)  # pyright: ignore[reportCallIssue]


def test_one_key_per_run(unchecked, given):
    many = replicate((SparseCoding(8, 4, 0.3), initialise(8, 8, key=given["keys"][0]), []), 2)
    for keys, message in (
        (None, r"keys must be a PRNG key, got None: write jax.random.split"),
        (given["keys"][1], r"keys must be a row of PRNG keys, got shape \(\)"),
        (jax.random.split(given["keys"][1], 3), r"keys has shape \(3,\) and .* \(2, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            train_many(*many, keys=keys)


def test_keys_of_another_kind_are_refused(given):
    with jax.default_prng_impl("rbg"), pytest.raises(ValueError, match="kind rbg: write jax"):
        initialise(8, 8, key=jax.random.key(0))
    with pytest.raises(ValueError, match="keys must be .* kind unsafe_rbg"):
        require_key("keys", jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 3))


def test_the_commands_give_the_same_results(tiny, featpur, few_attacks, monkeypatch, tmp_path):
    """``run`` and what reads its folder, under all switches at once, and without."""
    import json

    import tomli_w

    from featpur_sim.claims import of_run as claims
    from featpur_sim.report import run_figures as figures
    from featpur_sim.report import run_page as report

    # They want every attack.
    for name in ("scorecard", "run_cases"):
        monkeypatch.setattr(claims, name, lambda *arguments, **own: [])
    monkeypatch.setattr(figures, "save_all", lambda result, folder: [])
    monkeypatch.setattr(report, "write_page", lambda *arguments: None)
    small = tiny(
        seeds=2, records=2, problem={"d": 8}, network={"neurons": 8},
        clean={"steps": 20}, adversarial={"steps": 20},
        evaluation={"samples": 100, "pgd_steps": 3},
    )  # fmt: skip
    (tmp_path / "t.toml").write_text(tomli_w.dumps(small), encoding="utf-8")

    def all_commands(name):
        out = tmp_path / name
        answers = []
        for command in (
            ("run", tmp_path / "t.toml", "--out", out, "--json"),
            ("evaluate", out, "--samples", 100, "--json"),
            ("dynamics", tmp_path / "t.toml", "--out", tmp_path / f"{name}-reduced", "--json"),
        ):
            code, text, notes = featpur(*command, "--quiet")
            assert code == (5 if command[0] == "run" else 0), notes  # without rows: no seed
            answers.append(json.loads(text))
            assert ("without effect" in notes) == (name != "plain"), notes
        return answers, dict(np.load(out / "weights.npz"))

    plain = all_commands("plain")
    with everything():
        thrown = all_commands("thrown")
    equal(thrown[1], plain[1])
    assert thrown[0] == plain[0]


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "featpur_sim", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JAX_PLATFORMS", "gpu", "no device for JAX_PLATFORMS=gpu"),
        ("JAX_PLATFORMS", "cup", "no device for JAX_PLATFORMS=cup"),
        ("JAX_DEFAULT_DEVICE", "gpu", "no device for JAX_DEFAULT_DEVICE=gpu"),
        ("JAX_ENABLE_X64", "maybe", "JAX_ENABLE_X64"),
        ("JAX_RANDOM_SEED_OFFSET", "1", "JAX_RANDOM_SEED_OFFSET=1"),
    ],
)
def test_settings_that_cannot_work_are_one_line(tiny, tmp_path, name, value, said):
    import tomli_w

    if value == "gpu" and jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    (tmp_path / "t.toml").write_text(tomli_w.dumps(tiny()), encoding="utf-8")
    out = tmp_path / "out"
    done = command("run", str(tmp_path / "t.toml"), "--out", str(out), **{name: value})
    assert done.returncode == 2 and not done.stdout and not out.exists()
    lines = [line for line in done.stderr.splitlines() if line.startswith("featpur:")]
    assert len(lines) == 1 and said in lines[0], done.stderr
    assert "Traceback" not in done.stderr
