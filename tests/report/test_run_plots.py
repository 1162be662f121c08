"""``run.plot``, a run as a table, a run in a notebook: what the figures and the scorecard say."""

from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from test_run_figures import CLEAN, bands, line, with_failed_seed
from tiny_runs import tiny_result

import featpur_sim as fp
from featpur_sim._ground.checks import ConfigError
from featpur_sim.claims.family import families
from featpur_sim.report import run_figures as figures
from featpur_sim.report.run_plots import Plots

CALLS = {
    "both_sides": lambda plot, **at: plot.both_sides(**at),
    "robust_accuracy": lambda plot, **at: plot.robust_accuracy(**at),
    "weights": lambda plot, **at: plot.weights(**at),
    "trajectory": lambda plot, **at: plot.trajectory("kappa_over_alpha", **at),
    "dense_margin": lambda plot, **at: plot.dense_margin(**at),
    "surgery": lambda plot, **at: plot.surgery(**at),
    "overlaps": lambda plot, **at: plot.overlaps(**at),
    "update_spectrum": lambda plot, **at: plot.update_spectrum(**at),
    "accuracy_along": lambda plot, **at: plot.accuracy_along(**at),
}


@pytest.fixture(autouse=True)
def no_window():
    with matplotlib.rc_context({"backend": "agg"}):
        yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def run(tiny):
    return fp.run(tiny(name="<b>tiny"), quiet=True)


@pytest.mark.parametrize("name", CALLS)
def test_every_plot_draws_into_given_axes_or_a_figure_of_its_own(name):
    plot, mine = Plots(tiny_result()), Figure().subplots()
    assert CALLS[name](plot, ax=mine) is mine and pyplot.get_fignums() == []
    own = CALLS[name](plot)
    assert own.figure is pyplot.figure(pyplot.get_fignums()[-1])
    for axes in (mine, own):
        assert axes.get_xlabel() and axes.get_ylabel()
        assert axes.get_legend() is not None or axes.images
    own.figure.draw_without_rendering()


def test_they_draw_what_the_figures_show():
    result, plot = tiny_result(), Plots(tiny_result())
    axes = plot.both_sides(Figure().subplots())
    for mine, theirs in zip(axes.lines, figures.both_sides(result).axes[0].lines, strict=True):
        np.testing.assert_array_equal(mine.get_ydata(), theirs.get_ydata())
    values = result.robust_accuracy.sel(attack="FGM", phase="clean").mean("seed")
    axes = plot.robust_accuracy(Figure().subplots(), attack="FGM")
    np.testing.assert_allclose(np.asarray(line(axes, "clean-trained").get_ydata()), values)
    image = plot.weights(Figure().subplots(), phase="clean").images[0]
    theirs = figures.coordinates(result).axes[1].images[0]
    np.testing.assert_array_equal(image.get_array(), theirs.get_array())
    assert image.get_clim() == theirs.get_clim()
    axes = plot.trajectory("along_kappa_over_alpha", Figure().subplots())
    theirs = line(figures.purification(result).axes[0], "measured, adversarial phase")
    np.testing.assert_array_equal(
        line(axes, "measured, adversarial phase").get_xydata(), theirs.get_xydata()
    )


@pytest.mark.parametrize(
    ("draw", "figure", "panel"),
    [
        (lambda plot, ax: plot.overlaps(ax), figures.overlaps, 0),
        (lambda plot, ax: plot.accuracy_along(ax), figures.accuracy_along, 0),
        (lambda plot, ax: plot.update_spectrum(ax), figures.update_spectrum, 0),
        (lambda plot, ax: plot.update_spectrum(ax, cumulative=True), figures.update_spectrum, 1),
        (lambda plot, ax: plot.dense_margin(ax, phase="clean"), figures.dense_margin, 0),
    ],
)
def test_a_panel_of_a_figure_is_drawn_alone(draw, figure, panel):
    result = tiny_result()
    mine, theirs = draw(Plots(result), Figure().subplots()), figure(result).axes[panel]
    if figure is figures.dense_margin:  # the phases with a positive margin stand there
        theirs = next(a for a in figure(result).axes if a.get_title("left") == "clean-trained")
    assert len(mine.lines) == len(theirs.lines) > 1
    for one, other in zip(mine.lines, theirs.lines, strict=True):
        np.testing.assert_array_equal(one.get_ydata(), other.get_ydata())
    assert (mine.get_xlabel(), mine.get_xscale()) == (theirs.get_xlabel(), theirs.get_xscale())


def test_the_bars_of_surgery_are_those_of_the_figure():
    result = tiny_result()
    mine = Plots(result).surgery(Figure().subplots())
    heights = [bar.get_height() for bar in mine.patches]
    theirs = [bar.get_height() for bar in figures.surgery(result).axes[0].patches]
    assert heights == theirs and len(heights) == 15


def test_seeds_that_failed_are_left_out():
    axes = Plots(with_failed_seed(tiny_result())).trajectory("accuracy", Figure().subplots())
    whole = Plots(tiny_result()).trajectory("accuracy", Figure().subplots())
    for mine, theirs in zip(axes.lines, whole.lines, strict=True):
        np.testing.assert_array_equal(mine.get_ydata(), theirs.get_ydata())
    assert list(bands(whole, CLEAN))
    dead = tiny_result().copy()
    dead["status"] = ("seed", np.array(["dead", "dead"]))
    for call in CALLS.values():
        with pytest.raises(ValueError, match="no seed with status 'ok'"):
            call(Plots(dead))
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: p.trajectory("alpha_over_kappa"), "variable = 'alpha_over_kappa'.*kappa_over_"),
        (lambda p: p.robust_accuracy(attack="CW"), "attack = 'CW': must be one of random noise, "),
        (lambda p: p.weights(phase="pure"), "phase = 'pure': must be one of init, clean, adv"),
    ],
)
def test_a_name_that_is_none_is_refused_and_the_others_are_said(draw, message):
    with pytest.raises(ConfigError, match=message):
        draw(Plots(tiny_result()))
    assert pyplot.get_fignums() == []


def test_a_list_of_axes_is_refused_in_words(unchecked):
    with pytest.raises(ConfigError, match="ax must be matplotlib Axes or None, got ndarray"):
        Plots(tiny_result()).both_sides(Figure().subplots(1, 2))


def test_a_run_without_certificates_says_so_where_it_would_draw_them(run):
    axes = run.plot.both_sides(Figure().subplots())
    assert [text.get_text() for text in axes.texts] == ["this run certified no points"]


def test_accuracies_as_a_table(run):
    table = run.to_dataframe()
    assert list(table) == [
        "seed", "phase", "attack", "radius", "relative_radius", "robust_accuracy",
    ]  # fmt: skip
    assert not table.isna().any(axis=None)
    applies = int(run.data.robust_accuracy.count())
    assert len(table) == len(table.drop_duplicates(list(table)[:4])) == applies
    (last,) = table.query(
        "seed == 1 and phase == 'clean' and attack == 'PGD' and relative_radius == 1"
    ).robust_accuracy
    at = {"seed": 1, "phase": "clean", "attack": "PGD"}
    assert last == run.data.robust_accuracy.sel(at).values[2]


def test_seeds_that_failed_are_not_in_the_table(run, monkeypatch):
    whole = run.to_dataframe()
    failed = run.data.assign(status=("seed", np.array(["ok", "diverged"])))
    monkeypatch.setattr(run, "data", failed)
    table = run.to_dataframe()
    assert set(table.seed) == {run.data.seed.values[0]} < set(whole.seed)
    # Nor what examples of such a seed did to another.
    assert "transfer" not in set(table.attack) and "transfer" in set(whole.attack)


class Cells(HTMLParser):
    """The tags and the words of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data + " "


def test_a_notebook_shows_settings_claims_and_place(run):
    shown = Cells(run._repr_html_())
    found = families(run.scorecard().to_dict("records"))
    assert shown.tags.count("tr") == len(found) > 5 and "b" not in shown.tags
    for family in found:
        assert f"{family.id} " in shown.words and str(family) in shown.words
    assert shown.words.count("<b>tiny ") == len(found)  # the regime of each claim
    assert "<b>tiny, d=16, k=3, m=32, τ=0.17, 2 seeds" in shown.words
    assert "in memory" in shown.words
