"""In ℓ∞ the dictionary decides (docs/theory.md §5.4): four of them, two radii of training.

featpur sweep experiments/linf.toml --out linf
python experiments/linf.py linf --picture linf.png
"""

import math

import numpy as np
from panels import arguments, cell, load, page, save

from featpur_sim.claims.measured import Counted, over_seeds
from featpur_sim.report._style import BLUE, GREY, VERMILLION
from featpur_sim.theory.linf import effective_radius

(FOLDER,), PICTURE = arguments(__doc__ or "")
COLUMNS = {
    "clean accuracy, clean → purified": lambda p: [
        p.clean_accuracy.sel(phase=ph) for ph in TRAINED
    ],
    "dense attack at ε": lambda p: [attacked(p, "dense mixture", ph) for ph in TRAINED],
    "PGD at ε": lambda p: [attacked(p, "PGD", ph) for ph in TRAINED],
    "pure network, PGD at ε": lambda p: [p.pure_accuracy.sel(relative_radius=1)],
    "κ/α": lambda p: [p.kappa_over_alpha.sel(phase=ph) for ph in TRAINED],
}
TRAINED = "clean", "adversarial"


def attacked(point, attack, phase):
    return point.robust_accuracy.sel(attack=attack, phase=phase, relative_radius=1)


def radius(point, attack, phase):
    return point.critical_radius.sel(critical_attack=attack, phase=phase).values


def main() -> None:
    result = load(FOLDER)
    names = result["problem.dictionary"].values.tolist()
    kinds = list(dict.fromkeys(names))
    counted = Counted(result.attrs["test_samples"], least=0.0)
    print("| M | ε | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 2) + "|")
    for number, name in enumerate(names):
        point = result.isel(point=number)
        cells = []
        for column, values in COLUMNS.items():
            shown = [
                plain(v.values) if column == "κ/α" else cell(v.values, counted)
                for v in values(point)
            ]
            cells.append(" → ".join(shown))
        print(f"| {name} | {float(point.tau):g} | " + " | ".join(cells) + " |")
    places = [names.index(kind) for kind in kinds]
    dense = np.array([radius(result.isel(point=p), "dense mixture", "clean") for p in places])
    print("\n| M | critical radius, clean network, dense attack | over that of M = I | predicted |")
    print("|---" * 4 + "|")
    for kind, own in zip(kinds, dense, strict=True):
        predicted = 1 if kind == "identity" else math.sqrt(math.pi / 2)
        print(f"| {kind} | {plain(own)} | {plain(own / dense[0])} | {predicted:.3f} |")
    print("\n| M | ε | critical radius of the purified network, PGD | as an ℓ2 radius, ε√(2d/π) |")
    print("|---" * 4 + "|")
    for number, name in enumerate(names):
        point = result.isel(point=number)
        own = radius(point, "PGD", "adversarial")
        reach = effective_radius(int(point.d), 1.0) * own
        shown = "" if name == "identity" else plain(reach)
        print(f"| {name} | {float(point.tau):g} | {plain(own)} | {shown} |")
    draw(result, kinds, dense)


def plain(values: np.ndarray) -> str:
    """A mean with its interval, four digits."""
    mean, low, high = over_seeds(values)[:3]
    return f"{mean:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low < high else "")


def draw(result, kinds, dense) -> None:
    """Critical radii by dictionary; dotted, what M = I predicts for flat ones."""
    figure, (axes,) = page(1, height=2.4)
    x = np.arange(len(kinds))
    places = [result["problem.dictionary"].values.tolist().index(kind) for kind in kinds]
    purified = [radius(result.isel(point=p), "PGD", "adversarial") for p in places]
    for values, colour, label in (
        (dense, VERMILLION, "clean network, dense attack"),
        (np.array(purified), BLUE, f"purified at ε = {float(result.tau[0]):g}, PGD"),
    ):
        mean, low, high = np.array([over_seeds(v)[:3] for v in values]).T
        error = [mean - low, high - mean]
        axes.errorbar(x, mean, yerr=error, color=colour, fmt="o", label=label)
    flat = math.sqrt(math.pi / 2) * dense[0].mean()
    axes.plot(x[1:], np.full(len(x) - 1, flat), ":", color=GREY, label="√(π/2) × that of M = I")
    axes.set_xticks(x, kinds)
    axes.set_xlim(-0.4, len(x) - 0.6)
    axes.set_ylim(0, None)
    axes.set_ylabel("critical ℓ∞ radius")
    figure.legend(loc="outside upper center", ncols=3)
    save(figure, PICTURE)


if __name__ == "__main__":
    main()
