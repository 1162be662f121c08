"""Which neurons' gates are open after clean training, and what opens them: docs/dynamics.md.

    python experiments/ladder_gates.py --d 128 256 512

Clean phase of a rung of the ladder (`ladder.py`). A neuron without its feature sees κX + ⟨r, x⟩, of
variance (κ² + ‖r‖²/d)E‖x‖²; were it Gaussian, k/d + 2Φ(−b_i/deviation) of its gates would be open.
"Others" are the neurons whose largest coordinate is less than half of the largest of all. The
closure's neurons are looked at in the same way, each with a random residual of its own length.
"""

import argparse

import jax.numpy as jnp
import numpy as np
from ladder import settings
from scipy.stats import norm

from featpur_sim import SymmetricReLU, decompose
from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.closure import follow, start_of
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.training.course import require_trained
from featpur_sim.training.loop import train


def trained(config):
    """W and b of the run after clean training."""
    problem = make_problem(config, 1).gauge()
    starts, keys, _, _ = seed_keys(config)
    run = train(
        problem, make_network(config, starts[0]), make_phases(config)[:1], key=keys[0], records=2
    )
    require_trained(run)
    return run.networks["clean"]


def closed(config):
    """The same of the closure: its neurons written out."""
    state, key = start_of(config, 0)
    phase, step = "", 0
    states = follow(config, state, key, records=1)
    while (phase, step) != ("clean", config.clean.steps):
        phase, step, state, b = next(states)
    weights, feature = np.outer(state.dense, state.profile), np.asarray(state.feature).T
    np.put_along_axis(weights, feature, np.asarray(state.carried).T, axis=1)
    residual = np.random.default_rng(config.seed).standard_normal(weights.shape)
    np.put_along_axis(residual, feature, 0, axis=1)
    length = np.sqrt(np.asarray(state.residual)) / np.linalg.norm(residual, axis=1)
    weights += length[:, None] * residual
    wstar = make_problem(config, 1).gauge().wstar
    return SymmetricReLU(jnp.asarray(weights * np.asarray(wstar), jnp.float32), b)


def gates(config, network):
    """Per neuron: open fraction, the estimate, whether it carries a feature, ‖r‖²."""
    problem = make_problem(config, 1).gauge()
    parts = decompose(network.weights, problem)
    x = problem.sample(seed_keys(config)[2][0], 2000).x
    p = config.problem
    energy = 1 + p.p_one + p.sigma_x**2
    square = np.asarray(parts.residual_norm) ** 2
    deviation = np.sqrt((np.asarray(parts.kappa) ** 2 + square / p.d) * energy)
    estimate = p.k / p.d + 2 * norm.cdf(-np.asarray(network.bias) / deviation)
    opened = np.asarray(jnp.mean(network.active(x).astype(jnp.float32), axis=0))
    return opened, estimate, np.asarray(parts.carrier), square


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", type=float, default=0.4)
    parser.add_argument("--d", nargs="*", type=int, default=[128, 256, 512])
    parser.add_argument("--seed", type=int, default=900)
    given = parser.parse_args()
    head = [
        "d",
        "method",
        "k/d",
        "open, mean",
        "estimate",
        "open, median neuron",
        "tenth most open",
    ]
    head += ["carriers, mean", "others, mean", "others, share", "‖r‖², median", "‖r‖², mean"]
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
    for d in given.d:
        config = settings(d, given.a, given.seed)
        for method, make in (("direct", trained), ("closure", closed)):
            opened, estimate, carrier, square = gates(config, make(config))
            others = opened[~carrier].mean() if (~carrier).any() else float("nan")
            cells = (
                config.problem.k / d, opened.mean(), estimate.mean(), np.median(opened),
                np.quantile(opened, 0.9), opened[carrier].mean(), others, (~carrier).mean(),
                np.median(square), square.mean(),
            )  # fmt: skip
            line = [str(d), method, *(f"{cell:.3f}" for cell in cells)]
            print("|", " | ".join(line), "|", flush=True)


if __name__ == "__main__":
    main()
