"""Where clean training turns non-robust, d = 10² … 10⁹, with direct runs on it: docs/dynamics.md.

    python experiments/phase_boundary.py --out DIR

In the reduced model: the k at which the dense attack takes the clean network to accuracy ½ at the
same radius as FGM takes the pure one. Direct: that ratio of radii, after the clean phase of the
sparse regime. Writes DIR/boundary.json and DIR/boundary.png.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim.attacks.accuracy import robust_accuracy
from featpur_sim.attacks.gradient import FGM, DenseMixture
from featpur_sim.models.symmetric_relu import initialise, pure_network
from featpur_sim.report import dynamics_figures
from featpur_sim.runs.build import make_phases, make_problem
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import scaling_of
from featpur_sim.theory.dynamics import exponents as reduced_exponents
from featpur_sim.training.course import require_trained
from featpur_sim.training.loop import replicate, train_many

DIRECT = ((64, 3), (64, 5), (64, 10), (128, 3), (128, 5), (128, 8), (128, 16))


def radius_at_half(network, problem, make, key):
    low, high = np.log(1e-3), np.log(3.0)
    for _ in range(12):
        middle = (low + high) / 2
        score = robust_accuracy(network, problem, make(float(np.exp(middle))), key=key, n=4000)
        low, high = (middle, high) if float(score.value) > 0.5 else (low, middle)
    return float(np.exp((low + high) / 2))


def direct(d, k, seeds=2):
    """The ratio of the dense radius of the clean network to the pure network's, mean of log."""
    config = sparse_regime(d, k, seeds=seeds)
    problem = make_problem(config, 1).gauge()
    start, keys, _, _ = seed_keys(config)
    networks = eqx.filter_vmap(
        lambda key: initialise(
            d, config.network.neurons, sigma_0=config.network.sigma_0, per_neuron_bias=True, key=key
        )
    )(start)
    run = train_many(
        replicate(problem, seeds), networks, replicate(make_phases(config)[:1], seeds), keys=keys,
        records=2,
    )  # fmt: skip
    require_trained(run)
    ratios = []
    for s in range(seeds):
        network = jax.tree.map(lambda leaf, s=s: leaf[s], run.networks["clean"])
        size = jnp.max(jnp.abs(network.weights), axis=1)
        # The pure network with the threshold that the trained one ended with, relative to α.
        bias = float(jnp.median(network.bias / size))
        pure = pure_network(problem.wstar, bias, problem.M)
        key = jax.random.key(s)
        dense = radius_at_half(network, problem, lambda t: DenseMixture.of(problem, t, "l2"), key)
        ratios.append(np.log(dense / radius_at_half(pure, problem, lambda t: FGM(t, "l2"), key)))
    return {"d": d, "k": k, "ratio": float(np.exp(np.mean(ratios))), "seeds": seeds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("phase-boundary"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    scaling = scaling_of(sparse_regime(128, 8))
    rows = []
    for d in (10**i for i in range(2, 10)):
        k, error = reduced_exponents.boundary(d, scaling)
        rows.append({"d": d, "k": k, "standard_error": error})
        print(
            f"d = {d:.0e}: k = {k:.4g} ± {error:.2g} = {k / d ** (1 / 3):.3f} d^(1/3)", flush=True
        )
    runs = []
    for d, k in DIRECT:
        runs.append(direct(d, k))
        print(runs[-1], flush=True)
    content = {"boundary": rows, "direct": runs}
    (given.out / "boundary.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    dynamics_figures.boundary(rows, runs).savefig(given.out / "boundary.png", dpi=200)


if __name__ == "__main__":
    main()
