"""Claim C10: examples made on one clean-trained network, shown to others (docs/theory.md §5).

    featpur run experiments/transfer.toml --out transfer
    python experiments/transfer.py transfer --picture docs/images/transfer.png

Rules as in featpur_sim/claims/of_run.py: examples carry over if the interval of the share of PGD's
damage that another network's examples do, at τ, lies at or above 0.8; purified networks resist if
the interval of the accuracy that such examples cost them lies at or below 0.1.
"""

import numpy as np
from panels import arguments, page, save

from featpur_sim.report._style import BLUE, VERMILLION, curve
from featpur_sim.runs.diagnosis import only_finished
from featpur_sim.runs.folder import load_result
from featpur_sim.statistics import mean_interval


def main():
    (folder,), picture = arguments(__doc__)
    result = only_finished(load_result(folder))
    at_tau = int(np.argmin(np.abs(result.relative_radius.values - 1)))
    figure, panels = page(2, sharey=True)
    for axes, (phase, colour) in zip(
        panels, (("clean", VERMILLION), ("adversarial", BLUE)), strict=True
    ):
        shown = {"random noise": ":", "transfer": "-", "PGD": "--"}
        table = result.robust_accuracy.sel(phase=phase, attack=list(shown)).dropna("seed")
        for attack, style in shown.items():
            values = table.sel(attack=attack).values
            curve(axes, result.radius, values, colour, label=attack, linestyle=style)
        axes.set_title({"clean": "clean-trained", "adversarial": "adversarially trained"}[phase])
        axes.set_xlabel("radius (units of x)")
        axes.legend()
        lost = table.isel(radius=0) - table.isel(radius=at_tau)
        theirs, own = (lost.sel(attack=attack).values for attack in ("transfer", "PGD"))
        for label, values in (
            ("lost to transfer", theirs),
            ("lost to PGD", own),
            ("share of PGD's damage", theirs / own),
        ):
            mean, low, high = mean_interval(values)
            print(f"{phase:12s} {label:22s} {mean:.3f} [{low:.3f}, {high:.3f}]")
    panels[0].set_ylabel("accuracy")
    panels[0].set_ylim(0, 1.02)
    save(figure, picture)


if __name__ == "__main__":
    main()
