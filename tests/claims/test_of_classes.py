"""C8 as data and as a command: bounds, labels, rows, scorecard, figure, report."""

import json
import math

import jax
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from featpur_sim.claims import of_classes as comparison
from featpur_sim.claims import of_run as claims
from featpur_sim.cli.main import app
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.linear import LinearClassifier
from featpur_sim.report import class_figure as comparison_figure
from featpur_sim.report import run_page as report
from featpur_sim.runs.compare import compare_run
from featpur_sim.runs.config import ConfigError, parse
from featpur_sim.runs.folder import ResultError
from featpur_sim.runs.model_classes import (
    BOUNDED,
    CLEAN,
    COUNTEREXAMPLE,
    MEASURED,
    PROVED,
    PURE,
    PURIFIED,
    class_bound,
    label,
    separations,
    witness_floor,
)
from featpur_sim.runs.presets import dense_regime
from featpur_sim.runs.saved import load_run
from featpur_sim.theory.box_bounds import linear_box_bound, odd_part_bound
from featpur_sim.theory.class_bounds import (
    affine_bound,
    gaussian_twin_bound,
    linear_bound,
    linear_linf_bound,
    quadratic_bound,
)
from featpur_sim.training.competitors import Competitor
from featpur_sim.training.stacking import stack

TAU = 0.3 / math.sqrt(5)


@pytest.fixture
def two_competitors(monkeypatch):
    """A league of Mw* and of nothing else: training is tested elsewhere."""

    def league(problem, radius, *, norm, steps):
        def train(key):
            return LinearClassifier(problem.dense_direction())

        return [
            Competitor("linear", "convex optimum", train),
            Competitor("polynomials of degree 3", "convex optimum", train),
        ]

    monkeypatch.setattr("featpur_sim.runs.compare.competitors", league)


@pytest.fixture
def compared(two_competitors, tiny_folder):
    return compare_run(load_run(tiny_folder), samples=200, radii=[0.5], certify_points=100)


def test_bounds_are_those_of_the_class():
    config = dense_regime(64, 5)
    at = (64, 5, 0.3, TAU)
    for name, bound in (
        ("linear", linear_bound),
        ("linear with intercept", affine_bound),
        ("polynomials of degree 2", quadratic_bound),
    ):
        assert class_bound(name, config, TAU) == bound(*at).bound
    for name in ("polynomials of degree 3", "tangent kernel, 4d neurons", "pure network"):
        assert class_bound(name, config, TAU) is None


def in_norm(config, norm, **problem):
    settings = config.model_dump()
    settings["adversarial"]["norm"] = norm
    settings["problem"] |= problem
    return parse(settings)


def test_bounds_in_a_box_are_those_of_the_dictionary():
    at, config = (64, 5, 0.3, 0.063), in_norm(dense_regime(64, 5), "linf")
    linear = linear_box_bound(*at)
    assert class_bound("linear", config, 0.063) == linear.bound < 0.6
    haar = in_norm(dense_regime(64, 5), "linf", dictionary="haar")
    angle = linear_linf_bound(*at, 2.5)
    assert class_bound("linear", haar, 0.063, dense_norm=2.5) == angle.bound > linear.bound
    for name in ("linear with intercept", "polynomials of degree 2"):
        assert class_bound(name, config, 0.063) == odd_part_bound(linear, name).bound
        assert class_bound(name, haar, 0.063, dense_norm=2.5) == (1 + angle.bound) / 2
    for name in ("polynomials of degree 3", "tangent kernel, 4d neurons", "pure network"):
        assert class_bound(name, config, 0.063) is None
    twin = in_norm(dense_regime(64, 5), "linf", law="gaussian-twin")
    assert class_bound("linear", twin, 0.063) is None


def test_the_cubic_is_a_counterexample_in_a_box_where_it_is_exact():
    config = in_norm(dense_regime(64, 5), "linf")
    assert 0.5 < witness_floor(config, 0.021) < 1
    assert witness_floor(in_norm(dense_regime(64, 5), "linf", dictionary="haar"), 0.021) == 0


def test_a_run_in_a_box_is_compared_in_the_box(two_competitors, tiny_folder):
    """Mw* against its exact worst case, ε‖Mw*‖₁, with the rows' own number of points."""
    run = load_run(tiny_folder)
    config = in_norm(run.config, "linf")
    rows = compare_run(run._replace(config=config), samples=400, radii=[0.5], certify_points=50)
    problem, radius = run.problem_of(0), config.adversarial.radius / 2
    batch = problem.sample_labelled(jax.random.key(0), 20_000)
    margin = np.asarray(batch.y) * (np.asarray(batch.x) @ np.asarray(problem.wstar))
    exact = np.mean(margin > radius * problem.d)
    low, high = rows[0]["curve"][0]["ci"]
    assert low - 0.02 < exact < high + 0.02
    assert rows[0]["curve"][0]["class_bound"] == class_bound("linear", config, radius)
    assert rows[-1]["curve"][0]["certified"] <= rows[-1]["curve"][0]["robust_accuracy"] + 0.15


def test_the_gaussian_twin_bounds_every_class():
    settings = dense_regime(64, 5).model_dump()
    settings["problem"]["law"] = "gaussian-twin"
    config = parse(settings)
    ceiling = gaussian_twin_bound(64, 0.3, TAU).bound
    for name in ("linear", "polynomials of degree 7", "two-layer network, adversarial"):
        assert class_bound(name, config, TAU) == ceiling
    assert witness_floor(config, TAU) == 0


def test_no_bound_is_claimed_for_another_law():
    settings = dense_regime(64, 5).model_dump()
    settings["problem"]["law"] = "uniform-magnitude"
    assert class_bound("linear", parse(settings), TAU) is None


def test_the_cubic_is_certified_on_more_than_half():
    assert 0.6 < witness_floor(dense_regime(64, 5), TAU) < 0.75


def test_labels():
    assert label("linear", 0.8, 0.6, separated=True) == PROVED
    for name, bound, floor, found in (
        ("linear", 0.8, 0.6, BOUNDED),
        ("linear", 1.0, 0.6, MEASURED),
        ("polynomials of degree 5", None, 0.51, COUNTEREXAMPLE),
        ("polynomials of degree 5", None, 0.49, MEASURED),
        ("tangent kernel, infinite width", None, 0.51, COUNTEREXAMPLE),
        ("tangent kernel, 16d neurons", None, 0.51, MEASURED),
    ):
        assert label(name, bound, floor, separated=False) == found, name


def test_a_class_is_below_the_network_where_its_bound_is_below_the_limit():
    bounds = [{"radius": r, "class_bound": b} for r, b in ((0.1, 0.7), (0.2, 0.5), (0.3, None))]
    certified = [
        {"radius": r, "certified": f + 0.1, "certified_floor": f}
        for r, f in ((0.1, 0.7), (0.2, 0.501), (0.3, 0.4))
    ]
    assert separations(bounds, certified) == [(0.2, 0.5, 0.601, 0.501)]
    # Not the certified fraction itself, and no radius that only one of them has.
    assert separations(bounds, certified[:1]) == []
    assert separations(bounds, [{"radius": 0.1}]) is separations(bounds[2:], certified) is None


def test_rows_say_what_was_measured(compared, tiny_folder):
    linear, cubic, pure, clean, purified = compared
    assert [row["class"] for row in (pure, clean, purified)] == [
        PURE,
        CLEAN,
        PURIFIED,
    ]
    tau = load_run(tiny_folder).config.adversarial.radius
    assert [p["radius"] for p in linear["curve"]] == pytest.approx([tau / 2, tau])
    assert linear["robust_accuracy"] == linear["curve"][1]["robust_accuracy"]
    assert linear["ci"][0] < linear["robust_accuracy"] < linear["ci"][1]
    assert linear["curve"][0]["robust_accuracy"] > linear["curve"][1]["robust_accuracy"]
    floors = [p["certified_floor"] for p in purified["curve"]]
    assert linear["label"] == (PROVED if linear["class_bound"] < floors[1] else BOUNDED)
    assert linear["bound_kind"] == "proved" and linear["class_bound"] > linear["ci"][0]
    assert cubic["bound_kind"] == "none" and cubic["class_bound"] is None
    # One model under two names meets the same attacks on the same points.
    assert cubic["robust_accuracy"] == linear["robust_accuracy"]
    assert purified["robust_accuracy"] > clean["robust_accuracy"]


def test_the_purified_network_is_certified(compared, tiny_folder):
    *others, purified = compared
    assert all("certified" not in point for row in others for point in row["curve"])
    certified = [point["certified"] for point in purified["curve"]]
    assert 0.5 < certified[1] < certified[0] < 1
    for point in purified["curve"]:
        # Other points than those of the attack.
        assert point["certified"] < point["robust_accuracy"] + 0.12
        # Two radii share the level of 5 %.
        exact = stats.binomtest(round(100 * point["certified"]), 100, alternative="greater")
        assert point["certified_floor"] == pytest.approx(exact.proportion_ci(0.975, "exact").low)


def test_the_linear_row_is_exact(compared, tiny_folder):
    """Against the worst case of a linear classifier, on the rows' own number of points."""
    run = load_run(tiny_folder)
    n = 40_000
    problem = run.problem_of(0)
    batch = problem.sample(jax.random.key(0), n)
    y, direction = np.asarray(batch.y), np.asarray(problem.dense_direction())
    margin = y * (np.asarray(batch.x) @ direction) / np.linalg.norm(direction)
    exact = np.mean(margin[y != 0] > run.config.adversarial.radius)
    assert compared[0]["ci"][0] - 0.02 < exact < compared[0]["ci"][1] + 0.02


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 10}, "samples must be an integer ≥ 100 .*, got 10"),
        ({"steps": 0}, "steps must be an integer ≥ 1 .*, got 0"),
        ({"radii": [-1.0]}, "a radius, .* must be > 0 .*, got -1.0"),
        ({"certify_points": -1}, "certify_points must be an integer ≥ 0 .*, got -1"),
    ],
)
def test_settings_out_of_range(tiny_folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        compare_run(load_run(tiny_folder), **changes)


def test_runs_without_a_definition_are_refused(tiny_folder):
    run = load_run(tiny_folder)
    haar = SparseCoding(16, 3, 0.3, dictionary="haar")
    wide = SparseCoding(16, 3, 0.3, D=24, dictionary="incoherent")
    for problem, norm, message in (
        (haar, "l2", "stated for a dictionary that is rotated away"),
        (wide, "linf", "stated for a unitary dictionary"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare_run(run._replace(config=in_norm(run.config, norm), problems=stack([problem])))
    failed = run.result.copy(deep=True)
    failed["status"] = failed.status.astype("<U10")
    failed.status.values[:] = "diverged"
    with pytest.raises(ResultError, match="no seed of this run finished.*diverged"):
        compare_run(run._replace(result=failed))


def row(name, value, bound=None, label=MEASURED, training="t"):
    curve = [
        {"radius": r, "robust_accuracy": value, "ci": [value - 0.02, value + 0.02],
         "class_bound": bound}
        for r in (0.1, 0.2)
    ]  # fmt: skip
    return {"model": name, "class": name, "training": training, "robust_accuracy": value,
            "ci": [value - 0.02, value + 0.02], "class_bound": bound,
            "bound_kind": "none" if bound is None else "proved", "label": label, "seconds": 1.0,
            "curve": curve}  # fmt: skip


ROWS = [
    row("linear", 0.4, 0.7, BOUNDED, "worse"),
    row("linear", 0.5, 0.7, BOUNDED, "better"),
    row("polynomials of degree 3", 0.7, None, COUNTEREXAMPLE),
    row("tangent kernel, 4d neurons", 0.5),
    row(PURIFIED, 0.8),
]


def test_scorecard_has_one_row_per_class_in_the_words_of_the_labels(tiny_run):
    rows = comparison.scorecard(tiny_run.result, ROWS)
    assert [r["verdict"] for r in rows] == [BOUNDED, COUNTEREXAMPLE, MEASURED]
    assert [r["verdict_simultaneous"] for r in rows] == [r["verdict"] for r in rows]
    assert all(
        r["id"] == "C8" and set(r) == set(claims.scorecard(tiny_run.result)[0]) for r in rows
    )
    assert rows[0]["measured"] == 0.5 and "better" in rows[0]["statement"]
    assert rows[0]["predicted"] == "≤ 0.700" and rows[1]["predicted"] == "no bound"


def with_floors(tau, floors):
    """ROWS at τ/2 and τ, with the purified network certified as given."""
    rows = [dict(r) for r in ROWS]
    for r in rows:
        r["curve"] = [p | {"radius": s * tau} for p, s in zip(r["curve"], (0.5, 1), strict=True)]
    rows[-1]["curve"] = [
        point | ({} if floor is None else {"certified": floor + 0.01, "certified_floor": floor})
        for point, floor in zip(rows[-1]["curve"], floors, strict=True)
    ]
    return rows


@pytest.mark.parametrize(
    ("floors", "words", "verdict"),
    [
        # Not at τ: the row says where, and its verdict, which is of τ, does not.
        ((0.75, 0.65), "at 0.5τ no member exceeds 0.700, and the purified network is certified on "
         "0.760 of its points, which is at least 0.750", BOUNDED),
        ((0.65, 0.75), "at 1τ no member exceeds 0.700", PROVED),
        ((0.75, 0.75), "at 1τ no member exceeds 0.700", PROVED),
        # The fraction 0.705 is above the bound; its lower limit is not.
        ((0.65, 0.695), "no separation proved", BOUNDED),
        ((None, 0.65), "no separation proved", BOUNDED),
    ],
)  # fmt: skip
def test_a_separation_is_claimed_only_above_the_bound(tiny_run, floors, words, verdict):
    rows = with_floors(tiny_run.result.attrs["tau"], floors)
    linear, cubic, _ = comparison.scorecard(tiny_run.result, rows)
    assert words in linear["statement"] and linear["verdict"] == verdict
    assert "exact binomial limit" in linear["rule"]
    assert "separation" not in (cubic["statement"] + cubic["rule"]).lower()


def test_without_a_certificate_nothing_is_said_of_separation(tiny_run):
    rows = with_floors(tiny_run.result.attrs["tau"], (None, None))
    linear = comparison.scorecard(tiny_run.result, rows)[0]
    assert "separation" not in (linear["statement"] + linear["rule"]).lower()


def test_figure_hatches_what_is_proved_and_nothing_else():
    figure = comparison_figure.draw(ROWS, 0.15)
    linear, polynomial, *_ = figure.axes
    assert [c.get_hatch() for c in linear.collections if c.get_hatch()] == ["////"]
    assert not [c for c in polynomial.collections if c.get_hatch()]
    region = next(c for c in linear.collections if c.get_hatch()).get_paths()[0].vertices[:, 1]
    assert region.min() == pytest.approx(0.7) and region.max() == pytest.approx(1.0)


def test_report_shows_c8_and_its_figure(tiny_run):
    rows = comparison.scorecard(tiny_run.result, ROWS)
    page = report.build([report.Shown(tiny_run.result, compared=ROWS)], rows)
    for words in (BOUNDED, COUNTEREXAMPLE, MEASURED, "figcaption><strong>Comparison.</strong>"):
        assert words in page
    assert "<strong>Comparison.</strong>" not in report.build([report.Shown(tiny_run.result)], rows)


def test_command_writes_prints_and_feeds_the_report(two_competitors, tiny_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    runner = CliRunner()
    command = ["compare", str(folder), "--samples", "200", "--certify-points", "0"]
    shown = runner.invoke(app, [*command, "--radius", "1"])
    assert shown.exit_code == 0 and "convex" in shown.stdout
    rows = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    needed = {"model", "class", "training", "robust_accuracy", "ci", "class_bound", "bound_kind",
              "label", "seconds"}  # fmt: skip
    assert all(needed <= set(r) for r in rows)
    assert (folder / "figures" / "comparison.pdf").stat().st_size > 1000
    assert runner.invoke(app, ["report", str(folder), "-q"]).exit_code == 0
    card = json.loads((folder / "scorecard.json").read_text(encoding="utf-8"))
    assert [r["verdict"] for r in card if r["id"] == "C8"] == [r["label"] for r in rows[:2]]


def test_a_damaged_table_is_named(tmp_path):
    assert comparison.load_comparison(tmp_path) == []
    for text in ("{", "[1]", '[{"class": "linear"}]', "3"):
        (tmp_path / "compare.json").write_text(text, encoding="utf-8")
        with pytest.raises(
            ResultError,
            match="compare.json cannot be read: .* Make it again with 'featpur compare'",
        ):
            comparison.load_comparison(tmp_path)
