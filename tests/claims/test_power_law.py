"""Power laws: the known exponents, scipy's regression, coverage, and what is left out and said."""

import json

import numpy as np
import pytest
import scipy.stats
from made_up_sweeps import made_up

from featpur_sim.claims.power_law import (
    PREDICTED,
    Quantity,
    as_row,
    fit_power_law,
    free_coordinates,
)
from featpur_sim.runs.folder import ResultError
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


@pytest.mark.parametrize(("ds", "seeds"), [((32, 64, 128, 256), 3), ((32, 99), 6)])
def test_intervals_cover(ds, seeds):
    covered = []
    for trial in range(300):
        result = made_up(ds=ds, noise=0.3, seeds=seeds, seed=trial)
        fit = fit_power_law(result, CLEAN)
        for e, truth in zip(fit.exponents, (-1, 1), strict=True):
            covered.append(e.low <= truth <= e.high)
    # 600 intervals at 95 % lie in [.93, .97] with two standard errors. Over 2000 intervals of the
    # first sweep it is .949.
    assert 0.925 < np.mean(covered) < 0.975


@pytest.mark.parametrize("seeds", [3, 6])
def test_interval_is_the_stretched_bootstrap_s(seeds):
    # The mean of S resampled seeds scatters by (S − 1)/S of the variance that the mean has.
    result = made_up(ds=(32, 64, 128, 256), noise=0.3, seeds=seeds)
    fit = fit_power_law(result, CLEAN)
    y = np.log(result.kappa_over_alpha.sel(phase="clean").values)
    points = len(y)
    picks = np.random.default_rng(0).integers(seeds, size=(20000, points, seeds))
    drawn = y[np.arange(points)[:, None], picks].mean(axis=-1)
    design = np.column_stack([np.ones(points), np.log(result.d.values), np.log(result.k.values)])
    resampled = (drawn @ np.linalg.pinv(design).T)[:, 1:].std(axis=0)
    quantile = scipy.stats.t.ppf(0.975, points * (seeds - 1))
    for e, deviation in zip(fit.exponents, resampled, strict=True):
        half = quantile * np.sqrt(seeds / (seeds - 1)) * deviation
        # The deviation of 20 000 resamples is known to half a percent.
        assert (e.high - e.low) / 2 == pytest.approx(half, rel=0.02)
        assert (e.high + e.low) / 2 == pytest.approx(e.value, abs=1e-12)


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
