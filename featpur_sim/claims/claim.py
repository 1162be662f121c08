"""A claim: what is said, by whom, what is measured for it, and the rule that judges that."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import numpy as np

from featpur_sim._ground.rows import Row
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import Rule
from featpur_sim.claims.verdict import Verdict

Subject = TypeVar("Subject")


@dataclasses.dataclass(frozen=True)
class Claim(Generic[Subject]):
    """One line of a table of claims.

    The three texts may hold names in braces: ``predicted``, and the words of what was measured.
    """

    id: str
    rule: Rule
    measure: Callable[[Subject], Measured | None]
    """None where the subject cannot speak to the claim."""
    predicted: str
    source: str
    statement: str


def judge(
    claims: Iterable[Claim[Subject]],
    subject: Subject,
    regime: str,
    count: Callable[[int], str],
    note: str = "",
) -> list[Row]:
    """The rows of a scorecard: one for every claim that the subject can speak to.

    Args:
        claims: in the order of the rows.
        subject: what they are about: a run, say.
        regime: its name.
        count: says in words how many seeds a value is of.
        note: what every rule adds.

    Returns:
        Rows with ``id, regime, statement, source, predicted, measured, ci, verdict, rule, seeds``;
        ``ci`` is None and the verdict inconclusive where there is no interval.
    """
    rows = []
    for claim in claims:
        found = claim.measure(subject)
        if found is None:
            continue
        none = np.isnan(found.low)
        words = {"predicted": found.predicted, **found.words}
        rows.append(
            {
                "id": claim.id,
                "regime": regime,
                "statement": claim.statement.format_map(words),
                "source": claim.source.format_map(words),
                "predicted": claim.predicted.format_map(words),
                "measured": found.mean,
                "ci": None if none else [found.low, found.high],
                "verdict": (Verdict.INCONCLUSIVE if none else claim.rule.judge(found)).value,
                "rule": f"{claim.rule}{found.note}{note}",
                "seeds": count(found.seeds),
            }
        )
    return rows
