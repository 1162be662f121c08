"""Tables for the terminal: scorecards, accuracies, certificates, fits (docs/theory.md §8).

All are a `featpur_sim.cli._grid.Grid`, which never cuts a number.
"""

from statistics import fmean

import xarray as xr
from rich.text import Text

from featpur_sim._ground.rows import Row
from featpur_sim.claims import family, of_readouts
from featpur_sim.claims.of_closure import LIMIT
from featpur_sim.claims.verdict import Tone, Verdict
from featpur_sim.cli._grid import Cell, Column, Grid
from featpur_sim.theory.dynamics.exponents import ANSATZ

# Tone → style of rich.
TONES = {
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.PARTLY: "cyan",
    Tone.OPEN: "yellow",
    Tone.FAILED: "bold red",
}


def families(regime: str, rows: list[Row]) -> Grid:
    """A line for each claim of one regime: how many of its rows got which verdict, worst first.

    The number is that of the row which decides (`featpur_sim.claims.family`).
    """
    columns = (
        Column("id"),
        Column("claim"),
        Column("verdicts of its rows"),
        Column("worst row [95 % CI]", number=True),
        Column("judged by"),
    )
    cells = []
    for one in family.families([row for row in rows if row["regime"] == regime]):
        worst = one.decisive
        counts = [
            Text(f"{n} {verdict}", style=TONES[verdict.tone]) for verdict, n in one.counts.items()
        ]
        number = _measured(worst) + _ends(worst["ci"])
        told = Text("\n").join(counts)
        cells.append([one.id, family.title(one), told, number, worst["threshold"] or ""])
    rule = "a claim is judged by its worst row, whose number this is"
    return Grid(f"Scorecard by claim, {regime}", columns, cells, rule)


def scorecard(regime: str, rows: list[Row]) -> Grid:
    """The rows of `featpur_sim.claims.of_run.scorecard` of one regime."""
    columns = (
        Column("id"),
        Column("claim, as measured"),
        Column("measured [95 % CI] [all rows together]", number=True),
        Column("verdict (all rows together)"),
    )
    cells = [_scorecard_row(row) for row in rows if row["regime"] == regime]
    return Grid(f"Scorecard, {regime}", columns, cells, lines=True)


def _scorecard_row(row: Row) -> list[Cell]:
    both = row["ci"], row["ci_simultaneous"]
    intervals = "".join(f"\n{_ends(ci).lstrip()}" for ci in both if ci is not None)
    bar = f"; judged by: {row['threshold']}" if row["threshold"] else ""
    note = f"\nprediction: {row['predicted']}, {row['source']}{bar}"
    return [
        row["id"],
        Text.assemble(row["statement"], (note, "dim")),
        f"{_measured(row)}{intervals}",
        _verdicts(row["verdict"], row["verdict_simultaneous"]),
    ]


def _measured(row: Row) -> str:
    # None is what a file keeps of NaN.
    return "–" if row["measured"] is None else f"{row['measured']:.3g}"


def _ends(ci: list[float] | None) -> str:
    return "" if ci is None else f" [{ci[0]:.3g}, {ci[1]:.3g}]"


def _verdicts(alone: str, together: str) -> Text:
    found = Text(alone, style=TONES[Verdict(alone).tone])
    if together != alone:
        found.append(f"\n({together})", style=TONES[Verdict(together).tone])
    return found


def accuracies(scores: xr.Dataset, seeds: str) -> Grid:
    """``robust_accuracy`` [seed, phase, attack, radius] as means over the seeds that finished.

    Args:
        scores: NaN for the other seeds, and for what does not apply; an attack that has values for
            some seeds only says for how many.
        seeds: how many, as `featpur_sim.runs.diagnosis.in_words` says it.
    """
    mean = scores.robust_accuracy.mean("seed")
    counts = scores.robust_accuracy.count("seed")
    most = int(counts.max())
    names = ("radius/τ", *map(str, scores.phase.values))
    columns = [Column("attack"), *(Column(name, number=True) for name in names)]
    rows = []
    for attack in scores.attack.values:
        least = int(counts.sel(attack=attack).min())
        few = f" ({_seeds(least)})" if least < most else ""
        for at, relative in enumerate(scores.relative_radius.values):
            values = mean.sel(attack=attack).isel(radius=at).values
            if relative > 0 and not (values != values).any():
                rows.append([f"{attack}{few}", f"{relative:g}", *(f"{v:.3f}" for v in values)])
    return Grid(f"accuracy under attack, mean over {seeds}", columns, rows)


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def contributions(rows: list[Row]) -> Grid:
    """The rows of `featpur_sim.runs.attack.contributions`."""
    names = ("points", "broken", "new", "seconds")
    columns = [Column("attack"), *(Column(name, number=True) for name in names)]
    cells = [
        [row["attack"], *(str(row[name]) for name in names[:3]), f"{row['seconds']:.1f}"]
        for row in rows
    ]
    return Grid("what each attack added, in their order; all networks and radii", columns, cells)


def certificate(rows: list[Row]) -> Grid:
    """The rows of `featpur_sim.runs.certify.certify_run`: both sides, then points by stage."""
    first = rows[0]
    names = ("radius/τ", "certified", "attacked", *first["by_stage"])
    columns = [Column("phase"), *(Column(name, number=True) for name in names)]
    cells = []
    for row in rows:
        sides = (f"{row['certified']:.4f}", f"{row['attacked']:.4f}")
        counts = (str(row["by_stage"][name]) for name in first["by_stage"])
        cells.append([row["phase"], f"{row['relative_radius']:g}", *sides, *counts])
    return Grid(
        f"robust accuracy in {first['norm']}: certified ≤ truth ≤ attacked",
        columns,
        cells,
        f"{first['n']} points over {_seeds(len(first['seeds']))}, by what decided them; "
        f"attack {first['protocol']}; f in {first['function']}",
    )


def comparison(rows: list[Row]) -> Grid:
    """The rows of `featpur_sim.runs.compare.compare_run` at the training radius."""
    columns = (
        Column("class"),
        Column("training"),
        Column("at τ [95 %]", number=True),
        Column("bound", number=True),
        Column("label"),
        Column("s", number=True),
    )
    cells = []
    for row in rows:
        low, high = row["ci"]
        measured = f"{row['robust_accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        bound = "" if row["class_bound"] is None else f"{row['class_bound']:.3f}"
        names = (row["class"], row["training"], measured, bound, row["label"])
        cells.append([*names, f"{row['seconds']:.0f}"])
    return Grid(
        "robust accuracy at τ (an upper bound), one training seed",
        columns,
        cells,
        "bound: what no member of the class exceeds, where proved; s: seconds",
    )


def readouts(rows: list[Row]) -> Grid:
    """The rows of `featpur_sim.runs.readouts.readout_run`."""
    names = {
        "no attack": "accuracy",
        "PGD": "pgd",
        "certified": "certified",
        "attacked": "attacked",
    }
    columns = [Column("features, readout"), *(Column(name, number=True) for name in names)]
    cells: list[list[Cell]] = []
    for row in rows:
        found = of_readouts.intervals(row)
        numbers = [_with_interval(*found[name]) for name in names.values()]
        cells.append([str(of_readouts.pair_of(row)), *numbers])
    return Grid(
        f"readouts on frozen features at τ [95 %], {_seeds(len(rows[0]['seeds']))}",
        columns,
        cells,
        "own readout: the run's network; certified ≤ truth ≤ attacked",
    )


def _with_interval(mean: float, low: float, high: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.3f}" if low != low else f"{mean:.3f}\n[{low:.3f}, {high:.3f}]"


def closure(rows: list[Row]) -> Grid:
    """The closure of a run along both phases: means over the seeds."""
    shown = {
        "alpha": "α", "ratio": "κ/α", "carriers": "carriers", "active": "active",
        "accuracy": "clean accuracy", "dense_accuracy": "dense attack at τ",
    }  # fmt: skip
    columns = [Column("phase"), Column("step", number=True)]
    columns += [Column(label, number=True) for label in shown.values()]
    cells = [
        [row["phase"], str(row["step"]), *(f"{fmean(row[name]):.3g}" for name in shown)]
        for row in rows
    ]
    last = {row["phase"]: f"{max(row['unfollowed']):.2f}" for row in rows}
    shares = ", ".join(f"{share} after the {phase} phase" for phase, share in last.items())
    note = (
        f"Share of the weights that is not followed, at most: {shares}. Above {LIMIT:g} the "
        "closure predicts nothing."
    )
    title = f"the closure, mean over {_seeds(len(rows[0]['alpha']))}"
    return Grid(title, columns, cells, note)


def reduced_exponents(rows: list[Row]) -> Grid:
    """The rows of dynamics.json (`featpur_sim.theory.dynamics.exponents.fit`)."""
    first = rows[0]
    columns = (
        Column("a", number=True),
        Column("quantity"),
        Column("exponent [95 %]", number=True),
        Column("predicted", number=True),
        Column("from"),
    )
    cells = []
    for row in rows:
        low, high = row["ci"]
        fitted = f"{row['exponent']:.3f} [{low:.3f}, {high:.3f}]"
        numbers = (fitted, f"{row['predicted']:.3f}")
        cells.append([f"{row['a']:g}", row["quantity"], *numbers, row["source"]])
    span = f"d = {first['d_min']:.0e} … {first['d_max']:.0e}"
    return Grid(f"exponents of d in the reduced model, {span}", columns, cells, ANSATZ)


def reduced_rows(result: xr.Dataset) -> list[Row]:
    """The end of each phase of `featpur_sim.runs.reduced.to_dataset`: means over replicates."""
    rows = []
    for phase in result.phase.values:
        end = result.sel(phase=phase).isel(point=-1).mean("replicate")
        row: Row = {"phase": str(phase), "time": float(end.time)}
        for name in ("alpha", "dense_ratio", "residual", "active_fraction", "bias"):
            row[name] = float(end[name])
        for attack in result.attack.values:
            row[f"accuracy, {attack}"] = float(end.accuracy.sel(attack=attack))
        rows.append(row)
    return rows


def reduced(result: xr.Dataset) -> Grid:
    """The rows of `reduced_rows`."""
    rows = reduced_rows(result)
    columns = [Column(""), *(Column(row["phase"], number=True) for row in rows)]
    cells = []
    for name in list(rows[0])[1:]:
        label = result[name].attrs["long_name"] if name in result else name
        cells.append([label, *(f"{row[name]:.4g}" for row in rows)])
    return Grid("reduced dynamics at the end of each phase", columns, cells)


def sweep_points(swept: list[Row], shown: int = 12) -> Grid:
    """The swept fields of a sweep's points: the first and the last of them, if there are many."""
    labels = list(dict.fromkeys(label for point in swept for label in point))
    # A dotted name may wrap at its dots.
    columns = [Column("point", number=True)]
    columns += [Column(label.replace(".", ". "), number=True) for label in labels]
    many = len(swept) > shown
    kept = [*range(shown - 2), *range(len(swept) - 2, len(swept))] if many else range(len(swept))
    cells = []
    for index in kept:
        if many and index == len(swept) - 2:
            cells.append(["…"] * len(columns))
        values = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in swept[index].values())
        cells.append([str(index), *values])
    return Grid("points", columns, cells)


def sweep_groups(groups: list[Row]) -> Grid:
    """The groups of `featpur_sim.sweeps.cost.estimate`: what is computed together."""
    names = ("d", "m", "steps", "points", "runs", "batches", "width", "program", "GiB", "min")
    cells = []
    for group in groups:
        shown = {**group, "GiB": f"{group['gib']:.2g}", "min": f"{group['seconds'] / 60:.1f}"}
        cells.append([str(shown[name]) for name in names])
    columns = [Column(name, number=True) for name in names]
    return Grid("groups; those of one program share a compilation", columns, cells)


def exponents(rows: list[Row]) -> Grid:
    """Rows of `featpur_sim.claims.power_law.as_row`: how good each fit is, then its exponents."""
    columns = (
        Column("quantity"),
        Column("exponent [95 %]", number=True),
        Column("predicted", number=True),
    )
    cells: list[list[Cell]] = []
    for row in rows:
        left_out = f", {len(row['excluded'])} left out" if row["excluded"] else ""
        fit = f"R² {row['r_squared']:.3f}, scatter {100 * row['scatter']:.0f} %"
        same = f", {row['repeats']} with the same runs" if row["repeats"] else ""
        fit = f"\n{fit}, {row['points']} points{left_out}{same}"
        cells.append([Text.assemble(row["label"], (fit, "dim")), "", ""])
        for exponent in row["exponents"]:
            value, low, high = (f"{exponent[name]:.3f}" for name in ("value", "low", "high"))
            interval = "" if low == "nan" else f" [{low}, {high}]"
            predicted = exponent["predicted"]
            said = "" if predicted is None else f"{predicted:.3f}"
            cells.append([f"  in {exponent['coordinate']}", value + interval, said])
        cells.append([])
    return Grid(
        "power laws, with the predicted exponents",
        columns,
        cells,
        "[95 %]: Student's t over the seeds' own slopes; scatter: of the points about the fit",
    )
