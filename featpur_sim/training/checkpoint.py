"""Checkpoints of a training run, so that a run killed at any moment goes on bit for bit.

A checkpoint is one NumPy archive, replaced whole: a kill part-way leaves the previous one. No
pickles. It holds a digest of its contents and the identity of the run that it belongs to.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpur_sim._ground.checks import double
from featpur_sim._ground.disk import DiskWarning, atomic_path, require_writable
from featpur_sim.training.identity import Identity

STATE = "state.npz"

# What the archive says about itself; the caller's arrays have a prefix, and no name of these.
_DONE, _IDENTITY, _SOFTWARE, _DIGEST = "done", "identity", "software", "digest"
# Not in archives of development versions, which can still be read.
_WORDS = "words"
_ARRAY, _TYPE = "array.", "type."


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this run; ``what`` differs, in words."""

    def __init__(self, message: str, what: str):
        super().__init__(message)
        self.what = what


class Checkpoint:
    """A folder with the latest checkpoint of one training run, in the file ``state.npz``.

    Args:
        directory: created if absent.
        every: seconds between saves (phase ends are always saved).
        settings: what the run was asked for, nested tables, in which a refusal names what differs.

    Raises:
        ValueError: ``every`` is not a number ≥ 0, or ``directory`` is a file.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every: float = 30.0,
        settings: Mapping[str, Any] | None = None,
    ):
        self.every = float(double("Checkpoint: every (seconds)", every, least=0, most=np.inf))
        self.settings = settings
        self.directory = Path(directory).absolute()
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"Checkpoint: {self.directory} is a file: name a folder.")
        self._last = time.monotonic()

    def save_if_due(
        self,
        done: int,
        pack: Callable[[], Mapping[str, npt.ArrayLike]],
        identity: Identity,
        *,
        force: bool = False,
    ) -> bool:
        """Save the state after ``done`` record points if it is time to, or if ``force``.

        Returns:
            Whether it was saved.

        Raises:
            OSError: the disk is full, say; the checkpoint before is still there.
        """
        if not force and time.monotonic() - self._last < self.every:
            return False
        archive = _storable({name: np.asarray(value) for name, value in pack().items()})
        archive |= {_DONE: np.array(done)} | _written(identity)
        archive[_DIGEST] = _digest(archive)
        with atomic_path(self.directory / STATE) as temporary:
            np.savez(temporary, **archive)  # pyright: ignore[reportArgumentType]
        self._last = time.monotonic()
        return True

    def restore(self, identity: Identity) -> tuple[int, dict[str, np.ndarray]] | None:
        """The checkpoint as (record points done, arrays); None if there is none.

        A damaged one is none, with a `DiskWarning`: nothing in it can be trusted.

        Raises:
            CheckpointError: the checkpoint is of another run, or was written by other versions,
                whose bits would be others.
            ResultError: the folder cannot be written to, so that nothing could be saved.
        """
        require_writable(self.directory)
        path = self.directory / STATE
        if not path.exists():
            self._refuse_old_format()
            return None
        try:
            archive = _read(path)
        except Exception as error:  # damaged bytes make zipfile and NumPy raise anything
            warnings.warn(
                f"the checkpoint {path} is damaged ({error}): it is not used, and what it held "
                "is computed anew.",
                DiskWarning,
                stacklevel=2,
            )
            return None
        if found := _identity(archive).difference(identity):
            raise CheckpointError(
                f"the checkpoint in {self.directory} belongs to another run ({found.what}): "
                f"{found.undo} to go on, or remove that folder to start again.",
                found.what,
            )
        return int(archive[_DONE]), _arrays(archive)

    def _refuse_old_format(self) -> None:
        """Development versions wrote, with Orbax, one folder for each checkpoint."""
        if any(entry.name.isdigit() and entry.is_dir() for entry in self.directory.iterdir()):
            raise CheckpointError(
                f"the checkpoint in {self.directory} was written by an older version, in a "
                "format that this one does not read: remove that folder to start again, or go on "
                "with that version.",
                "an older format",
            )


def _written(identity: Identity) -> dict[str, np.ndarray]:
    """An identity as an archive holds it."""
    return {
        _IDENTITY: np.frombuffer(identity.digest, np.uint8),
        _SOFTWARE: np.array(identity.software),
        _WORDS: np.array(json.dumps([dict(identity.settings), dict(identity.parts)])),
    }


def _identity(archive: dict[str, np.ndarray]) -> Identity:
    """What `_written` was given."""
    settings, parts = json.loads(str(archive.get(_WORDS, "[{}, {}]")))
    return Identity(str(archive[_SOFTWARE]), archive[_IDENTITY].tobytes(), settings, parts)


def _storable(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``arrays`` as an archive holds them; one of a type such as bfloat16 as bytes and its type.

    NumPy's file format knows NumPy's own types alone.
    """
    stored = {}
    for name, array in arrays.items():
        if np.dtype(array.dtype.str) != array.dtype:
            stored[_TYPE + name] = np.array(array.dtype.name)
            array = array.view(f"V{array.dtype.itemsize}")
        stored[_ARRAY + name] = array
    return stored


def _arrays(archive: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `_storable` was given."""
    arrays = {}
    for key, array in archive.items():
        if key.startswith(_ARRAY):
            name = key.removeprefix(_ARRAY)
            foreign = archive.get(_TYPE + name)
            arrays[name] = array if foreign is None else array.view(np.dtype(str(foreign)))
    return arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    """The archive; an error of any type if it is not what was written."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
        archive = {name: found[name] for name in found.files}
    if not np.array_equal(archive.pop(_DIGEST), _digest(archive)):
        raise ValueError("its contents have another checksum")
    return archive


def _digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """SHA-256, as 32 bytes, of every name, type, shape and value."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
