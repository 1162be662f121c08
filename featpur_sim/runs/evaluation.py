"""Every network of a run against every attack and radius (docs/theory.md §5, §5.2).

One compiled program per attack and network shape: radii and phases are data. All networks and
attacks of a seed are scored on the same test points.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.types import Array, Float
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.lanes import Lanes, put
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.config import RunConfig
from featpur_sim.runs.evaluation_parts import EvaluationParts
from featpur_sim.runs.judged import COSTLY, Judged

ATTACKS: tuple[AttackName, ...] = (
    "random noise",
    "dense mixture",
    "FGM",
    "PGD",
    "PGD on support",
    "transfer",
)
REFERENCES = (
    "pure network",
    "clean without dense mixtures",
    "adversarial with clean dense mixtures",
)
MARGIN_QUANTILES = (0.1, 0.5, 0.9)


def attack_family(config: RunConfig, problems: SparseCoding) -> dict[str, AttackKind]:
    """The attacks of a run, by name.

    "PGD on support" needs M = I, and "transfer" a second seed of the same problem; they are left
    out otherwise.
    """
    settings = config.evaluation
    missing = {
        "PGD on support": problems.M is not None,
        "transfer": config.seeds == 1 or config.draw == "per-seed",
    }
    return {
        name: AttackKind(
            name,
            config.adversarial.norm,
            steps=settings.pgd_steps,
            restarts=settings.pgd_restarts if name == "PGD" else 1,
        )
        for name in ATTACKS
        if not missing.get(name, False)
    }


@eqx.filter_jit
def _dense_quantiles(networks, problems, norm, radii, keys, n):
    """Quantiles of y f along the dense direction over the median of y f(x): shape [S, r, q]."""

    def one(network, problem, key):
        batch = problem.sample(key, n)

        def at(radius):
            attack = DenseMixture.of(problem, radius, norm)
            delta = attack(network, batch, key=key)
            margin = batch.y * network(batch.x + delta, key=key)
            kept = jnp.where(batch.labelled, margin, jnp.nan)
            return jnp.nanquantile(kept, jnp.asarray(MARGIN_QUANTILES))

        values = jax.lax.map(at, radii)
        # A network whose median clean margin is not positive has nothing to normalise by.
        median = at(jnp.float32(0))[1]
        return values / jnp.where(median > 0, median, jnp.nan)

    return eqx.filter_vmap(one)(networks, problems, keys)


class Judgement(NamedTuple):
    """Networks on the test points of a run."""

    accuracy: Float[np.ndarray, "S p a r"]
    """Under each attack; NaN for attacks that do not apply."""
    certified: Float[np.ndarray, "S p r"]
    """Proved, of the points that are certified; NaN where there are none."""
    attacked: Float[np.ndarray, "S p r"]
    """Of the same points, those that nothing has broken."""


class Evaluator:
    """Scores batched networks (leading axis S) under the attacks of a run.

    Args:
        config: the run's settings.
        problems: the data of each seed, in the coordinates of the networks.
        keys: one key per seed; they name the test points.
        clean: the cleanly trained networks, on which transferred examples are made.
        parts: where what is done is kept; nowhere by default.
    """

    def __init__(
        self,
        config: RunConfig,
        problems: SparseCoding,
        keys: Array,
        clean: SymmetricReLU,
        parts: EvaluationParts | None = None,
    ):
        self.config = config
        # A run is a sweep of one point: its lanes are its seeds.
        self.lanes = Lanes(problems, keys, config.evaluation.samples)
        # Transfer: every seed is attacked with what works against its neighbour's clean network.
        self.sources = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), clean)
        self.family = attack_family(config, problems)
        self.parts = EvaluationParts() if parts is None else parts
        self.radii = np.asarray(config.evaluation.radii) * config.adversarial.radius

    def accuracy(
        self, networks: SymmetricReLU, attack: str | None = None, radius: float | None = None
    ) -> Float[np.ndarray, " S"]:
        """Accuracy of each seed's network under one attack; by default at the training radius."""
        if attack is None:
            return self.lanes.accuracy(networks)
        radius = self.config.adversarial.radius if radius is None else radius
        source = self.sources if attack == "transfer" else None
        return self.lanes.accuracy(networks, self.family[attack], self._radii(radius), source)

    def _radii(self, radius: float) -> Float[Array, " S"]:
        return jnp.full(self.config.seeds, radius, jnp.float32)

    def judge(
        self,
        networks: Mapping[str, SymmetricReLU],
        attacks: tuple[str, ...],
        meter: Meter = SILENT,
        stage: str = "attacks",
    ) -> Judgement:
        """Every network under every attack at every radius, and both sides of the whole curve.

        At radius 0 every attack is the clean accuracy, and so are both sides. The meter is told of
        every attack, as those of ``stage``.

        Raises:
            Contradiction: f lies below its certificate.
        """
        shape = (self.config.seeds, len(networks), len(self.radii))
        accuracy = np.full((*shape[:2], len(attacks), shape[2]), np.nan)
        certified, attacked = np.full(shape, np.nan), np.full(shape, np.nan)
        cheap = [name for name in attacks if name not in COSTLY]
        order = [*cheap, None, *(name for name in attacks if name in COSTLY)]
        settings, positive = self.config.evaluation, self.radii[1:]
        points = min(settings.certify_points, settings.samples)
        for p, (name, network) in enumerate(networks.items()):
            norm = self.config.adversarial.norm
            judged = Judged(name, network, self.lanes, positive, norm, points, self.parts)
            for a, attack in enumerate(order):
                meter.at(stage, p * len(order) + a, len(networks) * len(order))
                if attack is None:
                    judged.certify()
                elif attack in self.family:
                    source = self.sources if attack == "transfer" else None
                    curve = judged.under(self.family[attack], source)
                    table = np.concatenate([judged.clean[:, None], curve], axis=1)
                    accuracy[:, p, attacks.index(attack)] = table
            certified[:, p], attacked[:, p] = judged.sides()
        meter.at(stage, len(networks) * len(order), len(networks) * len(order))
        return Judgement(accuracy, certified, attacked)

    def best_pure_network(self, keys: Array, meter: Meter = SILENT) -> tuple[SymmetricReLU, float]:
        """The pure network whose threshold withstands PGD best at the training radius.

        Chosen on the points of ``keys``, which must differ from those it is scored on.
        """
        meter.at("pure network", 0, 1)
        pgd, radii = self.family["PGD"], self._radii(self.config.adversarial.radius)
        scores = self.parts.kept("thresholds", partial(self.lanes.on(keys).pure_scores, pgd, radii))
        best = self.lanes.pure_biases()[int(np.argmax(np.mean(scores, axis=1)))]
        meter.at("pure network", 1, 1)
        return self.lanes.pure_networks(best), float(best[0])

    def dense_margins(self, networks: SymmetricReLU) -> Float[np.ndarray, "S r q"]:
        """Quantiles of y f(x + δ)/median(y f(x)) along the dense direction, per seed and radius."""
        norm, lanes = self.config.adversarial.norm, self.lanes
        radii = jnp.asarray(self.radii, jnp.float32)
        found = _dense_quantiles(networks, lanes.problem, norm, radii, lanes.keys, lanes.samples)
        return np.asarray(found)


def surgery(networks: Mapping[str, SymmetricReLU], lanes: Lanes) -> dict[str, SymmetricReLU]:
    """Interventions behind claims C3 and C4: dense mixtures cut out of, and put into, a network."""
    clean, adversarial = networks["clean"], networks["adversarial"]
    mixtures = lanes.mixtures(clean)
    return {REFERENCES[1]: put(clean, -mixtures), REFERENCES[2]: put(adversarial, mixtures)}
