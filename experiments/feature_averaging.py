"""A cousin of the theorem: feature averaging (Li, Pan, Lyu and Li, ICLR 2025, arXiv:2410.10322).

Data in k clusters with orthogonal centres of norm √d and unit noise, half of the clusters labelled
+1; a two-layer ReLU network with fixed output weights, no biases, and a small start. Their abstract
says: gradient descent makes every neuron an average of its class's centres, so that a perturbation
along the negative averaged features, of norm O(√(d/k)), flips the label; with one label for each
cluster it learns the centres one by one, and withstands O(√d). Only the abstract was read.

A study (docs/how-to/own-study.md) with a problem, two networks and a classifier of its own.

    python experiments/feature_averaging.py --picture docs/images/feature-averaging.png
"""

import math
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from panels import cousin_arguments, page, save, scorecard, study_table

import featpur_sim as fp
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.claims.claim import Claim
from featpur_sim.claims.measured import Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.trainable import Trainable
from featpur_sim.report._style import BLUE, VERMILLION

SAMPLES, NEURONS, STEPS, SIGMA_0 = 2048, 8, 1000, 1e-4
SIZES = [(64, 8), (128, 8), (256, 8), (512, 8), (256, 4), (256, 16), (256, 32)]
# Relative to what makes a step of size one along a centre: the gradient grows with ‖x‖² ≈ 2d.
RATE = 0.2
COARSE, FINE = LABELS = "one label per class", "one label per cluster"
AVERAGE, CENTRE = "cosine_with_the_average", "cosine_with_one_centre"


class Clusters(eqx.Module):
    """x = √d e_c + N(0, I), cluster c uniform; the label is that of the cluster.

    ``tagged``: with the cluster as k more inputs, from which a network reads whose output to raise.
    """

    labels: jax.Array
    d: int = eqx.field(static=True)
    tagged: bool = eqx.field(static=True)

    def sample(self, key, n, *, start=0):
        def one(row):
            cluster, noise = jax.random.split(jax.random.fold_in(key, row))
            z = jax.nn.one_hot(
                jax.random.randint(cluster, (), 0, len(self.labels)), len(self.labels)
            )
            centre = math.sqrt(self.d) * jnp.pad(z, (0, self.d - len(z)))
            return Batch(centre + jax.random.normal(noise, (self.d,)), z @ self.labels, z)

        x, y, z = jax.vmap(one)(start + jnp.arange(n))
        return Batch(jnp.concatenate([x, z], 1), jnp.ones(n), z) if self.tagged else Batch(x, y, z)

    sample_labelled = sample

    def coordinates(self, weights):
        return weights[..., : len(self.labels)]

    def require_dimension(self, weights):
        if weights.shape[-1] != self.d:
            raise ValueError(f"weights of length {weights.shape[-1]} with inputs of d = {self.d}.")


class OutputPerCluster(Trainable):
    """k outputs f_j, each a mean of ReLU. On tagged inputs its value is f_c − log Σ_{j≠c} exp f_j:
    the logistic loss of that is the cross-entropy of the clusters."""

    weights: jax.Array
    bias: jax.Array

    def outputs(self, x):
        return jax.nn.relu(x @ self.weights.T).reshape(len(x), -1, NEURONS).mean(-1)

    def __call__(self, x, *, key=None):
        f, own = self.outputs(x[:, : self.d]), x[:, self.d :]
        others = jax.nn.logsumexp(jnp.where(own > 0, -jnp.inf, f), axis=1)
        return jnp.sum(f * own, axis=1) - others


class BestOutput(Classifier):
    """A real output from one per cluster: the best of label +1 less the best of label −1."""

    network: OutputPerCluster
    labels: jax.Array

    def __call__(self, x, *, key=None):
        f = self.network.outputs(x)
        best = [jnp.max(jnp.where(self.labels == y, f, -jnp.inf), axis=1) for y in (1, -1)]
        return best[0] - best[1]

    value_and_input_gradient = autodiff_input_gradient


def problem(at, key):
    return Clusters(jnp.where(jnp.arange(at.k) % 2 == 0, 1.0, -1.0), at.d, at.labels == FINE)


def network(at, key):
    if at.labels == COARSE:  # a mean of ReLU over each half of the neurons
        neurons = 2 * NEURONS
        return fp.TwoLayer.random(at.d, neurons, sigma_0=SIGMA_0, size=1 / NEURONS, key=key)
    weights = SIGMA_0 * jax.random.normal(key, (at.k * NEURONS, at.d))
    return OutputPerCluster(weights, jnp.zeros(()))


def phases(at):
    rate = RATE * NEURONS * (at.k if at.labels == FINE else 2) / at.d
    data = {"batch": SAMPLES, "dataset_size": SAMPLES}
    return [fp.CleanPhase(STEPS, learning_rate=rate, weight_decay=0.0, **data)]


def judged(at, network, problem):
    plain = Clusters(problem.labels, problem.d, False)
    return (BestOutput(network, plain.labels) if problem.tagged else network), plain


def pgd(radius, problem):
    return fp.PGD(radius, steps=40)


def along_the_average(radius, problem):
    """Along −y Σ_c y_c e_c, the averaged feature."""
    return DenseMixture(radius, jnp.pad(problem.labels, (0, problem.d - len(problem.labels))))


def cosines(end):
    """Of each neuron with the average of a class's centres, and with one centre: the largest."""
    labels, weights = np.asarray(end.problem.labels), np.asarray(end.networks["clean"].weights)
    averages = np.array([labels > 0, labels < 0], float) / math.sqrt(len(labels) / 2)
    unit = weights[:, : len(labels)] / np.linalg.norm(weights, axis=1, keepdims=True)
    aligned = [(unit @ a.T).max(1).mean() for a in (averages, np.eye(len(labels)))]
    return dict(zip((AVERAGE, CENTRE), aligned, strict=True))


def study(seeds: int) -> fp.Study:
    return fp.Study(
        "feature averaging",
        points=[{"d": d, "k": k, "labels": how} for d, k in SIZES for how in LABELS],
        problem=problem, network=network, phases=phases, judged=judged, measure=cosines,
        attacks={"PGD": pgd, "averaged feature": along_the_average},
        critical=["PGD", "averaged feature"], tau=lambda at: math.sqrt(at.d),
        radii=(0.0, 0.2, 0.4, 0.6, 0.8), seeds=seeds, records=2, samples=512,
    )  # fmt: skip


def radius(data: xr.Dataset, attack: str = "PGD") -> xr.DataArray:
    """Critical radius in units of √d [point, seed]."""
    found = data.critical_radius.sel(phase="clean", critical_attack=attack)
    return (found / np.sqrt(data.d)).transpose("point", "seed")


def line(data: xr.Dataset, how: str, along: str) -> np.ndarray:
    """The points that vary in d at k = 8, or in k at d = 256, in order."""
    fixed = data.k == 8 if along == "d" else data.d == 256
    places = np.flatnonzero(fixed & (data.labels == how))
    return places[np.argsort(data[along].values[places])]


def exponent(how: str, along: str, predicted: float):
    """Of the radius in d or k, seed by seed."""

    def fitted(data: xr.Dataset) -> Measured:
        at = line(data, how, along)
        values = (radius(data) * np.sqrt(data.d)).transpose("point", "seed").values[at]
        slopes = np.polyfit(np.log(data[along].values[at]), np.log(values), 1)[0]
        return over_seeds(slopes, predicted=predicted)

    return fitted


def worst(how: str, of):
    """A measure at the size where its mean is least."""

    def least(data: xr.Dataset) -> Measured:
        values = of(data).transpose("point", "seed").values[(data.labels == how).values]
        return over_seeds(values[values.mean(1).argmin()])

    return least


COSINE, EXPONENT = AtLeast(0.9, "the cosine", ideal=1.0), WithinDistance(0.1, "the prediction")
CLAIMS = (
    Claim("FA1", COSINE, worst(COARSE, lambda data: data[AVERAGE]), "1", "[P] abstract",
          "with one label per class neurons become the averages of their class's centres (mean "
          "cosine, at the worst size)"),
    Claim("FA2", EXPONENT, exponent(COARSE, "k", -0.5), "-1/2", "[P] √(d/k)",
          "and the critical radius falls like 1/√k (exponent at d = 256)"),
    Claim("FA2", EXPONENT, exponent(COARSE, "d", 0.5), "1/2", "[P] √(d/k)",
          "and grows like √d (exponent at k = 8)"),
    Claim("FA3", AtLeast(0.9, "the quotient", ideal=1.0),
          worst(COARSE, lambda data: radius(data) / radius(data, "averaged feature")), "1",
          "[P] abstract",
          "the averaged feature, blind to the network, is the attack: critical radius under PGD "
          "over that along it, at the worst size"),
    Claim("FA4", COSINE, worst(FINE, lambda data: data[CENTRE]), "1", "[P] abstract",
          "with one label per cluster neurons become single centres (mean cosine, at the worst "
          "size)"),
    Claim("FA5", EXPONENT, exponent(FINE, "k", 0.0), "0", "[P] √d",
          "and the critical radius does not depend on k (exponent at d = 256)"),
    Claim("FA5", EXPONENT, exponent(FINE, "d", 0.5), "1/2", "[P] √d",
          "and grows like √d (exponent at k = 8)"),
)  # fmt: skip


def draw(data: xr.Dataset, path: Path) -> None:
    """Radii against d and k beside √(d/k) and √(d/2), the exact radii without noise [D]."""
    figure, panels = page(2, sharey=True)
    for panel, along in zip(panels, ("d", "k"), strict=True):
        for how, colour, exact in ((COARSE, VERMILLION, "√(d/k)"), (FINE, BLUE, "√(d/2)")):
            at = line(data, how, along)
            x, k = data[along].values[at], data.k.values[at]
            mean, low, high = np.array([over_seeds(v)[:3] for v in radius(data).values[at]]).T
            error = [mean - low, high - mean]
            panel.errorbar(x, mean, yerr=error, color=colour, marker="o", label=how)
            predicted = k**-0.5 if how == COARSE else 0.5**0.5 + 0 * x
            panel.plot(x, predicted, ":", color=colour, label=f"{exact}, without noise")
        panel.set_xscale("log", base=2)
        panel.set_xticks(x, map(str, x))
        panel.set_xlabel({"d": "d, at k = 8", "k": "k, at d = 256"}[along])
    panels[0].set(ylim=(0, 0.8), ylabel="critical radius / √d")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    save(figure, path)


if __name__ == "__main__":
    options = cousin_arguments(__doc__ or "", seeds=5).parse_args()
    done = fp.run(study(options.seeds), options.out, claims=CLAIMS)
    print(study_table(done.data))
    print("\n" + scorecard(done.scorecard().to_dict("records")))
    draw(done.data, options.picture)
