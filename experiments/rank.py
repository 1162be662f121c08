"""Claim C7: robust accuracy after adversarial updates W + AB of rank r (docs/theory.md §3).

    featpur sweep experiments/rank.toml --out rank
    featpur sweep experiments/effect-noise.toml --out effect-noise
    python experiments/rank.py rank effect-noise --picture docs/images/rank.png

The second sweep has the same problem trained without a limit on the rank, at σ_x = 0.3. Rule: a
rank suffices if the interval of its PGD accuracy at τ, at the better of the two rates, reaches the
mean of free training.
"""

import numpy as np
from panels import arguments, bars, load, page, quantity, save, text

from featpur_sim._drawing import BLACK, BLUE, GREY, ORANGE
from featpur_sim.phase_diagram import select

ROBUST = "robust_accuracy[phase={}, attack=PGD, relative_radius=1]"


def main():
    (folder, other), picture = arguments(__doc__, folders=2)
    sweep, free = load(folder), select(load(other), {"sigma_x": 0.3})
    figure, (left, right) = page(2)
    whole = quantity(free, ROBUST.format("adversarial"))
    before = quantity(free, ROBUST.format("clean"))
    best = {}
    for rate, colour in ((0.5, BLUE), (2.0, ORANGE)):
        own = select(sweep, {"adversarial.learning_rate": rate})
        rank = own["adversarial.rank"].values
        robust = quantity(own, ROBUST.format("adversarial"))
        ratio = quantity(own, "kappa_over_alpha[phase=adversarial]")
        style = {"color": colour, "marker": "o", "label": f"rank r, rate {rate:g}"}
        bars(left, rank, robust, **style)
        bars(right, rank, ratio, **style)
        for i, r in enumerate(rank):
            print(f"rank {r:3d}, rate {rate:g}: {text(robust.isel(point=i))}")
            best[r] = max(best.get(r, -np.inf), float(robust.high[i]))
    left.axhline(float(whole.value[0]), color=BLACK, linestyle="--", label="free update")
    left.axhline(float(before.value[0]), color=GREY, linestyle=":", label="before")
    after = quantity(free, "kappa_over_alpha[phase=adversarial]")
    right.axhline(float(after.value[0]), color=BLACK, linestyle="--", label="free update")
    left.set_ylabel("accuracy under PGD at τ")
    right.set_ylabel("κ/α after adversarial training")
    right.set_yscale("symlog", linthresh=1e-3)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("rank r of the update")
    left.legend()
    enough = [int(r) for r in sorted(best) if best[r] >= float(whole.value[0])]
    print(f"free: {float(whole.value[0]):.3f}, before: {float(before.value[0]):.3f}")
    print(f"smallest rank that suffices: {enough[0] if enough else 'none'}")
    save(figure, picture)


if __name__ == "__main__":
    main()
