"""The contract of `featpur_sim.claims.Claim`: a statement, its source, a rule that can fail."""

import inspect
import string
from collections.abc import Callable
from typing import Any

import numpy as np

from featpur_sim._ground.expected import expect, expect_methods
from featpur_sim._ground.switches import steady
from featpur_sim.claims.claim import Claim, cases, rows
from featpur_sim.claims.measured import Measured
from featpur_sim.claims.rule import ByEvidence
from featpur_sim.claims.verdict import Verdict
from featpur_sim.testing._contract import Contract

_TEXTS = {
    "id": "a short name, C1 say",
    "statement": "what is claimed, in a sentence",
    "predicted": "the predicted value in words, → 1 say",
    "source": "where the prediction is from: [P] a paper, [D] derived, [M] measured",
}
_MEASURE = "measure takes the subject and returns a Measured, over_seeds(values) say, or None"
_RULE = "Take a rule of featpur_sim.claims.rule, AtLeast(0.9, 'the accuracy') say"
_SPAN = [0.0, *(sign * 10.0**power for sign in (1, -1) for power in range(-9, 10))]


@steady
def check_claim(claim: Any, subject: Any = None) -> None:
    """Check a claim, without a subject or on one.

    That id, statement, prediction and source are there; that its rule judges an interval: that
    some value would contradict it (unless its verdict is the kind of evidence, `ByEvidence`), and
    that an interval which holds everything decides nothing. With a subject also that measuring it
    gives a mean inside its interval, the same one twice, and all words that the texts have in
    braces, so that a row of a scorecard comes out.

    Args:
        claim: what to check.
        subject: what ``measure`` takes; None to leave measuring out.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim.claims.measured import over_seeds
    >>> from featpur_sim.claims.rule import AtLeast
    >>> rule = AtLeast(0.9, "the accuracy")
    >>> claim = Claim("C1", rule, over_seeds, "→ 1", "[P]", "networks are accurate")
    >>> check_claim(claim, subject=[0.93, 0.95, 0.94])
    """
    expect("claim", claim, Claim, "a Claim(id, rule, measure, predicted, source, statement)")
    of = Contract("claim", claim)
    for name, meaning in _TEXTS.items():
        text = getattr(claim, name)
        of.require(isinstance(text, str) and text.strip(), f"{name} is {text!r}", f"Say {meaning}")
        of.call(f"{name} {text!r}", lambda t: list(string.Formatter().parse(t)), text,
                fix="Write a brace that is no name twice: {{")  # fmt: skip
    _check_rule(of, claim.rule)
    of.require(callable(claim.measure), f"measure is {claim.measure!r}", _MEASURE)
    of.call("measure, given one subject", _bound, claim.measure, fix=_MEASURE)
    if subject is not None:
        _check_measured(of, claim, subject)


def _bound(measure: Callable[..., Any]) -> None:
    inspect.signature(measure).bind(None)


def _check_rule(of: Contract, rule: Any) -> None:
    """Narrow intervals everywhere, and one that holds them all."""
    expect_methods(f"{of}: its rule", rule, ("judge", "scaled"), "a rule, AtLeast(0.9, 'it') say")
    of.require(str(rule).strip() and isinstance(rule.bar, str), "its rule says nothing", _RULE)

    def judge(low: float, high: float) -> Any:
        found = Measured((low + high) / 2, low, high, seeds=5, predicted=1.0, most=high)
        verdict = of.call(f"its rule on [{low:g}, {high:g}]", rule.judge, found, fix=_RULE)
        kind = type(verdict).__name__
        of.require(isinstance(verdict, Verdict), f"its rule returns a {kind}, no Verdict", _RULE)
        return verdict

    found = {judge(value - 1e-12, value + 1e-12) for value in _SPAN}
    if isinstance(rule, ByEvidence):
        return
    of.require(
        Verdict.CONTRADICTED in found,
        f"no value from −10⁹ to 10⁹ contradicts it by its rule, '{rule}'",
        "Set a threshold that a measurement can miss",
    )
    wide = judge(-1e30, 1e30)
    of.require(
        wide not in (Verdict.SUPPORTED, Verdict.CONTRADICTED),
        f"its rule calls [−10³⁰, 10³⁰] '{wide}'",
        "Judge both ends of the interval, not the mean; say inconclusive where they disagree",
    )


def _check_measured(of: Contract, claim: Claim[Any], subject: Any) -> None:
    """What is measured of the subject, and the row that is made of it."""
    found, again = (of.call("measure", claim.measure, subject, fix=_MEASURE) for _ in range(2))
    if found is None:
        return
    of.require(isinstance(found, Measured), f"measure returns a {type(found).__name__}", _MEASURE)
    number = found.mean, found.low, found.high
    same = np.array_equal(number, (again.mean, again.low, again.high), equal_nan=True)
    of.require(same, "measure gives one subject two values", "Take seeds and keys from the subject")
    open_ended = np.isnan(found.low) and np.isnan(found.high)
    of.require(
        open_ended or found.low <= found.mean <= found.high,
        f"its interval [{found.low:g}, {found.high:g}] does not hold its mean {found.mean:g}",
        "Use over_seeds, or NaN for both ends where there is no interval",
    )
    words = sorted({"predicted", *found.words})

    def row() -> Any:
        return rows(cases([claim], subject, "a check", str))

    known = ", ".join(words)
    of.call("a row of its scorecard", row, fix=f"Its texts may name {known}; other words go "
            "into over_seeds(values, name=…)")  # fmt: skip
