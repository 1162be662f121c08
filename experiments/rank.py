"""Claim C7: robust accuracy after adversarial updates W + AB of rank r (docs/theory.md §3).

    for name in rank effect-noise rank-sparse tickets; do
        featpur sweep experiments/$name.toml --out $name
    done
    python experiments/rank.py rank effect-noise rank-sparse tickets --picture docs/images/rank.png

The second and the fourth sweep hold the same problems and seeds trained without a limit on the
rank. Rule, seed by seed, for the longer training: a rank suffices if the interval of its PGD
accuracy at τ less that of free training lies at or above −0.02, it does not if it lies below.
"""

import numpy as np
from panels import arguments, bars, intervals, load, page, quantity, save, text

from featpur_sim.claims.diagram import select
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report._style import BLACK, BLUE, GREY, ORANGE
from featpur_sim.runs.diagnosis import finished

ROBUST = "robust_accuracy[phase={}, attack=PGD, relative_radius=1]"
RATIO = "kappa_over_alpha[phase={}]"


def main():
    (dense, free_dense, sparse, free_sparse), picture = arguments(__doc__, folders=4)
    figure, (left, right) = page(2, sharey=True)
    panel(left, "dense regime", load(dense), select(load(free_dense), {"sigma_x": 0.3}))
    panel(right, "sparse regime", load(sparse), select(load(free_sparse), {"sigma_0": 0.004}))
    left.set_ylabel("accuracy under PGD at τ")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    save(figure, picture)


def panel(axes, title, sweep, free):
    """Accuracy against rank, between that before and that after a free update."""
    rank, steps = sweep["adversarial.rank"].values, sweep["adversarial.steps"].values
    robust = quantity(sweep, ROBUST.format("adversarial"))
    ratio = quantity(sweep, RATIO.format("adversarial"))
    shortest = steps.min()
    longer = steps * rank == shortest * rank.max()
    for kept, colour, label in (
        (steps == shortest, ORANGE, "rank r, T steps"),
        (longer, BLUE, "rank r, T·d/r steps"),
    ):
        at = np.flatnonzero(kept)
        bars(axes, rank[at], robust.isel(point=at), color=colour, marker="o", label=label)
    before, after = (
        quantity(free, ROBUST.format(phase)).isel(point=0) for phase in ("clean", "adversarial")
    )
    axes.axhline(float(after.value), color=BLACK, linestyle="--", label="free update, T steps")
    axes.axhline(float(before.value), color=GREY, linestyle=":", label="before")
    axes.set_xscale("log", base=2)
    axes.set_xticks(rank, [str(r) for r in rank])
    axes.set_xlabel("rank r of the update")
    axes.set_title(f"{title}, T = {shortest}", loc="left")
    own, whole = (Quantity.parse(ROBUST.format("adversarial")).read(s) for s in (sweep, free))
    same = slice(own.sizes["seed"])
    both = finished(sweep) & finished(free)[0, same]
    lost = intervals(own.values - whole.values[0, same], both)
    was = quantity(free, RATIO.format("clean")).isel(point=0)
    print(f"{title}: before {text(before)}, κ/α {text(was)}; free {text(after)}")
    for i in range(len(rank)):
        cells = (text(table.isel(point=i)) for table in (robust, ratio))
        line = f"rank {rank[i]:2d}, {steps[i]:5d} steps: PGD {next(cells)} κ/α {next(cells)}"
        if longer[i] and (interval := lost[i]) is not None:
            mean, low, high = interval
            verdict = "suffices" if low >= -0.02 else "does not" if high < -0.02 else "inconclusive"
            line += f"  less free: {mean:+.3f} [{low:+.3f}, {high:+.3f}] {verdict}"
        print(line)


if __name__ == "__main__":
    main()
