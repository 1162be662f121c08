"""Claim C2 below the window: is clean training non-robust at k < d^{1/3} too? (docs/dynamics.md)

Clean phase of the ladder's runs (`ladder.py`: preset sparse-regime, its rate) at small k. Rule,
from before the runs: C2 holds at (d, k) if every seed's accuracy under the dense attack at τ =
.3/√k lies at least .20 below what the best pure network is proved to have under any attack (five
thresholds, 2,000 points). Rungs inside the window come from the ladder's own record. RECORD keeps
every finished run; without --d the table is printed from it.

    python experiments/below_window.py --d 128 256 --k 2 3 4
    python experiments/below_window.py
"""

import argparse
import sys
import time
from pathlib import Path

import ladder
import numpy as np
from lower_bound import load, save

from featpur_sim.theory.pure_network import best_pure_network

RECORD, LOSS = Path(__file__).with_suffix(".json"), 0.20
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


def measure(rows, sizes, sparsities, seeds):
    for d in sizes:
        for k in sparsities:
            for seed in seeds:
                if any((r["d"], r["k"], r["seed"]) == (d, k, seed) for r in rows):
                    continue
                a, began = np.log(k) / np.log(d), time.monotonic()
                config = ladder.settings(d, a, seed)
                clock = ladder.Clock(f"d = {d}, k = {k}, seed {seed}", config, ("clean",))
                *_, (phase, step, values) = ladder.direct(config, ("clean",), clock)
                rows.append(ladder.row("direct", round(a, 4), d, seed, phase, step, values))
                save(RECORD, rows)
                print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def last_clean(rows):
    """The end of the clean phase of every direct run, by (d, k)."""
    found = {}
    for row in rows:
        if row["method"] == "direct" and row["phase"] == "clean" and "dense_radius" in row:
            found.setdefault((row["d"], row["k"]), []).append(row)
    return dict(sorted(found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", nargs="*", type=int, default=[])
    parser.add_argument("--k", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options = parser.parse_args()
    rows = load(RECORD)
    if options.d:
        measure(rows, options.d, options.k, options.seeds)
        return
    head = ["d", "k", "d^{1/3}", "seeds", "clean accuracy", "dense attack", "pure network, proved"]
    head += ["lost beyond it", "least", "C2", "active over k/d", "dense radius √k"]
    print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
    for (d, k), runs in last_clean(rows + load(ladder.RECORD)).items():
        pure = best_pure_network(d, k, 0.3, 0.3 / np.sqrt(k), multiples=THRESHOLDS, n=2000).lower

        def mean(name, runs=runs):
            return np.mean([run[name] for run in runs])

        lost = [pure - run["dense_accuracy"] for run in runs]
        cells = (mean("accuracy"), mean("dense_accuracy"), pure, np.mean(lost), min(lost))
        tail = mean("active") * d / k, mean("dense_radius") * np.sqrt(k)
        word = "holds" if min(lost) >= LOSS else "fails" if max(lost) < LOSS else "open"
        print(
            f"| {d} | {k} | {d ** (1 / 3):.1f} | {len(runs)} |",
            " | ".join(f"{cell:.3f}" for cell in cells), f"| {word} |",
            " | ".join(f"{cell:.2f}" for cell in tail), "|",
        )  # fmt: skip


if __name__ == "__main__":
    main()
