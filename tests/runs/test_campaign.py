"""`featpur certify` within a budget: what comes first, what is kept, how it goes on."""

import json
import shutil
from typing import Any

import equinox as eqx
import numpy as np
import pytest

from featpur_sim._ground.meter import Silent
from featpur_sim.attacks.protocol import QUICK, Protocol, Stage
from featpur_sim.certify import Effort, cascade
from featpur_sim.certify.ascent import Pace
from featpur_sim.runs import campaign as module
from featpur_sim.runs import certify as runs
from featpur_sim.runs.budget import Budget
from featpur_sim.runs.campaign import Campaign
from featpur_sim.runs.certify import STATE, certify_run, closing
from featpur_sim.runs.saved import load_run

ONE_STEP = Protocol("one step", "1", (Stage("FGM"), Stage("PGD", "given", 1, 5, 0.5)))
SETTINGS: dict[str, Any] = {
    "points": 60,
    "radii": [1.5, 2.0],
    "seeds": 1,
    "protocol": ONE_STEP,
    # Searches so short that every stage leaves something open.
    "effort": Effort(q1_steps=10, q2=Pace(steps=5), max_nodes=6),
}


class Notes(Silent):
    """A meter that keeps the notes."""

    def __init__(self, notes):
        self.note = notes.append


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Killed(BaseException):
    """No handler of the package sees it: the process is gone."""


@pytest.fixture(autouse=True)
def short_tasks(monkeypatch):
    """Several tasks in every stage, and one cheap quick attack."""
    sizes = {"cheap": 25, "attack": 7, "q2": 3, "branch": 1, "check": 20}
    monkeypatch.setattr(module, "_SIZE", sizes)
    quick = Protocol("quick", "1", (Stage("FGM"),))
    monkeypatch.setattr(module, "QUICK", quick)


@pytest.fixture(scope="module")
def saved(tiny_folder):
    return load_run(tiny_folder)


@pytest.fixture
def mine(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "mine")


@pytest.fixture(scope="module")
def known():
    """Results to compare with, by what was asked."""
    return {}


@pytest.fixture
def whole(saved, known):
    """Everything, never stopped."""
    if "whole" not in known:
        known["whole"] = timeless(certify_run(saved, **SETTINGS))
    return known["whole"]


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "seconds_per_point"} for row in rows]


def state(folder):
    with np.load(folder / STATE / "state.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {k: v for k, v in arrays.items() if "seconds" not in k and "digest" not in k}


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture
def kill_after(monkeypatch):
    """Ends the process after so many tasks, as kill −9 would."""

    def arm(tasks):
        real, left = Campaign._work, [tasks]

        def work(self, *arguments):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(self, *arguments)

        monkeypatch.setattr(Campaign, "_work", work)
        return lambda: monkeypatch.setattr(Campaign, "_work", real)

    return arm


def test_the_stages_go_over_all_networks_and_hard_points_come_last(saved, monkeypatch):
    log, bounds = [], []
    real = Campaign._work

    def work(self, name, part, place, index):
        log.append((name, place))
        if name in ("q2", "branch"):
            bounds.append((name, part.squeeze.lower[index].max()))
        return real(self, name, part, place, index)

    monkeypatch.setattr(Campaign, "_work", work)
    rows = certify_run(saved, **SETTINGS)
    stages = [name for name, _ in log]
    order = [name for at, name in enumerate(stages) if at == 0 or name != stages[at - 1]]
    assert order == ["cheap", "attack", "q2", "branch", "check"]
    # The first chunk of every network comes before the second chunk of any.
    assert [place for name, place in log if name == "cheap"] == [0, 1, 2, 3] * 3
    for stage in ("q2", "branch"):
        values = [bound for name, bound in bounds if name == stage]
        assert len(values) > 2 and values == sorted(values, reverse=True)
    for row in rows:
        assert set(row["waiting"]) == {"cheap", "attack", "q2", "branch", "check", "spent"}
        assert row["undecided"] == row["waiting"]["spent"] == sum(row["waiting"].values())


@pytest.mark.parametrize("stages", [None, ["linear", "q1", "branch"]])
def test_no_point_enters_q1_twice(saved, monkeypatch, stages):
    entered, q1_dual = [], cascade.q1_dual

    def q1(part, *arguments):
        network = bytes(part.weights)
        entered.extend(
            (network, bytes(x), tau) for x, tau in zip(part.points, part.radius, strict=True)
        )
        return q1_dual(part, *arguments)

    monkeypatch.setattr(cascade, "q1_dual", q1)
    rows = certify_run(saved, **SETTINGS, stages=stages)
    assert sum(row["by_stage"]["branch"] + row["waiting"]["spent"] for row in rows) > 0
    assert len(entered) == len(set(entered)) > 0


def test_a_network_is_decomposed_once(saved, monkeypatch):
    """Two networks, at two radii and in chunks of points."""
    calls, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    certify_run(saved, **SETTINGS, stages=["q1"])
    assert len(calls) == 2


def test_the_quick_protocol_and_cheap_stages_are_those_of_squeeze(saved, monkeypatch):
    """Without later stages a campaign is the sandwich of each network, to the bit."""
    monkeypatch.setattr(module, "QUICK", QUICK)
    monkeypatch.setattr(module, "_SIZE", module._SIZE | {"cheap": 512})
    seen = {}
    real = Campaign.sandwich

    def sandwich(self, place):
        seen[place] = real(self, place)
        part = self.parts[place].squeeze
        seen[place, "alone"] = part.anew(np.arange(len(part.points)), part.radius).run()
        return seen[place]

    monkeypatch.setattr(Campaign, "sandwich", sandwich)
    options: dict[str, Any] = SETTINGS | {"protocol": QUICK, "stages": ["linear", "q1"]}
    certify_run(saved, **options)
    for place in (0, 1):
        for name in ("lower", "upper", "stage", "float32"):
            np.testing.assert_array_equal(
                getattr(seen[place], name), getattr(seen[place, "alone"], name)
            )
        assert seen[place].evaluated == seen[place, "alone"].evaluated


def test_no_task_begins_that_the_budget_does_not_hold(saved, monkeypatch):
    """At 1 s a look at the clock, and 100 s a cheap task, two tasks fit into 350 s."""
    clock = Clock()
    real = Campaign._work

    def work(self, *arguments):
        clock.now += 100
        return real(self, *arguments)

    monkeypatch.setattr(Campaign, "_work", work)
    budget = Budget(350, clock)
    notes = []
    rows = certify_run(saved, **SETTINGS, budget=budget, meter=Notes(notes))
    assert clock.now < 360
    assert sum(row["waiting"]["cheap"] for row in rows) > 0
    assert len(notes) == 1 and notes[0].startswith("about ") and "minutes allow" in notes[0]
    last = closing(rows, "featpur certify DIR", 2)
    assert "wait for the quick attack, linear and q1" in last
    assert last.endswith("The 2 minutes ended; this goes on: featpur certify DIR --minutes 6")


def test_a_stage_is_not_judged_by_its_first_task_alone(saved, monkeypatch):
    """The first batch of Q2 takes 100 s, the others 10: they go on while time is left."""
    clock, done = Clock(), []
    budget = Budget(1e9, clock)
    real = Campaign._work

    def work(self, name, *arguments):
        if name == "q2":
            if not done:
                budget._end = clock.now + 180
            clock.now += 10 if done else 100
            done.append(name)
        return real(self, name, *arguments)

    monkeypatch.setattr(Campaign, "_work", work)
    certify_run(saved, **SETTINGS, budget=budget)
    assert 3 < len(done) < 9


def test_branch_and_bound_looks_at_the_clock_between_batches_of_nodes(saved, mine, whole):
    """A point that is cut short counts as not begun, and others come first the next time."""
    clock = Clock()
    budget = Budget(1e9, clock)
    real = Campaign._settle
    cut = []

    def settle(self, name, squeeze, index):
        if name == "branch" and not cut:
            budget._end = clock.now + 2  # runs out within this point
            before = squeeze.lower.copy()
            done = real(self, name, squeeze, index)
            assert not done
            np.testing.assert_array_equal(squeeze.lower, before)
            cut.append(self.plan[self.done].copy())
            return done
        return real(self, name, squeeze, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Campaign, "_settle", settle)
        rows = certify_run(saved, **SETTINGS, budget=budget, directory=mine)
    assert cut and sum(row["waiting"]["branch"] for row in rows) > 0
    # The arrays of a checkpoint have a prefix.
    (plan,) = (array for name, array in state(mine).items() if name.endswith("plan"))
    np.testing.assert_array_equal(plan[-1], cut[0])
    assert timeless(certify_run(saved, **SETTINGS, directory=mine)) == whole


@pytest.mark.parametrize(
    "tasks", [pytest.param(1, marks=pytest.mark.slow), 14, pytest.param(19, marks=pytest.mark.slow)]
)
def test_killed_and_resumed_gives_the_same_bits(saved, mine, tmp_path, kill_after, whole, tasks):
    revive = kill_after(tasks)
    with pytest.raises(Killed):
        certify_run(saved, **SETTINGS, directory=mine, every=0.0)
    partial = json.loads((mine / "certificate.json").read_text(encoding="utf-8"))
    assert [row["n"] for row in partial] == [60] * 4
    for row in partial:
        assert 0 <= row["certified"] <= row["attacked"] <= 1
    revive()
    notes = []
    resumed = certify_run(saved, **SETTINGS, directory=mine, every=0.0, meter=Notes(notes))
    assert notes[0].startswith("going on where an earlier command stopped: ")
    assert timeless(resumed) == whole
    fresh = shutil.copytree(mine, tmp_path / "fresh")
    shutil.rmtree(fresh / STATE)
    certify_run(saved, **SETTINGS, directory=fresh)
    equal(state(fresh), state(mine))


def test_done_work_is_not_done_again(saved, mine, monkeypatch, whole):
    certify_run(saved, **SETTINGS, directory=mine)
    monkeypatch.setattr(Campaign, "_work", lambda *arguments: pytest.fail("worked"))
    notes = []
    assert timeless(certify_run(saved, **SETTINGS, directory=mine, meter=Notes(notes))) == whole
    assert notes == ["the work was done by an earlier command."]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 2}, "(seed 1 → 2)"),
        ({"points": 59}, "(points 60 → 59)"),
        ({"radii": [1.5, 2.5]}, "(radius [1.5, 2.0] → [1.5, 2.5])"),
        ({"stages": ["linear"]}, "(stages ['linear', 'q1'] → ['linear'])"),
        ("weights", "networks.init.weights array ["),
    ],
)
def test_other_settings_or_weights_start_anew(saved, mine, kill_after, change, words):
    options: dict[str, Any] = SETTINGS | {"stages": ["linear", "q1"]}
    revive = kill_after(1)
    with pytest.raises(Killed):
        certify_run(saved, **options, directory=mine, every=0.0)
    revive()
    if change == "weights":
        networks = {
            k: eqx.tree_at(lambda n: n.weights, v, 1.5 * v.weights)
            for k, v in saved.networks.items()
        }
        saved = saved._replace(networks=networks)
    else:
        options = options | change
    notes = []
    rows = certify_run(saved, **options, directory=mine, meter=Notes(notes))
    assert "starting anew" in notes[0] and words in notes[0]
    assert timeless(rows) == timeless(certify_run(saved, **options))


def test_an_estimate_leaves_no_trace(saved, whole):
    budget = Budget(1e9, Clock())
    assert timeless(certify_run(saved, **SETTINGS, budget=budget)) == whole


def test_folders_that_cannot_be_written_are_refused_first(featpur, mine, monkeypatch):
    monkeypatch.setattr(runs, "can_write", lambda directory: False)
    monkeypatch.setattr("featpur_sim._ground.disk.can_write", lambda directory: False)
    monkeypatch.setattr(Campaign, "run", lambda self: pytest.fail("computed"))
    before = sorted(mine.rglob("*"))
    code, out, err = featpur("certify", mine, "--points", "5")
    assert (code, out) == (2, "") and "cannot write to" in err and "--json" in err
    assert err.count("\n") == 1 and sorted(mine.rglob("*")) == before
    monkeypatch.setattr(Campaign, "run", lambda self: True)
    code, out, err = featpur("certify", mine, "--points", "5", "--seeds", "1", "--json", "-q")
    assert code == 0 and [row["n"] for row in json.loads(out)] == [5] * 6
    assert sorted(mine.rglob("*")) == before


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_a_budget_is_above_zero(featpur, mine, minutes):
    code, out, err = featpur("certify", mine, "--minutes", minutes)
    assert (code, out) == (2, "") and "minutes = " in err and err.count("\n") == 1


def test_the_last_line_says_what_is_open_and_how_to_go_on(featpur, mine, monkeypatch):
    monkeypatch.setattr(Campaign, "run", lambda self: False)
    monkeypatch.setattr(Campaign, "estimate", lambda self: 0.0)
    code, _, err = featpur("certify", mine, "--points", "9", "--minutes=2", "--seed", "3")
    last = err.rstrip().splitlines()[-1]
    assert code == 0 and "points (" in last and "wait for the quick attack, linear and q1" in last
    assert last.endswith(f"featpur certify {mine} --points 9 --seed 3 --minutes 6")
