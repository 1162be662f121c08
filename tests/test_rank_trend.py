"""The tables of C7 over d: shares seed by seed, and sizes that have fewer updates or seeds."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "experiments")
    return importlib.import_module("rank_trend")


def planted(script):
    """Before .5, free .9; rank 1 makes .2, .4 and .6 of the gain at d = 32, 64 and 128."""
    rows = []
    for d, share, seeds in ((32, 0.2, 3), (64, 0.4, 3), (128, 0.6, 2)):
        for seed in range(seeds):
            off = 0.01 * (seed - 1)
            made = [("none", 0, 0, 0.5), ("free", d, 10, 0.9)]
            made += [("truncated", r, 0, 0.5 + (share + off) * 0.4) for r in script.RANKS]
            if d < 128:  # the largest size was asked for the truncated one alone
                made += [("free", d, 50, 0.9)]
                made += [
                    (update, r, steps, 0.5 + 0.2)
                    for update in ("warm", "random")
                    for r in script.RANKS
                    for steps in (20, 40)
                ]
            for update, rank, steps, robust in made:
                values = (d, 4, seed, update, rank, steps, 0.95, robust, 0.1)
                rows.append(dict(zip(script.COLUMNS, values, strict=True)))
    return rows


def test_shares_and_slopes_take_the_seeds_and_sizes_there_are(script, capsys, tmp_path):
    rows = planted(script)
    script.tables(rows)
    share = capsys.readouterr().out.split("\n\n")[0].splitlines()
    lines = {line.split(" | ")[0].lstrip("| "): line.split(" | ") for line in share}
    # Three seeds at .19, .2, .21: the half-width is 4.30 · .01/√3 = .025.
    assert lines["truncated 1"][1:3] == ["0.200 [0.175, 0.225]", "0.400 [0.375, 0.425]"]
    # The slope is over the two seeds that every size has, both .2 per doubling.
    assert lines["truncated 1"][4] == "0.200 [0.200, 0.200] grows"
    assert lines["warm 1"][3] == "" and lines["free"][3].strip() == "|"
    assert lines["warm 1"][4].startswith("-0.000") or lines["warm 1"][4].startswith("0.000")
    # From d = 64 on warm updates have one size: no slope.
    assert lines["warm 1"][5] == " |"
    script.draw(rows, tmp_path / "rank.png")
    assert (tmp_path / "rank.png").stat().st_size > 10_000
