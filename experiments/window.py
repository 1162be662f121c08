"""Claims C2 and C4 over k at three dimensions: the window of docs/theory.md §5.1.

    featpur sweep experiments/window.toml --out window
    python experiments/window.py window --picture docs/images/window.png

Rules: C2 is supported at a point if the interval of the loss (pure network under PGD less
clean-trained network under the dense attack, at τ) lies at or above 0.20, C4 if the interval of
what cutting the mixtures out adds to the clean accuracy lies within ± 0.05, as in the scorecard
(when the sweep was first run, C4 asked for ≤ 0.05 alone). The pure network's loss to PGD is more
than to the dense attack: the test of C2 is hard on it.
"""

import numpy as np
from panels import arguments, difference, load, page, save

from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import AtLeast, WithinDistance
from featpur_sim.report._style import BLUE, GREEN, GREY, VERMILLION
from featpur_sim.theory import predictions as theory

C2 = AtLeast(0.20, "the loss")
C4 = WithinDistance(0.05, "0")


def judged(row: tuple | None, rule: AtLeast | WithinDistance) -> str:
    """Mean, interval and verdict; a dash where no two seeds finished."""
    if row is None:
        return "–"
    verdict = rule.judge(Measured(*row, seeds=3, predicted=0.0)).value.split(" at ")[0]
    return f"{row[0]:.3f} [{row[1]:.3f}, {row[2]:.3f}] {verdict}"


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
    for axes, levels, label in (
        (left, [C2.threshold], "accuracy lost to the dense attack at τ"),
        (right, [-C4.distance, C4.distance], "clean accuracy that the mixtures cost"),
    ):
        for level in levels:
            axes.axhline(level, color=GREY, linestyle=":", linewidth=0.8)
        axes.axvspan(1 / 3, 1 / 2, color=GREY, alpha=0.12, linewidth=0)
        axes.set_xlabel("a = log k / log d")
        axes.set_ylabel(label)
    left.legend()
    print(f"   d     k  in window   {'loss to the dense attack, C2':44} cost on clean data, C4")
    for point, (d, k) in enumerate(zip(sweep.d.values, sweep.k.values, strict=True)):
        low, high = theory.window(int(d))
        cells = [judged(row, rule) for row, rule in ((loss[point], C2), (cost[point], C4))]
        inside = "yes" if low < k < high else "no"
        print(f"{d:4d} {k:5.1f}  {inside:9s}   {cells[0]:44} {cells[1]}")
    save(figure, picture)


if __name__ == "__main__":
    main()
