"""Schedules, the start, both phases of a run in the reduced model, and `featpur dynamics`."""

import errno
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from featpur_sim.report import dynamics_figures
from featpur_sim.runs.build import _make_bias
from featpur_sim.runs.config import (
    ConfigError,
    FrozenConfig,
    LinearRampConfig,
    PerNeuronConfig,
    TabulatedConfig,
    dump,
    parse,
)
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import (
    duration_of,
    reduced_run,
    require_reducible,
    schedule_of,
    setting_of,
    to_dataset,
)
from featpur_sim.theory.dynamics.equations import Order, drive, velocity
from featpur_sim.theory.dynamics.nodes import double_precision, sampled_nodes
from featpur_sim.theory.dynamics.trajectory import (
    initial_order,
    integrate_phase,
    largest_of,
    recording_times,
)
from featpur_sim.training.bias import Progress

BIASES = {
    "linear-ramp": LinearRampConfig(stop=0.05, start=0.01, fraction=0.4),
    "per-neuron": PerNeuronConfig(stop=0.2, begin=1.0, end=1.5),
    "tabulated": TabulatedConfig(fractions=[0.0, 0.3, 1.0], values=[0.0, 0.1, 0.05]),
    "frozen": FrozenConfig(),
    "linear-ramp, defaults": LinearRampConfig(stop=0.05),
    "per-neuron, defaults": PerNeuronConfig(stop=0.2),
}


@pytest.fixture(scope="module")
def run():
    return sparse_regime(64, 5), reduced_run(sparse_regime(64, 5), n=256, replicates=2, points=8)


@pytest.mark.parametrize("name", BIASES)
def test_schedules_are_those_of_a_direct_run(name):
    config = BIASES[name]
    duration, rate, d = 4.0, 0.5, 50
    steps = int(duration * d / rate)
    schedule, direct = schedule_of(config, duration), _make_bias(config)
    for step in (0, 60, 130, 200, 320, 400):
        progress = Progress(jnp.int32(step), jnp.int32(steps), jnp.float32(rate * step / d))
        expected = direct(progress, jnp.zeros(1), jnp.asarray([[0.3, -0.7]]))
        found = schedule.bias(rate * step / d, -0.7, 0.0)
        assert float(found) == pytest.approx(float(expected[0]), rel=1e-5)


def test_a_monotone_schedule_never_falls_and_stops_at_its_ceiling():
    config = PerNeuronConfig(stop=0.1, monotone=True, ceiling=0.5)
    schedule = schedule_of(config, 4.0)
    assert float(schedule.bias(3.0, 1.0, 0.3)) == pytest.approx(0.3)
    assert float(schedule.bias(0.0, 1.0, 0.3)) == pytest.approx(0.5)


def test_the_start_is_the_largest_of_the_initial_coordinates():
    w = 0.01 * np.random.default_rng(0).standard_normal((4000, 128))
    order = initial_order(128, 0.01)
    assert float(order.alpha) == pytest.approx(w.max(1).mean(), rel=5e-3)
    square = float(order.alpha**2 + order.residual)
    assert square == pytest.approx((w**2).sum(1).mean(), rel=5e-3)
    assert largest_of(1) == pytest.approx(0, abs=1e-9)


def test_the_clean_phase_grows_mixtures_and_the_other_takes_them_out(run):
    config, reduced = run
    clean, adversarial = reduced.clean, reduced.adversarial
    assert reduced.clean.arrived.all() and reduced.adversarial.arrived.all()
    ratio = clean.order.dense[:, -1] / clean.order.alpha[:, -1] / config.problem.d
    # k/d in order of magnitude (docs/theory.md §5.1), and far above what purification leaves.
    assert (0.3 < ratio * 64 / 5).all() and (ratio * 64 / 5 < 3).all()
    after = adversarial.order.dense[:, -1] / adversarial.order.alpha[:, -1] / config.problem.d
    assert (after < 0.3 * ratio).all()
    accuracy = reduced.accuracy.mean(0)
    assert accuracy[0, 0] > 0.9 and accuracy[1, 0] > 0.9
    assert accuracy[1, 1] > accuracy[0, 1] + 0.1


def test_the_kept_states_obey_the_equations_of_motion(run):
    """A finite difference over a late interval of the clean phase against the kept drive."""
    config, reduced = run
    clean = reduced.clean
    decay = config.clean.weight_decay * 64
    o = clean.order
    norm = np.sqrt(o.alpha**2 + o.dense**2 * 63 / 64**2 + o.residual)
    speed = clean.drive.pure - decay * (1 + norm) * o.alpha
    change = np.diff(o.alpha, axis=1)[:, -1] / np.diff(clean.time, axis=1)[:, -1]
    mean = (speed[:, -1] + speed[:, -2]) / 2
    np.testing.assert_allclose(change, mean, rtol=0.02)


def test_replicates_of_the_nodes_agree(run):
    _, reduced = run
    alpha = reduced.adversarial.order.alpha[:, -1]
    assert alpha[0] == pytest.approx(alpha[1], rel=0.05) and alpha[0] != alpha[1]


def test_dataset_and_figure(run):
    config, reduced = run
    result = to_dataset(config, reduced)
    assert result.sizes == {"phase": 2, "replicate": 2, "point": 42, "attack": 2}
    np.testing.assert_array_equal(result.alpha.sel(phase="clean"), reduced.clean.order.alpha)
    assert all("source" in result[name].attrs for name in result.data_vars)
    clean, adversarial = result.time.values[:, 0]
    # Rising, with the corners of the threshold; the first transient is fast.
    assert (np.diff(clean) > 0).all() and {1.2, 2.0} <= set(clean) and clean[1] < 0.004
    assert (np.diff(adversarial) > 0).all()


def test_figure_breaks_where_the_phase_changes_and_shows_both_points_of_rest(run):
    result = to_dataset(*run)
    mean = result.mean("replicate")
    panels = dynamics_figures.trajectories(result).axes
    assert len(panels) == 4
    start = float(mean.time[0, -1])
    for axes, name in zip(
        panels, ("alpha", "dense_ratio", "residual", "active_fraction"), strict=True
    ):
        lines = [line for line in axes.lines if np.size(line.get_xdata()) == result.sizes["point"]]
        drawn = [
            (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
            for line in lines
            if line.get_linestyle() == "-"
        ]
        for (x, y), phase, begin in zip(drawn, (0, 1), (0.0, start), strict=True):
            np.testing.assert_array_equal(x, begin + mean.time[phase])
            np.testing.assert_array_equal(y, mean[name][phase])
            low, high = axes.get_ylim()
            assert low <= y.min() and y.max() <= high
    # Where purification would rest lies below 0, and is in sight.
    low, high = panels[1].get_ylim()
    rest = mean.stationary_ratio.values[1]
    assert rest[-1] < 0 and (low < rest[-10:]).all()


def test_the_first_transient_is_shown(run):
    """c/α rises to its peak and falls again long before the first of the equally spaced times."""
    config, reduced = run
    clean = reduced.clean
    first = clean.time[0] <= config.clean.learning_rate * config.clean.steps / 64 / 7
    shown = clean.time[0, first]
    with double_precision():
        nodes = jax.tree.map(
            lambda v: jnp.asarray(v[0]), sampled_nodes(64, 5.0, 1.0, n=256, replicates=2, seed=0)
        )
        setting = setting_of(config, "clean")

        @jax.jit
        def field(u):
            order = Order(*u)
            # ν = 1.1 until t′ = 1.2.
            return jnp.stack(
                velocity(order, drive(order, 1.1 * u[0], 0.0, nodes, setting), setting)
            )

        start = np.array(initial_order(64, config.network.sigma_0))
        true = solve_ivp(
            lambda t, u: np.asarray(field(jnp.asarray(u))), (0, shown[-1]), start, method="Radau",
            t_eval=shown, rtol=1e-5, atol=1e-8,
        ).y  # fmt: skip
    states = np.stack([v[0, first] for v in clean.order])
    largest = true.max(axis=1, keepdims=True)
    np.testing.assert_allclose(states / largest, true / largest, atol=5e-3)
    ratio = states[1] / states[0]
    assert ratio.max() > 1.4 * ratio[-1] and ratio[0] == 0


@pytest.mark.slow
def test_recording_changes_no_state():
    config = sparse_regime(64, 5)
    with double_precision():
        nodes = jax.tree.map(
            lambda v: jnp.asarray(v[0]), sampled_nodes(64, 5.0, 1.0, n=64, replicates=2, seed=0)
        )
        schedule = schedule_of(config.clean.bias, duration_of(config, "clean"))
        times = jnp.linspace(0.0, duration_of(config, "clean"), 8)
        recorded = jnp.asarray(recording_times(np.asarray(times), schedule.times.tolist()))
        plain, shown = (
            integrate_phase(
                initial_order(64, config.network.sigma_0), jnp.asarray(0.0),
                jax.tree.map(jnp.asarray, schedule), 0.0, times, nodes,
                setting_of(config, "clean"), recorded=along,
            )
            for along in (None, recorded)
        )  # fmt: skip
        plain, shown = jax.tree.map(np.asarray, (plain, shown))
    at = np.searchsorted(shown.time, plain.time)
    for found, expected in zip(jax.tree.leaves(shown), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(found[at] if found.ndim else found, expected)


@pytest.mark.parametrize(
    "section, change",
    [
        ("problem", {"law": "uniform-magnitude", "k": 4.0}),
        ("network", {"smoothing": "closed", "sigma_rho": 0.1}),
        ("adversarial", {"norm": "linf"}),
        ("clean", {"optimizer": "adam"}),
    ],
)
def test_settings_outside_the_model_are_named(tiny, section, change):
    config = parse(tiny(**{section: change}))
    name = next(iter(change))
    with pytest.raises(ConfigError, match=f"{section}.{name} = .*reduced dynamics"):
        require_reducible(config)


def test_the_command_writes_a_dataset_and_figures(run, featpur, tmp_path, monkeypatch):
    config, reduced = run
    monkeypatch.setattr("featpur_sim.runs.reduced.reduced_run", lambda settings, seed: reduced)
    (tmp_path / "run.toml").write_text(dump(config), encoding="utf-8")
    out = tmp_path / "out"
    code, shown, _ = featpur("dynamics", tmp_path / "run.toml", "--out", out)
    assert code == 0 and "pure coefficient" in shown
    assert xr.load_dataset(out / "dynamics.nc", engine="h5netcdf").sizes["replicate"] == 2
    assert (out / "figures" / "dynamics.png").stat().st_size > 10_000
    code, shown, _ = featpur("dynamics", tmp_path / "run.toml", "--out", out, "--json")
    assert [row["phase"] for row in json.loads(shown)] == ["clean", "adversarial"]


def test_a_full_disk_ends_the_command_in_a_message_and_the_old_file_stays(
    run, featpur, tmp_path, monkeypatch
):
    config, reduced = run
    monkeypatch.setattr("featpur_sim.runs.reduced.reduced_run", lambda settings, seed: reduced)
    (tmp_path / "run.toml").write_text(dump(config), encoding="utf-8")
    out = tmp_path / "out"
    monkeypatch.setattr(dynamics_figures, "save", lambda figures, directory: None)
    assert featpur("dynamics", tmp_path / "run.toml", "--out", out, "-q")[0] == 0
    before = (out / "dynamics.nc").read_bytes()

    write_bytes = Path.write_bytes

    def full(path, data):
        if path.suffix != ".nc":
            return write_bytes(path, data)
        path.write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, shown, told = featpur("dynamics", tmp_path / "run.toml", "--out", out)
    assert (code, shown) == (3, "") and told.count("No space left on device") == 1
    assert "Traceback" not in told and (out / "dynamics.nc").read_bytes() == before
    assert {path.name for path in out.iterdir()} - {".lock"} == {"dynamics.nc", "manifest.json"}


def test_the_command_refuses_what_the_model_does_not_describe(tiny, featpur, tmp_path):
    (tmp_path / "run.toml").write_text(
        dump(parse(tiny(adversarial={"norm": "linf"}))), encoding="utf-8"
    )
    code, _, told = featpur("dynamics", tmp_path / "run.toml", "--out", tmp_path / "out")
    assert code == 2 and "adversarial.norm = 'linf'" in told
    assert not (tmp_path / "out").exists()
    assert jax.numpy.zeros(1).dtype == np.float32
