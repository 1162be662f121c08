"""What is measured on many trained networks at once, one lane each (docs/theory.md §4, §5).

A lane is one training run: a seed of a run, or one seed of one point of a sweep; a run is a sweep
of one point. Lanes share their sizes; k, σ_x, w*, M, radii and keys are data. There is one compiled
program per kind of attack and shape, for all phases, radii and lanes. Lanes go through it side by
side, as many as fit in the memory allowed.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float
from featpur_sim.attacks.accuracy import CHUNK, is_finite
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.critical_radius import (
    CriticalRadius,
    bisect_critical_radius,
    dense_critical_radius,
)
from featpur_sim.measure.standing import Standing, over_lanes
from featpur_sim.measure.tickets import ticket_outcome
from featpur_sim.measure.weights import decompose, dense_part, overlap, summarise
from featpur_sim.models.symmetric_relu import SymmetricReLU, pure_network

# Thresholds tried for the pure network, in units of 1/√k.
PURE_BIASES = tuple(i / 10 for i in range(1, 10))
# Variable → the phases whose weights it compares.
OVERLAPS = {
    "theta_init_clean": ("init", "clean"),
    "theta_init_adversarial": ("init", "adversarial"),
    "theta_clean_adversarial": ("clean", "adversarial"),
}


class Lanes:
    """The test points of L lanes, and what is measured of networks on them.

    Networks and attacks have a leading axis L. All of a lane meet the same points.

    Args:
        problem: batched along L; sizes shared, everything else may differ.
        keys: one key per lane for its test points; lanes with equal keys and laws share points.
        samples: test points per lane.
        memory: bytes that attacked samples may take; more lanes than fit go one group after
            another.

    Attributes:
        standing: the test points, and which of them withstand an attack.
    """

    @steady
    def __init__(self, problem: SparseCoding, keys: Array, samples: int, memory: int = 2**30):
        self.problem, self.keys = problem, keys
        self.samples, self.memory = samples, memory
        self.standing = Standing(problem, keys, samples, memory)

    def on(self, keys: Array) -> "Lanes":
        """The same lanes on other test points."""
        return Lanes(self.problem, keys, self.samples, self.memory)

    def accuracy(
        self,
        networks: SymmetricReLU,
        kind: AttackKind | None = None,
        radii: Float[Array, " L"] | None = None,
        source: SymmetricReLU | None = None,
    ) -> Float[np.ndarray, " L"]:
        """Accuracy of each lane's network; NaN for weights that are not finite.

        Args:
            networks: one per lane.
            kind: of attack; None for the clean accuracy.
            radii: one per lane.
            source: what transferred perturbations are found on, one per lane.
        """
        if kind is None or radii is None:
            return self.share(networks, self.standing.right(networks))
        return self.share(networks, self.standing.withstand(networks, kind, radii, source))

    def share(
        self, networks: SymmetricReLU, right: Bool[np.ndarray, "L n"]
    ) -> Float[np.ndarray, " L"]:
        """The fraction of the labelled points; NaN for weights that are not finite."""
        # Weights that are not numbers get nothing wrong either: they have no accuracy.
        with np.errstate(invalid="ignore"):  # no point may have a label
            share = (right & self.standing.labelled).sum(1) / self.standing.labelled.sum(1)
        return np.where(self.finite(networks), share, np.nan)

    def finite(self, networks: SymmetricReLU) -> Bool[np.ndarray, " L"]:
        """Whose weights are all finite."""
        return np.asarray(_finite(networks))

    def excluded(self) -> Float[np.ndarray, " L"]:
        """Fraction of each lane's test points without a label, ⟨w*, z⟩ = 0."""
        return 1 - self.standing.labelled.mean(1)

    def pure_networks(self, biases: Float[np.ndarray, " L"]) -> SymmetricReLU:
        """Each lane's pure network with a threshold of its own (§5.2)."""
        return _pure_networks(self.problem, jnp.asarray(biases))

    def pure_biases(self) -> Float[np.ndarray, "b L"]:
        """The thresholds to try for the pure network."""
        k = np.asarray(self.problem.k, np.float32)
        return np.asarray(PURE_BIASES, np.float32)[:, None] / np.sqrt(k)

    def pure_scores(self, kind: AttackKind, radii: Float[Array, " L"]) -> Float[np.ndarray, "b L"]:
        """The accuracy of the pure network with each of `pure_biases`.

        A network chosen by these scores must be scored again on other points; see `on`.
        """
        networks = map(self.pure_networks, self.pure_biases())
        return np.array([self.accuracy(network, kind, radii) for network in networks])

    def mixtures(self, networks: SymmetricReLU) -> Float[Array, "L m d"]:
        """The dense mixture in every weight, for surgery (claims C3 and C4)."""
        return _mixtures(networks.weights, self.problem)

    def statistics(self, networks: SymmetricReLU) -> dict[str, Float[np.ndarray, " L"]]:
        """The weight statistics of `summarise` and the active fraction."""
        width = self.standing.width(networks)
        x = self.standing.points.x[:, :CHUNK]
        found = _statistics(networks, self.problem, x, width)
        return {name: np.array(values, float) for name, values in found.items()}

    def median_overlaps(
        self, networks: Mapping[str, SymmetricReLU]
    ) -> dict[str, Float[np.ndarray, " L"]]:
        """The median of each of `overlaps` over the carriers of the clean-trained network."""
        found = _median_overlaps(dict(networks), self.problem)
        return {name: np.array(values, float) for name, values in found.items()}

    def tickets(
        self, initial: SymmetricReLU, final: SymmetricReLU, sigma_0: Float[Array, " L"]
    ) -> dict[str, Array]:
        """The fate of each lane's lottery tickets: the fields of `TicketOutcome`, [L, …] each,
        with the prefix ``ticket_``.
        """
        found = _tickets(initial.weights, final.weights, self.problem, sigma_0)._asdict()
        return {f"ticket_{name.removeprefix('ticket_')}": value for name, value in found.items()}

    def critical_radius(
        self,
        networks: SymmetricReLU,
        kind: AttackKind,
        low: Float[Array, " L"],
        high: Float[Array, " L"],
    ) -> CriticalRadius:
        """Each lane's critical radius; exact along a fixed direction, else bisected in [low, high].

        Every field has the shape [L].
        """
        width = self.standing.width(networks)
        arguments = (networks, self.problem, low, high, self.keys)
        return _critical(*arguments, kind, self.samples, width)


def put(networks: SymmetricReLU, mixtures: Float[Array, "L m d"]) -> SymmetricReLU:
    """The networks with mixtures added to their weights."""
    return eqx.tree_at(lambda n: n.weights, networks, networks.weights + mixtures)


@eqx.filter_jit
def overlaps(networks: Mapping[str, SymmetricReLU]) -> dict[str, Float[Array, "L m"]]:
    """The overlap of every neuron between two phases, for each pair of `OVERLAPS`."""
    return {
        name: jax.vmap(overlap)(networks[a].weights, networks[b].weights)
        for name, (a, b) in OVERLAPS.items()
    }


@eqx.filter_jit
def _pure_networks(problem, biases):
    return jax.vmap(lambda p, bias: pure_network(p.wstar, bias, p.M))(problem, biases)


@eqx.filter_jit
def _finite(networks):
    return jax.vmap(is_finite)(networks)


@eqx.filter_jit
def _mixtures(weights, problem):
    return jax.vmap(dense_part)(weights, problem)


@eqx.filter_jit
def _median_overlaps(networks, problem):
    carrier = jax.vmap(lambda own, p: decompose(own.weights, p).carrier)(networks["clean"], problem)
    return {
        name: jnp.nanmedian(jnp.where(carrier, values, jnp.nan), axis=1)
        for name, values in overlaps(networks).items()
    }


@eqx.filter_jit
def _tickets(initial, final, problem, sigma_0):
    return jax.vmap(ticket_outcome)(initial, final, problem, sigma_0)


@eqx.filter_jit
def _statistics(networks, problem, x, width):
    def lane(network, problem, x):
        active = jnp.mean(network.active(x).astype(jnp.float32))
        return summarise(decompose(network.weights, problem), problem) | {"active_fraction": active}

    return over_lanes(lane, width, networks, problem, x)


@eqx.filter_jit
def _critical(networks, problem, low, high, keys, kind: AttackKind, n, width):
    def lane(network, problem, low, high, key):
        exact = type(network) is SymmetricReLU and network.smoothing == "none"
        if kind.name == "dense mixture" and exact:
            return dense_critical_radius(network, problem, kind.norm, key=key, n=n)
        direction = problem.dense_direction()
        return bisect_critical_radius(
            network, problem, lambda r: kind(r, direction=direction),
            key=key, n=n, low=low, high=high,
        )  # fmt: skip

    return over_lanes(lane, width, networks, problem, low, high, keys)
