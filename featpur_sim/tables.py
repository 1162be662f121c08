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


def reduced_exponents(rows: list[dict[str, Any]]) -> Table:
    """The rows of dynamics.json (`featpur_sim.reduced_exponents.fit`)."""
    first = rows[0]
    span = f"d = {first['d_min']:.0e} … {first['d_max']:.0e}"
    table = Table(title=f"exponents of d in the reduced model, {span}")
    for name in ("a", "quantity", "exponent \\[95 %]", "predicted", "from"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        low, high = row["ci"]
        fitted = escape(f"{row['exponent']:.3f} [{low:.3f}, {high:.3f}]")
        cells = (f"{row['a']:g}", row["quantity"], fitted, f"{row['predicted']:.3f}")
        table.add_row(*cells, escape(row["source"]))
    return table


def reduced_rows(result: xr.Dataset) -> list[dict[str, Any]]:
    """The end of each phase of `featpur_sim.dynamics_run.to_dataset`: means over the replicates."""
    rows = []
    for phase in result.phase.values:
        end = result.sel(phase=phase).isel(point=-1).mean("replicate")
        row: dict[str, Any] = {"phase": str(phase), "time": float(end.time)}
        for name in ("alpha", "dense_ratio", "residual", "active_fraction", "bias"):
            row[name] = float(end[name])
        for attack in result.attack.values:
            row[f"accuracy, {attack}"] = float(end.accuracy.sel(attack=attack))
        rows.append(row)
    return rows


def reduced(result: xr.Dataset) -> Table:
    """The rows of `reduced_rows`."""
    rows = reduced_rows(result)
    table = Table(title="reduced dynamics at the end of each phase")
    table.add_column("")
    for row in rows:
        table.add_column(row["phase"], justify="right")
    for name in list(rows[0])[1:]:
        table.add_row(result[name].attrs["long_name"] if name in result else name,
                      *(f"{row[name]:.4g}" for row in rows))  # fmt: skip
    return table
