"""What the closure's residuals have in common with a run's: docs/dynamics.md.

    python experiments/closure_range.py

First table: neurons' gates on a run's own inputs, after each phase of a rung of the ladder. "Stiff"
are the two largest eigenvalues of E[σ(1 − σ) g gᵀ], σ the slope of the loss and g the gates, over
the mean one: how much faster than an average direction over neurons the loss takes these back.
"Noise" is the share of a step's noise, E[σ² g gᵀ‖x‖²], along the first, along c, and along c and
how often gates are open, the two that the closure holds at zero.

Second table: preset sparse-regime at (64, 5) under more and more noise of a step; the closure, and
the closure with residuals that are independent, as it was.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from closure_followed import closure_ends, ends
from ladder import PHASES, POINTS, settings

from featpur_sim import FGM
from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.theory.dynamics import population
from featpur_sim.training.loop import train

# Batch, and η over the preset's.
NOISES = ((512, 1), (64, 1), (32, 1), (64, 3))
SHOWN = {
    "alpha": "α", "residual": "ρ²", "active": "active", "accuracy": "accuracy",
    "dense_accuracy": "dense attack", "unfollowed": "not followed",
}  # fmt: skip


def line(*cells):
    print("|", " | ".join(cells), "|", flush=True)


def head(*names):
    line(*names)
    print("|" + "---|" * len(names), flush=True)


def of_gates(gates, weight):
    """Σ_s weight_s g_s g_sᵀ of gates [n, m]."""
    scaled = gates * np.sqrt(weight)[:, None]
    return scaled.T @ scaled


def share(noise, *rows):
    """Of a matrix's trace, what lies in the span of rows."""
    basis = np.linalg.qr(np.stack(rows, axis=1))[0]
    return np.trace(basis.T @ noise @ basis) / np.trace(noise)


def modes(config):
    """Phase → stiffness of two directions, and shares of the noise, of a run."""
    problem = make_problem(config, 1).gauge()
    starts, keys, test_keys, _ = seed_keys(config)
    run = train(
        problem, make_network(config, starts[0]), make_phases(config), key=keys[0], records=2
    )
    for phase in PHASES:
        network, batch = run.networks[phase], problem.sample(test_keys[0], POINTS)
        x = batch.x
        if phase == "adversarial":
            x = x + FGM(config.adversarial.radius)(network, batch, key=test_keys[0])
        gates = np.asarray(network.active(x), float)
        slope = np.asarray(jax.nn.sigmoid(-batch.y * network(x)) * jnp.abs(batch.y), float)
        values = np.linalg.eigvalsh(of_gates(gates, slope * (1 - slope)))
        noise = of_gates(gates, slope**2 * np.sum(np.asarray(x) ** 2, axis=1))
        coordinates = np.asarray(network.weights, float) * np.asarray(problem.wstar)
        c = np.asarray(population.of_weights(coordinates).dense)
        stiff = values[-1] / values.mean(), values[-2] / values.mean()
        first = np.linalg.eigvalsh(noise)[-1] / np.trace(noise)
        yield phase, (*stiff, first, share(noise, c), share(noise, c, gates.mean(axis=0)))


def noisy(batch, rate, seed):
    """The preset with another batch and rate, over the same time t′."""
    changed = sparse_regime(64, 5, seeds=1, seed=seed).model_dump()
    for phase in PHASES:
        own = changed[phase]
        own["batch"], own["learning_rate"] = batch, rate * own["learning_rate"]
        own["steps"] = round(own["steps"] / rate)
    return parse(changed)


def closed(config):
    """Phase → order parameters of the closure."""
    return closure_ends(config, population.FOLLOWED)


def independent(config):
    """The same of the closure whose residuals have nothing in common."""
    free, population.free = population.free, lambda values, *_: values
    jax.clear_caches()
    try:
        return closed(config)
    finally:
        population.free = free
        jax.clear_caches()


METHODS = {"run": ends, "closure": closed, "closure, independent": independent}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", type=float, default=0.45)
    parser.add_argument("--d", nargs="*", type=int, default=[128, 256])
    parser.add_argument("--seeds", type=int, default=3, help="of the second table")
    given = parser.parse_args()
    head("a", "d", "phase", "stiff, first", "second", "noise, first", "along c", "along c and open")
    for d in given.d:
        for phase, (first, second, *shares) in modes(settings(d, given.a, 0)):
            cells = f"{first:.0f}", f"{second:.1f}", *(f"{value:.3f}" for value in shares)
            line(f"{given.a:g}", str(d), phase, *cells)
    print()
    head("batch", "η over the preset's", "phase", "method", *SHOWN.values())
    for batch, rate in NOISES:
        configs = [noisy(batch, rate, seed) for seed in range(given.seeds)]
        found = {name: [method(c) for c in configs] for name, method in METHODS.items()}
        for phase in PHASES:
            for name, runs in found.items():
                values = ([float(run[phase].get(what, np.nan)) for run in runs] for what in SHOWN)
                cells = (f"{np.mean(v):.3f}".replace("nan", "–") for v in values)
                line(str(batch), str(rate), phase, name, *cells)


if __name__ == "__main__":
    main()
