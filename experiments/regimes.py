"""The two training regimes over (d, k): accuracies, κ/α and overlaps before and after purification.

Prints the rows of docs/claims.md, "Over sizes":

    python experiments/regimes.py dense
    python experiments/regimes.py sparse --d 64 --seeds 2     # only rows with this d
"""

import argparse
import math

import numpy as np

from featpur_sim.runs.config import parse
from featpur_sim.runs.diagnosis import only_finished
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.statistics import mean_interval

DENSE = [(196, 9), (64, 5), (128, 5), (128, 8), (256, 8), (256, 12)]
# (d, k, ν_f, σ₀, η, clean steps, adversarial steps, monotone)
SPARSE = [
    (64, 5, 0.5, 0.01, 0.5, 800, 600, False),
    (64, 5, 0.38, 0.004, 0.5, 800, 600, False),
    (128, 8, 0.7, 0.01, 0.5, 1400, 1200, False),
    (128, 8, 0.6, 0.003, 0.5, 1400, 1000, False),
    (128, 8, 0.38, 0.004, 0.5, 1600, 1200, False),
    (256, 10, 0.5, 0.01, 1.0, 1400, 900, False),
    (128, 8, 0.7, 0.01, 0.5, 1400, 1600, True),
]


def dense_config(d: int, k: int, seeds: int, seed: int):
    config = dense_regime(d, k, seeds=seeds, seed=seed).model_dump()
    if d == 196:
        for phase in ("clean", "adversarial"):
            config[phase]["batch"] = 1024
        config["adversarial"]["radius"] = 0.1
    return shown_alone(config)


def sparse_config(row, seeds: int, seed: int):
    d, k, nu, sigma_0, rate, clean, adversarial, monotone = row
    config = sparse_regime(d, k, monotone=monotone, seeds=seeds, seed=seed).model_dump()
    config["network"]["sigma_0"] = sigma_0
    config["clean"] |= {"steps": clean, "learning_rate": rate}
    config["clean"]["bias"]["stop"] = nu / math.sqrt(k)
    if monotone:
        config["clean"]["bias"]["ceiling"] = 0.1
    config["adversarial"] |= {"steps": adversarial, "learning_rate": rate}
    return shown_alone(config)


def shown_alone(config: dict):
    """Settings that measure what the table shows: no other radius, no certificate."""
    config["evaluation"] |= {"radii": [0.0, 1.0], "certify_points": 0}
    return parse(config)


def measure(config) -> str:
    result = run_experiment(config).result
    ok = only_finished(result)
    tau = int(np.argmin(np.abs(ok.relative_radius.values - 1)))

    def pair(attack, at):
        table = ok.robust_accuracy.sel(attack=attack).isel(radius=at)
        return " → ".join(interval(table.sel(phase=p).values) for p in ("clean", "adversarial"))

    def interval(values, digits=3):
        if len(values) == 1:
            return f"{values[0]:.{digits}f}"
        mean, low, high = mean_interval(values)
        return f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}"

    carrier = ok.carrier.sel(phase="clean").astype(bool)
    theta = [
        float(ok[name].where(carrier).median("neuron").mean())
        for name in ("theta_init_clean", "theta_init_adversarial", "theta_clean_adversarial")
    ]
    ratio = " → ".join(
        interval(ok.kappa_over_alpha.sel(phase=p).values, 4) for p in ("clean", "adversarial")
    )
    pure = ok.reference_accuracy.sel(reference="pure network", reference_attack="PGD")
    cells = [
        pair("FGM", 0),
        pair("dense mixture", tau),
        pair("PGD", tau),
        ratio,
        f"{result.attrs['k'] / result.attrs['d']:.4f}",
        " / ".join(f"{value:.2f}" for value in theta),
        interval(pure.isel(radius=tau).values),
        f"{ok.sizes['seed']} of {result.sizes['seed']}",
    ]
    return " | ".join(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("regime", choices=["dense", "sparse"])
    parser.add_argument("--d", type=int, nargs="*", default=[], help="only rows with these d")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head = "clean acc | dense attack | PGD | κ/α | k/d | θ(ic) / θ(ia) / θ(ca) | pure, PGD | seeds"
    print(f"| regime | d | k | {head} |", flush=True)
    print("|" + "---|" * 11)
    rows = DENSE if options.regime == "dense" else SPARSE
    for row in rows:
        d, k, *rest = row
        if options.d and d not in options.d:
            continue
        if options.regime == "dense":
            kind, config = "dense", dense_config(d, k, options.seeds, options.seed)
        else:
            nu, sigma_0, *_, monotone = rest
            kind = "sparse, monotone" if monotone else f"sparse, ν_f {nu}, σ₀ {sigma_0}"
            config = sparse_config(row, options.seeds, options.seed)
        print(f"| {kind} | {d} | {k} | {measure(config)} |", flush=True)


if __name__ == "__main__":
    main()
