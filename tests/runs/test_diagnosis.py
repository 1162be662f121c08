"""Runs whose training did not work are told apart, and no command counts them."""

import json
import re

import numpy as np
import pytest
import xarray as xr

from featpur_sim.attacks.protocol import QUICK
from featpur_sim.claims import of_run as claims
from featpur_sim.claims.verdict import Verdict
from featpur_sim.cli import tables
from featpur_sim.report import _style as _drawing
from featpur_sim.report import run_figures as figures
from featpur_sim.runs import diagnosis
from featpur_sim.runs.attack import as_dataset, attack_run
from featpur_sim.runs.certify import certify_run
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import ResultError, save_run
from featpur_sim.runs.saved import evaluate_run, load_run, means

PHASES = np.array(["clean"] * 5 + ["adversarial"] * 5)
CLEAN = [0.69, 0.3, 0.1, 0.09, 0.09]
ADVERSARIAL = [0.09, 0.12, 0.1, 0.1, 0.1]


def judge(loss, **records):
    """The diagnosis of one seed at k/d = 0.1."""
    table = {"loss": loss, "status": np.zeros(10), **records}
    found = diagnosis.diagnose(
        ["ok"], [0], PHASES, {k: np.asarray(v)[:, None] for k, v in table.items()}, 0.1
    )
    return found.status[0], found.reason[0], found.warning[0]


def test_training_that_works_is_ok_without_a_word():
    assert judge(CLEAN + ADVERSARIAL) == ("ok", "", "")


@pytest.mark.parametrize(
    ("clean", "adversarial", "why"),
    [
        (CLEAN, [*ADVERSARIAL[:4], 0.694], "after the adversarial phase.*chance level"),
        (CLEAN, [*ADVERSARIAL[:4], np.nan], "after the adversarial phase.*chance level"),
        ([*CLEAN[:4], 5.4], ADVERSARIAL, "after the clean phase.*chance level"),
        ([*CLEAN[:4], 0.63], ADVERSARIAL, "did not fall: 0.63"),
    ],
)
def test_a_loss_that_learned_nothing_fails(clean, adversarial, why):
    status, reason, _ = judge(clean + adversarial)
    assert status == diagnosis.UNTRAINED
    assert re.search(why, reason)


def test_just_inside_the_rules_is_ok():
    assert judge([*CLEAN[:4], 0.62, *ADVERSARIAL[:4], 0.69])[0] == "ok"


def test_dead_neurons_and_missing_carriers_fail():
    loss = CLEAN + ADVERSARIAL
    assert judge(loss, active_fraction=np.full(10, 0.011))[0] == "ok"
    assert "most neurons are dead" in judge(loss, active_fraction=np.full(10, 0.009))[1]
    assert "no neuron carries" in judge(loss, kappa_over_alpha=np.full(10, np.nan))[1]


def test_a_loss_that_still_moves_is_a_warning_not_a_failure():
    status, reason, warning = judge([*CLEAN[:4], 0.13, *ADVERSARIAL])
    assert (status, reason) == ("ok", "") and "clean phase is not at rest" in warning


def test_the_phase_of_a_failure_is_named():
    records = {"loss": np.ones((10, 2)), "status": np.zeros((10, 2))}
    records["status"][6:, 1] = 2
    found = diagnosis.diagnose(["ok", "diverged"], [0, 7], PHASES, records, 0.1)
    assert found.reason[1] == "diverged since step 7 of the adversarial phase"


def test_counts_and_names():
    result = xr.Dataset(
        {
            "status": ("seed", ["ok", "dead", "untrained", "dead"]),
            "reason": ("seed", ["", "dead since step 3 of the clean phase", "why", "x"]),
        },
        {"seed": [1, 2, 3, 4]},
    )
    assert diagnosis.count(result) == "1 of 4; 2 dead, 1 untrained".replace(", ", "; ")
    assert diagnosis.left_out(result)[0] == "seed 2 (dead since step 3 of the clean phase)"


@pytest.fixture(scope="module")
def half_dead(tiny_run, tmp_path_factory):
    """A run of two seeds, the second of them dead: its weights are NaN."""
    result = tiny_run.result.copy(deep=True)
    result["status"] = ("seed", np.array(["ok", "dead"]))
    result["reason"] = ("seed", np.array(["", "dead since step 3 of the clean phase"]))
    weights = {name: np.array(of) for name, of in tiny_run.weights.items()}
    for name in ("W_clean", "W_adv"):
        weights[name][1] = np.nan
    folder = tmp_path_factory.mktemp("half") / "run"
    save_run(folder, result, weights, claims.scorecard(result))
    return folder


def test_no_command_counts_a_dead_seed(half_dead, featpur):
    run = load_run(half_dead)
    table = evaluate_run(run, samples=200, steps=2, restarts=1)
    assert np.isnan(table.robust_accuracy.isel(seed=1)).all()
    rows = attack_run(run, protocol=QUICK, radii=[1.0], phases=["clean"], samples=30)
    assert [row["seed"] for row in rows] == [1]
    assert as_dataset(rows).sizes["seed"] == 1
    proved = certify_run(
        run, radii=[1.0], points=10, phases=["clean"], protocol=QUICK, stages=["linear"]
    )
    assert [seed["seed"] for seed in proved[0]["seeds"]] == [1]
    assert proved[0]["n"] == 10 and proved[0]["attacked"] > 0.3
    code, stdout, stderr = featpur("evaluate", half_dead, "--samples", 200, "--steps", 2)
    assert code == 0 and "mean over 1 of 2 seeds (1 dead)" in stdout
    assert "left out: seed 2 (dead since step 3 of the clean phase)" in " ".join(stderr.split())
    shown = json.loads(featpur("evaluate", half_dead, "--samples", 200, "--steps", 2, "--json")[1])
    alone = table.robust_accuracy.isel(seed=0).sel(phase="clean", attack="FGM")
    one = [r for r in shown if (r["phase"], r["attack"]) == ("clean", "FGM")]
    np.testing.assert_allclose([r["accuracy"] for r in one], alone)
    assert {r["seeds"] for r in shown} == {"1 of 2; 1 dead"}


def test_a_mean_says_of_how_many_seeds_it_is():
    """Examples made on a dead seed have no value on its neighbour, which finished."""
    coords = {"seed": [1, 2, 3], "phase": ["clean"], "attack": ["FGM", "transfer"], "radius": [0.1]}
    values = np.array([[0.5, 0.5], [np.nan, np.nan], [0.7, np.nan]]).reshape(3, 1, 2, 1)
    scores = xr.Dataset(
        {
            "robust_accuracy": (list(coords), values),
            "status": ("seed", ["ok", "dead", "ok"]),
        },
        {**coords, "relative_radius": ("radius", [1.0])},
    )
    rows = {row["attack"]: row for row in means(scores)}
    assert rows["FGM"]["accuracy"] == pytest.approx(0.6)
    assert rows["FGM"]["seeds"] == "2 of 3; 1 dead"
    assert rows["transfer"]["accuracy"] == 0.5 and rows["transfer"]["seeds"] == "1 of 3; 1 dead"
    table = tables.accuracies(scores, diagnosis.in_words(scores))
    assert table.title == "accuracy under attack, mean over 2 of 3 seeds (1 dead)"
    assert [str(row[0]) for row in table.rows] == ["FGM", "transfer (1 seed)"]


def test_only_finished_seeds_and_nothing_made_on_others(tiny_run):
    """Also in figures: a seed is attacked with examples made on the seed before it."""
    run: xr.Dataset = tiny_run.result
    result = xr.concat([run, run], "seed", data_vars="minimal").isel(seed=[0, 1, 2])
    result["status"] = ("seed", ["ok", "untrained", "ok"])
    kept = diagnosis.only_finished(result)
    assert kept.sizes["seed"] == 2
    transferred = kept.robust_accuracy.sel(attack="transfer")
    assert np.isfinite(transferred.isel(seed=0)).all() and np.isnan(transferred.isel(seed=1)).all()
    others = kept.robust_accuracy.drop_sel(attack="transfer")
    np.testing.assert_array_equal(
        others, result.robust_accuracy.drop_sel(attack="transfer").isel(seed=[0, 2])
    )
    with _drawing.page(result, 1, 1) as (_, shown):
        xr.testing.assert_identical(shown, kept)
    figures.ALL["robust_accuracy"](result)


def test_a_run_without_a_network_is_refused_before_it_is_attacked(half_dead):
    run = load_run(half_dead)
    dead = run.result.assign(status=("seed", np.array(["dead", "untrained"])))
    for command in (evaluate_run, attack_run, certify_run):
        with pytest.raises(ResultError, match=r"no seed of this run finished.*seed 2 \("):
            command(run._replace(result=dead))


@pytest.mark.slow
def test_a_learning_rate_of_fifty_gives_no_verdict(tiny):
    phase = {"steps": 60, "learning_rate": 50.0}
    result = run_experiment(parse(tiny(clean=phase, adversarial=phase))).result
    assert set(result.status.values) <= {diagnosis.UNTRAINED, "dead", "diverged"}
    rows = claims.scorecard(result)
    assert rows and {row["verdict"] for row in rows} == {Verdict.NO_VERDICT}
    assert all("training failed: seed 1 (" in row["rule"] for row in rows)
