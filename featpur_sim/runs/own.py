"""Settings with the code and the arrays that they name (docs/how-to/own-run.md).

A file names code as ``"module:name"``; it is imported on permission alone, since a settings file
must never run code by itself. From Python the objects are given as they are. Either way the
settings that are kept hold the name, a hash of source and values, and the repr of every part, so
that a run that goes on, or is read back, with other code is refused.
"""

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optax

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect, said
from featpur_sim.attacks.balls import L2Ball, LinfBall
from featpur_sim.attacks.gradient import FGM, PGD, RandomNoise
from featpur_sim.data.laws import GaussianTwin, Levels, TwoLevel, UniformMagnitude
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.config import OwnConfig, RunConfig, parse
from featpur_sim.runs.parts import GIVEN, Parts
from featpur_sim.training.fingerprint import fingerprint, name_of
from featpur_sim.training.phase import Phase

CODE = ("law", "problem", "network", "phases", "observe", "claims")
"""The parts that are code."""
_CONSTANTS = {"problem": SparseCoding, "network": SymmetricReLU, "phases": (list, tuple)}
# What a settings file has a word for; anything else is "own" there.
_ATTACKS: dict[Any, str] = {FGM: "fgm", PGD: "pgd", RandomNoise: "random-noise"}
_OPTIMIZERS = {getattr(optax, n): n for n in ("sgd", "adam", "adamw", "rmsprop", "lion")}
_LONGEST = 200


def resolve(
    config: RunConfig,
    *,
    allow_import: bool = False,
    folder: str | Path = ".",
    given: Mapping[str, Any] | None = None,
    kept: bool = False,
) -> RunConfig:
    """The settings with everything that they name at hand, and its numbers written into them.

    Args:
        config: may name code and files.
        allow_import: whether to import the modules that it names, which runs their code.
        folder: where files are looked up.
        given: part → the object or function to use; see `featpur_sim.runs.parts.Parts`. A
            `SparseCoding`, a `SymmetricReLU` or a list of phases stands for every seed.
        kept: whether these are settings of a run that is there: what draws its samples, law and
            problem, must be the same, and the rest is asked for when it is used.

    Raises:
        ConfigError: code may not be imported, cannot be found or is of the wrong kind; a file is
            missing or damaged; what is kept was made with other code.
    """
    given = {name: value for name, value in (given or {}).items() if value is not None}
    if kept and "problem" in given and not (config.own and config.own.problem):
        raise ConfigError("problem is given, but the run drew its data as its settings say.")
    config = config if kept else _named(config, given)
    needed = ("law", "problem") if kept else CODE
    objects = {
        name: given[name] if name in given else _imported(name, code, allow_import)
        for name, code in _names(config).items()
        if name in needed
    }
    arrays = {
        part: given[part] if part in given else _read(setting, path, Path(folder))
        for part, (setting, path) in _files(config).items()
    }
    if not objects and not arrays and config.own is None:
        return config
    usable: dict[str, Any] = {name: _callable(name, value) for name, value in objects.items()}
    usable.update(arrays)
    if kept:
        _require_same(config, objects | arrays)
        config = config.model_copy()
        config._parts = Parts(**usable)
        return config
    return _with_parts(config, Parts(**usable), objects, arrays, Path(folder))


def require_plain_phases(config: RunConfig, what: str) -> None:
    """Refuse what trains or computes by the settings of the phases if they are code.

    Raises:
        ConfigError: they are.
    """
    if config.own and config.own.phases:
        raise ConfigError(
            f"own.phases = {config.own.phases!r}: {what} the phases that settings describe, and "
            "these are code. Take a run without."
        )


def own_claims(config: RunConfig, given: Sequence[Any] | None, allow_import: bool) -> Sequence[Any]:
    """The claims that a run judges beside those of the scorecard.

    Args:
        config: of the run.
        given: claims to use instead of those that it names.
        allow_import: whether to import the latter.

    Raises:
        ConfigError: they are code that is not here.
    """
    if given is not None:
        return _callable("claims", given)
    code = config.own.claims if config.own else None
    return () if code is None else _callable("claims", _imported("claims", code, allow_import))


def _names(config: RunConfig) -> dict[str, str]:
    """Part → the code that the settings name for it."""
    # The problem that code gives has its law with it.
    found = {} if config.own and config.own.problem else {"law": config.problem.of}
    found |= {name: getattr(config.own, name) for name in CODE[1:]} if config.own else {}
    return {name: code for name, code in found.items() if code is not None}


def _files(config: RunConfig) -> dict[str, tuple[str, str]]:
    p = config.problem
    found = {
        "wstar": ("problem.wstar_file", p.wstar_file),
        "dictionary": ("problem.dictionary_file", p.dictionary_file),
    }
    return {part: (setting, path) for part, (setting, path) in found.items() if path is not None}


def _named(config: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """The settings with the names of what is given in Python."""
    if not given:
        return config
    own = config.own or OwnConfig()
    names = {
        name: getattr(own, name) or f"{GIVEN}{_name(value)}"
        for name, value in given.items()
        if name in CODE[1:]
    }
    if not names:
        return config
    return config.model_copy(update={"own": own.model_copy(update=names)})


def _name(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_name, value)) or "nothing"
    if isinstance(value, Phase):
        return value.name
    return str(getattr(value, "id", None) or getattr(value, "__name__", type(value).__name__))


def _imported(name: str, code: str, allowed: bool) -> Any:
    where = "problem.law" if name == "law" else f"own.{name}"
    if code.startswith(GIVEN):
        raise ConfigError(f"{where} was {code}: give it again from Python, as {_again(name)}.")
    if not allowed:
        raise ConfigError(
            f"{where} = {code!r} is code, and reading settings runs none: allow it with "
            "--allow-import, or allow_import=True in Python, if you trust the file."
        )
    module, _, attribute = code.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{where} = {code!r} cannot be imported: {reason}. Modules are looked up in "
            f"{sys.path[0] or 'the current folder'} and among the installed ones."
        ) from None


def _again(name: str) -> str:
    calls = {"claims": " or fp.write_report(folder, claims=…)"}
    calls |= {"problem": " or fp.load(folder, problem=…)"}
    return f"fp.run(settings, {name}=…){calls.get(name, '')}"


def _callable(name: str, value: Any) -> Any:
    """A part as runs use it: what stands for every seed becomes a function."""
    kind = _CONSTANTS.get(name)
    if kind is not None and isinstance(value, kind):
        return partial(_constant, value)
    if name == "claims":
        expect("claims", value, (list, tuple), "a list of claims")
        return tuple(value)
    wanted = {
        "problem": "a SparseCoding, or a function of (settings, seed) that gives one",
        "network": "a SymmetricReLU, or a function of (settings, key) that gives one",
        "phases": "a list of two phases, or a function of the settings that gives it",
        "law": "a hidden law's class",
    }
    if not callable(value):
        raise ConfigError(
            f"{name} must be {wanted.get(name, 'a function of one Moment')}, got {said(value)}."
        )
    return value


def _constant(value: Any, *_: Any) -> Any:
    return value


def _read(setting: str, path: str, folder: Path) -> np.ndarray:
    try:
        with open(folder / path, "rb") as file:
            array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError("it does not hold one array of numbers")
        return np.asarray(array, np.float32)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{setting} = {path!r} cannot be read: {reason}.") from None


def _require_same(config: RunConfig, found: Mapping[str, Any]) -> None:
    before = config.own.source if config.own else {}
    for name, value in found.items():
        if name in before and before[name] != source(value):
            raise ConfigError(
                f"{name} is not what the run had: its code or its values have changed since "
                f"({before[name]} → {source(value)}). Give the old one, or repeat the run."
            )


def source(value: Any) -> str:
    """Sixteen digits that stand for the code and the values of a part.

    >>> source(len) == source(len), source(len) == source(max)
    (True, False)
    """
    return hashlib.sha256(fingerprint(value).tobytes()).hexdigest()[:16]


def _shown(value: Any) -> str:
    text = repr(value) if not callable(value) or isinstance(value, tuple) else name_of(value)
    # An address differs from process to process.
    text = _name(value) if " at 0x" in text else " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _with_parts(
    config: RunConfig,
    parts: Parts,
    objects: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    folder: Path,
) -> RunConfig:
    """The settings with their parts, which decide the numbers that both could say."""
    both = {**objects, **arrays}
    own = (config.own or OwnConfig()).model_copy(
        update={
            # Claims change no number: every call judges by its own.
            "source": {n: source(value) for n, value in both.items() if n != "claims"},
            "shown": {n: _shown(value) for n, value in objects.items() if n != "claims"},
        }
    )
    paths = {
        setting.partition(".")[2]: str((folder / path).resolve())
        for setting, path in _files(config).values()
    }
    config = config.model_copy(
        update={"own": own, "problem": config.problem.model_copy(update=paths)}
    )
    settings = config.model_dump(exclude_none=True, mode="json")
    if parts.problem is not None:
        each = "shared" if isinstance(objects["problem"], SparseCoding) else "per-seed"
        settings["problem"] = _problem_settings(parts.problem(config, 1)) | {"draw": each}
    if parts.phases is not None:
        for phase in two_phases(parts.phases(config)):
            settings[phase.name] |= _phase_settings(phase)
    config = parse(settings)
    config._parts = parts
    return config


def two_phases(phases: Any) -> list[Phase]:
    """The phases that code gives, once they are what a run is made of.

    Raises:
        ConfigError: they are not a clean and an adversarial phase.
    """
    expect("phases", phases, (list, tuple), "[CleanPhase(…), AdversarialPhase(…)]")
    names = [getattr(phase, "name", said(phase)) for phase in phases]
    if names != ["clean", "adversarial"]:
        raise ConfigError(
            f"phases must be one 'clean' and one 'adversarial', in this order, got {names}: a run "
            "compares the two. fp.train takes any."
        )
    return list(phases)


def _problem_settings(problem: Any) -> dict[str, Any]:
    """What a settings file can say of a problem; "own" stands for the rest."""
    expect("problem", problem, SparseCoding, "a SparseCoding, or a function that gives one")
    law = problem.law
    named = {"law": "own", "of": f"{GIVEN}{type(law).__name__}"}
    if isinstance(law, Levels):
        named = {"law": "levels", "levels": law.values.tolist(), "rates": law.rates.tolist()}
    elif isinstance(law, TwoLevel | UniformMagnitude | GaussianTwin):
        named = {"law": law.label, "p_one": _plain(law.p_one)}
    signs = bool(np.all(np.abs(np.asarray(problem.wstar)) == 1))
    return {
        "d": problem.d,
        "k": _plain(problem.k),
        "sigma_x": _plain(problem.sigma_x),
        "features": problem.D if problem.D != problem.d else None,
        "wstar": "signs" if signs else "own",
        "dictionary": "identity" if problem.M is None else "own",
        **named,
    }


def _phase_settings(phase: Phase) -> dict[str, Any]:
    """What a settings file can say of a phase."""
    found: dict[str, Any] = {
        "steps": int(phase.steps),
        "optimizer": _OPTIMIZERS.get(phase.optimizer, "own"),
        "learning_rate": _plain(phase.learning_rate),
        "weight_decay": _plain(phase.weight_decay),
        "batch": phase.batch,
        "microbatch": phase.microbatch if phase.microbatch != phase.batch else None,
        "dataset_size": phase.dataset_size,
    }
    if phase.name == "adversarial":
        found |= {"rank": phase.rank, "attack": _ATTACKS.get(type(phase.attack), "own")}
        if isinstance(phase.attack, PGD):
            found["pgd_steps"] = phase.attack.steps
        ball = getattr(phase.attack, "ball", None)
        if isinstance(ball, L2Ball | LinfBall):
            norm = "l2" if isinstance(ball, L2Ball) else "linf"
            found |= {"radius": _plain(ball.radius), "norm": norm}
    return found


def _plain(number: Any) -> float:
    """A float32 of the device in the digits that name it."""
    return float(f"{float(number):.7g}")
