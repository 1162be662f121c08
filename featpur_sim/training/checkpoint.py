"""Checkpoints of a training run, so that a run killed at any moment goes on bit for bit.

A checkpoint is one NumPy archive, replaced whole: a kill part-way leaves the previous one. No
pickles. It holds a digest of its contents, the versions that its bits depend on, and the
fingerprint of the settings that it belongs to.
"""

import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featpur_sim._ground.checks import double
from featpur_sim._ground.disk import DiskWarning, atomic_path, require_writable
from featpur_sim.training.fingerprint import software

STATE = "state.npz"

# What the archive says about itself; the caller's arrays have a prefix, and no name of these.
_DONE, _IDENTITY, _SOFTWARE, _DIGEST = "done", "identity", "software", "digest"
_ARRAY, _TYPE = "array.", "type."


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this run."""


class Checkpoint:
    """A folder with the latest checkpoint of one training run, in the file ``state.npz``.

    Args:
        directory: created if absent.
        every: seconds between saves (phase ends are always saved).

    Raises:
        ValueError: ``every`` is not a number ≥ 0, or ``directory`` is a file.
    """

    def __init__(self, directory: str | Path, *, every: float = 30.0):
        self.every = float(double("Checkpoint: every (seconds)", every, least=0, most=np.inf))
        self.directory = Path(directory).absolute()
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"Checkpoint: {self.directory} is a file: name a folder.")
        self._last = time.monotonic()

    def save_if_due(
        self,
        done: int,
        pack: Callable[[], dict[str, np.ndarray]],
        identity: np.ndarray,
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
        archive |= {_DONE: np.array(done), _IDENTITY: identity, _SOFTWARE: np.array(software())}
        archive[_DIGEST] = _digest(archive)
        with atomic_path(self.directory / STATE) as temporary:
            np.savez(temporary, **archive)  # pyright: ignore[reportArgumentType]
        self._last = time.monotonic()
        return True

    def restore(self, identity: np.ndarray) -> tuple[int, dict[str, np.ndarray]] | None:
        """The checkpoint as (record points done, arrays); None if there is none.

        A damaged one is none, with a `DiskWarning`: nothing in it can be trusted.

        Raises:
            CheckpointError: the checkpoint belongs to a run with other settings or was written by
                other versions, whose bits would be others.
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
        remedy = f"remove the folder {self.directory} to start again"
        if (wrote := str(archive[_SOFTWARE])) != software():
            raise CheckpointError(
                f"the checkpoint in {self.directory} was written by {wrote}; this is "
                f"{software()}, whose last digits may differ: install those versions to go on, or "
                f"{remedy}."
            )
        if not np.array_equal(archive[_IDENTITY], identity):
            raise CheckpointError(
                f"the checkpoint in {self.directory} belongs to a run with other settings, seeds "
                f"or code: {remedy}, or restore the old settings."
            )
        return int(archive[_DONE]), _arrays(archive)

    def _refuse_old_format(self) -> None:
        """Development versions wrote, with Orbax, one folder for each checkpoint."""
        if any(entry.name.isdigit() and entry.is_dir() for entry in self.directory.iterdir()):
            raise CheckpointError(
                f"the checkpoint in {self.directory} was written by an older version, in a "
                "format that this one does not read: remove that folder to start again, or go on "
                "with that version."
            )


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
