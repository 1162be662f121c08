"""Another cousin: polynomial ReLU (H. Min and R. Vidal, ICML 2024, arXiv:2405.15942).

Data in K clusters with orthogonal centres of norm 1, half of them labelled +1; shallow networks
with a small start. Tested is the statement of their abstract, with its orders: a ReLU network falls
to attacks of norm about 1/√K, for its neurons become averages of centres; with a polynomial ReLU of
degree p ≥ 3 they become single centres, robust at a radius that does not shrink with K. The
abstract does not define that network: here it is TwoLayer, and the same divided by ‖w_i‖^(p−1).
Then our own question: does degree 3 purify in the sparse-coding model? Both are studies
(docs/how-to/own-study.md).

    python experiments/polynomial_relu.py --picture docs/images/polynomial-relu.png
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from panels import cell, cousin_arguments, page, save, scorecard, study_table

import featpur_sim as fp
from featpur_sim.attacks.gradient import keep_better
from featpur_sim.claims.claim import Claim
from featpur_sim.claims.measured import Counted, Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, AtMost, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.weights import summarise
from featpur_sim.report._style import BLUE, GREEN, GREY, ORANGE, VERMILLION

D, NEURONS, SAMPLES, SIZES = 64, 256, 512, (4, 12, 32)


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
AVERAGE, CENTRE = "cosine_with_the_average", "cosine_with_one_centre"

# The dense preset at d = 64 (featpur_sim.runs.presets), with half as many steps in each phase.
STEPS, TAU = 1500, 0.3 / math.sqrt(5)
# Network and phase.
NETS = {
    "symmetric, clean": ("symmetric", "clean"),
    "symmetric, adversarial": ("symmetric", "adversarial"),
    **{name: (name, "clean") for name in ("p = 1", "p = 3", "p = 3, normalised")},
}


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


def cosines(end):
    """Of the neurons with the average of a class's centres, and with one centre: the largest."""
    labels, kind = np.asarray(end.problem.labels), KINDS[end.at.network]
    averages = np.asarray([labels > 0, labels < 0], float) / math.sqrt(len(labels) / 2)
    weights = np.asarray(end.networks["clean"].weights, float)
    norms = np.linalg.norm(weights, axis=1)
    # A neuron counts by what it adds to f along itself.
    share = norms ** (1 if kind.network is Normalised else kind.degree)
    unit = weights[:, : len(labels)] / norms[:, None]
    aligned = [share @ (unit @ a.T).max(1) / share.sum() for a in (averages, np.eye(len(labels)))]
    return dict(zip((AVERAGE, CENTRE), aligned, strict=True))


def clusters(seeds: int) -> fp.Study:
    def problem(at, key):
        labels = jnp.where(jnp.arange(at.K) % 2 == 0, 1.0, -1.0)
        return Clusters(labels, jnp.float32(KINDS[at.network].noise))

    def network(at, key):
        kind = KINDS[at.network]
        settings = {"degree": kind.degree, "sigma_0": kind.start / math.sqrt(D)}
        return kind.network.random(D, NEURONS, key=key, **settings)

    def phases(at):
        data = {"batch": SAMPLES, "dataset_size": SAMPLES, "weight_decay": 0.0}
        kind = KINDS[at.network]
        return [fp.CleanPhase(kind.steps, learning_rate=kind.rate, **data)]

    return fp.Study(
        "clusters", points={"K": SIZES, "network": list(KINDS)},
        problem=problem, network=network, phases=phases, measure=cosines,
        attacks={"PGD": lambda radius, problem: Informed(radius, problem.labels)},
        critical=["PGD"], radii=(0.0, 0.2, 0.4, 0.6), seeds=seeds, records=10, samples=512,
    )  # fmt: skip


def weights_of(end):
    """κ/α and purity of the network of each phase; NaN where there is no such phase."""
    found = {}
    for phase in ("clean", "adversarial"):
        parts = {"kappa_over_alpha": np.nan, "purity": np.nan}
        if phase in end.networks:
            coordinates = fp.decompose(end.networks[phase].weights, end.problem)
            parts = summarise(coordinates, end.problem)
        found |= {f"{name}_{phase}": parts[name] for name in ("kappa_over_alpha", "purity")}
    return found


def sparse_coding(seeds: int) -> fp.Study:
    ramp = fp.training.LinearRamp(3.92 / D)

    def network(at, key):
        if at.network == "symmetric":
            return fp.initialise(D, 4 * D, key=key)
        kind = Normalised if at.network == "p = 3, normalised" else fp.TwoLayer
        settings = {"degree": 1 if at.network == "p = 1" else 3}
        settings["sigma_0"] = 0.1 if at.network == "p = 3" else 0.01
        return kind.random(D, 8 * D, key=key, **settings)

    def phases(at):
        if at.network == "symmetric":
            robust = fp.AdversarialPhase(fp.FGM(TAU), STEPS)
            return [fp.CleanPhase(STEPS, bias=ramp), robust]
        return [fp.CleanPhase(STEPS, **({"bias": ramp} if at.network == "p = 1" else {}))]

    return fp.Study(
        "sparse coding", points={"network": ["symmetric", "p = 1", "p = 3", "p = 3, normalised"]},
        problem=lambda at, key: fp.SparseCoding(d=D, k=5, sigma_x=0.3),
        network=network, phases=phases, measure=weights_of,
        attacks={
            "PGD": lambda radius, problem: fp.PGD(radius, restarts=2),
            "APGD": lambda radius, problem: fp.attacks.APGD(radius),
            "dense mixture": lambda radius, problem: fp.attacks.DenseMixture.of(problem, radius),
        },
        radii=(0.0, 1.0), tau=TAU, seeds=seeds, records=10, samples=2048,
    )  # fmt: skip


def radius(data: xr.Dataset, kind: str) -> np.ndarray:
    """Critical radii of a network on clusters, [K, seed]."""
    found = data.critical_radius.sel(phase="clean", critical_attack="PGD")
    return found.transpose("point", "seed").values[(data.network == kind).values]


def of_net(data: xr.Dataset, net: str, what: str) -> np.ndarray:
    """A measure of a network in the sparse-coding model, seed by seed."""
    name, phase = NETS[net]
    here = data.isel(point=int(np.flatnonzero(data.network == name)[0]))
    if what in ("κ/α", "purity"):
        return here[f"{'kappa_over_alpha' if what == 'κ/α' else what}_{phase}"].values
    if what == "accuracy":
        return here.clean_accuracy.sel(phase=phase).values
    attack = what.removesuffix(" at τ")
    return here.robust_accuracy.sel(phase=phase, attack=attack, relative_radius=1.0).values


WHAT = "accuracy", "PGD at τ", "APGD at τ", "dense mixture at τ", "κ/α", "purity"


def exponent(kind: str, predicted: float):
    """Of the radius in K, seed by seed."""
    return lambda data: over_seeds(
        np.polyfit(np.log(SIZES), np.log(radius(data, kind)), 1)[0], predicted=predicted
    )


def worst(kind: str, what: str = ""):
    """A measure, or the critical radius, at the K where its mean is least."""

    def least(data: xr.Dataset) -> Measured:
        own = (data.network == kind).values
        values = data[what].values[own] if what else radius(data, kind)
        return over_seeds(values[values.mean(1).argmin()])

    return least


def share_of_gain(net: str):
    """How much of what adversarial training adds under PGD a cleanly trained network has."""

    def share(data: xr.Dataset) -> Measured:
        clean, robust, own = (of_net(data, n, "PGD at τ") for n in (*list(NETS)[:2], net))
        return over_seeds((own - clean) / (robust - clean))

    return share


def mixtures(net: str):
    """κ/α over that of the symmetric network, both trained cleanly."""
    return lambda data: over_seeds(
        of_net(data, net, "κ/α") / of_net(data, "symmetric, clean", "κ/α")
    )


COSINE, EXPONENT = AtLeast(0.9, "the cosine", ideal=1.0), WithinDistance(0.1, "the prediction")
RADIUS, SHARE = AtLeast(0.5, "the radius", ideal=0.5**0.5), AtLeast(0.5, "the share", ideal=1.0)
ON_CLUSTERS = [
    Claim("PR1", COSINE, worst("p = 1", AVERAGE), "1", "[P]",
          "p = 1: neurons become the averages of their class's centres (mean cosine, worst K)"),
    Claim("PR2", EXPONENT, exponent("p = 1", -0.5), "-1/2", "[P] 1/√K",
          "p = 1: the critical radius falls like 1/√K (exponent)"),
]  # fmt: skip
for name in list(KINDS)[1:]:
    ON_CLUSTERS += [
        Claim("PR3", COSINE, worst(name, CENTRE), "1", "[P]",
              f"{name}: neurons become single centres (mean cosine, worst K)"),
        Claim("PR4", EXPONENT, exponent(name, 0.0), "0", "[P] order 1",
              f"{name}: the critical radius does not depend on K (exponent)"),
        Claim("PR5", RADIUS, worst(name), "√2/2", "[D] ideal",
              f"{name}: the critical radius at the worst K"),
    ]  # fmt: skip
ON_SPARSE_CODING = []
for net in ("p = 3", "p = 3, normalised"):
    ON_SPARSE_CODING += [
        Claim("PR6", SHARE, share_of_gain(net), "a question", "none",
              f"sparse coding, {net}: clean training makes half of what adversarial "
              "training of the symmetric network gains under PGD"),
        Claim("PR7", AtMost(0.1, "the quotient"), mixtures(net), "a question", "none",
              f"sparse coding, {net}: κ/α is at most a tenth of the symmetric network's, "
              "both trained cleanly"),
    ]  # fmt: skip


def draw(clustered: xr.Dataset, sparse: xr.Dataset, path: Path) -> None:
    """Radii against K beside 1/√K and √2/2 [D]; accuracies in the sparse-coding model."""
    figure, (left, right) = page(2, height=3.2)

    def points(axes, x, values, **style):
        mean, low, high = np.array([over_seeds(v)[:3] for v in values]).T
        axes.errorbar(x, mean, yerr=np.nan_to_num([mean - low, high - mean]), **style)

    k = np.array(SIZES)
    for name, kind in KINDS.items():
        points(left, k, radius(clustered, name), color=kind.colour, marker="o", label=name)
    left.plot(k, k**-0.5, ":", color=VERMILLION, label="1/√K")
    left.plot(k, 0.5**0.5 + 0 * k, ":", color=BLUE, label="√2/2")
    left.set_xscale("log", base=2)
    left.set_xticks(k, map(str, k))
    left.set(ylim=(0, 0.8), xlabel="K", ylabel="critical radius", title="Clusters")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    for what, colour in (("accuracy", GREY), ("PGD at τ", VERMILLION)):
        values = [of_net(sparse, net, what) for net in NETS]
        points(right, range(5), values, fmt="o", color=colour, label=what)
    right.set_xticks(range(5), [name.replace(", ", "\n") for name in NETS])
    right.set(ylim=(0.4, 1.02), xlim=(-0.5, 4.5), ylabel="fraction right", title="Sparse coding")
    right.legend(loc="center left")
    save(figure, path)


if __name__ == "__main__":
    options = cousin_arguments(__doc__ or "", seeds=5).parse_args()
    first, second = clusters(options.seeds), sparse_coding(options.seeds)
    where = [options.out and options.out / name for name in ("clusters", "sparse-coding")]
    clustered = fp.run(first, where[0], claims=ON_CLUSTERS)
    sparse = fp.run(second, where[1], claims=ON_SPARSE_CODING)
    print(study_table(clustered.data))
    print("\n| sparse coding | " + " | ".join(WHAT) + " |\n" + "|---" * 7 + "|")
    counted = Counted(2048, least=0.0)
    for net in NETS:
        cells = [
            cell(of_net(sparse.data, net, what), None if what in WHAT[4:] else counted)
            for what in WHAT
        ]
        print(f"| {net} | " + " | ".join(cells) + " |")
    for done in (clustered, sparse):
        print("\n" + scorecard(done.scorecard().to_dict("records")))
    draw(clustered.data, sparse.data, options.picture)
