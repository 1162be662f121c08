"""What a sweep will take, before it is run: runs, compilations, memory, time.

Time is counted in products with the weights: 4Ndm floating-point operations for a step of clean
training or one gradient in x, N rows (docs/theory.md §3), at the rate of this very product on this
machine, measured for a moment; plus drawing the samples, likewise; plus compiling. Expect the right
order of magnitude, not the minute.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.runs.build import make_network, make_problem, simulated, training_attack
from featpur_sim.runs.config import RunConfig
from featpur_sim.sweeps.file import Sweep
from featpur_sim.sweeps.plan import Plan, lane_memory

# Seconds to compile all programs of a group, on one core of a 2.x GHz server [M].
COMPILE_SECONDS = 25.0
# Samples of a probe, and how long it may take at least.
_ROWS, _PROBE_SECONDS = 512, 0.2
# What a survey does with PGD besides one curve per phase: bisections and pure networks.
_BISECTIONS, _PURE = 20, 15


class Cost(NamedTuple):
    """An estimate.

    Attributes:
        points, runs: of the sweep; a run is one seed of one point.
        batches: files that will be written.
        compilations: sets of programs to compile; groups may share one.
        gib: memory of the largest batch.
        seconds: time in all, in this process.
        groups: the same of each group, with its d, m, steps, width and program; time without
            compiling.
    """

    points: int
    runs: int
    batches: int
    compilations: int
    gib: float
    seconds: float
    groups: list[Row]


@steady
def estimate(sweep: Sweep, plan: Plan) -> Cost:
    """Count, and measure two products for a moment at the size of the largest group."""
    configs = [sweep.points[group.points[0]].config for group in plan.groups]
    largest = max(zip(configs, plan.groups, strict=True), key=lambda pair: _products(pair[0]))
    product_rate, sample_rate = _rates(largest[0], largest[1].width)
    groups = []
    for number, (group, config) in enumerate(zip(plan.groups, configs, strict=True)):
        batches = plan.task_group.count(number)
        lanes = batches * group.width
        seconds = lanes * (_products(config) / product_rate + _samples(config) / sample_rate)
        groups.append(
            {
                "d": config.problem.d,
                "m": config.network.neurons,
                "steps": config.clean.steps + config.adversarial.steps,
                "points": len(group.points),
                "runs": len(group.points) * sweep.seeds,
                "batches": batches,
                "width": group.width,
                "gib": group.width * lane_memory(config) / 2**30,
                "program": group.program + 1,
                "seconds": seconds,
            }
        )
    compilations = len({group.program for group in plan.groups})
    return Cost(
        points=len(sweep.points),
        runs=len(sweep.points) * sweep.seeds,
        batches=len(plan.tasks),
        compilations=compilations,
        gib=max(group["gib"] for group in groups),
        seconds=sum(group["seconds"] for group in groups) + compilations * COMPILE_SECONDS,
        groups=groups,
    )


def summary(cost: Cost) -> str:
    """One line for the terminal."""
    minutes = cost.seconds / 60
    shown = f"{minutes:.1f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
    return (
        f"{cost.points} points, {cost.runs} runs, {cost.compilations} compilations, "
        f"{cost.batches} batches, {cost.gib:.2g} GiB, about {shown} here (products counted, at a "
        "rate measured just now)"
    )


def _products(config: RunConfig) -> float:
    """Floating-point operations of one lane in products with the weights."""
    per_row = 4 * config.problem.d * config.network.neurons
    clean, adversarial, settings = config.clean, config.adversarial, config.evaluation
    training = clean.steps * clean.batch
    # Code that attacks costs what it costs; one gradient is the least.
    own = adversarial.attack == "own"
    gradients = 1 if own else training_attack(adversarial).gradients
    training += adversarial.steps * adversarial.batch * (1 + gradients)
    phases = 3
    attacks = settings.pgd_steps * settings.pgd_restarts * (
        phases * (len(settings.radii) - 1) + 2 * _BISECTIONS
        + _PURE * config.problem.d / config.network.neurons
    )  # fmt: skip
    return per_row * (training + settings.samples * attacks)


def _samples(config: RunConfig) -> float:
    """Coordinates that one lane draws in training."""
    rows = sum(phase.steps * phase.batch for phase in (config.clean, config.adversarial))
    return rows * config.problem.d


def _rates(config: RunConfig, width: int) -> tuple[float, float]:
    """Operations per second of the weights' products, and coordinates drawn per second."""
    problem = simulated(config, make_problem(config, 1))
    keys = jax.random.split(jax.random.key(0), width)
    networks = eqx.filter_vmap(lambda key: make_network(config, key))(keys)
    x = jnp.ones((_ROWS, problem.d), jnp.float32)
    product = eqx.filter_jit(
        eqx.filter_vmap(
            lambda net, key: net.value_and_input_gradient(x, key=key), in_axes=(eqx.if_array(0), 0)
        )
    )
    draw = eqx.filter_jit(eqx.filter_vmap(_draw, in_axes=(None, 0)))
    operations = 4 * width * _ROWS * problem.d * config.network.neurons
    return (
        operations / _seconds(lambda: product(networks, keys)),
        width * _ROWS * problem.d / _seconds(lambda: draw(problem, keys)),
    )


def _draw(problem: SparseCoding, key):
    return problem.sample(key, _ROWS)


def _seconds(call: Callable[[], Any]) -> float:
    """Mean time of a call, once it is compiled."""
    jax.block_until_ready(call())
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < _PROBE_SECONDS:
        jax.block_until_ready(call())
        calls += 1
    return (time.perf_counter() - began) / calls
