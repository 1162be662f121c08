"""A problem that hands out given samples, for tests that must know which ones were used."""

import jax
import jax.numpy as jnp

from featpur_sim import SparseCoding
from featpur_sim.data.sparse_coding import Batch


class CannedProblem(SparseCoding):
    """``problem``, but every sample is ``batch`` from its first row; past its end y = 0."""

    batch: Batch

    def __init__(self, problem: SparseCoding, batch: Batch):
        super().__init__(
            problem.d,
            float(problem.k),
            float(problem.sigma_x),
            wstar=problem.wstar,
            dictionary="identity" if problem.M is None else problem.M,
        )
        self.batch = batch

    def sample(self, key, n, *, start=0):
        row = start + jnp.arange(n)
        rows = jax.tree.map(lambda leaf: leaf.at[row].get(mode="clip"), self.batch)
        return rows._replace(y=jnp.where(row < self.batch.y.shape[0], rows.y, 0.0))
