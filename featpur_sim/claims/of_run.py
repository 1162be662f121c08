"""The scorecard of a run: its claims, with the rule that judges each (docs/claims.md).

Every row states its rule. A verdict compares a confidence interval over seeds with a threshold that
the rule names; no rule is widened to let a claim pass, and "inconclusive at this size" is a result.
"""

import functools
import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect
from featpur_sim.claims import run_measures as of
from featpur_sim.claims.certificate import with_certificate
from featpur_sim.claims.claim import NO_PREDICTION, Case, Claim, Row, cases, rows
from featpur_sim.claims.meanings import MEANINGS
from featpur_sim.claims.rule import (
    AtLeast,
    AtMost,
    AttackedOnly,
    FromBothSides,
    WithinDistance,
    WithinFactor,
)
from featpur_sim.runs import diagnosis

_PREDICTION = "{prediction.value:.3g} = {prediction.formula}", "{prediction.source}"

# id, rule; what is measured; predicted, source; statement. The tolerance of each is in its row.
CLAIMS: tuple[Claim[xr.Dataset], ...] = (
    Claim("C1", AtLeast(0.90, "the clean accuracy", ideal=1.0), of.clean_accuracy, "→ 1", "[P] §5",
          "clean training reaches high clean accuracy"),
    Claim("C2", AtLeast(0.20, "the loss"), of.dense_loss,
          "→ 1 inside the window {window[0]:.1f} < k < {window[1]:.1f}", "[P] §5",
          "the dense attack at τ, blind to the network, costs the clean network a fifth of its "
          "points or more, beyond what it costs the pure network"),
    Claim("C2", AtMost(0.02, "the difference"), of.dense_less_pgd, "0", "[M] §5.3",
          "the dense attack does as much as PGD, which sees the network (difference in accuracy "
          "at τ on the clean network)"),
    Claim("C3", AtLeast(0.5, "the restored share", ideal=1.0), of.restored_share, "1", "[D] §5",
          "dense mixtures are the main cause: cutting v_i out of every clean neuron restores most "
          "of the accuracy lost to the dense attack (share)"),
    Claim("C3", AtLeast(0.05, "the loss"), of.loss_to_inserted, "> 0", "[D] §5",
          "and they do harm alone: putting the clean network's v_i into the purified one costs "
          "PGD accuracy at τ"),
    Claim("C3", WithinFactor(3, "k/d", " That is half an order of magnitude either way."),
          of.clean_ratio, *_PREDICTION,
          "κ/α after clean training is k/d in order of magnitude, where neurons are active as "
          "their features are (here on {active:.2g} of the samples, {share:.1f} × k/d)"),
    Claim("C4", WithinDistance(0.05, "no change"), of.clean_change,
          "small while {interference.value:.3g} = {interference.formula} ≪ 1", "[P] §5.1",
          "dense mixtures hardly matter on clean data: change of the clean accuracy when they are "
          "cut out (below 0: they even help)"),
    # "The level of the pure network" (§5.2) at finite d: within so much of its accuracy.
    Claim("C5", FromBothSides(0.10), of.certified_less_pure, "0", "[P] §5, §8",
          "FGM training makes the network robust against ANY perturbation of norm τ, to within ten "
          "points of the pure network: certified accuracy at τ less the pure network's accuracy "
          "under PGD (an upper bound)"),
    Claim("C5", AtLeast(0.05, "the difference", " It is a lower bound less an upper bound."),
          of.certified_rise, "> 0", "[D] §8",
          "the rise is real, whatever the attack: certified accuracy at τ of the purified network "
          "less the attacked accuracy of the clean one on the same points"),
    Claim("C5", AtMost(0.02, "the width", " A wider one leaves the robust accuracy open; 'featpur "
                       "certify' has stronger stages."), of.width, "0", "[D] §8",
          "certificate and attack meet: attacked less certified accuracy of the purified network "
          "at τ"),
    Claim("C5", AttackedOnly(), of.uncertified_rise, "to the pure network's level", "[P] §5",
          "FGM training makes the network robust against any perturbation of norm τ: rise of PGD "
          "accuracy at τ"),
    Claim("C5", AtMost(0.05, "the distance"), of.distance_to_pure, "0", "[D] §5.2",
          "it comes near the ceiling: PGD accuracy at τ of the pure network (best b = {bias:.3g}) "
          "less that of the purified one"),
    Claim("C5", AtLeast(0.01, "the gain", " Below it, the phase is long enough."), of.late_gain,
          NO_PREDICTION, "[M] §5.2",
          "longer adversarial training still closes the distance: PGD accuracy at τ gained over "
          "the last two thirds of the phase"),
    Claim("C6", AtMost(0.1, "the fraction", " That is a fall of ten-fold or more."),
          of.remaining_fraction, "≪ 1", "[P] §5",
          "purification: κ/α falls many times over: after FGM training as a fraction of before "
          "(a {fold:.0f}-fold fall of the mean)"),
    Claim("C6", WithinFactor(3, "the prediction", " That is half an order of magnitude either way. "
                             "The prediction is the small-τ form of a balance that vanishes as "
                             "τ√k grows (docs/theory.md §7): a value far below it is more "
                             "purification, not less."), of.purified_ratio, *_PREDICTION,
          "κ/α after FGM training is of order {order}, where neurons are active as their "
          "features are (here on {active:.2g} of the samples, {share:.1f} × k/d) and {within} is "
          "small (here {reach:.2g})"),
    Claim("C6", AtLeast(0.3, "the difference"), of.kept_direction,
          "θ(clean, adversarial) ≫ θ(init, ·)", "[P] §4",
          "purification is a small change of direction: θ(clean, adversarial) less the larger of "
          "θ(init, clean) and θ(init, adversarial); medians over carriers "
          "{kept:.2f}, {clean:.2f}, {adversarial:.2f}"),
    Claim("C9", AtLeast(0.2, "the difference"), of.ticket_advantage, "> 0", "[P] §4",
          "winning tickets win: probability that a ticket holder ends with its feature, less that "
          "of the other neurons for their own largest coordinate "
          "({rate:.0%} of the neurons hold a ticket)"),
    Claim("C10", AtLeast(0.8, "the share", ideal=1.0), of.transferred_share, "≈ 1", "[D] §5",
          "adversarial examples transfer between independently started clean networks: share of "
          "PGD's damage that another seed's examples do (each seed with its neighbour on a ring)"),
    Claim("C10", AtMost(0.1, "the cost"), of.transferred_cost, "≈ 0", "[D] §5",
          "and not to purified networks: accuracy that examples made on another seed's clean "
          "network cost the purified one at τ (each seed with its neighbour on a ring)"),
    Claim("C11", AtMost(0.01, "the loss"), of.noise_loss, "≈ 0", "[D] §5",
          "random noise of norm τ does not hurt the clean network: accuracy lost"),
)  # fmt: skip


def scorecard(
    result: xr.Dataset,
    certificate: list[Row] | None = None,
    own: Sequence[Claim[xr.Dataset]] = (),
) -> list[Row]:
    """Every claim that a run can speak to, one row each (C6 and C2-C3 have several).

    Seeds whose training failed (`featpur_sim.runs.diagnosis`) are left out, and so are examples
    transferred from them; the row's ``seeds`` entry counts both. Where training failed in every
    seed, no row has a value, and every verdict is ``no verdict``.

    Args:
        result: the Dataset of one run.
        certificate: rows of its certificate.json; C5 is judged by them where they cover it
            (`featpur_sim.claims.certificate.with_certificate`).
        own: claims of the user's, judged after these and held together with them.

    Returns:
        The rows of `featpur_sim.claims.claim.rows`.

    Raises:
        ConfigError: an own claim is none, or has the id of one of these.
    """
    return rows(run_cases(result, certificate, own))


def run_cases(
    result: xr.Dataset,
    certificate: list[Row] | None = None,
    own: Sequence[Claim[xr.Dataset]] = (),
) -> list[Case]:
    """What `scorecard` judges, to be held together with that of other runs."""
    require_own(own)
    claims = (*CLAIMS, *own)
    name, count = result.attrs["name"], functools.partial(diagnosis.count, result)
    if not diagnosis.finished(result).any():
        why = f"no verdict: training failed: {'; '.join(diagnosis.left_out(result))}."
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # means of nothing
            return cases(claims, result, name, lambda _: count(), failed=why)
    finished = with_certificate(diagnosis.only_finished(result), certificate or [])
    return cases(claims, finished, name, count, _restless(finished))


def require_own(claims: Sequence[Claim[xr.Dataset]]) -> None:
    """Refuse what cannot stand beside the claims of the scorecard.

    Raises:
        ConfigError: it is no claim, or has the id of another.
    """
    taken = set(MEANINGS)
    for number, claim in enumerate(claims):
        expect(f"claims[{number}]", claim, Claim, "a claim, Claim(id, rule, measure, …) say")
        if claim.id in taken:
            raise ConfigError(
                f"claims[{number}] has the id {claim.id!r}, which is one of the scorecard's: "
                "choose another, 'M1' say."
            )


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
