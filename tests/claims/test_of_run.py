"""Every verdict on planted results: supported, contradicted and inconclusive at the rule's edge."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import featpur_sim as fp
from featpur_sim.claims import of_closure, of_readouts
from featpur_sim.claims.claim import rows
from featpur_sim.claims.measured import ring_widening
from featpur_sim.claims.of_run import CLAIMS, run_cases, scorecard
from featpur_sim.claims.rule import (
    AtLeast,
    AtMost,
    AttackedOnly,
    FromBothSides,
    WithinDistance,
    WithinFactor,
)
from featpur_sim.claims.verdict import Verdict
from featpur_sim.runs.config import dump, parse
from featpur_sim.runs.evaluation import ATTACKS, REFERENCES
from featpur_sim.runs.presets import dense_regime

PHASES = ["init", "clean", "adversarial"]
REFERENCE_ATTACKS = ["dense mixture", "FGM", "PGD"]
PURE, CUT, PUT = REFERENCES
# Four seeds around a mean m: their 95 % t-interval is m ± HALF.
SPREAD = np.array([-0.001, -0.001, 0.001, 0.001])
HALF = scipy.stats.t.ppf(0.975, 3) * SPREAD.std(ddof=1) / 2


def neutral(seeds=4):
    """A run in which every accuracy, overlap and rate is 0.5, and activation sparse."""

    def half(*shape):
        return np.full((seeds, *shape), 0.5)

    return xr.Dataset(
        {
            "robust_accuracy": (("seed", "phase", "attack", "radius"), half(3, len(ATTACKS), 3)),
            "reference_accuracy": (
                ("seed", "reference", "reference_attack", "radius"),
                half(3, 3, 3),
            ),
            "pure_bias": ((), 0.2),
            "accuracy_along": (("seed", "snapshot"), half(4)),
            "kappa_over_alpha": (("seed", "phase"), half(3)),
            "active_fraction": (("seed", "phase"), np.full((seeds, 3), 5 / 64)),
            "carrier": (("seed", "phase", "neuron"), np.ones((seeds, 3, 6), np.int8)),
            "theta_init_clean": (("seed", "neuron"), half(6)),
            "theta_init_adversarial": (("seed", "neuron"), half(6)),
            "theta_clean_adversarial": (("seed", "neuron"), half(6)),
            "ticket_rate": ("seed", half()),
            "ticket_win_rate": ("seed", half()),
            "ticket_control_rate": ("seed", half()),
            "excluded_fraction": ("seed", np.zeros(seeds)),
            "status": ("seed", np.full(seeds, "ok", dtype="<U8")),
        },
        {
            "seed": np.arange(1, seeds + 1),
            "phase": PHASES,
            "attack": list(ATTACKS),
            "reference": list(REFERENCES),
            "reference_attack": REFERENCE_ATTACKS,
            "relative_radius": ("radius", [0.0, 1.0, 2.0]),
            "snapshot": [10, 33, 67, 100],
        },
        # So many points that the error of counting them is far below the spread over seeds.
        {"name": "planted", "d": 64, "k": 5.0, "tau": 0.134, "test_samples": 10**9},
    )


def accuracy(r, attack, phase, radius, values):
    r.robust_accuracy[:, PHASES.index(phase), ATTACKS.index(attack), radius] = values


def reference(r, name, attack, radius, values):
    column = REFERENCE_ATTACKS.index(attack)
    r.reference_accuracy[:, REFERENCES.index(name), column, radius] = values


def c3_share(r, v):
    accuracy(r, "dense mixture", "clean", 1, 0.2)
    reference(r, PURE, "dense mixture", 1, 0.7)
    reference(r, CUT, "dense mixture", 1, 0.2 + 0.5 * v)


def c6_theta(r, v):
    r.theta_init_clean[:] = 0.1
    r.theta_init_adversarial[:] = 0.2
    r.theta_clean_adversarial[:] = 0.2 + v[:, None]


def c10_share(r, v):
    accuracy(r, "FGM", "clean", 0, 0.9)
    accuracy(r, "PGD", "clean", 1, 0.4)
    accuracy(r, "transfer", "clean", 1, 0.9 - 0.5 * v)


# Claim, words of its statement, how to plant the measured value, the rule's threshold, and which
# side of it supports the claim.
TABLE = [
    ("C1", "high clean accuracy", lambda r, v: accuracy(r, "FGM", "clean", 0, v), 0.90, "above"),
    (
        "C2",
        "blind to the network",
        lambda r, v: reference(r, PURE, "dense mixture", 1, 0.5 + v),
        0.20,
        "above",
    ),
    (
        "C2",
        "does as much as PGD",
        lambda r, v: accuracy(r, "dense mixture", "clean", 1, 0.5 + v),
        0.02,
        "below",
    ),
    ("C3", "restores most", c3_share, 0.5, "above"),
    ("C3", "do harm alone", lambda r, v: reference(r, PUT, "PGD", 1, 0.5 - v), 0.05, "above"),
    (
        "C4",
        "hardly matter on clean data",
        lambda r, v: reference(r, CUT, "dense mixture", 0, 0.5 + v),
        0.05,
        "below",
    ),
    (
        "C5",
        "near the ceiling",
        lambda r, v: reference(r, PURE, "PGD", 1, 0.5 + v),
        0.05,
        "below",
    ),
    (
        "C5",
        "longer adversarial training",
        lambda r, v: r.accuracy_along.__setitem__((slice(None), 3), 0.5 + v),
        0.01,
        "above",
    ),
    (
        "C6",
        "falls many times over",
        lambda r, v: r.kappa_over_alpha.__setitem__((slice(None), 2), 0.5 * v),
        0.1,
        "below",
    ),
    ("C6", "small change of direction", c6_theta, 0.3, "above"),
    (
        "C9",
        "winning tickets win",
        lambda r, v: r.ticket_win_rate.__setitem__(slice(None), 0.5 + v),
        0.2,
        "above",
    ),
    ("C10", "transfer between", c10_share, 0.8, "above"),
    (
        "C10",
        "not to purified",
        lambda r, v: accuracy(r, "transfer", "adversarial", 1, 0.5 - v),
        0.1,
        "below",
    ),
    (
        "C11",
        "random noise",
        lambda r, v: accuracy(r, "random noise", "clean", 1, 0.5 - v),
        0.01,
        "below",
    ),
]
NAMES = [f"{row[0]} {row[1]}" for row in TABLE]


def row_of(r, claim, words):
    (row,) = [row for row in scorecard(r) if row["id"] == claim and words in row["statement"]]
    return row


def judged(claim, words, plant, values):
    r = neutral(len(values))
    plant(r, np.asarray(values))
    return row_of(r, claim, words)


@pytest.mark.parametrize(("claim", "words", "plant", "threshold", "side"), TABLE, ids=NAMES)
def test_verdicts_at_the_edge_of_the_rule(claim, words, plant, threshold, side):
    sign = 1 if side == "above" else -1
    gap = 1e-6
    half = HALF * (ring_widening(4, 0.95) if claim == "C10" else 1)
    for offset, verdict in [
        (half + gap, Verdict.SUPPORTED),
        (half - gap, Verdict.INCONCLUSIVE),
        (0.0, Verdict.INCONCLUSIVE),
        (-half + gap, Verdict.INCONCLUSIVE),
        (-half - gap, Verdict.CONTRADICTED),
    ]:
        mean = threshold + sign * offset
        row = judged(claim, words, plant, mean + SPREAD)
        assert row["verdict"] == verdict, offset
        assert row["measured"] == pytest.approx(mean, abs=1e-9)
        np.testing.assert_allclose(row["ci"], [mean - half, mean + half], atol=1e-9)
        assert row["seeds"] == "4 of 4" and row["regime"] == "planted"
        assert re.match(r"\[[PDM]\]", row["source"]) and row["predicted"]


@pytest.mark.parametrize(("claim", "words", "plant", "threshold", "side"), TABLE, ids=NAMES)
def test_row_and_rule_name_the_threshold_that_is_used(claim, words, plant, threshold, side):
    row = judged(claim, words, plant, threshold + SPREAD)
    rule = row["rule"]
    assert threshold in [float(number) for number in re.findall(r"\d+\.\d+", rule)]
    sign = "within ±" if claim == "C4" else "≥" if side == "above" else "≤"
    assert row["threshold"] == f"{sign} {threshold:g}"
    assert (side in rule or claim == "C4") and rule.startswith("supported if")


@pytest.mark.parametrize(("claim", "words", "plant", "threshold", "side"), TABLE, ids=NAMES)
def test_one_seed_and_undefined_values_are_inconclusive(claim, words, plant, threshold, side):
    far = threshold + (0.05 if side == "above" else -0.05)
    alone = judged(claim, words, plant, [far])
    assert (alone["verdict"], alone["ci"], alone["seeds"]) == (Verdict.INCONCLUSIVE, None, "1 of 1")
    assert alone["measured"] == pytest.approx(far)
    why = (
        "Fewer than three neighbours on the ring of seeds have"
        if claim == "C10"
        else "One seed has"
    )
    assert f"{why} no interval: inconclusive." in alone["rule"]
    if claim == "C10":
        return  # NaN there marks examples made on a failed seed, see below
    undefined = judged(claim, words, plant, [far, np.nan, far, far])
    assert (undefined["verdict"], undefined["ci"]) == (Verdict.INCONCLUSIVE, None)
    assert "An undefined value in some seed" in undefined["rule"]


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1.0, Verdict.SUPPORTED),
        (2.98, Verdict.SUPPORTED),
        (3.0, Verdict.INCONCLUSIVE),
        (3.02, Verdict.CONTRADICTED),
        (1 / 2.98, Verdict.SUPPORTED),
        (1 / 3.0, Verdict.INCONCLUSIVE),
        (1 / 3.02, Verdict.CONTRADICTED),
    ],
)
def test_the_ratio_is_within_a_factor_of_k_over_d(factor, verdict):
    def plant(r, v):
        r.kappa_over_alpha[:, 1] = v

    # A hundredth of the usual spread: the interval is narrower than the steps of the factor.
    row = judged("C3", "order of magnitude", plant, 5 / 64 * factor + SPREAD / 100)
    assert row["verdict"] == verdict and "factor 3 of k/d" in row["rule"]
    assert row["predicted"].startswith("0.0781 = ")


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (1.0, Verdict.SUPPORTED),
        (1.99, Verdict.SUPPORTED),
        (0.51, Verdict.SUPPORTED),
        (2.01, Verdict.OUTSIDE),
        (0.49, Verdict.OUTSIDE),
    ],
)
def test_the_ratio_is_judged_where_neurons_are_active_as_their_features_are(share, verdict):
    def plant(r, v):
        r.kappa_over_alpha[:, 1] = v
        r.active_fraction[:, 1] = share * 5 / 64

    row = judged("C3", "order of magnitude", plant, 5 / 64 + SPREAD / 100)
    assert row["verdict"] == row["verdict_simultaneous"] == verdict
    assert f"here on {share * 5 / 64:.2g} of the samples, {share:.1f} × k/d" in row["statement"]
    alone = "The threshold alone would say 'supported'."
    assert (alone in row["rule"]) == (verdict == Verdict.OUTSIDE)


@pytest.mark.parametrize(
    ("tau", "share", "verdict"),
    [
        (0.044, 1.0, Verdict.CONTRADICTED),
        (0.046, 1.0, Verdict.OUTSIDE),  # τ√k = 0.103
        (0.044, 2.1, Verdict.OUTSIDE),
    ],
)
def test_the_level_after_purification_is_judged_at_small_radii(tau, share, verdict):
    def plant(r, v):
        r.kappa_over_alpha[:, 2] = v
        r.active_fraction[:, 2] = share * 5 / 64
        r.attrs["tau"] = tau

    row = judged("C6", "of order 1/(τ√k·d)", plant, 0.001 + SPREAD / 100)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, Verdict.SUPPORTED), (3.0, Verdict.INCONCLUSIVE), (0.1, Verdict.CONTRADICTED)],
)
def test_the_level_after_purification_is_within_a_factor_of_the_balance(factor, verdict):
    def plant(r, v):
        r.kappa_over_alpha[:, 2] = v
        r.attrs["tau"] = 0.04

    balance = 1 / (0.04 * np.sqrt(5) * 64)
    row = judged("C6", "of order 1/(τ√k·d)", plant, balance * factor + SPREAD / 100)
    assert row["verdict"] == verdict and "within a factor 3" in row["rule"]


def in_box(r, dictionary, tau):
    settings = dense_regime(d=64, norm="linf").model_dump(exclude_none=True, mode="json")
    settings["problem"]["dictionary"] = dictionary
    r.attrs |= {"norm": "linf", "tau": tau, "config": dump(parse(settings))}


@pytest.mark.parametrize(
    ("tau", "verdict"), [(0.0069, Verdict.SUPPORTED), (0.0072, Verdict.OUTSIDE)]
)
def test_in_a_box_and_a_flat_dictionary_the_level_is_that_of_its_reach(tau, verdict):
    """ε√(2dk/π) passes 0.1 at ε = 0.0070: d = 64, k = 5."""
    balance = 1 / (tau * np.sqrt(2 * 64 * 5 / np.pi) * 64)

    def plant(r, v):
        r.kappa_over_alpha[:, 2] = v
        in_box(r, "haar", tau)

    row = judged("C6", "of order 1/(ε√(2dk/π)·d)", plant, balance + SPREAD / 100)
    assert row["verdict"] == verdict and f"{balance:.3g}" in row["predicted"]
    rows = judged("C6", "purification: κ/α falls", plant, balance + SPREAD / 100)
    assert "a fall by k·ε√(2dk/π) = " in rows["rule"]


def test_in_a_box_over_single_features_the_mixture_vanishes_and_the_window_has_no_lower_end():
    r = neutral()
    in_box(r, "identity", 0.021)
    rows = scorecard(r)
    assert not any("of order" in row["statement"] for row in rows if row["id"] == "C6")
    (window,) = [row["predicted"] for row in rows if "inside the window" in row["predicted"]]
    assert window == "→ 1 inside the window 1.0 < k < 8.0"


@pytest.mark.parametrize("mean", [0.3, -0.3])
def test_harm_and_help_both_count_as_a_change_of_the_clean_accuracy(mean):
    def plant(r, v):
        reference(r, CUT, "dense mixture", 0, 0.5 + v)

    assert judged("C4", "hardly matter", plant, mean + SPREAD)["verdict"] == Verdict.CONTRADICTED


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_keeps_the_contract_of_claims(claim):
    fp.testing.check_claim(claim, neutral())


def test_two_runs_are_held_together():
    one, two = (rows(run_cases(neutral())) for _ in range(2))
    both = rows(run_cases(neutral()) + run_cases(neutral()))
    alone, together = one[0]["held_together"], both[0]["held_together"]
    assert together == 2 * alone > 20 and len(both) == len(one) + len(two)
    assert [row["ci"] for row in both] == [row["ci"] for row in one + two]
    for narrow, wide in zip(one + two, both, strict=True):
        if narrow["ci"]:
            assert wide["ci_simultaneous"][0] < narrow["ci_simultaneous"][0] < narrow["ci"][0]


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (0.3, Verdict.ATTACKED_ONLY),
        (HALF + 1e-6, Verdict.ATTACKED_ONLY),
        (0.0, Verdict.ATTACKED_ONLY),
        (-HALF + 1e-6, Verdict.ATTACKED_ONLY),
        (-HALF - 1e-6, Verdict.CONTRADICTED),
    ],
)
def test_attacks_never_support_robustness_against_any_perturbation(mean, verdict):
    def plant(r, v):
        accuracy(r, "PGD", "adversarial", 1, 0.5 + v)

    row = judged("C5", "any perturbation", plant, mean + SPREAD)
    assert row["verdict"] == verdict
    assert "contradicted if the rise is not above 0" in row["rule"]
    assert judged("C5", "any perturbation", plant, [0.3])["verdict"] == Verdict.INCONCLUSIVE


def with_certificates(certified, attacked, clean_attacked=0.3, ceiling=0.5):
    """A run whose purified network has these two sides at τ, in four seeds."""
    r = neutral()
    sides = {}
    for name, after, before in (
        ("certified_accuracy", certified, 0.0), ("attacked_accuracy", attacked, clean_attacked)
    ):  # fmt: skip
        table = np.full((4, 3, 3), np.nan)
        table[:, 1, 1], table[:, 2, 1] = before, after
        sides[name] = (("seed", "phase", "radius"), table)
    reference(r, PURE, "PGD", 1, ceiling)
    return r.assign(sides)


@pytest.mark.parametrize(
    ("certified", "attacked", "verdict"),
    [
        (-0.1 + HALF + 1e-6, 0.0, Verdict.SUPPORTED),
        (-0.1 + HALF - 1e-6, 0.0, Verdict.INCONCLUSIVE),
        # The certificate is too weak to say, and the attack leaves room.
        (-0.4, -0.1, Verdict.INCONCLUSIVE),
        (-0.4, -0.1 - HALF + 1e-6, Verdict.INCONCLUSIVE),
        # Not even what the attack leaves is enough.
        (-0.4, -0.1 - HALF - 1e-6, Verdict.CONTRADICTED),
    ],
)
def test_any_perturbation_is_judged_from_both_sides(certified, attacked, verdict):
    r = with_certificates(0.5 + certified + SPREAD, 0.5 + attacked + SPREAD)
    row = row_of(r, "C5", "ANY perturbation")
    assert row["verdict"] == verdict and row["measured"] == pytest.approx(certified)
    assert row["threshold"] == "≥ −0.1" and "at or above −0.1," in row["rule"]
    assert "attacked instead of the certified" in row["rule"]


@pytest.mark.parametrize(
    ("words", "threshold", "side"),
    [("rise is real", 0.05, 1), ("certificate and attack meet", 0.02, -1)],
)
def test_the_rise_and_the_width_of_the_sandwich(words, threshold, side):
    for offset, verdict in [
        (HALF + 1e-6, Verdict.SUPPORTED),
        (HALF - 1e-6, Verdict.INCONCLUSIVE),
        (-HALF - 1e-6, Verdict.CONTRADICTED),
    ]:
        value = threshold + side * offset
        # Rise: certified − clean's attacked; width: attacked − certified, its own spread.
        r = (
            with_certificates(0.3 + value + SPREAD, 0.9)
            if side > 0
            else with_certificates(0.4, 0.4 + value + SPREAD)
        )
        row = row_of(r, "C5", words)
        assert row["verdict"] == verdict, offset
        assert row["measured"] == pytest.approx(value)
        assert f"{threshold:.2f}" in row["rule"]


def test_one_certified_seed_is_inconclusive_and_no_certificate_has_no_such_rows():
    r = with_certificates(0.5, 0.5).isel(seed=[0])
    assert row_of(r, "C5", "ANY perturbation")["verdict"] == Verdict.INCONCLUSIVE
    plain = [row["statement"] for row in scorecard(neutral()) if row["id"] == "C5"]
    assert not any("ANY" in text or "meet" in text or "rise is real" in text for text in plain)


def test_the_fold_of_the_fall_is_in_the_statement():
    r = neutral()
    r.kappa_over_alpha[:, 1] = [0.2, 0.2, 0.3, 0.3]
    r.kappa_over_alpha[:, 2] = [-0.001, 0.001, 0.002, -0.001]
    row = row_of(r, "C6", "falls many times over")
    assert "a 200-fold fall" in row["statement"]  # 0.25 over the mean |κ/α| of 0.00125
    assert row["measured"] == pytest.approx(np.mean([0.005, 0.005, 1 / 150, 1 / 300]))


def test_overlaps_are_medians_over_carriers():
    r = neutral()
    r.theta_clean_adversarial[:] = [0.9, 0.8, 0.7, 0.0, 0.0, 0.0]
    r.carrier[:, 1] = [1, 1, 1, 0, 0, 0]
    assert row_of(r, "C6", "small change of direction")["measured"] == pytest.approx(0.8 - 0.5)


def test_failed_seeds_are_left_out_and_counted():
    r = neutral(5)
    accuracy(r, "FGM", "clean", 0, [0.95, 0.0, 0.95, 0.95, 0.96])
    accuracy(r, "transfer", "adversarial", 1, [0.4, 0.9, 0.0, 0.42, 0.44])
    r["status"] = ("seed", np.array(["ok", "diverged", "ok", "ok", "ok"]))
    row = row_of(r, "C1", "high clean accuracy")
    assert row["seeds"] == "4 of 5; 1 diverged"
    assert row["measured"] == pytest.approx(0.9525)
    # The third seed was attacked with examples made on the diverged second one.
    row = row_of(r, "C10", "not to purified")
    assert row["seeds"] == "3 of 5; 1 diverged" and row["measured"] == pytest.approx(0.5 - 0.42)
    assert {row["seeds"] for row in scorecard(r)} == {"4 of 5; 1 diverged", "3 of 5; 1 diverged"}


def test_without_a_finished_seed_there_is_no_verdict_and_no_value():
    r = neutral(2)
    r["status"] = ("seed", np.array(["dead", "untrained"]))
    r["reason"] = ("seed", np.array(["dead since step 3 of the clean phase", "no fall"]))
    rows = scorecard(r)
    assert {row["id"] for row in rows} == {row["id"] for row in scorecard(neutral(2))}
    for row in rows:
        assert (row["verdict"], row["ci"]) == (Verdict.NO_VERDICT, None)
        assert np.isnan(row["measured"]) and row["verdict_simultaneous"] == Verdict.NO_VERDICT
        assert (row["held_together"], row["ci_simultaneous"], row["sensitivity"]) == (0, None, [])
        assert row["seeds"] == "0 of 2; 1 dead; 1 untrained"
        assert row["rule"].startswith("no verdict: training failed: seed 1 (dead since step 3 of")


def test_seeds_that_tie_on_few_points_give_no_verdict():
    r = neutral(2)
    r.attrs["test_samples"] = 20
    accuracy(r, "FGM", "clean", 0, 1.0)
    for row in scorecard(r):
        none = Verdict.INCONCLUSIVE, Verdict.ATTACKED_ONLY, Verdict.OUTSIDE
        assert row["verdict"] in none, row["statement"]
    low, high = row_of(r, "C1", "high clean accuracy")["ci"]
    assert 0 < low < 0.9 and high == 1.0


def test_without_transfer_there_is_no_row_for_it():
    r = neutral()
    for phase in PHASES:
        accuracy(r, "transfer", phase, slice(None), np.nan)
    ids = [row["id"] for row in scorecard(r)]
    assert "C10" not in ids and {"C1", "C2", "C3", "C4", "C5", "C6", "C9", "C11"} == set(ids)


def test_ids_are_in_order():
    ids = [int(row["id"][1:]) for row in scorecard(neutral())]
    assert ids == sorted(ids) and set(ids) == {1, 2, 3, 4, 5, 6, 9, 10, 11}


def test_the_page_states_every_claim_with_its_threshold():
    """One row of docs/claims.md per claim, in the same order; those of readouts come after.

    C14 has a row for each of its rules, of which the first and the last claim have one each.
    """
    page = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| (C\d+) \| [^|]+ \| ([^|]+) \|$", page, re.M)
    closure = of_closure.CLAIMS
    claims = [*CLAIMS, *of_readouts.CLAIMS, closure[0], closure[-1]]
    assert len({claim.rule for claim in closure}) == 2
    assert [id for id, _ in stated] == [claim.id for claim in claims]
    for (_, words), claim in zip(stated, claims, strict=True):
        match claim.rule:
            case AtLeast(threshold):
                assert words[0] == "≥" and float(words[1:].replace("−", "-")) == threshold
            case AtMost(threshold):
                assert words[0] == "≤" and float(words[1:]) == threshold
            case WithinDistance(distance):
                assert words == f"within ± {distance:g}"
            case WithinFactor(factor):
                assert words.startswith(f"within {factor:g} × of ")
            case FromBothSides(shortfall):
                assert words.startswith(f"≥ −{shortfall:.2f}; contradicted if")
            case AttackedOnly():
                assert words == "none: attacked only; contradicted if not above 0"
            case other:
                raise AssertionError(other)
