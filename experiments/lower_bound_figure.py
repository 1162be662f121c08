"""Robust accuracy against d at τ = 0.3/√k: the figure of docs/lower-bound.md.

Best members from the record of experiments/lower_bound.py, class-wide bounds as hatched regions,
witnesses bracketed point by point; with --networks also what is certified of purified networks in
the folders that experiments/sandwich.py made. About three minutes on one core:

    python experiments/lower_bound_figure.py --out docs/images/lower-bound.png
    python experiments/lower_bound_figure.py --networks nets/dense-64 nets/dense-128
"""

import argparse
import json
import math
from pathlib import Path

from lower_bound import RECORD, SIGMA, Row, load
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featpur_sim._ground.disk import atomic_path
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILLION,
    house_style,
    render,
)
from featpur_sim.statistics import mean_interval, wilson_interval
from featpur_sim.theory.class_bounds import affine_bound, linear_bound, quadratic_bound
from featpur_sim.theory.witnesses import cubic_witness, septic_witness, witness_robust_accuracy
from featpur_sim.training.competitors import (
    AFFINE,
    LINEAR,
    NTK_LIMIT,
    WIDTHS,
    ntk_class,
    polynomial_class,
)

BOUNDED = (
    (LINEAR, VERMILLION, linear_bound),
    (AFFINE, ORANGE, affine_bound),
    (polynomial_class(2), PURPLE, quadratic_bound),
)
UNBOUNDED = (
    (polynomial_class(3), GREEN),
    (polynomial_class(5), SKY),
    (polynomial_class(7), PURPLE),
    (NTK_LIMIT, ORANGE),
    (ntk_class(WIDTHS[1]), VERMILLION),
    (ntk_class(WIDTHS[0]), BLACK),
)
BOUND_SIZES = ((64, 5), (128, 8), (256, 12), (512, 15), (1024, 20), (2048, 30), (4096, 42))
# d, k and points of the brackets.
WITNESS_SIZES = (
    (64, 5, 4000),
    (256, 12, 4000),
    (1024, 20, 4000),
    (4096, 42, 2000),
    (16384, 100, 1500),
    (131072, 300, 300),
)


def radius(k: float) -> float:
    return 0.3 / math.sqrt(k)


def best(rows: list[Row], name: str) -> list[Row]:
    """The row with the highest mean at each size: the quick protocol, three seeds or more."""
    found: dict[int, Row] = {}
    for row in rows:
        if row["class"] == name and row["protocol"] == "quick" and len(row["values"]) > 2:
            kept = found.get(row["d"])
            if kept is None or mean_interval(row["values"])[0] > mean_interval(kept["values"])[0]:
                found[row["d"]] = row
    return [found[d] for d in sorted(found)]


def members(axes: Axes, rows: list[Row], name: str, colour: str) -> None:
    chosen = best(rows, name)
    if chosen:
        d = [row["d"] for row in chosen]
        mean, low, high = zip(*(mean_interval(row["values"]) for row in chosen), strict=True)
        bars = [[m - b for m, b in zip(mean, low, strict=True)],
                [a - m for m, a in zip(mean, high, strict=True)]]  # fmt: skip
        axes.errorbar(d, mean, yerr=bars, color=colour, marker="o", capsize=2, label=name)


def bounds(axes: Axes, colour: str, bound, hatch: str) -> None:
    d = [size[0] for size in BOUND_SIZES]
    value = [bound(d, k, SIGMA, radius(k)).bound for d, k in BOUND_SIZES]
    axes.fill_between(
        d, value, 1.0, facecolor="none", edgecolor=colour, hatch=hatch, linewidth=0, alpha=0.6
    )
    axes.plot(d, value, color=colour, linewidth=0.8)


def witnesses(axes: Axes, name: str, h, colour: str) -> None:
    """Wilson's interval from the lower end of the bracket to the upper one of the attack."""
    d, middle, bars = [], [], []
    for size, k, n in WITNESS_SIZES:
        score = witness_robust_accuracy(h(k), size, k, SIGMA, radius(k), n=n, seed=1)
        low = wilson_interval(round(score.lower * n), n)[0]
        high = wilson_interval(round(score.upper * n), n)[1]
        d.append(size)
        middle.append(score.lower)
        bars.append((score.lower - low, high - score.lower))
    axes.errorbar(d, middle, yerr=list(zip(*bars, strict=True)), color=colour, linestyle=":",
                  marker="s", markerfacecolor="none", capsize=2, label=name)  # fmt: skip


def networks(axes: Axes, folders: list[Path]) -> None:
    d, certified = [], []
    for folder in folders:
        for row in json.loads((folder / "certificate.json").read_text(encoding="utf-8")):
            if (row["phase"], row["relative_radius"], row["norm"]) == ("adversarial", 1.0, "l2"):
                d.append(int(folder.name.split("-")[1]))
                certified.append(row["certified"])
    if d:
        axes.plot(d, certified, color=BLUE, linestyle="--", marker="v",
                  label="purified network, certified")  # fmt: skip


def draw(rows: list[Row], folders: list[Path]) -> Figure:
    with house_style():
        figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for (name, colour, bound), hatch in zip(BOUNDED, ("////", "\\\\\\\\", "...."), strict=True):
            members(left, rows, name, colour)
            bounds(left, colour, bound, hatch)
        for name, colour in UNBOUNDED:
            members(right, rows, name, colour)
        witnesses(right, "cubic, certified", lambda k: cubic_witness(), GREEN)
        witnesses(right, "degree 7 of P3, certified", septic_witness, PURPLE)
        for axes, title in ((left, "classes with a proved bound"), (right, "classes without one")):
            networks(axes, folders)
            axes.axhline(0.5, color=BLACK, linewidth=0.5, linestyle=":")
            axes.set(xlabel="d", ylim=(0, 1.0))
            axes.set_xscale("log", base=4)
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.set_title(title, loc="left")
            axes.legend(loc="lower left", ncols=1 if axes is left else 2, fontsize=6)
        left.set_ylabel("robust accuracy at τ = 0.3/√k")
        figure.draw_without_rendering()
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("lower-bound.png"))
    parser.add_argument("--networks", type=Path, nargs="*", default=[], metavar="DIR")
    options = parser.parse_args()
    content = render(draw(load(RECORD), options.networks), options.out.suffix[1:])
    with atomic_path(options.out) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    main()
