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


def sweep_points(swept: list[dict[str, Any]], shown: int = 12) -> Table:
    """The swept fields of a sweep's points: the first and the last of them, if there are many."""
    labels = list(dict.fromkeys(label for point in swept for label in point))
    table = Table("point", title="points", box=box.SIMPLE_HEAD)
    for label in labels:
        table.add_column(escape(label.replace(".", ".\n")), overflow="fold")
    many = len(swept) > shown
    rows = [*range(shown - 2), *range(len(swept) - 2, len(swept))] if many else range(len(swept))
    for index in rows:
        if many and index == len(swept) - 2:
            table.add_row("…", *("…" for _ in labels))
        cells = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in swept[index].values())
        table.add_row(str(index), *map(escape, cells))
    return table


def sweep_groups(groups: list[dict[str, Any]]) -> Table:
    """The groups of `featpur_sim.sweep_cost.estimate`: what is computed together."""
    table = Table(title="groups; those of one program share a compilation", box=box.SIMPLE_HEAD)
    names = ("d", "m", "steps", "points", "runs", "batches", "width", "program", "GiB", "min")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        cells = {**group, "GiB": f"{group['gib']:.2g}", "min": f"{group['seconds'] / 60:.1f}"}
        table.add_row(*(str(cells[name]) for name in names))
    return table


def exponents(rows: list[dict[str, Any]]) -> Table:
    """The rows of `featpur_sim.exponents.as_row`: how good each fit is, then its exponents."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="power laws, with the predicted exponents",
        caption="[95 %]: seeds resampled within points; scatter: of the points about the fit",
    )
    table.add_column("quantity")
    table.add_column("exponent \\[95 %]", no_wrap=True)
    table.add_column("predicted", no_wrap=True, justify="right")
    for row in rows:
        left_out = f", {len(row['excluded'])} left out" if row["excluded"] else ""
        fit = f"R² {row['r_squared']:.3f}, scatter {100 * row['scatter']:.0f} %"
        points = f"{row['points']} points{left_out}"
        table.add_row(escape(row["label"]), f"[dim]{fit}, {points}[/dim]", "")
        for exponent in row["exponents"]:
            numbers = (exponent[name] for name in ("value", "low", "high"))
            value, low, high = (f"{number:.3f}" for number in numbers)
            predicted = exponent["predicted"]
            said = "" if predicted is None else f"{predicted:.3f}"
            table.add_row(
                f"  in {exponent['coordinate']}", escape(f"{value} [{low}, {high}]"), said
            )
        table.add_section()
    return table
