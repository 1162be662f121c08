"""A step of the heterogeneous closure: its followed coordinates in blocks of neurons, and written
out as a matrix, beside a step of the simulator at the same settings (docs/dynamics.md, step 8).

Preset sparse-regime at k = round(d^0.4). "Direct" is a training step of the network itself.

    python benchmarks/closure.py
    python benchmarks/closure.py --d 64 2048
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
from sampler import steps_program
from timing import alternate, machine, show, table

from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.closure import law_of, start_of, thresholds_of
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.theory.dynamics import followed, population
from featpur_sim.training.loop import replicate

STEPS = 8


def closure_steps(config, adversarial, written_out):
    """STEPS of the closure as one program, compiled for one of the two forms."""
    state, key = start_of(config, 0)
    phase = "adversarial" if adversarial else "clean"
    thresholds = thresholds_of(config, phase, jnp.full_like(state.dense, 0.01))
    law, radius = law_of(config, phase), jnp.float32(config.adversarial.radius)
    before = followed._WRITTEN_OUT
    followed._WRITTEN_OUT = written_out
    # Compiled here, while the form is set, and apart from what is kept of other calls.
    run = jax.jit(
        lambda *a: population.evolve.__wrapped__(
            *a, batch=getattr(config, phase).batch, adversarial=adversarial
        )
    )
    arguments = state, thresholds, radius, law, key, 0, STEPS
    program = run.lower(*arguments).compile()
    followed._WRITTEN_OUT = before
    return lambda: program(*arguments)


def direct_steps(config, adversarial):
    """The same steps of the network itself."""
    phase, (starts, keys, _, _) = make_phases(config)[adversarial], seed_keys(config)
    problem = replicate(make_problem(config, 1).gauge(), 1)
    network = eqx.filter_vmap(lambda key: make_network(config, key))(starts)
    program = steps_program(phase, 1, STEPS)
    return lambda: program(problem, network, keys)


def measure(sizes, repeats=9):
    rows = []
    for d in sizes:
        config = sparse_regime(d, round(d**0.4), seeds=1)
        for adversarial, name in enumerate(("clean", "FGM")):
            ways = {
                "blocks": closure_steps(config, bool(adversarial), 0),
                "matrix": closure_steps(config, bool(adversarial), d),
                "direct": direct_steps(config, adversarial),
            }
            seconds = alternate(ways, repeats)
            own = 1e3 * seconds["blocks"] / STEPS
            rows.append((f"d = {d}, {name}: in blocks, ms", show(own), ""))
            for other, called in (("matrix", "written out"), ("direct", "direct")):
                ratio = show(seconds[other] / seconds["blocks"])
                rows.append((f"d = {d}, {name}: {called} over blocks", ratio, ""))
    return table("A step of the closure (n = 512, m = 4d, K = 16)", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", nargs="*", type=int, default=[64, 128, 256, 512, 1024])
    options = parser.parse_args()
    print(f"Measured on {machine()}.\n")
    print(measure(options.d))
