"""The words of the verdicts, which saved scorecards hold, and their signs."""

from featpur_sim.claims.verdict import Tone, Verdict


def test_the_words_are_those_of_saved_scorecards():
    assert [verdict.value for verdict in Verdict] == [
        "supported",
        "contradicted",
        "inconclusive at this size",
        "outside the prediction's range",
        "attacked only",
        "no verdict",
        "proved below this network",
        "bounded, not separated",
        "measured best member",
        "counterexample",
    ]


def test_a_verdict_reads_without_colour():
    assert len({verdict.sign for verdict in Verdict}) == len(Verdict)
    assert {verdict.tone for verdict in Verdict} == set(Tone)
