"""A made-up result of a sweep with everything that `featpur_sim.sweeps.measurements` leaves.

Values are random, with a law in the accuracies, so that pictures of it are not noise.
"""

import itertools
import json

import numpy as np
import xarray as xr

from featpur_sim.runs.variables import VARIABLES

OF_PHASES = (
    "kappa_over_alpha kappa_over_alpha_mean kappa_over_alpha_weighted dense_norm_over_alpha "
    "residual_norm_over_alpha features_covered neurons_per_feature carriers sign_agreement "
    "alpha_max purity pure_distance active_fraction clean_accuracy loss training_loss"
).split()
ALONE = (
    "cut_accuracy excluded_fraction pure_bias theta_init_clean theta_init_adversarial "
    "theta_clean_adversarial ticket_rate ticket_win_rate ticket_control_rate ticket_features_won "
    "purification_factor"
).split()
CRITICAL = "critical_radius critical_radius_low critical_radius_high".split()


def survey(ks=(3, 4, 6), cs=(0.2, 0.3), sigmas=(0.1, 0.3), seeds=3, d=48, records=0, shown=0):
    """Crossed k, c and σ_x at one d with τ = c/√k; ``records`` and ``shown`` > 0 as kept.

    At the first point one seed is dead, at the second one all are.
    """
    rng = np.random.default_rng(0)
    places = np.array(list(itertools.product(ks, cs, sigmas)))
    points = len(places)
    k, c, sigma = places.T
    base = (points, seeds)
    phases, radii = ["init", "clean", "adversarial"], np.array([0, 0.25, 0.5, 1, 1.5, 2, 3])
    attacks = ["random noise", "dense mixture", "FGM", "PGD"]
    strength = np.array([3.0, 1.0, 0.4])[None, None, :, None, None]
    robust = 1 / (1 + strength * (c * k)[:, None, None, None, None] * radii)
    robust = robust * (1 - 0.05 * rng.random((*base, 3, 4, len(radii))))
    by_phase, by_radius = ("point", "seed", "phase"), ("point", "seed", "relative_radius")
    critical = ("point", "seed", "phase", "critical_attack")
    found = {"robust_accuracy": ((*by_phase, "attack", "relative_radius"), robust)}
    found["pure_accuracy"] = (by_radius, robust[:, :, 2, 3] ** 0.8)
    found["radius"] = (
        by_radius,
        np.broadcast_to((c / np.sqrt(k))[:, None, None] * radii, (*base, 7)),
    )
    found |= {name: (by_phase, rng.random((*base, 3))) for name in OF_PHASES}
    found |= {name: (("point", "seed"), rng.random(base)) for name in ALONE}
    found |= {name: (critical, rng.random((*base, 3, 2))) for name in CRITICAL}
    if records:
        # Half of them in each phase; none of the untrained networks.
        shape = (*base, 3, records // 2)
        step = np.broadcast_to(10.0 * np.arange(records // 2), shape)
        table = {name: rng.random(shape) for name in ("loss", "accuracy", "training_loss", "bias")}
        for name, curve in (table | {"step": step}).items():
            curve = np.where(np.arange(3)[:, None] == 0, np.nan, curve)
            found[f"along_{name}"] = ((*by_phase, "record"), curve)
    if shown:
        C = rng.normal(size=(*base, 3, shown, d)).astype(np.float32)
        found["shown_coordinates"] = ((*by_phase, "shown", "feature"), C)
        neurons = np.broadcast_to(np.arange(shown) * 2.0, (*base, shown))
        found["shown_neuron"] = (("point", "seed", "shown"), neurons)
        found["wstar"] = (("point", "seed", "feature"), np.sign(rng.normal(size=(*base, d))))
    status = np.full(base, "ok", dtype="<U9")
    status[0, 1], status[1] = "dead", "untrained"
    values = {}
    for name, (dims, array) in found.items():
        array = np.array(array)
        array[status != "ok"] = np.nan
        known = VARIABLES.get(name)
        values[name] = (dims, array, {"long_name": known.long_name if known else name})
    values["status"] = (("point", "seed"), status)
    values["reason"] = (("point", "seed"), np.where(status == "ok", "", "made up"))
    along_point = {
        "d": (np.full(points, d), "input dimension d"),
        "k": (k, "sparsity k"),
        "m": (np.full(points, 4 * d), "number of neurons m"),
        "tau": (c / np.sqrt(k), "training radius τ"),
        "c": (c, "c"),
        "sigma_x": (sigma, "sigma_x"),
    }
    coords = {name: ("point", of, {"long_name": text}) for name, (of, text) in along_point.items()}
    coords |= {"point": np.arange(points), "seed": np.arange(1, seeds + 1), "phase": phases}
    coords |= {"attack": attacks, "relative_radius": radii}
    coords["critical_attack"] = ["dense mixture", "PGD"]
    attributes = {
        "name": "made-up",
        "version": "0.1.0",
        "test_samples": 1000,
        "draw": "shared",
        "sweep": "",
        "axes": json.dumps([["k"], ["c"], ["sigma_x"]]),
        "shape": json.dumps([len(ks), len(cs), len(sigmas)]),
        "let": json.dumps({"c": ["adversarial.radius"]}),
    }
    return xr.Dataset(values, coords, attributes)


def large():
    """400 points with 5 seeds, and all that a sweep can keep."""
    ks, cs = np.geomspace(3, 12, 10), np.geomspace(0.1, 0.6, 10)
    return survey(ks, cs, (0.1, 0.2, 0.3, 0.4), seeds=5, records=82, shown=24)
