"""C12 and C13: verdicts on planted rows, the run's own readouts, the command, figure and report."""

import json

import numpy as np
import pytest

from featpur_sim.claims import of_readouts, of_run
from featpur_sim.claims.meanings import MEANINGS
from featpur_sim.report import readout_figure, run_figures
from featpur_sim.report import run_page as report
from featpur_sim.runs.config import ConfigError, parse
from featpur_sim.runs.folder import ResultError
from featpur_sim.runs.readouts import PAIRS, Pair, both_tasks, readout_keys, readout_run
from featpur_sim.runs.saved import evaluate_run, load_run

# Two seeds that differ by little: intervals of about ± .015, the counting error of 10,000 points.
SPREAD = np.array([-0.0005, 0.0005])


def planted(**changed):
    """Rows in which a pair, "clean_adversarial" or "purified_clean_new" say, has that accuracy."""
    values = {"clean_own": 0.4, "purified_own": 0.8} | changed
    rows = []
    for pair in PAIRS:
        name = "_".join(part for part in pair if part != "own" or part == pair.readout)
        pgd = values.get(name, 0.8 if pair.features == "purified" else 0.4) + SPREAD
        measured = {"accuracy": [0.97, 0.98], "pgd": pgd.tolist()}
        # As a run that certifies nothing leaves it.
        measured |= {name: [None, None] for name in ("certified", "attacked")}
        counted = {"points": 10_000.0, "certified_points": 0.0, "seeds": [1, 2], "steps": 5}
        rows.append(pair._asdict() | measured | counted)
    return rows


def verdicts(result, **changed):
    card = of_readouts.scorecard(result, planted(**changed))
    assert [row["id"] for row in card] == ["C12", "C12", "C12", "C13", "C13"]
    return [(round(row["measured"], 4), row["verdict"].split()[0]) for row in card]


def test_verdicts_on_planted_rows(tiny_run):
    result = tiny_run.result
    assert verdicts(result) == [
        (0.0, "supported"), (0.0, "supported"), (0.4, "supported"), (0.0, "supported"),
        (0.4, "supported"),
    ]  # fmt: skip
    changed = {"purified_clean": 0.6, "purified_clean_new": 0.77, "clean_clean_new": 0.76,
               "clean_adversarial": 0.7, "random_adversarial": 0.79}  # fmt: skip
    assert verdicts(result, **changed) == [
        (-0.2, "contradicted"), (-0.03, "inconclusive"), (0.01, "contradicted"),
        (0.75, "contradicted"), (0.01, "contradicted"),
    ]  # fmt: skip
    # Half of the gap, with an interval about it.
    assert verdicts(result, clean_adversarial=0.6)[3] == (0.5, "inconclusive")


def test_rows_are_held_together_with_those_of_the_run(tiny_run):
    alone = of_run.scorecard(tiny_run.result)[0]["held_together"]
    cases = of_readouts.readout_cases(tiny_run.result, planted())
    assert len(cases) == sum(case.judged for case in cases) == 5
    assert of_readouts.readout_cases(tiny_run.result, []) == [] and alone > 5
    assert {case.claim.id for case in cases} <= set(MEANINGS)


@pytest.fixture(scope="module")
def run(tiny_folder):
    """The tiny run, of which 200 points a seed are certified."""
    saved = load_run(tiny_folder)
    settings = saved.config.model_dump()
    settings["evaluation"]["certify_points"] = 200
    return saved._replace(config=parse(settings))


@pytest.fixture(scope="module")
def rows(run):
    return readout_run(run, samples=400, steps=150)


def of(rows, *pair):
    return next(row for row in rows if of_readouts.pair_of(row) == Pair(*pair))


def test_own_readouts_are_the_runs_networks(run, rows, few_attacks):
    assert [of_readouts.pair_of(row) for row in rows] == list(PAIRS)
    again = evaluate_run(run, samples=400, seed=1).robust_accuracy
    for features, phase in (("clean", "clean"), ("purified", "adversarial")):
        row = of(rows, features, "own")
        expected = again.sel(phase=phase, attack="PGD")
        assert row["accuracy"] == pytest.approx(expected.isel(radius=0).values, abs=1e-9)
        assert row["pgd"] == pytest.approx(expected.isel(radius=-1).values, abs=1e-9)


def test_rows_say_what_was_measured(run, rows):
    for row in rows:
        assert row["seeds"] == [1, 2] and row["steps"] == 150
        assert 300 < row["points"] < 400 and 150 < row["certified_points"] < 200
        for clean, pgd, low, high in zip(
            row["accuracy"], row["pgd"], row["certified"], row["attacked"], strict=True
        ):
            assert pgd < clean and low <= high < 1
    # A fresh readout learns its own labels, and the others with other signs.
    for row in rows:
        assert min(row["accuracy"]) > (0.8 if row["features"] != "random" else 0.7), row


def test_every_pair_is_trained_on_what_it_says(run, monkeypatch):
    seen = []

    def record(problem, features, attack, *, key, steps):
        seen.append((problem.wstar, features.weights, attack))
        return features

    nothing = np.ones(2), np.ones((2, 5), bool)
    measured = dict.fromkeys(("accuracy", "pgd", "certified", "attacked"), nothing[0])
    monkeypatch.setattr("featpur_sim.runs.readouts.train_readout", record)
    monkeypatch.setattr("featpur_sim.runs.readouts._judge", lambda *_: (measured, {}))
    readout_run(run)
    new = both_tasks(run, readout_keys(run.config, 1)[2])["new"].wstar
    weights = {"clean": "clean", "purified": "adversarial", "random": "init"}
    trained = [(pair, s) for pair in PAIRS if pair.readout != "own" for s in range(2)]
    for (pair, s), (wstar, hidden, attack) in zip(trained, seen, strict=True):
        assert np.array_equal(wstar, new[s] if pair.task == "new" else run.problems.wstar[s])
        assert np.array_equal(hidden, run.networks[weights[pair.features]].weights[s])
        radius = 0.17 if pair.readout == "adversarial" else None
        assert (attack and float(attack.ball.radius)) == pytest.approx(radius)


def test_the_new_task_has_the_same_inputs_and_other_labels(run):
    tasks = both_tasks(run, readout_keys(run.config, 1)[2])
    own, new = tasks["own"].wstar, tasks["new"].wstar
    changed = np.asarray(own != new)
    assert np.array_equal(np.abs(own), np.abs(new)) and 4 < changed.sum() < changed.size - 4
    assert not np.array_equal(changed[0], changed[1])


def test_what_cannot_be_read_out_is_refused(run):
    for changes, message in (
        ({"samples": 0}, "samples must be an integer ≥ 1 .*, got 0"),
        ({"steps": 0}, "steps must be an integer ≥ 1 .*, got 0"),
        ({"seed": -1}, "seed must be an integer ≥ 0 .*, got -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            readout_run(run, **changes)
    settings = run.config.model_dump()
    settings["network"] |= {"smoothing": "closed", "sigma_rho": 0.1}
    with pytest.raises(ConfigError, match="smoothing = 'closed': .* Take a run"):
        readout_run(run._replace(config=parse(settings)))
    failed = run.result.copy(deep=True)
    failed["status"] = failed.status.astype("<U10")
    failed.status.values[:] = "diverged"
    with pytest.raises(ResultError, match="no seed of this run finished"):
        readout_run(run._replace(result=failed))


def test_figure_shows_every_row(rows):
    axes = readout_figure.draw(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(pair) for pair in PAIRS]
    shown = {round(float(line.get_xdata()[0]), 6) for line in axes.lines if len(line.get_xdata())}
    assert {round(float(np.mean(row["pgd"])), 6) for row in rows} <= shown
    # Nothing certified, one seed: nothing to draw there, and no interval.
    one = [row | {name: row[name][:1] for name in ("pgd", "accuracy", "certified", "attacked")}
           for row in planted()]  # fmt: skip
    assert not readout_figure.draw(one).axes[0].collections


def test_command_writes_prints_and_feeds_the_report(
    featpur, rows, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("featpur_sim.runs.readouts.readout_run", lambda *a, **k: rows)
    monkeypatch.setattr(run_figures, "ALL", {})  # they take seconds to draw
    folder = tmp_path / "run"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    code, out, _ = featpur("readouts", folder)
    assert code == 0 and "purified features, clean readout, new labels" in out
    kept = json.loads((folder / "readouts.json").read_text(encoding="utf-8"))
    assert kept == rows
    assert (folder / "figures" / "readouts.pdf").stat().st_size > 1000
    assert featpur("report", folder, "-q")[0] == 0
    card = json.loads((folder / "scorecard.json").read_text(encoding="utf-8"))
    own = of_readouts.scorecard(load_run(folder).result, rows)
    found = [row["measured"] for row in card if row["id"] in ("C12", "C13")]
    assert found == pytest.approx([row["measured"] for row in own])
    assert "<strong>Readouts.</strong>" in (folder / "report.html").read_text(encoding="utf-8")
    assert "<strong>Readouts.</strong>" not in report.build(
        [report.Shown(load_run(folder).result)], own
    )


def test_a_damaged_table_is_named(tmp_path):
    assert of_readouts.load_readouts(tmp_path) == []
    for text, message in (("{", "cannot be read"), (json.dumps(planted()[1:]), "lacks some pairs")):
        (tmp_path / "readouts.json").write_text(text, encoding="utf-8")
        with pytest.raises(ResultError, match=f"readouts.json {message}.*'featpur readouts'"):
            of_readouts.load_readouts(tmp_path)
