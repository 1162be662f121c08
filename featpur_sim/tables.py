"""Tables for the terminal: accuracies, what each attack added, certificates (docs/theory.md §8)."""

from typing import Any

import xarray as xr
from rich import box
from rich.markup import escape
from rich.table import Table


def accuracies(scores: xr.Dataset) -> Table:
    """``robust_accuracy`` [seed, phase, attack, radius] as means over the seeds."""
    mean = scores.robust_accuracy.mean("seed", skipna=False)
    table = Table(title=f"accuracy under attack, mean over {scores.sizes['seed']} seeds")
    table.add_column("attack")
    for name in ("radius/τ", *map(str, scores.phase.values)):
        table.add_column(name, justify="right")
    for attack in scores.attack.values:
        for at, relative in enumerate(scores.relative_radius.values):
            values = mean.sel(attack=attack).isel(radius=at).values
            if relative > 0 and not (values != values).any():
                table.add_row(str(attack), f"{relative:g}", *(f"{v:.3f}" for v in values))
    return table


def contributions(rows: list[dict[str, Any]]) -> Table:
    """The rows of `featpur_sim.attack_run.contributions`."""
    columns = ("attack", "points", "broken", "new", "seconds")
    table = Table(*columns, title="what each attack added, in their order; all networks and radii")
    for row in rows:
        counts = (str(row[name]) for name in columns[1:4])
        table.add_row(row["attack"], *counts, f"{row['seconds']:.1f}")
    return table


def certificate(rows: list[dict[str, Any]]) -> Table:
    """The rows of `featpur_sim.certify_run.certify_run`: both sides, then points by stage."""
    first = rows[0]
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"robust accuracy in {first['norm']}: certified ≤ truth ≤ attacked",
        caption=f"{first['n']} points over {len(first['seeds'])} seeds, by what decided them; "
        f"attack {first['protocol']}; f in {first['function']}",
    )
    for name in ("phase", "radius/τ", "certified", "attacked", *first["by_stage"]):
        table.add_column(name, no_wrap=True, justify="left" if name == "phase" else "right")
    for row in rows:
        sides = (f"{row['certified']:.4f}", f"{row['attacked']:.4f}")
        counts = (str(row["by_stage"][name]) for name in first["by_stage"])
        table.add_row(row["phase"], f"{row['relative_radius']:g}", *sides, *counts)
    return table


def comparison(rows: list[dict[str, Any]]) -> Table:
    """The rows of `featpur_sim.compare.compare_run` at the training radius."""
    table = Table(
        title="robust accuracy at τ (an upper bound), one training seed",
        caption="bound: what no member of the class exceeds, where proved; s: seconds",
    )
    for name in ("class", "training", "at τ \\[95 %]", "bound", "label", "s"):
        table.add_column(name, no_wrap=name in ("bound", "label", "s"))
    for row in rows:
        low, high = row["ci"]
        measured = escape(f"{row['robust_accuracy']:.3f} [{low:.3f}, {high:.3f}]")
        bound = "" if row["class_bound"] is None else f"{row['class_bound']:.3f}"
        cells = (row["class"], row["training"], measured, bound, row["label"])
        table.add_row(*cells, f"{row['seconds']:.0f}")
    return table
