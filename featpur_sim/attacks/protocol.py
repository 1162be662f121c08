"""Frozen attack protocols: an upper bound on robust accuracy that compares (docs/theory.md §8).

A `Protocol` is a named, versioned list of stages with every hyperparameter fixed. It runs as a
cascade: each stage works on the points that no earlier one has broken, and later stages start from
the best perturbations so far. A frozen ensemble with warnings is the idea of AutoAttack (Croce &
Hein 2020, arXiv:2003.01690). What it leaves standing is not proved robust.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, PRNGKey
from featpur_sim.attacks import warning_signs
from featpur_sim.attacks._search import LARGE, SMALL, Hunt, StageRecord, Start
from featpur_sim.attacks.accuracy import Accuracy, is_finite
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import PGD, Attack
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier
from featpur_sim.statistics import wilson_interval

Method = Literal["FGM", "dense mixture", "PGD", "APGD"]
ONE_STEP = ("FGM", "dense mixture")


@dataclass(frozen=True)
class Stage:
    """One attack of a protocol.

    Attributes:
        method: the attack.
        start: where descents begin: δ = 0; a random point of the sphere (ℓ∞: a corner), of the
            inside, or with few coordinates; the best δ so far, or near it (plus a random point of
            the inside); or each of the perturbations given.
        restarts: descents a point; points broken by one are spared the next.
        steps: gradient steps of one descent.
        step_size: of `PGD`.
        smoothing: of `PGD`.

    Raises:
        ValueError: an unknown method or start, or a number out of range.
    """

    method: Method
    start: Start = "zero"
    restarts: int = 1
    steps: int = 1
    step_size: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, get_args(Method)),
            ("start", self.start, get_args(Start)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
        for name in ("restarts", "steps"):
            object.__setattr__(self, name, count(name, getattr(self, name)))
        for name in ("step_size", "smoothing"):
            size = number(name, getattr(self, name), least=0)
            if name == "step_size" and self.method == "PGD" and not size > 0:
                raise ValueError("step_size must be > 0, got 0: PGD needs one, such as 0.5.")
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def name(self) -> str:
        """As in the table.

        >>> Stage("PGD", "sphere", steps=10, step_size=0.5, smoothing=0.4).name
        'PGD smoothed 0.4 from sphere'
        """
        if self.method in ONE_STEP:
            return self.method
        smoothed = f" smoothed {self.smoothing:g}" if self.smoothing else ""
        return f"{self.method}{smoothed} from {self.start}"

    def attack(self, radius: float, norm: Norm, direction: Array | None) -> Attack | None:
        """The attack; None for a dense mixture without a direction."""
        if self.method == "dense mixture" and direction is None:
            return None
        kind = AttackKind(
            self.method,
            norm,
            steps=self.steps,
            step_size=self.step_size or None,
            smoothing=self.smoothing,
        )
        return kind(radius, direction=None if direction is None else jnp.asarray(direction))


@dataclass(frozen=True)
class Attacked:
    """What a protocol found, point by point; host arrays.

    Attributes:
        robust: y f > 0 at x and at every perturbation tried, [n]; False without a label.
        labelled: which points have a label, [n].
        margin: the least y f found, [n], with f as the model evaluates it. The search for a point
            stops once it is broken, so a margin ≤ 0 is not the least there is. NaN without a label.
        delta: the perturbation that reaches it, [n, d] float32, with ‖δ‖ ≤ radius as exact numbers;
            0 where x itself is the worst.
        table: one row per stage: ``attack``, ``points`` it ran on, ``broken`` by it, ``new``
            (broken by no earlier stage), ``steps`` per point, ``seconds`` (with compilation).
        warnings: reasons not to trust the numbers; see `featpur_sim.attacks.warning_signs`.
        protocol: name and version, as in ``standard/1``.
    """

    robust: Bool[np.ndarray, " n"]
    labelled: Bool[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    delta: Float[np.ndarray, "n d"]
    table: list[StageRecord]
    warnings: list[str]
    protocol: str

    @property
    def accuracy(self) -> Accuracy:
        """Robust accuracy over the labelled points, with a Wilson interval: an upper bound."""
        n, robust = int(self.labelled.sum()), int(self.robust.sum())
        return Accuracy(robust / n, *wilson_interval(robust, n), n)


@dataclass(frozen=True)
class Protocol:
    """A frozen sequence of attacks.

    Attributes:
        name: for reports.
        version: changes whenever anything that affects results does.
        stages: in the order in which they run; at least one.
    """

    name: str
    version: str
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ValueError(f"protocol {self.name!r} has no stages: it would attack nothing.")

    def describe(self) -> Row:
        """Every hyperparameter, as plain data for a report or a JSON file.

        >>> QUICK.describe()["name"]
        'quick'
        """
        return asdict(self)

    @steady
    def __call__(
        self,
        model: Classifier,
        batch: Batch,
        radius: float,
        norm: Norm = "l2",
        *,
        key: PRNGKey,
        direction: Float[Array, " d"] | None = None,
        starts: Sequence[np.ndarray] = (),
        cascade: bool = True,
    ) -> Attacked:
        """Attack ``model`` on every labelled point of ``batch``.

        Args:
            model: any classifier.
            batch: n points; ``x`` and ``y`` are used.
            radius: τ > 0, in units of x.
            norm: ``"l2"`` or ``"linf"``.
            key: names the random starts (and the noise of a randomised model). The starts of a
                point do not depend on which other points survive.
            direction: Mw* for the dense mixture, which is left out without it.
            starts: perturbations to start from as well, each [n, d]: those of another attack, or
                the minimisers of a certificate. Projected onto the ball first.
            cascade: False runs every stage on every point that is right at x, so that ``broken`` in
                the table says what each can do alone.

        Returns:
            What was found.

        Raises:
            ValueError: radius ≤ 0 or not finite, unknown norm, no labelled point, ``starts`` of
                the wrong shape or not finite, or weights that are not finite: such a model has no
                accuracy.

        >>> from featpur_sim import SparseCoding, pure_network
        >>> problem = SparseCoding(d=32, k=4, sigma_x=0.3)
        >>> points = problem.sample_labelled(jax.random.key(0), 50)
        >>> found = QUICK(pure_network(problem.wstar, 0.2), points, 0.15, key=jax.random.key(1))
        >>> found.protocol, found.accuracy.n, bool((found.margin[found.robust] > 0).all())
        ('quick/1', 50, True)
        """
        radius, given = _check(batch, radius, norm, starts)
        if not is_finite(model):
            raise ValueError(
                "the model has weights that are not finite: its training diverged, or its file is "
                "damaged. There is no accuracy to measure."
            )
        # Tensor cores would round the products to ten bits.
        with jax.default_matmul_precision("highest"):
            hunt = Hunt(model, batch, radius, norm, key)
            weak = np.zeros(0, int)
            for place, stage in enumerate(self.stages):
                attack = stage.attack(radius, norm, direction)
                if attack is None or (stage.start == "given" and not given):
                    continue
                own: list[Start | np.ndarray] = [stage.start] * stage.restarts
                kinds = given if stage.start == "given" else own
                hunt.run(stage.name, attack, kinds, number=place, cascade=cascade)
                if stage.method in ONE_STEP:
                    weak = np.flatnonzero(hunt.broken() & (hunt.clean > 0))
            warnings = self._warnings(hunt, weak[:SMALL])
        return Attacked(
            robust=hunt.margin > 0,
            labelled=hunt.y != 0,
            margin=hunt.margin,
            delta=hunt.delta,
            table=hunt.table,
            warnings=warnings,
            protocol=f"{self.name}/{self.version}",
        )

    def _warnings(self, hunt: Hunt, weak: np.ndarray) -> list[str]:
        """``weak``: points that one-step attacks have broken."""
        found = warning_signs.of_model(*hunt.look(hunt.labelled[:LARGE]))
        missed = np.ones(len(weak), bool)
        for place, stage in enumerate(self.stages):
            attack = stage.attack(hunt.radius, hunt.norm, None)
            if stage.start == "zero" and isinstance(attack, PGD | APGD) and missed.any():
                margin, _ = hunt.descend(attack, weak, np.zeros_like(hunt.x), place)
                missed &= margin > 0
        sentence = warning_signs.weak_beats_strong(missed)
        return [*found, sentence] if sentence else found


def _check(
    batch: Batch, radius: float, norm: Norm, starts: Sequence[np.ndarray]
) -> tuple[float, list[np.ndarray]]:
    """The radius as a Python number, and the starts as arrays."""
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm must be 'l2' or 'linf', got {norm!r}.")
    number("radius", radius, above=0)
    if not np.asarray(batch.y).any():
        raise ValueError(f"none of the {len(batch.y)} points has a label: draw more.")
    given = [np.asarray(start, np.float32) for start in starts]
    for position, start in enumerate(given):
        if start.shape != batch.x.shape or not np.isfinite(start).all():
            raise ValueError(
                f"starts[{position}] has shape {start.shape}; it must be finite and have the shape "
                f"of the points, {batch.x.shape}."
            )
    return float(radius), given


QUICK = Protocol(
    "quick",
    "1",
    (
        Stage("FGM"),
        Stage("dense mixture"),
        Stage("PGD", steps=50, step_size=1.0, smoothing=0.8),
        Stage("PGD", steps=50, step_size=1.0, smoothing=0.4),
        Stage("PGD", "given", steps=50, step_size=0.2),
        Stage("APGD", "near best", steps=50),
    ),
)
"""For inside loops: 150 gradient steps a point, and 50 for each start given."""

STANDARD = Protocol(
    "standard",
    "1",
    (
        Stage("FGM"),
        Stage("dense mixture"),
        Stage("PGD", steps=100, step_size=0.5),
        Stage("APGD", steps=100),
        Stage("PGD", steps=100, step_size=1.0, smoothing=0.4),
        Stage("PGD", steps=100, step_size=1.0, smoothing=0.8),
        Stage("PGD", steps=100, step_size=1.0, smoothing=1.6),
        Stage("PGD", "given", steps=100, step_size=0.2),
        Stage("PGD", "given", steps=100, step_size=0.5, smoothing=0.2),
        Stage("PGD", "sphere", 2, steps=100, step_size=2.0),
        Stage("PGD", "sphere", 2, steps=100, step_size=1.0, smoothing=0.4),
        Stage("PGD", "sphere", 2, steps=100, step_size=1.0, smoothing=0.8),
        Stage("PGD", "sphere", 1, steps=100, step_size=1.0, smoothing=1.6),
        Stage("APGD", "sphere", 2, steps=100),
        Stage("APGD", "inside", 2, steps=100),
        Stage("APGD", "sparse", 2, steps=100),
        Stage("APGD", "near best", 6, steps=100),
        Stage("PGD", "best", steps=100, step_size=0.5, smoothing=0.2),
        Stage("PGD", "best", steps=100, step_size=0.1),
    ),
)
"""For results: 26 descents of 100 steps a point, and two more for each start given."""

PROTOCOLS = {protocol.name: protocol for protocol in (QUICK, STANDARD)}
"""By name."""
