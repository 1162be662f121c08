"""A run in the reduced model: bias schedules, phases and trajectories (docs/dynamics.md).

The settings are those of a direct run (`featpur_sim.runs.config`), so that one file does for both. This
module reads settings and never runs the simulator.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax
from scipy import integrate as quadrature
from scipy import stats

from featpur_sim._ground.types import Array, Float
from featpur_sim.runs.config import BiasConfig, ConfigError, RunConfig, dump
from featpur_sim.theory.dynamics.equations import AttackName, Drive, Order, Setting, accuracy, drive, velocity
from featpur_sim.theory.dynamics.nodes import Nodes, double_precision, sampled_nodes
from featpur_sim.theory.dynamics.rosenbrock import Kept, advance
from featpur_sim._ground.switches import steady


class Schedule(NamedTuple):
    """The threshold as a function of time and of α: b = ν(t′)·(|α| if ``relative`` else 1).

    ``monotone`` never lets it fall; ``ceiling`` caps it.
    """

    times: Float[Array | np.ndarray, "*S p"]
    values: Float[Array | np.ndarray, "*S p"]
    relative: Float[Array | np.ndarray, "*S"]
    monotone: Float[Array | np.ndarray, "*S"]
    ceiling: Float[Array | np.ndarray, "*S"]

    def bias(self, time, alpha, before):
        """The threshold at a time, given the one so far."""
        value = jnp.interp(time, self.times, self.values)
        value = value * jnp.where(self.relative > 0, jnp.abs(alpha), 1.0)
        kept = jnp.where(self.monotone > 0, jnp.maximum(before, value), value)
        return jnp.minimum(kept, self.ceiling)


class Trajectory(NamedTuple):
    """One phase; arrays [T], or [R, T] with replicates."""

    time: Float[Array, "*R T"]
    order: Order
    bias: Float[Array, "*R T"]
    drive: Drive
    arrived: Array
    """Whether the integrator reached the end."""


def require_reducible(config: RunConfig) -> None:
    """Whether the reduced model describes a run of these settings.

    Raises:
        ConfigError: it names the setting that it does not.
    """
    p, a = config.problem, config.adversarial
    rules = [
        ("problem.law", p.law, "two-level"),
        ("problem.wstar", p.wstar, "signs"),
        ("problem.features", p.features or p.d, p.d),
        ("network.smoothing", config.network.smoothing, "none"),
        ("clean.optimizer", config.clean.optimizer, "sgd"),
        ("adversarial.optimizer", a.optimizer, "sgd"),
        ("adversarial.attack", a.attack, "fgm"),
        ("adversarial.norm", a.norm, "l2"),
        ("adversarial.rank", a.rank, None),
        ("clean.dataset_size", config.clean.dataset_size, None),
        ("adversarial.dataset_size", a.dataset_size, None),
    ]
    for name, value, needed in rules:
        if value != needed:
            raise ConfigError(
                f"{name} = {value!r}: the reduced dynamics are derived for {needed!r} only "
                "(docs/dynamics.md). Change it, or use 'featpur run'."
            )
    if p.k + p.p_one > p.d:
        raise ConfigError(
            f"problem.k + problem.p_one = {p.k + p.p_one:g} exceeds problem.d = {p.d}: lower k."
        )


def schedule_of(bias: BiasConfig, duration: float) -> Schedule:
    """The schedule of a run's clean phase that lasts t′ = ``duration``."""
    ceiling, monotone, relative = math.inf, False, False
    if bias.schedule == "linear-ramp":
        assert bias.stop is not None
        at, value = [0.0, (bias.fraction or 0.5) * duration], [bias.start or 0.0, bias.stop]
    elif bias.schedule == "per-neuron":
        assert bias.stop is not None
        at = [1.2 if bias.begin is None else bias.begin, 2.0 if bias.end is None else bias.end]
        value = [1.1 if bias.start is None else bias.start, bias.stop]
        ceiling, monotone, relative = bias.ceiling or math.inf, bool(bias.monotone), True
    elif bias.schedule == "tabulated":
        assert bias.fractions is not None and bias.values is not None
        at, value = [f * duration for f in bias.fractions], list(bias.values)
    else:
        at, value = [0.0, duration], [bias.start or 0.0] * 2
    return Schedule(
        *(np.asarray(v, float) for v in (at, value, float(relative), float(monotone), ceiling))
    )


def largest_of(count: int) -> float:
    """E max of ``count`` independent standard normals: α at the start over σ₀. [D]

    >>> round(largest_of(2) * math.pi**0.5, 6)
    1.0
    """
    density = stats.norm.pdf

    def integrand(t):
        return t * count * density(t) * np.exp((count - 1) * stats.norm.logcdf(t))

    return float(quadrature.quad(integrand, -8, 12, limit=200, epsabs=1e-10)[0])


def initial_order(d: int, sigma_0: float) -> Order:
    """The untrained network in the ansatz: each neuron carries its largest coordinate. [D]"""
    alpha = sigma_0 * largest_of(d)
    return Order(
        jnp.asarray(alpha), jnp.asarray(0.0), jnp.asarray(max(sigma_0**2 * d - alpha**2, 0.0))
    )


def setting_of(config: RunConfig, phase: str) -> Setting:
    """The constants of one phase of a run."""
    p, c = config.problem, getattr(config, phase)
    return Setting(
        *(
            jnp.asarray(float(v))
            for v in (
                p.d, p.k, p.sigma_x, config.network.neurons / p.d, c.weight_decay * p.d,
                c.learning_rate / c.batch,
            )
        )
    )  # fmt: skip


def duration_of(config: RunConfig, phase: str) -> float:
    """How long a phase lasts in t′ = η·steps/d."""
    c = getattr(config, phase)
    return c.learning_rate * c.steps / config.problem.d


@functools.partial(jax.jit, static_argnames=("attack", "tolerance"))
def integrate_phase(
    order: Order,
    before: Array,
    schedule: Schedule,
    radius,
    times: Float[Array, " T"],
    nodes: Nodes,
    setting: Setting,
    *,
    attack: AttackName = "none",
    tolerance: float = 1e-3,
    recorded: Float[Array, " F"] | None = None,
) -> Trajectory:
    """Integrate the equations of motion over one phase. vmappable in every argument.

    Args:
        order: the state at ``times[0]``.
        before: the threshold so far.
        schedule: of the threshold.
        radius: τ; not read without an attack.
        times: t′ at which steps of the integrator end and the state is kept, rising.
        nodes: without a leading axis.
        setting: the constants.
        attack: "fgm" or "none".
        tolerance: of the integrator, per step.
        recorded: t′ at which the state is kept in place of ``times``, rising, from the first of
            these to the last. In between the state is interpolated, and no step changes.
    """

    def field_with(memory):
        def field(time, u):
            state = Order(u[0], u[1], jnp.maximum(u[2], 0.0))
            b = schedule.bias(time, state.alpha, memory)
            return jnp.stack(
                velocity(state, drive(state, b, radius, nodes, setting, attack), setting)
            )

        return field

    def scale(u):
        size = jnp.abs(u[0]) + 1e-9
        return jnp.stack([size, jnp.abs(u[1]) + 0.1 * size, jnp.abs(u[2]) + 0.1 * size**2])

    def segment(carry, ends):
        u, memory, step, fine, kept = carry
        went = advance(
            field_with(memory), u, ends[0], ends[1], step=step, scale=scale, tolerance=tolerance,
            kept=kept,
        )  # fmt: skip
        u = went.state.at[2].max(0.0)
        memory = schedule.bias(ends[1], u[0], memory)
        fine = fine & went.arrived
        return (u, memory, went.step, fine, went.kept), (u, memory)

    u = jnp.stack(order)
    memory = schedule.bias(times[0], order.alpha, before)
    first = 1e-3 * (times[-1] - times[0])
    ends = jnp.stack([times[:-1], times[1:]], axis=1)
    kept = None if recorded is None else Kept(recorded, jnp.tile(u, (len(recorded), 1)))
    (_, _, _, fine, kept), (states, biases) = lax.scan(
        segment, (u, memory, first, jnp.asarray(True), kept), ends
    )
    biases = jnp.concatenate([memory[None], biases])
    if kept is None:
        states = jnp.concatenate([u[None], states])
    else:
        states = kept.states.at[:, 2].max(0.0)
        end = jnp.searchsorted(times, kept.times)
        between = schedule.bias(kept.times, states[:, 0], biases[jnp.maximum(end - 1, 0)])
        biases = jnp.where(times[end] == kept.times, biases[end], between)
        times = kept.times
    orders = Order(*states.T)
    forces = lax.map(lambda s: drive(s[0], s[1], radius, nodes, setting, attack), (orders, biases))
    return Trajectory(times, orders, biases, forces, fine)


def constant(bias) -> Schedule:
    """The frozen threshold of the adversarial phase."""
    no = jnp.asarray(0.0)
    return Schedule(jnp.asarray([0.0, 1.0]), jnp.ones(2) * bias, no, no, no + jnp.inf)


def recording_times(times: Float[np.ndarray, " T"], corners: Sequence[float] = ()) -> np.ndarray:
    """Times at which a trajectory shows its transient and the corners of its threshold.

    The dense part grows and settles between the first two of ``times``: that interval gets 16
    more, each √2 after the last, and every other one three at equal distances. The nearest of these
    moves to each corner.

    Args:
        times: equally spaced, rising; all are kept.
        corners: t′ at which the threshold has one; those within ``times`` count.

    Returns:
        Rising, 4T + 10 times.

    >>> recording_times(np.array([0.0, 1.0, 2.0]), [1.3])[-5:]
    array([1.  , 1.3 , 1.5 , 1.75, 2.  ])
    """
    first = times[0] + (times[1] - times[0]) * 0.5 ** np.arange(8, 0, -0.5)
    shares = np.array([0.25, 0.5, 0.75])
    between = np.ravel(times[1:-1, None] + np.diff(times)[1:, None] * shares)
    moved = np.concatenate([first, between])
    for corner in corners:
        if times[0] < corner < times[-1] and corner not in times:
            moved[np.argmin(np.abs(moved - corner))] = corner
    return np.sort(np.concatenate([times, moved]))


class ReducedRun(NamedTuple):
    """Both phases of a run in the reduced model; arrays [R, T] over replicates of the nodes."""

    clean: Trajectory
    adversarial: Trajectory
    accuracy: Float[Array, "R 2 2"]
    """After the clean and the adversarial phase; without an attack and under the dense one at τ"""


@steady
def reduced_run(
    config: RunConfig, *, n: int = 1024, replicates: int = 4, points: int = 40, seed: int = 0
) -> ReducedRun:
    """What the reduced model says about a run, from the settings alone.

    Args:
        config: as for `featpur_sim.runs.experiment.run_experiment`.
        n: nodes per replicate, a power of 2.
        replicates: independent sets of nodes, whose spread is the sampling error.
        points: equally spaced times per phase at which the integrator stops. `recording_times` are
            kept, these among them.
        seed: of the nodes.

    Returns:
        A `ReducedRun`, in float64.

    Raises:
        ConfigError: the settings are outside the model (`require_reducible`), or the integrator did
            not arrive.
    """
    require_reducible(config)
    p = config.problem
    with double_precision():
        nodes = jax.tree.map(
            jnp.asarray,
            sampled_nodes(p.d, p.k, p.p_one, n=n, replicates=replicates, seed=seed),
        )
        schedule = schedule_of(config.clean.bias, duration_of(config, "clean"))
        times = [
            jnp.linspace(0.0, duration_of(config, phase), points)
            for phase in ("clean", "adversarial")
        ]
        # The frozen threshold of the adversarial phase has no corner.
        recorded = [
            jnp.asarray(recording_times(np.asarray(along), corners))
            for along, corners in zip(times, (schedule.times.tolist(), ()), strict=True)
        ]
        start = initial_order(p.d, config.network.sigma_0)
        before = schedule.values[0] if config.clean.bias.schedule != "per-neuron" else 0.0
        run = _both_phases(
            start, jnp.asarray(before), jax.tree.map(jnp.asarray, schedule),
            config.adversarial.radius, times, recorded, nodes, setting_of(config, "clean"),
            setting_of(config, "adversarial"),
        )  # fmt: skip
        # NumPy keeps float64 outside the block.
        run = jax.tree.map(np.asarray, run)
    if not (run.clean.arrived & run.adversarial.arrived).all():
        raise ConfigError(
            "the reduced dynamics did not reach the end of a phase: the equations are too stiff or "
            "left the finite numbers. Lower learning_rate·steps/d, or raise the final bias."
        )
    return run


@jax.jit
def _both_phases(
    start, before, schedule, radius, times, recorded, nodes, clean_setting, attack_setting
):
    def one(sample):
        clean = integrate_phase(
            start, before, schedule, 0.0, times[0], sample, clean_setting, recorded=recorded[0]
        )
        middle, b = jax.tree.map(lambda v: v[-1], (clean.order, clean.bias))
        purified = integrate_phase(
            middle, b, constant(b), radius, times[1], sample, attack_setting, attack="fgm",
            recorded=recorded[1],
        )  # fmt: skip
        end = jax.tree.map(lambda v: v[-1], purified.order)
        states = jax.tree.map(lambda u, v: jnp.stack([u, u, v, v]), middle, end)
        # No attack is an attack of radius 0: one program, compiled once, for all four.
        scores = lax.map(
            lambda at: accuracy(at[0], b, at[1], sample, attack_setting, "dense"),
            (states, jnp.asarray([0.0, radius, 0.0, radius])),
        )
        return ReducedRun(clean, purified, scores.reshape(2, 2))

    return lax.map(one, nodes)


def to_dataset(config: RunConfig, run: ReducedRun) -> xr.Dataset:
    """A reduced run with its labels: dims phase, replicate, point, attack.

    Args:
        config: the settings, kept as an attribute.
        run: of `reduced_run`.
    """
    phases = (run.clean, run.adversarial)
    dims = ("phase", "replicate", "point")

    def both(of: Callable[[Trajectory], Array]) -> np.ndarray:
        return np.stack([np.asarray(of(t)) for t in phases])

    p = config.problem
    entries = {
        "time": (lambda t: t.time, "t′ = η·step/d within the phase", "[D] §3"),
        "alpha": (lambda t: t.order.alpha, "pure coefficient α", "[D] §7"),
        "dense_ratio": (lambda t: t.order.dense / p.d / t.order.alpha, "c/α", "[D] §7"),
        "residual": (lambda t: t.order.residual, "ρ² = ‖q‖²", "[D] §7"),
        "bias": (lambda t: t.bias, "threshold b", "[P] §3"),
        "active_fraction": (lambda t: t.drive.active, "E N/d, inputs as trained on", "[D] §7"),
        "loss": (lambda t: t.drive.loss, "logistic loss, as trained on", "[P] §3"),
        "stationary_ratio": (
            lambda t: t.drive.mixed / ((p.d - 1) * t.drive.pure),
            "c/α at which training would rest: E[g y (N X − T)]/((d−1)E[g y T])",
            "[D] §7",
        ),
    }
    variables: dict[str, tuple] = {
        name: (dims, both(of), {"long_name": long_name, "source": source})
        for name, (of, long_name, source) in entries.items()
    }
    scores = np.moveaxis(np.asarray(run.accuracy), 0, 1)
    table = np.full((*scores.shape[:2], run.clean.time.shape[-1], 2), np.nan)
    table[:, :, -1] = scores
    variables["accuracy"] = (
        (*dims, "attack"),
        table,
        {"long_name": "accuracy at the end of the phase, at radius τ", "source": "[D] §7"},
    )
    coords = {"phase": ["clean", "adversarial"], "attack": ["none", "dense mixture"]}
    attributes = {"title": f"reduced dynamics of '{config.name}'", "config": dump(config)}
    return xr.Dataset(variables, coords, attributes)
