"""A saved run read back, by the package and by a script that knows NumPy alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

from featpur_sim.claims import of_run as claims
from featpur_sim.runs.config import ConfigError, parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import ResultError, save_run
from featpur_sim.runs.saved import evaluate_run, load_run

# Reads weights.npz and nothing else: new data from the scalars, then three accuracies.
OUTSIDER = """
import json, sys
import numpy as np

a = np.load(sys.argv[1])
d, D, k, tau = int(a["d"]), int(a["D"]), float(a["k"]), float(a["tau"])
own = np.ndim(a["M"]) == 3 if "M" in a.files else False
rng, n, table = np.random.default_rng(5), 20_000, {}
for seed, wstar in enumerate(a["wstar"].astype(float)):
    M = (a["M"][seed] if own else a["M"]).astype(float) if "M" in a.files else np.eye(d)
    u = rng.random((n, D))
    p_one = float(a["p_one"])
    size = np.where(u < p_one / D, 1, np.where(u < (p_one + k) / D, k**-0.5, 0))
    z = size * rng.choice([-1, 1], (n, D))
    score = z @ wstar
    z, y = z[np.abs(score) > 1e-9], np.sign(score[np.abs(score) > 1e-9])
    x = z @ M.T + rng.normal(0, float(a["sigma_x"]) / d**0.5, (len(y), d))
    for phase in ("clean", "adv"):
        W, b = a[f"W_{phase}"][seed].astype(float), a[f"b_{phase}"][seed].astype(float)

        def margin(x):
            u = x @ W.T
            return y * (np.sign(u) * np.maximum(np.abs(u) - b, 0)).sum(1)

        gradient = (np.abs(x @ W.T) > b) @ W
        length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-30)
        dense = M @ wstar / np.linalg.norm(M @ wstar)
        clean = margin(x) > 0
        table[f"{seed} {phase}"] = [
            clean.mean(),
            (clean & (margin(x - tau * y[:, None] * dense) > 0)).mean(),
            (clean & (margin(x - tau * y[:, None] * gradient / length) > 0)).mean(),
        ]
    table[f"{seed} n"] = len(y)
assert not {"jax", "featpur_sim"} & set(sys.modules)
print(json.dumps(table))
"""


def outside_view(path):
    command = [sys.executable, "-I", "-c", OUTSIDER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def disagreements(result, table):
    """|difference| in standard errors: both sides are means over their own samples."""
    found = []
    for seed in range(result.sizes["seed"]):
        inside = result.test_samples * (1 - float(result.excluded_fraction[seed]))
        for phase, short in (("clean", "clean"), ("adversarial", "adv")):
            at = result.robust_accuracy.isel(seed=seed, radius=2).sel(phase=phase)
            clean = result.robust_accuracy.isel(seed=seed, radius=0, attack=0).sel(phase=phase)
            here = [float(v) for v in (clean, at.sel(attack="dense mixture"), at.sel(attack="FGM"))]
            for p, q in zip(here, table[f"{seed} {short}"], strict=True):
                error = np.sqrt(q * (1 - q) * (1 / inside + 1 / table[f"{seed} n"]))
                found.append(abs(p - q) / error)
    return found


@pytest.fixture(scope="module")
def haar(tiny, tmp_path_factory):
    """A run with a rotated dictionary and its folder."""
    experiment = run_experiment(parse(tiny(problem={"dictionary": "haar"})))
    folder = tmp_path_factory.mktemp("haar")
    save_run(folder, experiment.result, experiment.weights, claims.scorecard(experiment.result))
    return experiment, folder


def test_weights_alone_reproduce_the_accuracies(tiny_run, tiny_folder, haar, apart):
    # Twelve comparisons each; 4 standard errors are passed by chance once in a thousand runs.
    table = outside_view(tiny_folder / "weights.npz")
    assert max(disagreements(tiny_run.result, table)) < 4
    for experiment, folder in (haar, apart):
        assert max(disagreements(experiment.result, outside_view(folder / "weights.npz"))) < 4
    # The bound has teeth: the two phases cannot be mistaken for each other.
    swapped = {k.replace("adv", "x").replace("clean", "adv").replace("x", "clean"): v
               for k, v in table.items()}  # fmt: skip
    assert max(disagreements(tiny_run.result, swapped)) > 4


@pytest.mark.parametrize("which", ["identity", "haar", "apart"])
def test_a_loaded_run_scores_as_when_it_was_made(which, tiny_run, tiny_folder, request):
    experiment, folder = (
        (tiny_run, tiny_folder) if which == "identity" else request.getfixturevalue(which)
    )
    saved = load_run(folder)
    assert saved.config == parse(saved.config.model_dump())
    again = evaluate_run(saved, seed=0).robust_accuracy
    then = experiment.result.robust_accuracy
    again = again.sel(attack=then.attack)
    # Bit for bit but for the rotation: it and back moves weights by rounding, a few points of 1700.
    allowed = 4 / 1700 if which == "haar" else 0.0
    assert float(np.abs(again - then).max()) <= allowed
    assert np.isfinite(again.sel(attack="FGM")).all()
    assert again.dims == then.dims and again.attrs["source"] == "[M] §5"


def test_the_initial_bias_comes_back(tiny, tmp_path, few_attacks):
    start = tiny(clean={"steps": 1, "bias": {"start": 0.02, "stop": 0.05}})
    start["adversarial"] |= {"steps": 1}
    experiment = run_experiment(parse(start))
    save_run(tmp_path, experiment.result, experiment.weights, [])
    saved = load_run(tmp_path)
    # One step trains nothing, and failed seeds are not evaluated.
    assert set(saved.result.status.values) == {"untrained"}
    saved = saved._replace(result=saved.result.assign(status=("seed", ["ok"] * start["seeds"])))
    np.testing.assert_array_equal(saved.networks["init"].bias, np.float32(0.02))
    again = evaluate_run(saved, seed=0).robust_accuracy
    np.testing.assert_array_equal(again, experiment.result.robust_accuracy)


def test_fresh_points_differ_within_sampling_error(tiny_run, tiny_folder):
    saved = load_run(tiny_folder)
    fresh = evaluate_run(saved, seed=1, radii=[0.0, 0.5, 1.0]).robust_accuracy
    then = tiny_run.result.robust_accuracy
    difference = np.abs(fresh.values - then.values)
    assert 0 < difference.max() < 4 * np.sqrt(2 * 0.25 / 1700)
    assert evaluate_run(saved, seed=1, radii=[0.0, 0.5, 1.0]).robust_accuracy.identical(fresh)


def test_new_settings_are_used_and_checked(tiny_folder, few_attacks, unchecked):
    saved = load_run(tiny_folder)
    scores = evaluate_run(saved, samples=100, steps=1, restarts=1, radii=[0.0, 1.0, 3.0])
    assert scores.attrs["samples"] == 100 and scores.attrs["pgd_steps"] == 1
    np.testing.assert_allclose(scores.radius, [0, 0.17, 0.51])
    with pytest.raises(ConfigError, match=r"evaluation.samples = 5"):
        evaluate_run(saved, samples=5)
    with pytest.raises(ConfigError, match=r"radii must rise strictly and hold 0 and 1"):
        evaluate_run(saved, radii=[0.0, 3.0])


def damaged(tiny_run, folder, **changes):
    """The run with some arrays replaced, or left out if None."""
    arrays = tiny_run.weights | changes
    arrays = {name: value for name, value in arrays.items() if value is not None}
    save_run(folder, tiny_run.result, arrays, [])
    return folder


def test_files_of_two_runs_are_not_mixed(tiny_run, tmp_path):
    other = -tiny_run.weights["wstar"]
    with pytest.raises(ResultError, match=r"w\* in .* mixes files of two runs"):
        load_run(damaged(tiny_run, tmp_path, wstar=other))


@pytest.mark.parametrize("name", ["W0", "W_clean", "W_adv", "b_clean", "b_adv", "wstar"])
def test_missing_and_misshapen_arrays_are_named(tiny_run, tmp_path, name):
    with pytest.raises(ResultError, match=f"^{name} in .* has shape no such array"):
        load_run(damaged(tiny_run, tmp_path, **{name: None}))
    with pytest.raises(ResultError, match=rf"^{name} in .* has shape \(1,.*settings give \(2,"):
        load_run(damaged(tiny_run, tmp_path, **{name: tiny_run.weights[name][:1]}))
