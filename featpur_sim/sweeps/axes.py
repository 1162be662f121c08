"""The axes of a sweep file: crossed, zipped, and in ranges (docs/how-to/sweep.md)."""

import itertools
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from featpur_sim._ground.rows import Settings
from featpur_sim.runs.config import ConfigError, scaled
from featpur_sim.sweeps.fields import is_count, is_number, swept_field

MOST_POINTS = 20_000


def table_of(settings: Settings, name: str) -> Settings:
    """One table of a sweep file, empty where it is not there."""
    value = settings.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{name} = {reprlib.repr(value)}: must be a table, [{name}].")
    return value


def read_axes(settings: Settings, free: Settings) -> list[dict[str, list[Any]]]:
    """Each crossed axis as field → values; a block of zipped lists is one axis with many fields."""
    listed = fields_of(table_of(settings, "axes"), "axes") | free
    axes = [{field: _values(field, value)} for field, value in listed.items()]
    blocks = settings.get("zip", [])
    blocks = [blocks] if isinstance(blocks, dict) else blocks
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise ConfigError(f"zip = {reprlib.repr(blocks)}: must be blocks, [[zip]].")
    for block in blocks:
        lists = {f: _values(f, value) for f, value in fields_of(block, "zip").items()}
        lengths = {field: len(values) for field, values in lists.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{field} has {n}" for field, n in lengths.items())
            raise ConfigError(f"zip: lists of a block must have one length, but {shown}.")
        if lists:
            axes.append(lists)
    return axes


def fields_of(table: Settings, where: str, prefix: str = "") -> Settings:
    """Dotted field → entry, with short names spelled out and every field known."""
    found: Settings = {}
    for name, value in table.items():
        dotted = prefix + name
        # [axes] problem.d = [..] without quotes is a table in TOML.
        nested = isinstance(value, dict) and not set(value) & {"log", "linear", "points"}
        if nested:
            entries = fields_of(value, where, f"{dotted}.")
        else:
            entries = {swept_field(dotted, where): value}
        for field, entry in entries.items():
            if field in found:
                raise ConfigError(f"{where}: {field} is given twice.")
            found[field] = entry
    return found


def _values(field: str, entry: Any) -> list[Any]:
    if isinstance(entry, dict):
        return _range(field, entry)
    if not isinstance(entry, list) or not entry:
        raise ConfigError(
            f"{field} = {reprlib.repr(entry)}: must be a non-empty list, or "
            "{ log = [a, b], points = n }, or { linear = [a, b], points = n }."
        )
    return entry


def _range(field: str, entry: Settings) -> list[Any]:
    kind = "log" if "log" in entry else "linear"
    ends, points = entry.get(kind), entry.get("points")
    shown = f"{field} = {reprlib.repr(entry)}"
    if set(entry) != {kind, "points"}:
        raise ConfigError(f"{shown}: a range is {{ {kind} = [a, b], points = n }}.")
    if type(points) is not int or not 1 <= points <= MOST_POINTS:
        raise ConfigError(f"{shown}: points must be an integer from 1 to {MOST_POINTS}.")
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(is_number, ends)):
        raise ConfigError(f"{shown}: {kind} must be [a, b], two finite numbers.")
    if kind == "log" and min(ends) <= 0:
        raise ConfigError(f"{shown}: the ends of a log range must be > 0.")
    space = np.geomspace if kind == "log" else np.linspace
    values = [scaled(float(v), 9) for v in space(float(ends[0]), float(ends[1]), points)]
    return list(dict.fromkeys(map(round, values))) if is_count(field) else values


def places(axes: list[dict[str, list[Any]]]) -> Iterator[Settings]:
    """Field → value at every point, the last axis fastest."""
    columns = [
        [dict(zip(axis, values, strict=True)) for values in zip(*axis.values(), strict=True)]
        for axis in axes
    ]
    for row in itertools.product(*columns):
        yield {field: value for part in row for field, value in part.items()}
