"""Tables and progress on terminals of every width: no word and no number is cut or lost."""

import io
import re
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from featpur_sim._ground.meter import EVERY, Lines
from featpur_sim.claims.verdict import Tone, Verdict
from featpur_sim.cli import tables
from featpur_sim.cli._grid import screen
from featpur_sim.cli.progress import Bars, _print, meter

LONG = "robust_accuracy[phase=adversarial, attack=PGD, relative_radius=1]"


def accuracies():
    names = {
        "seed": [1, 2],
        "phase": ["init", "clean", "adversarial"],
        "attack": ["random noise", "dense mixture", "PGD on support"],
        "radius": [0, 1, 2],
    }
    values = np.random.default_rng(0).random([len(v) for v in names.values()])
    scores = xr.Dataset({"robust_accuracy": (list(names), values)}, coords=names)
    return tables.accuracies(
        scores.assign_coords(relative_radius=("radius", [0.0, 0.25, 1.5])), "3 of 3 seeds"
    )


def reduced():
    names = ("alpha", "dense_ratio", "residual", "active_fraction", "bias")
    shape = {"phase": ["clean", "adversarial"], "point": [0, 1], "replicate": [1, 2]}
    data: dict[str, Any] = {
        name: (list(shape), np.full((2, 2, 2), 1.2345e-6 * (i + 1)), {"long_name": f"{name}, mean"})
        for i, name in enumerate(names)
    }
    data["time"] = (list(shape), np.ones((2, 2, 2)), {"long_name": "time"})
    data["accuracy"] = ((*shape, "attack"), np.full((2, 2, 2, 2), 0.98765), {})
    coords = shape | {"attack": ["none", "dense mixture"]}
    return tables.reduced(xr.Dataset(data, coords=coords))


STAGES = {"misclassified": 10_007, "attacked": 23_456, "linear": 100_003, "q1": 54_321, "q2": 3210,
          "branch": 65_432, "open": 98_765}  # fmt: skip
ROWS = {
    "closure": lambda: tables.closure([
        {"phase": "adversarial", "step": 123_456, "alpha": [0.1234, 0.2], "ratio": [1e-5, 2.3e-5],
         "carriers": [0.5, 0.6], "active": [0.1, 0.2], "accuracy": [0.98, 0.97],
         "dense_accuracy": [0.51, 0.49], "unfollowed": [0.123, 0.2]}
    ]),
    "scorecard": lambda: tables.scorecard("dense-regime", [
        {"id": f"C{i}", "regime": "dense-regime", "statement": "accuracy lost beyond what it costs",
         "predicted": "0.188 = κ/α ≈ k/d", "source": "[D] §5.1", "measured": -0.0807 * i,
         "threshold": "within × 3", "ci_simultaneous": ci and [-3.2512, 3.0934], "ci": ci,
         "verdict": "inconclusive at this size", "verdict_simultaneous": "contradicted"}
        for i, ci in ((3, [-1.2512, 1.0934]), (11, None))
    ]),
    "families": lambda: tables.families("dense-regime", [
        {"id": name, "regime": "dense-regime", "statement": "an own claim", "measured": -0.0807,
         "threshold": "within × 3.125", "ci": ci, "verdict": verdict, "source": "[D]",
         "verdict_simultaneous": "contradicted"}
        for name, ci, verdict in (
            ("C3", [-1.2512, 1.0934], "outside the prediction's range"), ("M1", None, "no verdict"),
            ("C3", [0.5123, 0.7123], "supported"), ("C11", None, "inconclusive at this size"))
    ]),
    "accuracies": accuracies,
    "contributions": lambda: tables.contributions(
        [{"attack": "APGD on the margin, 5 starts", "points": 1_200_000, "broken": 512_345,
          "new": 3_456, "seconds": 1234.5}]
    ),
    "certificate": lambda: tables.certificate([
        {"norm": "linf", "n": 500_000, "seeds": [1, 2, 3], "protocol": "standard",
         "function": "float64", "phase": "adversarial", "relative_radius": 0.25,
         "certified": 0.12345, "attacked": 0.98765, "by_stage": STAGES}
    ]),
    "comparison": lambda: tables.comparison([
        {"class": "polynomials of degree 3", "training": "PGD, then exact line search", "ci":
         [0.51234, 0.69876], "robust_accuracy": 0.60555, "class_bound": 0.63412, "seconds": 1234.0,
         "label": "measured best member"}
    ]),
    "readouts": lambda: tables.readouts([
        {"features": "purified", "readout": "adversarial", "task": "new", "points": 912.4,
         "certified_points": 912.4, "seeds": [1, 2, 3]}
        | {key: [0.1234, 0.2345, 0.3456] for key in ("accuracy", "pgd", "certified", "attacked")}
    ]),
    "reduced_exponents": lambda: tables.reduced_exponents([
        {"a": 0.35, "quantity": "dense norm over α after clean training", "exponent": -0.5012,
         "ci": [-0.5972, -0.4123], "predicted": -0.475, "source": "[D] §5.1, (1 − a)/2",
         "d_min": 1e4, "d_max": 1e9}
    ]),
    "reduced": reduced,
    "sweep_points": lambda: tables.sweep_points([
        {"problem.d": 16384, "problem.k": 128.125, "adversarial.radius": 0.0123456 * i,
         "clean.bias.stop": 0.0391234, "adversarial.learning_rate": 0.125} for i in range(20)
    ]),
    "sweep_groups": lambda: tables.sweep_groups([
        {"d": 16384, "m": 65536, "steps": 123456, "points": 4321, "runs": 21605, "batches": 1234,
         "width": 256, "program": 12, "gib": 12.345, "seconds": 123456.0}
    ]),
    "exponents": lambda: tables.exponents([
        {"label": LONG, "r_squared": 0.98765, "scatter": 0.1234, "points": 12345,
         "excluded": {1: "x"}, "repeats": 24690, "exponents": [
             {"coordinate": "adversarial.radius", "value": -0.5, "low": -0.5972, "high": -0.4123,
              "predicted": -0.475},
             {"coordinate": "d", "value": 1.5, "low": 1.25, "high": 1.75, "predicted": None}]}
    ]),
}  # fmt: skip


def words(text):
    """What is read, and how often: everything between spaces and the lines of a table."""
    return Counter(re.sub(r"[─━│╭╮╰╯├┤┼┬┴╸╺]|:(?=\s)", " ", text).split())


def printed(what, width):
    console = Console(width=width, file=(file := io.StringIO()), emoji=False)
    console.print(what)
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("name", ROWS)
def test_no_word_of_a_table_is_cut_or_lost(name, width):
    whole = words(printed(ROWS[name](), 200))
    assert any(re.search(r"\d{3}", word) for word in whole)
    assert whole - words(printed(ROWS[name](), width)) == {}


def test_every_table_is_tested():
    made = [f for f in vars(tables).values() if getattr(f, "__module__", "") == tables.__name__]
    made = {
        f.__name__ for f in made if callable(f) and f.__annotations__.get("return") == tables.Grid
    }
    assert made == set(ROWS)


def test_blocks_where_even_the_numbers_do_not_fit_side_by_side():
    text = printed(ROWS["certificate"](), 40)
    assert "linear: 100003\n" in text and "phase: adversarial\n" in text
    assert "─" not in text


PLAIN = {
    "id": "C3", "regime": "run", "statement": "it is", "predicted": "1", "source": "[D]",
    "threshold": "≥ 0.3", "measured": 0.5, "ci": None, "verdict": "inconclusive at this size",
    "ci_simultaneous": None, "verdict_simultaneous": "inconclusive at this size",
}  # fmt: skip


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_colour(verdict):
    row = PLAIN | {"verdict": verdict.value, "verdict_simultaneous": verdict.value}
    file = io.StringIO()
    console = Console(width=200, file=file, force_terminal=True, color_system="standard")
    console.print(tables.scorecard("run", [row]))
    assert re.search(rf"\x1b\[(1;)?3[1236]m{verdict}", file.getvalue())


def test_a_value_that_a_file_could_not_keep_is_a_dash():
    assert "–" in printed(tables.scorecard("run", [PLAIN | {"measured": None}]), 100)


def test_a_verdict_that_does_not_hold_together_with_the_others_stands_beside_the_plain_one():
    row = PLAIN | {"verdict": "supported", "ci": [0.4, 0.6], "ci_simultaneous": [0.1, 0.9]}
    text = printed(tables.scorecard("run", [row]), 150)
    for shown in ("supported", "(inconclusive at this size)", "[0.4, 0.6]", "[0.1, 0.9]", "≥ 0.3"):
        assert shown in text
    same = printed(tables.scorecard("run", [row | {"verdict_simultaneous": "supported"}]), 150)
    assert "inconclusive" not in same and same.count("supported") == 1


def test_every_tone_has_a_colour():
    assert set(tables.TONES) == set(Tone)


def shown(width):
    console = Console(width=width, file=(file := io.StringIO()), force_interactive=True)
    with meter("dense-regime", console=console) as bars:
        assert isinstance(bars, Bars)
        words = "loss 0.123  accuracy 0.950  κ/α +0.5500  1 seed(s) dead or diverged"
        bars.at("adversarial training", 120_000, 200_000, words)
        bars.at("attacks", 6, 6)
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_word_of_the_progress_is_cut_or_lost(width):
    whole = words(shown(200))
    assert whole["120000/200000"] == 1 and whole["diverged"] == 1 and "━" in shown(200)
    assert whole - words(shown(width)) == {}


def logged(*calls):
    """What ends up in a log: calls are (seconds since the one before, name, arguments)."""
    now, file = [100.0], io.StringIO()
    console = Console(width=60, file=file)
    with Lines("run", partial(_print, console), clock=lambda: now[0]) as lines:
        for seconds, name, *arguments in calls:
            now[0] += seconds
            getattr(lines, name)(*arguments)
    return file.getvalue()


def test_a_log_has_a_line_where_a_stage_begins_and_where_it_ends():
    assert logged(
        (0, "at", "clean training", 0, 40, "loss 0.7 [bold]"),
        (10, "at", "clean training", 10, 40, "loss 0.6"),
        (65, "at", "clean training", 40, 40, "loss 0.5"),
        (9, "at", "clean training", 40, 40, "once more"),
        (0, "note", "seven [parts] are done, which is a sentence longer than the width of this."),
        (0, "at", "figures", 0, 1),
        (3675, "at", "figures", 1, 1),
    ) == (
        "run: clean training 0 of 40; loss 0.7 [bold]\n"
        "run: clean training 40 of 40, 1:15 elapsed; loss 0.5\n"
        "seven [parts] are done, which is a sentence longer than the width of this.\n"
        "run: figures 0 of 1\n"
        "run: figures 1 of 1, 1:01:15 elapsed\n"
    )


def test_a_long_stage_has_lines_in_between_with_the_time_left():
    assert logged(
        (0, "at", "attacks", 4, 10),  # resumed: 4 cost nothing
        (EVERY, "at", "attacks", 4, 10, "FGM"),
        (EVERY - 1, "at", "attacks", 5, 10),
        (1, "at", "attacks", 6, 10),
        (60, "at", "attacks", 9, 10),
    ) == (
        "run: attacks 4 of 10\n"
        "run: attacks 4 of 10, 0:30 elapsed; FGM\n"
        "run: attacks 6 of 10, 1:00 elapsed, 2:00 left\n"
        "run: attacks 9 of 10, 2:00 elapsed, 0:24 left\n"
    )


def test_where_there_is_no_terminal_there_are_lines(monkeypatch, capsys):
    # CI systems set this for colours.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with meter("run") as shown:
        shown.at("attacks", 0, 2, "12 of 0.5")
        shown.note("a note")
    assert capsys.readouterr() == ("", "run: attacks 0 of 2; 12 of 0.5\na note\n")
    with meter("run", quiet=True) as shown:
        shown.at("attacks", 0, 2)
        shown.note("a note")
    assert capsys.readouterr() == ("", "")


def test_a_pipe_is_not_wrapped(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    for _ in range(2):
        screen().print(ROWS["certificate"]())
        text = capsys.readouterr().out
        (line,) = [line for line in text.splitlines() if "98765" in line]
        assert all(str(count) in line for count in STAGES.values())
        assert len(text.splitlines()[0]) < 300
    monkeypatch.setenv("COLUMNS", "40")
    screen().print(ROWS["certificate"]())
    assert "linear: 100003\n" in capsys.readouterr().out
