"""Which of the reduced model's exponents depend on what is put in by hand: docs/dynamics.md.

    python experiments/dynamics_by_hand.py --a 0.4

One thing at a time is changed from the preset's scaling, within the window of thresholds (beyond it
see `dynamics_threshold.py`), and the four exponents of `featpur dynamics --exponents` are fitted at
d = 10⁴ … 10⁹. "Moves" names those whose interval does not meet that of the preset's.
"""

import argparse
import dataclasses

from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import scaling_of
from featpur_sim.theory.dynamics.exponents import fit, solve_all

PRESET = scaling_of(sparse_regime(128, 8))
CHANGES = {
    "threshold, × ½": {"bias_fraction": PRESET.bias_fraction / 2},
    "threshold, × 2": {"bias_fraction": PRESET.bias_fraction * 2},
    "τ = ε/√k": {"radius_exponent": 0.0},
    "τ = ε k^−.6": {"radius_exponent": 0.1},
    "τ = ε k^−.7": {"radius_exponent": 0.2},
    "ε, × ½": {"radius": PRESET.radius / 2},
    "ε, × 2": {"radius": PRESET.radius * 2},
    "copies r = 1": {"copies": 1.0},
    "copies r = 16": {"copies": 16.0},
    "λd, × ¼": {"decay": PRESET.decay / 4},
    "λd, × 4": {"decay": PRESET.decay * 4},
    "both phases, × ½": {
        "clean_time": PRESET.clean_time / 2,
        "adversarial_time": PRESET.adversarial_time / 2,
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", type=float, default=0.4)
    parser.add_argument("--nodes", type=int, default=128, help="per replicate, a power of 2")
    parser.add_argument("--replicates", type=int, default=4)
    given = parser.parse_args()
    preset: dict[str, dict] = {}
    for name, changed in {"the preset's": {}, **CHANGES}.items():
        scaling = dataclasses.replace(PRESET, **changed)
        points = solve_all(given.a, scaling, n=given.nodes, replicates=given.replicates)
        rows = {row["quantity"]: row for row in fit(given.a, points, scaling)}
        if not preset:
            preset = rows
            head = ["changed", *(f"{q} (formula)" for q in rows), "moves"]
            print("|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
        moved = [
            quantity
            for quantity, row in rows.items()
            if row["ci"][0] > preset[quantity]["ci"][1] or row["ci"][1] < preset[quantity]["ci"][0]
        ]
        cells = [
            f"{row['exponent']:.3f} [{row['ci'][0]:.3f}, {row['ci'][1]:.3f}] "
            f"({row['predicted']:.3f})".replace("-", "−")
            for row in rows.values()
        ]
        print("|", " | ".join([name, *cells, ", ".join(moved) or "–"]), "|", flush=True)


if __name__ == "__main__":
    main()
