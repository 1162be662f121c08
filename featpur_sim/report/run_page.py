"""The report: one self-contained HTML page over some runs (docs/claims.md, docs/theory.md §5).

First what came out: a line for each claim with its verdict in every regime, and the first run as a
picture. Then every row of the scorecard with its rule, every figure with its caption, the settings
and how each seed ended. It needs no network and no script to read.
"""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import xarray as xr

from featpur_sim._ground.disk import write_text
from featpur_sim._ground.rows import Row
from featpur_sim.claims.family import RULE, Family, families, meaning, title
from featpur_sim.claims.meanings import MEANINGS
from featpur_sim.claims.measured import Counted, interval
from featpur_sim.claims.verdict import Tone, Verdict
from featpur_sim.report import class_figure as comparison_figure
from featpur_sim.report import closure_figure, readout_figure
from featpur_sim.report import run_figures as figures
from featpur_sim.report._style import DPI, render
from featpur_sim.runs import diagnosis
from featpur_sim.runs.folder import RESULT

_PIXELS_PER_INCH = 130

# What intervals over seeds are over (docs/theory.md §1).
_DRAWS = {
    "per-seed": "new for every seed: intervals over seeds are over draws too",
    "shared": "one for all seeds: intervals over seeds hold for this draw, and for every other "
    "where w* ∈ {±1} and M = I, or M is unitary, the norm ℓ2 and the optimiser sgd",
}

# Tone → class of style.css.
TONES = {
    Tone.GOOD: "good",
    Tone.BAD: "bad",
    Tone.PARTLY: "half",
    Tone.OPEN: "open",
    Tone.FAILED: "open",
}


class Shown(NamedTuple):
    """One run on the page.

    Attributes:
        result: its Dataset.
        compared: rows of its compare.json, for the figure of C8.
        certified: rows of its certificate.json.
        attacked: rows of its evaluation.json.
        drawn: folder in which its figures have just been drawn; None draws them for the page.
        readouts: rows of its readouts.json, for the figure of C12 and C13.
        closure: rows of its population.json, for the figure of C14.
    """

    result: xr.Dataset
    compared: Sequence[Row] = ()
    certified: Sequence[Row] = ()
    attacked: Sequence[Row] = ()
    drawn: Path | None = None
    readouts: Sequence[Row] = ()
    closure: Sequence[Row] = ()


def build(runs: Sequence[Shown], scorecard: list[Row]) -> str:
    """The report as one HTML page, figures embedded.

    Args:
        runs: in the order to show them.
        scorecard: rows of :func:`featpur_sim.claims.of_run.scorecard` for all of them, with the
            keys of :func:`featpur_sim.claims.claim.rows`.

    Returns:
        A page that refers to no other file or address.

    Raises:
        ValueError: ``runs`` is empty, or a row holds an unknown verdict.
    """
    if not runs:
        raise ValueError("runs is empty: a report needs at least one run. Pass Shown(result).")
    for row in scorecard:
        _require_known("verdict", row["verdict"], list(Verdict))
    # Where the page has the row, for links to it.
    rows = [row | {"anchor": f"row-{number}"} for number, row in enumerate(scorecard, 1)]
    found = families(rows)
    tested = {one.id for one in found}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            runs=[_describe(run) for run in runs],
            regimes=_of_regimes(found),
            claims=_of_claims(found),
            rule=RULE,
            verdicts={verdict.value: verdict for verdict in Verdict},
            tones=TONES,
            counts=Counter(row["verdict"] for row in scorecard),
            together=Counter(row["verdict_simultaneous"] for row in scorecard),
            sizes=list(dict.fromkeys(row["held_together"] for row in scorecard)),
            untested={id: said for id, said in MEANINGS.items() if id not in tested},
            result_file=RESULT,
        )
    )


def write_page(path: str | Path, runs: Sequence[Shown], scorecard: list[Row]) -> None:
    """Write the report; an older one stays as it is unless the new one is whole.

    Args:
        path: the HTML file.
        runs: see `build`.
        scorecard: see `build`.

    Raises:
        ValueError: see `build`.
    """
    page = build(runs, scorecard)
    write_text(path, page)


def environment() -> jinja2.Environment:
    """Where the pages' templates are; they know ``number`` and ``title_of``."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("featpur_sim.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["number"] = _number
    found.filters["title_of"] = title
    return found


def _require_known(key: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(
            f"scorecard row has {key} = {value!r}: must be one of {', '.join(known)}. Make the "
            "rows with claims.scorecard."
        )


def _of_regimes(found: Sequence[Family]) -> dict[str, list[Family]]:
    groups: dict[str, list[Family]] = {}
    for one in found:
        groups.setdefault(one.regime, []).append(one)
    return groups


def _of_claims(found: Sequence[Family]) -> list[Row]:
    """One for each claim: what it says, and its families, one for each regime."""
    groups: dict[str, list[Family]] = {}
    for one in found:
        groups.setdefault(one.id, []).append(one)
    return [
        {"id": name, "meaning": meaning(group[0]), "families": group}
        for name, group in groups.items()
    ]


def _number(value: Any) -> str:
    """A float to three significant digits, a dash for none, anything else as it is."""
    if value is None or value != value:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:#.3g}".rstrip(".").replace("-", "−")


def _describe(run: Shown) -> Row:
    result = run.result
    said = result.training_warning.values if "training_warning" in result else []
    warnings = [
        f"seed {seed}: {text}" for seed, text in zip(result.seed.values, said, strict=False) if text
    ]
    pictures = []
    if diagnosis.finished(result).any():
        for key, make in figures.ALL.items():
            if run.drawn is None:
                picture = render(make(result), "png")
            else:
                picture = (run.drawn / f"{key}.png").read_bytes()
            pictures.append(embedded(key, picture, figures.caption(key, result)))
        if run.compared:
            figure = comparison_figure.draw(list(run.compared), result.attrs["tau"])
            picture = render(figure, "png")
            pictures.append(embedded("comparison", picture, comparison_figure.CAPTION))
        if run.readouts:
            picture = render(readout_figure.draw(list(run.readouts)), "png")
            pictures.append(embedded("readouts", picture, readout_figure.CAPTION))
        if run.closure:
            picture = render(closure_figure.draw(result, run.closure), "png")
            pictures.append(embedded(closure_figure.NAME, picture, closure_figure.CAPTION))
    # The run as a picture: how robust it is, and its weights before and after.
    robust = "both_sides" if "certified_accuracy" in result else "robust_accuracy"
    first = [one for one in pictures if one["name"] in (robust, "coordinates")]
    return {
        "name": result.attrs["name"],
        "attrs": result.attrs,
        "draw": _DRAWS[result.attrs["draw"]],
        "certified": run.certified,
        "attacked": _over_seeds(run.attacked),
        "failed": diagnosis.left_out(result),
        "warnings": warnings,
        "seeds": result.sizes["seed"],
        "first": first,
        "figures": [one for one in pictures if one not in first],
    }


def _over_seeds(rows: Sequence[Row]) -> list[Row]:
    """Rows of evaluation.json, one for each phase and radius: the mean over seeds, ``ci``."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["phase"], row["relative_radius"]), []).append(row)
    found = []
    for group in groups.values():
        points = [row["n"] for row in group]
        mean, low, high = interval([row["attacked"] for row in group], Counted(min(points), 0.0))
        ci = None if np.isnan(low) else [low, high]
        found.append(group[0] | {"n": sum(points), "attacked": mean, "ci": ci})
    return found


def embedded(name: str, png: bytes, caption: str) -> Row:
    """A figure in a data: address, with its caption and its width on the page."""
    # The head of a PNG file: 16 bytes, then the width in pixels.
    width = int.from_bytes(png[16:20], "big")
    return {
        "name": name,
        "image": base64.b64encode(png).decode(),
        "width": round(_PIXELS_PER_INCH * width / DPI),
        "caption": caption,
    }
