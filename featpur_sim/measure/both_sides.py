"""Robust accuracy from both sides: what no attack breaks and what a certificate proves (§8).

Sections are of docs/theory.md. A point is *certified* if y f > 0 is proved on its whole ball,
*broken* if some perturbation in the ball makes y f ≤ 0, and *undecided* otherwise; the true robust
accuracy lies between the certified fraction and the fraction that stands. Attack and certificate
know nothing of each other: only arrays pass between them here.

Both sides are about f in real arithmetic, with weights and points read as exact numbers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, PRNGKey
from featpur_sim.attacks._search import in_batches, score
from featpur_sim.attacks.protocol import STANDARD, Attacked, Protocol, StageRecord
from featpur_sim.certify import (
    DEFAULT_EFFORT,
    Certificate,
    Contradiction,
    Effort,
    NotCertified,
    Problem,
    float32_inference_error,
    require_consistent,
)
from featpur_sim.certify.cascade import Ledger, chosen, run_stages
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU

# Cheap stages come first; what they leave is attacked from their minimisers before the costly ones.
CHEAP = ("linear", "q1")


@dataclass(frozen=True)
class Sandwich:
    """Both sides of the robust accuracy of one network on n points; host arrays.

    Attributes:
        lower: proved lower bound on the least y f over each ball, [n] float64.
        upper: least y f seen, [n] float64.
        stage: what decided each point, [n]: a stage of `featpur_sim.certify`, ``"broken"`` or
            ``"undecided"``.
        float32: certified also for inference in float32 (any order of summation, no TF32), [n].
        seconds: wall time of ``attack`` and of each stage, compilation included.
        evaluated: how many points entered the attack and each stage.
        table: a row for each stage of the attack protocol; see
            `featpur_sim.attacks.protocol.Attacked`.
        warnings: of the attack.
        protocol: name and version of the attack.
    """

    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    stage: np.ndarray
    float32: Bool[np.ndarray, " n"]
    seconds: dict[str, float]
    evaluated: dict[str, int]
    table: list[StageRecord]
    warnings: list[str]
    protocol: str

    @property
    def certified(self) -> Bool[np.ndarray, " n"]:
        """Proved robust."""
        return self.lower > 0

    @property
    def standing(self) -> Bool[np.ndarray, " n"]:
        """Not broken: the attacked side."""
        return self.upper > 0

    @property
    def undecided(self) -> np.ndarray:
        """Indices of the points that are neither certified nor broken."""
        return np.flatnonzero(self.standing & ~self.certified)

    def by_stage(self) -> dict[str, int]:
        """How many points each stage decided, with ``broken`` and ``undecided``."""
        names = [name for name in self.seconds if name != "attack"]
        return {name: int((self.stage == name).sum()) for name in (*names, "broken", "undecided")}


def require_certifiable(model: Classifier) -> SymmetricReLU:
    """``model``, if it has a certificate.

    Raises:
        NotCertified: not a `SymmetricReLU`, a subclass of it, or one with sampled noise.
    """
    if type(model) is not SymmetricReLU:
        raise NotCertified(
            f"the model is a {type(model).__name__}: certificates exist for SymmetricReLU only, "
            "and not for subclasses, which may compute something else from the same weights. "
            "Attack it with a protocol instead."
        )
    if model.smoothing == "sampled":
        raise NotCertified(
            "smoothing is 'sampled': with fresh noise at every evaluation there is no one function "
            "to certify. Certify its expectation, smoothing = 'closed'."
        )
    return model


def closed_form_noise(model: SymmetricReLU) -> float:
    """σ_ρ where the model computes its expectation over ρ, else 0."""
    return float(model.sigma_rho) if model.smoothing == "closed" else 0.0


def longest(radius: float, norm: Norm, d: int) -> float:
    """The largest ℓ2 norm in the ball."""
    return radius * (d**0.5 if norm == "linf" else 1.0)


def inference_error(
    model: SymmetricReLU, x: Float[np.ndarray, "n d"], radius: float, norm: Norm
) -> Float[np.ndarray, " n"]:
    """How far f in float32 can be from f in real arithmetic anywhere in each point's ball (§8)."""
    size = np.linalg.norm(x.astype(np.float64), axis=1) + longest(radius, norm, x.shape[1])
    weights, bias = (np.asarray(part, np.float64) for part in (model.weights, model.bias))
    return float32_inference_error(weights, bias, size, closed_form_noise(model))


@steady
def squeeze(
    model: Classifier,
    batch: Batch,
    radius: float,
    norm: Norm = "l2",
    *,
    key: PRNGKey,
    direction: Float[Array, " d"] | None = None,
    protocol: Protocol = STANDARD,
    stages: Sequence[str] | None = None,
    effort: Effort = DEFAULT_EFFORT,
) -> Sandwich:
    """Attack every point, certify what stands, and attack again from the certificate's minimisers.

    Args:
        model: a `SymmetricReLU`, without noise or with the closed-form smoothing.
        batch: n points, all labelled.
        radius: τ > 0, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        key: names the attack's random starts.
        direction: Mw* for the dense mixture, which is left out without it.
        protocol: the attack.
        stages: of `featpur_sim.certify.certify`; by default all.
        effort: what the certificate may spend.

    Returns:
        Both sides.

    Raises:
        NotCertified: a model or norm without a certificate; or the model's own output
            differs, by more than rounding, from the function that is certified.
        ValueError: bad values, or a point without a label.
        Contradiction: an attack breaks a certified point: one of the two is wrong.

    >>> import jax
    >>> from featpur_sim import SparseCoding, pure_network
    >>> from featpur_sim.attacks.protocol import QUICK
    >>> problem = SparseCoding(d=32, k=4, sigma_x=0.3)
    >>> points = problem.sample_labelled(jax.random.key(0), 50)
    >>> network = pure_network(problem.wstar, 0.2)
    >>> both = squeeze(network, points, 0.15, key=jax.random.key(1), protocol=QUICK)
    >>> bool((both.certified <= both.standing).all()), len(both.undecided) <= 2
    (True, True)
    """
    hunt = Squeeze(
        require_certifiable(model), batch, radius, norm, key, direction, protocol, stages, effort
    )
    return hunt.run()


def _batch(x: Float[np.ndarray, "n d"]) -> Batch:
    """Points times their labels, which are all 1 then; no attack here looks at z."""
    # device_put compiles nothing, jnp.asarray a program for each number of points.
    return Batch(*jax.device_put((x, np.ones(len(x), np.float32), x)))


class Squeeze:
    """The best of what both sides know about each point. f is odd, so all labels are made +1.

    Attributes:
        lower: proved lower bound on the least y f over each ball, [n] float64; −inf at first.
        upper: least y f seen, [n] float64; y f(x) at first.
        minimiser: where, [n, d] float64.
        stage: what certified each point, [n], else ``"undecided"``.
        dual: (θ, q) that prove ``lower``, by point, of those left open with a stage to come: where
            it starts.
        seconds: wall time of ``attack`` and of each stage.
        evaluated: how many points entered them.
    """

    def __init__(
        self,
        model: SymmetricReLU,
        batch: Batch,
        radius: float,
        norm: Norm,
        key: PRNGKey,
        direction: Array | None,
        protocol: Protocol,
        stages: Sequence[str] | None,
        effort: Effort,
    ):
        y = np.asarray(batch.y)
        if not y.all():
            raise ValueError(
                f"{int((y == 0).sum())} of the {len(y)} points have no label: draw them with "
                "SparseCoding.sample_labelled."
            )
        self.model, self.key, self.direction = model, key, direction
        self.norm: Norm = norm
        self.protocol, self.effort = protocol, effort
        self.stages = chosen(stages)
        self.points = np.asarray(batch.x) * y[:, None]
        self.smoothing = closed_form_noise(model)
        self.problem = Problem.build(
            np.asarray(model.weights),
            np.asarray(model.bias),
            self.points,
            radius,
            norm=norm,
            smoothing=self.smoothing,
        )
        self.radius = radius
        count = len(y)
        self.lower = np.full(count, -np.inf)
        self.minimiser = np.zeros_like(self.problem.points)
        self.upper = self.problem.value(self.minimiser)
        self.stage = np.full(count, "undecided", dtype="<U9")
        self.error = inference_error(model, self.points, radius, norm)
        self.require_own_function()
        self.seconds: dict[str, float] = dict.fromkeys(("attack", *self.stages), 0.0)
        self.evaluated: dict[str, int] = dict.fromkeys(self.seconds, 0)
        self.dual: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def run(self) -> Sandwich:
        """The whole of it: attack, cheap stages, attack, costly stages, attack."""
        found = self.attack(self.protocol, np.arange(len(self.points)))
        self.evaluated["attack"] = len(self.points)
        for names in self._passes():
            index = np.flatnonzero(self.open)
            if len(index):
                self.certify(names, index)
        return self.sandwich(found.table, found.warnings, found.protocol)

    def sandwich(self, table: list[StageRecord], warnings: list[str], protocol: str) -> Sandwich:
        """What is known by now.

        Raises:
            NotCertified: at the worst points known the model computes another function.
        """
        self.require_own_function()
        return Sandwich(
            lower=self.lower,
            upper=self.upper,
            stage=np.where(self.standing, self.stage, "broken"),
            # The smoothed gate leans on the accuracy of exp and erf on the device.
            float32=(self.lower > self.error) & (self.smoothing == 0),
            seconds=self.seconds,
            evaluated=self.evaluated,
            table=table,
            warnings=warnings,
            protocol=protocol,
        )

    def require_own_function(self) -> None:
        """Refuse a model whose output at the worst points known is not the f of the bounds."""
        x = (self.points + self.minimiser).astype(np.float32)
        ones = np.ones(len(x), np.float32)
        # Tensor cores would round the products to ten bits.
        with jax.default_matmul_precision("highest"):
            found = in_batches(
                lambda x, y: score(self.model, x, y, self.key), np.arange(len(x)), x, ones
            )
        expected = replace(self.problem, points=x.astype(np.float64)).value(np.zeros(x.shape))
        wrong = np.flatnonzero(~(np.abs(found - expected) <= self.error))
        if len(wrong):
            i = int(wrong[0])
            raise NotCertified(
                f"the model's own output is {found[i]:.9g} where the network of its weights and "
                f"thresholds has f = {expected[i]:.9g} ({len(wrong)} of {len(x)} points differ by "
                "more than rounding): a certificate would be of another function."
            )

    @property
    def standing(self) -> np.ndarray:
        """Which points are not broken."""
        return self.upper > 0

    @property
    def open(self) -> np.ndarray:
        """Which points are neither broken nor certified."""
        return self.standing & (self.lower <= 0)

    def _passes(self) -> list[tuple[str, ...]]:
        """The cheap stages, then the costly ones."""
        cheap = tuple(name for name in self.stages if name in CHEAP)
        costly = tuple(name for name in self.stages if name not in CHEAP)
        return [names for names in (cheap, costly) if names]

    def attack(
        self, protocol: Protocol, index: np.ndarray, start: np.ndarray | None = None
    ) -> Attacked:
        """Attack the points ``index``; a certified one that breaks is a contradiction."""
        began = time.perf_counter()
        x = self.points[index]
        found = protocol(
            self.model,
            _batch(x),
            self.radius,
            self.norm,
            key=self.key,
            direction=self.direction,
            starts=() if start is None else [start],
        )
        self._see(index, found.delta.astype(np.float64))
        self.seconds["attack"] += time.perf_counter() - began
        return found

    def _see(self, index: np.ndarray, delta: np.ndarray) -> None:
        part = self.problem.select(index)
        value = part.value(delta)
        lower = value < self.upper[index]
        self.upper[index[lower]] = value[lower]
        self.minimiser[index[lower]] = part.project(delta)[lower]
        require_consistent(self.problem, self.lower, self.upper, self.minimiser)
        for i in index[~self.open[index]].tolist():
            self.dual.pop(i, None)

    def certify(
        self,
        names: tuple[str, ...],
        index: np.ndarray,
        *,
        stop: Callable[[], bool] = lambda: False,
        protocol: Protocol | None = None,
    ) -> Certificate | None:
        """Certify the points ``index``, then attack them from where they seem weakest.

        The stages go on from what earlier ones proved, as they do within one call.

        That attack is made of the stages of ``protocol`` (by default the own one) that start from
        given perturbations.

        None, and nothing is kept, if ``stop`` ended it: a search that is cut short and one that is
        not would leave other numbers.
        """
        ledger = Ledger(self.problem.select(index), self.minimiser[index])
        ledger.lower[:] = self.lower[index]
        for row, i in enumerate(index.tolist()):
            if i in self.dual:
                ledger.slope[row], ledger.curvature[row] = self.dual[i]
        try:
            proved = run_stages(ledger, names, self.effort, stop)
        except Contradiction as error:
            raise Contradiction(int(index[error.index]), error.evidence) from None
        if stop():
            return None
        self.lower[index] = np.maximum(self.lower[index], proved.lower)
        self.stage[index] = np.where(proved.certified, proved.stage, self.stage[index])
        for name, seconds in proved.seconds.items():
            self.seconds[name] += seconds
            self.evaluated[name] += proved.evaluated[name]
        last = names[-1] == self.stages[-1]
        for row, i in enumerate(index.tolist()):
            self.dual.pop(i, None)
            if not last:
                self.dual[i] = proved.slope[row].copy(), proved.curvature[row].copy()
        self._see(index, proved.minimiser)
        protocol = protocol or self.protocol
        if given := tuple(stage for stage in protocol.stages if stage.start == "given"):
            self.attack(replace(protocol, stages=given), index, proved.minimiser)
        return proved

    def anew(self, index: np.ndarray, radius: float) -> "Squeeze":
        """Nothing known yet about some of the points; what is of the network alone is shared."""
        x = self.points[index]
        batch = _batch(x)
        new = Squeeze(self.model, batch, radius, self.norm, self.key, self.direction,
                      self.protocol, self.stages, self.effort)  # fmt: skip
        new.problem = replace(new.problem, network=self.problem.network)
        return new
