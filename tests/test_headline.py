"""The effects that the package exists to show, in the run of the README's first command.

FEATPUR_HEADLINE names its folder where it has run; otherwise it runs here, for minutes.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import featpur_sim as fp

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if "FEATPUR_HEADLINE" in os.environ:
        return Path(os.environ["FEATPUR_HEADLINE"])
    made = tmp_path_factory.mktemp("headline") / "out"
    command = [sys.executable, "-m", "featpur_sim", "reproduce", "--quiet", "--out", made]
    subprocess.run(command, check=True)
    return made


def read(folder):
    result = fp.load(folder).data
    assert list(result.status.values) == ["ok"] * 5
    return result


def at_tau(values, **labels):
    """One number per seed."""
    place = int(np.argmin(np.abs(values.relative_radius.values - 1)))
    return values.isel(radius=place).sel(labels)


def test_dense_regime_falls_to_one_direction_and_is_purified(folder):
    result = read(folder)
    clean, adversarial = (
        at_tau(result.robust_accuracy, attack="PGD", phase=phase)
        for phase in ("clean", "adversarial")
    )
    assert float((adversarial - clean).min()) >= 0.2
    dense = at_tau(result.robust_accuracy, attack="dense mixture", phase="clean")
    assert float(np.abs(dense - clean).max()) <= 0.02
    ratio = np.abs(result.kappa_over_alpha)
    fall = ratio.sel(phase="clean") / ratio.sel(phase="adversarial")
    assert float(fall.min()) >= 50
    noise = at_tau(result.robust_accuracy, attack="random noise", phase="clean")
    unharmed = result.robust_accuracy.sel(attack="FGM", phase="clean").isel(radius=0)
    assert float((unharmed - noise).mean()) < 0.01


def test_sparse_regime_keeps_directions_and_is_purified(folder):
    result = read(folder / "sparse-regime")
    carriers = result.carrier.sel(phase="clean") == 1

    def overlap(name):
        return result[f"theta_{name}"].where(carriers).median("neuron")

    assert float(overlap("clean_adversarial").min()) >= 0.85
    assert float(overlap("init_clean").max()) <= 0.5
    assert float(overlap("init_adversarial").max()) <= 0.5
    ratio = np.abs(result.kappa_over_alpha)
    fall = ratio.sel(phase="clean") / ratio.sel(phase="adversarial")
    assert float(fall.min()) >= 10
    clean, adversarial = (
        at_tau(result.robust_accuracy, attack="PGD", phase=phase)
        for phase in ("clean", "adversarial")
    )
    assert float((adversarial - clean).min()) > 0.1


@pytest.mark.parametrize("regime", [".", "sparse-regime"])
def test_what_is_proved_nearly_meets_what_is_attacked(folder, regime):
    result = read(folder / regime)
    certified, attacked = (
        at_tau(result[f"{side}_accuracy"], phase="adversarial")
        for side in ("certified", "attacked")
    )
    assert 0 <= float((attacked - certified).min()) <= float((attacked - certified).max()) <= 0.03
    assert float(certified.min()) > 0.75
