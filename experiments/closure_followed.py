"""How many coordinates of a neuron the closure has to follow: docs/dynamics.md.

    python experiments/closure_followed.py sparse
    python experiments/closure_followed.py dense

Direct runs and closures of the same initial weights, K coordinates a neuron: closure over run, with
the 95 % interval over seeds; for accuracies closure less run.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from ladder import PHASES, POINTS, Clock, direct

from featpur_sim.runs.closure import follow, law_of, start_of
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.statistics import mean_interval
from featpur_sim.theory.dynamics import population

SHOWN = {
    "alpha": "α", "ratio": "κ/α", "carriers": "carriers", "active": "active",
    "dense_accuracy": "dense attack",
}  # fmt: skip
RUNS = {"dense": dense_regime, "sparse": sparse_regime}


def ends(config):
    """Order parameters of the direct run after each phase."""
    clock = Clock(f"{config.name}, d = {config.problem.d}, seed {config.seed}", config, PHASES)
    return {phase: found for phase, _, found in direct(config, PHASES, clock)}


def closure_ends(config, followed):
    """The same of the closure."""
    state, key = start_of(config, 0, followed)
    radius, own, found = jnp.float32(config.adversarial.radius), jax.random.fold_in(key, 2), {}
    for phase, _, current, b in follow(config, state, key, records=1):
        law = law_of(config, phase)
        found[phase] = population.measure(current, b, radius, law, own, n=POINTS)._asdict()
        found[phase]["unfollowed"] = population.unfollowed(current)
    return found


def cell(name, ours, theirs):
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    values = ours - theirs if name.endswith("accuracy") else ours / theirs
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]".replace("-", "−")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("regime", choices=RUNS, help="preset of 'featpur reproduce'")
    parser.add_argument("--followed", nargs="*", type=int, default=[2, 4, 8, 16, 32], help="K")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    head = ["run", "K", "phase", *SHOWN.values()]
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|", flush=True)
    configs = [RUNS[given.regime](seeds=1, seed=seed) for seed in range(given.seeds)]
    name = f"{given.regime} regime, ({configs[0].problem.d}, {configs[0].problem.k:g})"
    runs = [ends(config) for config in configs]
    for followed in given.followed:
        closures = [closure_ends(config, followed) for config in configs]
        for phase in PHASES:
            both = [[of[phase] for of in each] for each in (closures, runs)]
            cells = [
                cell(what, *([float(end[what]) for end in each] for each in both)) for what in SHOWN
            ]
            print("|", " | ".join([name, str(followed), phase, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
