"""The verdicts that a claim can get: the word, the sign and the tone of each stand here and nowhere
else (docs/claims.md).
"""

import enum

from featpur_sim.runs import model_classes


class Tone(enum.Enum):
    """What a verdict says of its claim. The page and the terminal give each tone a colour."""

    GOOD = enum.auto()
    BAD = enum.auto()
    PARTLY = enum.auto()
    """Evidence, but not of all that is claimed."""
    OPEN = enum.auto()
    FAILED = enum.auto()
    """Nothing was measured."""


class Verdict(enum.StrEnum):
    """A verdict is its word: that is what files hold.

    Attributes:
        sign: reads without colour.
        tone: see `Tone`.

    >>> Verdict("supported").sign, Verdict.SUPPORTED.tone
    ('✓', <Tone.GOOD: 1>)
    """

    sign: str
    tone: Tone

    SUPPORTED = "supported", "✓", Tone.GOOD
    CONTRADICTED = "contradicted", "✗", Tone.BAD
    INCONCLUSIVE = "inconclusive at this size", "?", Tone.OPEN
    OUTSIDE = "outside the prediction's range", "○", Tone.OPEN
    ATTACKED_ONLY = "attacked only", "◐", Tone.PARTLY
    NO_VERDICT = "no verdict", "∅", Tone.FAILED
    # The labels of C8: what is known of a class of models.
    PROVED = model_classes.PROVED, "■", Tone.GOOD
    BOUNDED = model_classes.BOUNDED, "□", Tone.PARTLY
    MEASURED = model_classes.MEASURED, "◇", Tone.PARTLY
    COUNTEREXAMPLE = model_classes.COUNTEREXAMPLE, "≠", Tone.BAD

    def __new__(cls, word: str, sign: str, tone: Tone):
        verdict = str.__new__(cls, word)
        verdict._value_ = word
        verdict.sign, verdict.tone = sign, tone
        return verdict
