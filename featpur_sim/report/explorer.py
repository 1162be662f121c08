"""``explorer.html``: a sweep, or a run, to look at with the mouse, in one file without network.

The page holds the numbers of `featpur_sim.report.explorer_data` and the JavaScript of Vega-Lite,
which draws them. That JavaScript comes with vl-convert-python, of the extra ``explorer``
(docs/architecture.md says why this library, and why it is an extra).
"""

import functools
import importlib.util
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import xarray as xr

from featpur_sim._ground.disk import write_text
from featpur_sim._ground.manifest import rewriting
from featpur_sim._ground.rows import Row
from featpur_sim.report import explorer_data
from featpur_sim.report._style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PHASES,
    PURPLE,
    SKY,
    VERMILLION,
)
from featpur_sim.report.run_page import environment
from featpur_sim.runs.folder import RESULT, load_weights
from featpur_sim.sweeps.run import SWEEP

EXPLORER = "explorer.html"
MISSING = (
    f"{EXPLORER} is left out, for vl-convert-python is not installed: "
    "python -m pip install 'featpur_sim[explorer]'"
)

# In this order: each reads what the ones before it define.
_SCRIPTS = (
    "explorer_data.js",
    "explorer_chart.js",
    "explorer_diagram.js",
    "explorer_point.js",
    "explorer_controls.js",
)
_PALETTE = {phase: colour for phase, (_, colour, _) in PHASES.items()} | {
    "reference": GREEN,
    "chosen": VERMILLION,
    "aside": GREY,
    "others": [BLUE, VERMILLION, PURPLE, ORANGE, SKY],
}


def beside(directory: str | Path) -> str:
    """What a command says behind the path of a folder's report: of this page, or of its lack."""
    return f", {Path(directory) / EXPLORER}" if can_build() else f"; {MISSING}"


def can_build() -> bool:
    """Whether the extra ``explorer`` is installed."""
    return importlib.util.find_spec("vl_convert") is not None


def write_sweep(directory: str | Path, result: xr.Dataset) -> Path | None:
    """Write ``explorer.html`` into a sweep's folder, which the caller holds.

    Args:
        directory: of the sweep.
        result: of it.

    Returns:
        Its path; None without the extra ``explorer``: then one of an earlier result goes.
    """
    return _write(Path(directory), lambda: build(explorer_data.of_sweep(result), SWEEP))


def write_run(directory: str | Path, result: xr.Dataset) -> Path | None:
    """Write ``explorer.html`` into a run's folder, which the caller holds.

    Args:
        directory: of the run.
        result: of it.

    Returns:
        As `write_sweep`.

    Raises:
        ResultError: the folder's weights cannot be read.
    """
    directory = Path(directory)
    return _write(
        directory,
        lambda: build(explorer_data.of_run(result, load_weights(directory)), RESULT),
    )


def _write(directory: Path, page) -> Path | None:
    path = directory / EXPLORER
    text = page() if can_build() else None
    with rewriting(directory, EXPLORER):
        if text is None:
            path.unlink(missing_ok=True)
            return None
        write_text(path, text)
    return path


def build(data: Row, result_file: str) -> str:
    """The page.

    Args:
        data: of `featpur_sim.report.explorer_data`.
        result_file: the file that the numbers are from.

    Returns:
        HTML that refers to no other file or address.

    Raises:
        ImportError: the extra ``explorer`` is not installed.
    """
    if not can_build():
        raise ImportError(MISSING)
    page = data | {
        "palette": _PALETTE,
        "gain": explorer_data.GAIN,
        "gainWords": explorer_data.GAIN_WORDS,
    }
    return (
        environment()
        .get_template("explorer.html.j2")
        .render(
            data=data,
            scripts=[_library(), *map(_template, _SCRIPTS)],
            # In JSON \\/ is /; text must not end the script that it stands in.
            json=json.dumps(_without_nan(page), ensure_ascii=False).replace("</", r"<\/"),
            result_file=result_file,
        )
    )


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed, which leave ``vegaEmbed`` alone to the page."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{\n{bundle}\n}})();"


def _template(name: str) -> str:
    return (
        resources.files("featpur_sim.report")
        .joinpath("templates", name)
        .read_text(encoding="utf-8")
    )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; arrays, where it matters, are not numbers of the JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
