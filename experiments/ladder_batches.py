"""Rungs of the ladder again, with larger batches: the noise of a step (docs/dynamics.md).

On the ladder the batch stays 512 while η grows like √d, so that the noise which a step leaves in a
neuron, η d/batch in t′, grows like d^{3/2}. RECORD holds the same rungs, a = .4, with batches that
keep it at that of (128, 512), and with 4,096 samples a step:

    python experiments/ladder.py --methods direct population --a 0.4 --d 128 --batch 4096 \
        --record experiments/ladder_batches.json    # a minute or two a seed
    … --d 256 --batch 1448    … --d 256 512 --batch 4096 --seeds 0    # 70 minutes
    python experiments/ladder_batches.py            # the tables, from both records

Rules, set before the runs, in means over seeds: *the noise keeps the closure's distance up* if with
4,096 samples the purified ρ² and gates at d = 256 and 512 are nearer to the run's than with 512;
*the target is met at constant noise* if all order parameters at (512, 4096) are within 10 %,
accuracies within .02; *gates become sparse at constant noise* if open over k/d after clean training
falls from (128, 512) over (256, 1448) to (512, 4096).

"Noise": η d/batch over that of (128, 512). ρ²/α²: means over carriers, one over the other squared.
"Not followed": the share of the weights that the closure does not follow.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from ladder import BATCH, PHASES, noise
from ladder import RECORD as LADDER
from ladder_tables import ACCURACIES, ORDER, RADII, apart, number, print_table, text
from lower_bound import load

from featpur_sim.statistics import mean_interval

RECORD, A = Path(__file__).with_suffix(".json"), 0.4
METHODS = {"direct": "direct", "population": "closure"}


def runs_of(rows):
    """(d, batch, phase, method) → seed → the last row of that phase."""
    found = {}
    for row in rows:
        if row["a"] == A and row["method"] in METHODS:
            at = row["d"], row.get("batch", BATCH), row["phase"], row["method"]
            found.setdefault(at, {})[row["seed"]] = row
    return found


def rungs(found):
    """(d, batch) that were run again, whole, and the same rungs of the ladder."""
    parts = set(itertools.product(PHASES, METHODS))
    whole = {at[:2] for at in found if all((*at[:2], *part) in found for part in parts)}
    again = {d for d, batch in whole if batch != BATCH}
    return sorted(at for at in whole if at[0] in again)


def cell(values):
    values = np.array(values)
    return text(*mean_interval(values)) if len(values) > 1 else number(values[0])


def print_runs(found):
    """What noise does to the networks themselves."""
    print("\nMeans [95 % over seeds].")
    lines = []
    for d, batch in rungs(found):
        for method, shown in METHODS.items():
            clean, robust = (list(found[d, batch, p, method].values()) for p in PHASES)
            k = clean[0]["k"]
            cells = (
                [row["active"] * d / k for row in clean],
                [row["ratio"] * d / k for row in clean],
                [row["residual"] / row["alpha"] ** 2 for row in clean],
                [row["dense_radius"] for row in clean],
                [row["active"] * d / k for row in robust],
                [row["residual"] / row["alpha"] ** 2 for row in robust],
                [row["fgm_radius"] for row in robust],
            )
            lines.append([d, batch, f"{noise(d, batch):.2f}", shown, *map(cell, cells)])
    head = ["d", "batch", "noise", "method", "clean: open over k/d", "κ/α over k/d", "ρ²/α²"]
    head += ["dense radius", "purified: open over k/d", "its ρ²/α²", "FGM radius"]
    print_table(head, lines)


def print_distances(found):
    """Closure over direct run, by the noise of a step."""
    print("\nClosure over direct run (accuracies: closure − direct), means [95 % over seeds].")
    names, lines = (*ORDER, *RADII, *ACCURACIES), []
    for phase in PHASES:
        for d, batch in rungs(found):
            ours, theirs = (found[d, batch, phase, m] for m in ("population", "direct"))
            cells = [cell([row["unfollowed"] for row in ours.values()])]
            for name in names:
                seeds = sorted(theirs)
                cells.append(cell([apart(name, ours[s][name], theirs[s][name]) for s in seeds]))
            lines.append([phase, d, batch, f"{noise(d, batch):.2f}", *cells])
    print_table(["phase", "d", "batch", "noise", "not followed", *names], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="JSON file of other batches")
    options = parser.parse_args()
    found = runs_of(load(LADDER) + load(options.record))
    if not rungs(found):
        parser.error(f"{options.record} has no whole rung: `ladder.py --batch` fills it.")
    print_runs(found)
    print_distances(found)


if __name__ == "__main__":
    main()
