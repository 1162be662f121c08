"""Figures: labelled, honest bands, failed seeds left out, written whole or not at all."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from matplotlib.colors import to_rgb
from tiny_runs import tiny_result

from featpur_sim.report import run_figures as figures
from featpur_sim.report._style import render

CLEAN = to_rgb("#D55E00")


def with_failed_seed(result: xr.Dataset) -> xr.Dataset:
    """The result with a third seed that diverged and whose numbers are absurd."""
    ruined = result.isel(seed=[0]).assign_coords(seed=[7])
    for name in ("robust_accuracy", "accuracy_along", "along_accuracy"):
        ruined[name] = ruined[name] * 0 + 1e6
    ruined["status"] = ("seed", np.array(["diverged"]))
    ruined["reason"] = ("seed", np.array(["diverged since step 12 of the clean phase"]))
    return xr.concat([result, ruined], "seed", data_vars="minimal", join="outer")


@pytest.fixture
def result():
    return tiny_result().copy(deep=True)


def panel(figure, title):
    return next(a for a in figure.axes if a.get_title("left") == title)


def bands(axes, colour):
    """x, low and high of every band of one colour."""
    for collection in axes.collections:
        face = collection.get_facecolor()
        if len(face) and np.allclose(face[0, :3], colour):
            points = collection.get_paths()[0].vertices
            x = np.unique(points[:, 0])
            low = [points[points[:, 0] == value, 1].min() for value in x]
            high = [points[points[:, 0] == value, 1].max() for value in x]
            yield x, np.array(low), np.array(high)


def line(axes, label):
    return next(found for found in axes.lines if found.get_label() == label)


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


@pytest.mark.parametrize("name", figures.ALL)
def test_every_outer_axis_is_labelled(result, name):
    figure = figures.ALL[name](result)
    for axes in figure.axes:
        place = axes.get_subplotspec()
        if place is None:  # a colour bar
            assert axes.get_ylabel()
        elif axes.axison:
            assert axes.get_xlabel() or not place.is_last_row()
            assert axes.get_ylabel() or not place.is_first_col()


def test_every_figure_has_a_caption_with_all_fields_filled(result):
    assert figures.CAPTIONS.keys() == figures.ALL.keys()
    for name in figures.ALL:
        text = figures.caption(name, result)
        assert "{" not in text
        assert "2 seeds" in text or name == "coordinates"
    assert "2000 test samples" in figures.caption("robust_accuracy", result)


def counted_interval(values):
    """By the rule of docs/claims.md, on 2000 points a seed."""
    S, mean = len(values), values.mean()
    q = (2000 * S * mean + 2) / (2000 * S + 4)
    spread = max(values.std(ddof=1), np.sqrt(q * (1 - q) / 2000))
    half = scipy.stats.t.ppf(0.975, S - 1) * spread / np.sqrt(S)
    return max(mean - half, 0), min(mean + half, 1)


@pytest.mark.parametrize("attack", ["PGD", "random noise"])
def test_bands_are_the_t_interval_over_seeds(result, attack):
    values = result.robust_accuracy.sel(phase="clean", attack=attack).values
    mean = values.mean(0)
    low, high = np.transpose([counted_interval(column) for column in values.T])
    axes = panel(figures.robust_accuracy(result), attack)
    x, drawn_low, drawn_high = next(bands(axes, CLEAN))
    np.testing.assert_allclose(x, result.radius)
    np.testing.assert_allclose(drawn_low, low, rtol=1e-9)
    np.testing.assert_allclose(drawn_high, high, rtol=1e-9)
    np.testing.assert_allclose(line(axes, "clean-trained").get_ydata(), mean)


def test_bars_and_their_intervals(result):
    axes = figures.surgery(result).axes[0]
    values = result.reference_accuracy.sel(
        reference="clean without dense mixtures", reference_attack="PGD"
    ).values[:, 1]
    # Third kind of bar, second network.
    bars = axes.containers[5]
    assert bars.get_label() == "PGD at τ"
    assert bars.patches[1].get_height() == pytest.approx(values.mean())
    low, high = bars.errorbar.lines[2][0].get_segments()[1][:, 1]
    assert (low, high) == pytest.approx(counted_interval(values))


def test_phases_share_one_step_axis(result):
    ratio = figures.purification(result).axes[0]
    steps = line(ratio, "measured, adversarial phase").get_xdata()
    assert (steps[0], steps[-1]) == (400, 800)
    labels = ratio.get_legend_handles_labels()[1]
    assert "k/d = 0.19 [D] §5.1" in labels
    assert "1/(τ√k·d) = 0.24 [D] §5.1" in labels


def test_scalings_are_not_drawn_for_the_other_norm(result):
    result.attrs["norm"] = "linf"
    labels = figures.purification(result).axes[0].get_legend_handles_labels()[1]
    assert labels == ["measured, clean phase", "measured, adversarial phase"]


def test_coordinates_are_signed_by_wstar(result):
    mixture = np.sign(result.wstar.values)
    result["shown_coordinates"] = result.shown_coordinates * 0 + mixture * np.linspace(0.5, 1, 16)
    image = figures.coordinates(result).axes[1].images[0]
    np.testing.assert_allclose(image.get_array()[0], np.linspace(0.5, 1, 16))
    low, high = image.get_clim()
    assert low == -high
    # Where each seed has a w* of its own, the neurons shown are of the first, finished or not.
    both = result.assign(wstar=(("seed", "feature"), np.stack([mixture, -mixture])))
    both["status"] = ("seed", np.array(["dead", "ok"]))
    again = figures.coordinates(both).axes[1].images[0]
    np.testing.assert_array_equal(again.get_array(), image.get_array())


def test_update_spectrum_counts_what_holds_nine_tenths(result):
    size = result.sizes["singular"]
    # Squares 80, 8, 4, …: three of them reach 90 %.
    squares = np.array([80.0, 8.0, 4.0] + [8.0 / (size - 3)] * (size - 3))
    result["update_singular_values"] = result.update_singular_values * 0 + np.sqrt(squares)
    energy = figures.update_spectrum(result).axes[1]
    assert f"W′ − W: 3 of {size} hold 90 %" in energy.get_legend_handles_labels()[1]
    np.testing.assert_allclose(energy.lines[0].get_ydata()[:3], [0.8, 0.88, 0.92])


def test_margins_in_units_of_nothing_are_left_out(result):
    result["dense_margin"].loc[{"phase": "init", "radius": 0.0}] = -1e29
    for phase in ("clean", "adversarial"):
        result["dense_margin"].loc[{"phase": phase, "radius": 0.0}] = 1.0
    titles = [a.get_title("left") for a in figures.dense_margin(result).axes]
    assert titles == ["clean-trained", "adversarially trained"]
    result["dense_margin"][:] = -1.0
    assert "no phase has a positive median margin" in words(figures.dense_margin(result))


@pytest.mark.parametrize("name", figures.ALL)
def test_one_seed_has_no_band(result, name):
    # The gap between certificate and attack is a region, not a band over seeds.
    sides = ["certified_accuracy", "attacked_accuracy"]
    one = result.isel(seed=[0]).drop_vars(sides, errors="ignore")
    figure = figures.ALL[name](one)
    if name in ("robust_accuracy", "accuracy_along"):
        assert not any(axes.collections for axes in figure.axes)
    assert "over 2 seeds" not in figures.caption(name, one)


def test_one_seed_is_said_in_the_caption(result):
    text = figures.caption("robust_accuracy", result.isel(seed=[0]))
    assert "One seed, so no interval." in text


def test_attacks_that_do_not_apply_have_no_panel(result):
    result["robust_accuracy"].loc[{"attack": "transfer"}] = np.nan
    figure = figures.robust_accuracy(result)
    titles = [a.get_title("left") for a in figure.axes if a.axison]
    assert titles == ["random noise", "dense mixture", "FGM", "PGD", "PGD on support"]


def test_failed_seeds_are_named_and_not_averaged(result):
    ruined = with_failed_seed(result)
    figure = figures.robust_accuracy(ruined)
    drawn = line(panel(figure, "PGD"), "clean-trained").get_ydata()
    expected = result.robust_accuracy.sel(phase="clean", attack="PGD").mean("seed")
    np.testing.assert_allclose(drawn, expected)
    assert "left out, seed: 7 (diverged)" in words(figure)
    assert not any("left out" in text for text in words(figures.robust_accuracy(result)))
    assert "2 seeds" in figures.caption("robust_accuracy", ruined)


def test_the_shown_seed_is_named_if_any_failed(result):
    result["status"] = ("seed", np.array(["dead", "ok"]))
    texts = words(figures.coordinates(result))
    assert "shown, seed: 1 (dead)" in texts
    assert not any("left out" in text for text in texts)


def test_no_finished_seed_is_an_error(result):
    result["status"] = ("seed", np.array(["dead", "diverged"]))
    with pytest.raises(ValueError, match="no seed with status 'ok'.*learning_rate"):
        figures.surgery(result)


def test_the_certificate_is_the_lower_edge_and_the_attack_the_upper(result):
    high = result.robust_accuracy.sel(attack="PGD").drop_vars("attack") * 0.9
    result["attacked_accuracy"], result["certified_accuracy"] = high, high / 2
    axes = figures.both_sides(result).axes[0]
    mean = high.sel(phase="clean").mean("seed").values
    np.testing.assert_allclose(line(axes, "clean-trained").get_ydata(), mean)
    ((_, low, high),) = bands(axes, CLEAN)
    np.testing.assert_allclose(low, mean / 2)
    np.testing.assert_allclose(high, mean)
    assert "ANY perturbation" in figures.caption("both_sides", result)


def test_without_certificates_both_sides_says_so(result):
    bare = result.drop_vars(["attacked_accuracy", "certified_accuracy"], errors="ignore")
    assert "this run certified no points" in words(figures.both_sides(bare))


def test_save_all_writes_png_and_pdf(result, tmp_path):
    with matplotlib.rc_context({"font.size": 11.5}):
        paths = figures.save_all(result, tmp_path / "figures")
        assert matplotlib.rcParams["font.size"] == 11.5
    assert {path.name for path in paths} == {
        f"{name}.{kind}" for name in figures.ALL for kind in ("png", "pdf")
    }
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    for path in paths:
        head = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-"}[path.suffix]
        assert path.read_bytes().startswith(head)
    page = (tmp_path / "figures" / "surgery.png").read_bytes()
    assert int.from_bytes(page[16:20]) == 1400  # 7 inches at 200 dpi


@pytest.mark.parametrize("name", ["robust_accuracy", "stationarity"])
def test_the_users_settings_do_not_matter(result, name):
    """Such as those of papers, with LaTeX, on a machine that has none."""
    plain = render(figures.ALL[name](result), "png")
    theirs = {
        "text.usetex": True,
        "font.family": "serif",
        "axes.grid": True,
        "lines.marker": "s",
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "figure.constrained_layout.use": False,
        "axes.unicode_minus": False,
    }
    with matplotlib.rc_context(theirs):
        assert render(figures.ALL[name](result), "png") == plain
        assert {key: matplotlib.rcParams[key] for key in theirs} == theirs | {
            "font.family": ["serif"]
        }


def test_every_figure_is_drawn_in_the_house_style():
    package = Path(figures.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        # run.plot makes the user's own figures, on request; every other file leaves pyplot alone.
        mine = path.name != "run_plots.py"
        assert not (mine and "pyplot" in text.replace("touches pyplot", "")), path
        assert "rc_context" not in text or path.name == "_style.py", path
        # Made inside the style, each of them.
        made = re.findall(r"( *)figure = Figure\(", text)
        assert len(made) == len(re.findall(r"    with house_style\(\):\n", text)) - (
            path.name == "_style.py"
        ), path


def test_a_failed_drawing_touches_no_file(result, tmp_path, monkeypatch):
    old = tmp_path / "robust_accuracy.png"
    old.write_bytes(b"old")

    def broken(result):
        raise RuntimeError("cannot draw")

    monkeypatch.setitem(figures.ALL, "surgery", broken)
    with pytest.raises(RuntimeError, match="cannot draw"):
        figures.save_all(result, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["robust_accuracy.png"]
    assert old.read_bytes() == b"old"


def test_pushes_are_pooled_over_neighbouring_records(result):
    """A push that swings about the weights' value from record to record is drawn at it."""
    clean = result.record_phase.values == "clean"
    count = int(clean.sum())
    swing = np.where(np.arange(count) % 5 == 0, 4.0, -1.0)  # any five in a row sum to 0
    result["along_stationarity_weights"][clean] = 0.05
    result["along_push_dense"][clean] = (0.05 + swing)[:, None]
    weights, pushed = figures.ALL["stationarity"](result).axes[0].lines[:2]
    assert weights.get_xdata().size == count
    assert pushed.get_xdata().size == count - 4
    np.testing.assert_allclose(pushed.get_ydata(), 0.05, atol=1e-6)
