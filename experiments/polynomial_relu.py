"""Another cousin: polynomial ReLU (H. Min and R. Vidal, ICML 2024, arXiv:2405.15942).

Data in K clusters with orthogonal centres of norm 1, half of them labelled +1; shallow networks
with a small start. Tested is the statement of their abstract, with its orders: a ReLU network falls
to attacks of norm about 1/√K, for its neurons become averages of centres; with a polynomial ReLU of
degree p ≥ 3 they become single centres, robust at a radius that does not shrink with K. The
abstract does not define that network: here it is TwoLayer, and the same divided by ‖w_i‖^(p−1).
Then our own question: does degree 3 purify in the sparse-coding model? Public interface alone.

    python experiments/polynomial_relu.py --picture docs/images/polynomial-relu.png
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from panels import cousin_arguments, page, save, scorecard

import featpur_sim as fp
from featpur_sim.attacks.gradient import keep_better
from featpur_sim.claims.claim import Claim, cases, rows
from featpur_sim.claims.measured import Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, AtMost, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.critical_radius import bisect_critical_radius
from featpur_sim.measure.weights import summarise
from featpur_sim.report._style import BLUE, GREEN, GREY, ORANGE, VERMILLION

SEEDS, D, NEURONS, SAMPLES, SIZES = 5, 64, 256, 512, (4, 12, 32)


class Normalised(fp.TwoLayer):
    """Σ_i a_i max(⟨w_i, x⟩, 0)^p / ‖w_i‖^(p−1), of degree one in the length of a weight vector."""

    def __call__(self, x, *, key=None):
        size = jnp.linalg.norm(self.weights, axis=1) ** (self.degree - 1)
        return jax.nn.relu(x @ self.weights.T) ** self.degree @ (self.readout / size)


class Kind(NamedTuple):
    """A network on clusters: start is the norm of a weight vector, noise that of x − e_c."""

    network: Any
    degree: int
    start: float
    rate: float
    steps: int
    noise: float
    colour: str


KINDS = {
    "p = 1": Kind(fp.TwoLayer, 1, 0.001, 0.025, 1000, 0.1, VERMILLION),
    "p = 3, normalised": Kind(Normalised, 3, 0.01, 0.2, 2000, 0.1, BLUE),
    "p = 3": Kind(fp.TwoLayer, 3, 0.1, 0.5, 2000, 0.1, GREEN),
    "p = 3, small start": Kind(fp.TwoLayer, 3, 0.01, 3.0, 3000, 0.1, ORANGE),
    "p = 3, small start, hardly any noise": Kind(fp.TwoLayer, 3, 0.01, 3.0, 3000, 0.001, GREY),
}
MEASURES = "accuracy", "critical radius", "cosine with the average", "cosine with one centre"

# The dense preset at d = 64 (featpur_sim.runs.presets), with half as many steps in each phase.
STEPS, TAU = 1500, 0.3 / math.sqrt(5)
NETS = "symmetric, clean", "symmetric, adversarial", "p = 1", "p = 3", "p = 3, normalised"
WHAT = "accuracy", "PGD at τ", "APGD at τ", "dense mixture at τ", "κ/α", "purity"


class Clusters(eqx.Module):
    """x = e_c + N(0, σ²I/d), cluster c uniform; the label is that of the cluster."""

    labels: jax.Array
    noise: jax.Array

    def sample(self, key, n, *, start=0):
        def one(row):
            cluster, noise = jax.random.split(jax.random.fold_in(key, row))
            size = len(self.labels)
            z = jax.nn.one_hot(jax.random.randint(cluster, (), 0, size), size)
            noise = self.noise * jax.random.normal(noise, (D,)) / math.sqrt(D)
            return Batch(jnp.pad(z, (0, D - size)) + noise, z @ self.labels, z)

        return jax.vmap(one)(start + jnp.arange(n))

    sample_labelled = sample

    def coordinates(self, weights):
        return weights[..., : len(self.labels)]

    def require_dimension(self, weights):
        if weights.shape[-1] != D:
            raise ValueError(f"weights of length {weights.shape[-1]} with inputs of d = {D}.")


class Informed(fp.PGD):
    """PGD from 0, along the averaged feature and towards the nearest wrong centre; the best of all.

    For p > 1 ∂f/∂x vanishes along every centre but one's own: PGD from 0 alone finds larger radii.
    """

    labels: jax.Array

    def __init__(self, radius, labels):
        super().__init__(radius, steps=40)
        self.labels = labels

    def __call__(self, model, batch, *, key):
        size = len(self.labels)
        wrong = jnp.where(batch.y[:, None] != self.labels, batch.x[:, :size], -jnp.inf)
        across = jax.nn.one_hot(jnp.argmax(wrong, axis=1), size) - batch.z
        best = self.descend(model, batch, jnp.zeros_like(batch.x), key=key)
        for way in (-batch.y[:, None] * self.labels, across):
            start = self.ball.maximise(jnp.pad(way, ((0, 0), (0, D - size))))
            best = keep_better(best, *self.descend(model, batch, start, key=key))
        return best.delta


@eqx.filter_jit
def critical_radius(model, problem, key):
    ends = {"key": key, "n": 512, "low": 0.02, "high": 2.0}
    return bisect_critical_radius(model, problem, lambda r: Informed(r, problem.labels), **ends)[0]


def train_seeds(problem, make, phases, keys):
    """The networks at the end of each phase: [phase][seed]."""
    starts = fp.stack([make(key=jax.random.fold_in(key, 1)) for key in keys])
    many = fp.replicate((problem, phases), len(keys))
    run = fp.train_many(many[0], starts, many[1], keys=keys, records=2, test_samples=256)
    if run.status.any():
        raise SystemExit(f"training failed: {run!r}")
    ends = [run.networks[phase.name] for phase in phases]
    return [[jax.tree.map(lambda a, s=s: a[s], net) for s in range(len(keys))] for net in ends]


def of_clusters(size: int, kind: Kind, seeds: int) -> list[list[float]]:
    """`MEASURES`, seed by seed."""
    labels = jnp.where(jnp.arange(size) % 2 == 0, 1.0, -1.0)
    averages = np.asarray([labels > 0, labels < 0], float) / math.sqrt(size / 2)
    problem = Clusters(labels, jnp.float32(kind.noise))
    keys = jax.random.split(jax.random.key(size), seeds)
    phase = fp.CleanPhase(
        kind.steps, learning_rate=kind.rate, weight_decay=0.0, batch=SAMPLES, dataset_size=SAMPLES
    )

    def make(key):
        settings = {"degree": kind.degree, "sigma_0": kind.start / math.sqrt(D)}
        return kind.network.random(D, NEURONS, key=key, **settings)

    found = []
    for network, key in zip(train_seeds(problem, make, [phase], keys)[0], keys, strict=True):
        weights = np.asarray(network.weights, float)
        norms = np.linalg.norm(weights, axis=1)
        # A neuron counts by what it adds to f along itself.
        share = norms ** (1 if kind.network is Normalised else kind.degree)
        unit = weights[:, :size] / norms[:, None]
        cosines = [share @ (unit @ a.T).max(1) / share.sum() for a in (averages, np.eye(size))]
        accuracy = fp.robust_accuracy(network, problem, key=key, n=2048).value
        found.append([accuracy, float(critical_radius(network, problem, key)), *cosines])
    return found


def of_sparse_coding(seeds: int) -> np.ndarray:
    """`WHAT` of `NETS` on the data of the theorem: [net, seed, measure]."""
    problem, keys = (
        fp.SparseCoding(d=D, k=5, sigma_x=0.3),
        jax.random.split(jax.random.key(0), seeds),
    )
    ramped = fp.CleanPhase(STEPS, bias=fp.training.LinearRamp(3.92 / D))
    robust = fp.AdversarialPhase(fp.FGM(TAU), STEPS)
    trained = train_seeds(
        problem, lambda key: fp.initialise(D, 4 * D, key=key), [ramped, robust], keys
    )
    for network, degree, start, phase in (
        (fp.TwoLayer, 1, 0.01, ramped),
        (fp.TwoLayer, 3, 0.1, fp.CleanPhase(STEPS)),
        (Normalised, 3, 0.01, fp.CleanPhase(STEPS)),
    ):
        settings = {"degree": degree, "sigma_0": start}
        make = lambda key, net=network, with_=settings: net.random(D, 8 * D, key=key, **with_)  # noqa: E731
        trained += train_seeds(problem, make, [phase], keys)
    blind = fp.attacks.DenseMixture.of(problem, TAU)
    attacks = None, fp.PGD(TAU, restarts=2), fp.attacks.APGD(TAU), blind

    def measured(network, key):
        parts = summarise(fp.decompose(network.weights, problem), problem)
        scores = [fp.robust_accuracy(network, problem, a, key=key, n=2048).value for a in attacks]
        return [*scores, float(parts["kappa_over_alpha"]), float(parts["purity"])]

    return np.array([list(map(measured, networks, keys)) for networks in trained])


def exponent(kind: str, predicted: float):
    """Of the radius in K. Tables: clusters [size, kind, seed, measure], sparse coding."""

    def fitted(tables) -> Measured:
        logs = np.log(tables[0][:, list(KINDS).index(kind), :, 1])
        return over_seeds(np.polyfit(np.log(SIZES), logs, 1)[0], predicted=predicted)

    return fitted


def worst(kind: str, place: int):
    """A measure at the size where its mean is least."""

    def least(tables) -> Measured:
        values = tables[0][:, list(KINDS).index(kind), :, place]
        return over_seeds(values[values.mean(1).argmin()])

    return least


def share_of_gain(net: int):
    """How much of what adversarial training adds under PGD a cleanly trained network has."""
    return lambda tables: over_seeds(
        (tables[1][net, :, 1] - tables[1][0, :, 1]) / (tables[1][1, :, 1] - tables[1][0, :, 1])
    )


def mixtures(net: int):
    """κ/α over that of the symmetric network, both trained cleanly."""
    return lambda tables: over_seeds(tables[1][net, :, 4] / tables[1][0, :, 4])


COSINE, EXPONENT = AtLeast(0.9, "the cosine", ideal=1.0), WithinDistance(0.1, "the prediction")
RADIUS, SHARE = AtLeast(0.5, "the radius", ideal=0.5**0.5), AtLeast(0.5, "the share", ideal=1.0)
CLAIMS = [
    Claim("PR1", COSINE, worst("p = 1", 2), "1", "[P]",
          "p = 1: neurons become the averages of their class's centres (mean cosine, worst K)"),
    Claim("PR2", EXPONENT, exponent("p = 1", -0.5), "-1/2", "[P] 1/√K",
          "p = 1: the critical radius falls like 1/√K (exponent)"),
]  # fmt: skip
for name in list(KINDS)[1:]:
    CLAIMS += [
        Claim("PR3", COSINE, worst(name, 3), "1", "[P]",
              f"{name}: neurons become single centres (mean cosine, worst K)"),
        Claim("PR4", EXPONENT, exponent(name, 0.0), "0", "[P] order 1",
              f"{name}: the critical radius does not depend on K (exponent)"),
        Claim("PR5", RADIUS, worst(name, 1), "√2/2", "[D] ideal",
              f"{name}: the critical radius at the worst K"),
    ]  # fmt: skip
for net in (3, 4):
    CLAIMS += [
        Claim("PR6", SHARE, share_of_gain(net), "a question", "none",
              f"sparse coding, {NETS[net]}: clean training makes half of what adversarial "
              "training of the symmetric network gains under PGD"),
        Claim("PR7", AtMost(0.1, "the quotient"), mixtures(net), "a question", "none",
              f"sparse coding, {NETS[net]}: κ/α is at most a tenth of the symmetric network's, "
              "both trained cleanly"),
    ]  # fmt: skip


def line(*head, values) -> str:
    """A row of a Markdown table: means with 95 % intervals over seeds."""
    found = [over_seeds(column)[:3] for column in np.transpose(values)]
    cells = [f"{m:.3f}" + (f" [{a:.3f}, {b:.3f}]" if a < b else "") for m, a, b in found]
    return "| " + " | ".join([*map(str, head), *cells]) + " |"


def draw(clusters: np.ndarray, sparse: np.ndarray, path: Path) -> None:
    """Radii against K beside 1/√K and √2/2 [D]; accuracies in the sparse-coding model."""
    figure, (left, right) = page(2, height=3.2)

    def points(axes, x, values, **style):
        mean, low, high = np.array([over_seeds(v)[:3] for v in values]).T
        axes.errorbar(x, mean, yerr=np.nan_to_num([mean - low, high - mean]), **style)

    k = np.array(SIZES)
    for place, (name, kind) in enumerate(KINDS.items()):
        points(left, k, clusters[:, place, :, 1], color=kind.colour, marker="o", label=name)
    left.plot(k, k**-0.5, ":", color=VERMILLION, label="1/√K")
    left.plot(k, 0.5**0.5 + 0 * k, ":", color=BLUE, label="√2/2")
    left.set_xscale("log", base=2)
    left.set_xticks(k, map(str, k))
    left.set(ylim=(0, 0.8), xlabel="K", ylabel="critical radius", title="Clusters")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    for place, colour in ((0, GREY), (1, VERMILLION)):
        points(right, range(5), sparse[:, :, place], fmt="o", color=colour, label=WHAT[place])
    right.set_xticks(range(5), [name.replace(", ", "\n") for name in NETS])
    right.set(ylim=(0.4, 1.02), xlim=(-0.5, 4.5), ylabel="fraction right", title="Sparse coding")
    right.legend(loc="center left")
    save(figure, path)


if __name__ == "__main__":
    n = (options := cousin_arguments(__doc__ or "", SEEDS).parse_args()).seeds
    clusters = np.array([[of_clusters(size, kind, n) for kind in KINDS.values()] for size in SIZES])
    print("| K | network | " + " | ".join(MEASURES) + " |\n" + "|---" * 6 + "|")
    for size, of_size in zip(SIZES, clusters, strict=True):
        for name, values in zip(KINDS, of_size, strict=True):
            print(line(size, name, values=values))
    sparse = of_sparse_coding(n)
    print("\n| sparse coding | " + " | ".join(WHAT) + " |\n" + "|---" * 7 + "|")
    for name, values in zip(NETS, sparse, strict=True):
        print(line(name, values=values))
    print("\n" + scorecard(rows(cases(CLAIMS, (clusters, sparse), "polynomial ReLU", str))))
    draw(clusters, sparse, options.picture)
