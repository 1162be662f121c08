"""Which test points withstand an attack, with no work on what is decided (docs/theory.md §5).

The outcome is that of the attack as defined (`featpur_sim.attacks.accuracy.attacked_margin`), point
by point. PGD keeps its best iterate, so a point that one iterate breaks is broken: it is left out
of the steps and starts that follow. Points still standing are gathered into batches of a few sizes,
so that few programs serve every radius, network and number of survivors. A perturbation found on
another network depends on that network alone, and is found once for all networks that it meets.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.types import Array, Bool, Float, Int
from featpur_sim.attacks.accuracy import CHUNK
from featpur_sim.attacks.gradient import PGD
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.symmetric_relu import SymmetricReLU

# Where a descent pauses to leave out what it has broken, as fractions of its steps: most points
# that fall fall early.
_PAUSES = (0.05, 0.15, 0.4, 1.0)
# Batches that are compiled, as fractions of the points.
_BATCHES = (1.0, 0.25, 0.0625)


class Standing:
    """The test points of L lanes, attacked. Everything has a leading axis L.

    Args:
        problem: the data of each lane.
        keys: they name the points and the attacks' randomness, as in
            `featpur_sim.attacks.accuracy.count_robust`.
        samples: n points per lane.
        memory: bytes that attacked points may take; more lanes than fit go one group after another.
    """

    def __init__(self, problem: SparseCoding, keys: Array, samples: int, memory: int = 2**30):
        self.problem, self.keys = problem, keys
        self.samples, self.memory = samples, memory
        self._scored: SymmetricReLU | None = None
        self._clean_margin = np.zeros(0, np.float32)
        # What was found on the latest source; the bytes of the radii name it.
        self._source: SymmetricReLU | None = None
        self._transferred: dict[tuple[AttackKind, bytes], Array] = {}

    def width(self, networks: SymmetricReLU) -> int:
        """Lanes that one pass may hold: activations, their kinks (critical radius), points."""
        inputs = self.problem.d + self.problem.D
        lane = 4 * min(CHUNK, self.samples) * (12 * networks.m + 6 * inputs)
        return int(np.clip(self.memory // lane, 1, len(self.keys)))

    @cached_property
    def points(self) -> Batch:
        """x [L, n, d], y [L, n], z [L, n, D]."""
        return _sample(self.problem, self.keys, self.samples)

    @cached_property
    def labelled(self) -> Bool[np.ndarray, "L n"]:
        """Which points have a label; the others count nowhere."""
        return np.asarray(self.points.y) != 0

    def right(self, networks: SymmetricReLU) -> Bool[np.ndarray, "L n"]:
        """Which labelled points each network classifies right."""
        return self._clean(networks) > 0

    def _clean(self, networks: SymmetricReLU) -> Float[np.ndarray, "L n"]:
        """y f at x, kept for the latest networks."""
        if self._scored is not networks:
            width = self.width(networks)
            margin = _margin(networks, self.points, None, self.keys, width)
            self._scored, self._clean_margin = networks, np.asarray(margin)
        return self._clean_margin

    def withstand(
        self,
        networks: SymmetricReLU,
        kind: AttackKind,
        radii: Float[Array, " L"],
        source: SymmetricReLU | None = None,
    ) -> Bool[np.ndarray, "L n"]:
        """Which labelled points withstand an attack at each lane's radius.

        Args:
            networks: one per lane.
            kind: of attack.
            radii: one per lane.
            source: for "transfer", what perturbations are found on.
        """
        return self.least(networks, kind, radii, source) > 0

    def least(
        self,
        networks: SymmetricReLU,
        kind: AttackKind,
        radii: Float[Array, " L"],
        source: SymmetricReLU | None = None,
        *,
        spared: Bool[np.ndarray, "L n"] | None = None,
        room: Float[np.ndarray, "L n"] | None = None,
        start: Float[np.ndarray, "L n d"] | None = None,
    ) -> Float[np.ndarray, "L n"]:
        """The least y f that an attack saw; where a point breaks, it looks no further.

        Args:
            networks: one per lane.
            kind: of attack.
            radii: one per lane.
            source: for "transfer", what perturbations are found on.
            spared: points that descents leave out; their value is that of x.
            room: a descent goes on until y f < −room; 0 by default.
            start: where a descent begins, in the ball; by default where the attack says.
        """
        clean = self._clean(networks)
        # With fresh noise at every look, one that breaks a point says nothing about the next.
        if kind.name in ("PGD", "PGD on support") and networks.smoothing != "sampled":
            alive = (clean > 0) if spared is None else (clean > 0) & ~spared
            floor = np.zeros_like(clean) if room is None else -room
            return self._descend(networks, kind, radii, clean, alive, floor, start)
        width = self.width(networks)
        delta = self._perturbed(networks, kind, radii, source)
        attacked = np.asarray(_margin(networks, self.points, delta, self.keys, width))
        return attacked if kind.name == "random noise" else np.minimum(attacked, clean)

    def _perturbed(self, networks, kind, radii, source):
        found_on = networks if source is None else source
        arguments = (found_on, self.problem, radii, self.points, self.keys, source)
        if source is None:
            return _perturb(*arguments, kind, self.width(networks))
        name = (kind, np.asarray(radii).tobytes())
        if self._source is not source:
            self._source, self._transferred = source, {}
        if name in self._transferred:
            return self._transferred[name]
        found = _perturb(*arguments, kind, self.width(source))
        if (len(self._transferred) + 1) * found.nbytes <= self.memory:
            self._transferred[name] = found
        return found

    def _descend(self, networks, kind, radii, clean, alive, floor, start):
        least = clean.copy()
        mask = np.ones(self.points.x.shape, np.float32)
        if kind.name == "PGD on support":
            mask[:] = np.asarray(self.points.z) != 0
        pgd = PGD(
            1.0,
            kind.norm,
            steps=kind.steps,
            step_size=kind.step_size,
            smoothing=kind.smoothing,
        )
        width = self.width(networks)
        for restart in range(kind.restarts):
            if not alive.any():
                return least
            if start is None:
                which = jnp.int32(restart)
                state = _begin(self.points.x, mask, radii, self.keys, which, kind.norm, width)
            else:
                state = jnp.asarray(start), jnp.full(clean.shape, jnp.inf, jnp.float32)
            for first, last in _segments(kind.steps):
                for index in _gathered(alive):
                    data = networks, radii, self.points, mask, *state, index
                    state = _advance(pgd, jnp.int32(first), jnp.int32(last), width, *data)
                seen = np.asarray(state[1])
                least = np.where(alive, np.minimum(least, seen), least)
                alive = alive & ~(seen <= floor)
        return least


def _segments(steps: int) -> list[tuple[int, int]]:
    """From one pause to the next.

    >>> _segments(40)
    [(0, 2), (2, 6), (6, 16), (16, 40)]
    """
    stops = sorted({max(1, round(share * steps)) for share in _PAUSES})
    return list(zip([0, *stops], stops, strict=False))


def _gathered(alive: Bool[np.ndarray, "L n"]) -> Iterator[Int[np.ndarray, "L b"]]:
    """The standing points of every lane in batches of few sizes; n, which is no point, fills rows.

    A lane that has fewer points than another must not take a step of its last one again.

    >>> [batch.shape for batch in _gathered(np.arange(1000)[None] < 300)]
    [(1, 250), (1, 62)]
    """
    largest = min(CHUNK, alive.shape[1])
    sizes = [max(1, int(share * largest)) for share in _BATCHES]
    rows = [np.flatnonzero(row) for row in alive]
    at, end = 0, max(map(len, rows))
    filled = np.full((len(rows), end + largest), alive.shape[1])
    for lane, row in enumerate(rows):
        filled[lane, : len(row)] = row
    while at < end:
        # Two batches of the next size cost half of one that is nearly empty.
        size = next((s for s in reversed(sizes) if end - at <= 2 * s), largest)
        yield filled[:, at : at + size]
        at += size


@eqx.filter_jit
def _sample(problem, keys, n):
    def lane(problem, key):
        sample_key, _ = jax.random.split(key)
        return problem.sample(sample_key, n)

    return jax.vmap(lane)(problem, keys)


def over_lanes(one: Callable[..., Any], width: int, *lanes: Any) -> Any:
    """``one`` of every lane, ``width`` of them side by side."""
    return lax.map(lambda lane: one(*lane), lanes, batch_size=width)


def _chunked(n: int, key: Array, one, *rows: Array) -> Array:
    """``one(key, *rows)`` in pieces of `CHUNK` rows, each with the key it has in `count_robust`."""
    size = min(CHUNK, n)
    pieces = -(-n // size)

    def cut(array):
        padded = jnp.pad(array, ((0, pieces * size - n),) + ((0, 0),) * (array.ndim - 1))
        return padded.reshape(pieces, size, *array.shape[1:])

    _, attack_key = jax.random.split(key)
    keys = jax.vmap(lambda i: jax.random.fold_in(attack_key, i))(jnp.arange(pieces))
    found = lax.map(lambda piece: one(*piece), (keys, *map(cut, rows)))
    return found.reshape(pieces * size, *found.shape[2:])[:n]


@eqx.filter_jit
def _margin(networks, points, delta, keys, width):
    """y f(x + δ), [L, n]."""

    def lane(network, points, delta, key):
        def piece(key, x, y):
            clean_key, _, final_key = jax.random.split(key, 3)
            return y * network(x, key=clean_key if delta is None else final_key)

        x = points.x if delta is None else points.x + delta
        return _chunked(len(x), key, piece, x, points.y)

    return over_lanes(lane, width, networks, points, delta, keys)


@eqx.filter_jit
def _perturb(networks, problem, radii, points, keys, source, kind: AttackKind, width):
    """δ of a whole attack, [L, n, d]."""

    def lane(network, problem, radius, points, key, source):
        attack = kind(radius, direction=problem.dense_direction(), source=source)

        def piece(key, x, y, z):
            return attack(network, Batch(x, y, z), key=jax.random.split(key, 3)[1])

        return _chunked(len(points.x), key, piece, *points)

    return over_lanes(lane, width, networks, problem, radii, points, keys, source)


@eqx.filter_jit
def _begin(x, mask, radii, keys, restart, norm, width):
    """Where a descent begins, and that nothing has been seen: δ [L, n, d], least y f [L, n]."""

    def lane(x, mask, radius, key):
        pgd = PGD(radius, norm, on_support=False)

        def piece(key, x):
            return pgd.start(jax.random.split(key, 3)[1], restart, x.shape)

        delta = _chunked(len(x), key, piece, x)
        return pgd.ball.project(delta * mask)

    delta = over_lanes(lane, width, x, mask, radii, keys)
    return delta, jnp.full(x.shape[:2], jnp.inf, x.dtype)


@eqx.filter_jit
def _advance(pgd, first, last, width, *data):
    """Steps ``first`` to ``last`` of a descent from the points ``index``, and a look at its end."""

    def lane(network, radius, points, mask, delta, least, index):
        own = eqx.tree_at(lambda p: p.ball.radius, pgd, radius)

        def taken(rows):
            return rows.at[index].get(mode="clip")

        batch = jax.tree.map(taken, points)

        def step(t, carry):
            at, least = carry
            at, seen = own.move(network, batch, at, t, taken(mask))
            return at, jnp.minimum(least, seen)

        at, low = lax.fori_loop(first, last, step, (taken(delta), taken(least)))
        low = jnp.minimum(low, batch.y * network(batch.x + at))
        drop = {"mode": "drop"}  # what only fills the batch
        return delta.at[index].set(at, **drop), least.at[index].set(low, **drop)

    return over_lanes(lane, width, *data)
