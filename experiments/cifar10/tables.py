"""The tables of a run in Markdown: means over seeds with 95 % t-intervals."""

import numpy as np
import xarray as xr

from experiments.cifar10.settings import CLEAN, CONTINUED, INIT
from featpur_sim.statistics import mean_interval

NORM_NAMES = {"l2": "ℓ2", "linf": "ℓ∞"}


def shown(network: str) -> str:
    """A network's name as it is printed.

    FGM linf is printed as FGM ℓ∞, and the control as what it is.
    """
    for norm, name in NORM_NAMES.items():
        network = network.replace(norm, name)
    return "clean, continued" if network == CONTINUED else network


def interval(values: xr.DataArray | np.ndarray, digits: int = 3) -> str:
    """Mean ± half the interval of one number a seed."""
    mean, low, high = mean_interval(np.asarray(values))
    return f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def accuracies(result: xr.Dataset, radii: dict[str, float]) -> str:
    """A row a network: accuracy without and under attack."""
    columns = [
        (norm, relative)
        for norm in result.norm.values
        for relative in result.relative_radius.values
    ]
    head = ["network", "no attack"]
    head += [f"{NORM_NAMES[norm]} {relative * radii[norm]:.3g}" for norm, relative in columns]
    rows = []
    for name in result.network.values:
        here = result.sel(network=name)
        cells = [interval(here.accuracy)]
        for norm, relative in columns:
            cells.append(interval(here.robust_accuracy.sel(norm=norm, relative_radius=relative)))
        rows.append([shown(name), *cells])
    return table(head, rows)


def _median(values: xr.DataArray, layer: str) -> str:
    inside = values if layer == "all" else values.isel(filter=np.flatnonzero(values.layer == layer))
    return interval(inside.median("filter"))


def overlaps(result: xr.Dataset, network: str) -> str:
    """A row a layer, and all layers: medians over filters of θ and of the split."""
    clean, other = result.sel(network=CLEAN), result.sel(network=network)
    kept = (other.kept_norm > other.removed_norm).astype(float)
    rows = []
    for layer in [*dict.fromkeys(result.layer.values), "all"]:
        inside = np.flatnonzero((result.layer == layer) | (layer == "all"))
        cells = [
            _median(clean.theta_init, layer),
            _median(other.theta_init, layer),
            _median(other.theta_clean, layer),
            _median(other.kept_norm, layer),
            _median(other.removed_norm, layer),
            interval(kept.isel(filter=inside).mean("filter")),
        ]
        rows.append([str(layer), *cells])
    head = ["layer", "θ(init, clean)", "θ(init, w′)", "θ(clean, w′)", "‖βw′‖/‖w‖", "‖v‖/‖w‖"]
    return table([*head, "filters with ‖βw′‖ > ‖v‖"], rows)


def all_overlaps(result: xr.Dataset) -> str:
    """A row a network: medians over the filters of all layers."""
    rows = []
    for name in result.network.values:
        if name not in (INIT, CLEAN):
            here = result.sel(network=name)
            parts = (here.theta_init, here.theta_clean, here.kept_norm, here.removed_norm)
            rows.append([shown(name), *(_median(part, "all") for part in parts)])
    return table(["network w′", "θ(init, w′)", "θ(clean, w′)", "‖βw′‖/‖w‖", "‖v‖/‖w‖"], rows)


def densities(result: xr.Dataset) -> str:
    """A row a network: atoms that a first-layer filter takes, and its control; then patches."""
    rows = []
    for name in result.network.values:
        here = result.sel(network=name)
        own, control = here.atoms.mean("first_filter"), here.atoms_scrambled.mean("first_filter")
        rows.append([shown(name), interval(own, 2), interval(control, 2), interval(own / control)])
    own, control = float(result.patch_atoms.mean()), float(result.patch_atoms_scrambled.mean())
    rows.append(["test patches", f"{own:.2f}", f"{control:.2f}", f"{own / control:.3f}"])
    return table(["first-layer filters of", "atoms", "atoms, same spectrum", "ratio"], rows)


def differences(result: xr.Dataset) -> str:
    """A row a network: what it gained over the control that went on cleanly, seed by seed."""
    columns = {"no attack": result.accuracy}
    for norm in result.norm.values:
        under = result.robust_accuracy.sel(norm=norm, relative_radius=1.0)
        columns[f"robust, {NORM_NAMES[norm]} τ"] = under
    columns["θ(clean, w′)"] = result.theta_clean.median("filter")
    if "atoms" in result:
        own = result.atoms.mean("first_filter")
        control = result.atoms_scrambled.mean("first_filter")
        columns |= {"atoms": own, "atoms, same spectrum": control, "ratio": own / control}
    rows = []
    for name in result.network.values:
        if name not in (INIT, CLEAN, CONTINUED):
            gains = {
                column: values.sel(network=name) - values.sel(network=CONTINUED)
                for column, values in columns.items()
            }
            cells = [
                interval(gain, 2 if column.startswith("atoms") else 3)
                for column, gain in gains.items()
            ]
            rows.append([shown(name), *cells])
    return table(["less the control", *columns], rows)


def summary(result: xr.Dataset, radii: dict[str, float], headline: str) -> str:
    """All tables, with a line above each."""
    parts = [
        ("Accuracy; under attack an upper bound", accuracies(result, radii)),
        (f"Filters, w′ after {shown(headline)}: medians over filters", overlaps(result, headline)),
        ("Filters, w′ after the control: medians over filters", overlaps(result, CONTINUED)),
        ("Filters of all layers: medians", all_overlaps(result)),
        ("Differences to the control that trained on cleanly", differences(result)),
    ]
    if "atoms" in result:
        parts.append(("Atoms for nine tenths of a filter, means over filters", densities(result)))
    seeds = f"Means over {result.sizes['seed']} seeds ± half of their 95 % t-interval."
    return "\n\n".join([seeds, *(f"**{title}**\n\n{text}" for title, text in parts)]) + "\n"
