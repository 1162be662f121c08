"""Sweep files: one TOML file ⟷ the settings of every point of a sweep (docs/how-to/sweep.md).

A point starts from a preset, a run's settings file or the table ``[run]``; then its place on the
axes and the zipped lists is written in; then the derived fields are evaluated, with what they read
of the free variables. What comes out is checked like any run's settings.
"""

import itertools
import math
import reprlib
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from featpur_sim._ground.rows import Settings
from featpur_sim.runs import presets
from featpur_sim.runs.config import ConfigError, RunConfig, parse
from featpur_sim.runs.own import resolve
from featpur_sim.sweeps.axes import MOST_POINTS, fields_of, places, read_axes, table_of
from featpur_sim.sweeps.expression import Expression, ExpressionError
from featpur_sim.sweeps.fields import (
    Resolver,
    field_types,
    is_free,
    is_number,
    label,
    said,
    value_of,
)
from featpur_sim.sweeps.free import read_let, require_used, settings_entered
from featpur_sim.sweeps.keep import read_keep

_KEYS = {
    "name", "seed", "seeds", "preset", "base", "run", "axes", "let", "zip", "derived", "keep"
}  # fmt: skip
_PRESETS = {
    "dense-regime": presets.dense_regime,
    "sparse-regime": presets.sparse_regime,
    "theorem": presets.theorem,
}


class Point(NamedTuple):
    """One point of a sweep.

    Attributes:
        config: its settings, as of a run of its own.
        swept: label → value of every field that an axis, a zipped list or a rule sets, and of every
            free variable; the label is the field's short name
            (`featpur_sim.sweeps.fields.SHORT`) if it has one.
    """

    config: RunConfig
    swept: Settings


class Sweep(NamedTuple):
    """A sweep file, read and checked.

    Attributes:
        name: its name.
        seed: base seed: names w*, dictionaries and all random streams, the same at every point.
        seeds: independent runs of every point.
        points: in the order of the file, the last axis fastest.
        axes: the labels that each axis, or block of zipped lists, sets.
        shape: length of each of these axes.
        free: free variable → the settings that it enters; none if it follows from others only.
        text: the file with its base written in, so that it stands alone.
        keep: what is kept beside the measurements; see `featpur_sim.sweeps.keep`.
    """

    name: str
    seed: int
    seeds: int
    points: tuple[Point, ...]
    axes: tuple[tuple[str, ...], ...]
    shape: tuple[int, ...]
    free: dict[str, tuple[str, ...]]
    text: str
    keep: tuple[str, ...] = ()


def load(path: str | Path, *, seed: int | None = None, allow_import: bool = False) -> Sweep:
    """Read a sweep file.

    Args:
        path: a TOML file; docs/how-to/sweep.md describes it.
        seed: replaces the file's ``seed``.
        allow_import: whether to import the code that the settings name.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds something that cannot be used; one
            line that names the point and the field.
    """
    path = Path(path)
    try:
        settings = _read(path)
        if seed is not None:
            settings["seed"] = seed
        return parse_sweep(settings, folder=path.parent, allow_import=allow_import)
    except RecursionError:
        raise ConfigError(f"{path}: its tables are nested too deeply.") from None
    except ConfigError as error:
        # One line whatever the file holds: names may have line breaks in them.
        message = " ".join(str(error).split())
        raise ConfigError(f"{path}: {message}") from None


def parse_sweep(
    settings: Settings,
    *,
    folder: str | Path = ".",
    allow_import: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Sweep:
    """The sweep that nested settings describe.

    Args:
        settings: as in a sweep file.
        folder: where ``base``, and files of arrays, are looked up.
        allow_import: whether to import the code that the settings name.
        given: ``problem``, ``network`` and ``phases`` as code, for every point: functions of its
            settings; see `featpur_sim.runs.own.resolve`.

    Raises:
        ConfigError: as for `load`.

    >>> settings = {"preset": "dense-regime", "axes": {"problem.d": [32, 64]}}
    >>> sweep = parse_sweep(settings | {"let": {"c": [1, 2]}, "derived": {"k": "c*d**0.4"}})
    >>> [round(point.config.problem.k, 2) for point in sweep.points]
    [4.0, 8.0, 5.28, 10.56]
    """
    if unknown := set(settings) - _KEYS:
        raise ConfigError(
            f"{', '.join(map(repr, sorted(unknown)))} is not a setting of a sweep, known: "
            f"{', '.join(sorted(_KEYS))}. Settings of the run go into [run]."
        )
    settings = _inline_base(settings, Path(folder))
    head = {name: settings.get(name, value) for name, value in _HEAD.items()}
    listed, expressed = read_let(table_of(settings, "let"))
    axes = read_axes(settings, listed)
    rules = _read_rules(settings, expressed)
    free = settings_entered([*listed, *expressed], rules)
    require_used(listed, free)
    _require_distinct([*itertools.chain.from_iterable(axes), *rules])
    shape = tuple(len(next(iter(axis.values()))) for axis in axes)
    if math.prod(shape) > MOST_POINTS:
        raise ConfigError(
            f"the sweep has {math.prod(shape)} points, more than {MOST_POINTS}: shorten an axis, "
            "or cut the sweep into several files."
        )
    resolved = partial(resolve, folder=folder, allow_import=allow_import, given=given)
    points = tuple(
        _point(index, place, rules, settings, head, resolved)
        for index, place in enumerate(places(axes))
    )
    first = points[0].config
    labels = tuple(tuple(map(label, axis)) for axis in axes)
    text = tomli_w.dumps(settings)
    keep = read_keep(settings.get("keep", []))
    return Sweep(first.name, first.seed, first.seeds, points, labels, shape, free, text, keep)


_HEAD = {"name": "sweep", "seed": 0, "seeds": 3}


def _read(path: Path) -> Settings:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError("no such file: docs/how-to/sweep.md has one to start from.") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # over-long integers, over-deep nesting too
        raise ConfigError(f"is not valid TOML: {error}.") from None


def _inline_base(settings: Settings, folder: Path) -> Settings:
    """The settings with the file ``base`` written into [run], under what [run] says itself."""
    settings = dict(settings)
    run = table_of(settings, "run")
    if not run and "preset" not in settings and "base" not in settings:
        raise ConfigError(
            'a sweep starts from preset = "dense-regime", base = "run.toml" or a table [run]: '
            "give one."
        )
    if "preset" in settings:
        if "base" in settings:
            raise ConfigError("preset and base cannot be combined: leave one out.")
        if not isinstance(settings["preset"], str) or settings["preset"] not in _PRESETS:
            raise ConfigError(
                f"preset = {reprlib.repr(settings['preset'])}: must be one of "
                f"{', '.join(_PRESETS)}."
            )
    if "base" in settings:
        base = settings.pop("base")
        if not isinstance(base, str) or "\0" in base:
            raise ConfigError(f"base = {reprlib.repr(base)}: must be the path of a run's settings.")
        try:
            run = _merged(_read(folder / base), run)
        except ConfigError as error:
            raise ConfigError(f"base = {base!r}: {error}") from None
        # The sweep names these for all points.
        run = {name: value for name, value in run.items() if name not in _HEAD}
    if named := set(run) & set(_HEAD):
        raise ConfigError(f"run.{min(named)}: write {min(named)} at the top of the file.")
    if run:
        settings["run"] = run
    return settings


def _merged(low: Settings, high: Settings) -> Settings:
    """``low`` with the entries of ``high`` in their place, table by table."""
    found = dict(low)
    for name, value in high.items():
        under = found.get(name)
        if name in found and isinstance(under, dict) != isinstance(value, dict):
            wrong = value if isinstance(under, dict) else under
            raise ConfigError(f"{name} = {reprlib.repr(wrong)}: must be a table.")
        if isinstance(under, dict) and isinstance(value, dict):
            value = _merged(under, value)
        found[name] = value
    return found


def _require_distinct(fields: list[str]) -> None:
    for field in fields:
        if fields.count(field) > 1:
            raise ConfigError(f"{field} is set twice, by axes, zip or derived: leave one out.")


# --- derived fields -----------------------------------------------------------------------------


def _read_rules(settings: Settings, free: Settings) -> dict[str, Expression]:
    rules = {}
    for field, text in (free | fields_of(table_of(settings, "derived"), "derived")).items():
        text = str(text) if is_number(text) else text
        if not isinstance(text, str):
            raise ConfigError(
                f"{said(field)} = {reprlib.repr(text)}: must be an expression, such as "
                '"0.3/sqrt(k)".'
            )
        if not is_free(field) and not field_types(field, "derived") & {int, float}:
            raise ConfigError(f"derived: {field} is not a number: it cannot be derived.")
        try:
            rules[field] = Expression(text)
        except ExpressionError as error:
            raise ConfigError(f"{said(field)} = {reprlib.repr(text)} {error}.") from None
    return rules


# --- points -------------------------------------------------------------------------------------


def _point(
    index: int, place: Settings, rules, settings: Settings, head: Settings, resolved
) -> Point:
    try:
        values = place | _derive(place, rules, settings)
        run = _written(_start(settings, values) | head, settings.get("run", {}), values)
        config = resolved(parse(run))
        _require_swept(config)
    except ConfigError as error:
        shown = ", ".join(f"{label(f)} = {reprlib.repr(v)}" for f, v in place.items())
        raise ConfigError(f"point {index} ({shown}): {error}" if place else str(error)) from None
    swept = {f: value if is_free(f) else value_of(config, f) for f, value in values.items()}
    return Point(config, {label(field): value for field, value in swept.items()})


def _require_swept(config: RunConfig) -> None:
    """Refuse what a sweep would leave out without a word."""
    for name in ("observe", "claims"):
        if config.own and getattr(config.own, name):
            raise ConfigError(
                f"own.{name} is of single runs: a sweep measures what run_sweep(survey=…) says."
            )


def _derive(place: Settings, rules: dict[str, Expression], settings: Settings) -> Settings:
    """Every derived field. A preset needs d and k, which may be derived from other axes first."""
    run = settings.get("run", {})
    # Any k will do where k is still to be derived; 1 suits every d.
    known = _sizes(run) | place | ({"problem.k": 1} if "problem.k" in rules else {})
    free = {field: value for field, value in place.items() if is_free(field)}
    sizes = Resolver(rules, _written(_start(settings, known), run, place), free)
    found = {f: sizes(f) for f in ("problem.d", "problem.k") if f in rules}
    start = _start(settings, _sizes(run) | place | found)
    resolve = Resolver(rules, _written(start, run, place), free)
    values = {field: resolve(field) for field in rules}
    if any(values[field] != value for field, value in found.items()):
        raise ConfigError(
            "derived: problem.d and problem.k must not depend on what the preset makes of them."
        )
    return values


def _sizes(run: Settings) -> Settings:
    problem = run.get("problem", {})
    problem = problem if isinstance(problem, dict) else {}
    return {f"problem.{name}": problem[name] for name in ("d", "k") if name in problem}


def _start(settings: Settings, values: Settings) -> Settings:
    """The preset at the point's d and k; empty without a preset."""
    if "preset" not in settings:
        return {}
    sizes = _sizes(settings.get("run", {})) | values
    given = {name: sizes[f"problem.{name}"] for name in ("d", "k") if f"problem.{name}" in sizes}
    # The preset computes with them: they are checked like any run's d and k first.
    parse(_SMALLEST | {"problem": {"d": 100, "k": 5} | given})
    return _PRESETS[settings["preset"]](**given).model_dump(exclude_none=True, mode="json")


_SMALLEST: Settings = {
    "network": {"neurons": 1},
    "clean": {"steps": 1, "bias": {"stop": 0.1}},
    "adversarial": {"steps": 1, "radius": 0.1},
}


def _written(start: Settings, run: Settings, values: Settings) -> Settings:
    """``start`` under [run], with each field's value in its place; free variables are no fields."""
    settings = _merged(start, run)
    for field, value in values.items():
        if is_free(field):
            continue
        *tables, name = field.split(".")
        nested: Settings = {name: value}
        for table in reversed(tables):
            nested = {table: nested}
        settings = _merged(settings, nested)
    return settings
