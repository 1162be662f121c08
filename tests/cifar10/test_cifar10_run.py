"""The command: one line for bad input, a whole tiny run, and resuming it."""

import json
import sys

import numpy as np
import pytest
import xarray as xr
from generated_images import generated, write

from experiments.cifar10 import attack, pictures, run
from experiments.cifar10.__main__ import main
from experiments.cifar10.settings import CLEAN, CONTINUED, HEADLINE, INIT, Settings, variants
from experiments.cifar10.tables import summary

TINY = "--width 4 --epochs 2 --adversarial-epochs 1 --batch 20 --seeds 2 --ranks --atoms 20".split()


@pytest.fixture
def command(capsys):
    """Runs the command: (code, stdout, stderr)."""

    def call(*arguments):
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", 1], "--seeds must be ≥ 2"),
        (["--net", "vgg"], "--net must be alexnet or resnet, got vgg"),
        (["--stride", 3], "--stride must be 1 or 2, got 3"),
        (["--l2", -1], "--l2 must be > 0 and finite, got -1.0"),
        (["--ranks", 1, -1], "--ranks must be ≥ 0"),
        (["--learning-rate", "nan"], "--learning-rate must be > 0"),
        (["--batch", 81], "batch must be from 1 to the 80 training images, got 81"),
    ],
)
def test_bad_settings_get_one_line(command, data_folder, tmp_path, options, message):
    code, out, err = command("--data", data_folder, "--out", tmp_path / "out", *options)
    assert code == 2 and out == "" and message in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_bad_data_gets_one_line_and_nothing_is_written(command, tmp_path):
    write(tmp_path / "data_batch_1.bin", generated(5, 0))
    path = write(tmp_path / "test_batch.bin", generated(5, 1))
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = command("--data", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "test_batch.bin has 15364 bytes, which is no multiple of 3073" in err
    assert not (tmp_path / "out").exists()


def test_without_scikit_learn_the_command_says_what_is_left_out(
    command, data_folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    # A batch too large ends the run at once.
    _, _, err = command("--data", data_folder, "--out", tmp_path / "out", "--batch", 81)
    note, error = err.splitlines()
    assert "density of filters is left out" in note and "pip install '.[cifar]'" in note
    assert error.startswith("error: batch")


def test_help_teaches(command):
    code, out, _ = command("--help")
    assert code == 0 and "data_batch_*.bin" in out and "continues where it stopped" in out


def test_the_networks_of_a_run():
    names = [variant.name for variant in variants(Settings(ranks=(0, 4)))]
    assert names == [
        "continued",
        "FGM l2",
        "PGD l2",
        "FGM linf",
        "PGD linf",
        "FGM l2, rank 0",
        "FGM l2, rank 4",
    ]


@pytest.fixture
def few(monkeypatch):
    """Two variants and one attack, for each is a program to compile; few patches."""
    monkeypatch.setattr(run, "PATCHES", 1000)
    monkeypatch.setattr(run, "variants", lambda settings: variants(settings)[:2])
    stages = attack.stages
    monkeypatch.setattr(attack, "stages", lambda *budget: stages(*budget)[:1])


@pytest.mark.slow
def test_a_run_leaves_everything_and_goes_on(command, data_folder, tmp_path, few, monkeypatch):
    arguments = ("--data", data_folder, "--out", tmp_path / "out", *TINY)
    code, out, err = command(*arguments)
    assert code == 0, err
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"accuracy.png", "overlap.png", "density.png", "filters.png", "neurons-3.png"} <= names
    assert "rank.png" not in names
    first = xr.load_dataset(tmp_path / "out" / "result.nc")
    assert list(first.network.values) == [INIT, CLEAN, CONTINUED, HEADLINE]
    assert (first.robust_accuracy <= first.accuracy).all()
    np.testing.assert_allclose(first.theta_clean.sel(network=CLEAN), 1, atol=1e-5)
    np.testing.assert_allclose(first.kept_norm**2 + first.removed_norm**2, 1, atol=1e-4)
    assert json.loads(first.attrs["settings"])["width"] == 4
    assert (tmp_path / "out" / "summary.md").read_text(encoding="utf-8").strip() in out

    (tmp_path / "out" / "result.nc").unlink()
    (tmp_path / "out" / "scores" / "1-FGM-l2.json").unlink()
    # Nothing is trained again; the figures are drawn from the same numbers.
    monkeypatch.setattr(run, "train", None)
    monkeypatch.setattr(pictures, "draw", lambda *_: None)
    assert command(*arguments, "--quiet") == (0, "", "")
    xr.testing.assert_identical(first, xr.load_dataset(tmp_path / "out" / "result.nc"))

    # What needs no scikit-learn is the same without it.
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert command(*arguments, "--quiet")[0] == 0
    rest = xr.load_dataset(tmp_path / "out" / "result.nc")
    assert "atoms" not in rest
    xr.testing.assert_identical(first[list(rest)], rest)

    code, _, err = command(*arguments, "--width", 8)
    assert code == 2 and "holds another run (settings.width 4 → 8)" in err


def test_the_tables_give_means_and_intervals():
    networks = [INIT, CLEAN, CONTINUED, HEADLINE]
    shape = ("seed", "network")
    value = np.array([0.80, 0.82, 0.84])[:, None] + np.array([0, 0, 0, 0.1])
    fields = ("theta_init", "theta_clean", "kept_norm", "removed_norm")
    result = xr.Dataset(
        {
            "accuracy": (shape, value),
            "robust_accuracy": (
                (*shape, "norm", "relative_radius"),
                value[..., None, None] * np.ones((1, 1, 2, 2)),
            ),
            **{name: ((*shape, "filter"), value[..., None] * np.ones(5)) for name in fields},
            "atoms": ((*shape, "first_filter"), 10 * value[..., None] * np.ones(2)),
            "atoms_scrambled": ((*shape, "first_filter"), 20 * value[..., None] * np.ones(2)),
            "patch_atoms": ("patch", np.full(3, 4)),
            "patch_atoms_scrambled": ("patch", np.full(3, 8)),
        },
        coords={
            "network": networks,
            "norm": ["l2", "linf"],
            "relative_radius": [0.5, 1.0],
            "layer": ("filter", ["a", "a", "b", "b", "b"]),
        },
    )
    text = summary(result, {"l2": 0.5, "linf": 0.01}, HEADLINE)
    # Student's t with two degrees of freedom: 4.303 · 0.02/√3 = 0.050.
    assert "| clean | 0.820 ± 0.050 |" in text
    assert "| ℓ2 0.25 | ℓ2 0.5 | ℓ∞ 0.005 | ℓ∞ 0.01 |" in text
    assert "| clean | 8.20 ± 0.50 | 16.40 ± 0.99 | 0.500 ± 0.000 |" in text
    gains = ["0.100 ± 0.000"] * 4 + ["1.00 ± 0.00", "2.00 ± 0.00", "0.000 ± 0.000"]
    assert "| FGM ℓ2 | " + " | ".join(gains) + " |" in text

    without = summary(
        result.drop_dims(["first_filter", "patch"]), {"l2": 0.5, "linf": 0.01}, HEADLINE
    )
    assert "| FGM ℓ2 | " + " | ".join(gains[:4]) + " |" in without
    assert "| clean | 0.820 ± 0.050 |" in without and "atoms" not in without.lower()
