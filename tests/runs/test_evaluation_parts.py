"""An evaluation that is cut off goes on after its last part, to the same bits."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from featpur_sim._ground.disk import DiskWarning
from featpur_sim._ground.meter import Silent
from featpur_sim.cli.progress import meter
from featpur_sim.runs.config import parse
from featpur_sim.runs.evaluation_parts import FOLDER, EvaluationParts
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.training.checkpoint import STATE

# The thresholds of the pure network; 6 networks clean and from both sides, 3 under two attacks and
# 3 under one; test points without a label, snapshots, margins of 3 networks.
SNAPSHOTS = 4
PARTS = 1 + 6 * 2 + 3 * 2 + 3 + 1 + SNAPSHOTS + 3


class Cut(Exception):
    pass


@pytest.fixture
def settings(tiny, few_attacks):
    """Settings of a run with every kind of part, as small as can be."""

    def make(**evaluation):
        small = {"steps": 12, "batch": 8}
        return parse(
            tiny(
                records=2,
                problem={"d": 8, "k": 2},
                network={"neurons": 8},
                clean=small,
                adversarial=small,
                evaluation={"samples": 100, "pgd_steps": 2, "certify_points": 10} | evaluation,
            )
        )

    return make


@pytest.fixture
def computed(monkeypatch):
    """The names of the parts that are computed; ``computed.limit`` parts, then `Cut`."""

    class Names(list):
        limit: int | None = None

    names, kept = Names(), EvaluationParts.kept

    def counted(self, name, compute):
        def counting():
            if len(names) == names.limit:
                raise Cut
            names.append(name)
            return compute()

        return kept(self, name, counting)

    monkeypatch.setattr(EvaluationParts, "kept", counted)
    return names


def cut_off(config, folder, computed, after):
    """A run that stops after so many parts; ``computed`` then starts at none."""
    computed.limit = after
    with pytest.raises(Cut):
        run_experiment(config, checkpoint=folder)
    assert len(computed) == after
    computed.clear()
    computed.limit = None


def require_same(one, other):
    assert set(one.result.variables) == set(other.result.variables)
    for name, variable in one.result.variables.items():
        found = other.result[name].values
        assert found.dtype == variable.dtype and found.tobytes() == variable.values.tobytes(), name
    for name, array in one.weights.items():
        assert array.tobytes() == other.weights[name].tobytes(), name


def test_every_part_is_computed_once_and_the_bits_are_those_of_one_piece(
    settings, computed, tmp_path
):
    config = settings()
    whole = run_experiment(config)
    assert len(set(computed)) == len(computed) == PARTS
    everything = list(computed)
    computed.clear()
    for after in (1, 20, PARTS - 1):
        folder = tmp_path / str(after)
        cut_off(config, folder, computed, after)
        require_same(whole, run_experiment(config, checkpoint=folder))
        assert computed == everything[after:]
        computed.clear()
    assert np.isfinite(whole.result.certified_accuracy.values).any()
    require_same(whole, run_experiment(config, checkpoint=folder))  # killed while it wrote
    assert computed == []


def test_an_interruption_between_two_networks_loses_nothing(settings, computed, tmp_path):
    class Interrupted(Silent):
        def at(self, stage, done, total, detail=""):
            if (stage, done) == ("attacks", 6):  # two networks, certified and under two attacks
                raise Cut

    with pytest.raises(Cut):
        run_experiment(settings(), meter=Interrupted(), checkpoint=tmp_path)
    first = len(computed)
    run_experiment(settings(), checkpoint=tmp_path)
    # The third network's clean accuracy comes before its first attack.
    assert first == 1 + 2 * 4 + 1 and len(computed) == PARTS == len(set(computed))


def test_other_settings_share_no_part(settings, computed, tmp_path):
    cut_off(settings(), tmp_path, computed, 12)
    other = settings(samples=120)
    resumed = run_experiment(other, checkpoint=tmp_path)
    assert len(computed) == PARTS
    require_same(run_experiment(other), resumed)


def test_damaged_parts_are_computed_again(settings, computed, tmp_path):
    config = settings()
    cut_off(config, tmp_path, computed, 12)
    archive = tmp_path / FOLDER / STATE
    with np.load(archive) as saved:
        arrays = dict(saved)
    arrays["array.thresholds"] += 0.01
    np.savez(archive, **arrays)
    with pytest.warns(DiskWarning, match="computed anew"):
        run_experiment(config, checkpoint=tmp_path)
    assert len(computed) == PARTS


def test_without_a_folder_nothing_is_kept():
    parts = EvaluationParts()
    assert [int(parts.kept("a", lambda v=v: np.array(v))) for v in (1, 2)] == [1, 2]
    assert len(parts) == 0


def lines(config, folder, quiet=False):
    console = Console(width=60, file=(log := io.StringIO()))
    with meter(config.name, quiet=quiet, console=console) as shown:
        run_experiment(config, meter=shown, checkpoint=folder)
    return re.findall(r"^tiny: .*\.$", log.getvalue(), re.MULTILINE)


def test_a_resumed_run_says_where_it_goes_on(settings, computed, tmp_path):
    class Interrupted(Silent):
        def at(self, stage, done, total, detail=""):
            if (stage, done) == where:
                raise Cut

    config = settings()
    for where, line in (
        (("clean training", 12), "going on at step 0 of 12 of the adversarial phase"),
        (("adversarial training", 12), "training is done"),
    ):
        folder = tmp_path / where[0]
        with pytest.raises(Cut):
            run_experiment(config, meter=Interrupted(), checkpoint=folder)
        assert lines(config, folder) == [f"tiny: {line}."]
        computed.clear()
    cut_off(config, tmp_path / "parts", computed, 7)
    assert lines(config, tmp_path / "parts") == [
        "tiny: training is done.",
        "tiny: 7 parts of the evaluation are done.",
    ]
    assert lines(config, tmp_path / "parts", quiet=True) == []
    # All of them were computed and saved again by the command before.
    assert lines(settings(samples=120), tmp_path / "parts") == [
        "tiny: training is done.",
        "tiny: the evaluation is computed anew (evaluation.samples 100 → 120).",
    ]
