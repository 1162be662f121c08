"""What products in TF32 or bfloat16 would do to the results, emulated in float32.

On a GPU or TPU ``jax.default_matmul_precision`` chooses how the operands of a matrix product are
rounded; sums stay in float32. A CPU ignores it, so here every product of a training step has its
operands rounded first: to 10 bits of mantissa (TF32) or 7 (bfloat16). Everything else is the
library's own step. The table shows what the adversarial phase leaves, over seeds.

    python benchmarks/precision.py
"""

import argparse

import equinox as eqx
import jax
import numpy as np
from jax import lax
from timing import table

from featpur_sim import (
    FGM,
    PGD,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    decompose,
    initialise,
    robust_accuracy,
)
from featpur_sim.measure.weights import summarise
from featpur_sim.training.bias import LinearRamp
from featpur_sim.training.loop import replicate
from featpur_sim.training.step import gradient_step, start_phase

# Operations that hold a program of their own, and where they hold it.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
MANTISSA = {"float32": 23, "TF32": 10, "bfloat16": 7}


def with_rounded_products(function, bits: int):
    """``function`` with the operands of its matrix products rounded to ``bits`` of mantissa."""

    def run(jaxpr, constants, *inputs):
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom):
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            if equation.primitive.name in CALLS:
                inner = equation.params[CALLS[equation.primitive.name]]
                results = run(inner.jaxpr, inner.consts, *operands)
            else:
                if equation.primitive.name == "dot_general":
                    operands = [lax.reduce_precision(a, 8, bits) for a in operands]
                results = equation.primitive.bind(*operands, **equation.params)
                results = results if equation.primitive.multiple_results else [results]
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def rounded(*arguments):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        leaves = run(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return rounded


def train_rounded(problem, network, phase, key, bits: int):
    """The network after a phase whose every step rounds its products."""
    state = jax.tree.map(lambda a: a[0], start_phase(*replicate((network, phase), 1), key[None]))
    arrays, rest = eqx.partition((problem, phase), eqx.is_array)

    def step(state, arrays, t):
        problem, phase = eqx.combine(arrays, rest)
        return gradient_step(state, problem, phase, None, key, t)[0]

    @jax.jit
    def loop(state, arrays):
        rounded = with_rounded_products(step, bits)
        steps = eqx.combine(arrays, rest)[1].steps
        return lax.fori_loop(0, steps, lambda t, state: rounded(state, arrays, t), state)

    return loop(state, arrays).network


def measure(d=64, m=256, k=5.0, steps=2000, seeds=3, radius=0.134) -> str:
    problem = SparseCoding(d, k, 0.3)
    phases = [
        CleanPhase(steps, batch=256, bias=LinearRamp(0.06, fraction=0.5)),
        AdversarialPhase(FGM(radius), steps, batch=256),
    ]
    rows = []
    for name, bits in MANTISSA.items():
        found = []
        for seed in range(seeds):
            key = jax.random.key(seed)
            network = initialise(d, m, key=jax.random.fold_in(key, 7))
            for position, phase in enumerate(phases):
                network = train_rounded(
                    problem, network, phase, jax.random.fold_in(key, position), bits
                )
            score = robust_accuracy(network, problem, PGD(radius), key=jax.random.key(99), n=4000)
            summary = summarise(decompose(network.weights, problem), problem)
            found.append([float(score.value), float(summary["kappa_over_alpha"])])
        means, errors = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(seeds)
        rows.append(
            (
                name,
                f"robust accuracy {means[0]:.3f} ± {errors[0]:.3f}, "
                f"κ/α {means[1]:.4f} ± {errors[1]:.4f}",
                "",
            )
        )
    title = f"Precision of the products, emulated (d = {d}, m = {m}, {seeds} seeds ± s.e.)"
    return table(title, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"steps": 2000, "seeds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(measure(**vars(parser.parse_args())))
