"""What the claims about a run are judged by, each a number per seed (docs/theory.md §5).

Every function takes the dataset of a run, the seeds that count, and gives None where the run does
not have what it needs. Accuracies are fractions of test points, so that their intervals know the
error of counting (`featpur_sim.claims.measured.Counted`).
"""

import numpy as np
import xarray as xr

from featpur_sim.claims.measured import Condition, Counted, Measured, over_ring, over_seeds
from featpur_sim.runs.config import parse_text
from featpur_sim.theory import linf
from featpur_sim.theory import predictions as theory


def nearest(result: xr.Dataset, relative: float) -> int:
    """Index of the radius that is nearest to so many τ."""
    return int(np.argmin(np.abs(result.relative_radius.values - relative)))


def _attacked(r: xr.Dataset, attack: str, phase: str, relative: float = 1) -> xr.DataArray:
    """Accuracy under attack at τ, [seed]."""
    table = r.robust_accuracy.sel(attack=attack, phase=phase)
    return table.isel(radius=nearest(r, relative))


def _clean(r: xr.Dataset, phase: str) -> xr.DataArray:
    return r.robust_accuracy.sel(attack="FGM", phase=phase).isel(radius=0)


def _reference(r: xr.Dataset, reference: str, attack: str, relative: float = 1) -> xr.DataArray:
    """The same for one of the networks that the run's own are compared with."""
    table = r.reference_accuracy.sel(reference=reference, reference_attack=attack)
    return table.isel(radius=nearest(r, relative))


def _side(r: xr.Dataset, side: str, phase: str) -> xr.DataArray:
    """``certified`` or ``attacked`` accuracy at τ, on the points that the run certified."""
    return r[f"{side}_accuracy"].sel(phase=phase).isel(radius=nearest(r, 1))


def _counted(r: xr.Dataset, least: float = -1.0, over: xr.DataArray | None = None) -> Counted:
    """Fractions of the labelled test points, their differences, and shares of such a difference."""
    points = r.attrs["test_samples"] * (1 - float(r.excluded_fraction.mean()))
    return Counted(points, least, None if over is None else float(over.mean()))


def _certified(r: xr.Dataset) -> Counted:
    """Differences with a fraction of the certified points, which are fewer."""
    if "certified_labelled" in r.attrs:
        return Counted(r.attrs["certified_labelled"])
    points = r.attrs.get("certify_points", r.attrs["test_samples"])
    return Counted(max(points * (1 - float(r.excluded_fraction.mean())), 1.0))


def _by(r: xr.Dataset) -> str:
    """What a certificate made after the run adds to a rule."""
    return f" From {r.attrs['certified_by']}." if "certified_by" in r.attrs else ""


def _sparse(r: xr.Dataset, phase: str) -> tuple[float, Condition]:
    """The active fraction, and whether it is that of neurons active as their feature is."""
    active = float(r.active_fraction.sel(phase=phase).mean())
    times = theory.SPARSE_WITHIN
    share = active * r.attrs["d"] / r.attrs["k"]
    return active, Condition("active fraction over k/d", share, 1 / times, times)


def _in_box(r: xr.Dataset) -> linf.Dictionary | None:
    """What the dictionary is to a box; None for a run in ℓ2, where it does not matter."""
    if r.attrs.get("norm", "l2") == "l2":
        return None
    own = parse_text(r.attrs["config"]).problem.dictionary
    return "identity" if own == "identity" else "flat"


def clean_accuracy(r: xr.Dataset) -> Measured:
    """Clean accuracy of the clean network."""
    return over_seeds(_clean(r, "clean"), _counted(r, least=0.0))


def dense_loss(r: xr.Dataset) -> Measured:
    """Accuracy that the dense attack costs the clean network, beyond what it costs the pure one."""
    gap = _reference(r, "pure network", "dense mixture") - _attacked(r, "dense mixture", "clean")
    d, box = r.attrs["d"], _in_box(r)
    window = theory.window(d) if box is None else linf.window(d, box)
    return over_seeds(gap, _counted(r), window=window)


def dense_less_pgd(r: xr.Dataset) -> Measured:
    """Accuracy of the clean network under the dense attack less that under PGD."""
    gap = _attacked(r, "dense mixture", "clean") - _attacked(r, "PGD", "clean")
    return over_seeds(gap, _counted(r))


def restored_share(r: xr.Dataset) -> Measured:
    """Share of the loss to the dense attack that cutting the dense mixtures out restores."""
    cut = _reference(r, "clean without dense mixtures", "dense mixture")
    before = _attacked(r, "dense mixture", "clean")
    whole = _reference(r, "pure network", "dense mixture") - before
    return over_seeds((cut - before) / np.maximum(whole, 1e-9), _counted(r, over=whole))


def loss_to_inserted(r: xr.Dataset) -> Measured:
    """PGD accuracy that the clean network's dense mixtures cost the purified one."""
    after = _reference(r, "adversarial with clean dense mixtures", "PGD")
    return over_seeds(_attacked(r, "PGD", "adversarial") - after, _counted(r))


def clean_ratio(r: xr.Dataset) -> Measured:
    """κ/α after clean training."""
    prediction = theory.clean_dense_ratio(r.attrs["d"], r.attrs["k"])
    ratio = r.kappa_over_alpha.sel(phase="clean")
    active, sparse = _sparse(r, "clean")
    return over_seeds(
        ratio,
        predicted=prediction.value,
        conditions=(sparse,),
        prediction=prediction,
        active=active,
        share=sparse.value,
    )


def clean_change(r: xr.Dataset) -> Measured:
    """Change of the clean accuracy when the dense mixtures are cut out."""
    cut = _reference(r, "clean without dense mixtures", "dense mixture", 0)
    interference = theory.clean_interference(r.attrs["d"], r.attrs["k"])
    change = cut - _clean(r, "clean")
    return over_seeds(change, _counted(r), predicted=0.0, interference=interference)


def certified_less_pure(r: xr.Dataset) -> Measured | None:
    """Certified accuracy of the purified network less the pure network's under PGD."""
    if "certified_accuracy" not in r:
        return None
    ceiling = _reference(r, "pure network", "PGD")
    return over_seeds(
        _side(r, "certified", "adversarial") - ceiling,
        _certified(r),
        above=_side(r, "attacked", "adversarial") - ceiling,
        note=_by(r),
    )


def uncertified_rise(r: xr.Dataset) -> Measured | None:
    """Rise of the accuracy under PGD, in a run that certified nothing."""
    if "certified_accuracy" in r:
        return None
    rise = _attacked(r, "PGD", "adversarial") - _attacked(r, "PGD", "clean")
    return over_seeds(rise, _counted(r))


def certified_rise(r: xr.Dataset) -> Measured | None:
    """Certified accuracy of the purified network less the attacked one of the clean network."""
    if "certified_accuracy" not in r:
        return None
    rise = _side(r, "certified", "adversarial") - _side(r, "attacked", "clean")
    return over_seeds(rise, _certified(r), note=_by(r))


def width(r: xr.Dataset) -> Measured | None:
    """Attacked less certified accuracy of the purified network."""
    if "certified_accuracy" not in r:
        return None
    gap = _side(r, "attacked", "adversarial") - _side(r, "certified", "adversarial")
    return over_seeds(gap, _certified(r), note=_by(r))


def distance_to_pure(r: xr.Dataset) -> Measured:
    """PGD accuracy of the pure network less that of the purified one."""
    distance = _reference(r, "pure network", "PGD") - _attacked(r, "PGD", "adversarial")
    return over_seeds(distance, _counted(r), bias=float(r.pure_bias))


def late_gain(r: xr.Dataset) -> Measured:
    """PGD accuracy gained over the last two thirds of the adversarial phase."""
    along = r.accuracy_along
    steps = along.snapshot.values
    third = along.isel(snapshot=int(np.argmin(np.abs(steps - steps[-1] / 3))))
    return over_seeds(along.isel(snapshot=-1) - third, _counted(r))


def remaining_fraction(r: xr.Dataset) -> Measured:
    """|κ/α| after adversarial training over that before; ``fold``: the fall of the mean."""
    clean = np.abs(r.kappa_over_alpha.sel(phase="clean").values)
    after = np.abs(r.kappa_over_alpha.sel(phase="adversarial").values)
    return over_seeds(
        after / clean, fold=float(np.mean(clean) / np.mean(after)), note=_scaling_of_the_fall(r)
    )


def _scaling_of_the_fall(r: xr.Dataset) -> str:
    """What the rule says of the predicted factor; nothing where the mixture vanishes."""
    d, k, tau, box = *(r.attrs[name] for name in ("d", "k", "tau")), _in_box(r)
    if box == "identity":
        return ""
    scaling, factor = theory.purification_factor(k, tau), "k·τ√k"
    if box == "flat":
        scaling, factor = linf.purification_factor(d, k, tau), "k·ε√(2dk/π)"
    return (
        f" The scaling of {scaling.source}, a fall by {factor} = {scaling.value:.3g} up to a "
        "constant, is not judged here: it is the quotient of two predicted levels, and each of "
        "them has its row."
    )


def purified_ratio(r: xr.Dataset) -> Measured | None:
    """κ/α after adversarial training; None where it is predicted to vanish."""
    d, k, tau, box = *(r.attrs[name] for name in ("d", "k", "tau")), _in_box(r)
    if box == "identity":
        return None
    prediction, order, within = theory.adversarial_dense_ratio(d, k, tau), "1/(τ√k·d)", "τ√k"
    reach = tau * k**0.5
    if box == "flat":
        prediction, order = linf.adversarial_dense_ratio(d, k, tau, box), "1/(ε√(2dk/π)·d)"
        reach, within = linf.effective_radius(d, tau) * k**0.5, "ε√(2dk/π)"
    ratio = r.kappa_over_alpha.sel(phase="adversarial")
    active, sparse = _sparse(r, "adversarial")
    return over_seeds(
        ratio,
        predicted=prediction.value,
        conditions=(sparse, Condition(within, reach, 0.0, theory.SMALL_REACH)),
        prediction=prediction,
        active=active,
        share=sparse.value,
        reach=reach,
        order=order,
        within=within,
    )


def kept_direction(r: xr.Dataset) -> Measured:
    """θ(clean, adversarial) less the larger of θ(init, ·), medians over carriers."""
    carrier = r.carrier.sel(phase="clean").astype(bool)

    def median(name: str) -> xr.DataArray:
        return r[name].where(carrier).median("neuron")

    kept = median("theta_clean_adversarial")
    clean, adversarial = median("theta_init_clean"), median("theta_init_adversarial")
    return over_seeds(
        kept - np.maximum(clean, adversarial),
        kept=float(kept.mean()),
        clean=float(clean.mean()),
        adversarial=float(adversarial.mean()),
    )


def ticket_advantage(r: xr.Dataset) -> Measured:
    """How often ticket holders end with their feature, less the same for other neurons."""
    return over_seeds(r.ticket_win_rate - r.ticket_control_rate, rate=float(r.ticket_rate.mean()))


def transferred_share(r: xr.Dataset) -> Measured | None:
    """Share of PGD's damage on a clean network that another seed's examples do."""
    clean = _clean(r, "clean")
    lost = clean - _attacked(r, "PGD", "clean")
    share = (clean - _attacked(r, "transfer", "clean")) / np.maximum(lost, 1e-9)
    return _of_known(share, _counted(r, over=lost))


def transferred_cost(r: xr.Dataset) -> Measured | None:
    """Accuracy that another seed's clean network's examples cost the purified one."""
    cost = _clean(r, "adversarial") - _attacked(r, "transfer", "adversarial")
    return _of_known(cost, _counted(r))


def _of_known(values: xr.DataArray, counted: Counted) -> Measured | None:
    """Over the seeds that examples from a finished seed were transferred to."""
    known = values.dropna("seed")
    return over_ring(known, counted) if known.size else None


def noise_loss(r: xr.Dataset) -> Measured:
    """Accuracy that random noise costs the clean network."""
    return over_seeds(_clean(r, "clean") - _attacked(r, "random noise", "clean"), _counted(r))
