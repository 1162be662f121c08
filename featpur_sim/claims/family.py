"""The rows of a scorecard by claim: one verdict for each claim and regime, never better than a row.

A claim is said by several rows, and it holds only if all of them do: it is a conjunction. So the
verdict of the family is that of its worst row. One row that is contradicted makes the family
contradicted, whatever the others say. Where none is, one that is open leaves it open: a prediction
that does not cover the run, or an interval that holds the threshold, is not evidence, and neither
others' agreement nor their number makes up for it. No average and no majority: five rows do not
outvote the sixth. A row of which nothing is predicted, a measurement beside the claim, does not
count. What that hides (contradicted in one row of six is not contradicted in six) the
counts of `Family.counts` say, and they go wherever the verdict goes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from featpur_sim._ground.rows import Row
from featpur_sim.claims.claim import NO_PREDICTION
from featpur_sim.claims.meanings import MEANINGS, TITLES
from featpur_sim.claims.verdict import Verdict

WORST_FIRST: tuple[Verdict, ...] = (
    Verdict.CONTRADICTED,
    Verdict.COUNTEREXAMPLE,
    # Open: nothing was measured, it does not decide, or the prediction does not speak of this run.
    Verdict.NO_VERDICT,
    Verdict.INCONCLUSIVE,
    Verdict.OUTSIDE,
    # Evidence, but not of all that is claimed.
    Verdict.ATTACKED_ONLY,
    Verdict.MEASURED,
    Verdict.BOUNDED,
    Verdict.SUPPORTED,
    Verdict.PROVED,
)
"""Every verdict, from what counts most against a claim to what counts most for it."""

RULE = (
    "A claim is judged by all its rows and holds only if all of them do: the verdict is that of "
    "its worst row, so one contradicted row makes it contradicted and, where there is none, one "
    "open row leaves it open; a row without a prediction does not count. The counts say how many "
    "rows got which verdict."
)
"""The rule in a reader's words."""


class Family(NamedTuple):
    """The rows of one claim in one regime, at least one."""

    id: str
    regime: str
    rows: tuple[Row, ...]

    @property
    def counting(self) -> tuple[Row, ...]:
        """The rows that the verdict rests on: those with a prediction, or all if none has one."""
        predicted = tuple(row for row in self.rows if row.get("predicted") != NO_PREDICTION)
        return predicted or self.rows

    @property
    def decisive(self) -> Row:
        """The worst row; of several, the one worst when all are held together, then the first."""
        return min(
            self.counting, key=lambda r: (_rank(r["verdict"]), _rank(r["verdict_simultaneous"]))
        )

    @property
    def verdict(self) -> Verdict:
        """That of the worst row."""
        return Verdict(self.decisive["verdict"])

    @property
    def together(self) -> Verdict:
        """That of the worst row where all rows of the scorecard are held together."""
        return min((Verdict(row["verdict_simultaneous"]) for row in self.counting), key=_rank)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many rows got which verdict, worst first."""
        found = Counter(row["verdict"] for row in self.rows)
        return {verdict: found[verdict] for verdict in WORST_FIRST if found[verdict]}

    @property
    def share(self) -> str:
        """In how many of the rows the verdict stands, in words; empty of a single row."""
        size, same = len(self.rows), self.counts[self.verdict]
        if size == 1:
            return ""
        return f"in all {size} rows" if same == size else f"in {same} of {size} rows"

    @property
    def others(self) -> dict[Verdict, int]:
        """`counts` without the verdict."""
        return {verdict: n for verdict, n in self.counts.items() if verdict != self.verdict}

    def __str__(self) -> str:
        """The verdict with its counts.

        >>> row = {"verdict": "supported", "verdict_simultaneous": "supported"}
        >>> print(Family("C5", "run", (row, row | {"verdict": "contradicted"})))
        contradicted in 1 of 2 rows; 1 supported
        >>> print(Family("C1", "run", (row,)))
        supported
        """
        others = ", ".join(f"{n} {verdict}" for verdict, n in self.others.items())
        return f"{self.verdict} {self.share}".strip() + (f"; {others}" if others else "")


def families(rows: Sequence[Row]) -> list[Family]:
    """The rows of a scorecard by claim and regime.

    Args:
        rows: of `featpur_sim.claims.claim.rows`.

    Returns:
        In the order of `MEANINGS`, then claims of the user's as they come; of one claim, regimes
        as they come. Every row is in exactly one.

    Raises:
        ValueError: a row has a verdict that is none.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        Verdict(row["verdict"])
        groups.setdefault((row["id"], row["regime"]), []).append(row)
    seen = list(dict.fromkeys([*MEANINGS, *(name for name, _ in groups)]))
    found = [Family(name, regime, tuple(group)) for (name, regime), group in groups.items()]
    return sorted(found, key=lambda family: seen.index(family.id))


def title(family: Family) -> str:
    """A claim in a few words; one of the user's by the statement of its first row."""
    return TITLES[family.id] if family.id in TITLES else family.rows[0]["statement"]


def meaning(family: Family) -> tuple[str, str]:
    """What a claim says, and where it is from; of one of the user's, its statements."""
    if family.id in MEANINGS:
        return MEANINGS[family.id]
    said, sources = (
        "; ".join(dict.fromkeys(row[key] for row in family.rows)) for key in ("statement", "source")
    )
    return said, sources


def _rank(verdict: str) -> int:
    return WORST_FIRST.index(Verdict(verdict))
