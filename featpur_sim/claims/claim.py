"""A claim: what is said, by whom, what is measured for it, and the rule that judges that."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from featpur_sim._ground.rows import Row
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import ByEvidence, Rule
from featpur_sim.claims.verdict import Verdict

Subject = TypeVar("Subject")

ERROR = 0.05
"""The chance that an interval misses what it is of; held together, that any of them does."""
NO_PREDICTION = "no prediction"
"""What a claim predicts that says what was measured, and no more."""
SCALES = 0.5, 1.0, 2.0
"""The tolerances of the sensitivity table in units of the stated one."""


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


class Case(NamedTuple):
    """A claim with what was measured for it."""

    claim: Claim[Any]
    found: Measured
    regime: str
    seeds: str
    """How many the value is of, in words."""
    note: str = ""
    """What the rule adds."""
    failed: str = ""
    """Why nothing was measured; empty where something was."""

    @property
    def judged(self) -> bool:
        """Whether the verdict hangs on an interval."""
        by_interval = not isinstance(self.claim.rule, ByEvidence)
        return by_interval and not self.failed and not np.isnan(self.found.low)


def cases(
    claims: Iterable[Claim[Subject]],
    subject: Subject,
    regime: str,
    count: Callable[[int], str],
    note: str = "",
    failed: str = "",
) -> list[Case]:
    """What was measured for every claim that the subject can speak to.

    Args:
        claims: in the order of the rows.
        subject: what they are about: a run, say.
        regime: its name.
        count: says in words how many seeds a value is of.
        note: what every rule adds.
        failed: why nothing was measured.
    """
    measured = ((claim, claim.measure(subject)) for claim in claims)
    return [
        Case(claim, found, regime, count(found.seeds), note, failed)
        for claim, found in measured
        if found is not None
    ]


def rows(cases: Sequence[Case]) -> list[Row]:
    """The rows of a scorecard, one for each case, judged alone and held together.

    Held together, all n intervals that a verdict hangs on hold the truth with probability 95 %:
    each has the level 1 − 0.05/n (Bonferroni), which holds however they depend on each other.

    Returns:
        Rows with ``id, regime, statement, source, predicted, threshold, measured, ci, verdict,
        ci_simultaneous, verdict_simultaneous, held_together, sensitivity, rule, seeds``. ``ci`` is
        None and the verdict inconclusive where there is no interval; ``held_together`` is n;
        ``sensitivity`` has the verdict with half, once and twice the tolerance, and is empty
        where a rule has none.
    """
    together = sum(case.judged for case in cases)
    return [_row(case, together) for case in cases]


def _row(case: Case, together: int) -> Row:
    claim, found = case.claim, case.found
    words = {"predicted": found.predicted, **found.words}
    at = found.at
    wide = at(1 - ERROR / together) if case.judged and at is not None else found
    row: Row = {
        "id": claim.id,
        "regime": case.regime,
        "statement": claim.statement.format_map(words),
        "source": claim.source.format_map(words),
        "predicted": claim.predicted.format_map(words),
        "threshold": claim.rule.bar,
        "measured": found.mean,
        "ci": _ends(found),
        "verdict": _verdict(claim.rule, found).value,
        "ci_simultaneous": _ends(wide) if case.judged else None,
        "verdict_simultaneous": _verdict(claim.rule, wide).value,
        "held_together": together,
        "sensitivity": _sensitivity(claim.rule, found),
        "rule": f"{claim.rule}{found.note}{_range(claim.rule, found)}{case.note}",
        "seeds": case.seeds,
    }
    if case.failed:
        no = Verdict.NO_VERDICT.value
        row |= {"measured": float("nan"), "ci": None, "verdict": no, "verdict_simultaneous": no}
        row |= {"sensitivity": [], "rule": case.failed}
    return row


def _ends(found: Measured) -> list[float] | None:
    return None if np.isnan(found.low) else [found.low, found.high]


def _verdict(rule: Rule, found: Measured) -> Verdict:
    if not all(condition.met for condition in found.conditions):
        return Verdict.OUTSIDE
    return Verdict.INCONCLUSIVE if np.isnan(found.low) else rule.judge(found)


def _sensitivity(rule: Rule, found: Measured) -> list[Row]:
    scaled = [rule.scaled(by) for by in SCALES]
    if len(set(scaled)) == 1:
        return []
    return [{"threshold": one.bar, "verdict": _verdict(one, found).value} for one in scaled]


def _range(rule: Rule, found: Measured) -> str:
    """What the rule adds for a prediction that does not cover every run."""
    if not found.conditions:
        return ""
    said = f" The prediction covers runs with {', '.join(map(str, found.conditions))}"
    if all(condition.met for condition in found.conditions):
        return f"{said}."
    alone = _verdict(rule, found._replace(conditions=()))
    return f"{said}: '{Verdict.OUTSIDE}'. The threshold alone would say '{alone}'."


def summary(rows: Sequence[Row]) -> str:
    """How many rows got which verdict, alone and held together.

    >>> row = {"verdict": "supported", "verdict_simultaneous": "contradicted", "held_together": 2}
    >>> summary([row, row])
    '2 supported; all 2 held together: 2 contradicted'
    """
    sizes = " and ".join(f"all {n}" for n in dict.fromkeys(row["held_together"] for row in rows))
    return f"{_counted(rows, 'verdict')}; {sizes} held together: " + _counted(
        rows, "verdict_simultaneous"
    )


def _counted(rows: Sequence[Row], key: str) -> str:
    found = Counter(row[key] for row in rows)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])
