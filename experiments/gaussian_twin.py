"""The control of §6, P4: Gaussian hidden vectors through both phases of training.

z ~ N(0, (1 + p₁)/d · I) has the variance of the sparse law and none of its sparsity. No classifier
may exceed the isoperimetric ceiling on it, whatever trains it. Prints the table "Gaussian twin" of
docs/lower-bound.md; about two minutes on one core.

    python experiments/gaussian_twin.py
"""

import argparse

from featpur_sim.runs.config import parse
from featpur_sim.runs.diagnosis import only_finished
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import dense_regime
from featpur_sim.statistics import mean_interval
from featpur_sim.theory.class_bounds import gaussian_twin_bound


def twin(d: int, k: int, seeds: int):
    """The dense-regime settings on the twin of its law."""
    settings = dense_regime(d, k, seeds=seeds).model_dump()
    settings["problem"]["law"] = "gaussian-twin"
    settings["evaluation"]["radii"] = [0.0, 0.5, 1.0]
    return parse(settings)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["64,5", "128,8"], metavar="d,k")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| d, k | radius/τ | ceiling | clean-trained, PGD | adversarially trained, PGD |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        d, k = map(int, size.split(","))
        result = run_experiment(twin(d, k, options.seeds)).result
        ok = only_finished(result)
        for at, relative in enumerate(ok.relative_radius.values):
            radius = float(ok.radius[at])
            ceiling = gaussian_twin_bound(d, 0.3, radius).bound if radius > 0 else 1.0
            cells = [f"{d}, {k}", f"{relative:g}", f"{ceiling:.3f}"]
            for phase in ("clean", "adversarial"):
                values = ok.robust_accuracy.sel(phase=phase, attack="PGD").isel(radius=at)
                mean, low, high = mean_interval(values.values)
                cells.append(f"{mean:.3f} ± {(high - low) / 2:.3f}")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
