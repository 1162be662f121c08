"""Claim C8 over sizes and seeds: best members, class-wide bounds, labels.

Measures robust accuracy at τ = 0.3/√k, a value for each class, training and seed (data, gates and
training all differ), and keeps every value in RECORD as soon as it is there: the same command goes
on where it was stopped, and values that are in RECORD are not measured again. Then prints the table
"Best members" of docs/lower-bound.md from RECORD: means with 95 % t-intervals.

    python experiments/lower_bound.py 64,5                  # ten minutes on one busy core
    python experiments/lower_bound.py 1024,20 --classes linear "polynomials of degree 3"
    python experiments/lower_bound.py 64,5 --protocol standard --classes linear
    python experiments/lower_bound.py                       # prints what RECORD holds

A tangent kernel's cost grows like d², and from (128, 8) on it is nearly all: pick classes, fewer
--seeds or a cheaper --samples and --steps there. The table says where those differ from the rule.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import jax

from featpur_sim import SparseCoding
from featpur_sim.attacks.protocol import PROTOCOLS, Protocol
from featpur_sim.runs.folder import atomic_path
from featpur_sim.runs.model_classes import class_bound, label, witness_floor
from featpur_sim.runs.presets import dense_regime
from featpur_sim.statistics import mean_interval
from featpur_sim.training.competitors import Competitor, competitors

SIGMA, SEEDS, SAMPLES, STEPS = 0.3, 5, 1000, 300
RECORD = Path(__file__).with_suffix(".json")
IDENTITY = ("d", "k", "class", "training", "protocol")

Row = dict[str, Any]


def load(record: Path) -> list[Row]:
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else []


def save(record: Path, rows: list[Row]) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    with atomic_path(record) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def measure(
    problem: SparseCoding, tau: float, entry: Competitor, number: int, seed: int, row: Row
) -> float:
    points_key, train_key, attack_key = jax.random.split(jax.random.key(seed), 3)
    model = entry.train(jax.random.fold_in(train_key, number))
    points = problem.sample_labelled(points_key, row["samples"])
    protocol: Protocol = PROTOCOLS[row["protocol"]]
    direction = problem.dense_direction()
    return protocol(model, points, tau, key=attack_key, direction=direction).accuracy.value


def add(record: Path, d: int, k: int, options: argparse.Namespace) -> None:
    """Measure what RECORD lacks at one size."""
    tau, config = 0.3 / math.sqrt(k), dense_regime(d, k)
    floor = witness_floor(config, tau)
    # One draw of the signs of w* for all seeds: they change nothing (docs/theory.md §1).
    problem = SparseCoding(d, k, SIGMA, key=jax.random.key(0))
    for number, entry in enumerate(competitors(problem, tau, steps=options.steps)):
        name, training = entry.model_class, entry.training
        if options.classes and name not in options.classes:
            continue
        if options.trainings and training not in options.trainings:
            continue
        rows = load(record)
        new: Row = dict(zip(IDENTITY, (d, k, name, training, options.protocol), strict=True))
        row: Row | None = next((r for r in rows if new.items() <= r.items()), None)
        if row is None:
            bound = class_bound(name, config, tau)
            row = new | {
                "samples": options.samples,
                "steps": options.steps,
                "class_bound": bound,
                "label": label(name, bound, floor, separated=False),
                "values": [],
                "seconds": [],
            }
            rows.append(row)
        if (row["samples"], row["steps"]) != (options.samples, options.steps):
            raise SystemExit(
                f"{record} holds {name}, {training} at ({d}, {k}) with --samples {row['samples']} "
                f"--steps {row['steps']}: give these, or another --record."
            )
        for seed in range(len(row["values"]), options.seeds):
            began = time.perf_counter()
            row["values"].append(measure(problem, tau, entry, number, seed, row))
            row["seconds"].append(round(time.perf_counter() - began, 1))
            save(record, rows)
            print(f"({d}, {k}) {name}, {training}, seed {seed}: {row['values'][-1]}", flush=True)


def cell(row: Row) -> str:
    """Mean, interval and bound; then what is not as in the other cells."""
    values = row["values"]
    if len(values) > 1:
        mean, low, high = mean_interval(values)
        text = f"{mean:.3f} ± {(high - low) / 2:.3f}"
    else:
        text = f"{values[0]:.3f}"
    if row["class_bound"] is not None:
        # Rounded up: it stays a bound.
        text += f" (≤ {math.ceil(1000 * row['class_bound']) / 1000:.3f})"
    usual = {"seeds": SEEDS, "samples": SAMPLES, "steps": STEPS}
    actual = {"seeds": len(values), "samples": row["samples"], "steps": row["steps"]}
    other = [f"{name} {n}" for name, n in actual.items() if n != usual[name]]
    return (f"{text} [{', '.join(other)}]" if other else text).replace("0.", ".")


def table(rows: list[Row]) -> str:
    """One line a class, training and protocol; one column a size."""
    rows = [row for row in rows if row["values"]]
    sizes = sorted({(row["d"], row["k"]) for row in rows})
    entries = competitors(SparseCoding(16, 3, SIGMA), 0.1)
    heads = ["class", "training", "protocol", *(f"{d}, {k}" for d, k in sizes), "label"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entry in entries:
        for protocol in PROTOCOLS:
            key = entry.model_class, entry.training, protocol
            found = {(r["d"], r["k"]): r for r in rows if tuple(r[n] for n in IDENTITY[2:]) == key}
            if found:
                cells = [cell(found[size]) if size in found else "" for size in sizes]
                label = next(iter(found.values()))["label"]
                lines.append("| " + " | ".join([*key, *cells, label]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", metavar="d,k")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="quick")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--classes", nargs="*", default=None)
    parser.add_argument("--trainings", nargs="*", default=None)
    options = parser.parse_args()
    for size in options.sizes:
        d, k = map(int, size.split(","))
        add(options.record, d, k, options)
    print(table(load(options.record)))


if __name__ == "__main__":
    main()
