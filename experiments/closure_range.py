"""Where the closure ends: what it does not follow, and whether a run's residuals are independent.

    python experiments/closure_range.py --a 0.45 --d 128 256

On rungs of the ladder, after each phase. "Not followed" is the share of Σ‖w_i‖² in residuals: in
the closure's state, and in the run's own weights less the closest member of the family (q_i).
"Together" is ‖Σ g_i q_i‖² over Σ g_i²‖q_i‖², g_i the share of inputs on which neuron i is open.
Fitting ψ takes out most of what neurons share, so 1 is not what independent residuals give: the
last column puts random ones of the same norms in their place and fits again.
"""

import argparse

import jax.numpy as jnp
import numpy as np
from ladder import EXPONENTS, PHASES, POINTS, settings

from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.closure import follow, start_of
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.theory.dynamics import population
from featpur_sim.training.loop import train


def not_followed(config):
    """Phase → share at its end."""
    state, key = start_of(config, 0)
    return {
        phase: float(population.unfollowed(current))
        for phase, _, current, _ in follow(config, state, key, 1)
    }


def residuals(coordinates):
    """Coordinates [m, d] less the closest member of the family."""
    found = population.of_weights(coordinates)
    close = np.asarray(found.dense)[:, None] * np.asarray(found.profile)
    columns = np.asarray(found.feature).T
    np.put_along_axis(close, columns, np.asarray(found.carried).T, axis=1)
    return coordinates - close


def together(q, gates):
    """‖Σ g_i q_i‖² / Σ g_i²‖q_i‖²"""
    return float(np.sum((gates @ q) ** 2) / np.sum((gates[:, None] * q) ** 2))


def independent(coordinates, q, gates, draws=5):
    """Together, of random residuals of the same norms, fitted likewise; mean over draws."""
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        random = rng.standard_normal(q.shape) * (q != 0)
        random *= (np.linalg.norm(q, axis=1) / np.linalg.norm(random, axis=1))[:, None]
        found.append(together(residuals(coordinates - q + random), gates))
    return float(np.mean(found))


def of_run(config):
    """Phase → the residuals' share of the run's Σ‖w_i‖², together, and of independent ones."""
    problem = make_problem(config, 1).gauge()
    starts, keys, test_keys, _ = seed_keys(config)
    run = train(
        problem, make_network(config, starts[0]), make_phases(config), key=keys[0], records=2
    )
    x, found = problem.sample(test_keys[0], POINTS).x, {}
    for phase in PHASES:
        network = run.networks[phase]
        coordinates = np.asarray(network.weights, float)
        q = residuals(coordinates)
        gates = np.asarray(jnp.mean(network.active(x).astype(jnp.float32), axis=0))
        share = np.sum(q**2) / np.sum(coordinates**2)
        found[phase] = share, together(q, gates), independent(coordinates, q, gates)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", nargs="*", type=float, default=EXPONENTS)
    parser.add_argument("--d", nargs="*", type=int, default=[128, 256])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    given = parser.parse_args()
    head = ["a", "d", "seed", "phase", "closure: not followed", "run: not followed"]
    head += ["together", "independent ones"]
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|", flush=True)
    for d in given.d:
        for a in given.a:
            for seed in given.seeds:
                config = settings(d, a, seed)
                closure, run = not_followed(config), of_run(config)
                for phase in PHASES:
                    cells = closure[phase], *run[phase]
                    text = (f"{cell:.3f}" for cell in cells)
                    print("|", " | ".join([f"{a:g}", str(d), str(seed), phase, *text]), "|",
                          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
