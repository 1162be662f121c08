"""Checksums of the files that we wrote into a folder: what was damaged or changed is not read.

``manifest.json`` holds the SHA-256 of each file by its name, and one of the list itself. While a
file is being replaced it stands there without a checksum: a kill in between leaves a file that is
known to be ours and is read unchecked, never a whole one that looks damaged. Files that are not on
the list, such as those of a folder without a manifest, are read unchecked too, but not replaced.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from featpur_sim._ground.disk import ResultError, write_text

MANIFEST = "manifest.json"


def recorded(directory: str | Path) -> dict[str, str | None]:
    """Name of each file on the list → its SHA-256, None while it is written; {} without a manifest.

    Raises:
        ResultError: the manifest itself is damaged.
    """
    path = Path(directory) / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        files = content["files"]
        if content["sha256"] != _of_list(files):
            raise ValueError("its own checksum differs")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ResultError(
            f"{path} is damaged ({error}): restore the folder from a copy, or remove this file to "
            "read the others unchecked."
        ) from None
    return files


def foreign(directory: str | Path, *names: str) -> list[Path]:
    """Those files of these names that exist and are not what we wrote there.

    Raises:
        ResultError: the manifest is damaged.
    """
    directory = Path(directory)
    ours = recorded(directory)
    return [
        path
        for path, name in ((directory / name, name) for name in names)
        if os.path.lexists(path)
        and not (path.is_file() and name in ours and ours[name] in (None, _of_file(path)))
    ]


def require_ours(directory: str | Path, *names: str) -> None:
    """Refuse to replace files of these names that are not what we wrote there.

    Raises:
        ResultError: some are of other origin, or were changed; or the manifest is damaged.
    """
    if found := foreign(directory, *names):
        which = ", ".join(map(str, found[:3])) + (" …" if len(found) > 3 else "")
        raise ResultError(
            f"what was not written by featpur, or was changed since, would be replaced: {which}. "
            "Move it to another folder."
        )


def require_intact(path: str | Path) -> None:
    """Refuse a file that is on the list of its folder with another checksum.

    Raises:
        ResultError: it was damaged or changed.
        OSError: it cannot be read.
    """
    path = Path(path)
    expected = recorded(path.parent).get(path.name)
    if expected is not None and expected != _of_file(path):
        raise ResultError(
            f"{path} is not what was written there (its checksum differs from that in {MANIFEST}): "
            "it was damaged or changed. Restore it from a copy, or make it again."
        )


@contextlib.contextmanager
def rewriting(directory: str | Path, *names: str) -> Iterator[None]:
    """Replace files of a claimed folder, and record what was written.

    Raises:
        ResultError: the manifest is damaged.
        OSError: the disk is full, say; the files then have no checksum.
    """
    directory = Path(directory)
    kept = {name: mark for name, mark in recorded(directory).items() if name not in names}
    _write(directory, kept | dict.fromkeys(names))
    yield
    marks = {name: _of_file(directory / name) for name in names if (directory / name).is_file()}
    _write(directory, kept | marks)


def start_anew(directory: str | Path) -> list[Path]:
    """Take every file off the list; returns the paths that were on it."""
    directory = Path(directory)
    try:
        names = list(recorded(directory))
    except ResultError:
        names = []
    (directory / MANIFEST).unlink(missing_ok=True)
    return [directory / name for name in names]


def _write(directory: Path, files: Mapping[str, str | None]) -> None:
    ordered = dict(sorted(files.items()))
    content = {"files": ordered, "sha256": _of_list(ordered)}
    write_text(directory / MANIFEST, json.dumps(content, indent=2) + "\n")


def _of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_list(files: Mapping[str, str | None]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
