"""One network of a run, judged point by point at every radius (docs/theory.md §5, §8).

Cheap attacks come first, then certificates, then the costly attacks, which leave out what is
proved. An attack's accuracy stays what its definition says: nothing in a ball can break a point
that is certified there, rounding included.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from featpur_sim._ground.blas import one_blas_thread
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.threads import side_by_side
from featpur_sim._ground.types import Bool, Float, Int
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.certify import Contradiction, Effort
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.curve import Proof, prove_radii, rounding_room
from featpur_sim.measure.lanes import Lanes
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.evaluation_parts import EvaluationParts

# These take many steps at every point that stands.
COSTLY = ("PGD", "PGD on support")
# Cheap enough for every run; `featpur certify` does more.
_EFFORT = Effort(q1_steps=100)
# What else is tried on points that are open: from where a certificate saw f least, and along
# gradients that see gates which open or close near by.
_SEARCHES = (
    AttackKind("PGD", steps=40, step_size=0.2),
    AttackKind("PGD", steps=40, step_size=1.0, smoothing=0.8),
    AttackKind("PGD", steps=40, step_size=1.0, smoothing=0.4),
)
# What an attack did to a point: broke it, or by no more than rounding, or did not.
_BROKEN, _EDGE, _STANDS = -1, 0, 1


class Judged:
    """A network per seed, its points and what is known of them.

    Args:
        name: of the network, for what is kept.
        networks: one per lane.
        lanes: the seeds and their test points.
        radii: > 0, rising.
        points: how many of each seed's points are certified too; 0 for none.
        parts: where what is done is kept.

    Attributes:
        certified: proved, [r, S, n].
        broken: by any attack so far, or by a smaller radius, [r, S, n].
    """

    def __init__(
        self,
        name: str,
        networks: SymmetricReLU,
        lanes: Lanes,
        radii: Float[np.ndarray, " r"],
        norm: Norm,
        points: int,
        parts: EvaluationParts,
    ):
        self.name, self.networks, self.lanes = name, networks, lanes
        self.radii, self.parts = radii, parts
        self.norm: Norm = norm
        seeds = len(lanes.keys)
        self.clean = parts.kept(f"{name}: clean", partial(lanes.accuracy, networks))
        shape = (len(radii), seeds, lanes.samples)
        self.certified, self._spared = np.zeros(shape, bool), np.zeros(shape, bool)
        self.broken = np.zeros(shape, bool)
        certifiable = points > 0 and networks.smoothing != "sampled"
        judged = lanes.standing.labelled & (np.arange(lanes.samples) < points) & certifiable
        self.judged: Bool[np.ndarray, "S n"] = judged & lanes.finite(networks)[:, None]

    def under(self, kind: AttackKind, source: SymmetricReLU | None = None) -> np.ndarray:
        """The accuracy under an attack at each radius, [S, r]."""
        codes = self.parts.kept(f"{self.name}: {kind.name}", partial(self._codes, kind, source))
        self.broken |= np.logical_or.accumulate(codes == _BROKEN)
        return np.stack([self.lanes.share(self.networks, of > 0) for of in codes], axis=1)

    def _codes(self, kind: AttackKind, source: SymmetricReLU | None) -> Int[np.ndarray, "r S n"]:
        codes = []
        for r, spared in enumerate(self._spared):
            least = self._least(kind, r, source=source, spared=spared)
            code = np.where(least > 0, _STANDS, np.where(least < -self._room, _BROKEN, _EDGE))
            codes.append(code)
        return np.array(codes, np.int8)

    def certify(self) -> None:
        """Both sides of the judged points.

        Raises:
            Contradiction: f lies below its certificate; ``evidence`` names seed and network.
        """
        if self.judged.any():
            kept = self.parts.kept(f"{self.name}: both sides", self._both_sides)
            self.certified, self._spared = kept[0], kept[1]
            self.broken |= kept[2]

    def _both_sides(self) -> Bool[np.ndarray, "3 r S n"]:
        """Certified, certified whatever is rounded, and broken."""
        certified, spared = np.zeros_like(self.broken), np.zeros_like(self.broken)
        starts = np.zeros((*self.broken.shape, self.lanes.problem.d), np.float32)
        seeds = np.flatnonzero(self.judged.any(1)).tolist()
        for s, proof in zip(seeds, _proofs(self._prove, seeds), strict=True):
            index = np.flatnonzero(self.judged[s])
            certified[:, s, index] = proof.certificate.certified
            spared[:, s, index] = proof.withstands
            for r, (rows, minimiser) in enumerate(proof.certificate.weakest):
                starts[r, s, index[rows]] = minimiser
        broken = self.broken.copy()
        for r in range(len(self.radii)):
            for number, kind in enumerate(_SEARCHES):
                left = self.judged & ~certified[r] & ~broken[r]
                least = self._least(
                    replace(kind, norm=self.norm), r, spared=~left,
                    start=starts[r] if number == 0 else None,
                )  # fmt: skip
                broken[r:] |= left & (least < -self._room)
        return np.stack([certified, spared, broken])

    def _prove(self, s: int) -> Proof:
        index = np.flatnonzero(self.judged[s])
        network = jax.tree.map(lambda leaf: np.asarray(leaf)[s], self.networks)
        drawn = jax.tree.map(lambda rows: np.asarray(rows)[s, index], self.lanes.standing.points)
        try:
            return prove_radii(
                network, Batch(*drawn), self.radii.tolist(), self.norm,
                broken=self.broken[:, s, index], effort=_EFFORT,
            )  # fmt: skip
        except Contradiction as error:
            error.evidence |= {"seed": s + 1, "phase": self.name}
            raise

    def _least(self, kind: AttackKind, r: int, **known: Any) -> Float[np.ndarray, "S n"]:
        radii = jax.device_put(np.full(len(self.judged), self.radii[r], np.float32))
        return self.lanes.standing.least(self.networks, kind, radii, room=self._room, **known)

    @cached_property
    def _room(self) -> Float[np.ndarray, "S n"]:
        """How far f in float32 may be from f, for each point; 0 where nothing is certified."""
        room = np.zeros(self.judged.shape)
        for s, judged in enumerate(self.judged):
            if judged.any():
                network = jax.tree.map(lambda leaf, s=s: np.asarray(leaf)[s], self.networks)
                x = np.asarray(self.lanes.standing.points.x)[s, judged]
                room[s, judged] = rounding_room(network, x, float(self.radii[-1]), self.norm)
        return room

    def sides(self) -> tuple[Float[np.ndarray, "S r"], Float[np.ndarray, "S r"]]:
        """Certified and attacked accuracy of the judged points, at radius 0 and the others.

        NaN where no point was judged.
        """
        right = self.judged & self.lanes.standing.right(self.networks)
        stands = np.concatenate([right[None], right & (self.certified | ~self.broken)])
        proved = np.concatenate([right[None], right & self.certified])
        with np.errstate(invalid="ignore"):
            certified, attacked = (side.sum(2) / self.judged.sum(1) for side in (proved, stands))
        return certified.T, attacked.T


@one_blas_thread()
def _proofs(prove: Callable[[int], Proof], seeds: list[int]) -> list[Proof]:
    """Seed after seed, on all cores: the arrays of one are too small to fill them.

    The first one goes alone: threads that meet a program for the first time would each compile it.
    """
    return [*map(prove, seeds[:1]), *side_by_side(prove, seeds[1:])]
