"""The tables and the figure of the ladder, from what `ladder.py` has measured (docs/dynamics.md).

Exponents in d at fixed a: a line through the means over seeds of log(quantity) against log d. Rungs
have one to three seeds; the interval takes their scatter to be the same in log at every rung of a
method, pooled with its freedoms; a closure of one seed takes that of the direct runs. It knows no
bend. Closures that do not follow most of their weights at the end of a phase are left out of
exponents, distances, C2 and figure. Predicted: the same line through the formula at the same k.
Rule for the distance of closure and direct run, set before the runs: it shrinks with d if the
interval over (a, seed) of its slope per doubling of d lies below 0.

    python experiments/ladder_tables.py --picture docs/images/ladder.png
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from ladder import EXPONENTS, RECORD, noise, settings
from lower_bound import load
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from panels import page, save
from scipy.stats import t

from featpur_sim.claims.of_closure import LIMIT
from featpur_sim.report._style import BLUE, GREY, ORANGE, VERMILLION
from featpur_sim.runs.reduced import scaling_of
from featpur_sim.statistics import mean_interval
from featpur_sim.theory import predictions

BATCHES = RECORD.with_name("ladder_batches.json")
COLOURS = {"homogeneous": BLUE, "population": ORANGE, "direct": VERMILLION}
MARKS = {"homogeneous": "", "population": "s", "direct": "o"}
SHOWN = {"homogeneous": "homogeneous model", "population": "population closure", "direct": "direct"}
HOLLOW = {"markerfacecolor": "white", "linestyle": "none", "zorder": 3}
LARGE = 10**4
RATIOS = ("clean κ/α", "purified κ/α")
# Name, phase, field, formula of (d, k).
QUANTITIES = {
    "clean κ/α": ("clean", "ratio", lambda d, k: predictions.clean_dense_ratio(d, k).value),
    "purified κ/α": (
        "adversarial", "ratio",
        lambda d, k: predictions.adversarial_dense_ratio(d, k, 0.3 / k**0.5).value,
    ),
    "dense radius, clean": (
        "clean", "dense_radius", lambda d, k: predictions.dense_radius(d, k).value,
    ),
    "FGM radius, purified": (
        "adversarial", "fgm_radius", lambda d, k: predictions.critical_radius(k).value,
    ),
    "active over k/d, clean": ("clean", "active", lambda d, k: k / d),
}  # fmt: skip
ORDER = ("alpha", "ratio", "residual", "carriers", "active")
ACCURACIES = ("accuracy", "dense_accuracy")
RADII = ("dense_radius", "fgm_radius")


def at_end(rows, method, a, phase, name):
    """d → seed → value at the end of a phase."""
    found = {}
    for row in rows:
        if (row["method"], row["a"], row["phase"]) == (method, a, phase) and name in row:
            found.setdefault(row["d"], {}).setdefault(row["seed"], {})[row["step"]] = row[name]
    return {
        d: {seed: steps[max(steps)] for seed, steps in seeds.items()}
        for d, seeds in sorted(found.items())
    }


def followed_enough(rows):
    """Without the closures that do not follow most of their weights at the end of a phase."""

    def rung(row):
        return tuple(row[name] for name in ("method", "a", "d", "seed"))

    ends = {}
    for row in rows:
        ends[rung(row), row["phase"]] = row  # the last step of a phase comes last
    lost = {at for (at, _), row in ends.items() if row.get("unfollowed", 0) > LIMIT}
    return [row for row in rows if rung(row) not in lost]


def apart(name, ours, theirs):
    """Closure and run: the ratio, of accuracies the difference."""
    return ours - theirs if name in ACCURACIES else ours / theirs


def value(rows, method, a, quantity):
    """d → values over seeds; the active fraction in units of k/d."""
    phase, name, _ = QUANTITIES[quantity]
    unit = {d: round(d**a) / d if name == "active" else 1.0 for d in (r["d"] for r in rows)}
    found = at_end(rows, method, a, phase, name)
    return {d: {s: v / unit[d] for s, v in seeds.items()} for d, seeds in found.items()}


def slope(sizes, values):
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def text(mean, low, high):
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def number(value):
    return f"{value:.3f}".replace("-", "−")


def scatter(tables):
    """Deviation of log values among the seeds of a rung, over all rungs, and its freedoms."""
    groups = [np.log(list(seeds.values())) for table in tables for seeds in table.values()]
    freedoms = sum(len(group) - 1 for group in groups)
    return np.sqrt(sum(np.var(g) * len(g) for g in groups) / max(freedoms, 1)), freedoms


def exponent(table, sizes, spread):
    """Slope and interval, in print."""
    sizes = [d for d in sizes if d in table]
    if len(sizes) < 2:
        return "–"
    logs = [np.log(list(table[d].values())) for d in sizes]
    x = np.log(sizes) - np.mean(np.log(sizes))
    weights = x / np.sum(x**2)
    middle = float(weights @ [log.mean() for log in logs])
    deviation, freedoms = spread
    half = deviation * np.sqrt(np.sum(weights**2 / [len(log) for log in logs]))
    half *= t.ppf(0.975, freedoms) if freedoms else np.nan
    return text(middle, middle - half, middle + half)


def print_table(head, lines):
    print("\n|", " | ".join(head), "|\n" + "|---" * len(head) + "|")
    for line in lines:
        print("|", " | ".join(map(str, line)), "|")


def print_values(rows):
    """What every method has at every rung: means over seeds, and their range."""

    def cell(a, d, method, phase, name, digits=3):
        values = list(at_end(rows, method, a, phase, name).get(d, {}).values())
        if not values:
            return ""
        low, high = min(values), max(values)
        several = len(values) > 1 and method != "homogeneous"
        spread = f" ({low:.{digits}g}–{high:.{digits}g})" if several else ""
        return f"{np.mean(values):.{digits}g}{spread}"

    columns = (
        ("clean", "alpha"), ("clean", "ratio"), ("clean", "residual"), ("clean", "active"),
        ("clean", "accuracy"), ("clean", "dense_accuracy"), ("clean", "dense_radius"),
        ("clean", "fgm_radius"), ("adversarial", "alpha"), ("adversarial", "ratio"),
        ("adversarial", "residual"), ("adversarial", "carriers"), ("adversarial", "active"),
        ("adversarial", "accuracy"), ("adversarial", "dense_accuracy"),
        ("adversarial", "dense_radius"), ("adversarial", "fgm_radius"),
    )  # fmt: skip
    for a in sorted({row["a"] for row in rows}):
        sizes = sorted({r["d"] for r in rows if r["a"] == a and r["method"] != "homogeneous"})
        at = [(d, m) for d in sizes for m in COLOURS]
        for phase in ("clean", "adversarial"):
            names = [name for p, name in columns if p == phase]
            print(f"\na = {a:g}, after the {phase} phase: mean (least–largest over seeds)")
            lines = [[d, round(d**a), m, *(cell(a, d, m, phase, n) for n in names)] for d, m in at]
            print_table(["d", "k", "method", *names], [line for line in lines if any(line[3:])])


def print_exponents(rows):
    """Local exponents, all methods over the same sizes, and over what only two or one reach."""
    print("\nExponents in d at k = round(d^a), slope [95 % over seeds; homogeneous: over nodes].")
    head = ["quantity", "a", "d", "formula", "direct", "closure", "homogeneous"]
    head += ["direct, every d", "formula, d ≥ 10⁴", "homogeneous, d ≥ 10⁴"]
    lines = []
    for name, (_, field, formula) in QUANTITIES.items():
        every = {m: [value(rows, m, a, name) for a in EXPONENTS] for m in COLOURS}
        spreads = {m: scatter(tables) for m, tables in every.items()}
        if not spreads["population"][1]:
            spreads["population"] = spreads["direct"]
        for i, a in enumerate(EXPONENTS):
            tables = {m: every[m][i] for m in COLOURS}
            shared = [d for d in tables["direct"] if d in tables["population"]]
            here = shared if len(shared) > 1 else list(tables["direct"])
            far = [d for d in tables["homogeneous"] if d >= LARGE]

            def predicted(among, a=a, formula=formula, field=field):
                ks = [(d, round(d**a)) for d in among]
                over = [formula(d, k) / (k / d if field == "active" else 1) for d, k in ks]
                return number(slope(among, over)) if len(among) > 1 else "–"

            span = f"{here[0]}–{here[-1]}" if here else "–"
            line = [name, a, span, predicted(here)]
            methods = ("direct", "population", "homogeneous")
            line += [exponent(tables[m], here, spreads[m]) for m in methods]
            line += [exponent(tables["direct"], list(tables["direct"]), spreads["direct"])]
            line += [predicted(far), exponent(tables["homogeneous"], far, spreads["homogeneous"])]
            lines.append(line)
    print_table(head, lines)


def print_distances(rows):
    """Closure over direct, seed by seed: does the distance shrink with d?"""
    print("\nClosure over direct (accuracies: closure − direct), mean [95 % over a and seeds].")
    lines = []
    for phase in ("clean", "adversarial"):
        for name in (*ORDER, *RADII, *ACCURACIES):
            by_size, slopes = {}, []
            for a in EXPONENTS:
                ours, theirs = (at_end(rows, m, a, phase, name) for m in ("population", "direct"))
                sizes = {}
                for d in sorted(set(ours) & set(theirs)):
                    for seed in sorted(set(ours[d]) & set(theirs[d])):
                        x, y = ours[d][seed], theirs[d][seed]
                        one = apart(name, x, y)
                        by_size.setdefault(d, []).append(one)
                        size = abs(one) if name in ACCURACIES else abs(np.log(one))
                        sizes.setdefault(seed, {})[d] = size
                for of_seed in sizes.values():
                    if len(of_seed) > 2:
                        d, size = np.array(list(of_seed.items())).T
                        slopes.append(np.polyfit(np.log2(d), size, 1)[0])
            cells = {
                d: text(*mean_interval(np.array(v))) if len(v) > 1 else number(v[0])
                for d, v in sorted(by_size.items())
            }
            word = "–"
            if len(slopes) > 1:
                _, low, high = mean_interval(np.array(slopes))
                word = "shrinks" if high < 0 else "grows" if low > 0 else "no trend shown"
                word = f"{text(*mean_interval(np.array(slopes)))} {word}"
            lines.append([phase, name, cells, word])
    sizes = sorted({d for line in lines for d in line[2]})
    print_table(
        ["phase", "quantity", *(f"d = {d}" for d in sizes), "slope of the distance"],
        [[p, n, *(cells.get(d, "") for d in sizes), word] for p, n, cells, word in lines],
    )


def print_rungs(rows):
    """Every rung: what the closure does not follow, and closure over direct run."""
    print("\nClosure over direct (accuracies: closure − direct), means over seeds, rung by rung.")
    names, lines = (*ORDER, *RADII, *ACCURACIES), []
    for a, phase in itertools.product(EXPONENTS, ("clean", "adversarial")):
        shares = at_end(rows, "population", a, phase, "unfollowed")
        both = [
            [at_end(rows, method, a, phase, name) for method in ("population", "direct")]
            for name in names
        ]
        for d in sorted(set(both[0][0]) & set(both[0][1])):
            cells = [number(np.mean(list(shares[d].values()))) if d in shares else ""]
            for name, (ours, theirs) in zip(names, both, strict=True):
                seeds = sorted(theirs[d])
                distances = [apart(name, ours[d][seed], theirs[d][seed]) for seed in seeds]
                cells.append(number(np.mean(distances)))
            lines.append([a, d, phase, *cells])
    print_table(["a", "d", "phase", "not followed", *names], lines)


def print_radii(rows):
    """C2: the radius of the dense attack on the clean network over FGM's on the purified one."""
    print("\nDense radius of the clean network over the purified network's FGM radius.")
    sizes = sorted({row["d"] for row in rows if row["method"] != "homogeneous"})
    lines = []
    for a in sorted({row["a"] for row in rows}):
        for method in COLOURS:
            dense = at_end(rows, method, a, "clean", "dense_radius")
            fgm = at_end(rows, method, a, "adversarial", "fgm_radius")
            cells = []
            for d in sizes:
                seeds = sorted(set(dense.get(d, {})) & set(fgm.get(d, {})))
                both = np.array([dense[d][s] / fgm[d][s] for s in seeds])
                cells.append(text(*mean_interval(both)) if len(both) > 1 else number(both.sum()))
            lines.append([a, method, *("" if c == "0.000" else c for c in cells)])
    print_table(["a", "method", *(f"d = {d}" for d in sizes)], lines)


def print_gates(rows):
    """What the mean neuron sees without its feature, in units of its threshold b = ν_f α/√k.

    The deviations of κX and ⟨q, x⟩, X = Σ x_j, both of energy E‖x‖². With N = active·d features
    open, the dense parts together are Nκ/α of a pure one.
    """
    scaling = scaling_of(settings(128, 0.4, 0))
    energy = 1 + scaling.p_one + scaling.sigma_x**2
    print("\nDeviation of what the mean neuron sees without its feature, over its threshold.")
    lines = []
    for a in EXPONENTS:
        for d in sorted({r["d"] for r in rows if r["a"] == a and r["d"] < LARGE}):
            for method in COLOURS:
                means = {
                    name: np.mean(list(of_seeds.get(d, {None: 0.0}).values()))
                    for name in ("alpha", "ratio", "residual", "active")
                    for of_seeds in [at_end(rows, method, a, "clean", name)]
                }
                if not means["alpha"]:
                    continue
                k = round(d**a)
                relative = scaling.bias_fraction / k**0.5
                dense = means["ratio"] * energy**0.5 / relative
                residual = (means["residual"] * energy / d) ** 0.5 / means["alpha"] / relative
                together = means["active"] * d * means["ratio"]
                cells = dense, residual, means["active"], k / d, means["active"] * d / k, together
                lines.append([a, d, method, *map(number, cells)])
    head = ["a", "d", "method", "κX", "⟨q, x⟩", "open", "k/d", "open over k/d", "Nκ/α"]
    print_table(head, lines)


def at_constant_noise(rows):
    """Of direct runs with batches of their own, those at the noise of the ladder's first rung."""
    kept = [row for row in rows if abs(noise(row["d"], row["batch"]) - 1) < 0.01]
    return [row for row in kept if row["method"] == "direct"]


def draw(rows, constant, picture):
    """Quantities downwards, a across; the grey line has the formula's slope.

    Hollow: direct runs ``constant``, in which the noise of a step is that of the first rung.
    """
    hollow = {"color": COLOURS["direct"], "marker": MARKS["direct"], **HOLLOW}
    figure, panels = page(len(EXPONENTS), height=8.6, rows=len(QUANTITIES), sharex=True)
    grid = np.reshape(np.array(panels, dtype=object), (len(QUANTITIES), len(EXPONENTS)))
    for axes_row, (name, (_, field, formula)) in zip(grid, QUANTITIES.items(), strict=True):
        for axes, a in zip(axes_row, EXPONENTS, strict=True):
            for method, colour in COLOURS.items():
                table = value(rows, method, a, name)
                if not table:
                    continue
                d = np.array(list(table))
                low, mean, high = np.array(
                    [[f(list(v.values())) for f in (min, np.mean, max)] for v in table.values()]
                ).T
                axes.fill_between(d, low, high, color=colour, alpha=0.3, lw=0)
                axes.plot(d, mean, "-", marker=MARKS[method], color=colour)
                if method == "homogeneous":
                    k = np.round(d**a)
                    unit = k / d if field == "active" else 1.0
                    line = np.array([formula(*at) for at in zip(d, k, strict=True)]) / unit
                    axes.plot(d, line * mean[-1] / line[-1], ":", color=GREY, zorder=0)
            for d, seeds in value(constant, "direct", a, name).items():
                mean = np.mean(list(seeds.values()))
                axes.plot(d, mean, **hollow)
            axes.set(xscale="log", yscale="log")
            if name not in RATIOS:  # less than two decades
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
            if axes is axes_row[0]:
                axes.set_ylabel(name)
            if axes in grid[0]:
                axes.set_title(f"k = d^{a:g}")
            if axes in grid[-1]:
                axes.set_xlabel("d")
        low = min(axes.get_ylim()[0] for axes in axes_row)
        high = max(axes.get_ylim()[1] for axes in axes_row)
        for axes in axes_row:
            axes.set_ylim(low, high)
    handles = [Line2D([], [], color=c, marker=MARKS[m], label=SHOWN[m]) for m, c in COLOURS.items()]
    handles.append(Line2D([], [], label="direct, constant noise", **hollow))
    handles.append(Line2D([], [], color=GREY, ls=":", label="predicted slope"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    save(figure, picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="JSON file of every value")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    options = parser.parse_args()
    rows = load(options.record)
    print_values(rows)
    print_rungs(rows)
    print_gates(rows)
    rows = followed_enough(rows)
    print_exponents(rows)
    print_distances(rows)
    print_radii(rows)
    if options.picture:
        draw(rows, at_constant_noise(load(BATCHES)), options.picture)


if __name__ == "__main__":
    main()
