"""A claim's verdict over its rows: never better than any of them, and the counts say the rest."""

import itertools

import pytest

from featpur_sim.claims.claim import NO_PREDICTION, Claim, cases, rows
from featpur_sim.claims.family import WORST_FIRST, Family, families, meaning, title
from featpur_sim.claims.meanings import MEANINGS, TITLES
from featpur_sim.claims.measured import over_seeds
from featpur_sim.claims.rule import AtLeast
from featpur_sim.claims.verdict import Tone, Verdict


def row(verdict, name="C5", regime="dense", together=None, **more):
    return {"id": name, "regime": regime, "verdict": str(verdict)} | {
        "verdict_simultaneous": str(together or verdict),
        **more,
    }


def of(*verdicts):
    (family,) = families([row(verdict) for verdict in verdicts])
    return family


def test_every_verdict_has_its_place_and_no_tone_stands_above_a_worse_one():
    assert sorted(WORST_FIRST) == sorted(Verdict) and len(set(WORST_FIRST)) == len(WORST_FIRST)
    worse = [Tone.BAD, Tone.FAILED, Tone.OPEN, Tone.PARTLY, Tone.GOOD]
    at = [worse.index(verdict.tone) for verdict in WORST_FIRST]
    assert at == sorted(at)


@pytest.mark.parametrize("pair", list(itertools.product(Verdict, Verdict)))
def test_no_family_looks_better_than_any_of_its_rows(pair):
    family = of(*pair)
    assert all(WORST_FIRST.index(family.verdict) <= WORST_FIRST.index(one) for one in pair)
    assert family.verdict in pair
    assert families([row(one) for one in reversed(pair)])[0].verdict == family.verdict


def test_supported_means_supported_in_every_row():
    assert of(*["supported"] * 5).verdict is Verdict.SUPPORTED
    for open_row in (Verdict.INCONCLUSIVE, Verdict.OUTSIDE, Verdict.NO_VERDICT):
        assert of(*["supported"] * 5, open_row).verdict is open_row


def test_one_contradicted_row_is_not_outvoted_and_the_counts_say_that_it_is_one():
    family = of("supported", Verdict.INCONCLUSIVE, "supported", "contradicted", "supported")
    assert family.verdict is Verdict.CONTRADICTED
    assert list(family.counts.items()) == [
        (Verdict.CONTRADICTED, 1),
        (Verdict.INCONCLUSIVE, 1),
        (Verdict.SUPPORTED, 3),
    ]
    words = "contradicted in 1 of 5 rows; 1 inconclusive at this size, 3 supported"
    assert str(family) == words
    assert str(of("supported", "supported")) == "supported in all 2 rows"


def test_held_together_rows_count_apart_and_settle_which_row_is_decisive():
    first, second = row("supported"), row("supported", together=Verdict.INCONCLUSIVE)
    (family,) = families([first, second])
    assert family.verdict is Verdict.SUPPORTED and family.decisive is second
    assert family.together is Verdict.INCONCLUSIVE and family.counts == {Verdict.SUPPORTED: 2}
    assert families([first, first | {"seeds": "other"}])[0].decisive is first


def test_rows_are_grouped_in_the_order_of_the_claims_and_none_is_lost():
    given = [
        row("supported", name, regime)
        for regime, name in [("a", "M1"), ("a", "C11"), ("a", "C2"), ("b", "C2"), ("a", "C2")]
    ]
    found = families(given)
    assert [(f.id, f.regime, len(f.rows)) for f in found] == [
        ("C2", "a", 2),
        ("C2", "b", 1),
        ("C11", "a", 1),
        ("M1", "a", 1),
    ]
    assert families([]) == []
    with pytest.raises(ValueError, match="proven"):
        families([row("proven")])


def test_every_claim_has_a_title_and_an_own_claim_is_called_by_its_statement():
    assert list(TITLES) == list(MEANINGS)
    assert title(of("supported")) == TITLES["C5"] and meaning(of("supported")) == MEANINGS["C5"]
    more = {"source": "[D]"}
    given = [row("supported", "M1", statement=s, **more) for s in ("it is", "it was", "it is")]
    (own,) = families(given)
    assert title(own) == "it is" and meaning(own) == ("it is; it was", "[D]")


def test_rows_that_the_package_made():
    def claim(bar):
        return Claim("M1", AtLeast(bar, "it"), over_seeds, "1", "[D]", "it is one")

    found = cases([claim(0.5), claim(2.0)], [1.0, 1.01, 0.99], "run", str)
    (family,) = families(rows(found))
    assert isinstance(family, Family) and family.decisive["threshold"] == "≥ 2"
    assert str(family) == "contradicted in 1 of 2 rows; 1 supported"


def test_a_row_without_a_prediction_does_not_count():
    said = {"verdict": "supported", "verdict_simultaneous": "supported", "predicted": "0"}
    beside = said | {"verdict": "contradicted", "predicted": NO_PREDICTION}
    beside |= {"verdict_simultaneous": "contradicted"}
    both = Family("C5", "run", (said, beside))
    assert str(both) == "supported in 1 of 2 rows; 1 contradicted"
    assert both.together == Verdict.SUPPORTED and both.decisive is said
    assert Family("C5", "run", (beside,)).verdict == Verdict.CONTRADICTED
