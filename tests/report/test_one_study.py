"""A study from end to end: judged, drawn, fitted, read back; from Python and by the commands."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import featpur_sim as fp
from featpur_sim._ground.checks import ConfigError
from featpur_sim.claims import AtLeast, Claim, over_seeds
from featpur_sim.report import study_figures

D = 8


def network(at, key):
    return fp.TwoLayer.random(D, at.m, sigma_0=0.1, key=key)


def size(end):
    return {"size": jnp.linalg.norm(end.networks["clean"].weights)}


STUDY = fp.Study(
    "narrow and wide",
    points={"m": [4, 8, 16], "kind": ["plain"]},
    problem=lambda at, key: fp.SparseCoding(d=D, k=2, sigma_x=0.1),
    network=network,
    phases=lambda at: [fp.CleanPhase(4, learning_rate=0.5)],
    seeds=2, records=2, radii=(0.0, 0.3), samples=64, critical=["PGD"], measure=size,
)  # fmt: skip
CLAIMS = [
    Claim("S1", AtLeast(0.0, "the norm"), lambda data: over_seeds(data["size"].mean("point")),
          "> 0", "[D] of mine", "weights are there"),
]  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return fp.run(STUDY, out, claims=CLAIMS, quiet=True)


def test_a_study_is_judged_drawn_and_written(done):
    row = done.scorecard().iloc[0]
    assert (row.id, row.verdict, row.seeds) == ("S1", "supported", "2 of 2")
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    for words in ("Study narrow and wide", "weights are there", "def network(at, key):"):
        assert words in page, words
    assert "w* and M" not in page and "sweep.toml" not in page
    explored = (done.folder / "explorer.html").read_text(encoding="utf-8")
    assert "<h1>Study narrow and wide</h1>" in explored and "w* and M" not in explored
    data = json.loads(re.findall(r'id="data">(.*?)</script>', explored, re.DOTALL)[0])
    assert [one["name"] for one in data["coordinates"]] == ["m"] and not data["lines"]
    assert "along_loss" in [one["name"] for one in data["along"]["curves"]]
    assert not any("predicted" in one for one in data["variables"])
    figures = {path.stem for path in (done.folder / "figures").glob("*.png")}
    assert {"study-accuracy", "study-measured", "study-training", "fit-size"} <= figures
    assert not any(name.startswith("phase-") for name in figures)


def test_it_reads_back_and_shows_itself(done):
    back = fp.load(done.folder)
    assert back.data.identical(done.data) and back.scorecard().equals(done.scorecard())
    assert "narrow and wide, m=4–16, kind=plain, 3 points, 2 seeds" in repr(back)
    assert "1 supported" in repr(back) and "weights are there" in back._repr_html_()
    table = back.table("size")
    assert table.m.tolist() == [4, 8, 16] and (table.finished == 2).all()


def test_the_exponent_is_that_of_the_seeds_own_fits(done):
    """No settings stand behind an axis of a study: it may enter anything, and the theorem is not
    this one's."""
    law = fp.claims.fit_power_law(done.data, fp.claims.Quantity.parse("size"))
    logs = np.log(done.data["size"].transpose("point", "seed").values)
    slopes = np.polyfit(np.log([4, 8, 16]), logs, 1)[0]
    assert law.exponents[0].value == pytest.approx(slopes.mean(), rel=1e-6)
    assert law.exponents[0].coordinate == "m"
    radius = fp.claims.Quantity.parse("critical_radius[phase=clean, critical_attack=PGD]")
    assert fp.claims.fit_power_law(done.data, radius, ["m"]).prediction is None


def test_the_commands_know_a_study(done, featpur):
    before, page = done.scorecard(), done.folder / "report.html"
    page.unlink()
    assert featpur("report", done.folder)[0] == 0
    assert "weights are there" in page.read_text(encoding="utf-8")
    assert fp.load(done.folder).scorecard().equals(before)
    code, stdout, _ = featpur("fit", done.folder, "--json")
    assert code == 0 and '"size"' in stdout


def test_in_memory_without_a_folder(done):
    again = fp.run(STUDY, quiet=True)
    assert again.folder is None and again.scorecard().empty and "in memory" in repr(again)
    assert again.data.identical(done.data)


def test_claims_change_nothing_but_verdicts(done, monkeypatch):
    monkeypatch.setattr("featpur_sim.sweeps.study_run.compute_point", None)
    other = [Claim("S2", CLAIMS[0].rule, CLAIMS[0].measure, "> 0", "[D]", "the same, otherwise")]
    found = fp.run(STUDY, done.folder, claims=other, quiet=True)
    assert found.scorecard().id.tolist() == ["S2"]
    fp.run(STUDY, done.folder, quiet=True)
    assert fp.load(done.folder).scorecard().empty
    fp.run(STUDY, done.folder, claims=CLAIMS, quiet=True)


def test_what_a_study_has_itself_is_not_given_beside_it(tmp_path):
    with pytest.raises(ConfigError, match="network is given beside a Study"):
        fp.run(STUDY, tmp_path, network=network)


def test_figures_leave_out_what_a_page_cannot_hold():
    kept, said = study_figures._some(30, "points")
    assert kept[0] == 0 and kept[-1] == 29 and len(kept) == 8 and said == " 8 of 30 points."
