"""Finished parts of an evaluation, kept on disk so that a killed one can resume."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from featpur_sim.training.checkpoint import Checkpoint, CheckpointError
from featpur_sim.training.identity import Identity

FOLDER = "evaluation"


class EvaluationParts:
    """Arrays by name, each computed once, saved as soon as it is there.

    Args:
        directory: the checkpoint folder of the run, in which a folder ``evaluation`` is made; None
            saves nothing.
        identity: of everything that the parts depend on. Parts that were saved under another, or
            that are damaged, are computed again.

    Attributes:
        anew: why parts that were there are computed again; "" if none are.

    Raises:
        ResultError: the folder cannot be written to.
    """

    def __init__(self, directory: str | Path | None = None, identity: Identity | None = None):
        self._checkpoint, self._arrays, self.anew = None, {}, ""
        if directory is not None and identity is not None:
            self._checkpoint = Checkpoint(Path(directory) / FOLDER, every=0)
            self._identity = identity
            self._arrays = self._found(self._checkpoint)

    def __len__(self) -> int:
        """How many parts are saved."""
        return len(self._arrays)

    def kept(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The part of that name: what was saved, or else what ``compute`` returns, saved.

        Raises:
            OSError: the disk is full, say; the parts before are still there.
        """
        if self._checkpoint is None:
            return compute()
        if name not in self._arrays:
            self._arrays[name] = compute()
            self._checkpoint.save_if_due(len(self), lambda: self._arrays, self._identity)
        return self._arrays[name]

    def _found(self, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
        try:
            saved = checkpoint.restore(self._identity)
        except CheckpointError as error:
            self.anew = error.what
            # The training beside it was accepted, so only settings of the evaluation are others:
            # no reason to refuse the run.
            return {}
        return {} if saved is None else saved[1]
