"""`featpur certify`, `featpur evaluate --protocol` and the certificates inside a run."""

import errno
import json
import os
import shutil

import equinox as eqx
import jax
import numpy as np
import pytest
import tomli_w
import xarray as xr

from featpur_sim.attacks.protocol import QUICK
from featpur_sim.certify import Contradiction, NotCertified
from featpur_sim.certify.q2 import complete
from featpur_sim.claims import of_run as claims
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.attack import attack_run
from featpur_sim.runs.build import make_problem
from featpur_sim.runs.certify import certify_run
from featpur_sim.runs.config import ConfigError, parse
from featpur_sim.runs.evaluation import Evaluator
from featpur_sim.runs.experiment import run_experiment, seed_keys
from featpur_sim.runs.folder import save_run
from featpur_sim.runs.saved import load_run

FIELDS = {
    "phase", "norm", "radius", "relative_radius", "n", "attacked", "attacked_ci", "certified",
    "certified_ci", "certified_float32", "undecided", "waiting", "by_stage",
    "seconds_per_point", "seeds",
    "function", "protocol", "warnings", "stages", "test_seed",
}  # fmt: skip
CHEAP = ("--stages", "linear,q1", "--protocol", "quick", "--points", "40")


@pytest.fixture
def mine(tiny_folder, tmp_path):
    """A copy of the tiny run to write in."""
    return shutil.copytree(tiny_folder, tmp_path / "mine")


@pytest.fixture
def wrong_bound(monkeypatch):
    """A certificate whose bound is 7 everywhere."""
    monkeypatch.setattr(
        "featpur_sim.certify.problem.lower_bound", lambda *args: np.full(len(args[2]), 7.0)
    )


def test_certify_writes_both_sides(featpur, mine):
    code, out, err = featpur("certify", mine, *CHEAP, "--json", "--radius", "1", "--radius", "0.5")
    assert code == 0 and "certificates" in err
    rows = json.loads((mine / "certificate.json").read_text(encoding="utf-8"))
    assert rows == json.loads(out)
    assert [(row["phase"], row["relative_radius"]) for row in rows] == [
        ("clean", 0.5), ("clean", 1.0), ("adversarial", 0.5), ("adversarial", 1.0)
    ]  # fmt: skip
    for row in rows:
        assert set(row) == FIELDS
        assert row["radius"] == pytest.approx(0.17 * row["relative_radius"])
        assert row["n"] == 80 == sum(row["by_stage"].values()) and row["norm"] == "l2"
        assert row["certified_float32"] <= row["certified"] <= row["attacked"]
        proved = row["by_stage"]["linear"] + row["by_stage"]["q1"]
        assert row["certified"] == pytest.approx(proved / 80)
        assert row["attacked"] == pytest.approx(1 - row["by_stage"]["broken"] / 80)
        low, high = row["certified_ci"]
        assert low <= row["certified"] <= high
        assert [seed["seed"] for seed in row["seeds"]] == [1, 2]
        assert sum(len(seed["undecided"]) for seed in row["seeds"]) == row["undecided"]
        for seed in row["seeds"]:
            assert len(seed["undecided"]) / 40 == pytest.approx(
                seed["attacked"] - seed["certified"]
            )
        assert row["function"] == "real arithmetic" and row["protocol"] == "quick/1"
        assert set(row["seconds_per_point"]) == {"attack", "linear", "q1"}
    by = {(row["phase"], row["relative_radius"]): row["certified"] for row in rows}
    # Purification is provable: more is certified after it than an attack leaves before it.
    attacked_before = rows[1]["attacked"]
    assert by["adversarial", 1.0] > attacked_before
    assert by["adversarial", 0.5] > by["adversarial", 1.0] > 0.3


def test_certify_prints_a_table_or_nothing(featpur, mine):
    code, out, err = featpur("certify", mine, *CHEAP, "--radius", "1", "--seeds", "1")
    assert code == 0 and "certified ≤ truth ≤ attacked" in out and "quick/1" in out
    assert "40 points over 1 seed," in out.replace("\n", " ")
    # Whether a point stays open is a matter of the processor's rounding: training differs by it.
    ends = "open: ", "all 80 points decided."
    assert "certificate.json" in err and err.rstrip().splitlines()[-1].startswith(ends)
    (row, _) = json.loads((mine / "certificate.json").read_text(encoding="utf-8"))
    assert row["n"] == 40 and row["certified_ci"] is None
    assert featpur("certify", mine, *CHEAP, "--radius", "1", "-q") == (0, "", "")


def test_linf_has_all_stages(featpur, mine):
    options = ("--points", "20", "--protocol", "quick", "--seeds", "1", "--radius", "0.2")
    code, out, _ = featpur("certify", mine, "--norm", "linf", *options, "--json", "-q")
    rows = json.loads(out)
    assert code == 0 and all(row["stages"] == ["linear", "q1", "q2", "branch"] for row in rows)
    assert rows[1]["norm"] == "linf" and rows[1]["certified"] > 0


@pytest.mark.parametrize("effort, steps", [("default", 300), ("high", 2000)])
def test_effort_sets_the_steps_of_q2(featpur, mine, monkeypatch, effort, steps):
    taken = []

    def no_search(problem, low, high, slope, curvature, pace):
        taken.append(pace.steps)
        return complete(problem, slope, curvature)

    monkeypatch.setattr("featpur_sim.certify.cascade.q2_dual", no_search)
    options = ("--stages", "linear,q2", *CHEAP[2:], "--radius", "1", "--seeds", "1", "-q")
    assert featpur("certify", mine, *options, "--effort", effort)[0] == 0
    assert taken and set(taken) == {steps}


def test_the_points_are_those_of_the_attack(tiny_folder):
    saved = load_run(tiny_folder)
    options = {"radii": [1.0], "protocol": QUICK, "phases": ["clean"]}
    attacked = attack_run(saved, samples=60, **options)
    rows = certify_run(saved, points=60, stages=["linear"], **options)
    # The certificate's minimiser can only break more.
    for one, both in zip(attacked, rows[0]["seeds"], strict=True):
        assert one["seed"] == both["seed"] and 0 <= one["attacked"] - both["attacked"] <= 2 / 60


def test_a_contradiction_stops_with_its_own_code_and_saves_the_point(featpur, mine, wrong_bound):
    code, out, err = featpur("certify", mine, *CHEAP, "--radius", "1", "-q")
    assert (code, out) == (4, "") and "proved lower bound 7" in err
    assert "contradiction.npz" in err and err.count("\n") == 1
    assert not (mine / "certificate.json").exists()
    found = np.load(mine / "contradiction.npz", allow_pickle=False)
    assert (str(found["phase"]), int(found["seed"]), str(found["norm"])) == ("clean", 1, "l2")
    np.testing.assert_array_equal(
        found["weights"], np.asarray(load_run(mine).networks["clean"].weights[0], np.float64)
    )
    u = found["weights"] @ (found["point"] + found["perturbation"])
    f = np.sum(np.sign(u) * np.maximum(np.abs(u) - found["bias"], 0))
    assert f == pytest.approx(float(found["value"]), abs=1e-12) and f < float(found["lower"])
    first = (mine / "contradiction.npz").read_bytes()
    _, _, err = featpur("certify", mine, *CHEAP, "--radius", "1", "-q")
    assert "contradiction-2.npz" in err and (mine / "contradiction-2.npz").exists()
    assert (mine / "contradiction.npz").read_bytes() == first


def test_a_contradiction_in_a_read_only_folder_is_told_all_the_same(
    featpur, mine, wrong_bound, read_only, monkeypatch
):
    def refuse(*arguments, **settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    code, out, err = featpur("certify", mine, *CHEAP, "--radius", "1", "-q", "--json")
    assert (code, out) == (4, "") and "proved lower bound 7" in err
    assert "contradiction.npz could not be written: Read-only file system." in err
    assert not (mine / "contradiction.npz").exists()


def test_a_certificate_of_other_origin_is_not_replaced(featpur, mine):
    """Neither one that the user put there nor one of ours that was changed."""
    command = ("certify", mine, "--points", "5", "--stages", "linear", "--protocol", "quick", "-q")
    path = mine / "certificate.json"
    path.write_text("mine", encoding="utf-8")
    before = sorted(mine.rglob("*"))
    code, out, err = featpur(*command)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "was not written by featpur" in err and str(path) in err
    assert path.read_text(encoding="utf-8") == "mine" and sorted(mine.rglob("*")) == before
    path.unlink()
    assert featpur(*command)[0] == 0 and featpur(*command)[0] == 0  # ours is replaced
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert featpur(*command)[0] == 2
    assert path.read_text(encoding="utf-8").endswith(" ")


def test_a_run_stops_on_a_contradiction_too(featpur, tiny, tmp_path, wrong_bound):
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(tiny(evaluation={"certify_points": 30})), encoding="utf-8")
    code, _, err = featpur("run", path, "--out", tmp_path / "out", "-q")
    assert code == 4 and "out/contradiction.npz" in err
    assert not (tmp_path / "out" / "result.nc").exists()
    assert (tmp_path / "out" / "contradiction.npz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--radius", "0"), "a radius, in units of the run's own, must be > 0 and finite"),
        (("--radius", "-1"), "got -1.0."),
        (("--radius", "nan"), "got nan."),
        (("--norm", "l1"), "norm is 'l1': certificates exist for 'l2' and 'linf'"),
        (("--stages", "q3"), "stages contains 'q3': choose among linear, q1, q2, branch."),
        (("--points", "0"), "points must be an integer ≥ 1 (at most 2³¹ − 1), got 0."),
        (("--seeds", "3"), "seeds = 3: the run has 2"),
    ],
)
def test_bad_options_are_one_message_and_nothing_else(featpur, mine, options, words):
    before = sorted(mine.rglob("*"))
    code, out, err = featpur("certify", mine, *options)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1
    assert sorted(mine.rglob("*")) == before


def test_runs_that_cannot_be_certified_say_why(featpur, mine, tiny_run, tmp_path):
    result = xr.load_dataset(mine / "result.nc", engine="h5netcdf")
    result.attrs["version"] = "0.0.1"
    result.to_netcdf(mine / "result.nc", engine="h5netcdf")
    (mine / "manifest.json").unlink()
    code, _, err = featpur("certify", mine)
    assert code == 2 and "was written by featpur_sim 0.0.1" in err and err.count("\n") == 1
    code, _, err = featpur("certify", tmp_path / "nowhere")
    assert code == 2 and "holds no finished run" in err
    broken = dict(tiny_run.weights)
    broken["W_clean"] = broken["W_clean"].copy()
    broken["W_clean"][1, 0, 0] = np.nan
    save_run(tmp_path / "nan", tiny_run.result, broken, [])
    code, _, err = featpur("certify", tmp_path / "nan")
    assert code == 2 and "clean weights of seed 2 are not finite" in err


def altered(tiny_folder, **sections):
    """The saved tiny run, said to have other settings."""
    saved = load_run(tiny_folder)
    settings = saved.config.model_dump()
    for name, changes in sections.items():
        settings[name] |= changes
    return saved._replace(config=parse(settings))


def test_sampled_noise_and_rotated_boxes_are_refused(tiny_folder):
    saved = load_run(tiny_folder)
    noisy = {
        phase: eqx.tree_at(lambda n: n.sigma_rho, network, network.sigma_rho + 0.01)
        for phase, network in saved.networks.items()
    }
    for network in noisy.values():
        object.__setattr__(network, "smoothing", "sampled")
    with pytest.raises(NotCertified, match="no one function to certify"):
        certify_run(saved._replace(networks=noisy), points=5)
    rotated = altered(tiny_folder, problem={"dictionary": "haar"})
    with pytest.raises(NotCertified, match="dictionary 'haar' is rotated away"):
        certify_run(rotated, norm="linf", points=5)
    with pytest.raises(ConfigError, match=r"phases = \['trained'\]"):
        certify_run(saved, phases=["trained"])


def test_evaluate_with_a_protocol(featpur, mine):
    options = ("--protocol", "quick", "--samples", "100", "--radius", "1", "--radius", "0.5")
    code, out, _ = featpur("evaluate", mine, *options)
    assert code == 0 and "quick/1" in out and "what each attack added" in out and "FGM" in out
    rows = json.loads((mine / "evaluation.json").read_text(encoding="utf-8"))
    assert len(rows) == 2 * 2 * 2 and {row["n"] for row in rows} == {100}
    for row in rows:
        found = sum(attack["new"] for attack in row["attacks"])
        assert row["attacks"][0]["attack"] == "FGM"
        assert row["attacked"] == pytest.approx((row["attacks"][0]["points"] - found) / 100)
    scores = xr.load_dataset(mine / "evaluation.nc", engine="h5netcdf").robust_accuracy
    assert scores.dims == ("seed", "phase", "attack", "radius")
    one = next(r for r in rows if (r["seed"], r["phase"], r["relative_radius"]) == (2, "clean", 1))
    at = scores.sel(seed=2, phase="clean", attack="quick/1").isel(radius=1)
    assert float(at) == one["attacked"] and float(at.radius) == pytest.approx(0.17)
    code, out, _ = featpur("evaluate", mine, *options, "--json", "-q")
    again = json.loads(out)
    assert code == 0 and [r["attacked"] for r in again] == [r["attacked"] for r in rows]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", "5"), "--restarts and --steps do not go with --protocol"),
        (("--samples", "0"), "samples must be an integer ≥ 1"),
        (("--radius", "-1"), "a radius, in units of the run's own, must be > 0"),
    ],
)
def test_a_protocol_has_no_knobs(featpur, mine, options, words):
    before = {*mine.rglob("*")}
    code, out, err = featpur("evaluate", mine, "--protocol", "quick", *options)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1
    assert {*mine.rglob("*")} - before <= {mine / ".lock"}


@pytest.fixture(scope="module")
def certified(tiny):
    """A run that certifies some of its points."""
    settings = {"certify_points": 60, "radii": [0.0, 0.25, 0.5, 1.0], "samples": 200}
    return run_experiment(parse(tiny(evaluation=settings))).result


def test_a_run_certifies_its_first_test_points(certified):
    low, high = certified.certified_accuracy, certified.attacked_accuracy
    assert low.dims == high.dims == ("seed", "phase", "radius")
    assert np.isfinite(low).all() and (low <= high).all()
    for side in ("certified", "attacked"):
        of_references = certified[f"reference_{side}_accuracy"]
        assert np.isfinite(of_references).all() and (of_references.isel(radius=3) < 1).all()
    assert (np.diff(low, axis=-1) <= 0).all() and (np.diff(high, axis=-1) <= 0).all()
    xr.testing.assert_equal(low.isel(radius=0), high.isel(radius=0))
    assert float(low.sel(phase="adversarial").isel(radius=3).min()) > 0.3
    # The same stream of points as the attacks: on all of them PGD is about the attacked side.
    pgd = certified.robust_accuracy.sel(attack="PGD")
    difference = (pgd - high).drop_vars("attack").sel(phase=["clean", "adversarial"])
    assert float(np.abs(difference).max()) < 0.2
    words = [row["statement"] for row in claims.scorecard(certified) if row["id"] == "C5"]
    assert any("ANY perturbation" in text for text in words)
    assert any("meet" in text for text in words)


def test_the_same_points_as_the_attacks(tiny, certified):
    """At radius 0 the first 60 test points, scored one by one."""
    config = parse(tiny())
    batch = make_problem(config, 1).sample(jax.random.split(seed_keys(config)[2][0])[0], 60)
    labelled = int(np.asarray(batch.labelled).sum())
    share = float(certified.certified_accuracy.sel(seed=1, phase="clean").isel(radius=0))
    assert share * labelled == pytest.approx(round(share * labelled), abs=1e-6)
    assert labelled < 60


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"smoothing": "sampled", "sigma_rho": 0.02}},
        {"evaluation": {"certify_points": 0}},
    ],
)
def test_runs_without_certificates(tiny, tiny_folder, changes):
    config = parse(tiny(**({"evaluation": {"certify_points": 20}} | changes)))
    saved = load_run(tiny_folder)
    keys = seed_keys(saved.config)[2]
    evaluator = Evaluator(config, saved.problems, keys, saved.networks["clean"])
    noise = {"sigma_rho": config.network.sigma_rho, "smoothing": config.network.smoothing}
    networks = {
        name: jax.vmap(lambda w, b: SymmetricReLU(w, b, **noise))(network.weights, network.bias)
        for name, network in saved.networks.items()
    }
    found = evaluator.judge(networks, ("FGM",))
    assert np.isnan(found.certified).all() and np.isnan(found.attacked).all()
    assert np.isfinite(found.accuracy).all()


def test_a_diverged_seed_is_no_obstacle(tiny, few_attacks):
    settings = tiny(clean={"learning_rate": 1e20, "steps": 20}, evaluation={"samples": 100})
    settings["evaluation"]["certify_points"] = 20
    result = run_experiment(parse(settings)).result
    assert list(result.status.values) == ["diverged", "diverged"]
    assert (result.certified_accuracy <= result.attacked_accuracy).sel(phase="clean").all()


def test_contradictions_in_a_run_name_seed_and_phase(tiny, few_attacks, wrong_bound):
    settings = tiny(clean={"steps": 50}, adversarial={"steps": 5}, evaluation={"samples": 100})
    settings["evaluation"]["certify_points"] = 20
    with pytest.raises(Contradiction) as caught:
        run_experiment(parse(settings))
    assert caught.value.evidence["phase"] == "init" and caught.value.evidence["seed"] == 1
