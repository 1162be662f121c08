"""Over ε in ℓ∞ (docs/theory.md §5.4): critical radii of clean and purified networks.

    featpur sweep experiments/linf-epsilon.toml --out linf-epsilon
    python experiments/linf_epsilon.py linf-epsilon --picture linf-epsilon.png

Rules, set before the run. ε lies in the *window* of a dictionary if the clean network falls to the
dense attack at ε and a network of this form can withstand it: the interval of the clean network's
accuracy under the dense attack at ε is below ½ and that of the pure network's under PGD above it.
Predicted [D]: with M = I the window is wide, from a multiple of 1/k² to one of 1/k; in a flat
dictionary at this size narrow, from √(π/2)/k² to √(π/(2dk)), and it ends at a smaller ε.
"""

import numpy as np
from panels import arguments, cell, load, page, save

from featpur_sim.claims.measured import Counted, over_seeds
from featpur_sim.report._style import BLUE, GREEN, VERMILLION

COLUMNS = (
    "dense attack on the clean network",
    "pure network, PGD",
    "purified, PGD",
    "critical radius, clean, dense attack",
    "critical radius, purified, PGD",
)
HALF = 0.5


def columns(point) -> list[np.ndarray]:
    """What the table shows at one point, a value a seed."""
    robust, critical = point.robust_accuracy.sel(relative_radius=1), point.critical_radius
    return [
        robust.sel(attack="dense mixture", phase="clean").values,
        point.pure_accuracy.sel(relative_radius=1).values,
        robust.sel(attack="PGD", phase="adversarial").values,
        critical.sel(critical_attack="dense mixture", phase="clean").values,
        critical.sel(critical_attack="PGD", phase="adversarial").values,
    ]


def in_window(clean, pure) -> str:
    """The rule of the heading: yes, no, or open where an interval holds ½."""
    (_, clean_low, clean_high, *_), (_, pure_low, pure_high, *_) = clean, pure
    if clean_high < HALF < pure_low:
        return "yes"
    return "no" if clean_low > HALF or pure_high < HALF else "open"


def main() -> None:
    (folder,), picture = arguments(__doc__ or "")
    result = load(folder)
    counted = Counted(result.attrs["test_samples"], least=0.0)
    figure, axes = page(2, height=2.5, sharey=True)
    print("| M | ε | " + " | ".join(COLUMNS) + " | in the window |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    names = result["problem.dictionary"].values
    for name, panel in zip(dict.fromkeys(names.tolist()), axes, strict=True):
        at = np.flatnonzero(names == name)
        values = [columns(result.isel(point=place)) for place in at]
        for place, row in zip(at, values, strict=True):
            shown = [cell(v, counted) for v in row[:3]] + [plain(v) for v in row[3:]]
            found = in_window(over_seeds(row[0], counted), over_seeds(row[1], counted))
            epsilon = float(result.tau[place])
            print(f"| {name} | {epsilon:g} | " + " | ".join([*shown, found]) + " |")
        for column, colour in ((0, VERMILLION), (1, GREEN), (2, BLUE)):
            seen = [over_seeds(row[column], counted)[:3] for row in values]
            mean, low, high = np.array(seen).T
            panel.errorbar(
                result.tau.values[at], mean, yerr=[mean - low, high - mean], color=colour,
                marker="o", label=COLUMNS[column],
            )  # fmt: skip
        panel.set_title("M = I" if name == "identity" else name.capitalize())
        panel.set_xlabel("ε of training and attack")
    axes[0].set_ylabel("accuracy")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save(figure, picture)


def plain(values: np.ndarray) -> str:
    """A radius with its interval, four digits."""
    mean, low, high = over_seeds(values)[:3]
    return f"{mean:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low < high else "")


if __name__ == "__main__":
    main()
