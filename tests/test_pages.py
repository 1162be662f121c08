"""The pages say what the kept results say (experiments/results, experiments/pages.py)."""

import re
import tomllib
from pathlib import Path

import pytest

from featpur_sim._version import __version__

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
ENTRIES = tomllib.loads((RESULTS / "commands.toml").read_text(encoding="utf-8"))
NUMBER = r"[-−+]?\d*\.\d+"
INTERVAL = re.compile(rf"({NUMBER})\s+\[({NUMBER}),\s+({NUMBER})\]")
PAGES = sorted({page for entry in ENTRIES.values() for page in entry.get("pages", [])})


def intervals(text: str) -> list[tuple[str, ...]]:
    """Every "mean [low, high]" of a text, in one spelling: −0.10 and -.10 are equal."""
    found = (match.groups() for match in INTERVAL.finditer(text))
    plain = ([n.replace("−", "-").removeprefix("+") for n in one] for one in found)
    return [tuple(re.sub(r"^(-?)0?\.", r"\1.", n) for n in one) for one in plain]


def agrees(shown: tuple[str, ...], kept: tuple[str, ...]) -> bool:
    """Whether a page shows what was kept, perhaps with fewer digits, or as what was lost."""
    mean, low, high = (n.removeprefix("-") if n.startswith("-") else f"-{n}" for n in kept)
    return _agrees(shown, kept) or _agrees(shown, (mean, high, low))


def _agrees(shown: tuple[str, ...], kept: tuple[str, ...]) -> bool:
    return all(
        len(s.split(".")[1]) <= len(k.split(".")[1])
        and abs(float(s) - float(k)) <= 0.5001 * 10.0 ** -len(s.split(".")[1])
        for s, k in zip(shown, kept, strict=True)
    )


@pytest.mark.parametrize("page", PAGES)
def test_intervals_of_a_page_are_those_of_its_results(page):
    kept = [
        found
        for name, entry in ENTRIES.items()
        if page in entry.get("pages", [])
        for found in intervals((RESULTS / f"{name}.txt").read_text(encoding="utf-8"))
    ]
    shown = intervals((ROOT / page).read_text(encoding="utf-8"))
    stray = [one for one in shown if not any(agrees(one, other) for other in kept)]
    assert len(shown) >= 2
    assert not stray


def test_an_interval_that_was_not_kept_is_noticed():
    kept = intervals("| κ/α | −0.876 [−0.939, -0.813] |")
    assert kept == [("-.876", "-.939", "-.813")] != intervals("+0.876 [+0.939, +0.813]")
    assert agrees(intervals(".88 [.81, .94]")[0], kept[0])
    assert agrees(intervals("-.88 [-.94, -.81]")[0], kept[0])
    assert not agrees(intervals("-.88 [-.94, -.82]")[0], kept[0])
    assert not agrees(intervals("-.8760 [-.939, -.813]")[0], kept[0])


ROWS = [
    (name, page, heading)
    for name, entry in ENTRIES.items()
    for page, headings in entry.get("rows", {}).items()
    for heading in headings
]


def numbers(line: str) -> list[str]:
    """The decimal numbers of a line, in one spelling."""
    plain = [n.replace("−", "-").removeprefix("+") for n in re.findall(NUMBER, line)]
    return [re.sub(r"^(-?)0?\.", r"\1.", n) for n in plain]


def holds(kept: list[str], shown: list[str]) -> bool:
    """Whether the shown numbers are among the kept ones, in their order."""
    rest = iter(kept)
    return all(any(_agrees((one,), (other,)) for other in rest) for one in shown)


def rows_under(page: str, heading: str) -> list[str]:
    """The rows of tables between a heading of a page and the next one, captions left out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count(f"## {heading}\n") == 1, heading
    section = re.split(r"^#+ ", text.split(f"## {heading}\n")[1], flags=re.M)[0]
    return [line for line in section.splitlines() if line.startswith("|") and numbers(line)]


@pytest.mark.parametrize(("name", "page", "heading"), ROWS)
def test_rows_of_a_table_are_those_of_its_result(name, page, heading):
    text = (RESULTS / f"{name}.txt").read_text(encoding="utf-8")
    kept = [numbers(line) for line in text.splitlines()]
    shown = rows_under(page, heading)
    assert len(shown) >= 2
    assert [row for row in shown if not any(holds(line, numbers(row)) for line in kept)] == []


def test_a_row_that_was_not_kept_is_noticed():
    kept = numbers("0.6, clean: -0.595 [-0.597, -0.593] 300 .01")
    assert kept == [".6", "-.595", "-.597", "-.593", ".01"]
    assert holds(kept, numbers("| −.595 [−.597, −.593] | 0.01 |"))
    assert not holds(kept, numbers("| −.593 [−.597, −.595] |"))
    assert not holds(kept, numbers("| .595 |"))
    assert not holds(kept, numbers("| −.5950 |"))


def test_every_kept_result_names_its_commands():
    for path in RESULTS.glob("*.txt"):
        commands = re.findall(r"^\$ (.*)$", path.read_text(encoding="utf-8"), re.M)
        here = [c.format(here="experiments", data="DIR") for c in ENTRIES[path.stem]["commands"]]
        assert commands == here, path


def test_figures_are_there():
    for entry in ENTRIES.values():
        for picture in entry.get("figures", {}):
            assert (ROOT / "docs" / "images" / picture).exists(), picture


def test_citations_name_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{__version__}}}" in (ROOT / "README.md").read_text(encoding="utf-8")
