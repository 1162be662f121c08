"""The survey of lanes: the numbers of a single run, lane by lane, without recompiling."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import FGM, PGD, pure_network, robust_accuracy
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.measure import lanes as measured
from featpur_sim.measure.critical_radius import bisect_critical_radius, dense_critical_radius
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.saved import load_run
from featpur_sim.sweeps import measurements as surveys
from featpur_sim.sweeps.measurements import survey
from featpur_sim.training.course import TrainingRun

TAU = 0.17


def take(tree, lanes):
    return jax.tree.map(lambda leaf: leaf[jnp.asarray(lanes)], tree)


@pytest.fixture(scope="module")
def saved(tiny_folder):
    return load_run(tiny_folder)


@pytest.fixture(scope="module")
def arguments(saved):
    """Lanes: the run's two seeds; the first at half the radius; one that diverged."""
    lanes = [0, 1, 0, 1]
    problem = take(saved.problems, lanes)
    # The last two lanes have data of their own: other sparsity and noise.
    problem = eqx.tree_at(lambda p: p.k, problem, jnp.asarray([3.0, 3.0, 3.0, 5.0]))
    result = saved.result
    record_phase = result.record_phase.values
    run = TrainingRun(
        networks={name: take(network, lanes) for name, network in saved.networks.items()},
        snapshots={},
        record_phase=record_phase,
        record_step=result.record_step.values,
        records={
            name: result[f"along_{name}"].values[:, lanes] for name in ("loss", "training_loss")
        }
        | {"status": np.array([[0, 0, 0, 2]] * len(record_phase))},
        status=np.array([0, 0, 0, 2]),
        status_step=np.array([0, 0, 0, 17]),
    )
    keys = seed_keys(saved.config)[2][jnp.asarray(lanes)]
    tau = jnp.asarray([TAU, TAU, TAU / 2, TAU])
    return problem, run, keys, saved.config.evaluation, tau


@pytest.fixture(scope="module")
def found(arguments):
    # Two of the attacks: each is a program to compile.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surveys, "ATTACKS", ("dense mixture", "PGD"))
        yield survey(*arguments)


def test_lanes_carry_the_numbers_of_the_run(saved, found):
    one = saved.result
    lanes = found.isel(lane=[0, 1])
    assert list(lanes.phase.values) == list(one.phase.values)
    for attack in found.attack.values:
        expected = one.robust_accuracy.sel(attack=attack).values
        np.testing.assert_allclose(lanes.robust_accuracy.sel(attack=attack), expected, atol=1e-6)
    np.testing.assert_allclose(
        lanes.clean_accuracy, one.robust_accuracy.isel(attack=0, radius=0), atol=1e-6
    )
    cut = one.reference_accuracy.sel(reference="clean without dense mixtures")
    np.testing.assert_allclose(lanes.cut_accuracy, cut[:, 0, 0], atol=1e-6)
    for name in ("kappa_over_alpha", "dense_norm_over_alpha", "alpha_max", "neurons_per_feature"):
        np.testing.assert_allclose(lanes[name], one[name], rtol=1e-5)
    carrier = one.carrier.sel(phase="clean").astype(bool)
    for name in ("theta_init_clean", "theta_clean_adversarial"):
        expected = one[name].where(carrier).median("neuron")
        np.testing.assert_allclose(lanes[name], expected, rtol=1e-5)
    np.testing.assert_allclose(lanes.excluded_fraction, one.excluded_fraction, atol=1e-6)
    # σ₀ is read off the initial weights here: a ticket may change hands at the threshold.
    np.testing.assert_allclose(lanes.ticket_rate, one.ticket_rate, atol=2 / 32)
    ratio = one.kappa_over_alpha.sel(phase="clean") / one.kappa_over_alpha.sel(phase="adversarial")
    np.testing.assert_allclose(lanes.purification_factor, ratio, rtol=1e-4)


def test_losses_are_the_last_of_each_phase(saved, found):
    along = saved.result.along_loss
    for phase in ("init", "clean", "adversarial"):
        inside = along.where(along.record_phase == phase, drop=True)
        expected = along[0] if phase == "init" else inside[-1]
        np.testing.assert_array_equal(found.loss.sel(phase=phase)[:2], expected)
    assert np.isnan(found.training_loss.sel(phase="init")).all()


def test_radii_scale_with_each_lanes_own_tau(found):
    half, whole = found.isel(lane=2), found.isel(lane=0)
    np.testing.assert_allclose(half.radius, [0, TAU / 4, TAU / 2], rtol=1e-6)
    same = whole.robust_accuracy.sel(relative_radius=0.5)
    np.testing.assert_array_equal(half.robust_accuracy.sel(relative_radius=1.0), same)
    assert (same != whole.robust_accuracy.sel(relative_radius=1.0)).any()
    # The dense radius is exact and knows no τ; PGD's is bisected from another bracket.
    radii = found.critical_radius.sel(phase="adversarial")
    assert float(radii[2, 0]) == float(radii[0, 0])
    assert float(radii[2, 1]) == pytest.approx(float(radii[0, 1]), rel=0.02)


def test_a_lane_that_failed_has_a_status_and_no_numbers(found):
    assert list(found.status.values) == ["ok", "ok", "ok", "diverged"]
    assert int(found.status_step[3]) == 17
    assert found.reason.values[3].startswith("diverged since step 17 of the ")
    words = ("status", "status_step", "reason", "training_warning", "radius")
    for name, values in found.isel(lane=3).items():
        if name not in words:
            assert np.isnan(values).all(), name


def test_every_variable_is_labelled(found):
    for values in found.values():
        assert values.dims[0] == "lane"
        assert values.attrs["long_name"] and values.attrs["source"].startswith("[")


def test_the_pure_network_is_chosen_on_other_points(arguments, found):
    problem, _, keys, settings, _ = arguments
    attack = PGD(TAU, steps=settings.pgd_steps, restarts=settings.pgd_restarts)

    def score(multiple, key):
        network = pure_network(problem.wstar[1], multiple / 3**0.5)
        return robust_accuracy(network, take(problem, 1), attack, key=key, n=2000).value

    multiple = float(found.pure_bias[1]) * 3**0.5
    assert float(found.pure_accuracy[1, 2]) == pytest.approx(score(multiple, keys[1]), abs=1e-3)
    tuning = jax.random.fold_in(keys[1], 1)
    best = score(multiple, tuning)
    assert all(score(other, tuning) <= best + 1e-3 for other in (0.1, 0.3, 0.5, 0.7))


@pytest.mark.slow
def test_critical_radii_are_those_of_each_network(arguments, found):
    problem, run, keys, settings, _ = arguments
    network, own = take(run.networks["clean"], 1), take(problem, 1)
    dense = eqx.filter_jit(dense_critical_radius)(network, own, key=keys[1], n=2000)
    kind = AttackKind("PGD", "l2", settings.pgd_steps, settings.pgd_restarts)
    pgd = eqx.filter_jit(bisect_critical_radius)(
        network,
        own,
        lambda r: kind(r, direction=own.dense_direction()),
        key=keys[1],
        n=2000,
        low=TAU / 32,
        high=16 * TAU,
    )
    names = ("critical_radius", "critical_radius_low", "critical_radius_high")
    table = np.stack([found[name].sel(phase="clean").isel(lane=1) for name in names])
    np.testing.assert_allclose(table, np.stack([dense, pgd], axis=1), rtol=1e-3)
    assert np.isnan(found.critical_radius.sel(phase="init")).all()


def test_new_data_compile_nothing(arguments, found):
    problem, run, _, settings, tau = arguments
    survey(*arguments)  # programs of earlier tests may be forgotten
    compiled = []

    def listen(event, duration_secs, **metadata):
        if event.endswith("backend_compile_duration"):
            compiled.append(metadata)

    jax.monitoring.register_event_duration_secs_listener(listen)
    other = eqx.tree_at(
        lambda p: (p.k, p.sigma_x, p.law.p_one),
        problem,
        (problem.k + 1, 2 * problem.sigma_x, 0.5 * problem.law.p_one),
    )
    fresh = survey(other, run, jax.random.split(jax.random.key(9), 4), settings, 2 * tau)
    names = {str(entry.get("fun_name")) for entry in compiled}
    assert not {name for name in names if "_accuracy" in name or "_critical" in name}, names
    assert (fresh.robust_accuracy != found.robust_accuracy).isel(lane=0).any()


def test_the_width_changes_no_lane(arguments):
    problem, run, keys, _, tau = arguments
    kind = AttackKind("FGM", "l2", 5, 1)
    network = run.networks["clean"]
    # 2^30 bytes hold all four lanes at once, 3·2^20 one.
    wide, narrow = (
        measured.Lanes(problem, keys, 500, memory).accuracy(network, kind, tau)
        for memory in (2**30, 3 * 2**20)
    )
    np.testing.assert_allclose(narrow, wide, atol=2e-3)
    assert len(np.unique(wide)) == 4
    one = measured.Lanes(problem, keys, 2000, 10**6)
    assert one.standing.width(network) == 1
    alone = robust_accuracy(take(network, 3), take(problem, 3), FGM(TAU), key=keys[3], n=500)
    assert wide[3] == pytest.approx(alone.value, abs=2e-3)
