"""Claims C2 and C4 over k at three dimensions: the window of docs/theory.md §5.1.

    featpur sweep experiments/window.toml --out window
    python experiments/window.py window --picture docs/images/window.png

Rules that stood before the sweep: C2 is supported at a point if the interval of the loss
(pure network under PGD less clean-trained network under the dense attack, at τ) lies at or above
0.20, C4 if the interval of what cutting the mixtures out adds to the clean accuracy lies at or
below 0.05. The pure network's loss to PGD is more than to the dense attack: the test of C2 is hard
on it.
"""

import numpy as np
from panels import arguments, difference, load, page, save

from featpur_sim.report._style import BLUE, GREEN, GREY, VERMILLION
from featpur_sim.theory import predictions as theory


def main():
    (folder,), picture = arguments(__doc__)
    sweep = load(folder)
    dense = sweep.robust_accuracy.sel(attack="dense mixture", relative_radius=1.0)
    pure = sweep.pure_accuracy.sel(relative_radius=1.0)
    loss = difference(sweep, pure, dense.sel(phase="clean"))
    cost = difference(sweep, sweep.cut_accuracy, sweep.clean_accuracy.sel(phase="clean"))
    figure, (left, right) = page(2)
    for d, colour in zip(np.unique(sweep.d), (GREEN, BLUE, VERMILLION), strict=True):
        at = np.flatnonzero(sweep.d.values == d)
        a = np.log(sweep.k.values[at]) / np.log(d)
        for axes, rows in ((left, loss), (right, cost)):
            known = [i for i, point in enumerate(at) if rows[point] is not None]
            mean, low, high = np.array([rows[at[i]] for i in known]).T
            error = [mean - low, high - mean]
            axes.errorbar(a[known], mean, yerr=error, color=colour, marker="o", label=f"d = {d}")
    for axes, level, label in (
        (left, 0.20, "accuracy lost to the dense attack at τ"),
        (right, 0.05, "clean accuracy that the mixtures cost"),
    ):
        axes.axhline(level, color=GREY, linestyle=":", linewidth=0.8)
        axes.axvspan(1 / 3, 1 / 2, color=GREY, alpha=0.12, linewidth=0)
        axes.set_xlabel("a = log k / log d")
        axes.set_ylabel(label)
    left.legend()
    print("   d     k  in window   loss to the dense attack         cost on clean data")
    for point, (d, k) in enumerate(zip(sweep.d.values, sweep.k.values, strict=True)):
        low, high = theory.window(int(d))
        cells = [
            "–" if row is None else f"{row[0]:+.3f} [{row[1]:+.3f}, {row[2]:+.3f}]"
            for row in (loss[point], cost[point])
        ]
        inside = "yes" if low < k < high else "no"
        print(f"{d:4d} {k:5.1f}  {inside:9s}   {cells[0]:30s}   {cells[1]}")
    save(figure, picture)


if __name__ == "__main__":
    main()
