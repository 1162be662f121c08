"""Certificates that were made after the run decide claim C5, if they cover it."""

import json
import shutil

import numpy as np
import pytest

from featpur_sim._ground.disk import ResultError
from featpur_sim.claims.of_run import scorecard
from featpur_sim.report.of_folder import write_report
from featpur_sim.runs.certificate import load_certificate, save_certificate


def certificate(result, certified=0.5, attacked=0.51, **changes):
    """Rows as of ``featpur certify``: both phases at half of τ and at τ."""
    seeds = [
        {"seed": int(seed), "n": 500, "certified": certified, "attacked": attacked}
        for seed in result.seed.values
    ]
    common = {"norm": result.attrs["norm"], "stages": ["linear", "q1"], "protocol": "standard/1",
              "function": "real arithmetic", "seeds": seeds, "n": 500 * len(seeds),
              "certified": certified, "attacked": attacked, "undecided": 0,
              "certified_ci": [0.4, 0.6], "attacked_ci": None}  # fmt: skip
    return [
        common | {"phase": phase, "relative_radius": radius} | changes
        for phase in ("clean", "adversarial")
        for radius in (0.5, 1.0)
    ]


def c5(rows):
    return [row for row in rows if row["id"] == "C5"]


def test_a_certificate_that_covers_c5_decides_it(tiny_run):
    result = tiny_run.result
    rows = c5(scorecard(result, certificate(result)))
    ceiling = result.reference_accuracy.sel(reference="pure network", reference_attack="PGD")
    at_tau = ceiling.isel(radius=int(np.argmin(np.abs(result.relative_radius.values - 1))))
    by = {row["statement"][:20]: row for row in rows}
    assert by["FGM training makes t"]["measured"] == pytest.approx(0.5 - float(at_tau.mean()))
    assert by["the rise is real, wh"]["measured"] == pytest.approx(0.5 - 0.51)
    assert by["certificate and atta"]["measured"] == pytest.approx(0.01)
    for row in rows[:3]:
        assert "certificate.json: 500 labelled points per seed" in row["rule"]
    # The other rows stay as they are by themselves: of how many they are one may differ.
    by_itself = ("statement", "measured", "ci", "verdict", "rule")
    certified, plain = (
        [[row[key] for key in by_itself] for row in card if row["id"] != "C5"]
        for card in (scorecard(result, certificate(result)), scorecard(result))
    )
    assert certified == plain


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "linf"},
        {"function": "float32"},
        {"phase": "clean"},
        {"relative_radius": 0.9},
        {"seeds": [{"seed": 1, "n": 500, "certified": 0.5, "attacked": 0.5}]},
        "few points",
    ],
)
def test_one_that_does_not_cover_it_changes_nothing(tiny_run, change):
    rows = certificate(tiny_run.result, **({} if change == "few points" else change))
    if change == "few points":
        rows = json.loads(json.dumps(rows).replace('"n": 500', '"n": 0'))
    assert c5(scorecard(tiny_run.result, rows)) == c5(scorecard(tiny_run.result))


def test_the_report_reads_everything_in_the_folder(tiny_run, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("featpur_sim.report.run_figures.save_all", lambda *arguments: [])
    monkeypatch.setattr("featpur_sim.report.run_figures.ALL", {})
    folder = shutil.copytree(tiny_folder, tmp_path / "run")
    before = write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Certificates on fresh points" not in page
    save_certificate(folder, certificate(tiny_run.result))
    attacked = [
        {"seed": s, "phase": "clean", "relative_radius": 1.0, "n": 50, "attacked": a,
         "protocol": "quick/1"}
        for s, a in ((1, 0.25), (2, 0.75))
    ]  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(attacked), encoding="utf-8")
    rows = write_report(folder)
    assert c5(rows) != c5(before)
    assert json.loads((folder / "scorecard.json").read_text(encoding="utf-8")) == rows
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Certificates on fresh points" in page and "quick/1" in page
    assert '<td data-label="Accuracy" class="number">0.500 <span class="muted">[0.' in page
    assert '0.500 <span class="muted">[0.400, 0.600]</span></td>' in page


def test_a_damaged_certificate_is_named(tmp_path):
    assert load_certificate(tmp_path) == []
    (tmp_path / "certificate.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(ResultError, match=r"certificate.json cannot be read: a row lacks"):
        load_certificate(tmp_path)


def test_a_file_is_no_folder_of_a_run(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResultError, match="holds no finished run"):
        write_report(tmp_path / "file")
