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
from featpur_sim.claims.quantity import Quantity
from featpur_sim.report._style import PAGE, STYLE, render
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
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


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
