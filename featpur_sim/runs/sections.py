"""Sections of a settings file: pydantic models, some of several kinds, and their errors in words.

Kinds of a section are told apart by one of its settings, its tag: the law of a problem, the
schedule of a bias. Each kind reads settings of its own.
"""

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, ClassVar, get_args

import pydantic
from pydantic import BeforeValidator, ConfigDict
from pydantic.fields import FieldInfo


class Section(pydantic.BaseModel):
    """A table of a settings file: frozen, every setting known and of its own type."""

    # Strict: TOML has types, so true or "5" where a number belongs is a slip.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    # The setting that says which kind of section this is, where there are several.
    tag: ClassVar[str] = ""


def default_kind(usual: type[Section]) -> BeforeValidator:
    """Makes a section that does not say of which kind it is one of kind ``usual``.

    None is what is not given: TOML has no such value, but a configuration's dictionary does.
    """

    def named(section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        given = {name: value for name, value in section.items() if value is not None}
        return {usual.tag: usual.model_fields[usual.tag].default} | given

    return BeforeValidator(named)


def sections(annotation: Any) -> list[type[Section]]:
    """The sections that a setting may be: none for a plain value, several if they have kinds."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections(part)]


def known(kinds: Iterable[type[Section]]) -> dict[str, list[FieldInfo]]:
    """The settings of all kinds of a section: name → what each kind that reads it says of it."""
    found: dict[str, list[FieldInfo]] = {}
    for kind in kinds:
        for name, field in kind.model_fields.items():
            found.setdefault(name, []).append(field)
    return found


def kind_of(kinds: Sequence[type[Section]], given: Any) -> type[Section]:
    """Which kind of section the settings ``given`` are of; the first if they do not say."""
    tag = kinds[0].tag
    if not tag or not isinstance(given, dict):
        return kinds[0]
    word = given.get(tag, kinds[0].model_fields[tag].default)
    return next((kind for kind in kinds if word in _words(kind)), kinds[0])


def _words(kind: type[Section]) -> tuple[str, ...]:
    """What a kind of section is called in a file."""
    return get_args(kind.model_fields[kind.tag].annotation)


def _located(
    loc: Sequence[Any], root: type[Section]
) -> tuple[list[Any], list[type[Section]], str | None]:
    """Pydantic's address of an error: its path in a file, the kinds of its section, which of them.

    Pydantic writes the kind between a section and its settings; a file does not.
    """
    path: list[Any] = []
    kinds: list[type[Section]] = [root]
    rest, word = list(loc), None
    while rest:
        path.append(rest.pop(0))
        fields = known(kinds).get(path[-1], [])
        below = list(dict.fromkeys(s for field in fields for s in sections(field.annotation)))
        if not below or not rest:
            break
        kinds, word = below, rest.pop(0) if len(below) > 1 else None
    return path + rest, kinds, word


def explain(item: Any, root: type[Section]) -> str:
    """One of pydantic's errors in one line: the setting, its value, the rule and the fix.

    Args:
        item: of `pydantic.ValidationError.errors`.
        root: the model that was to be made.
    """
    path, kinds, word = _located(item["loc"], root)
    value, wanted, message = item["input"], item["type"], item["msg"]
    if wanted == "union_tag_invalid":
        tag = item["ctx"]["discriminator"].strip("'")
        path, value = [*path, tag], value[tag]
        message = " or ".join(item["ctx"]["expected_tags"].rsplit(", ", 1))
        message = f"Input should be {message}"
    where = ".".join(p if p.isprintable() else repr(p) for p in map(str, path)) or "settings"
    shown = "" if isinstance(value, dict) or not path else f" = {_shown(value)}"
    if wanted in ("extra_forbidden", "none_required", "missing"):
        return f"{where}{_placed(wanted, shown, str(path[-1]), kinds, word)}"
    if wanted == "int_type" and isinstance(value, float) and value.is_integer():
        return (
            f"{where}{shown} is written as a number with a fraction, as 2e3 is: write {int(value)}."
        )
    plain = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if plain != message and wanted != "value_error":
        plain = f"must be {_WANTED.get(wanted, plain)}"
    return f"{where}{shown}: {plain[0].lower() + plain[1:]}."


def _placed(
    wrong: str, shown: str, name: str, kinds: Sequence[type[Section]], word: str | None
) -> str:
    """What is wrong with a setting that is there and should not be, or should be and is not."""
    tag, own = kinds[0].tag, known(kinds)
    readers = [kind for kind in kinds if _reads(kind, name)]
    some = word is not None and 0 < len(readers) < len(kinds)
    if wrong == "missing":
        if some:
            return f" is missing: {tag} '{word}' needs {name}."
        return " is missing: add it, or start from 'featpur init'."
    if some:
        others = ", ".join(f"'{each}'" for kind in readers for each in _words(kind))
        return (
            f"{shown}: {tag} '{word}' does not read {name} ({others} would): take it out, or "
            f"change {tag}."
        )
    near = difflib.get_close_matches(name, own, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(own))}."
    return f" is not a setting: {hint}"


def _reads(kind: type[Section], name: str) -> bool:
    field = kind.model_fields.get(name)
    return field is not None and field.annotation is not NoneType


# What kind of value was wanted → how to write it, where pydantic speaks of its own types.
_WANTED = {
    "int_type": "a whole number, such as 2000: no quotes, no decimal point",
    "float_type": "a number, such as 0.5: no quotes",
    "string_type": 'text, in quotes: "name"',
    "bool_type": "true or false",
    "list_type": "a list, such as [0.5, 1.0]",
    "tuple_type": "a list of two numbers, such as [0.5, 1.0]",
    "model_type": "a section, with settings of its own",
    "model_attributes_type": "a section, with settings of its own",
}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
