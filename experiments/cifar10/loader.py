"""The binary format of CIFAR-10 (A. Krizhevsky, *Learning multiple layers of features*, 2009).

A file is any number of records of 3,073 bytes: a label from 0 to 9, then 3,072 pixels, 32×32 red,
then green, then blue, row by row. Nothing is unpickled.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

LABELS = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
SHAPE = (32, 32, 3)
RECORD = 1 + 3 * 32 * 32
TRAIN, TEST = "data_batch_*.bin", "test_batch.bin"


class DataError(ValueError):
    """A data folder or file that is not CIFAR-10 in its binary format; the message says why."""


class Images(NamedTuple):
    """Labelled images: pixels [n, 32, 32, 3] uint8 and labels [n] int32, 0 to 9."""

    pixels: np.ndarray
    labels: np.ndarray

    def first(self, n: int) -> "Images":
        """The first ``n`` images, or all if there are fewer."""
        return Images(self.pixels[:n], self.labels[:n])

    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels: says which data a result belongs to."""
        return hashlib.sha256(self.pixels.tobytes() + self.labels.tobytes()).hexdigest()


def read(path: str | Path) -> Images:
    """All records of one file.

    Raises:
        DataError: the file is missing, empty, truncated, or holds a label above 9.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not content:
        raise DataError(f"{path} is empty: a record has {RECORD} bytes.")
    if len(content) % RECORD:
        raise DataError(
            f"{path} has {len(content)} bytes, which is no multiple of {RECORD}, the size of a "
            "record: it is truncated, or not in CIFAR-10's binary format."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= len(LABELS):
        at = int(np.argmax(labels >= len(LABELS)))
        raise DataError(
            f"{path}: record {at} has label {labels[at]}, labels are 0 to 9: the file is damaged, "
            "or not in CIFAR-10's binary format."
        )
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.int32))


def load(directory: str | Path) -> tuple[Images, Images]:
    """Training and test images: all ``data_batch_*.bin``, in order of name, and ``test_batch.bin``.

    Raises:
        DataError: the folder or one of the files is missing or cannot be read as CIFAR-10.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"the data folder {directory} does not exist or is no folder.")
    files = sorted(directory.glob(TRAIN))
    if not files:
        raise DataError(
            f"{directory} holds no {TRAIN}: give the folder with CIFAR-10's binary version."
        )
    parts = [read(file) for file in files]
    train = Images(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return train, read(directory / TEST)
