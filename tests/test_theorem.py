"""The scripts of the theorem's own algorithm and of C2 below the window keep what they measure."""

import importlib
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def script(monkeypatch, tmp_path, request):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = importlib.import_module(request.param)
    monkeypatch.setattr(module, "RECORD", tmp_path / "record.json")
    return module


def again(*_):
    raise AssertionError("measured again")


@pytest.mark.parametrize("script", ["theorem"], indirect=True)
def test_a_candidate_is_measured_once_by_both_methods(script, monkeypatch, capsys):
    tiny = {"d": 16, "k": 3, "clean": 0.4, "adversarial": 0.4, "threshold": [(0, 0.002)]}
    monkeypatch.setattr(script, "CANDIDATES", {"tiny": script.BASE | tiny})
    monkeypatch.setattr(script, "POINTS", 400)
    asked = ["theorem.py", "tiny", "--seeds", "3", "--methods", "direct", "closure"]
    monkeypatch.setattr("sys.argv", asked)
    script.main()
    rows = script.load(script.RECORD)
    assert [(r["method"], r["phase"]) for r in rows] == [
        (method, phase) for method in ("direct", "closure") for phase in ("clean", "adversarial")
    ]
    assert rows[0]["θ(clean, ·)"] == 1 > rows[1]["θ(clean, ·)"] > 0
    # Both begin with the weights of one run, and most of its gates stay open.
    assert rows[0]["active"] == pytest.approx(rows[2]["active"], rel=0.1)
    monkeypatch.setattr(script, "rows_of", again)
    monkeypatch.setattr(script, "closure_of", again)
    script.main()
    assert script.load(script.RECORD) == rows
    lines = [t for t in capsys.readouterr().out.splitlines() if t.startswith("| tiny")]
    assert len(lines) == 8
    monkeypatch.setattr("sys.argv", ["theorem.py", "other"])
    with pytest.raises(SystemExit):
        script.main()


@pytest.mark.parametrize("script", ["theorem"], indirect=True)
def test_rules_are_judged_seed_by_seed(script, capsys):
    def row(seed, method, phase, active, ratio, dense):
        at = {"candidate": "theorem", "seed": seed, "method": method, "phase": phase}
        values = {"active": active, "κ/α": ratio, "dense": dense, "accuracy": 0.8}
        return at | values | {"θ(init, ·)": 0.3, "θ(clean, ·)": 0.9}

    rows = [
        row(0, "direct", "clean", 1.0, 0.04, 0.2),
        row(0, "direct", "adversarial", 9.0, -0.002, 0.7),
        row(0, "closure", "clean", 9.0, 0.04, 0.9),
        row(1, "direct", "clean", 1.6, 0.04, 0.6),
        row(1, "direct", "adversarial", 9.0, -0.006, 0.7),
    ]
    script.judge(rows)
    (head, _, *lines) = capsys.readouterr().out.strip().splitlines()
    assert head == "| rule | bounds | theorem |"
    found = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[2] for line in lines}
    # Mean 1.3, deviation .424 of two: the half-width is 12.71 · .424/√2 = 3.81.
    assert found["active over k/d"] == "1.300 [-2.512, 5.112]: 1 of 2 |"
    assert found["κ/α over the closure's"] == "1.000: 1 of 1 |"
    assert found["dense attack over clean accuracy"].endswith("1 of 2 |")
    assert found["size of κ/α, after over before"].startswith("0.100 [")
    assert found["size of κ/α, after over before"].endswith("1 of 2 |")
    assert found["θ(clean, adversarial)"].startswith("0.900") and len(found) == 7


@pytest.mark.parametrize("script", ["theorem"], indirect=True)
def test_thresholds_of_the_candidates_only_grow(script):
    for name in script.CANDIDATES:
        bias = script.settings(name, 0).clean.bias
        assert bias.values == sorted(bias.values) and bias.values[0] > 0, name
        assert bias.fractions[-1] == 1, name


@pytest.mark.parametrize("script", ["below_window"], indirect=True)
def test_c2_is_judged_by_its_rule(script, monkeypatch, capsys):
    def found(d, k, seed, dense):
        at = {"method": "direct", "phase": "clean", "d": d, "k": k, "seed": seed, "active": 0.3}
        return at | {"accuracy": 0.95, "dense_accuracy": dense, "dense_radius": 0.1}

    # The pure network withstands every attack at τ on some .9 of the points at (16, 2).
    rows = [found(16, 2, 0, 0.5), found(16, 2, 1, 0.6), found(16, 3, 0, 0.8), found(16, 3, 1, 0.2)]
    script.save(script.RECORD, rows)
    monkeypatch.setattr(script.ladder, "RECORD", script.RECORD.with_name("none.json"))
    monkeypatch.setattr(script.ladder, "direct", again)
    monkeypatch.setattr("sys.argv", ["below_window.py", "--d", "16", "--k", "2", "--seeds", "0"])
    script.main()
    monkeypatch.setattr("sys.argv", ["below_window.py"])
    script.main()
    low, high = [t for t in capsys.readouterr().out.splitlines() if t.startswith("| 16")]
    assert "| holds |" in low and "| open |" in high
