"""The scorecard: claim ⟵ prediction + measurement → verdict (docs/claims.md, docs/theory.md §5).

Every row states its rule. A verdict compares a confidence interval over seeds with a threshold that
the rule names; no rule is widened to let a claim pass, and "inconclusive at this size" is a result.
"""

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr

from featpur_sim.claims.certificate import with_certificate
from featpur_sim.claims.verdict import (
    ATTACKED_ONLY,
    CONTRADICTED,
    INCONCLUSIVE,
    NO_VERDICT,
    SUPPORTED,
    AtLeast,
    AtMost,
    Counted,
    Row,
    Stated,
    interval,
    make_row,
    within_factor,
)
from featpur_sim.runs import diagnosis
from featpur_sim.theory import predictions as theory

# "The level of the pure network" (§5.2) at finite d: within so much of its accuracy.
CEILING_SLACK = 0.10


def scorecard(result: xr.Dataset, certificate: list[Row] | None = None) -> list[Row]:
    """Every claim that a run can speak to, one row each (C6 and C2-C3 have several).

    Seeds whose training failed (`featpur_sim.runs.diagnosis`) are left out, and so are examples
    transferred from them; the row's ``seeds`` entry counts both. Where training failed in every
    seed, no row has a value, and every verdict is `NO_VERDICT`.

    Args:
        result: the Dataset of one run.
        certificate: rows of its certificate.json; C5 is judged by them where they cover it
            (`featpur_sim.claims.certificate.with_certificate`).

    Returns:
        Rows with ``id, regime, statement, source, predicted, measured, ci, verdict, rule, seeds``.
    """
    if not diagnosis.finished(result).any():
        return _no_verdicts(result)
    finished = with_certificate(diagnosis.only_finished(result), certificate or [])
    rows = [row for row in (make(finished) for make in _ROWS) if row is not None]
    restless = _restless(finished)
    for row in rows:
        row["seeds"] = diagnosis.count(result, row["seeds"])
        row["rule"] += restless
    return [{"id": row.pop("id"), "regime": result.attrs["name"], **row} for row in rows]


def _restless(finished: xr.Dataset) -> str:
    """What the rules add for seeds whose training still moved."""
    if "training_warning" not in finished:
        return ""
    said = [
        f"seed {seed}: {warning}"
        for seed, warning in zip(
            finished.seed.values, finished.training_warning.values, strict=True
        )
        if warning
    ]
    return f" Warning: {'; '.join(said)}." if said else ""


def _no_verdicts(result: xr.Dataset) -> list[Row]:
    """The rows of a run in which no seed finished: claims without a value."""
    why = f"no verdict: training failed: {'; '.join(diagnosis.left_out(result))}."
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # means of nothing
        rows = [row for row in (make(result) for make in _ROWS) if row is not None]
    blank = {"measured": float("nan"), "ci": None, "verdict": NO_VERDICT, "rule": why}
    blank |= {"seeds": diagnosis.count(result)}
    return [{"id": row.pop("id"), "regime": result.attrs["name"], **row, **blank} for row in rows]


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


def _at_tau(result: xr.Dataset, attack: str, phase: str) -> xr.DataArray:
    table = result.robust_accuracy.sel(attack=attack, phase=phase)
    return table.isel(radius=int(np.argmin(np.abs(result.relative_radius.values - 1))))


def _clean(result: xr.Dataset, phase: str) -> xr.DataArray:
    return result.robust_accuracy.sel(attack="FGM", phase=phase).isel(radius=0)


def _reference(result: xr.Dataset, reference: str, attack: str, relative: float) -> xr.DataArray:
    table = result.reference_accuracy.sel(reference=reference, reference_attack=attack)
    return table.isel(radius=int(np.argmin(np.abs(result.relative_radius.values - relative))))


def _prediction(prediction: theory.Prediction) -> str:
    return f"{prediction.value:.3g} = {prediction.formula}"


def _c1(r: xr.Dataset) -> Row:
    return make_row(
        "C1",
        "clean training reaches high clean accuracy",
        "[P] §5",
        "→ 1",
        _clean(r, "clean"),
        AtLeast(0.90, "the clean accuracy"),
        _counted(r, least=0.0),
    )


def _c2_fall(r: xr.Dataset) -> Row:
    gap = _reference(r, "pure network", "dense mixture", 1) - _at_tau(r, "dense mixture", "clean")
    return make_row(
        "C2",
        "the dense attack at τ, blind to the network, defeats the clean network: accuracy lost "
        "beyond what it costs the pure network",
        "[P] §5",
        "→ 1 inside the window "
        f"{theory.window(r.attrs['d'])[0]:.1f} < k < {theory.window(r.attrs['d'])[1]:.1f}",
        gap,
        AtLeast(0.20, "the loss"),
        _counted(r),
    )


def _c2_is_pgd(r: xr.Dataset) -> Row:
    return make_row(
        "C2",
        "the dense mixture is the whole vulnerability: the dense attack does as much as PGD "
        "(difference in accuracy at τ on the clean network)",
        "[M] §5.3",
        "0",
        _at_tau(r, "dense mixture", "clean") - _at_tau(r, "PGD", "clean"),
        AtMost(0.02, "the difference"),
        _counted(r),
    )


def _c3_surgery(r: xr.Dataset) -> Row:
    cut = _reference(r, "clean without dense mixtures", "dense mixture", 1)
    before = _at_tau(r, "dense mixture", "clean")
    whole = _reference(r, "pure network", "dense mixture", 1) - before
    return make_row(
        "C3",
        "dense mixtures are the cause: cutting v_i out of every clean neuron restores this share "
        "of the accuracy lost to the dense attack",
        "[D] §5",
        "1",
        (cut - before) / np.maximum(whole, 1e-9),
        AtLeast(0.5, "the restored share"),
        _counted(r, over=whole),
    )


def _c3_insert(r: xr.Dataset) -> Row:
    after = _reference(r, "adversarial with clean dense mixtures", "PGD", 1)
    return make_row(
        "C3",
        "and sufficient: putting the clean network's v_i into the purified one costs this much "
        "PGD accuracy at τ",
        "[D] §5",
        "> 0",
        _at_tau(r, "PGD", "adversarial") - after,
        AtLeast(0.05, "the loss"),
        _counted(r),
    )


def _c3_ratio(r: xr.Dataset) -> Row:
    prediction = theory.clean_dense_ratio(r.attrs["d"], r.attrs["k"])
    return make_row(
        "C3",
        "κ/α after clean training is k/d in order of magnitude (sparse activation)",
        prediction.source,
        _prediction(prediction),
        r.kappa_over_alpha.sel(phase="clean"),
        within_factor(
            1.5,
            prediction.value,
            "k/d",
            " Where most neurons are active and hold several features (dense-regime) the "
            "prediction is outside its range and fails by design: docs/theory.md §7.",
        ),
    )


def _c4(r: xr.Dataset) -> Row:
    cut = _reference(r, "clean without dense mixtures", "dense mixture", 0)
    interference = theory.clean_interference(r.attrs["d"], r.attrs["k"])
    return make_row(
        "C4",
        "dense mixtures are nearly harmless on clean data: change of the clean accuracy when "
        "they are cut out (below 0: they even help)",
        "[P] §5.1",
        f"small while {_prediction(interference)} ≪ 1",
        cut - _clean(r, "clean"),
        AtMost(0.05, "the change", " The mixtures cost at most five points of clean accuracy."),
        _counted(r),
    )


def _side(result: xr.Dataset, side: str, phase: str) -> xr.DataArray:
    """``certified`` or ``attacked`` accuracy at τ, on the points that the run certified."""
    table = result[f"{side}_accuracy"].sel(phase=phase)
    return table.isel(radius=int(np.argmin(np.abs(result.relative_radius.values - 1))))


def _by(r: xr.Dataset) -> str:
    """What a certificate made after the run adds to a rule."""
    return f" From {r.attrs['certified_by']}." if "certified_by" in r.attrs else ""


def _c5(r: xr.Dataset) -> Row:
    if "certified_accuracy" not in r:
        return _c5_attacked_only(r)
    ceiling = _reference(r, "pure network", "PGD", 1)
    # The upper side: what no certificate, however good, could exceed.
    _, _, attacked_high = interval(_side(r, "attacked", "adversarial") - ceiling, _certified(r))

    def judge(low, high):
        if np.isnan(low):
            return INCONCLUSIVE
        if low >= -CEILING_SLACK:
            return SUPPORTED
        return CONTRADICTED if attacked_high < -CEILING_SLACK else INCONCLUSIVE

    return make_row(
        "C5",
        "FGM training makes the network robust against ANY perturbation of norm τ, to the level of "
        "the pure network: certified accuracy at τ less the pure network's accuracy under PGD (an "
        "upper bound)",
        "[P] §5, §8",
        "0",
        _side(r, "certified", "adversarial") - ceiling,
        Stated(
            "proved robustness against attacked ceiling, the comparison that is hardest on the "
            "claim: supported if the interval of the difference lies at or above "
            f"−{CEILING_SLACK:.2f}, contradicted if the same difference with the attacked instead "
            "of the certified accuracy lies below it.",
            judge,
            _by(r),
        ),
        _certified(r),
    )


def _c5_attacked_only(r: xr.Dataset) -> Row:
    rise = _at_tau(r, "PGD", "adversarial") - _at_tau(r, "PGD", "clean")

    def judge(low, high):
        if np.isnan(low):
            return INCONCLUSIVE
        return CONTRADICTED if high <= 0 else ATTACKED_ONLY

    return make_row(
        "C5",
        "FGM training makes the network robust against any perturbation of norm τ: rise of PGD "
        "accuracy at τ",
        "[P] §5",
        "to the pure network's level",
        rise,
        Stated(
            "an attack cannot show robustness against any perturbation, and this run certified no "
            "points: contradicted if the rise is not above 0, otherwise 'attacked only'.",
            judge,
        ),
        _counted(r),
    )


def _c5_rise(r: xr.Dataset) -> Row | None:
    if "certified_accuracy" not in r:
        return None
    return make_row(
        "C5",
        "the rise is real, whatever the attack: certified accuracy at τ of the purified network "
        "less the attacked accuracy of the clean one on the same points",
        "[D] §8",
        "> 0",
        _side(r, "certified", "adversarial") - _side(r, "attacked", "clean"),
        AtLeast(0.05, "the difference", " It is a lower bound less an upper bound." + _by(r)),
        _certified(r),
    )


def _c5_width(r: xr.Dataset) -> Row | None:
    if "certified_accuracy" not in r:
        return None
    return make_row(
        "C5",
        "certificate and attack meet: attacked less certified accuracy of the purified network "
        "at τ",
        "[D] §8",
        "0",
        _side(r, "attacked", "adversarial") - _side(r, "certified", "adversarial"),
        AtMost(
            0.02,
            "the width",
            " A wider one leaves the robust accuracy open; 'featpur certify' has stronger stages."
            + _by(r),
        ),
        _certified(r),
    )


def _c5_distance(r: xr.Dataset) -> Row:
    distance = _reference(r, "pure network", "PGD", 1) - _at_tau(r, "PGD", "adversarial")
    return make_row(
        "C5",
        "distance to the ceiling: PGD accuracy at τ of the pure network (best b = "
        f"{float(r.pure_bias):.3g}) less that of the purified one",
        "[D] §5.2",
        "0",
        distance,
        AtMost(0.05, "the distance"),
        _counted(r),
    )


def _c5_longer(r: xr.Dataset) -> Row:
    along = r.accuracy_along
    steps = along.snapshot.values
    third = along.isel(snapshot=int(np.argmin(np.abs(steps - steps[-1] / 3))))
    return make_row(
        "C5",
        "longer adversarial training still closes the distance: PGD accuracy at τ gained over the "
        "last two thirds of the phase",
        "[M] §5.2",
        "none",
        along.isel(snapshot=-1) - third,
        AtLeast(0.01, "the gain", " Below it, the phase is long enough."),
        _counted(r),
    )


def _c6_ratio(r: xr.Dataset) -> Row:
    clean = np.abs(r.kappa_over_alpha.sel(phase="clean").values)
    after = np.abs(r.kappa_over_alpha.sel(phase="adversarial").values)
    factor = theory.purification_factor(r.attrs["k"], r.attrs["tau"])
    fold = float(np.mean(clean) / np.mean(after))
    row = make_row(
        "C6",
        "purification: κ/α after FGM training as a fraction of κ/α before "
        f"(a {fold:.0f}-fold fall of the mean)",
        "[P] §5",
        f"≈ 1/{factor.value:.3g} [D] §5.1, up to a constant",
        after / clean,
        AtMost(0.1, "the fraction", " That is a fall of ten-fold or more."),
    )
    return row


def _c6_level(r: xr.Dataset) -> Row:
    prediction = theory.adversarial_dense_ratio(r.attrs["d"], r.attrs["k"], r.attrs["tau"])
    return make_row(
        "C6",
        "κ/α after FGM training is of order 1/(τ√k·d)",
        prediction.source,
        _prediction(prediction),
        r.kappa_over_alpha.sel(phase="adversarial"),
        within_factor(
            1.5,
            prediction.value,
            "the prediction",
            " It is the small-τ form of a balance that vanishes as τ√k grows (docs/theory.md §7): "
            "a value far below it is more purification, not less.",
        ),
    )


def _c6_theta(r: xr.Dataset) -> Row:
    carrier = r.carrier.sel(phase="clean").astype(bool)

    def median(name):
        return r[name].where(carrier).median("neuron")

    kept = median("theta_clean_adversarial")
    gap = kept - np.maximum(median("theta_init_clean"), median("theta_init_adversarial"))
    values = [
        float(v.mean())
        for v in (median("theta_init_clean"), median("theta_init_adversarial"), kept)
    ]
    return make_row(
        "C6",
        "purification is a small change of direction: θ(clean, adversarial) less the larger of "
        "θ(init, clean) and θ(init, adversarial); medians over carriers "
        f"{values[2]:.2f}, {values[0]:.2f}, {values[1]:.2f}",
        "[P] §4",
        "θ(clean, adversarial) ≫ θ(init, ·)",
        gap,
        AtLeast(0.3, "the difference"),
    )


def _c9(r: xr.Dataset) -> Row:
    rate = float(r.ticket_rate.mean())
    return make_row(
        "C9",
        "winning tickets win: probability that a ticket holder ends with its feature, less that "
        "of the other neurons for their own largest coordinate "
        f"({rate:.0%} of the neurons hold a ticket)",
        "[P] §4",
        "> 0",
        r.ticket_win_rate - r.ticket_control_rate,
        AtLeast(0.2, "the difference"),
    )


def _c10(r: xr.Dataset) -> Row | None:
    clean = _clean(r, "clean")
    lost = clean - _at_tau(r, "PGD", "clean")
    share = (clean - _at_tau(r, "transfer", "clean")) / np.maximum(lost, 1e-9)
    if share.notnull().sum() == 0:
        return None
    return make_row(
        "C10",
        "adversarial examples transfer between independently started clean networks: share of "
        "PGD's damage that another seed's examples do",
        "[D] §5",
        "≈ 1",
        share.dropna("seed"),
        AtLeast(0.8, "the share"),
        _counted(r, over=lost),
    )


def _c10_purified(r: xr.Dataset) -> Row | None:
    cost = _clean(r, "adversarial") - _at_tau(r, "transfer", "adversarial")
    if cost.notnull().sum() == 0:
        return None
    return make_row(
        "C10",
        "and not to purified networks: accuracy that examples made on another seed's clean "
        "network cost the purified one at τ",
        "[D] §5",
        "≈ 0",
        cost.dropna("seed"),
        AtMost(0.1, "the cost"),
        _counted(r),
    )


def _c11(r: xr.Dataset) -> Row:
    return make_row(
        "C11",
        "random noise of norm τ does not hurt the clean network: accuracy lost",
        "[D] §5",
        "≈ 0",
        _clean(r, "clean") - _at_tau(r, "random noise", "clean"),
        AtMost(0.01, "the loss"),
        _counted(r),
    )


_ROWS: tuple[Callable[[xr.Dataset], Row | None], ...] = (
    _c1,
    _c2_fall,
    _c2_is_pgd,
    _c3_surgery,
    _c3_insert,
    _c3_ratio,
    _c4,
    _c5,
    _c5_rise,
    _c5_width,
    _c5_distance,
    _c5_longer,
    _c6_ratio,
    _c6_level,
    _c6_theta,
    _c9,
    _c10,
    _c10_purified,
    _c11,
)
