"""The fields of a run as a sweep names them: short names, labels, types, derived values.

A field is written by its dotted name in `featpur_sim.runs.config.RunConfig`, or a short one
(docs/how-to/sweep.md). Free variables, which are no fields of a run, stand beside them under
``let.`` and their name; see `featpur_sim.sweeps.free`.
"""

import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any

from featpur_sim._ground.rows import Settings
from featpur_sim.runs.config import ConfigError, RunConfig, scaled
from featpur_sim.runs.sections import kind_of, known, sections
from featpur_sim.sweeps.expression import Expression, ExpressionError

# Short names of fields, in expressions and as coordinates of the result.
SHORT = {
    "d": "problem.d",
    "D": "problem.features",
    "k": "problem.k",
    "sigma_x": "problem.sigma_x",
    "p_one": "problem.p_one",
    "m": "network.neurons",
    "sigma_0": "network.sigma_0",
    "tau": "adversarial.radius",
}
# Both phases have these: an expression reads the clean phase's, an axis must say which it sets.
_OF_CLEAN_PHASE = {
    "eta": "clean.learning_rate",
    "lam": "clean.weight_decay",
    "batch": "clean.batch",
    "steps": "clean.steps",
}
_LABELS = {field: short for short, field in SHORT.items()}
# Said once for the whole sweep: at its top level, or in [run] (all points share the radii).
_NOT_SWEPT = {"name", "seed", "seeds", "evaluation.radii"}
# In front of the name of a free variable; no table of a run is called so.
LET = "let."
# Names that expressions know, of fields.
NAMES = SHORT | _OF_CLEAN_PHASE


def is_free(field: str) -> bool:
    """Whether a name is that of a free variable, ``let.c``, and of no field of a run."""
    return field.startswith(LET)


def label(field: str) -> str:
    """The name of a field's coordinate in the result: short if it has a short name.

    >>> label("adversarial.radius"), label("clean.steps"), label("let.c")
    ('tau', 'clean.steps', 'c')
    """
    return _LABELS.get(field, field.removeprefix(LET))


def swept_field(name: str, where: str) -> str:
    """The dotted name of a field that a sweep may set.

    Args:
        name: dotted or short.
        where: the table that names it, for messages.

    Raises:
        ConfigError: there is no such field, it is a table, or it is one for the whole sweep.

    >>> swept_field("tau", "axes")
    'adversarial.radius'
    """
    if name in _OF_CLEAN_PHASE:
        field = _OF_CLEAN_PHASE[name]
        raise ConfigError(
            f"{where}: {name} names no one phase: write {field} or "
            f"{field.replace('clean', 'adversarial')}."
        )
    field = SHORT.get(name, name)
    if field in _NOT_SWEPT:
        raise ConfigError(f"{where}: {field} is one for the whole sweep: it cannot be swept.")
    field_types(field, where)
    return field


def field_types(field: str, where: str) -> set[Any]:
    """The plain types that a field of a run takes.

    Args:
        field: dotted.
        where: what names it, for messages.

    Raises:
        ConfigError: there is no such field, or it is a table.

    >>> field_types("clean.microbatch", "axes") == {int, type(None)}
    True
    """
    tables: list[Any] = [RunConfig]
    annotations: list[Any] = []
    for part in field.split("."):
        there = known(tables)
        if part not in there:
            raise ConfigError(
                f"{where}: {field!r} is not a field of a run ({_hint(there, field)})."
            )
        annotations = [info.annotation for info in there[part]]
        tables = [table for annotation in annotations for table in sections(annotation)]
    if tables:
        raise ConfigError(f"{where}: {field} is a table: name one of its fields.")
    return set().union(*map(_flat, annotations))


def _hint(there: Mapping[str, Any], field: str) -> str:
    if "." in field:
        return f"known there: {', '.join(there) or 'nothing'}"
    return (
        f"known: {', '.join([*SHORT, *there])}; fields of a table as in clean.steps; a variable of "
        "your own goes into [let]"
    )


def _flat(annotation: Any) -> set[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _flat(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(_flat, typing.get_args(annotation)))
    return {annotation}


def is_count(field: str) -> bool:
    """Whether a field takes integers: what an expression gives for it is rounded."""
    return not is_free(field) and int in field_types(field, "")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that one can compute with; True and False are none."""
    return type(value) in (int, float) and abs(value) < 1e30  # NaN fails too


def value_of(config: RunConfig, field: str) -> Any:
    """The value of a dotted field in checked settings."""
    value: Any = config
    for part in field.split("."):
        value = getattr(value, part)
    return value


def said(field: str) -> str:
    """A field that a rule sets, or a circle that begins with one, as messages name it."""
    return field if is_free(field) else f"derived: {field}"


class Resolver:
    """The derived fields and variables of one point, each evaluated once and after what it reads.

    Args:
        rules: dotted field, or free variable → expression.
        settings: the point's other fields, nested; what is not set has its default.
        free: the free variables that have values of their own here: ``let.c`` → number.

    >>> rules = {"adversarial.radius": Expression("c/sqrt(k)"), "problem.k": Expression("d/8")}
    >>> Resolver(rules, {"problem": {"d": 32}}, {"let.c": 0.3})("adversarial.radius")
    0.15
    """

    def __init__(self, rules: dict[str, Expression], settings: Settings, free: Settings):
        self.rules, self.settings = rules, settings
        self.known: Settings = dict(free)
        self.open: list[str] = []

    def __call__(self, field: str) -> float | int:
        """The value of a derived field or a free variable, rounded where it is a count.

        Raises:
            ConfigError: rules are circular, or an expression cannot be evaluated.
        """
        if field in self.known:
            return self.known[field]
        if field in self.open:
            circle = " → ".join([*self.open[self.open.index(field) :], field])
            raise ConfigError(f"{said(circle)} is circular: break it.")
        self.open.append(field)
        rule = self.rules[field]
        try:
            value = rule(self.read)
        except ExpressionError as error:
            raise ConfigError(f"{said(field)} = {reprlib.repr(rule.text)} {error}.") from None
        self.open.pop()
        self.known[field] = round(value) if is_count(field) else scaled(value, 9)
        return self.known[field]

    def read(self, name: str) -> float:
        """The value of a field, derived or not, by its dotted or short name, or of a variable."""
        own = LET + name
        field = own if own in self.rules or own in self.known else NAMES.get(name, name)
        if field in self.rules or field == own:
            return self(field)
        reader = said(self.open[-1])
        field_types(field, reader)
        value = _set_or_default(self.settings, field)
        if field == "problem.features" and value is None:
            return self.read("problem.d")
        if not is_number(value):
            raise ConfigError(
                f"{reader} reads {name}, which is {reprlib.repr(value)} here, not a number."
            )
        return value


def _set_or_default(settings: Settings, field: str) -> Any:
    """The value of a field, its default if it is not set, None if it has neither."""
    value: Any = settings
    tables: list[Any] = [RunConfig]
    for part in field.split("."):
        # A kind of table that does not read the field has no default for it.
        info = kind_of(tables, value).model_fields.get(part)
        default = None if info is None or info.is_required() else info.default
        value = value.get(part, default) if isinstance(value, dict) else getattr(value, part, None)
        tables = [] if info is None else sections(info.annotation)
    return value
