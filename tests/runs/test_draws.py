"""Whether the seeds of a run share w* and M (docs/theory.md §1): where, and what reads them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from canned import CannedProblem
from quick_survey import quick_survey

from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, SymmetricReLU, train
from featpur_sim.attacks.protocol import QUICK
from featpur_sim.runs import compare
from featpur_sim.runs.attack import attack_run
from featpur_sim.runs.build import make_problem, make_problems, simulated
from featpur_sim.runs.certify import certify_run
from featpur_sim.runs.config import dump, parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import load_result, save_run
from featpur_sim.runs.saved import load_run
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.run import run_sweep

UNIFORM = {"wstar": "uniform", "wstar_range": [0.5, 2.0]}
OVERCOMPLETE = {"dictionary": "incoherent", "features": 24}
SHORT = {"clean": {"steps": 5}, "adversarial": {"steps": 5}}


@pytest.mark.parametrize(
    ("problem", "norm", "draw"),
    [
        ({}, "l2", "shared"),
        ({"dictionary": "haar"}, "l2", "shared"),
        ({"dictionary": "dct"}, "l2", "shared"),
        ({}, "linf", "shared"),
        ({"dictionary": "hadamard"}, "linf", "per-seed"),
        ({"dictionary": "haar"}, "linf", "per-seed"),
        (OVERCOMPLETE, "l2", "per-seed"),
        (UNIFORM, "l2", "per-seed"),
        (UNIFORM, "linf", "per-seed"),
        (UNIFORM | {"draw": "shared"}, "l2", "shared"),
        ({"draw": "per-seed"}, "l2", "per-seed"),
    ],
)
def test_seeds_share_a_draw_where_it_is_immaterial(tiny, problem, norm, draw):
    assert parse(tiny(problem=problem, adversarial={"norm": norm})).draw == draw


@pytest.mark.parametrize("phase", ["clean", "adversarial"])
def test_what_scales_each_coordinate_by_itself_keeps_the_dictionary(tiny, phase):
    """Rotated into the gauge, Adam would take other steps than with the user's M."""
    settings = tiny(problem={"dictionary": "haar"}, **{phase: {"optimizer": "adam"}})
    config = parse(settings)
    assert config.draw == "per-seed"
    assert simulated(config, make_problem(config, 1)).M is not None
    plain = parse(tiny(problem={"dictionary": "haar"}))
    assert simulated(plain, make_problem(plain, 1)).M is None
    assert parse(tiny(**{phase: {"optimizer": "adam"}})).draw == "shared"


@pytest.mark.parametrize("optimizer", [optax.sgd, optax.adam])
def test_in_linf_signs_of_w_star_are_a_symmetry_of_the_identity(problem, batch, optimizer):
    """S = diag(w*) carries a run with w* to one with w* = 1: every number up to its sign."""
    signs = problem.wstar
    ones = SparseCoding(problem.d, 4, 0.3, wstar=jnp.ones(problem.d))
    flipped = batch._replace(x=batch.x * signs, z=batch.z * signs)
    weights = 0.1 * jax.random.normal(jax.random.key(3), (48, problem.d))
    settings = {"batch": 100, "optimizer": optimizer, "learning_rate": 0.01}
    phases = [CleanPhase(20, **settings), AdversarialPhase(FGM(0.03, "linf"), 20, **settings)]

    def trained(problem, batch, weights):
        start = SymmetricReLU(weights, 0.05)
        canned = CannedProblem(problem, batch)
        return train(canned, start, phases, key=jax.random.key(4), records=2).network.weights

    found = trained(problem, batch, weights)
    np.testing.assert_array_equal(trained(ones, flipped, weights * signs), found * signs)
    assert float(jnp.abs(found - weights).max()) > 0.01


def test_in_linf_the_signs_matter_for_a_dense_dictionary(tiny):
    """The dense direction of the Hadamard matrix is longer in ℓ∞ for some signs than for others."""
    linf = {"norm": "linf"}
    for dictionary, lengths in (("identity", 1), ("hadamard", 2)):
        problem = {"dictionary": dictionary, "draw": "per-seed"}
        problems = make_problems(parse(tiny(seeds=20, problem=problem, adversarial=linf)))
        dense = jax.vmap(lambda one: one.dense_direction())(problems)
        assert len(np.unique(np.round(np.abs(dense).max(-1), 4))) >= lengths
        assert lengths > 1 or len(np.unique(np.abs(dense))) == 1


def test_a_shared_draw_is_that_of_the_base_seed(tiny):
    config = parse(tiny(seeds=3, problem={"dictionary": "haar"}))
    problems = make_problems(config)
    key = jax.random.fold_in(jax.random.key(3), 0)
    expected = SparseCoding(16, 3, 0.3, dictionary="haar", key=key)
    for seed in range(3):
        np.testing.assert_array_equal(problems.wstar[seed], expected.wstar)
        np.testing.assert_array_equal(problems.M[seed], expected.M)


def test_each_seed_draws_from_its_own_number_alone(tiny):
    config = parse(tiny(seeds=3, problem=UNIFORM | OVERCOMPLETE))
    problems = make_problems(config)
    assert problems.M.shape == (3, 16, 24) and problems.wstar.shape == (3, 24)
    for of in (problems.wstar, problems.M):
        assert len(np.unique(np.asarray(of).reshape(3, -1), axis=0)) == 3
    for seed in range(3):
        one = make_problem(config, seed + 1)
        np.testing.assert_array_equal(one.wstar, problems.wstar[seed])
        np.testing.assert_array_equal(one.M, problems.M[seed])
    # More seeds leave the earlier ones as they were; another base seed changes all.
    more = make_problems(parse(tiny(seeds=5, problem=UNIFORM | OVERCOMPLETE)))
    np.testing.assert_array_equal(more.M[:3], problems.M)
    np.testing.assert_array_equal(more.wstar[:3], problems.wstar)
    other = make_problems(parse(tiny(seed=4, seeds=3, problem=UNIFORM | OVERCOMPLETE)))
    assert (other.wstar != problems.wstar).all()


def test_the_result_says_which_and_holds_every_draw(tiny_run, apart):
    assert tiny_run.result.attrs["draw"] == "shared"
    assert tiny_run.result.wstar.dims == ("feature",)
    result, weights = apart[0].result, apart[0].weights
    assert result.attrs["draw"] == "per-seed" and list(result.status.values) == ["ok", "ok"]
    assert result.wstar.dims == ("seed", "feature")
    np.testing.assert_array_equal(result.wstar, weights["wstar"])
    assert weights["M"].shape == (2, 16, 24)
    assert (weights["M"][0] != weights["M"][1]).any()
    # α of every neuron, by its own seed's dictionary.
    for seed, phase in ((0, "W0"), (1, "W0"), (0, "W_clean"), (1, "W_clean")):
        largest = np.abs(weights[phase][seed] @ weights["M"][seed]).max(-1)
        alpha = result.alpha.sel(phase="init" if phase == "W0" else "clean").isel(seed=seed)
        np.testing.assert_allclose(np.abs(alpha), largest, rtol=1e-4)
    # On another seed's data a network is right by chance: y f has no median to be measured in.
    at_zero = result.dense_margin.sel(phase="clean", margin_quantile=0.9).isel(radius=0)
    assert np.isfinite(at_zero).all() and (at_zero < 10).all()
    dense = result.robust_accuracy.sel(attack="dense mixture").isel(radius=2)
    for phase in ("clean", "adversarial"):
        along = result.along_dense_attack_accuracy[result.record_phase.values == phase][-1]
        np.testing.assert_allclose(along, dense.sel(phase=phase), atol=4 * 0.5 / 1000**0.5)
    # No other seed has the same problem to make examples on.
    assert np.isnan(result.robust_accuracy.sel(attack="transfer")).all()
    assert np.isfinite(result.robust_accuracy.sel(attack="PGD")).all()


def test_a_saved_run_has_the_problem_of_each_seed(apart):
    experiment, folder = apart
    saved = load_run(folder)
    np.testing.assert_array_equal(saved.problems.M, experiment.weights["M"])
    for position in range(2):
        problem = saved.problem_of(position)
        np.testing.assert_array_equal(problem.M, experiment.weights["M"][position])
        np.testing.assert_array_equal(problem.wstar, experiment.weights["wstar"][position])


def test_attacks_and_certificates_use_the_seeds_own_problem(apart):
    saved = load_run(apart[1])
    options = {"radii": [1e-3], "phases": ["clean"], "protocol": QUICK}
    clean = apart[0].result.robust_accuracy.sel(attack="FGM", phase="clean").isel(radius=0)
    attacked = attack_run(saved, samples=400, **options)
    (certified,) = certify_run(saved, points=400, stages=["linear"], **options)
    # At radius 0 on fresh points: a network on another seed's problem is right by chance.
    for seed, expected in enumerate(clean.values):
        for row in (attacked[seed], certified["seeds"][seed]):
            assert row["attacked"] == pytest.approx(expected, abs=4 * 0.5 / 20)
    assert clean.min() > 0.7


def test_a_comparison_is_on_the_problem_of_the_seed_that_it_shows(tiny, tmp_path, monkeypatch):
    experiment = run_experiment(parse(tiny(problem={"draw": "per-seed"})))
    save_run(tmp_path, experiment.result, experiment.weights, [])
    saved = load_run(tmp_path)
    failed = saved._replace(result=saved.result.assign(status=("seed", ["diverged", "ok"])))
    monkeypatch.setattr(compare, "competitors", lambda *_, **__: [])
    rows = compare.compare_run(failed, samples=400, radii=[1.0], certify_points=100)
    assert [row["class"] for row in rows] == [compare.PURE, compare.CLEAN, compare.PURIFIED]
    then = experiment.result.robust_accuracy.sel(phase="adversarial", attack="PGD", seed=2)
    assert rows[-1]["robust_accuracy"] == pytest.approx(float(then[2]), abs=4 * 0.5 / 20)
    assert rows[-1]["curve"][0]["certified"] > 0.5 and rows[0]["robust_accuracy"] > 0.6


def test_lanes_of_a_sweep_draw_as_the_seeds_of_a_run(tiny, apart, tmp_path):
    run = {name: value for name, value in tiny().items() if name not in ("name", "seed", "seeds")}
    run["problem"] = {"d": 16, "features": 24, "dictionary": "incoherent"} | UNIFORM
    settings = {"seed": 3, "seeds": 2, "run": run, "axes": {"k": [2, 3]}}
    result = run_sweep(parse_sweep(settings), tmp_path / "out", survey=quick_survey).result
    assert result.attrs["draw"] == "per-seed"
    start, clean = (result.alpha_max.sel(phase=phase) for phase in ("init", "clean"))
    expected = apart[0].result.alpha_max
    # The largest coordinate of the start is by the lane's own M; common to all points.
    np.testing.assert_allclose(start, [expected.sel(phase="init")] * 2, rtol=1e-6)
    assert float(start[0, 0]) != float(start[0, 1])
    np.testing.assert_allclose(clean[1], expected.sel(phase="clean"), rtol=1e-2)


def test_older_folders_keep_the_one_draw_that_they_had(tiny, tmp_path, few_attacks):
    settings = tiny(problem=UNIFORM, **SHORT)
    shared = settings | {"problem": settings["problem"] | {"draw": "shared"}}
    experiment = run_experiment(parse(shared))
    # As development versions wrote it: neither the setting nor the attribute.
    result = experiment.result.assign_attrs(config=dump(parse(settings)))
    del result.attrs["draw"]
    save_run(tmp_path, result, experiment.weights, [])
    assert load_result(tmp_path).attrs["draw"] == "shared"
    saved = load_run(tmp_path)
    assert saved.config.draw == "shared" and saved.config == parse(shared)
    np.testing.assert_array_equal(saved.problems.wstar, experiment.weights["wstar"])
