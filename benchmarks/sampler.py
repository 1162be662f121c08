"""What sampling costs: its share of a training step, ours against plain jax.random.

Times the library's own step three times over in alternation, in one process: on a batch that is
already there, with the library's sampler, and with a sampler written with jax.random in the plain
way (three draws: level, sign, noise). Prints medians and the share of the step that sampling takes.

    python benchmarks/sampler.py
    python benchmarks/sampler.py --d 100 --m 400 --batch 512 --seeds 5
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, initialise
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.training.loop import replicate
from featpur_sim.training.step import gradient_step, start_phase


class PlainProblem(SparseCoding):
    """The same distribution sampled with three calls of jax.random."""

    def sample(self, key, n, *, start=0):
        level, sign, noise = jax.random.split(key, 3)
        uniform = jax.random.uniform(level, (n, self.d))
        magnitude = self.law.magnitude(uniform, self.k, self.D)
        z = magnitude * jax.random.rademacher(sign, (n, self.d), dtype=jnp.float32)
        x = z + self.sigma_x / np.sqrt(self.d) * jax.random.normal(noise, (n, self.d))
        return Batch(x, jnp.sign(z @ self.wstar), z)


class FixedProblem(SparseCoding):
    """No sampling at all: one batch that was drawn before."""

    batch: Batch

    def __init__(self, problem, batch):
        for name in ("k", "sigma_x", "wstar", "law", "M", "d", "D", "unitary"):
            setattr(self, name, getattr(problem, name))
        self.batch = batch

    def sample(self, key, n, *, start=0):
        # The key must matter, or the compiler would hoist the work out of the loop.
        tweak = 1 + 1e-12 * jax.random.bits(key, (), jnp.uint32).astype(jnp.float32)
        return self.batch._replace(x=self.batch.x * tweak)


def steps_program(phase, seeds, steps):
    @eqx.filter_jit
    def program(problem, network, keys):
        state = start_phase(network, replicate(phase, seeds), keys)

        def one(problem, state, phase, key):
            def body(t, state):
                return gradient_step(state, problem, phase, None, key, t)[0]

            return lax.fori_loop(0, steps, body, state).network.weights

        return eqx.filter_vmap(one)(problem, state, replicate(phase, seeds), keys)

    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--m", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    o = parser.parse_args()
    ours = SparseCoding(o.d, 8, 0.3)
    plain = PlainProblem(o.d, 8, 0.3)
    fixed = FixedProblem(ours, ours.sample(jax.random.key(0), o.batch))
    keys = jax.random.split(jax.random.key(1), o.seeds)
    network = eqx.filter_vmap(lambda key: initialise(o.d, o.m, bias=0.02, key=key))(keys)
    print(f"d={o.d} m={o.m} batch={o.batch} seeds={o.seeds}; medians of {o.repeats}")
    for phase in (CleanPhase(1, batch=o.batch), AdversarialPhase(FGM(0.1), 1, batch=o.batch)):
        program = steps_program(phase, o.seeds, o.steps)
        problems = {"none": fixed, "ours": ours, "jax.random": plain}
        problems = {name: replicate(problem, o.seeds) for name, problem in problems.items()}
        times: dict[str, list[float]] = {name: [] for name in problems}
        for repeat in range(o.repeats + 1):
            for name, problem in problems.items():
                began = time.perf_counter()
                program(problem, network, keys).block_until_ready()
                if repeat:  # the first compiles
                    times[name].append((time.perf_counter() - began) / o.steps * 1e3)
        median = {name: float(np.median(values)) for name, values in times.items()}
        base = median["none"]
        print(f"{phase.name:12} step without sampling {base:.2f} ms")
        for name in ("ours", "jax.random"):
            share = 1 - base / median[name]
            print(f"{'':12} {name:10} {median[name]:.2f} ms, sampling is {share:.1%} of the step")


if __name__ == "__main__":
    main()
