"""The two effects that the package exists to show, at d = 64 with three seeds (minutes)."""

import numpy as np
import pytest

from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import dense_regime, sparse_regime

pytestmark = pytest.mark.slow


def run(config):
    """The preset, scored at the training radius alone."""
    evaluation = {"evaluation": {"radii": [0.0, 1.0], "samples": 1000}}
    result = run_experiment(parse(config.model_dump() | evaluation)).result
    assert list(result.status.values) == ["ok"] * 3
    return result


def at_tau(result, attack, phase):
    return result.robust_accuracy.sel(attack=attack, phase=phase).isel(radius=1)


def test_dense_regime_falls_to_one_direction_and_is_purified():
    result = run(dense_regime(d=64, seeds=3))
    clean, adversarial = (at_tau(result, "PGD", phase) for phase in ("clean", "adversarial"))
    assert float((adversarial - clean).min()) >= 0.2
    assert float(np.abs(at_tau(result, "dense mixture", "clean") - clean).max()) <= 0.02
    ratio = np.abs(result.kappa_over_alpha)
    fall = ratio.sel(phase="clean") / ratio.sel(phase="adversarial")
    assert float(fall.min()) >= 50
    loss = at_tau(result, "random noise", "clean")
    unharmed = result.robust_accuracy.sel(attack="FGM", phase="clean").isel(radius=0)
    assert float((unharmed - loss).mean()) < 0.01


def test_sparse_regime_keeps_directions_and_matches_k_over_d():
    result = run(sparse_regime(d=64, seeds=3))
    carriers = result.carrier.sel(phase="clean") == 1

    def overlap(name):
        return result[f"theta_{name}"].where(carriers).median("neuron")

    assert float(overlap("clean_adversarial").min()) >= 0.85
    assert float(overlap("init_clean").max()) <= 0.5
    assert float(overlap("init_adversarial").max()) <= 0.5
    ratio = result.kappa_over_alpha.sel(phase="clean") / (5 / 64)
    assert 1 / 1.5 <= float(ratio.min()) and float(ratio.max()) <= 1.5
    rise = at_tau(result, "PGD", "adversarial") - at_tau(result, "PGD", "clean")
    assert float(rise.min()) > 0.1
