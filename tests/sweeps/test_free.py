"""Free variables: axes and coordinates of the user's own, and the settings that they enter."""

import math

import numpy as np
import pytest
from quick_survey import quick_survey

from featpur_sim._ground.disk import ResultError
from featpur_sim.claims.power_law import fit_power_law, free_coordinates
from featpur_sim.claims.quantity import Quantity
from featpur_sim.runs.config import ConfigError
from featpur_sim.sweeps import plan as sweep_plan
from featpur_sim.sweeps.assemble import as_grid
from featpur_sim.sweeps.file import load, parse_sweep
from featpur_sim.sweeps.run import load_sweep, run_sweep

SETTINGS = {
    "seed": 3,
    "seeds": 2,
    "preset": "dense-regime",
    "axes": {"d": [16], "k": [2, 4]},
    "let": {"c": [0.2, 0.3], "ratio": "tau*sqrt(d)/k"},
    "derived": {"tau": "c/sqrt(k)"},
    "run": {
        "records": 3,
        "clean": {"steps": 20, "batch": 32},
        "adversarial": {"steps": 20, "batch": 32},
    },
}
AXIS = {"preset": "dense-regime", "let": {"c": [0.2, 0.3]}}


def values(sweep, label):
    return [point.swept[label] for point in sweep.points]


def test_a_variable_is_an_axis_of_its_own_name():
    sweep = parse_sweep(SETTINGS)
    assert sweep.axes == (("d",), ("k",), ("c",)) and sweep.shape == (1, 2, 2)
    assert values(sweep, "c") == [0.2, 0.3, 0.2, 0.3]
    for point in sweep.points:
        c, k = point.swept["c"], point.config.problem.k
        assert point.config.adversarial.radius == pytest.approx(c / math.sqrt(k))
        assert point.swept["ratio"] == pytest.approx(c / math.sqrt(k) * 4 / k)
    assert sweep.free == {"c": ("adversarial.radius",), "ratio": ()}


def test_axes_then_variables_then_zipped_lists():
    sweep = parse_sweep(
        SETTINGS | {"axes": {"k": [2]}, "zip": [{"clean.learning_rate": [0.5, 0.25]}]}
    )
    assert sweep.axes == (("k",), ("c",), ("clean.learning_rate",))
    assert values(sweep, "c") == [0.2, 0.2, 0.3, 0.3]


def test_a_variable_enters_settings_through_others():
    sweep = parse_sweep(
        {
            "preset": "dense-regime",
            "axes": {"d": [32, 64]},
            "let": {
                "a": {"linear": [0.3, 0.4], "points": 2},
                "half": 0.5,
                "e": "a + half",
                "f": "e",
            },
            "derived": {"k": "d**e", "tau": "0.3/sqrt(k)", "problem.sigma_x": "half"},
        }
    )
    assert [round(p.config.problem.k, 3) for p in sweep.points] == pytest.approx(
        [d**e for d in (32, 64) for e in (0.8, 0.9)], abs=1e-3
    )
    through_k = ("problem.k", "adversarial.radius")
    assert sweep.free["a"] == sweep.free["e"] == through_k and sweep.free["f"] == ()
    assert set(sweep.free["half"]) == {*through_k, "problem.sigma_x"}
    assert values(sweep, "half") == [0.5] * 4 and values(sweep, "e") == values(sweep, "f")


def test_a_preset_meets_the_k_that_a_variable_makes():
    (small, large) = parse_sweep(
        {"preset": "dense-regime", "let": {"c": [0.5, 1]}, "derived": {"k": "c*d**0.4"}}
    ).points
    assert small.config.problem.k == pytest.approx(0.5 * 100**0.4)
    # The preset's τ = 0.3/√k.
    assert large.config.adversarial.radius == pytest.approx(0.3 / 100**0.2, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"let": 3}, ["let = 3", "[let]"]),
        ({"let": {"k": [3, 4]}}, ["let.k = [3, 4]", "the setting problem.k", "another name"]),
        ({"let": {"eta": [0.1]}}, ["let.eta", "the setting clean.learning_rate"]),
        ({"let": {"problem": {"k": [3]}}}, ["let.problem", "a table of them, of a run"]),
        ({"let": {"records": [3]}}, ["let.records", "a setting"]),
        ({"let": {"sqrt": [0.1]}}, ["let.sqrt", "a function"]),
        ({"let": {"pi": 3}}, ["let.pi = 3", "constant of expressions"]),
        ({"let": {"phase": [1]}}, ["let.phase", "dimension of results"]),
        ({"let": {"point": [1]}}, ["let.point", "dimension of results"]),
        ({"let": {"kappa_over_alpha": [1]}}, ["let.kappa_over_alpha", "variable or dimension"]),
        ({"let": {"critical_radius": [1]}}, ["let.critical_radius", "variable or dimension"]),
        ({"let": {"a-b": [1]}}, ["'a-b' is not a name", "letters, digits and _"]),
        ({"let": {"κ": [1]}}, ["'κ' is not a name"]),
        ({"let": {"lambda": [1]}}, ["'lambda' is not a name"]),
        ({"let": {"c": []}}, ["let.c = []", "non-empty list"]),
        ({"let": {"c": ["a"]}}, ["let.c = 'a'", "finite number"]),
        ({"let": {"c": [0.1, math.nan]}}, ["let.c = nan", "finite number"]),
        ({"let": {"c": math.inf}}, ["let.c = inf", "finite number"]),
        ({"let": {"c": True}}, ["let.c = True", "finite number"]),
        ({"let": {"c": {"log": [0, 1], "points": 2}}}, ["let.c", "must be > 0"]),
        ({"let": {"c": {"a": 1}}}, ["let.c", "a range is"]),
        ({"let": {"c": "k if k else 1"}}, ["let.c = 'k if k else 1'", "not arithmetic"]),
        ({"let": {"c": "log(-k)"}}, ["let.c = 'log(-k)'", "no finite real value"]),
        ({"let": {"c": "q"}}, ["let.c: 'q' is not a field of a run", "goes into [let]"]),
        ({"let": {"a": "b", "b": "a"}}, ["let.a → let.b → let.a is circular"]),
        ({"let": {"c": "k"}, "derived": {"k": "c"}}, ["problem.k → let.c → problem.k is circular"]),
        ({}, ["let.c = [0.2, 0.3]", "no setting reads c", "trained at each of its values"]),
        ({"let": {"c": [0.2, 0.3], "e": "c**2"}}, ["no setting reads c"]),
        ({"derived": {"tau": "let.c/sqrt(k)"}}, ["'let.c' is not a field of a run"]),
        ({"let": {"c": [0.1, 99]}, "derived": {"k": "c*50"}}, ["(c = 99)", "problem.k = 4950"]),
        ({"axes": {"c": [3]}}, ["'c' is not a field of a run", "goes into [let]"]),
    ],
)  # fmt: skip
def test_one_line_names_what_is_wrong(changes, words):
    with pytest.raises(ConfigError) as caught:
        parse_sweep(AXIS | changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_text_of_a_sweep_holds_its_variables(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(parse_sweep(SETTINGS).text, encoding="utf-8")
    assert load(path) == parse_sweep(SETTINGS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("free")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_plan, "WIDEST", {"cpu": 4})
        run_sweep(parse_sweep(SETTINGS), folder, survey=quick_survey)
    return folder


def test_a_variable_is_a_dimension_of_the_grid(finished):
    with load_sweep(finished) as result:
        assert result.c.dims == result.ratio.dims == ("point",)
        grid = as_grid(result)
        assert dict(grid.sizes) == {"d": 1, "k": 2, "c": 2, "seed": 2, "phase": 3}
        assert grid.c.values.tolist() == [0.2, 0.3]
        one = grid.alpha_max.sel(d=16, k=4, c=0.3)
        assert (one == result.alpha_max[3]).all()
        assert float(grid.tau.sel(d=16, k=4, c=0.3)) == pytest.approx(0.15)
        with pytest.raises(
            ResultError, match=r"3 of the sweep's 4 points .*as_grid\(result\)\.sel"
        ):
            as_grid(result.isel(point=[0, 1, 2]))


def test_what_never_sees_the_settings_does_not_depend_on_the_variable(finished):
    clean, after = (
        Quantity.parse(f"alpha_max[phase={phase}]") for phase in ("clean", "adversarial")
    )
    with load_sweep(finished) as result:
        assert free_coordinates(result) == ("k", "c")
        law = fit_power_law(result, after)
        assert [e.coordinate for e in law.exponents] == ["k", "c"] and law.repeats == 0
        # 2 points are left for k alone: too few to fit with an error, so the refusal is of that.
        with pytest.raises(ResultError, match="2 usable points are too few"):
            fit_power_law(result, clean)
        with pytest.raises(ResultError, match=r"no exponent in c: .* and c enters adversarial.rad"):
            fit_power_law(result, clean, ["c"])
        values = result.alpha_max.sel(phase="clean").values
        np.testing.assert_array_equal(values[::2], values[1::2])


def test_another_variable_is_another_sweep(finished):
    other = SETTINGS | {"let": SETTINGS["let"] | {"c": [0.2, 0.4]}}
    with pytest.raises(
        ResultError, match=r"another sweep \(let\.c \[0\.2, 0\.3\] → \[0\.2, 0\.4\]"
    ):
        run_sweep(parse_sweep(other), finished, survey=quick_survey, resume=True)
    # A coordinate that no run depends on belongs to the result too.
    other = SETTINGS | {"let": {"c": [0.2, 0.3], "ratio": "tau"}}
    with pytest.raises(ResultError, match=r"another sweep \(let\.ratio"):
        run_sweep(parse_sweep(other), finished, survey=quick_survey, resume=True)


def test_the_dry_run_lists_the_variables(tmp_path, featpur):
    path = tmp_path / "sweep.toml"
    path.write_text(parse_sweep(SETTINGS).text, encoding="utf-8")
    code, out, _ = featpur("sweep", path, "--dry-run")
    assert code == 0
    assert any({"point", "c", "ratio", "tau"} <= set(line.split()) for line in out.splitlines())
