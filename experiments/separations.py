"""The tables of separations of docs/lower-bound.md, from the folders of compared runs.

featpur run experiments/linf-separation.toml --out linf-separation
featpur compare linf-separation
python experiments/separations.py linf-separation
"""

import argparse
import math
from pathlib import Path

from featpur_sim.claims.of_classes import load_comparison
from featpur_sim.runs.model_classes import PURE, PURIFIED, separations
from featpur_sim.runs.saved import load_run
from featpur_sim.training.competitors import AFFINE, LINEAR, polynomial_class

CLASSES = {"linear": LINEAR, "affine": AFFINE, "quadratic": polynomial_class(2)}


def short(value: float | None, digits: int, up: bool) -> str:
    """A bound rounded up or a limit rounded down, so that it stays one; a dash for none."""
    if value is None:
        return "–"
    whole = (math.ceil if up else math.floor)(value * 10**digits) / 10**digits
    return f"{whole:.{digits}f}".replace("0.", ".", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="after 'featpur compare'")
    heads = ["d, k", "radius/τ", "radius", *(f"{name} ≤" for name in CLASSES)]
    heads += ["certified", "exact limit", "attacked", "pure network, attacked", "separated from"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for folder in parser.parse_args().folders:
        config = load_run(folder).config
        problem, tau = config.problem, config.adversarial.radius
        curves = {row["class"]: row["curve"] for row in load_comparison(folder)}
        apart = {
            name: {one.radius for one in separations(curves[known], curves[PURIFIED]) or []}
            for name, known in CLASSES.items()
            if known in curves
        }
        for place, at in enumerate(curves[PURIFIED]):
            found = [name for name, radii in apart.items() if at["radius"] in radii]
            proved = [curves.get(known, curves[PURIFIED])[place] for known in CLASSES.values()]
            cells = [
                f"{problem.d}, {problem.k:g}",
                f"{at['radius'] / tau:.3g}",
                f"{at['radius']:.4g}",
                *(short(point["class_bound"], 3, up=True) for point in proved),
                f"{at['certified']:.4f}".replace("0.", ".", 1),
                short(at["certified_floor"], 4, up=False),
                *(
                    f"{point['robust_accuracy']:.3f}".replace("0.", ".", 1)
                    for point in (at, curves[PURE][place])
                ),
                ", ".join(found) or "none",
            ]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
