"""Exponents of the reduced model, their intervals, rows of the scorecard, and the command."""

import json

import numpy as np
import pytest

from featpur_sim.claims import of_dynamics as reduced_claims
from featpur_sim.report import dynamics_figures
from featpur_sim.runs.config import dump
from featpur_sim.runs.folder import ResultError
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import scaling_of
from featpur_sim.theory.dynamics import exponents as reduced_exponents
from featpur_sim.theory.dynamics.exponents import Point, power

DIMENSIONS = (10**4, 10**6, 10**8)


@pytest.fixture(scope="module")
def points():
    return reduced_exponents.solve_all(0.4, dimensions=DIMENSIONS, n=256, replicates=2)


@pytest.mark.slow
def test_the_exponents_are_the_predicted_ones(points):
    rows = {row["quantity"]: row for row in reduced_exponents.fit(0.4, points)}
    assert len(rows) == 4
    for name, row in rows.items():
        assert row["ci"][0] < row["exponent"] < row["ci"][1]
        assert abs(row["exponent"] - row["predicted"]) < 0.02, name
    # Rounding k makes the formula's exponent differ from a − 1 = −0.6 a little.
    assert rows["clean c/α"]["predicted"] == pytest.approx(-0.6, abs=2e-3)
    assert rows["clean c/α"]["predicted"] != -0.6


@pytest.mark.slow
@pytest.mark.parametrize("a", [0.35, 0.4, 0.45])
def test_the_exponents_up_to_a_billion(a):
    rows = reduced_exponents.fit(a, reduced_exponents.solve_all(a))
    # docs/theory.md §7: measured before, with another program.
    measured = {
        0.35: (-0.650, -0.983, -0.194, -0.169),
        0.4: (-0.590, -0.959, -0.314, -0.196),
        0.45: (-0.550, -0.990, -0.421, -0.225),
    }[a]
    for row, before in zip(rows, measured, strict=True):
        near = min(abs(row["exponent"] - before), abs(row["exponent"] - row["predicted"]))
        assert near < 0.02, row


def test_an_exact_power_law_is_recovered_and_noise_widens_the_interval():
    d = np.array(reduced_exponents.DIMENSIONS, float)
    rng = np.random.default_rng(0)
    value, low, high = power(d, np.stack([3 * d**-0.7] * 3, 1))
    assert value == pytest.approx(-0.7) and high - low < 1e-9
    inside = 0
    for _ in range(200):
        noisy = 3 * d**-0.7 * np.exp(0.1 * rng.standard_normal(6))
        _, low, high = power(d, np.stack([noisy, noisy], axis=1))
        inside += low < -0.7 < high
    assert 180 <= inside <= 199


@pytest.mark.slow
def test_the_boundary_is_the_cube_root_up_to_a_constant():
    k, error = reduced_exponents.boundary(10**6, n=256)
    assert 0.9 < k / 100 < 1.2 and error < 0.05 * k


def test_a_preset_gives_its_own_scaling():
    scaling = scaling_of(sparse_regime(128, 8))
    assert (scaling.copies, scaling.sigma_x) == (4.0, 0.3)
    assert scaling.decay == pytest.approx(0.0128)
    assert scaling.bias_fraction == pytest.approx(0.38, rel=1e-5)
    assert scaling.radius == pytest.approx(0.3, rel=1e-5)


def test_a_sparsity_outside_the_model_is_named():
    with pytest.raises(ValueError, match="a = 1.2: must be in"):
        reduced_exponents.solve_all(1.2)


def canned(loss=0.01, steeper=0.0):
    """Points that follow the predicted powers exactly, but for the dense radius."""
    found = {}
    for d in reduced_exponents.DIMENSIONS:
        k = float(round(d**0.4))
        one = np.ones(3)
        found[d] = Point(
            clean_alpha=one, clean_ratio=k / d * one, clean_active=k / d * one,
            clean_accuracy=0.95 * one, pure_accuracy=(0.95 + loss) * one,
            dense_radius=d ** (0.5 - steeper) / k**2 * one, dense_accuracy=0.5 * one,
            pure_radius=k**-0.5 * one, adversarial_alpha=one,
            adversarial_ratio=d**-1.0 * k**0.05 * one, purified_radius=k**-0.5 * one,
            arrived=one > 0,
        )  # fmt: skip
    return found


def test_claims_of_exact_powers():
    rows = {row["id"]: row for row in reduced_claims.scorecard({0.4: canned()})}
    assert list(rows) == ["C2", "C3", "C4", "C6"]
    assert {row["verdict"] for row in rows.values()} == {"supported"}
    assert rows["C2"]["measured"] == pytest.approx(0.5 - 1.5 * 0.4, abs=2e-3)
    assert rows["C6"]["measured"] == pytest.approx(-0.95 * 0.4, abs=2e-3)
    bad = {r["id"]: r["verdict"] for r in reduced_claims.scorecard({0.4: canned(0.1, -0.2)})}
    assert bad["C2"] == bad["C4"] == "contradicted"
    assert all("put in by hand" in row["rule"] for row in rows.values())
    both = reduced_claims.scorecard({0.35: canned(), 0.4: canned()})
    assert [row["held_together"] for row in both] == [8] * 8
    (wide,) = [r["ci_simultaneous"] for r in both if r["id"] == "C3" and "d^0.4" in r["regime"]]
    assert wide[0] < rows["C3"]["ci"][0] and wide[1] > rows["C3"]["ci"][1]


def test_figures_have_a_panel_a_quantity():
    rows = [row for a in (0.35, 0.4) for row in reduced_exponents.fit(a, canned())]
    names = [quantity.name for quantity in reduced_exponents.QUANTITIES]
    for count, columns in ((1, 1), (2, 2), (3, 3), (4, 2)):
        shown = [row for row in rows if row["quantity"] in names[:count]]
        panels = dynamics_figures.exponents(shown).axes
        assert [axes.get_title("left").split("\n")[0] for axes in panels] == names[:count]
        place = panels[0].get_subplotspec()
        assert place is not None and place.get_gridspec().ncols == columns
        assert all(axes.get_xlabel() for axes in panels[-columns:])
    found = dynamics_figures.boundary(
        [{"d": 100, "k": 5.0}, {"d": 10**9, "k": 1000.0}], [{"d": 128, "k": 8, "ratio": 0.7}]
    )
    legend = found.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert "direct: dense attack wins" in labels and len(labels) == 4


def test_a_small_deviation_looks_small_and_alike_in_every_panel():
    """.005 off is a fortieth of the height; a panel that needs more height sets it for all."""
    rows = [
        row
        | {"exponent": row["predicted"] + 0.005, "ci": [row["predicted"], row["predicted"] + 0.01]}
        for row in reduced_exponents.fit(0.4, canned())
    ]
    for change, least, most in (
        ({}, 0.2, 0.2),
        ({"predicted": rows[0]["predicted"] - 0.4}, 0.41, 0.6),
    ):
        figure = dynamics_figures.exponents([rows[0] | change, *rows[1:]])
        heights = np.array([np.diff(axes.get_ylim())[0] for axes in figure.axes])
        np.testing.assert_allclose(heights, heights[0])
        assert least - 1e-9 <= heights[0] <= most + 1e-9
        assert figure.get_supxlabel() == f"every vertical axis spans {heights[0]:.2f}"
        for axes in figure.axes:
            low, high = axes.get_ylim()
            drawn = axes.dataLim.intervaly
            assert low < drawn[0] and drawn[1] < high


def test_the_command_writes_exponents_and_verdicts(featpur, tmp_path, monkeypatch):
    def solve_all(a, scaling, *, seed, meter):
        return canned()

    monkeypatch.setattr(reduced_exponents, "solve_all", solve_all)
    (tmp_path / "run.toml").write_text(dump(sparse_regime(128, 8)), encoding="utf-8")
    arguments = ("dynamics", tmp_path / "run.toml", "--exponents", "--a", "0.4", "--out", tmp_path)
    code, shown, _ = featpur(*arguments)
    assert code == 0 and "clean c/α" in shown and "put in by hand" in shown
    rows = json.loads((tmp_path / "dynamics.json").read_text(encoding="utf-8"))
    assert set(rows[0]) == {
        "quantity", "a", "exponent", "ci", "predicted", "source", "d_min", "d_max"
    }  # fmt: skip
    assert [row["id"] for row in reduced_claims.load(tmp_path)] == ["C2", "C3", "C4", "C6"]
    assert (tmp_path / "figures" / "exponents.png").exists()
    (tmp_path / reduced_claims.SCORECARD).write_text("[{}]", encoding="utf-8")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ResultError, match="lacks an entry"):
        reduced_claims.load(tmp_path)
    code, _, told = featpur(*arguments[:-4], "--a", "1.5")
    assert code == 2 and told
