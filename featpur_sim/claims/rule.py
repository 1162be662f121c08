"""Rules: each judges an interval, and says in words how. A threshold stands once (docs/claims.md).

No rule is widened to let a claim pass. What has no interval is judged by none: it is inconclusive
(`featpur_sim.claims.claim.rows`).

Beside its sentence a rule has ``bar``, its threshold in a few signs, which stands in the row; and
``scaled``, the same rule with another tolerance, which shows what verdict hangs on the number
chosen. A tolerance is the distance of the threshold from what is ideally measured.
"""

from typing import NamedTuple

from featpur_sim.claims.measured import Measured
from featpur_sim.claims.verdict import Verdict


class AtLeast(NamedTuple):
    """Supported if the whole interval is at or above the threshold, contradicted if below.

    >>> rule = AtLeast(0.9, "the clean accuracy")
    >>> rule.judge(Measured(0.93, 0.91, 0.95, seeds=5))
    <Verdict.SUPPORTED: 'supported'>
    >>> str(rule)
    'supported if the interval of the clean accuracy lies at or above 0.9, contradicted if ...'
    """

    threshold: float
    of: str
    note: str = ""
    ideal: float = 0.0

    @property
    def bar(self) -> str:
        """The threshold."""
        return f"≥ {self.threshold:g}"

    def scaled(self, by: float) -> "AtLeast":
        """The rule with so many times the tolerance."""
        return self._replace(threshold=self.ideal + by * (self.threshold - self.ideal))

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        if found.low < self.threshold <= found.high:
            return Verdict.INCONCLUSIVE
        return Verdict.SUPPORTED if found.low >= self.threshold else Verdict.CONTRADICTED

    def __str__(self) -> str:
        sides = f"at or above {self.threshold:g}, contradicted if below it."
        return f"supported if the interval of {self.of} lies {sides}{self.note}"


class AtMost(NamedTuple):
    """Supported if the whole interval is at or below the threshold, contradicted if above."""

    threshold: float
    of: str
    note: str = ""

    @property
    def bar(self) -> str:
        """The threshold."""
        return f"≤ {self.threshold:g}"

    def scaled(self, by: float) -> "AtMost":
        """The rule with so many times the tolerance."""
        return self._replace(threshold=by * self.threshold)

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        if found.low <= self.threshold < found.high:
            return Verdict.INCONCLUSIVE
        return Verdict.SUPPORTED if found.high <= self.threshold else Verdict.CONTRADICTED

    def __str__(self) -> str:
        sides = f"at or below {self.threshold:g}, contradicted if above it."
        return f"supported if the interval of {self.of} lies {sides}{self.note}"


class WithinFactor(NamedTuple):
    """Supported if the interval is within a factor of the prediction, either way."""

    factor: float
    of: str
    """The prediction in words."""
    note: str = ""

    @property
    def bar(self) -> str:
        """The tolerance."""
        return f"within × {self.factor:.3g}"

    def scaled(self, by: float) -> "WithinFactor":
        """The rule with so many times the tolerance in the logarithm."""
        return self._replace(factor=self.factor**by)

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        return _inside(found, found.predicted / self.factor, found.predicted * self.factor)

    def __str__(self) -> str:
        return _within(f"a factor {self.factor:g} of {self.of}") + self.note


class WithinDistance(NamedTuple):
    """Supported if the interval is within a distance of the prediction, either way."""

    distance: float
    of: str
    """The prediction in words."""
    note: str = ""

    @property
    def bar(self) -> str:
        """The tolerance."""
        return f"within ± {self.distance:g}"

    def scaled(self, by: float) -> "WithinDistance":
        """The rule with so many times the tolerance."""
        return self._replace(distance=by * self.distance)

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        return _inside(found, found.predicted - self.distance, found.predicted + self.distance)

    def __str__(self) -> str:
        return _within(f"{self.distance:g} of {self.of}") + self.note


def _inside(found: Measured, least: float, greatest: float) -> Verdict:
    """Supported if the interval lies inside the bounds, contradicted if wholly outside."""
    if found.low >= least and found.high <= greatest:
        return Verdict.SUPPORTED
    outside = found.high < least or found.low > greatest
    return Verdict.CONTRADICTED if outside else Verdict.INCONCLUSIVE


def _within(bounds: str) -> str:
    return f"supported if the interval lies within {bounds}, contradicted if outside it."


class FromBothSides(NamedTuple):
    """For lower bounds: what not even the upper bounds reach is contradicted (`Measured.most`)."""

    shortfall: float

    @property
    def bar(self) -> str:
        """The threshold."""
        return f"≥ −{self.shortfall:g}"

    def scaled(self, by: float) -> "FromBothSides":
        """The rule with so many times the tolerance."""
        return self._replace(shortfall=by * self.shortfall)

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        if found.low >= -self.shortfall:
            return Verdict.SUPPORTED
        return Verdict.CONTRADICTED if found.most < -self.shortfall else Verdict.INCONCLUSIVE

    def __str__(self) -> str:
        return (
            "proved robustness against attacked ceiling, the comparison that is hardest on the "
            "claim: supported if the interval of the difference lies at or above "
            f"−{self.shortfall:g}, contradicted if the same difference with the attacked instead "
            "of the certified accuracy lies below it."
        )


class AttackedOnly(NamedTuple):
    """For what attacks can contradict but not show."""

    @property
    def bar(self) -> str:
        """There is none that would support the claim."""
        return ""

    def scaled(self, by: float) -> "AttackedOnly":
        """The same: it has no tolerance."""
        return self

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        return Verdict.CONTRADICTED if found.high <= 0 else Verdict.ATTACKED_ONLY

    def __str__(self) -> str:
        return (
            "an attack cannot show robustness against any perturbation, and this run certified no "
            "points: contradicted if the rise is not above 0, otherwise 'attacked only'."
        )


class ByEvidence(NamedTuple):
    """The verdict is the kind of evidence, whatever the interval."""

    verdict: Verdict
    words: str

    @property
    def bar(self) -> str:
        """There is none."""
        return ""

    def scaled(self, by: float) -> "ByEvidence":
        """The same: it has no tolerance."""
        return self

    def judge(self, found: Measured) -> Verdict:
        """The verdict on what was measured."""
        return self.verdict

    def __str__(self) -> str:
        return f"'{self.verdict}': {self.words}"


Rule = AtLeast | AtMost | WithinFactor | WithinDistance | FromBothSides | AttackedOnly | ByEvidence
