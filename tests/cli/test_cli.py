"""The command line: exit codes, one message for a bad input, nothing touched, nothing lost."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import xarray as xr
from heard import popen

import featpur_sim
from featpur_sim._ground.disk import claim_folder
from featpur_sim._ground.manifest import rewriting
from featpur_sim.cli import main as cli
from featpur_sim.report import reproduce
from featpur_sim.report import run_figures as figures
from featpur_sim.runs.config import load, parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import RESULT, WEIGHTS, load_result, load_scorecard
from featpur_sim.runs.starter import STARTER
from featpur_sim.theory.linf import effective_radius
from featpur_sim.training.checkpoint import STATE

FILES = {"result.nc", "scorecard.json", "weights.npz", "config.toml", "figures", "report.html"}
FILES |= {"manifest.json"}


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures and report take seconds to draw; other tests look at them."""
    monkeypatch.setattr("featpur_sim.report.run_figures.save_all", lambda result, directory: [])

    def write(path, runs, rows, *compared):
        path.write_text(f"{len(runs)} runs, {len(rows)} rows", encoding="utf-8")

    monkeypatch.setattr("featpur_sim.report.run_page.write_page", write)


@pytest.fixture
def settings_file(tiny, tmp_path):
    """The settings of ``tiny`` as a file; keyword arguments change them."""

    def write(**changes):
        path = tmp_path / "settings.toml"
        path.write_text(tomli_w.dumps(tiny(**changes)), encoding="utf-8")
        return path

    return write


def listing(folder):
    """Every path below a folder, with the content of the files."""
    return {
        p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")
    }


def strict(text):
    """JSON as other languages read it: without NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def differing(a, b):
    """The variables in which two results are not the same to the bit."""
    return [name for name in a.data_vars if not a[name].variable.equals(b[name].variable)]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A folder that ``featpur run`` has filled, figures and report included; to be copied."""
    base = tmp_path_factory.mktemp("finished")
    (base / "settings.toml").write_text(tomli_w.dumps(tiny()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        out = str(base / "out")
        patch.setattr(sys, "argv", ["featpur", "run", str(base / "settings.toml"), "-q", "-o", out])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert not stop.value.code
    return base / "out"


@pytest.fixture
def mine(finished, tmp_path):
    """A copy of ``finished`` to write in."""
    return Path(shutil.copytree(finished, tmp_path / "mine"))


def test_a_run_leaves_the_promised_files(finished, tiny_run):
    names = {path.name for path in finished.iterdir()}
    assert names - {".lock"} == FILES
    assert {p.suffix for p in (finished / "figures").iterdir()} == {".png", ".pdf"}
    assert differing(load_result(finished), tiny_run.result) == []
    assert "</html>" in (finished / "report.html").read_text(encoding="utf-8")


def test_a_run_is_held_against_its_closure_when_asked(mine, featpur, no_pictures):
    command = "run", mine / "config.toml", "--out", mine, "--closure", "--verbose"
    (mine / "report.html").unlink()  # as if cut off behind the run
    code, out, err = featpur(*command)
    assert not code and "C14" in out and "closure" in err
    rows = load_scorecard(mine)
    assert sum(row["id"] == "C14" for row in rows) == 10
    # What the folder holds is not found again, but what a kill left undrawn is drawn.
    before = (mine / "population.json").stat().st_mtime_ns
    (mine / "report.html").unlink()
    (mine / "figures" / "closure.png").unlink()
    assert featpur(*command)[0] == 0 and load_scorecard(mine) == rows
    assert (mine / "population.json").stat().st_mtime_ns == before
    assert (mine / "figures" / "closure.png").is_file()


def test_the_closure_replaces_no_figure_of_the_user(mine, featpur):
    theirs = mine / "figures" / "closure.png"
    theirs.write_bytes(b"mine")
    (mine / "report.html").unlink()  # as if cut off behind the run
    code, _, err = featpur("run", mine / "config.toml", "--out", mine, "--closure")
    assert (code, theirs.read_bytes()) == (2, b"mine") and "closure.png" in err
    assert not (mine / "population.json").exists()


def test_a_closure_that_cannot_be_is_refused_before_the_run(tmp_path, featpur, tiny):
    bias = {"schedule": "per-neuron", "start": 1.1, "stop": 0.2, "begin": 0.1, "end": 0.2}
    bias |= {"monotone": True, "ceiling": 0.1}
    settings = tiny() | {"clean": tiny()["clean"] | {"bias": bias}}
    path = tmp_path / "monotone.toml"
    path.write_text(tomli_w.dumps(settings), encoding="utf-8")
    code, _, err = featpur("run", path, "--out", tmp_path / "out", "--closure")
    assert code == 2 and "monotone = true" in err and not (tmp_path / "out").exists()


def test_its_own_config_repeats_a_run_bit_for_bit(finished, featpur, tmp_path, no_pictures):
    code, out, err = featpur("run", finished / "config.toml", "--out", tmp_path / "b", "--json")
    assert code == 0
    assert differing(load_result(tmp_path / "b"), load_result(finished)) == []
    rows = strict(out)
    assert rows == load_scorecard(tmp_path / "b") == load_scorecard(finished)
    assert not {"\r", "\x1b"} & set(err)
    lines = err.splitlines()
    stages = ("clean training", "adversarial training", "pure network", "attacks", "figures")
    for stage, done, total in zip(stages, (0,) * 5, (400, 400, 1, 21, 1), strict=True):
        (begun,) = [line for line in lines if line.startswith(f"tiny: {stage} {done} of {total}")]
        (ended,) = [line for line in lines if line.startswith(f"tiny: {stage} {total} of {total}")]
        assert "elapsed" in ended and lines.index(begun) < lines.index(ended)


def test_the_scorecard_is_printed(featpur, settings_file, tmp_path, no_pictures):
    code, out, err = featpur(
        "run", settings_file(name="a[/b]"), "--out", tmp_path / "out[1]", "--verbose"
    )
    assert code == 0
    for word in ("Scorecard", "a[/b]", "supported", "C11", "[P] §5", "[95 % CI]"):
        assert word in out
    assert err.rstrip().endswith("out[1]/report.html")


def test_a_line_for_each_claim_or_with_verbose_for_each_row(featpur, mine, no_pictures):
    rows = load_scorecard(mine)
    claims = {row["id"] for row in rows}
    for arguments, lines in [([], len(claims)), (["--verbose"], len(rows))]:
        code, out, _ = featpur("report", mine, *arguments)
        assert code == 0 and ("Every row: --verbose" in out) == (not arguments)
        assert len(re.findall(r"^(?:│)? +C\d+ ", out, re.MULTILINE)) == lines


def test_quiet_is_quiet(featpur, settings_file, tmp_path, no_pictures):
    assert featpur("run", settings_file(), "--out", tmp_path / "o", "--quiet") == (0, "", "")


def test_another_seed_from_the_command_line(featpur, settings_file, tmp_path, no_pictures):
    code, _, _ = featpur("run", settings_file(), "--out", tmp_path / "o", "--seed", "8", "-q")
    assert code == 0 and load(tmp_path / "o" / "config.toml").seed == 8


def test_a_finished_run_is_kept_unless_told_otherwise(featpur, mine, settings_file, no_pictures):
    before = listing(mine)
    code, out, err = featpur("run", settings_file(seed=9), "--out", mine)
    assert (code, out) == (2, "") and "already holds a finished run" in err
    assert listing(mine) == before
    code, _, _ = featpur("run", settings_file(seed=9), "--out", mine, "--overwrite", "-q")
    assert code == 0 and load(mine / "config.toml").seed == 9


BAD = {
    "k above d": ({"problem": {"d": 16, "k": 17}}, "problem.k = 17"),
    "negative radius": ({"adversarial": {"radius": -0.1}}, "adversarial.radius = -0.1"),
    "unknown key": ({"sedes": 5}, "did you mean 'seeds'?"),
    "no seeds": ({"seeds": 0}, "seeds = 0"),
    "too large": ({"problem": {"d": 2_000_000, "k": 3}}, "GiB"),
    "not square": ({"problem": {"d": 16, "k": 3, "features": 20}}, "'incoherent'"),
    "law": ({"problem": {"d": 16, "k": 3, "wstar": "uniform"}}, "wstar_range = [a, b]"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD.keys())
def test_bad_settings_are_one_message_and_nothing_else(
    changes, words, featpur, settings_file, tmp_path, unchecked
):
    path = settings_file(**changes)
    before = listing(tmp_path)
    code, out, err = featpur("run", path, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("featpur: ") and err.count("\n") == 1 and words in err
    assert listing(tmp_path) == before


def test_bad_paths_are_one_message_and_nothing_else(featpur, settings_file, tmp_path):
    path = settings_file()
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    before = listing(tmp_path)
    for arguments, words in [
        (["run", tmp_path / "none.toml"], "does not exist"),
        (["run", tmp_path], "cannot be read"),
        (["run", tmp_path / "binary.toml"], "is not valid TOML"),
        (["run", path, "--out", path], "is a file, not a folder"),
        (["run", path, "--out", path / "below"], "cannot write to the folder"),
        (["evaluate", tmp_path], "holds no finished run"),
        (["report", tmp_path], "holds no finished run"),
        (["init", path], "exists already"),
        (["init", path / "below"], "cannot write"),
    ]:
        code, out, err = featpur(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("featpur: ") and err.count("\n") == 1 and words in err
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "x.toml", "--seed", "-1"],
        ["run", "x.toml", "--seed", str(2**31)],
        ["run", "x.toml", "--sede", "1"],
        ["reproduce", "--seeds", "0"],
        ["reproduce", "--seeds", "many"],
        ["nonsense"],
    ],
)
def test_bad_options_are_bad_input(arguments, featpur, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = featpur(*arguments)
    assert code == 2 and "Usage: featpur" in err and out == ""
    assert listing(tmp_path) == {}


def test_a_folder_in_use_is_left_alone(featpur, settings_file, tmp_path):
    with claim_folder(tmp_path / "out"):
        before = listing(tmp_path / "out")
        code, _, err = featpur("run", settings_file(), "--out", tmp_path / "out")
        assert code == 2 and "in use by another run" in err
        assert listing(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce", ["featpur-out", "default: 5", "dense-regime", "sparse-regime", "--full"]),
        ("run", ["CONFIG.toml", "featpur-run", "featpur init", "--overwrite"]),
        ("evaluate", ["DIR", "default: 1", "evaluation.nc", "training radius"]),
        ("report", ["DIR", "report.html", "result.nc"]),
        ("init", ["featpur.toml", "commented"]),
    ],
)
def test_help_teaches(command, words, featpur):
    code, out, _ = featpur(command, "--help")
    assert code == 0 and [word for word in words if word not in out] == []
    code, out, _ = featpur("--help")
    assert code == 0 and command in out


def test_init_writes_a_file_that_runs(featpur, tmp_path):
    path = tmp_path / "new" / "mine.toml"
    code, out, err = featpur("init", path)
    assert (code, err) == (0, "") and f"featpur run {path}" in out
    assert path.read_text(encoding="utf-8") == STARTER and load(path) == parse(
        tomllib.loads(STARTER)
    )


def test_evaluate_attacks_a_finished_run_again(featpur, mine):
    code, out, _ = featpur("evaluate", mine, "--json", "-q", "--seed", "0")
    assert code == 0
    scores = xr.load_dataset(mine / "evaluation.nc", engine="h5netcdf")
    xr.testing.assert_equal(scores.robust_accuracy, load_result(mine).robust_accuracy)
    records = strict(out)
    at = next(
        r
        for r in records
        if (r["attack"], r["phase"], r["relative_radius"]) == ("PGD", "clean", 1.0)
    )
    mean = scores.robust_accuracy.sel(attack="PGD", phase="clean").isel(radius=2).mean()
    assert at["accuracy"] == pytest.approx(float(mean))
    code, out, err = featpur("evaluate", mine, "-q", "--radius", "0.5")
    assert (code, out, err) == (0, "", "")
    code, out, _ = featpur("evaluate", mine, "--radius", "0.5")
    assert code == 0 and "dense mixture" in out and "0.5" in out


def test_evaluate_on_a_full_disk_leaves_the_old_file(featpur, mine, few_attacks):
    """A limit on the size of files stands for the disk."""
    with rewriting(mine, "evaluation.nc"):
        (mine / "evaluation.nc").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
        code, _, err = featpur("evaluate", mine, "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 3 and "stopped" in err and err.count("\n") == 1
    assert (mine / "evaluation.nc").read_bytes() == b"old"
    assert not list(mine.glob(".featpur*"))


def test_evaluate_refuses_bad_settings_and_writes_nothing(featpur, mine, unchecked):
    before = listing(mine)
    for option, value, words in [
        ("--samples", "5", "evaluation.samples = 5"),
        ("--restarts", "0", "evaluation.pgd_restarts = 0"),
        ("--radius", "-1", "evaluation.radii.0 = -1"),
        ("--radius", "nan", "finite"),
    ]:
        code, _, err = featpur("evaluate", mine, option, value)
        assert code == 2 and words in err and err.count("\n") == 1
    (mine / "weights.npz").unlink()
    code, _, err = featpur("evaluate", mine)
    assert code == 2 and "holds no weights.npz" in err
    assert set(before) - set(listing(mine)) == {Path("weights.npz")}
    assert set(listing(mine)) < set(before)


def test_report_rebuilds_what_comes_from_the_result(featpur, mine, no_pictures):
    then = load_scorecard(mine)
    (mine / "scorecard.json").unlink()
    (mine / "report.html").unlink()
    code, out, err = featpur("report", mine)
    assert code == 0 and load_scorecard(mine) == then and "Scorecard" in out
    assert (mine / "report.html").exists() and (mine / "explorer.html").exists()
    assert err.rstrip().endswith(f"report.html, {mine}/explorer.html")


def test_a_damaged_result_is_one_message(featpur, mine):
    whole = (mine / RESULT).read_bytes()
    (mine / RESULT).write_bytes(whole[: len(whole) // 2])
    for command in ("evaluate", "report"):
        code, _, err = featpur(command, mine)
        assert code == 2 and f"{RESULT} is not what was written" in err and err.count("\n") == 1


def test_all_seeds_failed_is_said_not_hidden(featpur, settings_file, tmp_path):
    bad = {"steps": 20, "batch": 64, "learning_rate": 1e20, "bias": {"stop": 0.05}}
    code, out, err = featpur("run", settings_file(clean=bad), "--out", tmp_path / "o")
    assert code == 5 and "no verdict: training failed: seed 1 (diverged since" in out, err
    assert {row["verdict"] for row in load_scorecard(tmp_path / "o")} == {"no verdict"}
    assert "diverged" in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")


def test_a_full_disk_stops_part_way_and_the_same_command_goes_on(
    featpur, settings_file, tmp_path, no_pictures, monkeypatch, tiny_run
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("featpur_sim.report.reproduce.save_run", full)
        code, _, err = featpur("run", settings_file(), "--out", out)
    assert code == 3 and "No space left on device" in err and "same command goes on" in err
    assert not (out / RESULT).exists() and (out / ".checkpoint").is_dir()
    code, _, err = featpur("run", settings_file(), "--out", out)
    # Training was finished before: no bar for it now, and nothing is left of the checkpoint.
    assert code == 0 and "training is done" in err and "adversarial training" not in err, err
    assert differing(load_result(out), tiny_run.result) == []
    assert not (out / ".checkpoint").exists()


def test_a_checkpoint_of_other_settings_is_refused(
    featpur, settings_file, tmp_path, no_pictures, monkeypatch
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("featpur_sim.report.reproduce.save_run", full)
        assert featpur("run", settings_file(), "--out", out)[0] == 3
    before = listing(out)
    code, _, err = featpur("run", settings_file(seed=5), "--out", out)
    assert code == 2 and "belongs to another run (seed 3 → 5): undo the change" in err
    assert set(listing(out)) == set(before)


@pytest.fixture
def tiny_presets(tiny, monkeypatch):
    """``featpur reproduce`` with two runs of a second each in place of its presets."""
    asked = []

    def presets(*, norm, seeds, seed, full):
        asked.append((norm, seeds, seed, full))
        return [parse(tiny(name=name, seed=seed)) for name in ("dense", "sparse")]

    monkeypatch.setattr(reproduce, "presets", presets)
    return asked


def test_reproduce_covers_both_regimes(featpur, tmp_path, tiny_presets, no_pictures):
    out = tmp_path / "out"
    options = ["--norm", "linf", "--seeds", "7", "--seed", "3", "--json"]
    code, text, _ = featpur("reproduce", "--out", out, *options)
    assert code == 0 and tiny_presets == [("linf", 7, 3, False)]
    rows = strict(text)
    assert {row["regime"] for row in rows} == {"dense", "sparse"} and rows == load_scorecard(out)
    assert {row["regime"] for row in load_scorecard(out / "sparse")} == {"sparse"}
    assert (out / "report.html").read_text(encoding="utf-8") == f"2 runs, {len(rows)} rows"
    assert featpur("reproduce", "--out", out)[0] == 2
    assert featpur("report", out, "-q")[0] == 0 and load_scorecard(out) == rows


def test_reproduce_goes_on_with_the_regime_that_was_cut_off(
    featpur, tmp_path, tiny_presets, no_pictures, monkeypatch
):
    out, ran = tmp_path / "out", []

    def one(config, **settings):
        ran.append(config.name)
        if ran == ["dense", "sparse"]:
            raise KeyboardInterrupt
        return run_experiment(config, **settings)

    monkeypatch.setattr(reproduce, "run_experiment", one)
    code, _, err = featpur("reproduce", "--out", out)
    assert code == 130 and "interrupted: the same command goes on" in err
    first = (out / RESULT).read_bytes()
    code, _, err = featpur("reproduce", "--out", out, "--seed", "1")
    assert code == 2 and "holds another run (seed 0 → 1): undo the change" in err
    with monkeypatch.context() as patch:
        patch.setattr("jax.__version__", "0.0.7")
        code, _, err = featpur("reproduce", "--out", out)
    assert code == 2 and " → 0.0.7): install those versions to go on" in err
    assert featpur("reproduce", "--out", out, "-q")[0] == 0
    assert ran == ["dense", "sparse", "sparse"] and (out / RESULT).read_bytes() == first
    assert {row["regime"] for row in load_scorecard(out)} == {"dense", "sparse"}


def test_reproduce_checks_before_it_makes_a_folder(featpur, tmp_path, monkeypatch):
    monkeypatch.setattr("featpur_sim.runs.memory.estimate_memory", lambda config: 2**60)
    code, _, err = featpur("reproduce", "--out", tmp_path / "out")
    assert code == 2 and "GiB" in err and listing(tmp_path) == {}
    code, _, err = featpur("reproduce", "--out", tmp_path / "out", "--seeds", "10001")
    assert code == 2 and "seeds = 10001" in err and listing(tmp_path) == {}


def test_the_presets_of_reproduce():
    dense, sparse = reproduce.presets(seeds=5, seed=2, full=False)
    assert (dense.name, sparse.name) == ("dense-regime", "sparse-regime")
    assert min(dense.problem.d, sparse.problem.d) >= 64
    assert {c.seeds for c in (dense, sparse)} == {5} and {c.seed for c in (dense, sparse)} == {2}
    longer, wider = reproduce.presets(seeds=5, seed=2, full=True)
    assert longer.problem.d > dense.problem.d and wider.problem.d > sparse.problem.d
    assert longer.adversarial.steps > dense.adversarial.steps
    assert parse(longer.model_dump()) == longer


def test_the_presets_of_the_box_reach_as_far_as_those_of_the_ball():
    ball = reproduce.presets(seeds=5, seed=2, full=False)
    for of_ball, of_box in zip(
        ball, reproduce.presets(norm="linf", seeds=5, seed=2, full=False), strict=True
    ):
        assert of_ball.draw == "shared" and of_box.draw == "per-seed"
        reach = effective_radius(of_box.problem.d, of_box.adversarial.radius)
        assert reach == pytest.approx(of_ball.adversarial.radius, rel=1e-4)
        changed = {"problem": {"dictionary"}, "adversarial": {"norm", "radius"}}
        assert of_ball.model_dump(exclude=changed) == of_box.model_dump(exclude=changed)


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupted_and_killed_the_same_command_ends_with_the_same_bits(settings_file, tmp_path):
    path = settings_file(
        clean={"steps": 50}, adversarial={"steps": 20_000}, evaluation={"samples": 100}
    )
    out = tmp_path / "out"
    environment = os.environ | {
        "PYTHONPATH": str(Path(featpur_sim.__file__).parents[1]),
        # Three processes run the same programs: compile them once.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    program = """
from featpur_sim import __main__
from featpur_sim.report import run_figures as figures, run_page as report
figures.save_all = report.write_page = lambda *arguments: None
__main__.main()
"""
    command = [sys.executable, "-c", program, "run", str(path), "--out"]

    def start(folder=out):
        return popen(
            [*command, str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def saved():
        return (out / ".checkpoint" / STATE).exists()

    first = start()
    wait_until(saved, first)  # the clean phase is over
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "interrupted: the same command goes on from what it had saved." in err
    assert "Traceback" not in err and not (out / RESULT).exists() and saved()

    leftover = out / ".featpur-0123.npz"
    leftover.write_bytes(b"of a process that was killed while it wrote")
    second = start()
    wait_until(lambda: not leftover.exists(), second)  # it has claimed the folder
    time.sleep(1.0)
    second.kill()
    second.communicate(timeout=60)
    assert second.returncode == -signal.SIGKILL and not (out / RESULT).exists() and saved()

    third = start()
    _, err = third.communicate(timeout=300)
    assert third.returncode == 0
    assert "adversarial training" in err and "clean training" not in err
    whole = start(tmp_path / "whole")
    whole.communicate(timeout=300)
    uninterrupted = load_result(tmp_path / "whole")
    resumed = load_result(out)
    with np.load(out / WEIGHTS) as some, np.load(tmp_path / "whole" / WEIGHTS) as all_at_once:
        for name in all_at_once:
            np.testing.assert_array_equal(some[name], all_at_once[name])
    assert differing(resumed, uninterrupted) == []
    assert np.isfinite(uninterrupted.along_loss).all()


# --- files of the user, folders that cannot be written to -----------------------------------------


def test_the_users_own_files_are_not_replaced(featpur, settings_file, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "run_experiment", lambda *a, **k: pytest.fail("computed"))
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "config.toml").write_bytes(b"# my comment\n" + settings_file().read_bytes())
    before = listing(tmp_path)
    code, out, err = featpur("run", folder / "config.toml", "--out", folder)
    assert (code, out) == (2, "") and "config.toml exists and is not from" in err
    (folder / "dynamics.nc").write_bytes(b"of the user")
    code, out, err = featpur("dynamics", folder / "config.toml", "--out", folder)
    assert (code, out) == (2, "") and "would be replaced" in err and "dynamics.nc" in err
    (folder / "dynamics.nc").unlink()
    assert listing(tmp_path) == before


def test_no_command_replaces_what_the_user_put_into_its_folder(
    featpur, mine, settings_file, monkeypatch
):
    for name in ("runs.saved.evaluate_run", "runs.attack.attack_run", "runs.compare.compare_run",
                 "runs.readouts.readout_run", "runs.reduced.reduced_run",
                 "theory.dynamics.exponents.solve_all", "report.run_figures.save_all"):  # fmt: skip
        monkeypatch.setattr(f"featpur_sim.{name}", lambda *a, **k: pytest.fail("computed"))
    shutil.copytree(mine, mine / "second")
    dynamics = ["dynamics", settings_file(), "--out", mine]
    before = listing(mine)
    for name, *arguments in (
        ("evaluation.nc", "evaluate", mine),
        ("evaluation.nc", "evaluate", mine, "--protocol", "quick", "--json"),
        ("evaluation.json", "evaluate", mine, "--protocol", "quick"),
        ("compare.json", "compare", mine),
        ("figures/comparison.pdf", "compare", mine),
        ("readouts.json", "readouts", mine),
        ("figures/readouts.pdf", "readouts", mine),
        ("dynamics.nc", *dynamics),
        ("figures/dynamics.png", *dynamics),
        ("dynamics.json", *dynamics, "--exponents"),
        ("dynamics_scorecard.json", *dynamics, "--exponents"),
        ("figures/exponents.png", *dynamics, "--exponents"),
        ("scorecard.json", "report", mine),
        ("report.html", "report", mine),
        (f"figures/{next(iter(figures.ALL))}.png", "report", mine),
        (f"second/figures/{next(iter(figures.ALL))}.png", "report", mine),
    ):
        (mine / name).write_bytes(b"of the user")
        code, out, err = featpur(*arguments)
        assert (code, out) == (2, "") and err.count("\n") == 1, arguments
        assert f"would be replaced: {mine / name}. Move it" in err
        assert listing(mine) == before | {Path(name): b"of the user"}
        (mine / name).unlink()
        if Path(name) in before:
            (mine / name).write_bytes(before[Path(name)])


def test_an_empty_path_does_not_stand_for_the_current_folder(
    featpur, settings_file, tmp_path, monkeypatch
):
    path = settings_file()
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    for arguments in (
        ["run", path, "--out", ""],
        ["reproduce", "--out="],
        ["sweep", path, "-o", ""],
        ["dynamics", path, "--out", ""],
        *(
            [command, ""]
            for command in ("evaluate", "certify", "compare", "readouts", "report", "fit", "init")
        ),
    ):
        code, out, err = featpur(*arguments)
        assert (code, out) == (2, "") and "the path is empty" in err, arguments
    assert listing(tmp_path) == before


def test_init_does_not_replace_a_link(featpur, tmp_path):
    (tmp_path / "link.toml").symlink_to(tmp_path / "nothing")
    code, _, err = featpur("init", tmp_path / "link.toml")
    assert code == 2 and "exists already" in err and (tmp_path / "link.toml").is_symlink()


def test_a_read_only_folder_is_refused_first_or_the_result_is_printed(
    featpur, mine, settings_file, read_only, few_attacks, monkeypatch
):
    before = listing(mine)
    path = settings_file()
    with monkeypatch.context() as patch:
        for name in ("runs.saved.evaluate_run", "runs.attack.attack_run",
                     "runs.compare.compare_run", "runs.readouts.readout_run",
                     "runs.reduced.reduced_run",
                     "report.run_figures.save_all", "report.reproduce.run_experiment"):  # fmt: skip
            patch.setattr(f"featpur_sim.{name}", lambda *a, **k: pytest.fail("computed"))
        for arguments in (
            ["evaluate", mine],
            ["evaluate", mine, "--protocol", "quick"],
            ["compare", mine],
            ["readouts", mine],
            ["report", mine],
            ["dynamics", path, "--out", mine],
            ["run", path, "--out", mine, "--overwrite"],
        ):
            code, out, err = featpur(*arguments)
            assert (code, out) == (2, "") and err.count("\n") == 1, arguments
            assert "cannot write to the folder" in err and "Read-only file system" in err
    code, out, err = featpur("evaluate", mine, "--json", "--quiet", "--samples", "100")
    assert code == 0 and {row["attack"] for row in strict(out)} == {"FGM", "PGD"}
    assert "Read-only" in err and "printed only" in err and err.count("\n") == 1
    assert listing(mine) == before
