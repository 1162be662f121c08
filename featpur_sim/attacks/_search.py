"""A search for the worst perturbation of each point, attack after attack (docs/theory.md §8).

Bookkeeping for protocol.py: which points survive, the best perturbation of each, who found it.
Points are gathered into batches of a few fixed sizes, so that one compiled program per attack
serves every radius and every number of survivors.
"""

import time
from collections.abc import Callable, Sequence
from typing import Literal, TypedDict, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.types import Array, Bool, Float, Int, PRNGKey
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import PGD, Attack
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier

Start = Literal["zero", "sphere", "inside", "sparse", "best", "near best", "given"]

# Batch sizes that are compiled.
SMALL, LARGE = 128, 1024
# A "sparse" start moves about this many coordinates (ℓ2), or this fraction of them (ℓ∞).
SPARSE_COORDINATES, SPARSE_FRACTION = 4, 0.1
# An "inside" start has this fraction of the radius (ℓ2); in ℓ∞ it is uniform in the box.
INSIDE_FRACTION = 0.3
_ORDER: dict[Norm, float] = {"l2": 2, "linf": np.inf}


def batches(index: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " b"]]:
    """Cut ``index`` into pieces of 1024 and 128; the last is padded by repeating its last entry.

    >>> tuple(len(piece) for piece in batches(np.arange(1300)))
    (1024, 128, 128, 128)
    """
    pieces: list[Int[np.ndarray, " b"]] = []
    at = 0
    while at < len(index):
        # Four small batches cost as much as one large one half empty.
        size = LARGE if len(index) - at > LARGE // 2 else SMALL
        pieces.append(index[np.minimum(np.arange(at, at + size), len(index) - 1)])
        at += size
    return pieces


def in_batches(
    function: Callable[..., Array], index: Int[np.ndarray, " n"], *rows: np.ndarray
) -> np.ndarray:
    """``function(*rows[index])`` batch by batch.

    Args:
        function: maps arrays [b, …] to an array [b, …].
        index: n ≥ 1 rows to work on.
        *rows: arrays whose rows ``index`` names.

    Returns:
        The n results.
    """
    parts = [np.asarray(function(*(row[piece] for row in rows))) for piece in batches(index)]
    return np.concatenate(parts)[: len(index)]


@eqx.filter_jit
def search(
    attack: Attack,
    model: Classifier,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    start: Float[Array, "n d"],
    key: PRNGKey,
) -> Float[Array, "n d"]:
    """δ of ``attack``, from ``start`` if the attack descends."""
    # No attack of a protocol looks at the hidden z.
    batch = Batch(x, y, x)
    if isinstance(attack, PGD | APGD):
        return attack.descend(model, batch, start, key=key).delta
    return attack(model, batch, key=key)


@eqx.filter_jit
def score(model: Classifier, x: Array, y: Array, key: PRNGKey) -> Float[Array, " n"]:
    """y f(x)."""
    return y * model(x, key=key)


@jax.jit
def _numbered(key: PRNGKey, number: int | Array) -> tuple[PRNGKey, Array]:
    """The key of one descent, and what seeds its random start."""
    own = jax.random.fold_in(key, number)
    return own, jax.random.bits(own, (4,))


@eqx.filter_jit
def _look(model: Classifier, x: Array, key: PRNGKey) -> Float[Array, "n columns"]:
    """Columns f(x), f(x) with another key, ∇ₓf(x)."""
    one, other = jax.random.split(key)
    value, gradient = model.value_and_input_gradient(x, key=one)
    return jnp.column_stack([value, model(x, key=other), gradient])


def inside_ball(delta: np.ndarray, radius: float, norm: Norm) -> np.ndarray:
    """δ in float32 with ‖δ‖ ≤ radius for its float32 entries taken as exact numbers."""
    length = np.linalg.norm(delta.astype(np.float64), _ORDER[norm], axis=-1, keepdims=True)
    # The margin of 4e-7 outweighs the rounding of the cast below and of the norm above.
    shrink = np.where(length > radius, radius / np.maximum(length, 1e-300) * (1 - 4e-7), 1)
    return (delta * shrink).astype(np.float32)


class StageRecord(TypedDict):
    """What one stage did.

    Attributes:
        attack: name of the stage.
        points: on which it ran.
        broken: among them by it.
        new: among those by no earlier stage.
        steps: gradient steps per point.
        seconds: with compilation.
    """

    attack: str
    points: int
    broken: int
    new: int
    steps: float
    seconds: float


class Hunt:
    """The best perturbation so far of every point, and the record of who found it.

    Attributes:
        clean: y f(x), [n].
        margin: least y f so far, [n].
        delta: where it is, [n, d].
        table: one record per stage.
    """

    def __init__(self, model: Classifier, batch: Batch, radius: float, norm: Norm, key: PRNGKey):
        self.model, self.radius, self.key = model, radius, key
        self.norm: Norm = norm
        self.x, self.y = np.asarray(batch.x, np.float32), np.asarray(batch.y, np.float32)
        self.labelled = np.flatnonzero(self.y)
        self.clean = np.full(len(self.y), np.nan, np.float32)
        self.clean[self.labelled] = self.score(self.labelled, np.zeros_like(self.x))
        self.margin = self.clean.copy()
        self.delta = np.zeros_like(self.x)
        self.table: list[StageRecord] = []

    def score(self, index: Int[np.ndarray, " b"], delta: np.ndarray) -> Float[np.ndarray, " b"]:
        """y f(x + δ) of the points ``index``; ``delta`` has all n rows."""

        def one_batch(x: np.ndarray, y: np.ndarray, delta: np.ndarray) -> Array:
            return score(self.model, jnp.asarray(x + delta), jnp.asarray(y), self.key)

        return in_batches(one_batch, index, self.x, self.y, delta)

    def look(self, index: Int[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """f [b] and ∇ₓf [b, d] at the points ``index``, and f again with another key."""

        def one_batch(x: np.ndarray) -> Array:
            return _look(self.model, jnp.asarray(x), self.key)

        columns = in_batches(one_batch, index, self.x)
        return columns[:, 0], columns[:, 2:], columns[:, 1]

    def broken(self) -> Bool[np.ndarray, " n"]:
        """Which points are classified wrongly somewhere; a point without a label is not."""
        return (self.y != 0) & ~(self.margin > 0)

    def descend(
        self, attack: Attack, index: Int[np.ndarray, " b"], start: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run an attack on the points ``index``: margins [b] and perturbations [b, d]."""
        key, _ = self._numbered(number)
        delta = np.zeros_like(self.x)

        def one_batch(x: np.ndarray, y: np.ndarray, start: np.ndarray) -> Array:
            points = jnp.asarray(x), jnp.asarray(y), jnp.asarray(start)
            return search(attack, self.model, *points, key)

        found = in_batches(one_batch, index, self.x, self.y, start)
        delta[index] = inside_ball(found, self.radius, self.norm)
        return self.score(index, delta), delta[index]

    def run(
        self,
        name: str,
        attack: Attack,
        starts: Sequence[Start | np.ndarray],
        *,
        number: int,
        cascade: bool,
    ) -> None:
        """One stage: ``attack`` from each start in turn, on the points it has not broken.

        Args:
            name: for the table.
            attack: its steps are what ``steps`` in the table counts.
            starts: kinds of start or perturbations [n, d].
            number: of the stage, from 0; it names the random starts.
            cascade: leave out the points that earlier stages have broken.
        """
        began = time.perf_counter()
        already = self.broken()
        eligible = self.labelled[self.clean[self.labelled] > 0]
        index = eligible[~already[eligible]] if cascade else eligible
        points, work = len(index), 0
        fallen = np.zeros(len(self.y), bool)
        for restart, kind in enumerate(starts):
            if not len(index):
                break
            start = self._start(kind, 1000 * number + restart) if isinstance(kind, str) else kind
            margin, delta = self.descend(attack, index, start, 1000 * number + restart)
            work += len(index)
            better = margin < self.margin[index]
            self.margin[index[better]], self.delta[index[better]] = margin[better], delta[better]
            fallen[index[~(margin > 0)]] = True
            index = index[margin > 0]
        steps = attack.steps if isinstance(attack, PGD | APGD) else 1
        self.table.append(
            {
                "attack": name,
                "points": points,
                "broken": int(fallen.sum()),
                "new": int((fallen & ~already).sum()),
                "steps": steps * work / max(points, 1),
                "seconds": time.perf_counter() - began,
            }
        )

    def _numbered(self, number: int) -> tuple[PRNGKey, Array]:
        return cast(tuple[PRNGKey, Array], _numbered(self.key, number))

    def _start(self, kind: Start, number: int) -> np.ndarray:
        """Starts for all n points, so that a point's start does not depend on the survivors."""
        if kind == "zero":
            return np.zeros_like(self.x)
        if kind == "best":
            return self.delta
        generator = np.random.default_rng(np.asarray(self._numbered(number)[1]))
        shape = self.x.shape
        if kind == "near best":
            return self.delta + random_start("inside", shape, self.radius, self.norm, generator)
        return random_start(kind, shape, self.radius, self.norm, generator)


def random_start(
    kind: Start,
    shape: tuple[int, ...],
    radius: float,
    norm: Norm,
    generator: np.random.Generator,
) -> Float[np.ndarray, "n d"]:
    """Random perturbations of the ball: "sphere", "inside" or "sparse"."""
    if norm == "linf":
        if kind == "inside":
            return generator.uniform(-radius, radius, shape).astype(np.float32)
        corner = radius * generator.choice([-1.0, 1.0], shape)
        kept = generator.random(shape) < SPARSE_FRACTION if kind == "sparse" else True
        return (corner * kept).astype(np.float32)
    gauss = generator.normal(size=shape)
    if kind == "sparse":
        gauss = gauss * (generator.random(shape) < SPARSE_COORDINATES / shape[1])
    length = radius * (INSIDE_FRACTION if kind == "inside" else 1.0)
    # A sparse start may be empty: then it is δ = 0.
    size = np.maximum(np.linalg.norm(gauss, axis=-1, keepdims=True), 1e-300)
    return (length * gauss / size).astype(np.float32)
