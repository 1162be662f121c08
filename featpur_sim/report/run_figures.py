"""The figures of one run, drawn from its result alone (docs/theory.md §4-§5.3).

Each function takes the Dataset of a run and returns a matplotlib Figure without a title; its
caption is in :data:`CAPTIONS`. Lines are means over the seeds that finished, bands their 95 %
t-intervals. Nothing here touches pyplot or the user's matplotlib settings.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from featpur_sim._ground.disk import atomic_path
from featpur_sim.report._captions import CAPTIONS as CAPTIONS
from featpur_sim.report._captions import caption as caption
from featpur_sim.report._style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PHASES,
    PURPLE,
    SKY,
    VERMILLION,
    curve,
    legend_above,
    name_training_radius,
    page,
    render,
    seed_interval,
)
from featpur_sim.report.both_sides_figure import both_sides
from featpur_sim.report.dynamics_figures import stationarity
from featpur_sim.report.weights_figure import coordinates
from featpur_sim.theory import predictions as theory


def _training_radius(result: xr.Dataset) -> int:
    return int(np.argmin(np.abs(result.relative_radius.values - 1)))


def robust_accuracy(result: xr.Dataset) -> Figure:
    """Accuracy against radius, one panel per attack, with the pure network (§5.2)."""
    with page(result, PAGE, 4.3) as (figure, seeds):
        table = seeds.robust_accuracy
        attacks = [a for a in table.attack.values if np.isfinite(table.sel(attack=a)).all()]
        rows = math.ceil(len(attacks) / 3)
        grid = list(figure.subplots(rows, 3, sharex=True, sharey=True).flat)
        panels = dict(zip(attacks, grid, strict=False))
        for attack, axes in panels.items():
            draw_accuracy(axes, seeds, attack)
            axes.set_title(attack, loc="left")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _label_radii(list(panels.values()), seeds)
        legend_above(figure, panels["PGD"], 4)
    return figure


def draw_accuracy(axes: Axes, seeds: xr.Dataset, attack: str) -> None:
    """Accuracy under one attack on Axes, without labels; ``seeds`` are those that finished."""
    table, n = seeds.robust_accuracy, seeds.attrs["test_samples"]
    axes.axvline(float(seeds.attrs["tau"]), color=GREY, linewidth=0.6, linestyle=":")
    for phase, (label, colour, marker) in PHASES.items():
        values = table.sel(attack=attack, phase=phase)
        curve(axes, seeds.radius, values, colour, points=n, label=label, marker=marker)
    if attack in seeds.reference_attack.values:
        pure = _of_reference(seeds, "pure network").sel(attack=attack)
        curve(axes, seeds.radius, pure, BLACK, points=n, label="pure network", linestyle="--")
    axes.set_ylim(0, 1.02)


def _label_radii(panels: list[Axes], seeds: xr.Dataset) -> None:
    root = math.sqrt(seeds.attrs["k"])
    scale = (lambda radius: radius * root, lambda scaled: scaled / root)
    for index, axes in enumerate(panels):
        axes.tick_params(labelbottom=True)
        if index % 3 == 0:
            axes.set_ylabel("accuracy")
        if index + 3 >= len(panels):
            axes.set_xlabel("attack radius τ (units of x)")
        if seeds.attrs["norm"] == "l2" and index < 3:
            axes.secondary_xaxis("top", functions=scale).set_xlabel("τ·√k")
            axes.set_title(axes.get_title("left"), loc="left", y=1.28)
    name_training_radius(panels[0], float(seeds.attrs["tau"]))


def purification(result: xr.Dataset) -> Figure:
    """κ/α, ‖v‖/|α| and accuracies over both phases, with the scalings of §5.1."""
    with page(result, PAGE, 5.4) as (figure, seeds):
        ratio, norm, accuracy = figure.subplots(3, 1, sharex=True)
        step, boundary = steps(seeds)
        end = int(step[-1])
        along = seeds.transpose("seed", "record", ...)
        for axes, name in ((ratio, "kappa_over_alpha"), (norm, "dense_norm_over_alpha")):
            draw_along(axes, seeds, name)
        for name, label, colour in (
            ("along_accuracy", "no attack", GREEN),
            ("along_dense_attack_accuracy", "dense mixture at τ", PURPLE),
        ):
            curve(
                accuracy, step, along[name], colour, points=seeds.attrs["test_samples"], label=label
            )
        pure = _of_reference(seeds, "pure network").sel(attack="dense mixture")
        level = float(pure.isel(radius=_training_radius(seeds)).mean())
        label = "pure network,\ndense mixture at τ"
        accuracy.axhline(level, color=BLACK, linestyle="--", label=label)
        _predictions(ratio, norm, seeds, boundary, end)
        _finish_purification((ratio, norm, accuracy), seeds, boundary, end)
    return figure


def steps(seeds: xr.Dataset) -> tuple[np.ndarray, int]:
    """The step of each record, those of the second phase after the first's; where that ends."""
    phase = seeds.record_phase.values
    boundary = int(seeds.record_step.values[phase == "clean"].max())
    return seeds.record_step.values + np.where(phase == "adversarial", boundary, 0), boundary


def draw_along(axes: Axes, seeds: xr.Dataset, name: str) -> None:
    """``along_<name>`` on Axes, without labels; ``seeds`` are those that finished."""
    phase, (step, _) = seeds.record_phase.values, steps(seeds)
    values = seeds[f"along_{name}"].transpose("seed", "record").values
    for part in ("clean", "adversarial"):
        inside, colour = phase == part, PHASES[part][1]
        curve(axes, step[inside], values[:, inside], colour, label=f"measured, {part} phase")


def _predictions(ratio: Axes, norm: Axes, seeds: xr.Dataset, boundary: int, end: int) -> None:
    """The scalings of §5.1, each over the phase it speaks of; they assume ℓ2 attacks and k ≤ d."""
    d, k, tau = int(seeds.attrs["d"]), float(seeds.attrs["k"]), float(seeds.attrs["tau"])
    if seeds.attrs["norm"] != "l2" or k > d or tau == 0:
        return
    clean, adversarial = (0, boundary), (boundary, end)
    for axes, prediction, phase in (
        (ratio, theory.clean_dense_ratio(d, k), clean),
        (ratio, theory.adversarial_dense_ratio(d, k, tau), adversarial),
        (norm, theory.clean_dense_norm_ratio(d, k), clean),
    ):
        style = ":" if phase == clean else "--"
        formula = prediction.formula.split(" ≈ ")[1]
        label = f"{formula} = {prediction.value:.2g} {prediction.source}"
        axes.hlines(prediction.value, *phase, colors=BLACK, linestyles=style, label=label)


def _finish_purification(
    panels: tuple[Axes, Axes, Axes], seeds: xr.Dataset, boundary: int, end: int
) -> None:
    ratio, norm, accuracy = panels
    final = np.abs(seeds.kappa_over_alpha.sel(phase="adversarial")).median()
    linear = 10.0 ** np.clip(math.floor(math.log10(max(float(final), 1e-6))), -6, -2)
    ratio.set_yscale("symlog", linthresh=linear)
    norm.set_yscale("log")
    norm.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    norm.yaxis.set_major_formatter("{x:g}")
    norm.yaxis.set_minor_formatter(NullFormatter())
    ratio.set_ylabel("κ/α")
    norm.set_ylabel("‖v‖/|α|")
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(0, 1.02)
    accuracy.set_xlabel("training step")
    for axes in panels:
        axes.axvline(boundary, color=GREY, linewidth=0.8)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    name_phases(ratio, boundary, end)


def name_phases(axes: Axes, boundary: int, end: int) -> None:
    """Above Axes whose x counts the steps of both phases."""
    above = axes.get_xaxis_transform()
    for name, centre in (("clean", boundary / 2), ("adversarial", (boundary + end) / 2)):
        axes.text(centre, 1.03, f"{name} phase", transform=above, ha="center")


def overlaps(result: xr.Dataset) -> Figure:
    """Histograms over neurons of the three overlaps θ between training stages (§4)."""
    with page(result, COLUMN, 2.7) as (figure, seeds):
        axes = figure.subplots()
        draw_overlaps(axes, seeds)
        legend_above(figure, axes, 3)
    return figure


def draw_overlaps(axes: Axes, seeds: xr.Dataset) -> None:
    """The three histograms on Axes, without a legend; ``seeds`` are those that finished."""
    edges = np.linspace(0, 1, 41)
    carrier = seeds.carrier.sel(phase="clean").values.astype(bool)
    for name, label, colour, style in (
        ("theta_init_clean", "θ(init, clean)", VERMILLION, "--"),
        ("theta_init_adversarial", "θ(init, adv)", ORANGE, ":"),
        ("theta_clean_adversarial", "θ(clean, adv)", BLUE, "-"),
    ):
        shares = [
            np.histogram(theta[held], edges)[0] / max(held.sum(), 1)
            for theta, held in zip(seeds[name].values, carrier, strict=True)
        ]
        # Drawn as steps: the last value is repeated to close the last bin.
        closed = np.concatenate([shares, np.asarray(shares)[:, -1:]], axis=1)
        mean, low, high = seed_interval(closed)
        axes.step(edges, mean, where="post", color=colour, linestyle=style, label=label)
        if np.isfinite(low).all():
            axes.fill_between(edges, low, high, step="post", color=colour, alpha=0.25, lw=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("overlap θ of a neuron's weights")
    axes.set_ylabel("fraction of carriers per bin")


def update_spectrum(result: xr.Dataset) -> Figure:
    """Singular values of the change that purification makes, and their cumulative energy (C7)."""
    with page(result, PAGE, 2.7) as (figure, seeds):
        values, energy = figure.subplots(1, 2)
        draw_spectrum(values, seeds)
        draw_spectrum(energy, seeds, cumulative=True)
        for axes in (values, energy):
            axes.legend(loc="best")
    return figure


def draw_spectrum(axes: Axes, seeds: xr.Dataset, *, cumulative: bool = False) -> None:
    """The singular values, or the share of the squared norm that the leading ones hold, on Axes,
    without a legend; ``seeds`` are those that finished.
    """
    for name, label, colour, style in (
        ("update_singular_values", "W′ − W", BLUE, "-"),
        ("rescaled_update_singular_values", "W − βW′", VERMILLION, "--"),
    ):
        singular = seeds[name].values
        rank = np.arange(1, singular.shape[1] + 1)
        if cumulative:
            square = singular**2
            singular = np.cumsum(square, axis=1) / np.maximum(square.sum(1, keepdims=True), 1e-30)
            needed = np.median((singular < 0.9).sum(axis=1) + 1)
            label = f"{label}: {needed:.0f} of {len(rank)} hold 90 %"
        curve(axes, rank, singular, colour, label=label, linestyle=style, marker=".")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    if cumulative:
        axes.axhline(0.9, color=GREY, linewidth=0.6, linestyle=":")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("number of leading singular values")
        axes.set_ylabel("share of the squared norm held")
    else:
        axes.set_ylim(bottom=0)
        axes.set_xlabel("singular value, largest first")
        axes.set_ylabel("size (units of w)")


def dense_margin(result: xr.Dataset) -> Figure:
    """How the margin moves along the dense direction, before and after purification (§5.1)."""
    with page(result, PAGE, 2.6) as (figure, seeds):
        # Margins are in units of the median at radius 0, which means nothing unless positive:
        # then, and only then, it is 1 in every seed.
        unit = seeds.dense_margin.sel(margin_quantile=0.5).isel(radius=0)
        shown = [p for p in PHASES if np.allclose(unit.sel(phase=p), 1, atol=1e-3)]
        panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
        if not shown:
            panels[0].text(0.5, 0.5, "no phase has a positive median margin", ha="center")
        for axes, phase in zip(panels, shown, strict=False):
            draw_dense_margin(axes, seeds, phase)
            axes.set_title(PHASES[phase][0], loc="left")
        for axes in panels:
            axes.set_xlabel("radius along the dense direction (units of x)")
        panels[0].set_ylabel("y f(x + δ) / median y f(x)")
    return figure


def draw_dense_margin(axes: Axes, seeds: xr.Dataset, phase: str) -> None:
    """The margins of one network on Axes, without labels; ``seeds`` are those that finished."""
    label, colour, marker = PHASES[phase]
    margin = seeds.dense_margin.sel(phase=phase)
    low, middle, high = (margin.sel(margin_quantile=q).mean("seed") for q in (0.1, 0.5, 0.9))
    axes.fill_between(seeds.radius, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(seeds.radius, middle, color=colour, marker=marker, label=label)
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.axvline(float(seeds.attrs["tau"]), color=GREY, linewidth=0.6, linestyle=":")


def surgery(result: xr.Dataset) -> Figure:
    """Accuracy with the dense mixtures cut out of, and put into, the networks (C3, C4)."""
    with page(result, PAGE, 2.9) as (figure, seeds):
        axes = figure.subplots()
        draw_surgery(axes, seeds)
        legend_above(figure, axes, 3)
    return figure


def draw_surgery(axes: Axes, seeds: xr.Dataset) -> None:
    """The bars on Axes, without a legend; ``seeds`` are those that finished."""
    at = _training_radius(seeds)
    networks = {
        "clean-trained": _of_phase(seeds, "clean"),
        "clean-trained,\nmixtures cut out": _of_reference(seeds, "clean without dense mixtures"),
        "adversarially trained": _of_phase(seeds, "adversarial"),
        "adversarially trained,\nclean mixtures put in": _of_reference(
            seeds, "adversarial with clean dense mixtures"
        ),
        "pure network": _of_reference(seeds, "pure network"),
    }
    bars = (
        ("no attack", "FGM", 0, GREEN, ""),
        ("dense mixture at τ", "dense mixture", at, PURPLE, "///"),
        ("PGD at τ", "PGD", at, SKY, "..."),
    )
    for offset, (label, attack, radius, colour, hatch) in enumerate(bars):
        values = [n.sel(attack=attack).isel(radius=radius) for n in networks.values()]
        mean, low, high = seed_interval(np.stack(values, axis=1), seeds.attrs["test_samples"])
        axes.bar(
            np.arange(len(networks)) + 0.27 * (offset - 1),
            mean,
            0.25,
            yerr=None if np.isnan(low).any() else (mean - low, high - mean),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=label,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )
    axes.set_xticks(range(len(networks)), list(networks))
    axes.set_xlabel("network")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)


def _of_phase(seeds: xr.Dataset, phase: str) -> xr.DataArray:
    return seeds.robust_accuracy.sel(phase=phase)


def _of_reference(seeds: xr.Dataset, reference: str) -> xr.DataArray:
    table = seeds.reference_accuracy.sel(reference=reference)
    return table.rename(reference_attack="attack")


def accuracy_along(result: xr.Dataset) -> Figure:
    """PGD accuracy during the adversarial phase, and what is missing to the pure network."""
    with page(result, COLUMN, 2.7) as (figure, seeds):
        axes = figure.subplots()
        draw_accuracy_along(axes, seeds)
        legend_above(figure, axes, 2)
    return figure


def draw_accuracy_along(axes: Axes, seeds: xr.Dataset) -> None:
    """The same on Axes, without a legend; ``seeds`` are those that finished."""
    at, n = _training_radius(seeds), seeds.attrs["test_samples"]
    before = _of_phase(seeds, "clean").sel(attack="PGD").isel(radius=at)
    step = np.concatenate([[0], seeds.snapshot])
    values = np.column_stack([before, seeds.accuracy_along.transpose("seed", "snapshot")])
    _, colour, marker = PHASES["adversarial"]
    curve(axes, step, values, colour, points=n, marker=marker, label="adversarial phase")
    pure = _of_reference(seeds, "pure network").sel(attack="PGD").isel(radius=at)
    flat = np.repeat(pure.values[:, None], len(step), axis=1)
    curve(axes, step, flat, BLACK, points=n, linestyle="--", label="pure network")
    distance = float(pure.mean()) - values[:, -1].mean()
    axes.text(step[-1], 0.05, f"distance at the end: {distance:.3f}", ha="right")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("step of the adversarial phase")
    axes.set_ylabel("PGD accuracy at τ")


ALL: dict[str, Callable[[xr.Dataset], Figure]] = {
    make.__name__: make
    for make in (
        both_sides,
        robust_accuracy,
        purification,
        coordinates,
        dense_margin,
        surgery,
        overlaps,
        update_spectrum,
        accuracy_along,
        stationarity,
    )
}
"""Name → function from the Dataset of a run to its figure."""


def save_all(result: xr.Dataset, directory: str | Path) -> list[Path]:
    """Draw every figure, then write each as PNG and PDF.

    Args:
        result: the Dataset of one run.
        directory: made if it does not exist.

    Returns:
        The files written. No file is touched before every figure has been drawn.

    Raises:
        ValueError: no seed of the run finished.
    """
    drawn: dict[Path, bytes] = {}
    for name, make in ALL.items():
        figure = make(result)
        for file_format in ("png", "pdf"):
            drawn[Path(directory) / f"{name}.{file_format}"] = render(figure, file_format)
    for path, content in drawn.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return list(drawn)
