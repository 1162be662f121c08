"""One training step against the machine's matrix products, and against PyTorch.

The matrix products are the step's own, of the same shapes and nothing else: 4Ndm operations in a
clean step, 8Ndm under FGM. PyTorch runs the same mathematics as one would write it there: autograd
for both gradients, softshrink for the soft threshold. Both sides draw fresh samples every step.

    python benchmarks/step.py
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from jax import lax
from timing import alternate, show, table
from torch.nn.functional import softplus, softshrink

from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, initialise
from featpur_sim.training.devices import each_run
from featpur_sim.training.loop import replicate
from featpur_sim.training.step import gradient_step, start_phase

K, SIGMA_X, RADIUS, RATE, DECAY, BIAS = 8.0, 0.3, 0.1, 0.5, 1e-4, 0.02


def ours(phase, network, steps):
    """A call that takes ``steps`` steps of the library in one program."""
    problem = SparseCoding(network.d, K, SIGMA_X)
    keys = jax.random.split(jax.random.key(1), 1)
    problem, network, phase = replicate((problem, network, phase), 1)
    runs = start_phase(network, phase, keys), problem, phase, keys

    @eqx.filter_jit
    def program(runs, steps):
        def one(state, problem, phase, key):
            def body(t, state):
                return gradient_step(state, problem, phase, None, key, t)[0]

            return lax.fori_loop(0, steps, body, state).network.weights

        return each_run(one, runs, None)

    return lambda: program(runs, steps)


def products(weights, x, attacked: bool, steps: int):
    """A call that takes the matrix products of ``steps`` steps, each result feeding the next."""

    @jax.jit
    def program(weights, x, steps):
        def body(t, weights):
            moved = (x @ weights.T) @ weights if attacked else x
            return weights + 1e-30 * ((weights @ moved.T) @ moved)

        return lax.fori_loop(0, steps, body, weights)

    return lambda: program(weights, x, steps)


def torch_products(weights, x, attacked: bool, steps: int):
    weights, x = (torch.from_numpy(jax.device_get(a).copy()) for a in (weights, x))

    def call():
        for _ in range(steps):
            moved = (x @ weights.T) @ weights if attacked else x
            (weights @ moved.T) @ moved

    return call


def torch_step(weights, batch: int, attacked: bool, compiled: bool = False):
    """One step in PyTorch: samples, FGM by autograd, loss, weight decay, descent."""
    d = weights.shape[1]
    weights = torch.from_numpy(jax.device_get(weights).copy()).requires_grad_()
    wstar = torch.where(torch.rand(d) < 0.5, -1.0, 1.0)

    def output(x, weights):
        return softshrink(x @ weights.T, BIAS).sum(1)

    def loss_at(x, y, weights):
        norms = weights.norm(dim=1)
        decay = DECAY * (norms**2 / 2 + norms**3 / 3).sum()
        return softplus(-y * output(x, weights)).mean() + decay

    if compiled:
        output, loss_at = torch.compile(output), torch.compile(loss_at)

    def step():
        uniform = torch.rand(batch, d)
        magnitude = torch.where(uniform < (1 + K) / d, K**-0.5, 0.0)
        magnitude = torch.where(uniform < 1 / d, 1.0, magnitude)
        z = magnitude * (2 * torch.randint(2, (batch, d)) - 1)
        x, y = z + SIGMA_X * d**-0.5 * torch.randn(batch, d), torch.sign(z @ wstar)
        if attacked:
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(output(x, weights.detach()).sum(), x)
            length = gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
            x = x.detach() - RADIUS * y[:, None] * gradient / length
        (slope,) = torch.autograd.grad(loss_at(x, y, weights), weights)
        with torch.no_grad():
            weights.sub_(slope, alpha=RATE)

    return step


def layouts(network, x, repeats: int) -> tuple[str, str, str]:
    """What the gradient's product costs as Aᵀ·B, rows contracted with rows, over A·B."""
    tall, wide = network.weights @ x.T, x @ network.weights.T
    across, plain = jax.jit(lambda a, b: a.T @ b), jax.jit(lambda a, b: a @ b)
    seconds = alternate(
        {"across": lambda: across(wide, x), "plain": lambda: plain(tall, x)}, repeats
    )
    cost = seconds["across"] / seconds["plain"]
    return "one product as Aᵀ·B: its time over A·B of the same shapes", show(cost), ""


def drawing(problem, network, batch: int, steps: int):
    """A call that draws the samples of ``steps`` steps and does nothing else."""

    @jax.jit
    def program(key, steps):
        # What a loop carries is written to memory at every turn.
        def body(t, x):
            return problem.sample(jax.random.fold_in(key, t), batch).x

        return lax.fori_loop(0, steps, body, jnp.zeros((batch, network.d)))

    return lambda: program(jax.random.key(1), steps)


def passes(network, x, attacked: bool, steps: int):
    """A call that makes the passes over [m, n] arrays of ``steps`` steps, without the products.

    Pre-activations in; thresholded sum and gates out, and gates times slopes: once, and under FGM
    the gates of the attack too.
    """
    u = network.weights @ x.T

    @jax.jit
    def program(u, steps):
        def body(t, carry):
            fresh = u + 1e-30 * t
            value, gate = network.output_and_gate(fresh, neurons=0)
            return jax.nn.sigmoid(-value) * gate, gate if attacked else carry[1]

        return lax.fori_loop(0, steps, body, (u, u))

    return lambda: program(u, steps)


def parts(seconds, name: str) -> list[tuple[str, str, str]]:
    """Where the time of a step goes: its pieces alone, as shares of the whole step."""
    labels = {
        "products": "its matrix products",
        "drawing": "drawing samples",
        "passes": "passes over [m, n]",
    }
    return [
        (f"{name} step, profile: {label} alone", show(seconds[piece] / seconds["ours"]), "")
        for piece, label in labels.items()
    ]


def repeated(step, steps):
    def call():
        for _ in range(steps):
            step()

    return call


def measure(d=256, m=1024, batch=1024, steps=15, repeats=9) -> str:
    network = initialise(d, m, bias=BIAS, key=jax.random.key(0))
    x = SparseCoding(d, K, SIGMA_X).sample(jax.random.key(2), batch).x
    rows = [layouts(network, x, 3 * repeats)]
    for attacked in (False, True):
        settings = {"batch": batch, "learning_rate": RATE, "weight_decay": DECAY}
        phase = (
            AdversarialPhase(FGM(RADIUS), 1, **settings) if attacked else CleanPhase(1, **settings)
        )
        name, count = ("FGM", 8) if attacked else ("clean", 4)
        torch.manual_seed(0)
        seconds = alternate(
            {
                "ours": ours(phase, network, steps),
                "products": products(network.weights, x, attacked, steps),
                "drawing": drawing(SparseCoding(d, K, SIGMA_X), network, batch, steps),
                "passes": passes(network, x, attacked, steps),
                "torch products": torch_products(network.weights, x, attacked, steps),
                "torch": repeated(torch_step(network.weights, batch, attacked), steps),
                "torch.compile": repeated(
                    torch_step(network.weights, batch, attacked, compiled=True), steps
                ),
            },
            repeats,
        )
        rate = count * batch * d * m * steps / seconds["ours"] / 1e9
        mine = seconds["ours"]
        rows += [
            (f"{name} step, ms", show(mine / steps * 1e3), ""),
            (f"{name} step, Gflop/s ({count}Ndm)", show(rate, 0), ""),
            (
                f"{name} step: fraction of the rate of its products in XLA",
                show(seconds["products"] / mine),
                "≥ 0.8" if attacked else "",
            ),
            (
                f"{name} step: fraction of the rate of its products in PyTorch",
                show(seconds["torch products"] / mine),
                "",
            ),
            (
                f"{name} step: throughput over PyTorch",
                show(seconds["torch"] / mine),
                "≥ 1.5" if attacked else "",
            ),
            (
                f"{name} step: throughput over torch.compile",
                show(seconds["torch.compile"] / mine),
                "",
            ),
            *parts(seconds, name),
        ]
    return table(f"One training step (d = {d}, m = {m}, batch {batch})", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"d": 256, "m": 1024, "batch": 1024, "steps": 15, "repeats": 9}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(measure(**vars(parser.parse_args())))
