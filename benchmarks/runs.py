"""Many runs in one program against one after another.

"One after another" is the library's own `train`, one compiled call per run; "step by step" is a
Python loop over a compiled step, as one would first write it. Every contestant does the same work.

    python benchmarks/runs.py                            # one device: runs take turns
    JAX_NUM_CPU_DEVICES=2 python benchmarks/runs.py      # a CPU as two devices: two runs at a time
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
from timing import alternate, show, table

from featpur_sim import FGM, AdversarialPhase, SparseCoding, initialise, train, train_many
from featpur_sim.training.devices import spread
from featpur_sim.training.loop import replicate
from featpur_sim.training.step import gradient_step, start_phase


def measure(runs=64, d=64, steps=100, repeats=3, sizes=((64, 64), (128, 256), (256, 512))) -> str:
    rows = []
    for m, batch in sizes:
        problem, phase = SparseCoding(d, 5.0, 0.3), AdversarialPhase(FGM(0.1), steps, batch=batch)
        keys = jax.random.split(jax.random.key(1), runs)
        singles = [initialise(d, m, bias=0.02, key=key) for key in keys]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
        many = stacked, keys, *replicate((problem, [phase]), runs)
        stacked, many_keys, problems, phases = spread(many)
        settings = {"records": 1, "test_samples": 32}

        def together(args=(problems, stacked, phases), keys=many_keys, settings=settings):
            return train_many(*args, keys=keys, **settings).network.weights

        def in_turn(args=(problem, singles, phase), keys=keys, settings=settings):
            problem, networks, phase = args
            return [
                train(problem, network, [phase], key=key, **settings).network.weights
                for network, key in zip(networks, keys, strict=True)
            ]

        one_step = eqx.filter_jit(lambda *arguments: gradient_step(*arguments)[0])

        def by_steps(args=(problem, singles, phase), keys=keys, one_step=one_step, steps=steps):
            problem, networks, phase = args
            for network, key in zip(networks, keys, strict=True):
                state = start_phase(*replicate((network, phase), 1), key[None])
                state = jax.tree.map(lambda leaf: leaf[0], state)
                for t in range(steps):
                    state = one_step(state, problem, phase, None, key, jnp.int32(t))
            return state.network.weights

        contestants = {"together": together, "in turn": in_turn, "by steps": by_steps}
        seconds = alternate(contestants, repeats)
        mine = seconds["together"]
        size = f"m = {m}, batch {batch}"
        rows += [
            (f"{size}: µs per step of one run", show(mine / runs / steps * 1e6, 0), ""),
            (f"{size}: over one after another", show(seconds["in turn"] / mine), "≥ 3"),
            (f"{size}: over step by step from Python", show(seconds["by steps"] / mine), ""),
        ]
    devices = f"{jax.local_device_count()} device{'s' * (jax.local_device_count() > 1)}"
    return table(f"{runs} runs at once, {devices} (d = {d}, FGM, {steps} steps each)", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"runs": 64, "d": 64, "steps": 100, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(measure(**vars(parser.parse_args())))
