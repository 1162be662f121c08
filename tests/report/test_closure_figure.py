"""The closure's points stand at their steps, over the seeds that finished; report and folder."""

import shutil

import numpy as np
import pytest

from featpur_sim.claims.of_closure import save_closure
from featpur_sim.report import closure_figure
from featpur_sim.report.of_folder import write_report
from featpur_sim.runs.closure import FIELDS, settings_digest
from featpur_sim.runs.config import parse_text


@pytest.fixture
def planted(tiny_run):
    """Every number of seed s at look i is s + i/10."""
    result = tiny_run.result
    last = result.record_step.groupby(result.record_phase).max()
    digest = settings_digest(parse_text(result.attrs["config"]))
    looks = [
        (phase, step)
        for phase in ("clean", "adversarial")
        for step in (0, int(last.sel(record_phase=phase)))
    ]
    return [
        {"phase": phase, "step": step, "settings": digest}
        | {name: [s + i / 10 for s in result.seed.values.tolist()] for name in FIELDS}
        for i, (phase, step) in enumerate(looks)
    ]


def points(figure, panel):
    """Where the markers of the closure stand: x, and the mean over seeds."""
    marked = [line for line in figure.axes[panel].lines if line.get_marker() == "o"]
    return next(line.get_data() for line in marked if len(line.get_xdata()) > 0)


def test_the_adversarial_phase_follows_the_clean_one(tiny_run, planted):
    clean, adversarial = (planted[i]["step"] for i in (1, 3))
    x, y = points(closure_figure.draw(tiny_run.result, planted), 0)
    assert x.tolist() == [0, clean, clean, clean + adversarial]
    mean = np.mean(tiny_run.result.seed.values)
    np.testing.assert_allclose(y, mean + np.arange(4) / 10)


def test_a_seed_that_failed_is_left_out_of_both(tiny_run, planted):
    assert tiny_run.result.sizes["seed"] > 1
    status = ["dead", *tiny_run.result.status.values[1:]]
    result = tiny_run.result.assign(status=("seed", status))
    _, y = points(closure_figure.draw(result, planted), 0)
    np.testing.assert_allclose(y, np.mean(result.seed.values[1:]) + np.arange(4) / 10)


def test_it_is_in_the_report_and_in_the_folder(tiny_folder, tmp_path, planted):
    mine = shutil.copytree(tiny_folder, tmp_path / "mine")
    save_closure(mine, planted)
    rows = write_report(mine)
    assert {row["id"] for row in rows} >= {"C14"}
    assert closure_figure.CAPTION in (mine / "report.html").read_text(encoding="utf-8")
    assert (mine / "figures" / "closure.png").stat().st_size > 10_000
