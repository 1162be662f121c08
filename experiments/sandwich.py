"""Attacked and certified robust accuracy: tables of docs/certificates.md and docs/linf.md.

Trains what the folder does not hold yet, then attacks with standard/1 and certifies:

    python experiments/sandwich.py nets/
    python experiments/sandwich.py nets/ --deep --only dense-64 sparse-64 dense-128 sparse-128
    python experiments/sandwich.py nets/ --only dense-64 sparse-64 --points 200 --seeds 1
    python experiments/sandwich.py box-nets/ --norm linf --only dense-64 sparse-64
"""

import argparse
import time
from pathlib import Path

from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.cascade import DEFAULT_EFFORT, Effort
from featpur_sim.runs.certificate import save_certificate
from featpur_sim.runs.certify import certify_run
from featpur_sim.runs.config import RunConfig, parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import RESULT, save_run
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.runs.saved import load_run

NETS = ("dense-64", "sparse-64", "dense-128", "sparse-128", "dense-512")
CHEAP = ("linear", "q1")
NO_BRANCHING = ("linear", "q1", "q2")
# Q2 close to its optimum, and five times the nodes.
DEEP = Effort(q2=Pace(steps=2000), max_nodes=1000)
# Phase, radii in units of τ, stages (None: all). Past τ/4 the clean networks are for information.
PARTS = (
    ("adversarial", (0.5, 1.0, 1.5), None),
    ("clean", (0.25,), None),
    ("clean", (0.5, 1.0), NO_BRANCHING),
)
DEEP_PARTS = (("adversarial", (1.5,), None), ("clean", (0.5, 1.0), None))
BOX_PARTS = (("adversarial", (1.0,), None), ("clean", (0.25,), None))
LARGE_PARTS = (("adversarial", (0.5, 1.0, 1.5), CHEAP), ("clean", (0.25,), CHEAP))
HEAD = (
    "net",
    "phase",
    "radius/τ",
    "points",
    "attacked",
    "linear",
    "+ Q1",
    "+ Q2",
    "+ B&B",
    "open",
    "attacked − Q1",
    "attacked − certified",
    "certified for float32",
    "ms a point: attack / linear / Q1 / Q2 / B&B",
)


def settings(name: str, seeds: int, norm: str) -> RunConfig:
    regime, d = name.split("-")
    if d == "512":
        config = dense_regime(d=512, k=12, seeds=1, norm=norm).model_dump()
        config["clean"] |= {"steps": 1600, "learning_rate": 1.0}
        config["adversarial"] |= {"steps": 1000, "learning_rate": 1.0}
    else:
        preset = dense_regime if regime == "dense" else sparse_regime
        config = preset(d=int(d), k={"64": 5, "128": 8}[d], seeds=seeds, norm=norm).model_dump()
    config["evaluation"] |= {"samples": 300, "pgd_restarts": 1}
    return parse(config)


def cells(name: str, row: dict) -> list[str]:
    """A line of the table; fractions of all points, cumulative over the stages."""
    n, total, shares = row["n"], 0, []
    for stage in ("linear", "q1", "q2", "branch"):
        total += row["by_stage"].get(stage, 0)
        shares.append(f"{total / n:.4f}" if stage in row["stages"] else "")
    q1 = sum(row["by_stage"][stage] for stage in CHEAP) / n
    cost = row["seconds_per_point"]
    return [
        name,
        row["phase"],
        f"{row['relative_radius']:g}",
        str(n),
        f"{row['attacked']:.4f}",
        *shares,
        str(row["undecided"]),
        f"{row['attacked'] - q1:.4f}",
        f"{row['attacked'] - row['certified']:.4f}",
        f"{row['certified_float32']:.4f}",
        " / ".join(f"{1000 * cost[s]:.3g}" for s in cost),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the trained runs are, or will be")
    parser.add_argument("--only", nargs="*", choices=NETS, default=NETS)
    parser.add_argument("--points", type=int, default=1000, help="per seed; 300 at d = 512")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--norm", choices=("l2", "linf"), default="l2", help="at ε alone in linf")
    parser.add_argument("--deep", action="store_true", help="spend more where points stay open")
    options = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
    for name in options.only:
        folder = options.folder / name
        if not (folder / RESULT).exists():
            experiment = run_experiment(settings(name, options.seeds, options.norm))
            save_run(folder, experiment.result, experiment.weights, [])
        run = load_run(folder)
        large, rows, began = name.endswith("512"), [], time.perf_counter()
        usual = BOX_PARTS if options.norm == "linf" else PARTS
        for phase, radii, stages in LARGE_PARTS if large else DEEP_PARTS if options.deep else usual:
            for radius in radii:
                rows += certify_run(
                    run,
                    radii=[radius],
                    phases=[phase],
                    stages=stages,
                    effort=DEEP if options.deep else DEFAULT_EFFORT,
                    seeds=None if large else options.seeds,
                    points=min(options.points, 300) if large else options.points,
                )
                print("| " + " | ".join(cells(name, rows[-1])) + " |", flush=True)
        if not options.deep:
            save_certificate(folder, rows)
        undecided = {
            (row["phase"], row["relative_radius"]): [seed["undecided"] for seed in row["seeds"]]
            for row in rows
            if row["undecided"]
        }
        print(f"<!-- {name}: {time.perf_counter() - began:.0f} s; undecided points, seed by seed:")
        for (phase, radius), indices in undecided.items():
            print(f"{phase}, {radius:g} τ: {indices}")
        print("-->", flush=True)


if __name__ == "__main__":
    main()
