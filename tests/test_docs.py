"""The Python of the README and of the pages runs as it stands there."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from made_up_sweeps import made_up

from featpur_sim.sweeps.file import parse_sweep

ROOT = Path(__file__).parent.parent
# A code block, or a cell of a tutorial.
BLOCK = re.compile(r"```(?:python|\{code-cell\} ipython3)\n(.*?)```", re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def run_blocks(page: str) -> dict:
    """Run a page's code blocks one after another in one namespace."""
    names: dict = {}
    for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_outside_the_site(page):
    """Sphinx checks those between the pages."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", read(page))
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_own_hidden_law():
    names = run_blocks("docs/how-to/own-hidden-law.md")
    assert names["Triangular"]().nonzero_rate(4.0, 8) == 0.5


@pytest.mark.slow
def test_own_study(capsys):
    run_blocks("docs/how-to/own-study.md")
    (shown,) = re.findall(r"```text\n(.*?)```", read("docs/how-to/own-study.md"), re.DOTALL)
    for found, said in zip(capsys.readouterr().out.split(), shown.split(), strict=True):
        # The last digit is another one on other processors.
        same = found == said if "." not in said else abs(float(found) - float(said)) < 0.015
        assert same, (found, said)


@pytest.mark.slow
def test_own_run(capsys):
    names = run_blocks("docs/how-to/own-run.md")
    (shown,) = re.findall(r"```text\n(.*?)```", read("docs/how-to/own-run.md"), re.DOTALL)
    assert capsys.readouterr().out.split() == shown.split()
    law, k, D = names["HeavyTail"](2.0), 4.0, 32
    uniform = (np.arange(10**6) + 0.5) / 10**6
    moment = np.mean(np.square(law.magnitude(uniform, k, D), dtype=np.float64))
    assert float(law.second_moment(k, D)) == pytest.approx(moment, rel=1e-4)


def test_own_training(capsys):
    names = run_blocks("docs/how-to/own-training.md")
    one, fgm = (line for line in capsys.readouterr().out.splitlines() if "Accuracy" in line)
    assert one != fgm and names["run"].records["largest"].shape == names["run"].record_step.shape


def test_own_data(capsys):
    names = run_blocks("docs/how-to/own-data.md")
    clean, inside, outside, own = (
        float(re.search(r"value=([\d.]+)", line)[1])
        for line in capsys.readouterr().out.splitlines()
    )
    assert clean > 0.99 and inside > 0.7 > 0.4 > outside
    assert own > 0.99 and float(names["run"].network.offset) != 0


def test_check_your_own(capsys):
    run_blocks("docs/how-to/check-your-own.md")
    page = (ROOT / "docs/how-to/check-your-own.md").read_text(encoding="utf-8")
    assert f"```text\n{capsys.readouterr().out}```" in page


def test_own_claim():
    row = run_blocks("docs/how-to/own-claim.md")["row"]
    assert row["verdict"] == "supported" and row["ci"][0] > 2 and row["seeds"] == "4 seeds"


def test_the_sweep_file():
    text, free = re.findall(
        r"```toml\n(.*?)```", (ROOT / "docs/how-to/sweep.md").read_text(encoding="utf-8"), re.DOTALL
    )
    sweep = parse_sweep(tomllib.loads(text))
    assert sweep.shape == (3, 5) and sweep.points[-1].config.adversarial.steps == 2000
    assert parse_sweep(tomllib.loads(free)).axes == (("k",), ("c",))


def test_many_runs():
    names = run_blocks("docs/how-to/many-runs.md")
    run, scores = names["run"], names["score"]
    assert run.status.tolist() == [0] * 4
    assert run.network.weights.shape == (4, 64, 32) and run.records["loss"].shape == (82, 4)
    # Purified at every k, as the page trains it.
    assert (scores["adversarial"].low > scores["clean"].high).all()


def test_fit(tmp_path, monkeypatch, capsys):
    (tmp_path / "DIR").mkdir()
    made_up(noise=0.1).to_netcdf(tmp_path / "DIR" / "sweep.nc", engine="h5netcdf")
    monkeypatch.chdir(tmp_path)
    names = run_blocks("docs/how-to/fit.md")
    assert capsys.readouterr().out.split()[::5][:1] == ["d"]
    assert names["law"]({"d": 1024, "k": 20}) == pytest.approx(20 / 1024, rel=0.5)


@pytest.mark.slow
def test_certify():
    both = run_blocks("docs/how-to/certify.md")["both"]
    assert 0.5 < both.certified.mean() <= both.standing.mean() < 1


@pytest.mark.slow
def test_readme():
    names = run_blocks("README.md")
    fp, run = names["fp"], names["run"]
    score = fp.robust_accuracy(
        run.network, names["problem"], fp.PGD(0.134), key=names["jax"].random.key(2)
    )
    assert 0.75 < score.value < 0.88


@pytest.mark.slow
def test_tutorial_data_and_network(capsys):
    """What it draws agrees with the exact laws beside it."""
    names = run_blocks("docs/tutorials/data-and-network.md")
    shown = re.findall(r"drawn ([\d.]+), exact ([\d.]+)", capsys.readouterr().out)
    assert len(shown) == 3
    for drawn, exact in shown:
        assert float(drawn) == pytest.approx(float(exact), abs=0.02)
    assert names["score"].value > 0.8


@pytest.mark.slow
def test_tutorial_purification(capsys):
    """What the text reads off the table, column by column."""
    run_blocks("docs/tutorials/purification.md")
    printed = capsys.readouterr().out
    table = re.findall(r"^(\w.*?) +(0\.\d{3}) +(0\.\d{3})$", printed, re.MULTILINE)
    clean = {name: float(value) for name, value, _ in table}
    purified = {name: float(value) for name, _, value in table}
    noise, dense = "random noise of norm τ", "dense mixture"
    assert clean["no attack"] - clean[noise] < 0.02
    assert clean["no attack"] - clean[dense] > 0.9 * (clean["no attack"] - clean["PGD"]) > 0.15
    assert purified[dense] > clean[dense] + 0.1 and purified["PGD"] > clean["PGD"] + 0.1
    before, after = (float(ratio) for ratio in re.findall(r"κ/α = (\d\.\d+)", printed))
    assert after < before / 10
    whole, cut = (float(x) for x in re.findall(r"(\d\.\d+) under the dense", printed))
    assert cut - whole > 0.4 * (clean["no attack"] - whole)


@pytest.mark.slow
def test_tutorial_certify(capsys):
    """The sides nearly meet for the purified network, above all that is left of the clean one."""
    run_blocks("docs/tutorials/certify.md")
    printed = capsys.readouterr().out
    sides = re.findall(r"at τ: (\d\.\d+) ≤ robust accuracy ≤ (\d\.\d+)", printed)
    (_, clean), (low, high) = ((float(a), float(b)) for a, b in sides)
    assert clean < low <= high < low + 0.03


@pytest.mark.slow
def test_tutorial_sweep_and_fit(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)  # and back, after the page has gone elsewhere
    names = run_blocks("docs/tutorials/sweep-and-fit.md")
    assert not names["finished"].failed
    signs = dict(re.findall(r"in (\w): ([+-])\d", capsys.readouterr().out)[1:])
    assert signs == {"k": "-", "c": "+"}


@pytest.mark.slow
def test_tutorial_figure(capsys):
    names = run_blocks("docs/tutorials/figure.md")
    assert {path.name for path in names["folder"].iterdir()} == {"figure.pdf", "figure.svg"}
    low, high = re.findall(r"at τ: \w+ (\d\.\d+)", capsys.readouterr().out)
    assert 0.8 < float(low) <= float(high)
