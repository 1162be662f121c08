"""A sweep as an object: what it says, its table, its pictures; read back by ``fp.load``."""

import matplotlib
import numpy as np
import pytest
from made_up_sweeps import made_up, over_tau
from matplotlib import pyplot
from matplotlib.figure import Figure

import featpur_sim as fp
from featpur_sim._ground.disk import ResultError
from featpur_sim.claims.diagram import per_point
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report.one_sweep import Swept

RATIO = "kappa_over_alpha[phase=clean]"


@pytest.fixture(autouse=True)
def no_window():
    with matplotlib.rc_context({"backend": "agg"}):
        yield
    pyplot.close("all")


@pytest.fixture
def swept(tmp_path):
    made_up(noise=0.1).to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    found = fp.load(tmp_path)
    assert isinstance(found, Swept) and found.folder == tmp_path
    return found


def test_it_says_what_it_is(swept):
    assert repr(swept).startswith("Swept(made-up, ") and "12 points, 4 seeds, 48 ok" in repr(swept)
    page = swept._repr_html_()
    assert "12 points" in page and "kappa_over_alpha" in page and "<script" not in page


def test_its_table_has_a_row_for_each_point(swept):
    table = swept.table(RATIO)
    expected = per_point(swept.data, Quantity.parse(RATIO))
    np.testing.assert_array_equal(table["value"], expected.value)
    np.testing.assert_array_equal(table["k"], swept.data.k)
    assert {"low", "high", "finished", "failed", "d"} <= set(table)


def test_a_phase_diagram_has_the_values_as_colours(swept):
    mine = Figure().subplots()
    axes = swept.plot.phase_diagram(quantity=RATIO, ax=mine)
    assert axes is mine and pyplot.get_fignums() == []
    colours = axes.collections[0].get_array()
    means = per_point(swept.data, Quantity.parse(RATIO)).value.values
    assert sorted(np.ravel(colours)) == pytest.approx(sorted(means))
    assert axes.get_xlabel() == "input dimension d" and axes.get_legend() is not None
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks == [f"{d}" for d in np.unique(swept.data.d)]


def test_points_that_share_a_place_are_chosen(swept):
    crossed = Swept(over_tau(swept.data), swept.folder)
    with pytest.raises(ResultError, match="choose one value of .*tau"):
        crossed.plot.phase_diagram(quantity=RATIO)
    axes = crossed.plot.phase_diagram(quantity=RATIO, at={"tau": 0.1})
    assert axes.figure is pyplot.figure(pyplot.get_fignums()[-1])


def test_a_quantity_against_a_coordinate(swept):
    axes = swept.plot.against("k", RATIO, at={"d": 64})
    (bars,) = axes.containers
    x, y = bars.lines[0].get_data()
    table = swept.table(RATIO).query("d == 64").sort_values("k")
    np.testing.assert_array_equal(np.sort(x), table["k"])
    np.testing.assert_allclose(y[np.argsort(x)], table["value"])
    assert axes.get_ylabel() == "κ/α (clean)"
    with pytest.raises(ResultError, match="no coordinate 'c'"):
        swept.plot.against("c", RATIO)
    with pytest.raises(ResultError, match="no quantity 'nothing'"):
        swept.plot.against("k", "nothing")


def test_its_axes_can_be_dimensions(tmp_path):
    """As `as_grid`: of a sweep that says its axes."""
    from quick_survey import quick_survey

    from featpur_sim.sweeps.file import parse_sweep
    from featpur_sim.sweeps.run import run_sweep

    few = {"steps": 3, "batch": 8}
    settings = {
        "preset": "dense-regime",
        "seeds": 1,
        "run": {"problem": {"d": 8}, "records": 2, "clean": few, "adversarial": few},
        "axes": {"k": [2, 3]},
    }
    run_sweep(parse_sweep(settings), tmp_path / "out", survey=quick_survey)
    swept = fp.load(tmp_path / "out")
    assert swept.grid().sizes["k"] == 2 and "k=2–3" in repr(swept)
