"""A run from end to end: train, attack, measure, draw. Every step is on disk before the next.

A run that is killed continues where it stopped when it is started again with the same settings and
data: finished networks and scores are read back, a training in progress goes on from its last
checkpoint, and the result is the same bit for bit.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import xarray as xr

from experiments.cifar10 import attack, density, nets
from experiments.cifar10.loader import Images
from experiments.cifar10.measure import Filters, compare
from experiments.cifar10.settings import (
    CLEAN,
    INIT,
    NORMS,
    RELATIVE_RADII,
    Settings,
    Variant,
    variants,
)
from experiments.cifar10.training import check_batch, train
from featpur_sim import __version__
from featpur_sim._ground.disk import atomic_path, write_text
from featpur_sim.training.identity import Identity, identify_settings, software

SETTINGS, RESULT = "settings.json", "result.nc"
PATCHES = 20_000
Networks = dict[str, nets.Network]
# What is being done, how much of it is done, out of how much, and how it goes.
Progress = Callable[[str, int, int, str], None]


class OtherRun(ValueError):
    """The folder holds a run with other settings or data."""


def _stem(seed: int, name: str) -> str:
    """A file name for what belongs to a network of a seed."""
    return f"{seed}-{name}".replace(" ", "-").replace(",", "")


def claim(folder: Path, settings: Settings, train_set: Images, test_set: Images) -> None:
    """Record what the folder belongs to.

    Raises:
        OtherRun: it already belongs to something else.
    """
    own = {
        "settings": dataclasses.asdict(settings),
        "train": train_set.fingerprint(),
        "test": test_set.fingerprint(),
        "software": software(),
    }
    path = folder / SETTINGS
    if not path.exists():
        write_text(path, json.dumps(own, indent=2) + "\n")
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    if found := _identity(held).difference(_identity(own)):
        raise OtherRun(
            f"{folder} holds another run ({found.what}): {found.undo} to go on, give another "
            "folder with --out, or remove that one."
        )


def _identity(held: dict[str, Any]) -> Identity:
    # Folders of development versions name the version of this package alone.
    by = held.get("software", f"featpur_sim {held.get('version')}")
    return identify_settings(by, {name: held.get(name) for name in ("settings", "train", "test")})


def networks(
    seed: int, settings: Settings, images: Images, folder: Path, progress: Progress
) -> Networks:
    """Every network of a seed, by name: at the start, clean-trained, and each variant."""
    key = jax.random.fold_in(jax.random.key(settings.seed), seed)
    init = nets.build(
        settings.net, width=settings.width, depth=settings.depth, stride=settings.stride, key=key
    )

    def trained(start: nets.Network, number: int, variant: Variant, schedule) -> nets.Network:
        stem = _stem(seed, variant.name)
        path = folder / "networks" / f"{stem}.eqx"
        if path.exists():
            return eqx.tree_deserialise_leaves(path, init)
        label = f"seed {seed}: {variant.name}"
        network = train(
            start,
            images,
            schedule,
            variant.attack,
            rank=variant.rank,
            key=jax.random.fold_in(key, number),
            folder=folder / "checkpoints" / stem,
            report=lambda epoch, epochs, loss: progress(label, epoch, epochs, f"loss {loss:.3f}"),
        )
        with atomic_path(path) as temporary:
            eqx.tree_serialise_leaves(temporary, network)
        return network

    clean = trained(init, 0, Variant(CLEAN, None), settings.clean_schedule())
    found = {INIT: init, CLEAN: clean}
    for number, variant in enumerate(variants(settings), 1):
        found[variant.name] = trained(clean, number, variant, settings.adversarial_schedule())
    return found


def score(network: nets.Network, settings: Settings, images: Images, key: jax.Array) -> dict:
    """Accuracy without attack, and by norm at every radius under the attack protocol."""
    found: dict = {"clean": float(attack.right(network, images).mean())}
    for norm in NORMS:
        radii = [relative * settings.radius(norm) for relative in RELATIVE_RADII]
        steps = settings.attack_steps
        found[norm] = [
            float(attack.robust(network, images, norm, radius, steps=steps, key=key).mean())
            for radius in radii
        ]
    return found


def scores(
    seed: int, found: Networks, settings: Settings, images: Images, folder: Path, progress: Progress
) -> xr.Dataset:
    """Accuracies of a seed's networks, read back where they are on disk."""
    key = jax.random.fold_in(jax.random.key(settings.seed), seed)
    rows = []
    for name, network in found.items():
        path = folder / "scores" / f"{_stem(seed, name)}.json"
        if not path.exists():
            text = json.dumps(score(network, settings, images, key))
            write_text(path, text + "\n")
        rows.append(json.loads(path.read_text(encoding="utf-8")))
        progress(f"seed {seed}: attacks", len(rows), len(found), name)
    robust = [[row[norm] for norm in NORMS] for row in rows]
    return xr.Dataset(
        {
            "accuracy": ("network", [row["clean"] for row in rows]),
            "robust_accuracy": (("network", "norm", "relative_radius"), robust),
        }
    )


def weights(found: Networks) -> xr.Dataset:
    """Overlaps and splits of a seed's networks, filter by filter."""
    columns = [compare(found[INIT], found[CLEAN], network) for network in found.values()]
    fields = [name for name in Filters._fields if name != "layer"]
    return xr.Dataset(
        {
            name: (("network", "filter"), np.stack([getattr(c, name) for c in columns]))
            for name in fields
        },
        coords={"layer": ("filter", columns[0].layer)},
    )


def first_layer(network: nets.Network) -> np.ndarray:
    """Filters of the first convolution as rows over flat patches."""
    return np.asarray(next(iter(network.convolutions().values())).filters())


def densities(
    per_seed: list[Networks], settings: Settings, train_set: Images, test_set: Images
) -> xr.Dataset:
    """Atoms that first-layer filters and patches take, with controls of the same spectrum."""
    first = next(iter(per_seed[0][INIT].convolutions().values()))
    size = first.weight.shape[0]
    learned = density.patches(train_set.pixels, size, PATCHES, settings.seed)
    code = density.learn(learned, settings.atoms, settings.seed)
    held_out = density.patches(test_set.pixels, size, 1000, settings.seed)
    patch = (held_out - code.mean) @ code.inverse
    rows = np.stack(
        [[first_layer(network) @ code.root for network in found.values()] for found in per_seed]
    )
    dims = ("seed", "network", "first_filter")
    return xr.Dataset(
        {
            "atoms": (dims, density.atoms_needed(rows, code)),
            "atoms_scrambled": (dims, density.atoms_of_control(rows, code)),
            "patch_atoms": ("patch", density.atoms_needed(patch, code)),
            "patch_atoms_scrambled": ("patch", density.atoms_of_control(patch, code)),
        }
    )


def run(
    train_set: Images, test_set: Images, settings: Settings, folder: Path, progress: Progress
) -> tuple[xr.Dataset, list[Networks]]:
    """Everything but the drawing.

    Args:
        train_set: training images.
        test_set: test images; the first ``settings.points`` are attacked.
        settings: what to do.
        folder: for results; a run with the same settings goes on in it.
        progress: is told what is being done.

    Returns:
        The result, also in ``result.nc``: dims seed, network, norm, relative_radius, filter,
        first_filter, patch; without scikit-learn the last two and what has them are left out. And
        the networks of each seed by name.

    Raises:
        OtherRun: the folder belongs to another run.
        ValueError: the batch does not fit the data or the devices.
        Diverged: a training diverged.
    """
    check_batch(settings.batch, len(train_set.labels))
    claim(folder, settings, train_set, test_set)
    points = test_set.first(settings.points)
    per_seed, parts = [], []
    for seed in range(settings.seeds):
        found = networks(seed, settings, train_set, folder, progress)
        accuracies = scores(seed, found, settings, points, folder, progress)
        parts.append(accuracies.merge(weights(found)))
        per_seed.append(found)
    result = xr.concat(
        parts, "seed", data_vars="all", coords="minimal", compat="equals", join="exact"
    )
    if density.can_learn():
        progress("patch dictionary", 0, 1, "")
        result = result.merge(densities(per_seed, settings, train_set, test_set))
        progress("patch dictionary", 1, 1, "")
    result = _labelled(result, per_seed, settings, train_set, points)
    with atomic_path(folder / RESULT) as temporary:
        result.to_netcdf(temporary, engine="h5netcdf")
    return result, per_seed


def _labelled(result, per_seed, settings, train_set, points) -> xr.Dataset:
    result = result.assign_coords(
        seed=np.arange(settings.seeds),
        network=list(per_seed[0]),
        norm=list(NORMS),
        relative_radius=list(RELATIVE_RADII),
    )
    for name, values in result.data_vars.items():
        values.attrs = {"long_name": DESCRIPTIONS[str(name)]}
    return result.assign_attrs(
        settings=json.dumps(dataclasses.asdict(settings)),
        train_images=len(train_set.labels),
        points=len(points.labels),
        version=__version__,
        platform=jax.devices()[0].device_kind,
    )


DESCRIPTIONS = {
    "accuracy": "fraction of test images classified rightly",
    "robust_accuracy": "fraction of test images that withstand the attack protocol: an upper bound",
    "theta_init": "overlap with the filter at the start",
    "theta_clean": "overlap with the clean-trained filter w",
    "kept_norm": "norm of βw′ over the norm of w",
    "removed_norm": "norm of v = w − βw′ over the norm of w",
    "atoms": "atoms that explain nine tenths of a first-layer filter",
    "atoms_scrambled": "the same for a random filter of the same spectrum",
    "patch_atoms": "atoms that explain nine tenths of a test patch",
    "patch_atoms_scrambled": "the same for a random patch of the same spectrum",
}
