"""What the reduced model's exponent of κ/α owes to the threshold put in by hand: docs/dynamics.md.

    python experiments/dynamics_threshold.py --a 0.4

k = d^a; b/α is the preset's .38/√k, half and twice that, and a multiple of σ_x/√d, the size of the
noise in one coordinate. For each the exponent of c/α after clean training, as `featpur dynamics
--exponents` fits it, and c/α in units of k/d at every d.
"""

import argparse
import dataclasses

import numpy as np

from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import scaling_of
from featpur_sim.theory.dynamics.exponents import DIMENSIONS, power, solve
from featpur_sim.theory.dynamics.nodes import sampled_nodes

SCALING = scaling_of(sparse_regime(128, 8))
# In words → b/α·√k at (d, k).
THRESHOLDS = {
    **{
        f"{by * SCALING.bias_fraction:.2f}/√k": lambda d, k, by=by: by * SCALING.bias_fraction
        for by in (0.5, 1, 2)
    },
    **{
        f"{by} σ_x/√d": lambda d, k, by=by: by * SCALING.sigma_x * (k / d) ** 0.5
        for by in (10, 5, 3, 2, 1)
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", type=float, default=0.4)
    a = parser.parse_args().a
    sizes = [(d, float(round(d**a))) for d in DIMENSIONS]
    dimensions = np.array(DIMENSIONS)
    expected = np.polyfit(np.log(dimensions), np.log([k / d for d, k in sizes]), 1)[0]
    print(f"k = d^{a:g}: k/d falls as d^{expected:.3f}")
    for name, fraction in THRESHOLDS.items():
        table = []
        for d, k in sizes:
            scaling = dataclasses.replace(SCALING, bias_fraction=fraction(d, k))
            nodes = sampled_nodes(d, k, scaling.p_one, n=512, replicates=4)
            table.append(solve(d, k, scaling, nodes).clean_ratio)
        slope, low, high = power(dimensions, np.array(table))
        units = [f"{row.mean() * d / k:.2f}" for row, (d, k) in zip(table, sizes, strict=True)]
        print(
            f"b/α = {name}: {slope:.3f} [{low:.3f}, {high:.3f}]; c/α over k/d: {units}", flush=True
        )


if __name__ == "__main__":
    main()
