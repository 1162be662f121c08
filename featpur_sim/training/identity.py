"""Is this the same run? Versions, settings and code, compared and named.

Everything that goes on with what is on disk, or puts it beside what is new, asks here: a checkpoint
of training, the parts of an evaluation and of a certificate, a finished run, a sweep's folder and
its workers. A digest decides; settings and parts in words say what differs.
"""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import optax

import featpur_sim
from featpur_sim.training.fingerprint import ARRAY, SCALAR, fingerprint, name_of

# Changes that a message names, and characters of each value.
_NAMED, _LONGEST = 4, 60


def software() -> str:
    """The versions that the bits of a run or a batch, and the fingerprint of code, depend on."""
    python = ".".join(platform.python_version_tuple()[:2])
    return (
        f"featpur_sim {featpur_sim.__version__}, jax {jax.__version__}, "
        f"jaxlib {jaxlib.version.__version__}, "
        f"optax {optax.__version__}, numpy {np.__version__}, Python {python}"
    )


def can_read(version: Any) -> bool:
    """Whether files of that version of the package mean the same to this one."""
    ours = featpur_sim.__version__
    return isinstance(version, str) and version.rsplit(".", 1)[0] == ours.rsplit(".", 1)[0]


class Difference(NamedTuple):
    """What tells a run from another.

    Attributes:
        what: "name old → new" for each change, on one line.
        undo: how the old one can go on, an imperative.
    """

    what: str
    undo: str


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a result depends on.

    Attributes:
        software: of `software`; of the names that an older one holds, the versions are compared.
        digest: equal for equal settings, seeds and code.
        settings: what was asked for, name → value in words; see `in_words`.
        parts: what came of it, likewise: named where no setting explains the digest.
    """

    software: str
    digest: bytes
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def difference(self, new: "Identity") -> Difference | None:
        """What differs in a new run from this one; None if they are the same."""
        versions = _changes(*map(_versions, (self.software, new.software)), absent=False)
        others = []
        if self.digest != new.digest:
            others = _changes(self.settings, new.settings) or _changes(self.parts, new.parts)
            others = others or ["settings, seeds or code"]
        undo = ["install those versions"] * bool(versions) + ["undo the change"] * bool(others)
        found = [*versions, *others]
        more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
        return Difference("; ".join(found[:_NAMED] + more), " and ".join(undo)) if found else None


def identify(
    tree: Any,
    *extra: Any,
    settings: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Identity:
    """The identity of what some values lead to, here and with these versions.

    Args:
        tree: what decides, with ``extra``: see `featpur_sim.training.fingerprint.fingerprint`.
        extra: likewise.
        settings: what was asked for, to name what differs.
        parts: likewise, where no setting explains a difference.

    Raises:
        ValueError: a value cannot be told from others of its type.
    """
    digest = fingerprint(tree, *extra).tobytes()
    return Identity(software(), digest, in_words(settings or {}), in_words(parts or {}))


def identify_settings(software: str, settings: Mapping[str, Any], behind: str = "") -> Identity:
    """The identity of what is described by plain settings alone.

    Args:
        software: what computed it.
        settings: nested tables of TOML.
        behind: a digest of the presets and defaults that the settings refer to.
    """
    text = json.dumps([settings, behind], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).digest()
    parts = {"the presets and defaults behind the points": behind[:8]} if behind else {}
    return Identity(software, digest, in_words(settings), parts)


def software_change(old: str, new: str) -> str:
    """Versions that differ between two texts of `software`; "" if none does.

    >>> software_change("jax 0.10.1, Python 3.11", "jax 0.10.2, Python 3.11")
    'jax 0.10.1 → 0.10.2'
    """
    return "; ".join(_changes(_versions(old), _versions(new)))


def in_words(tree: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as one flat table of short words; arrays and functions by their fingerprint.

    >>> in_words({"clean": {"steps": 20, "radii": [0, 1]}, "rate": np.full(3, 0.5)})
    {'clean.steps': '20', 'clean.radii': '[0, 1]', 'rate': '0.5'}
    """
    return {path: words for name, value in tree.items() for path, words in _leaves(name, value)}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, SCALAR):
        yield path, repr(value)
    elif isinstance(value, ARRAY):
        yield path, _array(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{path}.{name}", item)
    elif isinstance(value, list | tuple) and all(isinstance(item, SCALAR) for item in value):
        yield path, repr(list(value))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(f"{path}[{number}]", item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield path, type(value).__qualname__
        for field in dataclasses.fields(value):
            yield from _leaves(f"{path}.{field.name}", getattr(value, field.name, None))
    else:
        yield path, f"{name_of(value)} ({_mark(value)})"


def _array(array: Any) -> str:
    """The value of an array whose entries are all equal, its shape and fingerprint otherwise."""
    if not jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        entries = np.asarray(array).ravel()
        if len(entries) and (entries == entries[0]).all():
            return str(entries[0])
    return f"array {list(array.shape)} ({_mark(array)})"


def _mark(value: Any) -> str:
    return fingerprint(value).tobytes().hex()[:8]


def _versions(software: str) -> dict[str, str]:
    pairs = (each.rpartition(" ") for each in software.split(", ") if each)
    return {name: version for name, _, version in pairs}


def _changes(old: Mapping[str, str], new: Mapping[str, str], *, absent: bool = True) -> list[str]:
    """Each entry that differs as "name old → new"; with ``absent`` also those that old lacks."""
    if not old:  # nothing was written down
        return []
    names = dict.fromkeys([*old, *new] if absent else old)
    return [
        f"{name} {_short(old.get(name, 'absent'))} → {_short(new.get(name, 'absent'))}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
