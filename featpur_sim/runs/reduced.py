"""A run in the reduced model: its settings in, both phases out (docs/dynamics.md).

The settings are those of a direct run (`featpur_sim.runs.config`), so that one file does for both.
Nothing here runs the simulator.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float
from featpur_sim.runs.config import (
    BiasConfig,
    ConfigError,
    FrozenConfig,
    LinearRampConfig,
    PerNeuronConfig,
    RunConfig,
    TabulatedConfig,
    dump,
)
from featpur_sim.runs.own import require_plain_phases
from featpur_sim.theory.dynamics.equations import Setting, accuracy
from featpur_sim.theory.dynamics.exponents import Scaling
from featpur_sim.theory.dynamics.nodes import double_precision, sampled_nodes
from featpur_sim.theory.dynamics.trajectory import (
    Schedule,
    Trajectory,
    constant,
    initial_order,
    integrate_phase,
    recording_times,
)


def require_reducible(config: RunConfig, smoothing: tuple[str, ...] = ("none",)) -> None:
    """Whether the reduced model describes a run of these settings.

    Args:
        config: of the run.
        smoothing: the kinds that the model has.

    Raises:
        ConfigError: it names the setting that it does not.
    """
    p, a = config.problem, config.adversarial
    require_plain_phases(config, "the reduced dynamics are of")
    rules = [
        ("problem.law", p.law, "two-level"),
        ("problem.wstar", p.wstar, "signs"),
        ("problem.features", p.features or p.d, p.d),
        ("network.smoothing", config.network.smoothing, *smoothing),
        ("clean.optimizer", config.clean.optimizer, "sgd"),
        ("adversarial.optimizer", a.optimizer, "sgd"),
        ("adversarial.attack", a.attack, "fgm"),
        ("adversarial.norm", a.norm, "l2"),
        ("adversarial.rank", a.rank, None),
        ("clean.dataset_size", config.clean.dataset_size, None),
        ("adversarial.dataset_size", a.dataset_size, None),
    ]
    for name, value, *allowed in rules:
        if value not in allowed:
            needed = " or ".join(map(repr, allowed))
            raise ConfigError(
                f"{name} = {value!r}: the reduced dynamics are derived for {needed} only "
                "(docs/dynamics.md). Change it, or use 'featpur run' without --closure."
            )
    if p.k + p.p_one > p.d:
        raise ConfigError(
            f"problem.k + problem.p_one = {p.k + p.p_one:g} exceeds problem.d = {p.d}: lower k."
        )


def schedule_of(bias: BiasConfig, duration: float) -> Schedule:
    """The schedule of a run's clean phase that lasts t′ = ``duration``."""
    ceiling, monotone, relative = math.inf, False, False
    match bias:
        case LinearRampConfig():
            at, value = [0.0, bias.fraction * duration], [bias.start, bias.stop]
        case PerNeuronConfig():
            at, value = [bias.begin, bias.end], [bias.start, bias.stop]
            ceiling, monotone, relative = bias.ceiling, bias.monotone, True
        case TabulatedConfig():
            at, value = [f * duration for f in bias.fractions], list(bias.values)
        case FrozenConfig():
            at, value = [0.0, duration], [bias.start] * 2
    return Schedule(
        *(np.asarray(v, float) for v in (at, value, float(relative), float(monotone), ceiling))
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


def scaling_of(config: RunConfig) -> Scaling:
    """The settings of a run, scaled: r = m/d, λd, ν_f = b/α·√k and ε = τ√k stay as they are.

    A schedule without a threshold per neuron does not fix b/α; ν_f is then ½.
    """
    p = config.problem
    bias = config.clean.bias
    return Scaling(
        sigma_x=p.sigma_x,
        p_one=p.p_one,
        copies=config.network.neurons / p.d,
        decay=config.clean.weight_decay * p.d,
        bias_fraction=bias.stop * p.k**0.5 if isinstance(bias, PerNeuronConfig) else 0.5,
        radius=config.adversarial.radius * p.k**0.5,
    )


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
