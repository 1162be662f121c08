"""Every network of a run against every attack and radius (docs/theory.md §5, §5.2).

One compiled program per attack and network shape: radii and phases are data. All networks and
attacks of a seed are scored on the same test points.
"""

from collections.abc import Mapping
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.types import Array, Float
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.attacks.protocol import QUICK
from featpur_sim.certify import Contradiction, Effort
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure import both_sides as sandwich
from featpur_sim.measure.lanes import Lanes, put
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.runs.config import RunConfig
from featpur_sim.runs.evaluation_parts import EvaluationParts
from featpur_sim.training.loop import replicate

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
# What a run certifies, and how: cheap enough for every run; `featpur certify` does more.
CERTIFIED_PHASES = ("clean", "adversarial")
CERTIFIED_RADII = (0.5, 1.0, 1.5)  # in units of τ, those of them that the run attacks at
_STAGES, _EFFORT = ("linear", "q1"), Effort(q1_steps=100)


def attack_family(config: RunConfig, problem: SparseCoding) -> dict[str, AttackKind]:
    """The attacks of a run, by name.

    "PGD on support" needs M = I, and "transfer" a second seed; they are left out otherwise.
    """
    settings = config.evaluation
    missing = {
        "PGD on support": problem.M is not None,
        "transfer": config.seeds == 1,
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
def _dense_quantiles(networks, problem, norm, radii, keys, n):
    """Quantiles of y f along the dense direction over the median of y f(x): shape [S, r, q]."""

    def one(network, key):
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

    return eqx.filter_vmap(one)(networks, keys)


@jax.jit
def _attack_keys(keys):
    """One key per seed for attacks on its points, as in `count_robust`."""
    return list(jax.vmap(lambda key: jax.random.split(key)[1])(keys))


class Evaluator:
    """Scores batched networks (leading axis S) under the attacks of a run.

    Args:
        config: the run's settings.
        problem: the data, in the coordinates of the networks.
        keys: one key per seed; they name the test points.
        clean: the cleanly trained networks, on which transferred examples are made.
        parts: where what is done is kept; nowhere by default.
    """

    def __init__(
        self,
        config: RunConfig,
        problem: SparseCoding,
        keys: Array,
        clean: SymmetricReLU,
        parts: EvaluationParts | None = None,
    ):
        self.config, self.problem, self.keys = config, problem, keys
        # A run is a sweep of one point: its lanes are its seeds.
        self.lanes = Lanes(replicate(problem, config.seeds), keys, config.evaluation.samples)
        # Transfer: every seed is attacked with what works against its neighbour's clean network.
        self.sources = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), clean)
        self.family = attack_family(config, problem)
        self.kept = (EvaluationParts() if parts is None else parts).kept
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

    def curves(
        self,
        networks: Mapping[str, SymmetricReLU],
        attacks: tuple[str, ...],
        meter: Meter = SILENT,
        stage: str = "attacks",
    ) -> Float[np.ndarray, "S p a r"]:
        """Accuracy for [seed, network, attack, radius]; NaN for attacks that do not apply.

        At radius 0 every attack is the clean accuracy. The meter is told of every attack, as those
        of ``stage``.
        """
        shape = (self.config.seeds, len(networks), len(attacks), len(self.radii))
        table = np.full(shape, np.nan)
        total = len(networks) * len(attacks)
        meter.at(stage, 0, total)
        for p, (name, network) in enumerate(networks.items()):
            clean = self.kept(f"{name}: clean", partial(self.accuracy, network))
            for a, attack in enumerate(attacks):
                if attack in self.family:
                    curve = partial(self._curve, network, attack, clean)
                    table[:, p, a] = self.kept(f"{name}: {attack}", curve)
                meter.at(stage, p * len(attacks) + a + 1, total)
        return table

    def _curve(self, network, attack, clean):
        """Accuracy for [seed, radius] under one attack."""
        values = [
            clean if radius == 0 else self.accuracy(network, attack, float(radius))
            for radius in self.radii
        ]
        return np.stack(values, axis=1)

    def best_pure_network(self, keys: Array, meter: Meter = SILENT) -> tuple[SymmetricReLU, float]:
        """The pure network whose threshold withstands PGD best at the training radius.

        Chosen on the points of ``keys``, which must differ from those it is scored on.
        """
        meter.at("pure network", 0, 1)
        pgd, radii = self.family["PGD"], self._radii(self.config.adversarial.radius)
        scores = self.kept("thresholds", partial(self.lanes.on(keys).pure_scores, pgd, radii))
        best = self.lanes.pure_biases()[int(np.argmax(np.mean(scores, axis=1)))]
        meter.at("pure network", 1, 1)
        return self.lanes.pure_networks(best), float(best[0])

    def both_sides(
        self, networks: Mapping[str, SymmetricReLU], meter: Meter = SILENT
    ) -> tuple[Float[np.ndarray, "S p r"], Float[np.ndarray, "S p r"]] | None:
        """Certified and attacked accuracy for [seed, certified phase, radius], or None.

        On the labelled ones among each seed's first ``certify_points`` test points, with the quick
        protocol and the stages "linear" and "q1", at the radii of ``CERTIFIED_RADII``; at radius 0
        both are the clean accuracy. NaN for other radii and where no such point has a label. None
        if the run certifies no points or has sampled noise.
        """
        settings = self.config.evaluation
        count = min(settings.certify_points, settings.samples)
        if count == 0 or self.config.network.smoothing == "sampled":
            return None
        shape = (self.config.seeds, len(CERTIFIED_PHASES), len(self.radii))
        certified, attacked = np.full(shape, np.nan), np.full(shape, np.nan)
        chosen = np.flatnonzero(np.isin(settings.radii, (0.0, *CERTIFIED_RADII)))
        drawn = jax.tree.map(np.asarray, self.lanes.standing.points)
        right = {phase: self.lanes.standing.right(networks[phase]) for phase in CERTIFIED_PHASES}
        for s, attack_key in enumerate(_attack_keys(self.keys)):
            kept = np.flatnonzero(drawn.y[s, :count])
            points = jax.tree.map(lambda rows, s=s, kept=kept: rows[s, kept], drawn)
            for p, phase in enumerate(CERTIFIED_PHASES):
                meter.at("certificates", s * len(CERTIFIED_PHASES) + p, shape[0] * shape[1])
                network = jax.tree.map(lambda leaf, s=s: np.asarray(leaf)[s], networks[phase])
                if len(kept):
                    sides = partial(
                        self._sides, network, points, right[phase][s, kept], chosen, attack_key
                    )
                    try:
                        found = self.kept(f"{phase}: both sides, seed {s + 1}", sides)
                    except Contradiction as error:
                        error.evidence |= {"seed": s + 1, "phase": phase}
                        raise
                    certified[s, p, chosen], attacked[s, p, chosen] = found
        meter.at("certificates", shape[0] * shape[1], shape[0] * shape[1])
        return certified, attacked

    def _sides(self, network, points, right, chosen, key):
        """Certified and attacked accuracy at the chosen radii, the first of which is 0."""
        proved, standing = sandwich.squeeze_radii(
            network,
            points,
            self.radii[chosen][1:].tolist(),
            self.config.adversarial.norm,
            key=key,
            direction=self.problem.dense_direction(),
            protocol=QUICK,
            stages=_STAGES,
            effort=_EFFORT,
        )
        return np.stack([np.mean([right, *side], axis=1) for side in (proved, standing)])

    def dense_margins(self, networks: SymmetricReLU) -> Float[np.ndarray, "S r q"]:
        """Quantiles of y f(x + δ)/median(y f(x)) along the dense direction, per seed and radius."""
        norm, samples = self.config.adversarial.norm, self.config.evaluation.samples
        radii = jnp.asarray(self.radii, jnp.float32)
        return np.asarray(_dense_quantiles(networks, self.problem, norm, radii, self.keys, samples))


def surgery(networks: Mapping[str, SymmetricReLU], lanes: Lanes) -> dict[str, SymmetricReLU]:
    """Interventions behind claims C3 and C4: dense mixtures cut out of, and put into, a network."""
    clean, adversarial = networks["clean"], networks["adversarial"]
    mixtures = lanes.mixtures(clean)
    return {REFERENCES[1]: put(clean, -mixtures), REFERENCES[2]: put(adversarial, mixtures)}
