"""Checkpoints of a training run, so that a run killed at any moment goes on bit for bit.

Orbax writes each checkpoint into a temporary folder and renames it when complete: a kill in the
middle leaves the one before. No pickles.
"""

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this run."""


class Checkpoint:
    """A folder of checkpoints.

    Args:
        directory: created if absent; holds nothing else.
        every: seconds between saves (phase ends are always saved).

    Raises:
        ValueError: ``every`` is negative.
    """

    def __init__(self, directory: str | Path, *, every: float = 30.0):
        if not every >= 0:
            raise ValueError(f"Checkpoint: every must be ≥ 0 seconds, got {every}.")
        self.directory = Path(directory).absolute()
        self.every = every
        self._last = time.monotonic()
        self._open_manager = None

    def _manager(self):
        if self._open_manager is None:
            # Imported here: it takes seconds, and most uses of the package need no checkpoint.
            import orbax.checkpoint as ocp

            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self._open_manager = ocp.CheckpointManager(self.directory, options=options)
        return self._open_manager

    def save_if_due(
        self,
        done: int,
        pack: Callable[[], dict[str, np.ndarray]],
        identity: np.ndarray,
        *,
        force: bool = False,
    ) -> None:
        """Save the state after ``done`` record points if it is time to, or if ``force``."""
        if not force and time.monotonic() - self._last < self.every:
            return
        import orbax.checkpoint as ocp

        # Orbax has not always taken NumPy scalars.
        tree = {name: np.asarray(v) for name, v in {"identity": identity, **pack()}.items()}
        self._manager().save(done, args=ocp.args.StandardSave(tree))
        self._last = time.monotonic()

    def restore(self, identity: np.ndarray) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest checkpoint as (record points done, arrays); None if there is none.

        Raises:
            CheckpointError: the checkpoint belongs to a run with other settings.
        """
        if not self.directory.exists():
            return None
        manager = self._manager()
        done = manager.latest_step()
        if done is None:
            return None
        import orbax.checkpoint as ocp

        tree = {k: np.asarray(v) for k, v in manager.restore(
            done, args=ocp.args.StandardRestore()
        ).items()}  # fmt: skip
        if not np.array_equal(tree.pop("identity"), identity):
            raise CheckpointError(
                f"the checkpoint in {self.directory} belongs to a run with other settings, seeds "
                "or software: remove that folder to start anew, or restore the old settings."
            )
        return done, tree


def fingerprint(tree: Any, *extra: Any) -> np.ndarray:
    """SHA-256, as 32 bytes, of every array and every static setting of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    # Functions print with their address, which differs from process to process.
    settings = re.sub(r" at 0x[0-9a-f]+", "", repr((structure, extra)))
    digest = hashlib.sha256(settings.encode())
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
