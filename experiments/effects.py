"""What weight decay, noise, width and a fixed training set do to robustness and purity.

    for name in decay noise width samples; do
        featpur sweep experiments/effect-$name.toml --out effect-$name
    done
    python experiments/effects.py effect-decay effect-noise effect-width effect-samples \
        --picture docs/images/effects.png
"""

import numpy as np
from panels import arguments, bars, load, page, quantity, save, text

from featpur_sim.report._style import BLACK, BLUE, VERMILLION

SHOWN = {
    "effect-decay": ("clean.weight_decay", "weight decay λ"),
    "effect-noise": ("sigma_x", "input noise σ_x"),
    "effect-width": ("m", "neurons m"),
    "effect-samples": ("clean.dataset_size", "training samples N"),
}
PHASES = (("clean", VERMILLION, "o"), ("adversarial", BLUE, "^"))


def main():
    folders, picture = arguments(__doc__, folders="+")
    figure, panels = page(len(folders), height=3.9, rows=2, sharey="row", squeeze=False)
    for column, folder in enumerate(folders):
        sweep = load(folder)
        coordinate, label = SHOWN[sweep.attrs["name"]]
        x = sweep[coordinate].values.astype(float)
        top, bottom = panels[column], panels[column + len(folders)]
        for phase, colour, marker in PHASES:
            style = {"color": colour, "marker": marker}
            at = f"phase={phase}, attack=PGD, relative_radius="
            clean = quantity(sweep, f"robust_accuracy[{at}0]")
            robust = quantity(sweep, f"robust_accuracy[{at}1]")
            ratio = quantity(sweep, f"kappa_over_alpha[phase={phase}]")
            bars(top, x, clean, linestyle=":", **style)
            bars(top, x, robust, label=f"{phase}, PGD at τ", **style)
            bars(bottom, x, ratio, label=phase, **style)
            report(sweep.attrs["name"], phase, x, clean, robust, ratio)
        pure = quantity(sweep, "pure_accuracy[relative_radius=1]")
        bars(top, x, pure, color=BLACK, linestyle="--", label="pure network, PGD at τ")
        for axes in (top, bottom):
            if x.min() > 0:
                axes.set_xscale("log")
            elif x.max() / np.sort(x)[1] > 10:
                axes.set_xscale("symlog", linthresh=np.sort(x)[1])
            crowded = len(x) > 4
            axes.set_xticks(
                x, [f"{v:g}" if i % 2 == 0 or not crowded else "" for i, v in enumerate(x)]
            )
            axes.minorticks_off()
        bottom.set_yscale("symlog", linthresh=1e-3)
        bottom.set_xlabel(label)
    panels[0].set_ylabel("accuracy (dotted: no attack)")
    panels[len(folders)].set_ylabel("κ/α")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save(figure, picture)


def report(name, phase, x, clean, robust, ratio):
    for i, value in enumerate(x):
        cells = "  ".join(
            f"{label} {text(t.isel(point=i))}"
            for label, t in (("clean", clean), ("PGD", robust), ("κ/α", ratio))
        )
        print(f"{name:15s} {phase:12s} {value:<8.4g} {cells}")


if __name__ == "__main__":
    main()
