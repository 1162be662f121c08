"""Whole runs: labelled, deterministic, independent of each other, in every variant."""

import re

import jax
import numpy as np
import pytest

from featpur_sim.claims import of_run as claims
from featpur_sim.runs import dataset, evaluation
from featpur_sim.runs.build import make_problem
from featpur_sim.runs.config import ConfigError, parse
from featpur_sim.runs.experiment import run_experiment, seed_keys


def run(tiny, **changes):
    return run_experiment(parse(tiny(**changes)))


def same(a, b):
    """Bit-for-bit equality of two results' variables, NaN equal to NaN."""
    different = [name for name in a.variables if not a[name].identical(b[name])]
    return different == [] and set(a.variables) == set(b.variables)


def test_every_variable_says_what_it_is_and_where_it_comes_from(tiny_run):
    for name, variable in tiny_run.result.data_vars.items():
        assert variable.attrs.get("long_name"), name
        assert variable.attrs.get("source", "").startswith(("[P]", "[D]", "[M]")), name
    lengths = {"seed": 2, "phase": 3, "attack": 6, "radius": 3, "reference": 3, "neuron": 32}
    lengths |= {"reference_attack": 3, "margin_quantile": 3, "feature": 16, "singular": 16}
    assert lengths.items() <= tiny_run.result.sizes.items()
    dims = {name: value.dims for name, value in tiny_run.result.data_vars.items()}
    assert dims["robust_accuracy"] == ("seed", "phase", "attack", "radius")
    assert dims["reference_accuracy"] == ("seed", "reference", "reference_attack", "radius")
    assert dims["alpha"] == ("seed", "phase", "neuron")
    assert dims["kappa_over_alpha"] == ("seed", "phase")
    assert dims["theta_clean_adversarial"] == ("seed", "neuron")
    assert dims["update_singular_values"] == ("seed", "singular")
    assert dims["accuracy_along"] == ("seed", "snapshot")
    assert dims["along_loss"] == ("record", "seed")
    assert dims["shown_coordinates"] == ("phase", "shown", "feature")
    assert list(tiny_run.result.phase.values) == list(dataset.PHASES)
    assert list(tiny_run.result.attack.values) == list(evaluation.ATTACKS)
    assert tiny_run.result.attrs["tau"] == 0.17
    np.testing.assert_allclose(tiny_run.result.radius, [0, 0.085, 0.17])


def test_training_learns_and_purifies(tiny_run):
    result = tiny_run.result
    accuracy = result.robust_accuracy.sel(attack="FGM")
    clean = accuracy.isel(radius=0)
    assert float(clean.sel(phase="init").max()) < 0.9 < float(clean.sel(phase="clean").min())
    at_tau = result.robust_accuracy.isel(radius=2).sel(attack=["PGD", "dense mixture"])
    rise = at_tau.sel(phase="adversarial") - at_tau.sel(phase="clean")
    assert float(rise.min()) > 0.015
    mixed = np.abs(result.kappa_over_alpha)
    assert float((mixed.sel(phase="adversarial") / mixed.sel(phase="clean")).max()) < 0.2
    assert list(result.status.values) == ["ok", "ok"]


def test_the_same_settings_give_the_same_bits(tiny, tiny_run):
    again = run(tiny)
    assert same(again.result, tiny_run.result)
    for name, array in tiny_run.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_another_seed_gives_another_run(tiny, tiny_run):
    other = run(tiny, seed=4)
    assert not np.array_equal(other.weights["wstar"], tiny_run.weights["wstar"])
    assert np.abs(other.weights["W0"] - tiny_run.weights["W0"]).max() > 1e-3
    # And the seeds inside a run differ from each other.
    assert np.abs(tiny_run.weights["W0"][0] - tiny_run.weights["W0"][1]).max() > 1e-3


# Reductions of another shape round in another order. Thirty steps: over hundreds, some attacked
# sample comes within rounding of a gate |u| = b and the two runs part for good.
SHORT = {"clean": {"steps": 30}, "adversarial": {"steps": 30}}


def close(found, expected, names=("W_clean", "W_adv")):
    for name in names:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * scale)


def test_a_seed_does_not_depend_on_how_many_run_beside_it(tiny, few_attacks):
    alone, two = run(tiny, seeds=1, **SHORT), run(tiny, **SHORT)
    names = ("W0", "W_clean", "W_adv", "b_clean", "b_adv", "wstar")
    close(alone.weights, {name: two.weights[name][:1] for name in names}, names)
    one = alone.result.robust_accuracy.isel(seed=0)
    of_two = two.result.robust_accuracy.isel(seed=0)
    # The same 2000 test points: at most a few margins within rounding of 0.
    assert float(np.abs(one - of_two).max()) <= 3 / 1700
    assert one.sel(phase="adversarial").std() > 0.01


def test_seed_keys_are_all_different_and_stable():
    few = [jax.random.key_data(k) for k in seed_keys(_with_seeds(2))]
    many = [jax.random.key_data(k) for k in seed_keys(_with_seeds(50))]
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:2])
    assert len(np.unique(np.concatenate(many), axis=0)) == 4 * 50


def _with_seeds(seeds):
    from featpur_sim.runs.presets import dense_regime

    return dense_regime(seeds=seeds)


def test_a_unitary_dictionary_in_l2_is_the_identity_run_rotated(tiny, tiny_run):
    haar = run(tiny, problem={"dictionary": "haar"})
    assert same(haar.result, tiny_run.result)
    M = haar.weights["M"]
    np.testing.assert_allclose(M.T @ M, np.eye(16), atol=1e-5)
    assert np.abs(M - np.eye(16)).max() > 0.5
    for name in ("W0", "W_clean", "W_adv"):
        rotated = haar.weights[name] @ M
        scale = np.abs(tiny_run.weights[name]).max()
        np.testing.assert_allclose(rotated, tiny_run.weights[name], atol=1e-5 * scale)
        assert np.abs(haar.weights[name] - tiny_run.weights[name]).max() > 0.1 * scale
    assert "M" not in tiny_run.weights


def test_linf_runs_in_the_given_coordinates(tiny, few_attacks):
    found = run(
        tiny,
        problem={"dictionary": "hadamard"},
        adversarial={"norm": "linf", "radius": 0.03},
    )
    # The weights are in x space; their coordinates C = WM are what the result describes.
    C = found.weights["W_clean"] @ found.weights["M"]  # each seed by its own
    alpha = found.result.alpha.sel(phase="clean")
    np.testing.assert_allclose(np.abs(C).max(-1), np.abs(alpha), rtol=1e-4)
    assert np.abs(np.abs(found.weights["W_clean"]).max(-1) - np.abs(alpha)).max() > 0.01
    accuracy = found.result.robust_accuracy
    assert float(accuracy.sel(attack="FGM", phase="clean").isel(radius=0).min()) > 0.85


@pytest.mark.slow
def test_an_overcomplete_dictionary_has_a_scorecard(tiny):
    found = run(tiny, problem={"dictionary": "incoherent", "features": 24})
    claimed = {row["id"] for row in claims.scorecard(found.result)}
    # Without C10: no two seeds have the same problem.
    assert claimed == {"C1", "C2", "C3", "C4", "C5", "C6", "C9", "C11"}


def test_an_overcomplete_dictionary_runs(tiny, few_attacks):
    found = run(tiny, problem={"dictionary": "incoherent", "features": 24})
    assert found.result.sizes["feature"] == found.result.attrs["D"] == 24
    assert found.weights["M"].shape == (2, 16, 24) and found.weights["wstar"].shape == (2, 24)
    clean = found.result.robust_accuracy.sel(attack="FGM", phase="clean").isel(radius=0)
    # Each seed has an M of its own, and some are harder to learn than others.
    assert float(clean.min()) > 0.65


@pytest.mark.parametrize("smoothing", [pytest.param("closed", marks=pytest.mark.slow), "sampled"])
def test_smoothed_runs_stay_close_to_the_plain_one(tiny, tiny_run, smoothing, few_attacks):
    found = run(tiny, network={"smoothing": smoothing, "sigma_rho": 0.02})
    clean = found.result.robust_accuracy.sel(attack="FGM").isel(radius=0)
    plain = tiny_run.result.robust_accuracy.sel(attack="FGM").isel(radius=0)
    difference = np.abs(clean - plain).sel(phase=["clean", "adversarial"])
    assert 0 < float(difference.max()) < 0.03
    assert found.weights["sigma_rho"] == 0.02


def test_a_microbatch_changes_nothing_but_rounding(tiny, few_attacks):
    cut = run(tiny, clean={"steps": 30, "microbatch": 16}, adversarial={"steps": 30})
    close(cut.weights, run(tiny, **SHORT).weights)


def test_another_optimiser_on_a_fixed_training_set(tiny, few_attacks):
    phase = {"dataset_size": 48, "optimizer": "adam", "learning_rate": 0.01}
    found = run(tiny, clean=phase, adversarial=phase).result
    last = found.isel(record=found.record_phase == "clean").isel(record=-1)
    # 48 samples are learned by heart: the training loss is far below the held-out one.
    assert float((last.along_training_loss / last.along_loss).max()) < 0.2
    # Adam's step is its rate, whatever the gradient: after one step every weight moved by it.
    first = run(tiny, clean=phase | {"steps": 1}, adversarial=phase | {"steps": 1})
    moved = np.abs(first.weights["W_clean"] - first.weights["W0"])
    np.testing.assert_allclose(moved, 0.01, rtol=1e-3)


@pytest.fixture(scope="module")
def all_failed(tiny):
    """A learning rate at which every seed diverges."""
    return run_experiment(parse(tiny(clean={"learning_rate": 1e20}))).result


def test_divergence_is_recorded_and_leaves_no_verdict(all_failed):
    assert list(all_failed.status.values) == ["diverged", "diverged"]
    assert {row["verdict"] for row in claims.scorecard(all_failed)} == {"no verdict"}


def test_a_dead_network_is_recorded(tiny):
    found = run(tiny, clean={"bias": {"stop": 50.0, "fraction": 0.1}}).result
    assert list(found.status.values) == ["dead", "dead"]
    # The bias passes every pre-activation inside the first tenth of the clean phase, and the
    # adversarial phase finds the network dead: the status has held since the clean phase.
    assert (found.status_step.values < 40).all()
    assert {row["verdict"] for row in claims.scorecard(found)} == {"no verdict"}


def test_a_wrong_combination_stops_before_training(tiny, monkeypatch, unchecked):
    def touched(*arguments, **settings):
        raise AssertionError("training began")

    monkeypatch.setattr("featpur_sim.runs.experiment.train_many", touched)
    with pytest.raises(ConfigError, match="is square"):
        run(tiny, problem={"features": 20})


def test_labels_and_dictionary_come_from_the_seed_of_the_config(tiny):
    haar = tiny(problem={"dictionary": "haar", "wstar": "uniform", "wstar_range": [0.5, 2.0]})
    a, b = make_problem(parse(haar), 1), make_problem(parse(haar | {"seed": 9}), 1)
    assert 0.5 <= float(np.abs(a.wstar).min()) < float(np.abs(a.wstar).max()) <= 2.0
    assert not np.array_equal(a.wstar, b.wstar)
    assert a.M is not None and b.M is not None and not np.array_equal(a.M, b.M)
    np.testing.assert_array_equal(a.M, make_problem(parse(haar), 1).M)


class Listener:
    """A meter that writes down what it is told."""

    def __init__(self):
        self.stages = {}

    def at(self, stage, done, total, detail=""):
        self.stages.setdefault(stage, []).append((done, total, detail))

    def note(self, sentence):
        raise AssertionError(f"a fresh run goes on: {sentence}")


def test_the_meter_is_told_every_record_and_every_attack(tiny, few_attacks):
    listener, short = Listener(), {"steps": 20}
    settings = tiny(clean=short, adversarial=short, evaluation={"certify_points": 10})
    result = run_experiment(parse(settings), meter=listener).result
    stages = listener.stages
    assert list(stages) == [
        "clean training",
        "adversarial training",
        "pure network",
        "attacks",
        "attacks on references",
    ]
    for phase in ("clean", "adversarial"):
        own = result.record_step.values[result.record_phase.values == phase]
        assert [at[:2] for at in stages[f"{phase} training"]] == [(s, own[-1]) for s in own]
    last = stages["adversarial training"][-1][2]
    assert re.fullmatch(r"loss \d\.\d{3}  accuracy \d\.\d{3}  κ/α [+-]\d\.\d{4}", last)
    # (0, …): before anything compiles.
    assert [at[:2] for at in stages["pure network"]] == [(0, 1), (1, 1)]
    # Certificates are one more of each network.
    assert [at[:2] for at in stages["attacks"]] == [(i, 9) for i in range(10)]
    assert [at[:2] for at in stages["attacks on references"]] == [(i, 6) for i in range(7)]
