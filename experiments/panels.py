"""What the scripts over sweeps share: the folder to read, measured curves, verdict lines.

Curves are means over the runs that finished, bars 95 % t-intervals over seeds.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from featpur_sim.claims.diagram import per_point
from featpur_sim.claims.measured import Counted, over_seeds
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report._style import PAGE, STYLE, render
from featpur_sim.report.study_figures import quantities_of
from featpur_sim.runs.diagnosis import finished
from featpur_sim.statistics import mean_interval
from featpur_sim.sweeps.run import load_sweep


def arguments(description: str, folders: str | int = 1) -> tuple[list[Path], Path]:
    """The sweeps' folders and the picture to write, from the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("folder", nargs=folders, type=Path, help="folder of a finished sweep")
    parser.add_argument("--picture", type=Path, required=True, help="PNG file to write")
    options = parser.parse_args()
    return options.folder, options.picture


def cousin_arguments(description: str, seeds: int) -> argparse.ArgumentParser:
    """The command line of a cousin of the theorem: a picture to write and a number of seeds."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--out", type=Path, help="folder for data, networks, figures and report")
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


def study_table(result: xr.Dataset) -> str:
    """What a study measured, a line for each point and phase, as a Markdown table.

    Means with 95 % intervals over seeds; columns are critical radii in units of τ and the numbers
    of ``measure``, which stand at the last phase of a point.
    """
    lines, head = [], None
    axes = [name for name in result.coords if result[name].dims == ("point",) and name != "point"]
    attacks = result.critical_attack.values.tolist() if "critical_attack" in result else []
    own = [q.name for q in quantities_of(result) if not q.at]
    for point in range(result.sizes["point"]):
        here = result.isel(point=point)
        trained = [
            p for p in here.phase.values[1:] if np.isfinite(here.along_step.sel(phase=p)).any()
        ]
        for phase in trained:
            at = here.sel(phase=phase)
            unit = here.radius.values[0, -1] / here.relative_radius.values[-1]
            columns = {"clean accuracy": at.clean_accuracy.values}
            columns |= {
                f"radius of {a} / τ": at.critical_radius.sel(critical_attack=a).values / unit
                for a in attacks
            }
            last = phase == trained[-1]
            columns |= {
                name.replace("_", " "): here[name].values if last else np.full(2, np.nan)
                for name in own
            }
            head = head or "| " + ", ".join(axes) + " | phase | " + " | ".join(columns) + " |"
            cells = [", ".join(str(here[name].item()) for name in axes), str(phase)]
            of_points = Counted(result.attrs["test_samples"], least=0.0)
            cells += [
                cell(values, of_points if name == "clean accuracy" else None)
                for name, values in columns.items()
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *lines])


def cell(values: np.ndarray, counted: Counted | None = None) -> str:
    """A mean with its 95 % interval over seeds; a dash where a seed has no value."""
    if np.isnan(values).any():
        return "–"
    mean, low, high = over_seeds(values, counted)[:3]
    return f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else "")


def quantity(result: xr.Dataset, text: str) -> xr.Dataset:
    """Mean and interval of a quantity at every point."""
    return per_point(result, Quantity.parse(text))


def bars(axes, x, table: xr.Dataset, **style) -> None:
    """Means with their intervals against x, in rising order of x."""
    order = np.argsort(x)
    mean, low, high = (table[name].values[order] for name in ("value", "low", "high"))
    axes.errorbar(np.asarray(x)[order], mean, yerr=[mean - low, high - mean], **style)


def text(row: xr.Dataset) -> str:
    """One point of `quantity` in print."""
    return f"{float(row.value):.3f} [{float(row.low):.3f}, {float(row.high):.3f}]"


def difference(sweep: xr.Dataset, first: xr.DataArray, second: xr.DataArray) -> list[tuple | None]:
    """Mean and interval of first − second at every point, run by run; None without two runs."""
    return intervals((first - second).transpose("point", "seed").values, finished(sweep))


def intervals(rows: np.ndarray, kept: np.ndarray) -> list[tuple | None]:
    """Mean and interval of each row's entries that are kept; None where they are not two."""
    pairs = zip(rows, kept, strict=True)
    return [mean_interval(row[keep]) if keep.sum() > 1 else None for row, keep in pairs]


def scorecard(rows: list[dict]) -> str:
    """Rows of `featpur_sim.claims.claim.rows` as a Markdown table."""
    lines = ["| claim | predicted | rule | measured | verdict | held together |", "|---" * 6 + "|"]
    for row in rows:
        low, high = row["ci"] or (float("nan"), float("nan"))
        cells = (
            f"{row['id']}: {row['statement']}",
            f"{row['predicted']}, {row['source']}",
            row["threshold"],
            f"{row['measured']:.3f} [{low:.3f}, {high:.3f}]",
            row["verdict"],
            row["verdict_simultaneous"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(columns: int, height: float = 2.6, rows: int = 1, **settings) -> tuple[Figure, list]:
    """A figure in the house style and its panels."""
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, **settings)))


def save(figure: Figure, path: Path) -> None:
    """Write the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render(figure, "png"))
    print(path)


def load(folder: Path) -> xr.Dataset:
    """A sweep in memory."""
    return load_sweep(folder).load()
