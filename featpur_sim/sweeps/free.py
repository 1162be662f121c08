"""The free variables of a sweep: numbers of the user's own that settings are written in.

``c = [0.2, 0.3]`` in ``[let]`` is an axis, which ``tau = "c/sqrt(k)"`` in ``[derived]`` reads; one
with an expression follows from others (docs/how-to/sweep.md). Among fields of a run, c is called
``let.c``.
"""

import keyword
import re
import reprlib
from collections.abc import Iterable, Mapping

from featpur_sim._ground.rows import Settings
from featpur_sim.runs.config import ConfigError, RunConfig
from featpur_sim.runs.variables import DIMENSIONS, VARIABLES
from featpur_sim.sweeps.expression import CONSTANTS, FUNCTIONS, Expression
from featpur_sim.sweeps.fields import LET, NAMES, is_free, is_number, label

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IN_RESULT = {*VARIABLES, *DIMENSIONS, "point", "lane", "critical_attack"}


def read_let(table: Settings) -> tuple[Settings, Settings]:
    """The free variables of ``[let]``.

    Returns:
        ``let.c`` → list or range of those that are axes, and ``let.c`` → expression, as text or
        number, of the others.

    Raises:
        ConfigError: a name that is no name or is taken, or a value that is no number.

    >>> read_let({"c": [0.2, 0.3], "ratio": "k/sqrt(d)"})
    ({'let.c': [0.2, 0.3]}, {'let.ratio': 'k/sqrt(d)'})
    """
    axes, rules = {}, {}
    for name, entry in table.items():
        _require_name(name, entry)
        if isinstance(entry, list | dict):
            axes[LET + name] = entry
            wrong = [v for v in entry if not is_number(v)] if isinstance(entry, list) else []
        else:
            rules[LET + name] = entry
            wrong = [] if isinstance(entry, str) or is_number(entry) else [entry]
        if wrong:
            raise ConfigError(
                f"let.{name} = {reprlib.repr(wrong[0])}: must be a finite number, a list or a "
                'range of them, or an expression, such as "tau*sqrt(k)".'
            )
    return axes, rules


def _require_name(name: str, entry: object) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"let: {name!r} is not a name that an expression can read: use letters, digits and _, "
            "beginning with a letter."
        )
    if why := _taken(name):
        raise ConfigError(
            f"let.{name} = {reprlib.repr(entry)}: {name} is {why}: choose another name."
        )


def _taken(name: str) -> str:
    """What a name is already; empty if it is free."""
    if name in NAMES:
        return f"the setting {NAMES[name]}, which [axes], [[zip]] and [derived] set"
    if name in RunConfig.model_fields:
        return "a setting, or a table of them, of a run"
    if name in FUNCTIONS or name in CONSTANTS:
        return "a function or constant of expressions"
    return "the name of a variable or dimension of results" if name in _IN_RESULT else ""


def settings_entered(
    variables: Iterable[str], rules: Mapping[str, Expression]
) -> dict[str, tuple[str, ...]]:
    """The settings that each free variable enters, itself or through others and other settings.

    Args:
        variables: ``let.c``, …
        rules: dotted field, or free variable → expression.

    Returns:
        Name → dotted fields; none where the variable only follows from others.

    >>> rules = {"problem.k": Expression("c*d"), "adversarial.radius": Expression("0.3/sqrt(k)")}
    >>> settings_entered(["let.c"], rules)
    {'c': ('problem.k', 'adversarial.radius')}
    """
    own = {label(variable): variable for variable in variables}
    read = {
        target: {own.get(name) or NAMES.get(name, name) for name in rule.names}
        for target, rule in rules.items()
    }
    return {name: _reached(variable, read) for name, variable in own.items()}


def _reached(start: str, read: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The fields of a run whose rules read ``start``, or a field or variable whose rule does."""
    found = [start]
    for known in found:  # it grows
        found += [target for target in read if known in read[target] and target not in found]
    return tuple(field for field in found if not is_free(field))


def require_used(axes: Settings, entered: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse an axis that enters no setting: all of its values would be the same runs.

    Raises:
        ConfigError: one that is named, with what to do.
    """
    for variable, entry in axes.items():
        name = label(variable)
        if not entered[name]:
            raise ConfigError(
                f"{variable} = {reprlib.repr(entry)}: no setting reads {name}, so the same runs "
                f"would be trained at each of its values: read it in [derived], as in tau = "
                f'"{name}/sqrt(k)", or leave it out.'
            )
