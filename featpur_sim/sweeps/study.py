"""A study: a sweep of a theorem of your own, said in code alone (docs/how-to/own-study.md).

Data, network and phases are functions of a point; nothing needs features, w* or a settings file.
Seeds train side by side, points one after another, and every network is attacked and measured the
same way (`featpur_sim.sweeps.study_point`). The result is that of a sweep: labelled, resumable,
fitted, drawn, judged.
"""

import dataclasses
import inspect
import itertools
import json
import textwrap
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from featpur_sim._ground.checks import ConfigError, count, double
from featpur_sim._ground.expected import expect, said
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.gradient import PGD, Attack
from featpur_sim.training.fingerprint import name_of
from featpur_sim.training.identity import Identity, identify
from featpur_sim.training.loop import Observe, observe_nothing

CRITICAL = ("critical_radius", "critical_radius_low", "critical_radius_high")
# Dimensions and variables of every result: no axis and no measurement can have the name of one.
RESERVED = {
    "point", "seed", "phase", "attack", "critical_attack", "relative_radius", "record", "lane",
    "status", "status_step", "reason", "radius", "clean_accuracy", "robust_accuracy", *CRITICAL,
}  # fmt: skip
_TRAINED_BY = ("problem", "network", "phases", "observe", "seeds", "seed", "records")


class Ended(NamedTuple):
    """What ``measure`` sees: one seed of one point, trained."""

    at: Any
    """The point: ``at.d``, ``at.k``, whatever the study's axes are."""
    problem: Any
    networks: dict[str, Any]
    """``"init"``, and the network at the end of each phase, by the phase's name."""
    key: PRNGKey
    """Of this seed alone, for fresh samples."""


def pgd(radius: Any, problem: Any) -> Attack:
    """PGD in ℓ2, twenty steps: what a study attacks with by default."""
    return PGD(radius)


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained and measured at every point, by functions of it.

    Attributes:
        name: of the study.
        points: axis → list of values, every combination of which is a point; or a list of points,
            each axis → value. Values are numbers or texts.
        problem: (at, key) → the data, any `featpur_sim.data.problem.Problem`; ``at`` is the point,
            a named tuple of its values, and the key is the seed's.
        network: (at, key) → the `Trainable` before step 0.
        phases: at → the phases, one after another.
        seeds: trained side by side at each point, from the same keys at every one.
        seed: of all random numbers.
        observe: `Moment` → named numbers, recorded as ``along_<name>``.
        records: record points per phase.
        attacks: name → function of (radius, problem) that gives an attack; PGD in ℓ2 by default.
        radii: at which they attack, multiples of ``tau``; 0 among them is the clean accuracy.
        tau: the unit of radii, a number > 0 or a function of the point.
        critical: names of attacks whose critical radius is bisected, within [τ/32, 16τ].
        judged: (at, network, problem) → the classifier and the problem that are attacked, where
            these are not what was trained: a margin of several outputs, inputs without a tag.
        measure: `Ended` → named numbers, measured at the end of each seed.
        samples: fresh test points of each seed.

    Raises:
        ConfigError: one of these is of another kind, empty, or out of range.

    >>> import jax
    >>> import featpur_sim as fp
    >>> study = Study(
    ...     "narrow and wide",
    ...     points={"m": [8, 16]},
    ...     problem=lambda at, key: fp.SparseCoding(d=16, k=2, sigma_x=0.3),
    ...     network=lambda at, key: fp.TwoLayer.random(16, at.m, sigma_0=0.1, key=key),
    ...     phases=lambda at: [fp.CleanPhase(20)],
    ... )
    >>> study
    Study(narrow and wide, m=8|16, 2 points, 5 seeds)
    >>> study.listed[0]
    Point(m=8)
    """

    name: str
    points: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
    problem: Callable[[Any, PRNGKey], Any]
    network: Callable[[Any, PRNGKey], Any]
    phases: Callable[[Any], Sequence[Any]]
    seeds: int = 5
    seed: int = 0
    observe: Observe = observe_nothing
    records: int = 20
    attacks: Mapping[str, Callable[[Any, Any], Attack]] = dataclasses.field(
        default_factory=lambda: {"PGD": pgd}
    )
    radii: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0)
    tau: float | Callable[[Any], float] = 1.0
    critical: Sequence[str] = ()
    judged: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    measure: Callable[[Ended], Mapping[str, Any]] | None = None
    samples: int = 2048

    def __post_init__(self) -> None:
        expect("Study: name", self.name, str, "a text")
        for name in ("problem", "network", "phases", "observe"):
            _require_function(name, getattr(self, name))
        for name in ("judged", "measure"):
            if getattr(self, name) is not None:
                _require_function(name, getattr(self, name))
        for name in ("seeds", "records", "samples"):
            count(f"Study: {name}", getattr(self, name))
        count("Study: seed", self.seed, 0)
        self._require_attacks()
        if not callable(self.tau):
            double("Study: tau", self.tau, above=0)
        if not self.listed:
            raise ConfigError("Study: points has no point: give each axis at least one value.")

    def _require_attacks(self) -> None:
        expect("Study: attacks", self.attacks, Mapping, "{'PGD': function of (radius, problem)}")
        for name, make in self.attacks.items():
            _require_function(f"attacks[{name!r}]", make)
        if not len(self.radii) or len(set(self.radii)) < len(self.radii):
            raise ConfigError(f"Study: radii must be different numbers ≥ 0, got {self.radii}.")
        for radius in self.radii:
            double("Study: radii", radius, least=0)
        expect("Study: critical", self.critical, (list, tuple), "a list of names of attacks")
        if unknown := [name for name in self.critical if name not in self.attacks]:
            raise ConfigError(
                f"Study: critical names {unknown[0]!r}, which is no attack: attacks are "
                f"{', '.join(self.attacks) or 'none'}."
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what a point is made of."""
        return self.listed[0]._fields

    @property
    def listed(self) -> list[Any]:
        """Every point, a named tuple; of axes the last one changes fastest.

        Raises:
            ConfigError: an axis has a name that no coordinate can have, points differ in their
                axes or are the same, or a value is neither a number nor a text.
        """
        if not isinstance(self.points, Mapping | list | tuple):
            raise ConfigError(
                "Study: points must be axes, {'d': [64, 128]}, or a list of points, "
                f"got {said(self.points)}."
            )
        if not len(self.points):
            return []
        if isinstance(self.points, Mapping):
            values = [_values(name, of) for name, of in self.points.items()]
            rows = [
                dict(zip(self.points, each, strict=True)) for each in itertools.product(*values)
            ]
        else:
            rows = [_row(row) for row in self.points]
        if not rows:
            return []
        names = list(rows[0])
        for name in names:
            if not str(name).isidentifier() or name in RESERVED or name.startswith("_"):
                raise ConfigError(
                    f"Study: points has an axis {name!r}: it must be a name as Python's variables "
                    f"have, and none of {', '.join(sorted(RESERVED))}."
                )
        for row in rows:
            if list(row) != names:
                raise ConfigError(
                    f"Study: points differ in their axes, {names} and {list(row)}: give each point "
                    "every axis, in one order."
                )
        point = namedtuple("Point", names)  # pyright: ignore[reportUntypedNamedTuple]
        found = [point(**row) for row in rows]
        if len(set(found)) < len(found):
            twice = next(p for p in found if found.count(p) > 1)
            raise ConfigError(f"Study: points has {twice} twice: leave one out.")
        return found

    def unit(self, at: Any) -> float:
        """τ of a point: what radii are multiples of.

        Raises:
            ConfigError: it is no number > 0.
        """
        tau = self.tau(at) if callable(self.tau) else self.tau
        return float(double(f"Study: tau at {at}", tau, above=0))

    def identities(self) -> dict[str, Identity]:
        """What the trained networks depend on beside their point, and what the measurements do."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        training = {name: parts[name] for name in _TRAINED_BY}
        measuring = {
            name: value
            for name, value in parts.items()
            if name not in (*_TRAINED_BY, "name", "points")
        }
        return {
            "training": identify(training, parts=training),
            "measuring": identify(measuring, parts=measuring),
        }

    def described(self) -> str:
        """The study in words: its numbers, and the source of its functions."""
        lines, sources = [f"points = {[tuple(p) for p in self.listed]}  # {self.axes}"], []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "points") or value is None or value is observe_nothing:
                continue
            if isinstance(value, Mapping):
                value = {name: name_of(make) for name, make in value.items()}
                sources += [source_of(make) for make in self.attacks.values()]
            elif callable(value):
                sources.append(source_of(value))
                value = name_of(value)
            lines.append(f"{field.name} = {value!r}")
        return "\n".join([*lines, "", *dict.fromkeys(sources)])

    def __repr__(self) -> str:
        along = ", ".join(
            f"{name}={'|'.join(dict.fromkeys(str(point[i]) for point in self.listed))}"
            for i, name in enumerate(self.axes)
        )
        return f"Study({self.name}, {along}, {len(self.listed)} points, {self.seeds} seeds)"


def source_of(function: Any) -> str:
    """The source of a function as it stands in its file; its name where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip() + "\n"
    except (OSError, TypeError):
        return f"# {name_of(function)}: no source\n"


def _require_function(name: str, value: Any) -> None:
    if not callable(value) or isinstance(value, type):
        raise ConfigError(f"Study: {name} must be a function, got {said(value)}.")


def _row(row: Any) -> dict[str, Any]:
    expect("Study: each of points", row, Mapping, "{axis: value}")
    for name, value in row.items():
        _require_value(name, value)
    return {name: _plain(value) for name, value in row.items()}


def _values(name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise ConfigError(f"Study: points[{name!r}] must be a list of values, got {said(values)}.")
    for value in values:
        _require_value(name, value)
    return [_plain(value) for value in values]


def _require_value(name: str, value: Any) -> None:
    if not isinstance(value, int | float | str | np.number) or isinstance(value, bool):
        raise ConfigError(
            f"Study: {name} = {value!r}: a value of an axis must be a number or a text; look up "
            "anything else by it."
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def digest_of(at: Any) -> str:
    """Twelve digits that stand for a point: the name of its folder."""
    text = json.dumps(at._asdict(), sort_keys=True)
    return identify(text).digest.hex()[:12]
