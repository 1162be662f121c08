"""The certificate of a run on disk, and the evidence against one (docs/theory.md §8)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featpur_sim._ground.disk import atomic_path, write_text
from featpur_sim._ground.manifest import rewriting
from featpur_sim._ground.rows import Row
from featpur_sim.certify import Contradiction
from featpur_sim.runs.folder import load_rows, to_json

CERTIFICATE, CONTRADICTION = "certificate.json", "contradiction.npz"


def save_certificate(directory: str | Path, rows: list[Row]) -> Path:
    """Write ``certificate.json`` atomically, and its checksum; returns its path."""
    path = Path(directory) / CERTIFICATE
    with rewriting(directory, CERTIFICATE):
        write_text(path, to_json(rows, indent=2) + "\n")
    return path


def load_certificate(directory: str | Path) -> list[Row]:
    """The rows of ``certificate.json``; none if the folder has no such file.

    Raises:
        ResultError: the file is damaged.
    """
    path = Path(directory) / CERTIFICATE
    needed = {"phase", "relative_radius", "norm", "function", "seeds", "stages", "protocol"}
    return load_rows(path, needed, "featpur certify")


@contextlib.contextmanager
def keep_contradiction(directory: str | Path) -> Iterator[None]:
    """Write ``contradiction.npz``, plain arrays, if the block ends in a `Contradiction`.

    Evidence of an earlier one stays: the next is ``contradiction-2.npz``, and so on.
    """
    try:
        yield
    except Contradiction as error:
        path, number = Path(directory) / CONTRADICTION, 1
        while path.exists():
            number += 1
            path = path.with_name(f"{Path(CONTRADICTION).stem}-{number}.npz")
        try:
            with atomic_path(path) as temporary:
                np.savez_compressed(temporary, **error.evidence)
        except OSError as refused:
            error.add_note(f"{path} could not be written: {refused.strerror}.")
        else:
            error.add_note(f"The point, the perturbation and the network are in {path}.")
        raise
