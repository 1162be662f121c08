"""The closure of a run: thresholds and steps of its settings, one start for each of its seeds."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim._ground.meter import Silent
from featpur_sim.claims.of_closure import save_closure
from featpur_sim.runs.build import make_network, make_problem
from featpur_sim.runs.closure import FIELDS, closure_run, thresholds_of
from featpur_sim.runs.config import dump, parse
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime

FEW = {"steps": 6, "batch": 32}


def test_a_run_has_its_closure(tiny):
    config = parse(tiny(clean=FEW, adversarial=FEW))
    rows = closure_run(config, records=2)
    assert [(row["phase"], row["step"]) for row in rows] == [
        (phase, step) for phase in ("clean", "adversarial") for step in (0, 3, 6)
    ]
    assert all(len(row[name]) == config.seeds for row in rows for name in FIELDS)
    assert rows == closure_run(config, records=2)
    assert rows[2]["alpha"][0] != rows[2]["alpha"][1]
    # The largest coordinate of every neuron towards the label, at the start.
    network = make_network(config, seed_keys(config)[0][0])
    coordinates = np.asarray(network.weights * make_problem(config, 1).wstar)
    largest = coordinates.max(axis=1)
    assert rows[0]["alpha"][0] == pytest.approx(
        largest[largest >= 0.5 * largest.max()].mean(), rel=1e-5
    )


class CutOff(Exception):
    """Stands for Ctrl-C or a kill."""


class Cutting(Silent):
    """A meter that ends the work after some records, and keeps what it was told."""

    def __init__(self, after):
        self.after, self.started, self.notes = after, None, []

    def at(self, stage, done, total, detail=""):
        self.started = done if self.started is None else self.started
        if done == self.after:
            raise CutOff

    def note(self, sentence):
        self.notes.append(sentence)


@pytest.mark.parametrize("after", [2, 3, 5])
def test_a_closure_that_was_cut_off_goes_on_bit_for_bit(tiny, tmp_path, after):
    """In the clean phase, at its end, and in the adversarial phase."""
    config = parse(tiny(clean=FEW, adversarial=FEW))
    with pytest.raises(CutOff):
        closure_run(config, records=2, directory=tmp_path, every=0, meter=Cutting(after))
    went_on = Cutting(None)
    rows = closure_run(config, records=2, directory=tmp_path, every=0, meter=went_on)
    assert went_on.started == after and went_on.notes[0].endswith(f" {after} of 6 looks are done.")
    assert rows == closure_run(config, records=2)
    save_closure(tmp_path, rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "population.json"]


def test_a_closure_of_other_settings_is_not_gone_on_with(tiny, tmp_path):
    config = parse(tiny(clean=FEW, adversarial=FEW))
    other = parse(tiny(clean=FEW | {"learning_rate": 0.25}, adversarial=FEW))
    closure_run(other, records=2, directory=tmp_path, every=0)
    anew = Cutting(None)
    assert closure_run(config, records=2, directory=tmp_path, meter=anew) == closure_run(
        config, records=2
    )
    assert anew.started == 0 and "clean.learning_rate 0.25 → " in anew.notes[0]


def test_the_command_takes_smoothed_gates(tiny, featpur, tmp_path):
    smooth = {"smoothing": "closed", "sigma_rho": 0.02}
    config = parse(tiny(clean=FEW, adversarial=FEW, network=smooth))
    file, out = tmp_path / "run.toml", tmp_path / "out"
    file.write_text(dump(config), encoding="utf-8")
    code, _, said = featpur("dynamics", file, "--out", out)
    assert (code, out.exists()) == (2, False) and "network.smoothing = 'closed'" in said
    assert featpur("dynamics", file, "--population", "--out", out, "--quiet") == (0, "", "")
    rows = json.loads((out / "population.json").read_text(encoding="utf-8"))
    assert rows == closure_run(config)
    plain = closure_run(parse(tiny(clean=FEW, adversarial=FEW)))
    assert rows[-1]["alpha"] != plain[-1]["alpha"]


def test_thresholds_are_those_of_the_schedule(tiny):
    ramp = parse(tiny(clean={"steps": 10, "bias": {"stop": 0.05, "fraction": 0.5}}))
    found = thresholds_of(ramp, "clean", jnp.zeros(3))
    np.testing.assert_allclose(found.absolute, np.minimum(np.arange(11) / 5, 1) * 0.05, rtol=1e-5)
    assert not found.relative.any()
    own = thresholds_of(sparse_regime(d=16, k=4), "clean", jnp.zeros(3))
    assert float(own.relative[0]) == pytest.approx(1.1)
    assert float(own.relative[-1]) == pytest.approx(0.19) and not own.absolute.any()
    frozen = thresholds_of(ramp, "adversarial", jnp.full(3, 0.2))
    np.testing.assert_allclose(frozen.frozen, 0.2, rtol=1e-6)
    assert not (frozen.relative.any() or frozen.absolute.any())
