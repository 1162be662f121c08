"""Claim C8 over sizes and seeds: best members, class-wide bounds, labels.

Prints the table "Best members" of docs/lower-bound.md: robust accuracy at τ = 0.3/√k under the
quick protocol, mean over seeds (data, gates and training all differ) with its 95 % t-interval.
About nine minutes for (64, 5) on one core; from (128, 8) on the tangent kernels take most of the
time, so pick classes:

    python experiments/lower_bound.py 64,5
    python experiments/lower_bound.py                       # (64, 5), (128, 8), (256, 12)
    python experiments/lower_bound.py 1024,20 --classes linear "polynomials of degree 3"
"""

import argparse
import math
import time

import jax

from featpur_sim import SparseCoding, comparison
from featpur_sim.low_complexity.league import Competitor, competitors
from featpur_sim.presets import dense_regime
from featpur_sim.protocol import QUICK
from featpur_sim.statistics import mean_interval

SIGMA = 0.3


def measure(problem: SparseCoding, tau: float, entry: Competitor, number: int, seed: int, n: int):
    points_key, train_key, attack_key = jax.random.split(jax.random.key(seed), 3)
    model = entry.train(jax.random.fold_in(train_key, number))
    points = problem.sample_labelled(points_key, n)
    direction = problem.dense_direction()
    return QUICK(model, points, tau, key=attack_key, direction=direction).accuracy.value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["64,5", "128,8", "256,12"], metavar="d,k")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--classes", nargs="*", default=None)
    options = parser.parse_args()
    print("| d, k | class | training | robust accuracy | no member above | label | s |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        d, k = map(int, size.split(","))
        tau, config = 0.3 / math.sqrt(k), dense_regime(d, k)
        floor = comparison.witness_floor(config, tau)
        # One draw of the signs of w* for all seeds: they change nothing (docs/theory.md §1).
        problem = SparseCoding(d, k, SIGMA, key=jax.random.key(0))
        for number, entry in enumerate(competitors(problem, tau, steps=options.steps)):
            name = entry.model_class
            if options.classes and name not in options.classes:
                continue
            began = time.perf_counter()
            values = [
                measure(problem, tau, entry, number, seed, options.samples)
                for seed in range(options.seeds)
            ]
            mean, low, high = mean_interval(values)
            bound = comparison.class_bound(name, config, tau)
            shown = "" if bound is None else f"{bound:.3f}"
            cells = (
                f"{d}, {k}",
                name,
                entry.training,
                f"{mean:.3f} ± {(high - low) / 2:.3f}",
                shown,
                comparison.label(name, bound, floor),
                f"{time.perf_counter() - began:.0f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
