"""Claim C7 over d: which share of what a free update gains does an update of rank r gain?

Sparse regime, T steps of adversarial training, above d = 128 with the rate and the steps of the
ladder. Per size and seed: a clean network, its free update W_adv − W, and updates confined to rank
r (docs/theory.md §3),

    truncated  the best rank-r approximation of the free update, not trained;
    warm       from that one, split evenly between A and B, for 4·T steps at the rate η/s₁, s₁
               its largest singular value: so no direction is much faster than in a free update;
    random     from A = 0 and a random B, for 16·T/r steps and at least 4·T: a small rank is slow.

A large size is asked for fewer of them: at d = 512 a seed of all takes 4·10¹⁴ operations.

The share is (PGD accuracy at τ − the clean network's)/(free − the clean network's), seed by seed,
on the same test points. Rule, set before the run: a share grows with d if the 95 % t-interval over
seeds of its slope against log₂ d lies above 0; it falls if that lies below. RECORD keeps every
finished seed: the same command goes on where it was stopped, and prints the tables from it.

    python experiments/rank_trend.py 32,4 64,5 96,6 128,8 --picture docs/images/rank-trend.png
    python experiments/rank_trend.py 256,9 --warm 1 16 --random
    python experiments/rank_trend.py 512,12 --warm --random --seeds 3
    python experiments/rank_trend.py --picture docs/images/rank-trend.png   # from RECORD, seconds
"""

import argparse
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ladder import BASE, faster
from lower_bound import load, save
from panels import page
from panels import save as save_picture

from featpur_sim import PGD, SparseCoding, decompose, robust_accuracy, train
from featpur_sim.measure.weights import summarise
from featpur_sim.report._style import BLUE, GREEN, ORANGE
from featpur_sim.runs.build import make_network, make_phases
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.statistics import mean_interval
from featpur_sim.training.low_rank import LowRankUpdate
from featpur_sim.training.step import State, Status, gradient_step

RANKS, RANDOM, WARM, POINTS = (1, 4, 16), 16, 4, 8192
RECORD = Path(__file__).with_suffix(".json")
QUANTITIES = ("share", "PGD", "PGD less free", "clean", "clean less free", "κ/α")
COLUMNS = "d k seed update rank steps clean robust kappa_over_alpha".split()


def replaced(network, weights):
    return eqx.tree_at(lambda n: n.weights, network, weights)


@eqx.filter_jit
def descend(state, problem, phase, key, start, stop):
    def step(t, state):
        return gradient_step(state, problem, phase, None, key, t)[0]

    return lax.fori_loop(start, stop, step, state)


def trained(network, low_rank, problem, phase, key, steps):
    """Steps done and network, half-way and at the end; free weights where there are no factors."""
    variables = network.weights
    if low_rank is not None:
        network, variables = replaced(network, low_rank.weights), low_rank.factors
    optimizer_state = phase.optimizer(phase.learning_rate).init(variables)
    state = State(network, low_rank, optimizer_state, jnp.int32(0), jnp.int32(0))
    for start, stop in ((0, steps // 2), (steps // 2, steps)):
        state = descend(state, problem, phase, key, jnp.int32(start), jnp.int32(stop))
        if status := int(state.status):
            raise SystemExit(f"an update ended {Status(status).name}: lower the learning rate.")
        yield stop, state.network


def truncation(clean, free, rank):
    """The best AB of that rank, split evenly, and the largest singular value of the update."""
    left, values, right = np.linalg.svd(np.asarray(free - clean), full_matrices=False)
    root = np.sqrt(values[:rank])
    factors = jnp.asarray(left[:, :rank] * root), jnp.asarray(root[:, None] * right[:rank])
    any_start = LowRankUpdate(clean, rank, key=jax.random.key(0))
    return eqx.tree_at(lambda u: u.factors, any_start, factors), float(values[0])


def updates(config, problem, keys, warm, random):
    """(update, rank, steps, network), one after another; trained for the ranks asked for."""
    phases, steps, d = make_phases(config), config.adversarial.steps, problem.d
    start = make_network(config, keys[0])
    networks = train(problem, start, phases, key=keys[1], records=2).networks
    clean, free, phase = networks["clean"], networks["adversarial"], phases[1]

    def on(low_rank, start, steps, phase=phase):
        return trained(start, low_rank, problem, phase, keys[2], steps)

    yield "none", 0, 0, clean
    yield "free", d, steps, free
    if random:
        for n, network in on(None, free, WARM * steps):
            yield "free", d, steps + n, network
    for rank in RANKS:
        start, largest = truncation(clean.weights, free.weights, rank)
        yield "truncated", rank, 0, replaced(clean, start.weights)
        if rank in warm:
            slow = eqx.tree_at(lambda p: p.learning_rate, phase, phase.learning_rate / largest)
            for n, network in on(start, clean, WARM * steps, slow):
                yield "warm", rank, n, network
        if rank in random:
            start = LowRankUpdate(clean.weights, rank, key=keys[3])
            for n, network in on(start, clean, max(RANDOM // rank, WARM) * steps):
                yield "random", rank, n, network


def measure(d, k, seed, warm, random):
    """The rows of one size and seed."""
    config = faster(sparse_regime(d, k)) if d > BASE else sparse_regime(d, k)
    *keys, problem_key, test_key = jax.random.split(jax.random.key(seed), 6)
    problem = SparseCoding(d, k, config.problem.sigma_x, key=problem_key)
    attacks, rows = (None, PGD(config.adversarial.radius)), []
    for *update, network in updates(config, problem, keys, warm, random):
        scores = (robust_accuracy(network, problem, a, key=test_key, n=POINTS) for a in attacks)
        ratio = summarise(decompose(network.weights, problem), problem)["kappa_over_alpha"]
        values = *(round(s.value, 5) for s in scores), round(float(ratio), 5)
        rows.append(dict(zip(COLUMNS, (d, k, seed, *update, *values), strict=True)))
        print(*rows[-1].values(), file=sys.stderr, flush=True)
    return rows


def read(rows, d, update, rank, when=-1):
    """Quantity → one value a seed; none where the update was not asked for.

    ``when`` counts the step numbers of the update, −1 the last.
    """

    def column(name, update, rank, when):
        found = [r for r in rows if (r["d"], r["update"], r["rank"]) == (d, update, rank)]
        steps = sorted({row["steps"] for row in found})[when : None if when < 0 else when + 1]
        return np.array([row[name] for row in found if row["steps"] in steps])

    clean, pgd, ratio = (column(name, update, rank, when) for name in COLUMNS[-3:])
    if not len(pgd):
        return dict.fromkeys(QUANTITIES, pgd)
    before, free = column("robust", "none", 0, 0), column("robust", "free", d, 0)
    return {
        "share": (pgd - before) / (free - before),
        "PGD": pgd,
        "PGD less free": pgd - free,
        "clean": clean,
        "clean less free": clean - column("clean", "free", d, 0),
        "κ/α": ratio,
    }


def text(values):
    if not len(values):
        return ""
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def trend(values):
    """The slope per doubling of d, over the seeds that every size has, and the rule's word."""
    values = {d: of_size for d, of_size in values.items() if len(of_size)}
    if len(values) < 2:
        return ""
    seeds = min(map(len, values.values()))
    table = np.array([of_size[:seeds] for of_size in values.values()])
    slopes = np.polyfit(np.log2(list(values)), table, 1)[0]
    _, low, high = mean_interval(slopes)
    return f"{text(slopes)} {'grows' if low > 0 else 'falls' if high < 0 else 'no trend shown'}"


def tables(rows):
    """Means over seeds; "early" is half-way. The rule is about the first slope of a share."""
    sizes = sorted({(row["d"], row["k"]) for row in rows})
    parts = (("truncated", -1), ("warm", 0), ("warm", -1), ("random", 0), ("random", -1))
    lines = [("none", 0, -1), ("free", None, 0), ("free", None, 2)]
    lines += [(update, rank, when) for rank in RANKS for update, when in parts]
    tails = [sizes[n:] for n in (0, 1) if len(sizes) > n + 1]
    slopes = [f"slope from d = {tail[0][0]}" for tail in tails]
    for quantity in QUANTITIES:
        head = [quantity, *(f"d = {d}, k = {k}" for d, k in sizes), *slopes]
        print("\n|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
        for update, rank, when in lines:
            values = {d: read(rows, d, update, d if rank is None else rank, when)[quantity]
                      for d, _ in sizes}  # fmt: skip
            trends = [trend({d: values[d] for d, _ in tail}) for tail in tails if rank]
            name = f"{update}{'' if rank is None else f' {rank}'}{' early' if when == 0 else ''}"
            print("|", " | ".join([name, *map(text, values.values()), *trends]), "|")


def draw(rows, picture):
    """Shares and prices against d; hollow where the update did not start from the free one."""
    figure, panels = page(2, height=3.0)
    sizes = sorted({row["d"] for row in rows})
    names = {
        "share": "share of the free update's gain",
        "clean less free": "clean accuracy − free update's",
    }
    kinds = {"warm": ("-o", None), "random": ("--o", "white"), "truncated": (":x", None)}
    for axes, (quantity, name) in zip(panels, names.items(), strict=True):
        for i, (rank, colour) in enumerate(zip(RANKS, (BLUE, ORANGE, GREEN), strict=True)):
            for update, (form, face) in kinds.items():
                values = {d: read(rows, d, update, rank)[quantity] for d in sizes}
                found = {d: mean_interval(of_size) for d, of_size in values.items() if len(of_size)}
                mean, low, high = np.array(list(found.values())).T
                # Beside each other, so that no interval hides another.
                x, yerr = np.array(list(found)) * 1.04 ** (i - 1), [mean - low, high - mean]
                axes.errorbar(x, mean, yerr=yerr, fmt=form, color=colour, markerfacecolor=face,
                              label=f"rank {rank}, {update}")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, sizes)
        axes.set(xlabel="d", ylabel=name)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save_picture(figure, picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", metavar="d,k", help="sizes to measure")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 … SEEDS − 1 of each size")
    for name in ("warm", "random"):
        tell = f"ranks trained from a {name} start; none with no number behind it"
        parser.add_argument(
            f"--{name}", nargs="*", type=int, choices=RANKS, default=RANKS, help=tell
        )
    parser.add_argument("--record", type=Path, default=RECORD, help="JSON file of every value")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}: must be at least 2, intervals are over seeds.")
    rows = load(options.record)
    for size in options.sizes:
        d, k = map(int, size.split(","))
        for seed in range(options.seeds):
            if not any((r["d"], r["k"], r["seed"]) == (d, k, seed) for r in rows):
                rows += measure(d, k, seed, options.warm, options.random)
                save(options.record, rows)
    tables(rows)
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    main()
