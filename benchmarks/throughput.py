"""How many points the attacks and the certificate get through per second.

The network is the noisy mixture of the tests' kind: one pure and one dense part per feature, so
that both the attack and the certificate have work to do.

    python benchmarks/throughput.py
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from timing import alternate, show, table

from featpur_sim import FGM, PGD, SparseCoding, SymmetricReLU, robust_accuracy
from featpur_sim.certify import certify


def measure(d=64, m=256, points=2000, certified=40, repeats=5) -> str:
    problem = SparseCoding(d, 5.0, 0.3)
    pure = jnp.tile(jnp.eye(d) * problem.wstar[:, None], (-(-m // d), 1))[:m]
    noise = jax.random.normal(jax.random.key(0), (m, d))
    weights = pure + 0.05 * problem.wstar + 0.01 * noise
    network, key = SymmetricReLU(weights, 0.2), jax.random.key(1)
    batch = problem.sample_labelled(jax.random.key(2), certified)
    right = np.asarray(batch.y[:, None] * batch.x)
    arrays = np.asarray(weights), 0.2, right, 0.1
    attacks = {"FGM": FGM(0.1), "PGD, 40 steps": PGD(0.1), "PGD, 40 steps, 2 starts": PGD(
        0.1, restarts=2)}  # fmt: skip
    calls = {
        name: lambda attack=attack: robust_accuracy(network, problem, attack, key=key, n=points)
        for name, attack in attacks.items()
    }
    shares = {}

    def certificate(name, stages):
        def call():
            shares[name] = certify(*arrays, stages=stages).certified.mean()

        return call

    for stages in (("linear",), ("linear", "q1"), ("linear", "q1", "q2")):
        name = "certificate, " + " + ".join(stages)
        calls[name] = certificate(name, stages)
    seconds = alternate(calls, repeats)
    rows = []
    for name, values in seconds.items():
        count = certified if name in shares else points
        note = f"; {shares[name]:.0%} certified" if name in shares else ""
        rows.append((f"{name}: points per second", show(count / values, 0) + note, ""))
    return table(f"Attacks and certificates (d = {d}, m = {m}, τ = 0.1)", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"d": 64, "m": 256, "points": 2000, "certified": 40, "repeats": 5}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(measure(**vars(parser.parse_args())))
