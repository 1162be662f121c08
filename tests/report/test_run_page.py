"""The report: complete, self-contained, safe HTML, written whole or not at all."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape
from test_run_figures import with_failed_seed
from tiny_runs import tiny_result

from featpur_sim.claims.family import RULE
from featpur_sim.claims.meanings import MEANINGS
from featpur_sim.claims.verdict import Tone, Verdict
from featpur_sim.report import run_figures as figures
from featpur_sim.report import run_page as report

ROWS = [
    {
        "id": "C2",
        "regime": "dense-regime",
        "statement": "the dense attack defeats it",
        "source": "[P] §5",
        "predicted": "→ 1",
        "measured": 0.5,
        "ci": [0.41, 0.59],
        "verdict": Verdict.SUPPORTED.value,
        "rule": "supported if the interval lies above 0.2.",
    },
    {
        "id": "C4",
        "regime": "sparse-regime",
        "statement": "harmless on <clean> data",
        "source": "[P] §5.1",
        "predicted": 0.25,
        "measured": -0.0443,
        "ci": None,
        "verdict": Verdict.INCONCLUSIVE.value,
        "rule": "one seed has no interval.",
    },
    {
        "id": "C5",
        "regime": "dense-regime",
        "statement": "robust against any perturbation",
        "source": "[P] §5",
        "predicted": 1,
        "measured": None,
        "ci": None,
        "verdict": Verdict.ATTACKED_ONLY.value,
        "rule": "an attack cannot show this.",
    },
    {
        "id": "C11",
        "regime": "dense-regime",
        "statement": "random noise is harmless",
        "source": "[D] §5",
        "predicted": "≈ 0",
        "measured": 0.3,
        "ci": [0.2, 0.4],
        "verdict": Verdict.CONTRADICTED.value,
        "rule": "supported if the interval lies below 0.01.",
    },
]


def held_together(row):
    """With what a scorecard adds: together every verdict is open; twice the tolerance refutes."""
    halved = [{"threshold": f"≥ {at}", "verdict": row["verdict"]} for at in (0.1, 0.2)]
    return row | {
        "threshold": "≥ 0.2",
        "ci_simultaneous": None if row["ci"] is None else [-0.25, 1.25],
        "verdict_simultaneous": Verdict.INCONCLUSIVE.value,
        "held_together": 2,
        "sensitivity": [*halved, {"threshold": "≥ 0.4", "verdict": Verdict.OUTSIDE.value}],
    }


ROWS = [held_together(row) for row in ROWS]


class Page(HTMLParser):
    """Tags with their attributes, and the visible words."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += " " + data

    def values(self, attribute):
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


def named(result, name):
    return report.Shown(result.assign_attrs(name=name))


@pytest.fixture(scope="module")
def html():
    result = tiny_result().copy()
    result.attrs["config"] = 'name = "</pre><script>alert(1)</script> & co"\n'
    return report.build([named(result, "dense-regime"), named(result, "sparse-regime")], ROWS)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_row_is_there_with_its_rule_and_its_verdict_in_words(page):
    for row in ROWS:
        for key in ("id", "statement", "source", "rule", "verdict"):
            assert row[key] in page.words
    # The rule of claims twice; its claim, the count, the head of its rows, its row, and at half
    # and once the tolerance.
    assert page.words.count(Verdict.CONTRADICTED) == 2 + 6
    assert "1 contradicted" in page.words


def test_it_opens_with_a_line_for_each_claim_then_a_picture_and_folds_the_rows(html, page):
    result = html.index('<section id="result"'), html.index('<section id="scorecard"')
    top = html[slice(*result)]
    for row in ROWS:
        assert MEANINGS[row["id"]][0].split("'")[0] in top
    assert RULE in Page(top).words
    for name in ("both_sides", "coordinates"):
        assert f'id="{name}-1"' in top and f'id="{name}-2"' in html[result[1] :]
    assert top.index("<table") < top.index("<img")
    rest = html[result[1] :]
    assert rest.index("<details><summary>dense-regime: all 3 rows") < rest.index("<table")
    assert "<details open" not in html


def test_a_claim_is_as_good_as_its_worst_row_and_leads_to_it(monkeypatch):
    monkeypatch.setattr(figures, "ALL", {})
    refuted = ROWS[3] | {"id": "C2", "regime": "dense-regime", "measured": 0.377}
    html = report.build([named(tiny_result(), "run")], [ROWS[0], refuted, ROWS[0]])
    words = Page(html).words
    assert "dense-regime: ✗ contradicted in 1 of 3 rows ; 2 supported 0.377 [" in words
    assert "C2 the clean network is fragile: contradicted in 1 of 3 rows; 2 supported" in words
    assert '<a href="#row-2">0.377</a>' in html and '<tr id="row-2">' in html
    assert f"judged by ≥ 0.2; together: {Verdict.INCONCLUSIVE}" in words
    assert "Not tested by these runs: C1, C3, C4" in words


def test_a_claim_of_ones_own_means_what_its_statement_says(monkeypatch):
    monkeypatch.setattr(figures, "ALL", {})
    own = ROWS[0] | {"id": "M1", "statement": "weights grow", "source": "[M] mine"}
    page = Page(report.build([named(tiny_result(), "run")], [own, ROWS[0]]))
    result = page.words.split("Every row", 2)[1]
    assert "M1 weights grow [M] mine" in result
    assert result.index("C2 At a radius") < result.index("M1 weights")
    assert {value[1:] for value in page.values("href")} <= set(page.values("id"))


def test_without_certificates_the_picture_is_the_accuracy_under_attack(monkeypatch):
    drawn = {name: figures.ALL[name] for name in ("both_sides", "robust_accuracy")}
    monkeypatch.setattr(figures, "ALL", drawn)
    result = tiny_result().drop_vars("certified_accuracy")
    html = report.build([named(result, "run")], ROWS)
    assert html.index('id="robust_accuracy-1"') < html.index('id="scorecard"')
    assert html.index('id="both_sides-1"') > html.index('id="run-1"')


def test_the_rows_are_also_held_together(html, page):
    assert f"All held together: ? 4 {Verdict.INCONCLUSIVE}" in page.words
    assert "for all rows together (2 that a verdict hangs on)" in page.words
    assert "0.500 [0.410, 0.590] [−0.250, 1.25]" in page.words
    assert page.words.count(f"together: ? {Verdict.INCONCLUSIVE}") == 3  # the fourth is the same


def test_the_number_that_a_row_is_judged_by_stands_in_it_and_so_do_its_half_and_double(html, page):
    assert "→ 1 ≥ 0.2 0.500" in page.words
    folded = page.words.split("Which verdicts hang on the number chosen", 1)[1]
    assert f"≥ 0.1 supported ≥ 0.2 supported ≥ 0.4 {Verdict.OUTSIDE}" in folded
    # Marked where another tolerance changes the word, and only there.
    assert html.count("<strong>outside the prediction&#39;s range</strong>") == 4
    assert "<strong>supported</strong>" not in html


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_sign_and_a_colour(verdict, monkeypatch):
    monkeypatch.setattr(figures, "ALL", {})
    html = report.build([named(tiny_result(), "run")], [ROWS[0] | {"verdict": verdict.value}])
    word = re.escape(verdict.sign) + " (?:1 )?" + re.escape(escape(verdict))
    (tone, *_) = re.findall(rf'<span class="verdict (\w+)">{word}<', html)
    assert f"\n.{tone} {{ background:" in html


def test_every_tone_has_a_colour():
    assert set(report.TONES) == set(Tone)


def test_numbers(page):
    assert "0.500 [0.410, 0.590]" in page.words
    assert "−0.0443" in page.words
    cells = page.words.split("robust against any perturbation [P] §5", 1)[1]
    assert cells.startswith(" rule an attack cannot show this. 1 ≥ 0.2 – ")


def test_every_figure_is_embedded_with_its_caption(page):
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 * len(figures.ALL)
    for image in images:
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    for name in figures.ALL:
        caption = " ".join(figures.caption(name, tiny_result()).split())
        assert page.words.count(caption) == 2


def test_nothing_is_loaded_from_elsewhere(html, page):
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("data:image/png") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert "url(" not in html and "@import" not in html


def test_anchors_lead_somewhere_and_ids_are_unique(page):
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href")} <= set(ids)


def test_text_is_escaped(html, page):
    assert "<script" not in html
    assert '</pre><script>alert(1)</script> & co"' in page.words
    assert "harmless on &lt;clean&gt; data" in html


def test_what_a_reader_needs_beside_the_scorecard(page):
    for meaning, source in MEANINGS.values():
        assert meaning in page.words and source in page.words
    assert list(MEANINGS) == [f"C{i}" for i in range(1, 15)]
    result = tiny_result()
    for text in (result.attrs["platform"], result.attrs["version"], "2 of 2 finished"):
        assert text in page.words
    assert "arXiv:2005.10190" in page.words
    assert 'xr.open_dataset("result.nc", engine="h5netcdf")' in page.words
    assert "Left out of every average" not in page.words
    assert page.words.count("w* and M one for all seeds") == 2


def test_a_page_says_that_each_seed_drew_its_own_problem(monkeypatch):
    monkeypatch.setattr(figures, "ALL", {})
    result = tiny_result().assign_attrs(draw="per-seed")
    words = Page(report.build([named(result, "run")], [])).words
    assert "w* and M new for every seed: intervals over seeds are over draws too" in words


def test_failed_seeds_are_named(monkeypatch):
    monkeypatch.setattr(figures, "ALL", {})
    ruined = with_failed_seed(tiny_result())
    ruined["status_step"] = ("seed", np.array([0, 0, 12]))
    words = Page(report.build([named(ruined, "run")], [])).words
    assert "seed 7 (diverged since step 12 of the clean phase)" in words
    assert "2 of 3 finished" in words


def test_a_run_without_a_finished_seed_has_no_figures():
    dead = tiny_result().copy()
    dead["status"] = ("seed", np.array(["dead", "dead"]))
    page = Page(report.build([named(dead, "run")], []))
    assert "No seed finished" in page.words
    assert not any(tag == "img" for tag, _ in page.tags)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"verdict": "proven"}, "verdict = 'proven'.*one of supported, contradicted")],
)
def test_unknown_rows_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        report.build([named(tiny_result(), "run")], [ROWS[0] | change])


def test_no_run_is_an_error():
    with pytest.raises(ValueError, match="runs is empty"):
        report.build([], ROWS)


def test_a_failed_report_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    monkeypatch.setattr(figures, "ALL", {"surgery": figures.surgery})
    report.write_page(path, [named(tiny_result(), "run")], ROWS)
    old = path.read_text(encoding="utf-8")
    assert re.match("<!doctype html>", old)

    def broken(result):
        raise RuntimeError("cannot draw")

    monkeypatch.setattr(figures, "ALL", {"surgery": broken})
    with pytest.raises(RuntimeError, match="cannot draw"):
        report.write_page(path, [named(tiny_result(), "run")], ROWS)
    assert path.read_text(encoding="utf-8") == old
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_figures_that_were_just_drawn_are_taken_as_they_are(tmp_path):
    shown = named(tiny_result(), "run")
    figures.save_all(shown.result, tmp_path)
    again = report.build([shown._replace(drawn=tmp_path)], ROWS)
    assert again == report.build([shown], ROWS)
    (tmp_path / "surgery.png").write_bytes((tmp_path / "overlaps.png").read_bytes())
    assert report.build([shown._replace(drawn=tmp_path)], ROWS) != again
