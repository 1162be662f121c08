"""Both sides of robust accuracy at several radii, each point decided once (docs/theory.md §8).

Certificates first, from the largest radius down: a point certified there is certified at all
smaller ones, and no attack is spent on it. What is left is attacked from the smallest radius up: a
point that breaks is broken at all larger ones. Points that cheap attacks break are not certified.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, PRNGKey
from featpur_sim.attacks.protocol import ONE_STEP, STANDARD, Protocol
from featpur_sim.certify import (
    DEFAULT_EFFORT,
    Effort,
    RadiiCertificate,
    certify_radii,
)
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.both_sides import (
    Squeeze,
    closed_form_noise,
    inference_error,
    longest,
    require_certifiable,
)
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU

# A perturbation in float32 may leave its ball by a few units in the last place.
_OVERSHOOT = 1e-5


@dataclass(frozen=True)
class Proof:
    """What is certified of one network on n points at r rising radii.

    Attributes:
        certificate: bounds, and the points left open.
        withstands: certified for inference in float32 too (any order of summation, no TF32), and
            for perturbations that leave their ball by rounding: no attack can break these, [r, n].
    """

    certificate: RadiiCertificate
    withstands: Bool[np.ndarray, "r n"]


@steady
def prove_radii(
    model: Classifier,
    batch: Batch,
    radii: Sequence[float],
    norm: Norm = "l2",
    *,
    broken: Bool[np.ndarray, "r n"],
    effort: Effort = DEFAULT_EFFORT,
) -> Proof:
    """Certify points at rising radii, all but those known to be broken.

    Args:
        model: a `SymmetricReLU`, without noise or with the closed-form smoothing.
        batch: n points, all labelled.
        radii: strictly rising, > 0, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        broken: points that an attack has broken at a radius.
        effort: what the certificate may spend.

    Returns:
        The proof.

    Raises:
        NotCertified: a model or norm without a certificate.
        ValueError: bad values, or a point without a label.
    """
    model = require_certifiable(model)
    points = np.asarray(batch.x, np.float64) * np.asarray(batch.y)[:, None]
    room = rounding_room(model, points, float(radii[-1]), norm)
    found = certify_radii(
        model.weights, model.bias, points, radii, norm=norm, smoothing=closed_form_noise(model),
        broken=broken, enough=float(room.max(initial=0)), effort=effort,
    )  # fmt: skip
    return Proof(found, found.lower > room)


def rounding_room(
    model: SymmetricReLU, x: Float[np.ndarray, "n d"], radius: float, norm: Norm
) -> Float[np.ndarray, " n"]:
    """How far f in float32, at a perturbation that is rounded, may be from the least f of the ball.

    Args:
        model: without sampled noise.
        x: the points, [n, d].
        radius: of the ball, or a larger one.
        norm: of the ball.

    Returns:
        In units of f, [n]: `inference_error`, and what leaving the ball by rounding can change.
    """
    # f is Lipschitz with Σ‖w‖ at most.
    slope = float(np.linalg.norm(np.asarray(model.weights, np.float64), axis=1).sum())
    overshoot = _OVERSHOOT * longest(radius, norm, x.shape[1])
    return inference_error(model, x, radius, norm) + slope * overshoot


@steady
def squeeze_radii(
    model: Classifier,
    batch: Batch,
    radii: Sequence[float],
    norm: Norm = "l2",
    *,
    key: PRNGKey,
    direction: Float[Array, " d"] | None = None,
    protocol: Protocol = STANDARD,
    effort: Effort = DEFAULT_EFFORT,
) -> tuple[Bool[np.ndarray, "r n"], Bool[np.ndarray, "r n"]]:
    """Both sides at rising radii, with no work on what another radius decides.

    The protocol's attacks of one step come first. Then the linear relaxation and Q1, from the
    largest radius down, on what they have not broken; then the whole protocol on what is still
    open, from the smallest radius up, and from where the certificate saw f least.

    Args:
        model: as for `featpur_sim.measure.squeeze`.
        batch: as for `featpur_sim.measure.squeeze`.
        radii: strictly rising, > 0, in units of x.
        norm: as for `featpur_sim.measure.squeeze`.
        key: as for `featpur_sim.measure.squeeze`.
        direction: as for `featpur_sim.measure.squeeze`.
        protocol: as for `featpur_sim.measure.squeeze`.
        effort: what the certificate may spend.

    Returns:
        Which points are certified and which stand, for each radius.

    Raises:
        ValueError: no radii, or they do not rise; and what `featpur_sim.measure.squeeze` raises.
    """
    if len(radii) == 0 or any(b <= a for a, b in itertools.pairwise(radii)):
        raise ValueError(
            f"radii must rise strictly, and hold at least one, got {list(radii)}: sort them."
        )
    rising = RisingAttack(model, batch, radii, norm, key=key, direction=direction)
    if quick := tuple(stage for stage in protocol.stages if stage.method in ONE_STEP):
        rising.attack(replace(protocol, stages=quick), ~rising.broken)
    proof = prove_radii(model, batch, radii, norm, broken=rising.broken, effort=effort)
    rising.attack(protocol, ~proof.certificate.certified, proof.certificate.weakest)
    return proof.certificate.certified, ~rising.broken


class RisingAttack:
    """What breaks of one network's points, from the smallest radius up.

    Args:
        model: as for `squeeze_radii`; so are the others.

    Attributes:
        broken: which points a perturbation of the ball breaks, f evaluated in float64, [r, n].
    """

    def __init__(
        self,
        model: Classifier,
        batch: Batch,
        radii: Sequence[float],
        norm: Norm = "l2",
        *,
        key: PRNGKey,
        direction: Float[Array, " d"] | None = None,
    ):
        self.radii = radii
        self._first = Squeeze(
            require_certifiable(model), batch, radii[-1], norm, key, direction, STANDARD, (),
            DEFAULT_EFFORT,
        )  # fmt: skip
        self.broken = np.tile(~self._first.standing, (len(radii), 1))

    def attack(
        self,
        protocol: Protocol,
        open_: Bool[np.ndarray, "r n"],
        starts: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Attack the points that are open and not broken yet.

        Args:
            protocol: the attack.
            open_: which points to attack at each radius.
            starts: for each radius, some points and perturbations of theirs to start from.

        Raises:
            NotCertified: at the worst points known the model computes another function.
        """
        for r, radius in enumerate(self.radii):
            index = np.flatnonzero(open_[r] & ~self.broken[r])
            if len(index):
                part = self._first.anew(index, radius)
                start = None
                if starts is not None:
                    start = np.zeros(self._first.points.shape, np.float32)
                    start[starts[r][0]] = starts[r][1]
                    start = start[index]
                part.attack(protocol, np.arange(len(index)), start)
                part.require_own_function()
                self.broken[r:, index[~part.standing]] = True
