"""Class-wide bounds, and witnesses proved point by point: two tables of docs/lower-bound.md.

python experiments/class_bounds.py
"""

import math

from featpur_sim.statistics import wilson_interval
from featpur_sim.theory.class_bounds import (
    affine_bound,
    convex_optimum,
    gaussian_twin_bound,
    linear_bound,
    linear_moment_bound,
    quadratic_bound,
)
from featpur_sim.theory.witnesses import (
    Polynomial,
    cubic_witness,
    septic_witness,
    witness_robust_accuracy,
)

SIGMA, EPSILON = 0.3, 0.3
SIZES = ((64, 5), (128, 8), (256, 12), (1024, 20))
# (d, k, points)
WITNESSES = (
    *((d, k, 4000) for d, k in SIZES), (4096, 42, 2000), (16384, 100, 1500), (131072, 300, 300),
)  # fmt: skip
POWERS = {"1/2": 0.5, "3/4": 0.75}


def up(value: float) -> str:
    """Three decimals, never below the value."""
    return f"{math.ceil(value * 1000 - 1e-9) / 1000:.3f}"


def bounds(d: int, k: int) -> list[str]:
    """A row of "Numbers" at τ = .3/√k."""
    tau = EPSILON / math.sqrt(k)
    best = convex_optimum(d, k, SIGMA, tau)
    ours = (linear_moment_bound, linear_bound, affine_bound, quadratic_bound)
    return [
        f"{d}, {k}",
        f"{tau * math.sqrt(d):.3f}",
        f"{best.mean_margin:.3f}",
        *(up(bound(d, k, SIGMA, tau).bound) for bound in ours),
        f"{best.robust_accuracy:.3f}",
        "switches off" if best.collapses else "reaches w*",
        up(gaussian_twin_bound(d, SIGMA, tau).bound),
    ]


def bracket(h: Polynomial, d: int, k: int, tau: float, n: int) -> str:
    """Robust accuracy between its two ends, with the Wilson intervals of both."""
    score = witness_robust_accuracy(h, d, k, SIGMA, tau, n=n, seed=1)
    low = wilson_interval(round(score.lower * n), n)[0]
    high = wilson_interval(round(score.upper * n), n)[1]
    ends = f"{score.lower:.4f}-{score.upper:.4f}".replace("-", "–")
    shown = f"{score.lower:.3f}" if score.upper - score.lower < 5e-5 else ends
    return f"{shown} ({low:.3f}–{high:.3f})"


def show(head: list[str], rows) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    names = ["τ√d", "E|S|", "L1", "L2, linear", "L3, with intercept", "P1, quadratic"]
    last = ["w*, exactly", "convex training", "P4, twin"]
    show(["d, k", *names, *last], (bounds(d, k) for d, k in SIZES))
    print()
    linear = Polynomial([0, 1])
    show(
        ["d, k, n", "τ", "linear", "cubic", "degree 7"],
        (
            [f"{d}, {k}, {n}", f"0.3 k^(-{name})"]
            + [
                bracket(h, d, k, EPSILON * k**-power, n)
                for h in (linear, cubic_witness(), septic_witness(k))
            ]
            for d, k, n in WITNESSES
            for name, power in POWERS.items()
        ),
    )


if __name__ == "__main__":
    main()
