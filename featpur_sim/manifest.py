"""Checksums of the files that we wrote into a folder: what was damaged or changed is not read.

``manifest.json`` holds the SHA-256 of each file by its name, and one of the list itself. A file
that is about to be replaced is taken off the list first and put back afterwards: a kill in between
leaves a file that is not on the list, never a whole one that looks damaged. Files that are not on
the list, such as those of a folder without a manifest, are read unchecked.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from featpur_sim.disk import ResultError, write_text

MANIFEST = "manifest.json"


def recorded(directory: str | Path) -> dict[str, str]:
    """Name of each file on the list → its SHA-256; none without a manifest.

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


def is_recorded(path: str | Path) -> bool:
    """Whether a file is what we wrote there.

    Raises:
        ResultError: the manifest of its folder is damaged.
    """
    path = Path(path)
    expected = recorded(path.parent).get(path.name)
    return expected is not None and path.is_file() and expected == _of_file(path)


def require_ours(directory: str | Path, *names: str) -> None:
    """Refuse to replace files of these names that are not what we wrote there.

    Raises:
        ResultError: one is of other origin, or was changed.
    """
    for path in (Path(directory) / name for name in names):
        if os.path.lexists(path) and not is_recorded(path):
            raise ResultError(
                f"{path} exists and is not what was written there: remove it, or choose another "
                "folder with --out."
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
def rewriting(directory: str | Path, *names: str) -> Iterator[list[Path]]:
    """Replace files of a claimed folder, and record what was written.

    Yields:
        The paths of the files; append those of further files that the block writes.

    Raises:
        ResultError: the manifest is damaged.
        OSError: the disk is full, say; the files are then not on the list.
    """
    directory = Path(directory)
    kept = {name: mark for name, mark in recorded(directory).items() if name not in names}
    if kept != recorded(directory):
        _write(directory, kept)
    written = [directory / name for name in names]
    yield written
    marks = {
        path.relative_to(directory).as_posix(): _of_file(path) for path in written if path.is_file()
    }
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


def _write(directory: Path, files: dict[str, str]) -> None:
    ordered = dict(sorted(files.items()))
    content = {"files": ordered, "sha256": _of_list(ordered)}
    write_text(directory / MANIFEST, json.dumps(content, indent=2) + "\n")


def _of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_list(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
