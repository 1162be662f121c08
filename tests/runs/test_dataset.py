"""The labelled result, against plain NumPy on the exported weights."""

import numpy as np
import pytest

from featpur_sim.runs.config import dump, parse
from featpur_sim.runs.dataset import PHASES

NAMES = {"init": "W0", "clean": "W_clean", "adversarial": "W_adv"}


@pytest.fixture(scope="module")
def weights(tiny_run):
    return {phase: tiny_run.weights[name].astype(float) for phase, name in NAMES.items()}


@pytest.mark.parametrize("phase", PHASES)
def test_the_decomposition_is_that_of_the_exported_weights(tiny_run, weights, phase):
    W, wstar = weights[phase], tiny_run.weights["wstar"].astype(float)
    at = tiny_run.result.sel(phase=phase)
    for seed in range(2):
        for i, w in enumerate(W[seed]):
            j = int(np.argmax(np.abs(w)))
            others = wstar[seed].copy()
            others[j] = 0
            kappa = w @ others / (others @ others)
            residual = w - kappa * others
            residual[j] = 0
            one = at.isel(seed=seed, neuron=i)
            assert int(one.pure_index) == j
            scale = np.linalg.norm(w)
            found = [one.alpha, one.kappa, one.dense_norm, one.residual_norm, one.norm]
            norms = [np.linalg.norm(kappa * others), np.linalg.norm(residual), scale]
            np.testing.assert_allclose(found, [w[j], kappa, *norms], atol=2e-6 * scale)
    size = np.abs(at.alpha)
    np.testing.assert_array_equal(at.carrier, size >= 0.5 * size.max("neuron"))
    signed = at.kappa * np.sign(at.alpha * wstar[0][at.pure_index]) / size
    median = signed.where(at.carrier == 1).median("neuron")
    np.testing.assert_allclose(at.kappa_over_alpha, median, rtol=1e-4)
    ratio = (at.dense_norm / size).where(at.carrier == 1).median("neuron")
    np.testing.assert_allclose(at.dense_norm_over_alpha, ratio, rtol=1e-4)


def test_overlaps_rescaling_and_spectra_are_those_of_the_exported_weights(tiny_run, weights):
    r = tiny_run.result

    def theta(u, v):
        return np.abs((u * v).sum(-1)) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)

    clean, after = weights["clean"], weights["adversarial"]
    for name, u, v in [
        ("theta_init_clean", weights["init"], clean),
        ("theta_init_adversarial", weights["init"], after),
        ("theta_clean_adversarial", clean, after),
    ]:
        np.testing.assert_allclose(r[name], theta(u, v), atol=1e-5)
    beta = (clean * after).sum(-1) / (after**2).sum(-1)
    kept = beta[..., None] * after
    np.testing.assert_allclose(r.beta, beta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(r.kept_norm, np.linalg.norm(kept, axis=-1), rtol=1e-4, atol=1e-6)
    removed = np.linalg.norm(clean - kept, axis=-1)
    np.testing.assert_allclose(r.removed_norm, removed, rtol=1e-4, atol=1e-6)
    for name, update in [
        ("update_singular_values", after - clean),
        ("rescaled_update_singular_values", clean - kept),
    ]:
        expected = np.linalg.svd(update, compute_uv=False)
        np.testing.assert_allclose(r[name], expected, atol=1e-5 * expected.max())


def test_tickets_are_those_of_the_initial_weights(tiny_run, weights):
    r, wstar = tiny_run.result, tiny_run.weights["wstar"][0]
    level = np.sqrt(2 * np.log(16)) * 0.01
    for seed in range(2):
        above = np.abs(weights["init"][seed]) > level
        feature = np.full(32, -1)
        for i, row in enumerate(above):
            j = int(np.argmax(row))
            if row.sum() == 1 and weights["init"][seed, i, j] * wstar[j] > 0:
                feature[i] = j
        np.testing.assert_array_equal(r.ticket_feature[seed], feature)
        assert float(r.ticket_rate[seed]) == pytest.approx((feature >= 0).mean())
        end = np.abs(weights["clean"][seed]).argmax(-1)
        won = (end == feature)[feature >= 0].mean()
        assert float(r.ticket_win_rate[seed]) == pytest.approx(won)


def test_shown_neurons_are_the_strongest_clean_ones_of_the_first_seed(tiny_run, weights):
    r = tiny_run.result
    shown = r.shown_neuron.values
    strength = np.abs(weights["clean"][0]).max(-1)
    assert set(shown) == set(np.argsort(-strength)[:24])
    for phase in PHASES:
        found = r.shown_coordinates.sel(phase=phase)
        np.testing.assert_allclose(found, weights[phase][0][shown], rtol=1e-6)
    # Grouped by feature, so that the heat map has blocks.
    assert (np.diff(r.pure_index.sel(phase="clean").isel(seed=0)[shown]) >= 0).all()


def test_attributes_repeat_the_run(tiny_run, tiny):
    attributes = tiny_run.result.attrs
    assert attributes["config"] == dump(parse(tiny()))
    assert (attributes["d"], attributes["D"], attributes["m"], attributes["k"]) == (16, 16, 32, 3)
    assert 0 < attributes["training_seconds"] < attributes["wall_seconds"]
    assert "cpu" in attributes["platform"] or "gpu" in attributes["platform"]


def test_trajectories_start_and_end_with_the_phases(tiny_run):
    r = tiny_run.result
    for phase in ("clean", "adversarial"):
        along = r.isel(record=r.record_phase.values == phase)
        assert int(along.record_step[0]) == 0 and int(along.record_step[-1]) == 400
        for name in ("kappa_over_alpha", "alpha_max", "sign_agreement"):
            end = along[f"along_{name}"].isel(record=-1)
            np.testing.assert_allclose(end, r[name].sel(phase=phase), rtol=1e-4)
    bias = r.along_bias.isel(record=r.record_phase.values == "clean")
    # b rises from 0 to 0.05 over the first half of the clean phase, and stays.
    expected = 0.05 * np.minimum(bias.record_step / 200, 1)
    np.testing.assert_allclose(bias, np.stack([expected] * 2, 1), atol=1e-6)
    np.testing.assert_array_equal(r.snapshot, [40, 133, 267, 400])
    at_tau = r.robust_accuracy.sel(attack="PGD", phase="adversarial").isel(radius=2)
    np.testing.assert_allclose(r.accuracy_along.isel(snapshot=-1), at_tau, atol=1e-6)


def test_exported_arrays_have_the_documented_shapes(tiny_run):
    shapes = {name: np.shape(value) for name, value in tiny_run.weights.items()}
    assert shapes == {
        "W0": (2, 32, 16), "W_clean": (2, 32, 16), "W_adv": (2, 32, 16),
        "b_clean": (2,), "b_adv": (2,), "wstar": (2, 16),
        **dict.fromkeys(["d", "D", "m", "k", "sigma_x", "tau", "p_one", "sigma_rho"], ()),
    }  # fmt: skip
    scalars = {name: float(tiny_run.weights[name]) for name in ("d", "D", "m", "k", "tau")}
    assert scalars == {"d": 16, "D": 16, "m": 32, "k": 3, "tau": 0.17}
    np.testing.assert_array_equal(tiny_run.weights["b_clean"], tiny_run.weights["b_adv"])
