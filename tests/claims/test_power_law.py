"""Power laws: the known exponents, scipy's regression, coverage, and what is left out and said."""

import json

import numpy as np
import pytest
import scipy.stats
from made_up_sweeps import made_up, over_c, over_tau

from featpur_sim.claims.power_law import (
    PREDICTED,
    PREDICTED_IN_BOX,
    as_row,
    fit_power_law,
    free_coordinates,
    predictions,
)
from featpur_sim.claims.quantity import Quantity
from featpur_sim.runs.folder import ResultError
from featpur_sim.theory import linf
from featpur_sim.theory import predictions as theory

CLEAN = Quantity("kappa_over_alpha", (("phase", "clean"),))


def test_known_exponents_come_back():
    result = made_up(law=lambda d, k, tau: 3.0 * d**-0.7 * k**1.3)
    fit = fit_power_law(result, CLEAN)
    assert [e.coordinate for e in fit.exponents] == ["d", "k"]
    assert [e.value for e in fit.exponents] == pytest.approx([-0.7, 1.3], abs=1e-9)
    assert np.exp(fit.log_prefactor) == pytest.approx(3.0, rel=1e-9)
    assert fit.r_squared == pytest.approx(1) and fit.scatter < 1e-9 and fit.excluded == {}
    assert fit({"d": 100, "k": 5}) == pytest.approx(3.0 * 100**-0.7 * 5**1.3, rel=1e-9)
    for e in fit.exponents:
        assert e.low == pytest.approx(e.value) and e.high == pytest.approx(e.value)


def test_one_coordinate_agrees_with_scipy():
    result = made_up(noise=0.3, ks=(5,), ds=(20, 30, 50, 90, 130))
    fit = fit_power_law(result, CLEAN, ["d"])
    x = np.log(result.d.values)
    y = np.log(result.kappa_over_alpha.sel(phase="clean").values)
    every = scipy.stats.linregress(np.repeat(x, 4), y.ravel())
    means = scipy.stats.linregress(x, y.mean(axis=1))
    assert fit.exponents[0].value == pytest.approx(every.slope, rel=1e-9)
    assert fit.log_prefactor == pytest.approx(every.intercept, rel=1e-9)
    assert fit.r_squared == pytest.approx(means.rvalue**2, rel=1e-9)
    residual = y.mean(axis=1) - means.intercept - means.slope * x
    assert fit.scatter == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-9)


def common_numbers(result, rng, level, growth):
    """The same sweep with what seed s adds to ln y at every point, and to its growth in d and k."""
    values = result.kappa_over_alpha.sel(phase="clean").values
    logs = np.log([result.d.values, result.k.values])
    logs -= logs.mean(axis=1, keepdims=True)
    seeds = result.sizes["seed"]
    values *= np.exp(level * rng.normal(size=seeds))
    values *= np.exp(growth * logs.T @ rng.normal(size=(2, seeds)))
    # Not a power law: the exponents are those of the least squares through the true values.
    values *= np.exp(0.3 * np.sin(np.arange(len(values))))[:, None]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("growth", [0.0, 0.2])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_where_points_share_their_random_numbers(seeds, growth, missing):
    rng = np.random.default_rng(seeds)
    bent = common_numbers(made_up(seeds=2), rng, 0, 0)
    truth = [e.value for e in fit_power_law(bent, CLEAN, ["d", "k"]).exponents]
    covered = []
    for trial in range(150):
        result = common_numbers(made_up(noise=0.1, seeds=seeds, seed=trial), rng, 0.3, growth)
        lost = rng.random(result.status.shape) < missing
        lost[lost.sum(axis=1) > seeds - 2] = False
        result["status"] = result.status.where(~lost, "dead")
        fit = fit_power_law(result, CLEAN, ["d", "k"])
        covered += [e.low <= true <= e.high for e, true in zip(fit.exponents, truth, strict=True)]
    # 300 intervals at 95 % lie in [.92, .98] with 2.4 standard errors. If all runs are taken as
    # independent, it is 100 % without growth and 88 % with it.
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_interval_is_student_s_over_the_seeds_own_slopes():
    result = common_numbers(made_up(noise=0.2, seeds=5), np.random.default_rng(1), 0.5, 0.1)
    fit = fit_power_law(result, CLEAN)
    y = np.log(result.kappa_over_alpha.sel(phase="clean").values)
    design = np.column_stack([np.ones(12), np.log(result.d.values), np.log(result.k.values)])
    slopes = np.linalg.lstsq(design, y, rcond=None)[0][1:]
    for e, own in zip(fit.exponents, slopes, strict=True):
        low, high = scipy.stats.t.interval(0.95, 4, own.mean(), scipy.stats.sem(own))
        assert (e.value, e.low, e.high) == pytest.approx((own.mean(), low, high))


def test_points_with_the_same_runs_are_one_point():
    once = made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1)
    crossed = over_tau(once)
    alone, fit = (fit_power_law(result, CLEAN) for result in (once, crossed))
    assert fit.exponents == alone.exponents and fit.r_squared == alone.r_squared
    assert (list(fit.points), fit.repeats, fit.disagreement) == ([0, 3, 6, 9], 8, 0.0)
    assert list(fit.no_exponent) == ["tau"] and alone.no_exponent == {}
    row = as_row(fit)
    assert row["repeats"] == 8 and row["remarks"] == [
        "no exponent in tau: kappa_over_alpha[clean] depends on problem, network, clean, "
        "adversarial.norm and adversarial.optimizer alone."
    ]
    after = fit_power_law(crossed, Quantity.parse("kappa_over_alpha[phase=adversarial]"))
    assert [e.coordinate for e in after.exponents] == ["k", "tau"]
    assert (len(after.points), after.repeats, after.no_exponent) == (12, 0, {})
    # What is asked for is refused.
    for against in (["tau"], ["k", "tau"]):
        with pytest.raises(ResultError, match=r"no exponent in tau: kappa_over_alpha\[clean\] dep"):
            fit_power_law(crossed, CLEAN, against)
    with pytest.raises(ResultError, match="nothing to fit against: no exponent in tau"):
        fit_power_law(crossed.isel(point=slice(3)), CLEAN)


def test_a_free_variable_has_an_exponent_where_its_settings_count():
    once = made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1)
    crossed = over_c(once)
    assert free_coordinates(crossed) == ("k", "c")
    # τ = c/√k is no third one, though it would be with k alone.
    assert free_coordinates(crossed.assign_attrs(axes="[]", let="{}")) == ("k", "tau")
    alone, fit = (fit_power_law(result, CLEAN) for result in (once, crossed))
    assert fit.exponents == alone.exponents and (fit.repeats, fit.disagreement) == (8, 0.0)
    assert list(fit.no_exponent) == ["c"]
    with pytest.raises(
        ResultError, match=r"no exponent in c: .*and c enters adversarial\.radius\."
    ):
        fit_power_law(crossed, CLEAN, ["k", "c"])
    adversarial = Quantity.parse("kappa_over_alpha[phase=adversarial]")
    after = fit_power_law(crossed, adversarial)
    assert [e.coordinate for e in after.exponents] == ["k", "c"] and after.repeats == 0
    # 1/(τ√k·d) = 1/(c·d).
    assert [e.predicted for e in after.exponents] == pytest.approx([0, -1], abs=1e-5)
    in_tau = fit_power_law(crossed, adversarial, ["k", "tau"])
    assert after.exponents[1].value == pytest.approx(in_tau.exponents[1].value, abs=1e-4)


def test_a_variable_that_follows_from_others_says_something_where_it_is_one_value():
    crossed = over_c(made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1))
    in_k, in_ratio = (fit_power_law(crossed, CLEAN, [name]) for name in ("k", "ratio"))
    assert in_ratio.exponents[0].value == pytest.approx(in_k.exponents[0].value)
    # Though no power law of k and c, it follows from them, and is not fitted unasked.
    assert free_coordinates(crossed.assign_coords(ratio=crossed.k + crossed.c)) == ("k", "c")
    # With c in it, points of the same clean run have several.
    mixed = crossed.assign_coords(ratio=crossed.ratio * crossed.c)
    with pytest.raises(ResultError, match=r"no exponent in ratio: points 0 and 1 hold the same ru"):
        fit_power_law(mixed, CLEAN, ["ratio"])
    adversarial = Quantity.parse("kappa_over_alpha[phase=adversarial]")
    assert len(fit_power_law(mixed, adversarial, ["ratio"]).points) == 12


def test_values_of_a_variable_that_make_one_setting_are_one_point():
    """Where m = round(c·d), two c can give the same network: it says nothing about c."""
    result = made_up(ds=(64,), ks=(5,), noise=0.1).isel(point=[0, 0, 0, 0])
    result = result.assign_coords(
        point=np.arange(4), m=("point", [8, 8, 16, 32]), c=("point", [0.12, 0.13, 0.25, 0.5])
    ).assign_attrs(axes='[["c"]]', let='{"c": ["network.neurons"]}')
    with pytest.raises(ResultError, match="points 0 and 1 hold the same runs .*c = 0.12 and 0.13"):
        fit_power_law(result, CLEAN, ["c"])
    assert fit_power_law(result, CLEAN, ["m"]).repeats == 1
    # Nor do equal settings differ in what a survey of the user's own measures.
    own = result.assign(mine=result.kappa_over_alpha.sel(phase="clean"))
    assert fit_power_law(own, Quantity("mine"), ["m"]).repeats == 1


def test_a_run_is_taken_from_the_point_where_it_counts():
    crossed = over_tau(made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1))
    whole = fit_power_law(crossed, CLEAN)
    # Adversarial training failed at one τ: nothing of that lane was measured there.
    crossed.status[0, 1] = "diverged"
    crossed.kappa_over_alpha[0, 1] = np.nan
    crossed.kappa_over_alpha[4, 2] = np.nan
    fit = fit_power_law(crossed, CLEAN)
    assert fit.exponents == whole.exponents and fit.lanes_left_out == 0 and fit.excluded == {}
    # At all three: then it is lost.
    crossed.status[:3, 1] = "diverged"
    assert fit_power_law(crossed, CLEAN).lanes_left_out == 1
    crossed.kappa_over_alpha[9:, 0] = -1.0
    assert fit_power_law(crossed, CLEAN).excluded == {9: "not positive"}


def test_the_same_runs_with_other_values_are_told():
    crossed = over_tau(made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1))
    crossed.kappa_over_alpha[5, 2, 1] *= 1 + 1e-6
    assert len(as_row(fit_power_law(crossed, CLEAN))["remarks"]) == 1
    crossed.kappa_over_alpha[5, 2, 1] *= 1.25
    said = "points with the same runs differ by up to 20 %"
    assert said in as_row(fit_power_law(crossed, CLEAN))["remarks"][1]


def test_a_coordinate_that_counts_stands_in_for_one_that_does_not():
    """Both learning rates move together: clean training has an exponent in its own."""
    result = made_up(ds=(64,), ks=(5,), noise=0.1).isel(point=[0] * 4)
    rates = ("point", [0.1, 0.2, 0.4, 0.8])
    result = result.assign_coords(
        {"adversarial.learning_rate": rates, "clean.learning_rate": rates}
    )
    assert free_coordinates(result) == ("adversarial.learning_rate",)
    assert free_coordinates(result, CLEAN) == ("clean.learning_rate",)
    fit = fit_power_law(result, CLEAN)
    assert [e.coordinate for e in fit.exponents] == ["clean.learning_rate"]


def test_the_prediction_is_fitted_at_the_same_points():
    result = made_up(noise=0.1)
    clean = fit_power_law(result, CLEAN)
    assert [e.predicted for e in clean.exponents] == pytest.approx([-1, 1])
    assert clean.prediction.source == "[D] §5.1"
    after = fit_power_law(result, Quantity.parse("kappa_over_alpha[phase=adversarial]"))
    # 1/(τ√k·d) with τ = 0.3/√k does not depend on k.
    assert [e.predicted for e in after.exponents] == pytest.approx([-1, 0], abs=1e-5)
    factor = fit_power_law(result, Quantity("purification_factor"), ["k"])
    assert factor.exponents[0].predicted == pytest.approx(1, abs=1e-5)
    # Along k = √d, k/d falls as d^{−1/2}.
    path = result.isel(point=[0, 5, 10])
    path = path.assign_coords(k=("point", np.sqrt(path.d.values)))
    along = fit_power_law(path, CLEAN, ["d"])
    assert along.exponents[0].predicted == pytest.approx(-0.5)
    assert fit_power_law(result, ROBUST, ["d", "k"]).exponents[0].predicted is None


ROBUST = Quantity.parse("robust_accuracy[phase=clean, attack=PGD, relative_radius=1]")


@pytest.mark.parametrize(
    ("text", "exponents"),
    [
        ("kappa_over_alpha[phase=clean]", (-1, 1, 0)),
        ("kappa_over_alpha[phase=adversarial]", (-1, -0.5, -1)),
        ("dense_norm_over_alpha[phase=clean]", (-0.5, 1, 0)),
        ("purification_factor", (0, 1.5, 1)),
        ("critical_radius[phase=clean,critical_attack=dense mixture]", (0.5, -2, 0)),
        ("critical_radius[phase=adversarial,critical_attack=PGD]", (0, -0.5, 0)),
    ],
)
def test_what_is_predicted(text, exponents):
    predict = PREDICTED[Quantity.parse(text)]
    base = predict(100, 5.0, 0.1).value
    found = [
        np.log2(predict(*place).value / base)
        for place in [(200, 5.0, 0.1), (100, 10.0, 0.1), (100, 5.0, 0.2)]
    ]
    assert found == pytest.approx(exponents, abs=1e-9)
    assert len(PREDICTED) == 6


def test_points_and_runs_that_are_left_out_are_named():
    result = made_up(noise=0.1)
    whole = fit_power_law(result, CLEAN)
    values = result.kappa_over_alpha.sel(phase="clean").values
    values[2, 1] = -0.01
    values[4, 0] = np.nan
    values[7, 3] = 1e9
    result.status[7, 3] = "diverged"
    result.status[9] = "dead"
    fit = fit_power_law(result, CLEAN)
    assert fit.excluded == {2: "not positive", 4: "not measured", 9: "no run finished"}
    assert fit.lanes_left_out == 1 and list(fit.points) == [0, 1, 3, 5, 6, 7, 8, 10, 11]
    assert fit.exponents[0].value == pytest.approx(whole.exponents[0].value, abs=0.2)
    assert json.loads(json.dumps(as_row(fit)))["excluded"]["9"] == "no run finished"


def test_one_seed_has_no_interval():
    fit = fit_power_law(made_up(seeds=1, noise=0.1), CLEAN)
    assert all(np.isnan(e.low) and np.isnan(e.high) for e in fit.exponents)
    assert np.isfinite(fit.exponents[0].value)
    assert "no interval, since a point has one run that finished" in as_row(fit)["remarks"][0]


def test_coordinates_that_others_determine_are_not_free():
    result = made_up()
    assert free_coordinates(result) == ("d", "k")
    result = result.assign_coords(
        {
            "tau": ("point", np.tile([0.1, 0.15, 0.2], 4)),
            "sigma_x": ("point", np.full(12, 0.3)),
            "problem.law": ("point", ["two-level"] * 12),
            "adversarial.rank": ("point", np.arange(12)),
        }
    )
    # Here τ follows k, rank has a 0 in it and σ_x does not vary.
    assert free_coordinates(result) == ("d", "k", "tau")
    assert free_coordinates(result.isel(point=[0, 3, 6])) == ("d",)


@pytest.mark.parametrize(
    ("text", "against", "message"),
    [
        ("kappa", None, "no quantity 'kappa': it has kappa_over_alpha, purification_factor, robus"),
        ("kappa_over_alpha", None, r"needs a label for phase: write kappa_over_alpha\[phase=…\]"),
        ("kappa_over_alpha[phase=late]", None, "phase must be one of init, clean, adversarial"),
        ("kappa_over_alpha[attack=PGD]", None, "has no dimension 'attack'"),
        ("kappa_over_alpha[clean]", None, "must be a name, or name"),
        ("kappa over alpha", None, "must be a name, or name"),
        ("status", None, "no quantity 'status'"),
        ("kappa_over_alpha[phase=clean]", ["x"], "no coordinate 'x': it has d, k, m, tau"),
        ("kappa_over_alpha[phase=clean]", ["d", "m"], "d, m do not vary independently"),
        ("kappa_over_alpha[phase=init]", None, r"0 usable points \(12 points excluded: not pos"),
    ],
)
def test_what_cannot_be_fitted_is_refused(text, against, message):
    with pytest.raises(ResultError, match=message):
        fit_power_law(made_up(), Quantity.parse(text), against)


def test_too_few_points_are_refused():
    result = made_up().isel(point=[0, 1, 3])
    with pytest.raises(ResultError, match="3 usable points are too few to fit 3 numbers"):
        fit_power_law(result, CLEAN)
    constant = made_up().isel(point=[0])
    with pytest.raises(ResultError, match="nothing to fit against"):
        fit_power_law(constant, CLEAN)


def test_what_was_left_out_is_said_where_the_rest_do_not_vary():
    result = made_up(
        ks=(4, 6, 9, 12), law=lambda d, k, tau: np.where(d == 64, k / d, -1.0)
    )  # fmt: skip
    said = "do not vary independently over the 4 usable points .*12 points excluded: not positive"
    with pytest.raises(ResultError, match=said):
        fit_power_law(result, CLEAN, ["d", "k"])


def test_the_predicted_value_is_the_theorys():
    fit = fit_power_law(made_up(), CLEAN)
    assert fit.prediction.formula == theory.clean_dense_ratio(64, 5).formula


def test_in_a_box_the_dictionary_decides_what_is_predicted():
    adversarial = Quantity("kappa_over_alpha", (("phase", "adversarial"),))
    flat = made_up(noise=0.1).assign_attrs(norm="linf", dictionary="haar")
    # 1/(ε√(2dk/π)·d) on the path ε ∝ 1/√k; in ℓ2 it is 1/(τ√k·d).
    for result, expected in ((flat, (-1.5, 0.0)), (made_up(noise=0.1), (-1.0, 0.0))):
        found = fit_power_law(result, adversarial)
        assert [e.predicted for e in found.exponents] == pytest.approx(expected, abs=1e-4)
    identity = flat.assign_attrs(dictionary="identity")
    assert fit_power_law(identity, adversarial).prediction is None  # it is predicted to vanish
    assert [e.predicted for e in fit_power_law(identity, CLEAN).exponents] == [-1.0, 1.0]
    names = ["identity", "haar"] * (flat.sizes["point"] // 2)
    mixed = identity.assign_coords({"problem.dictionary": ("point", names)})
    radius = Quantity("critical_radius", (("phase", "adversarial"), ("critical_attack", "PGD")))
    assert radius in PREDICTED and set(PREDICTED_IN_BOX) < set(PREDICTED)
    told, d, k = predictions(mixed, radius), mixed.d.values, mixed.k.values
    assert [one.value for one in told[:2]] == [
        1 / k[0], linf.critical_radius(int(d[1]), k[1], "flat").value
    ]  # fmt: skip
    # Nothing is said where the dictionary is not known, or is none of these.
    for name in ({}, {"dictionary": "incoherent"}):
        assert predictions(made_up().assign_attrs(norm="linf", **name), radius) is None
