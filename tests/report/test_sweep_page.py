"""Phase diagrams, figures, report and the command of a sweep, on made-up results."""

import html
import json
import re

import matplotlib
import numpy as np
import pytest
import scipy.stats
from made_up_sweeps import made_up, over_c, over_tau

from featpur_sim.claims.diagram import per_point, phase_diagram, select, window_lines
from featpur_sim.claims.power_law import fit_power_law
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report import sweep_figures
from featpur_sim.report import sweep_page as sweep_report
from featpur_sim.report.sweep_page import build, draw_all, fit_all
from featpur_sim.runs.folder import ResultError

CLEAN = Quantity.parse("kappa_over_alpha[phase=clean]")
ROBUST = Quantity.parse("robust_accuracy[phase=clean, attack=PGD, relative_radius=1]")


@pytest.fixture(autouse=True)
def few_figures(monkeypatch):
    """One phase diagram is enough: each figure takes half a second to render."""
    monkeypatch.setattr(sweep_report, "DIAGRAMS", (ROBUST,))


@pytest.fixture
def folder(tmp_path):
    result = made_up(noise=0.1).assign_attrs(sweep="name = 'made-up'\n")
    result = result.drop_vars("purification_factor")
    result.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    return tmp_path


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_means_and_intervals_are_over_the_runs_that_finished():
    result = made_up(noise=0.2)
    result.status[3, 2] = "diverged"
    result.status[5] = "dead"
    result.kappa_over_alpha[3, 2] = 1e9
    table = per_point(result, CLEAN)
    values = result.kappa_over_alpha.sel(phase="clean").values[3, [0, 1, 3]]
    low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
    assert float(table.value[3]) == pytest.approx(values.mean())
    assert [float(table.low[3]), float(table.high[3])] == pytest.approx([low, high])
    assert np.isnan(table.value[5]) and int(table.finished[5]) == 0
    assert list(table.failed.values[[3, 5]]) == [1, 4]
    assert list(table.k.values) == list(result.k.values)
    single = per_point(made_up(seeds=1), CLEAN)
    assert np.isfinite(single.value).all() and np.isnan(single.low).all()


def test_points_that_share_a_place_must_be_told_apart():
    result = made_up()
    twice = result.assign_coords(
        d=("point", np.repeat([32, 64], 6)), sigma_x=("point", np.tile([0.1, 0.3], 6))
    ).drop_vars("m")
    with pytest.raises(ResultError, match=r"2 points .*d = 32, k = 4.* --at sigma_x=0.1"):
        phase_diagram(twice, CLEAN)
    kept = select(twice, {"sigma_x": 0.3})
    assert kept.sizes["point"] == 6
    with pytest.raises(ResultError, match=r"no point has sigma_x = 0.2: the sweep has 0.1, 0.3"):
        select(twice, {"sigma_x": 0.2})
    with pytest.raises(ResultError, match="no coordinate 'seed'"):
        select(twice, {"seed": 1})


def test_points_that_differ_in_nothing_are_told():
    """Two points of one sweep file with the same settings."""
    result = made_up().isel(point=[0, 1, 5, 1, 1])
    result = result.assign_coords(point=np.arange(5))
    with pytest.raises(ResultError, match=r"3 points .*k = 6 .*drop_sel\(point=\[3, 4\]\)"):
        phase_diagram(result, CLEAN)
    assert phase_diagram(result.drop_sel(point=[3, 4]), CLEAN).sizes["point"] == 3


def test_points_are_chosen_by_text_and_by_small_numbers():
    result = made_up().assign_coords(
        k=("point", np.repeat([4.0, 6.0], 6)),
        law=("point", np.tile(["two-level", "gaussian"], 6)),
        decay=("point", np.repeat([1e-9, 2e-9, 0.0], 4)),
    )
    with pytest.raises(ResultError, match=r"choose one value of .*law.*, such as --at"):
        phase_diagram(result, CLEAN)
    for at, count in (
        ({"law": "gaussian"}, 6),
        ({"decay": 1e-9}, 4),
        ({"decay": "0"}, 4),
        ({"law": "gaussian", "decay": "2e-9"}, 2),
        ({"d": "64"}, 3),
    ):
        assert select(result, at).sizes["point"] == count, at
    for at, message in (
        ({"law": "0.3"}, "no point has law = 0.3: the sweep has gaussian, two-level"),
        ({"k": "six"}, "k = 'six': k is a number in this sweep"),
        ({"lqw": "gaussian"}, "no coordinate 'lqw': it has .*law"),
    ):
        with pytest.raises(ResultError, match=message):
            select(result, at)
    same = result.isel(point=[0, 1]).assign_coords(k=("point", [4.0, 4.0]), m=("point", [1, 1]))
    same = same.assign_coords(tau=("point", [0.1, 0.1]))
    with pytest.raises(ResultError, match="choose one value of law, such as --at law=two-level"):
        phase_diagram(same, CLEAN)


def test_the_window_is_the_theorys():
    lines = window_lines(np.array([64.0, 729.0]))
    lower, upper = lines.values()
    assert lower == pytest.approx([4, 9]) and upper == pytest.approx([8, 27])


def test_a_grid_is_drawn_as_cells_where_they_belong():
    result = made_up()
    shuffled = result.isel(point=np.random.default_rng(0).permutation(12))
    axes = sweep_figures.draw_phase_diagram(shuffled, CLEAN).axes[0]
    mesh = axes.collections[0]
    assert mesh.get_array().shape == (3, 4)
    np.testing.assert_allclose(
        mesh.get_array(), [[k / d for d in (32, 64, 128, 256)] for k in (4, 6, 9)]
    )
    corners = mesh.get_coordinates()
    assert corners[0, 1, 0] == pytest.approx(np.sqrt(32 * 64))
    assert corners[1, 0, 1] == pytest.approx(np.sqrt(4 * 6))
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    for line, power in zip(lines, (1 / 3, 1 / 2), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.asarray(line.get_xdata()) ** power)


def test_a_diagram_over_another_plane(tmp_path, featpur):
    result = over_c(made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1)).assign_attrs(sweep="")
    figure = sweep_figures.draw_phase_diagram(result, ROBUST, ("c", "k"))
    axes = figure.axes[0]
    assert axes.collections[0].get_array().shape == (4, 3) and not axes.lines[:-1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("c", "sparsity k")
    with pytest.raises(ResultError, match=r"3 points .* share d = 64, k = 4: .*--at c=0.2"):
        phase_diagram(result, CLEAN)
    with pytest.raises(ResultError, match="share c = 0.2, d = 64: choose one value of k, .*k=4"):
        phase_diagram(result, CLEAN, ("c", "d"))
    with pytest.raises(ResultError, match="law has values that are not positive numbers"):
        phase_diagram(result.assign_coords(law=("point", ["a"] * 12)), CLEAN, ("law", "k"))
    result.drop_vars("purification_factor").to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    chosen = ("fit", tmp_path, "--quantity", "kappa_over_alpha[phase=clean]")
    assert featpur(*chosen, "-q")[0] == 0
    drawn = tmp_path / "figures" / "phase-robust_accuracy-clean-PGD-1.png"
    assert not drawn.exists()
    assert featpur(*chosen, "--x", "c", "-q")[0] == 0 and drawn.exists()
    code, out, _ = featpur(*chosen, "--at", "c=0.3", "--json")
    assert code == 0 and [row["repeats"] for row in json.loads(out)] == [0]
    for arguments, message in (
        (["--x", "c", "--y", "d"], "choose one value of k, tau, ratio, such as --at k=4"),
        (["--x", "q"], "the sweep has no coordinate 'q': it has"),
        (["--x", "k"], "--x k and --y k are one coordinate"),
        (["--against", "c"], "no exponent in c: kappa_over_alpha[clean] depends on"),
    ):
        code, out, err = featpur(*chosen, *arguments)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, err


def test_scattered_points_are_discs_and_failures_are_marked():
    result = made_up().isel(point=[0, 2, 4, 7, 11])
    result.status[2] = "dead"
    figure = sweep_figures.draw_phase_diagram(result, ROBUST)
    axes = figure.axes[0]
    discs = axes.collections[0]
    expected = result.robust_accuracy[:, :, 1, 1, 1].mean("seed").values[[0, 1, 3, 4]]
    np.testing.assert_allclose(discs.get_array(), expected)
    np.testing.assert_allclose(discs.get_offsets()[:, 0], result.d.values[[0, 1, 3, 4]])
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert (list(crosses.get_xdata()), list(crosses.get_ydata())) == ([64.0], [6.0])
    assert "robust accuracy (clean, PGD, 1τ)" in words(figure)


def test_a_power_law_figure_shows_fit_prediction_and_what_was_excluded():
    result = made_up(noise=0.1, law=lambda d, k, tau: d**-0.8 * k**1.2)
    result.kappa_over_alpha[4, 0, 1] = -1e-4
    fit = fit_power_law(result, CLEAN)
    figure = sweep_figures.draw_power_law(result, fit)
    in_d, _ = figure.axes
    predicted = next(line for line in in_d.lines if line.get_label() == "predicted slope")
    x, y = np.asarray(predicted.get_xdata()), np.asarray(predicted.get_ydata())
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(-1)
    fitted = [line for line in in_d.lines if len(line.get_xdata()) == 2 and line is not predicted]
    for line, k in zip(fitted, (4, 6, 9), strict=True):
        np.testing.assert_allclose(line.get_ydata(), fit({"d": np.array([32, 256]), "k": k}))
    hollow = [line for line in in_d.lines if line.get_mfc() == "none" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in hollow] == [[64.0]]
    bar = in_d.containers[0]
    assert list(bar[0].get_xdata()) == [32, 64, 128, 256]
    title = in_d.get_title("left")
    e = fit.exponents[0]
    assert f"{-e.value:.3f}" in title and f"{-e.low:.3f}" in title and "predicted: −1.000" in title


def test_points_with_the_same_runs_are_drawn_and_printed_once(tmp_path, featpur):
    result = over_tau(made_up(ds=(64,), ks=(4, 6, 9, 13), noise=0.1))
    result.status[0, 1] = "diverged"
    figure = sweep_figures.draw_power_law(result, fit_power_law(result, CLEAN))
    (axes,) = figure.axes
    assert list(axes.containers[0][0].get_xdata()) == [4, 6, 9, 13]
    assert not [line for line in axes.lines if line.get_mfc() == "none" and len(line.get_xdata())]
    sweep = result.drop_vars("purification_factor").assign_attrs(sweep="")
    sweep.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    code, out, err = featpur("fit", tmp_path)
    assert code == 0 and "4 points, 8 with the same runs" in out and "in tau" in out
    assert err.count("note: no exponent in tau: kappa_over_alpha[clean] depends on problem") == 1
    assert featpur("report", tmp_path)[0] == 0
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "4 of 12, 8 the\nsame runs" in page and page.count("no exponent in tau: ") == 1
    code, out, err = featpur("fit", tmp_path, "--against", "k", "--against", "tau", "--json")
    assert code == 0 and [row["quantity"] for row in json.loads(out)] == [
        "kappa_over_alpha[adversarial]"
    ]
    saved = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    assert saved["not_fitted"]["kappa_over_alpha[clean]"].startswith("no exponent in tau: ")


def test_default_figures_and_report():
    result = made_up(noise=0.1).assign_attrs(sweep="name = '<made-up>'\n")
    result.status[0, 0] = "diverged"
    fits = fit_all(result)
    assert [str(law.quantity) for law in fits.laws] == [
        "kappa_over_alpha[clean]", "kappa_over_alpha[adversarial]", "purification_factor",
    ]  # fmt: skip
    assert "no quantity 'critical_radius'" in fits.refused["critical_radius[adversarial, PGD]"]
    drawn = draw_all(result, fits.laws)
    assert sum(name.startswith("phase-") for name in drawn) == 1
    page = build(result, fits, drawn)
    assert page.count("data:image/png;base64,") == len(drawn) == 4
    assert "1 runs diverged" in page and "&lt;made-up&gt;" in page
    assert f"{fits.laws[0].exponents[0].value:#.3g}".replace("-", "−") in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    # One line through (d, k): no plane to colour.
    line = made_up(ks=(5,))
    assert not any(name.startswith("phase-") for name in draw_all(line, fit_all(line).laws))


def test_fit_writes_its_table_and_figures(folder, featpur):
    code, out, err = featpur("fit", folder)
    assert code == 0 and "κ/α (clean)" in out and "not fitted:" in err
    saved = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    first = saved["fits"][0]
    assert first["quantity"] == "kappa_over_alpha[clean]" and first["points"] == 12
    assert first["exponents"][0]["predicted"] == pytest.approx(-1)
    assert first["exponents"][0]["low"] < -0.9 < first["exponents"][0]["high"] + 0.2
    assert set(saved["not_fitted"]) > {"dense_norm_over_alpha[clean]"}
    for ending in ("png", "pdf"):
        assert (folder / "figures" / f"fit-kappa_over_alpha-clean.{ending}").stat().st_size > 1000
        assert (folder / "figures" / f"phase-robust_accuracy-clean-PGD-1.{ending}").exists()


def test_figures_are_those_of_the_last_fit(folder, featpur):
    quantity = "robust_accuracy[phase=clean, attack=PGD, relative_radius=1]"
    for options in ((), ("--quantity", quantity)):
        assert featpur("fit", folder, *options, "-q")[0] == 0
        fits = json.loads((folder / "fit.json").read_text(encoding="utf-8"))["fits"]
        drawn = [*(folder / "figures").glob("fit-*.png")]
        assert len(drawn) == len(fits)
    assert len(fits) == 1 and drawn[0].name.startswith("fit-robust_accuracy")


def test_fit_and_report_replace_no_file_of_the_user(folder, featpur):
    (folder / "figures").mkdir()
    figure = "figures/fit-kappa_over_alpha-clean.png"
    for command, name in (
        ("fit", "fit.json"), ("fit", figure),
        ("report", "fit.json"), ("report", "report.html"), ("report", figure),
    ):  # fmt: skip
        path = folder / name
        path.write_bytes(b"of the user")
        code, out, err = featpur(command, folder)
        assert (code, out) == (2, "") and err.count("\n") == 1, (command, name)
        assert f"would be replaced: {path}. Move it" in err and path.read_bytes() == b"of the user"
        path.unlink()
        left = {path.name for path in folder.rglob("*") if path.is_file()}
        assert left <= {"sweep.nc", ".lock"}
    assert featpur("fit", folder)[0] == featpur("report", folder)[0] == 0


def test_a_read_only_folder_is_refused_first_or_the_fits_are_printed(
    folder, featpur, read_only, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(sweep_report, "fit_predicted", lambda *a: pytest.fail("computed"))
        for command in ("fit", "report"):
            code, out, err = featpur(command, folder)
            assert (code, out) == (2, "") and err.count("\n") == 1
            assert "cannot write to the folder" in err and "Read-only file system" in err
    chosen = ("--quantity", "kappa_over_alpha[phase=clean]", "--against", "d", "--at", "k=6")
    code, out, err = featpur("fit", folder, *chosen, "--json")
    assert code == 0 and len(json.loads(out)) == 1 and "printed only" in err
    assert [path.name for path in folder.iterdir()] == ["sweep.nc"]


def test_fit_of_chosen_quantities_and_points(folder, featpur):
    chosen = ("fit", folder, "--quantity", "kappa_over_alpha[phase=clean]", "--against", "d")
    code, out, _ = featpur(*chosen, "--at", "k=6", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["points"] == 4
    assert [e["coordinate"] for e in row["exponents"]] == ["d"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quantity", "kappa"], "no quantity 'kappa'"),
        (["--against", "x"], "no coordinate 'x'"),
        (["--at", "k"], "--at 'k': write name=value"),
        (["--at", "k=six"], "k = 'six': k is a number"),
        (["--at", "k=5"], "no point has k = 5: the sweep has 4, 6, 9"),
    ],
)
def test_bad_input_is_one_message(folder, featpur, arguments, message):
    code, out, err = featpur("fit", folder, *arguments)
    assert code == 2 and message in err and "Traceback" not in err and out == ""
    assert not (folder / "fit.json").exists()


@pytest.mark.parametrize(
    ("points", "reason", "swept"),
    [
        ([0, 3], "2 usable points are too few to fit 2 numbers", "swept: d."),
        ([0], "no coordinate of the sweep varies", "swept: nothing."),
        ([0, 4, 8, 11], r"0 usable points \(4 points excluded: no run finished\)", "swept: d, k."),
    ],
    ids=["two points", "one point", "all dead"],
)
def test_a_report_says_what_cannot_be_fitted(tmp_path, featpur, points, reason, swept):
    result = made_up().isel(point=points).assign_attrs(sweep="name = 'few'\n", draw="per-seed")
    if len(points) > 2:
        result["status"] = result.status.where(False, "dead")
    result.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    code, _, err = featpur("report", tmp_path)
    assert code == 0 and str(tmp_path / "report.html") in err
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Nothing could be fitted." in page and "Against" not in page and swept in page
    assert "w* and M: per-seed." in page
    assert re.search(rf"Not fitted: kappa_over_alpha\[clean\]\. .*{reason}", page)
    # No colours of nothing, where d and k both vary but no run finished.
    assert "There is nothing to draw." in page and "data:image" not in page
    table = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    assert table["fits"] == [] and re.search(reason, table["not_fitted"]["purification_factor"])
    # To fit was all that `fit` was asked for.
    code, out, err = featpur("fit", tmp_path)
    assert (code, out) == (2, "") and "nothing could be fitted: " in err


def test_report_of_a_sweep_and_of_nothing(folder, featpur, tmp_path):
    code, _, err = featpur("report", folder)
    assert code == 0 and str(folder / "report.html") in err
    assert "Exponents" in (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "empty").mkdir()
    code, _, err = featpur("fit", tmp_path / "empty")
    assert code == 2 and "holds no finished sweep" in err
