"""Made-up sweep results with known power laws, in the form that `featpur_sim.sweeps.run` leaves."""

import itertools

import numpy as np
import xarray as xr


def made_up(
    ds=(32, 64, 128, 256), ks=(4, 6, 9), seeds=4, noise=0.0, law=lambda d, k, tau: k / d, seed=0
):
    """A crossed sweep of d and k with τ = 0.3/√k.

    ``kappa_over_alpha`` is ``law`` after clean training and a tenth of it after adversarial
    training, each times exp(noise·gaussian) per seed.
    """
    places = list(itertools.product(ds, ks))
    d = np.array([place[0] for place in places])
    k = np.array([place[1] for place in places], float)
    tau = np.round(0.3 / np.sqrt(k), 6)
    rng = np.random.default_rng(seed)
    shape = (len(places), seeds)
    value = law(d, k, tau)[:, None] * np.exp(noise * rng.normal(size=(2, *shape)))
    ratio = np.stack([0 * value[0], value[0], value[1] / 10], axis=-1)
    accuracy = 1 / (1 + np.exp(np.log(k / np.sqrt(d))[:, None] + 0.1 * rng.normal(size=shape)))
    robust = np.broadcast_to(accuracy[..., None, None, None], (*shape, 3, 2, 2)).copy()
    label = {"long_name": "made up", "source": "[M]"}
    return xr.Dataset(
        {
            "kappa_over_alpha": (("point", "seed", "phase"), ratio, label),
            "purification_factor": (("point", "seed"), 10 * value[0] / value[1], label),
            "robust_accuracy": (
                ("point", "seed", "phase", "attack", "relative_radius"), robust, label,
            ),
            "status": (("point", "seed"), np.full(shape, "ok", dtype="<U8")),
        },
        {
            "point": np.arange(len(places)),
            "seed": np.arange(1, seeds + 1),
            "phase": ["init", "clean", "adversarial"],
            "attack": ["dense mixture", "PGD"],
            "relative_radius": [0.0, 1.0],
            "d": ("point", d, {"long_name": "input dimension d"}),
            "k": ("point", k, {"long_name": "sparsity k"}),
            "m": ("point", 4 * d, {"long_name": "number of neurons m"}),
            "tau": ("point", tau, {"long_name": "training radius τ"}),
        },
        {"name": "made-up", "version": "0.1.0"},
    )  # fmt: skip


def over_tau(result, taus=(0.05, 0.1, 0.2)):
    """The same networks under each τ: clean values are of one run, adversarial ones are not."""
    count = result.sizes["point"]
    crossed = result.isel(point=np.repeat(np.arange(count), len(taus)))
    crossed = crossed.assign_coords(
        point=np.arange(count * len(taus)), tau=("point", np.tile(taus, count))
    )
    after = crossed.kappa_over_alpha.sel(phase="adversarial").values
    after *= np.exp(0.1 * np.random.default_rng(1).normal(size=after.shape))
    return crossed


def over_c(result, cs=(0.2, 0.3, 0.45)):
    """The same networks at τ = c/√k for each c of ``[let]``, beside the label k/√d."""
    crossed = over_tau(result, cs)
    c, k = crossed.tau.values, crossed.k.values
    return crossed.assign_coords(
        tau=("point", np.round(c / np.sqrt(k), 6)),
        c=("point", c, {"long_name": "c"}),
        ratio=("point", k / np.sqrt(crossed.d.values), {"long_name": "ratio"}),
    ).assign_attrs(axes='[["k"], ["c"]]', let='{"c": ["adversarial.radius"], "ratio": []}')
