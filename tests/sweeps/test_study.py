"""Studies: contracts before any compute, the same bits however often they are stopped, and
measurements that are those of the functions that users call."""

import json
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import featpur_sim as fp
from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.disk import ResultError
from featpur_sim.sweeps import study_point
from featpur_sim.sweeps.study import Study, digest_of
from featpur_sim.sweeps.study_run import run_study
from featpur_sim.training.loop import Moment

D, SAMPLES = 8, 64


def problem(at, key):
    return fp.SparseCoding(d=D, k=2, sigma_x=0.1)


def network(at, key):
    return fp.TwoLayer.random(D, at.m, sigma_0=0.1, key=key)


def phases(at):
    return [fp.CleanPhase(4, learning_rate=0.5), fp.AdversarialPhase(fp.FGM(0.1), 2)]


def largest(moment: Moment):
    return {"largest": jnp.max(jnp.abs(moment.network.weights))}


def norms(end):
    return {name: jnp.linalg.norm(net.weights) for name, net in end.networks.items()}


def tau(at):
    return 0.1 * at.m


def make(**changes):
    settings = {
        "name": "tiny", "points": {"m": [4, 6]}, "problem": problem, "network": network,
        "phases": phases, "seeds": 2, "records": 2, "radii": (0.0, 1.0), "samples": SAMPLES,
        "observe": largest, "measure": norms, "tau": tau,
    }  # fmt: skip
    return Study(**(settings | changes))


@pytest.fixture
def copied(tmp_path):
    return lambda folder: shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return run_study(make(), out), out


def test_what_comes_out_is_labelled(done):
    result, _ = done
    assert dict(result.sizes) == {
        "point": 2, "seed": 2, "phase": 3, "attack": 1, "relative_radius": 2, "record": 3,
    }  # fmt: skip
    assert result.m.values.tolist() == [4, 6] and result.seed.values.tolist() == [1, 2]
    assert result.phase.values.tolist() == ["init", "clean", "adversarial"]
    assert (result.status == "ok").all() and not result.isnull().all("point").status.any()
    assert np.allclose(result.radius.isel(relative_radius=1), [[0.4] * 2, [0.6] * 2])
    assert all(of.attrs["long_name"] for of in result.data_vars.values())
    grid = fp.sweeps.as_grid(result)
    assert grid.clean.dims == ("m", "seed")


def test_numbers_are_those_of_the_functions_that_train_and_attack(done):
    """One seed by hand: the same keys, through `train` and `robust_accuracy`."""
    result, _ = done
    key = jax.random.fold_in(jax.random.key(0), 2)
    parts = [jax.random.fold_in(key, i) for i in range(4)]
    at = make().listed[1]
    data = problem(at, parts[0])
    run = fp.train(
        data, network(at, parts[1]), phases(at), key=parts[2],
        observe=largest, records=2, test_samples=SAMPLES,
    )  # fmt: skip
    ours = result.isel(point=1, seed=1)
    for name, net in run.networks.items():
        assert float(ours[name]) == pytest.approx(float(jnp.linalg.norm(net.weights)), rel=1e-6)
        score = fp.robust_accuracy(net, data, fp.PGD(0.6), key=parts[3], n=SAMPLES).value
        assert ours.robust_accuracy.sel(phase=name, relative_radius=1).item() == score
    along = ours.along_largest.sel(phase="adversarial").dropna("record").values.astype(np.float32)
    assert np.array_equal(along, run.records["largest"][run.record_phase == "adversarial"])
    assert np.isnan(ours.along_largest.sel(phase="init")).all()


def test_a_study_goes_on_where_it_was_stopped_and_reads_back(done, tmp_path, monkeypatch):
    whole, _ = done
    compute, calls = study_point.compute_point, []

    def stops(study, number, *rest):
        calls.append(number)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return compute(study, number, *rest)

    monkeypatch.setattr("featpur_sim.sweeps.study_run.compute_point", stops)
    with pytest.raises(KeyboardInterrupt):
        run_study(make(), tmp_path / "out")
    assert run_study(make(), tmp_path / "out").identical(whole) and calls == [0, 1, 1]
    assert run_study(make(), tmp_path / "out").identical(whole) and calls == [0, 1, 1]


def heavier(end):
    return {"heavy": 2 * jnp.linalg.norm(end.networks["clean"].weights)}


def test_what_is_trained_is_used_again(done, tmp_path, monkeypatch, copied):
    """Other measurements and more points train nothing twice."""
    whole, out = done
    copy = copied(out)
    trained = []
    train = study_point.train_many

    def counted(*args, **settings):
        folder = settings["checkpoint"].directory
        trained.append((folder / "state.npz").exists())
        return train(*args, **settings)

    monkeypatch.setattr(study_point, "train_many", counted)
    result = run_study(make(measure=heavier, points={"m": [4, 5, 6]}), copy)
    assert trained == [True, False, True]
    assert np.allclose(result.heavy[[0, 2]], 2 * whole["clean"])
    with pytest.raises(ResultError, match=r"trained otherwise \(seed 0 → 1\): undo the change"):
        run_study(make(seed=1), copy)
    assert run_study(make(), copy).identical(whole)
    again = run_study(make(seed=1), copy, overwrite=True)
    assert not np.array_equal(again["clean"], whole["clean"])
    assert not (copy / ".checkpoint" / digest_of(make(points={"m": [5]}).listed[0])).exists()


def test_code_that_changes_what_is_trained_is_told_apart(done, copied):
    def other(at):
        return [fp.CleanPhase(3, learning_rate=0.5), fp.AdversarialPhase(fp.FGM(0.1), 2)]

    with pytest.raises(ResultError, match=r"trained otherwise \(phases "):
        run_study(make(phases=other), copied(done[1]))


def test_foreign_folders_are_left_alone(tmp_path, done, copied):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ResultError, match="something other than a study"):
        run_study(make(), tmp_path)
    damaged = copied(done[1])
    (damaged / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(ResultError, match="cannot be read"):
        run_study(make(), damaged)


def test_a_damaged_batch_is_measured_again(done, copied):
    whole, out = done
    copy = copied(out)
    path = copy / "batches" / "batch-0001.nc"
    path.write_bytes(path.read_bytes()[:-100])
    assert run_study(make(), copy).identical(whole)


def test_a_seed_that_diverges_is_named_and_not_averaged():
    """The second seed of every point starts from weights that are not finite."""

    def broken(at, key):
        start = network(at, key)
        wrong = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 2), 1)
        bad = jnp.where(jnp.all(jax.random.key_data(key) == jax.random.key_data(wrong)), jnp.inf, 0)
        return eqx.tree_at(lambda n: n.weights, start, start.weights + bad)

    result = run_study(make(network=broken, points={"m": [4]}))
    assert result.status.values.tolist() == [["ok", "diverged"]]
    assert "diverged since step" in str(result.reason.values[0, 1])
    assert np.isnan(result["clean"][0, 1]) and np.isfinite(result["clean"][0, 0])


def test_phases_may_differ_from_point_to_point():
    def some(at):
        return phases(at)[: 1 if at.m == 4 else 2]

    result = run_study(make(phases=some, measure=None))
    known = np.isfinite(result.clean_accuracy).all("seed")
    assert known.sel(phase="clean").all()
    assert known.sel(phase="adversarial").values.tolist() == [False, True]


def test_a_critical_radius_is_bisected_for_each_attack_named():
    result = run_study(make(critical=["PGD"], points={"m": [6]}, seeds=1, measure=None))
    assert result.critical_radius.dims == ("point", "seed", "phase", "critical_attack")
    assert np.isnan(result.critical_radius.sel(phase="init")).all()
    assert set(result.critical_attack.values.tolist()) == {"PGD"}


def not_a_pair(at, network, problem):
    return network


def wrong_points(values):
    return {"points": values}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 3}, "name must be a text"),
        ({"problem": fp.SparseCoding(d=8, k=2, sigma_x=0.1)}, "problem must be a function"),
        ({"phases": fp.FGM}, "phases must be a function, got the class FGM itself"),
        ({"measure": 1.0}, "measure must be a function"),
        ({"seeds": 0}, "seeds must be"),
        ({"tau": 0.0}, "tau must be > 0"),
        ({"tau": lambda at: -1.0}, r"tau at Point\(m=4\) must be > 0"),
        ({"radii": ()}, "radii must be different numbers"),
        ({"radii": (0.5, 0.5)}, "radii must be different numbers"),
        ({"critical": ["FGM"]}, "critical names 'FGM', which is no attack: attacks are PGD"),
        ({"attacks": {"PGD": fp.PGD}}, r"attacks\['PGD'\] must be a function"),
        ({"attacks": {"own": lambda r, p: r}}, r"attacks\['own'\]"),
        ({"judged": not_a_pair}, "what judged gives must be a pair"),
        ({"network": lambda at, key: 3}, "network must be a Trainable"),
        (wrong_points({}), "no point"),
        (wrong_points({"m": []}), "no point"),
        (wrong_points({"m": 4}), r"points\['m'\] must be a list"),
        (wrong_points({"seed": [1]}), "an axis 'seed'"),
        (wrong_points({"two words": [1]}), "an axis 'two words'"),
        (wrong_points({"radius": [1]}), "an axis 'radius'"),
        (wrong_points({"m": [[1, 2]]}), r"m = \[1, 2\]: a value of an axis"),
        (wrong_points([{"m": 4}, {"k": 4}]), "points differ in their axes"),
        (wrong_points([{"m": 4}, {"m": 4}]), "twice"),
    ],
)  # fmt: skip
def test_wrong_studies_are_refused_before_anything_is_computed(changes, words, tmp_path, unchecked):
    with pytest.raises(ConfigError, match=words):
        run_study(make(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (3.0, "what measure returns must be a mapping"),
        ({"a b": 1.0}, "measure names 'a b'"),
        ({"clean_accuracy": 1.0}, "measure names 'clean_accuracy'"),
        ({"along_x": 1.0}, "measure names 'along_x'"),
        ({"m": 1.0}, "measure names 'm'"),
        ({"status": 1.0}, "measure names 'status'"),
        ({"size": jnp.ones(3)}, "got an array of shape"),
    ],
)
def test_what_measure_gives_is_checked(measured, words, unchecked):
    with pytest.raises(ConfigError, match=words):
        run_study(make(measure=lambda end: measured, points={"m": [4]}, seeds=1))


def test_the_words_of_a_study_hold_its_code():
    text = make(attacks={"mine": lambda r, p: fp.FGM(r)}).described()
    assert "def phases(at):" in text and "fp.FGM(0.1)" in text and "seeds = 2" in text
    assert "fp.FGM(r)" in text


def test_the_identity_is_kept_in_words(done):
    kept = json.loads((done[1] / "study.json").read_text(encoding="utf-8"))
    assert kept["points"] == [{"m": 4}, {"m": 6}] and "phases" in kept["training"]["parts"]
