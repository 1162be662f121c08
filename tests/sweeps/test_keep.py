"""What a sweep keeps of training and weights, beside what it measures."""

import numpy as np
import pytest
from quick_survey import quick_survey

from featpur_sim.measure.weights import strongest
from featpur_sim.runs.config import ConfigError
from featpur_sim.sweeps import run as sweep_run
from featpur_sim.sweeps.batch import compute
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.keep import kept, numbered
from featpur_sim.sweeps.plan import make_plan
from featpur_sim.sweeps.run import load_sweep, run_sweep

SETTINGS = {
    "name": "kept",
    "seeds": 2,
    "preset": "dense-regime",
    "keep": ["training", "weights"],
    "axes": {"d": [16, 24], "k": [2, 3]},
    "run": {
        "records": 3,
        "network": {"neurons": 30},
        "clean": {"steps": 20, "batch": 32},
        "adversarial": {"steps": 10, "batch": 32},
    },
}


def keeping(problem, run, *others, keep=(), memory=0):
    """The quick survey with what is kept."""
    found = quick_survey(problem, run, *others)
    also = kept(problem, run, keep)
    return found.assign(also).assign_coords(numbered(also))


def test_batches_of_other_sizes_stand_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "_survey", lambda: keeping)
    sweep = parse_sweep(SETTINGS)
    assert sweep.keep == ("training", "weights")
    run_sweep(sweep, tmp_path / "out")
    found = load_sweep(tmp_path / "out")
    # d = 16 has no features 16 to 23.
    shown = found.shown_coordinates
    assert shown.dims == ("point", "seed", "phase", "shown", "feature")
    assert shown.shape[3:] == (24, 24)
    assert np.isnan(shown[:2, ..., 16:]).all() and np.isfinite(shown[2:]).all()
    assert np.isfinite(shown[:2, ..., :16]).all()
    steps = found.along_step.isel(point=0, seed=0)
    assert steps.sel(phase="clean").values.tolist() == [0, 2, 9, 20]
    assert steps.sel(phase="adversarial").values.tolist() == [0, 1, 4, 10]
    for name in ("along_loss", "along_accuracy", "along_training_loss", "along_bias"):
        assert found[name].shape == (4, 2, 3, 4), name


def test_they_are_those_of_the_training():
    """Coordinates and curves of a lane, by hand from the networks that the survey saw."""
    seen = []

    def spy(problem, run, *others):
        seen.append((problem, run))
        return keeping(problem, run, *others, keep=("training", "weights"))

    sweep = parse_sweep(SETTINGS)
    task = make_plan(sweep, 2**30).tasks[0]
    found = compute(task, spy)
    (problem, run), lane = seen[0], 2
    clean = np.asarray(run.networks["clean"].weights[lane])
    C = clean if problem.M is None else clean @ np.asarray(problem.M[lane])
    order = found.shown_neuron[lane].values.astype(int)
    np.testing.assert_allclose(found.shown_coordinates.sel(phase="clean")[lane], C[order], 1e-5)
    strength = np.abs(C).max(1)
    assert strength[order].min() >= np.delete(strength, order).max()
    loss = found.along_loss[lane].sel(phase=["clean", "adversarial"])
    np.testing.assert_array_equal(loss.values.ravel(), run.records["loss"][:, lane])
    np.testing.assert_array_equal(found.wstar[lane], problem.wstar[lane])


def test_the_strongest_stand_in_the_order_of_their_features():
    C = np.array([[0.1, 0, 9], [0, -8, 1], [7, 1, 0], [0, 0.2, 0.1]])
    assert strongest(C, 2).tolist() == [1, 0]
    assert strongest(C, 9).tolist() == [2, 1, 3, 0]
    assert strongest(np.stack([C, C[::-1]]), 2).tolist() == [[1, 0], [2, 3]]


@pytest.mark.parametrize("keep", ["weights", ["weight"], [1], 2, [["weights"]]])
def test_what_cannot_be_kept_is_refused(keep):
    with pytest.raises(ConfigError, match="keep = .*must be a list of 'training', 'weights'"):
        parse_sweep(SETTINGS | {"keep": keep})


def test_another_survey_keeps_what_it_returns(tmp_path):
    with pytest.raises(ConfigError, match="keep is for the default survey"):
        run_sweep(parse_sweep(SETTINGS), tmp_path / "out", survey=quick_survey)
    assert not (tmp_path / "out").exists()
