"""A cousin of the theorem: feature averaging (Li, Pan, Lyu and Li, ICLR 2025, arXiv:2410.10322).

Data in k clusters with orthogonal centres of norm √d and unit noise, half of the clusters labelled
+1; a two-layer ReLU network with fixed output weights, no biases, and a small start. Their abstract
says: gradient descent makes every neuron an average of its class's centres, so that a perturbation
along the negative averaged features, of norm O(√(d/k)), flips the label; with one label for each
cluster it learns the centres one by one, and withstands O(√d). Only the abstract was read.

Everything here uses the public interface: a problem, two networks and a classifier of one's own in
`featpur_sim.train`, `bisect_critical_radius`, and claims judged by the rules of the scorecard.

    python experiments/feature_averaging.py --picture docs/images/feature-averaging.png
"""

import math
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from panels import cousin_arguments, page, save, scorecard

import featpur_sim as fp
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.claims.claim import Claim, cases, rows
from featpur_sim.claims.measured import Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.critical_radius import bisect_critical_radius
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.trainable import Trainable
from featpur_sim.report._style import BLUE, VERMILLION

SEEDS, SAMPLES, NEURONS, STEPS, SIGMA_0 = 5, 2048, 8, 1000, 1e-4
SIZES = [(64, 8), (128, 8), (256, 8), (512, 8), (256, 4), (256, 16), (256, 32)]
IN_D, IN_K = [0, 1, 2, 3], [4, 2, 5, 6]
# Relative to what makes a step of size one along a centre: the gradient grows with ‖x‖² ≈ 2d.
RATE = 0.2
COARSE, FINE = range(2)
LABELS = "one label per class", "one label per cluster"
MEASURES = (
    "accuracy",
    "PGD",
    "averaged feature",
    "cosine with the average",
    "cosine with one centre",
)


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

    def averaged_feature(self):
        """The averaged feature Σ_c y_c e_c."""
        return jnp.pad(self.labels, (0, self.d - len(self.labels)))


class OneOutput(Trainable):
    """Mean of ReLU over one half of the neurons less that over the other."""

    weights: jax.Array
    bias: jax.Array

    def __call__(self, x, *, key=None):
        u = jax.nn.relu(x @ self.weights.T)
        positive, negative = jnp.split(u, 2, axis=1)
        return positive.mean(1) - negative.mean(1)


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


@eqx.filter_jit
def radii(model, problem, key):
    """Critical radius under PGD and along the averaged feature, in units of √d."""
    unit = math.sqrt(problem.d)
    ends = {"key": key, "n": 512, "low": 0.02 * unit, "high": 2 * unit}
    average = problem.averaged_feature()
    attacks = (lambda r: fp.PGD(r, steps=40)), (lambda r: DenseMixture(r, average))
    return [bisect_critical_radius(model, problem, at, **ends).value / unit for at in attacks]


def measure(d: int, k: int, seed: int) -> list[list[float]]:
    """`MEASURES` of both ways to label the same clusters."""
    labels = jnp.where(jnp.arange(k) % 2 == 0, 1.0, -1.0)
    averages = np.asarray([labels > 0, labels < 0], float) / math.sqrt(k / 2)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), d * 1000 + k), 3)
    plain, found = Clusters(labels, d, False), []
    for how, kind, outputs in ((COARSE, OneOutput, 2), (FINE, OutputPerCluster, k)):
        start = SIGMA_0 * jax.random.normal(keys[0], (outputs * NEURONS, d))
        rate = RATE * NEURONS * outputs / d
        phase = fp.CleanPhase(
            STEPS, learning_rate=rate, weight_decay=0.0, batch=SAMPLES, dataset_size=SAMPLES
        )
        problem = Clusters(labels, d, how == FINE)
        network = fp.train(
            problem, kind(start, jnp.zeros(())), [phase], key=keys[1], records=2
        ).network
        model = network if how == COARSE else BestOutput(network, labels)
        accuracy = fp.robust_accuracy(model, plain, key=keys[2]).value
        weights = np.asarray(network.weights)
        unit = weights[:, :k] / np.linalg.norm(weights, axis=1, keepdims=True)
        cosines = [float((unit @ a.T).max(1).mean()) for a in (averages, np.eye(k))]
        found.append([accuracy, *map(float, radii(model, plain, keys[2])), *cosines])
    return found


def exponent(how: int, along: int, predicted: float):
    """Of the radius in d (along = 0) or k (1), seed by seed. Tables: [size, seed, how, measure]."""

    def fitted(table: np.ndarray) -> Measured:
        at = IN_K if along else IN_D
        d = np.array([SIZES[i][0] for i in at])[:, None]
        x = np.log([SIZES[i][along] for i in at])
        slopes = np.polyfit(x, np.log(table[at, :, how, 1] * np.sqrt(d)), 1)[0]
        return over_seeds(slopes, predicted=predicted)

    return fitted


def worst(how: int, place: int, over: int | None = None):
    """A measure, or its quotient by another, at the size where its mean is least."""

    def least(table: np.ndarray) -> Measured:
        values = table[..., how, place] / (1 if over is None else table[..., how, over])
        return over_seeds(values[values.mean(1).argmin()])

    return least


CLAIMS = (
    Claim("FA1", AtLeast(0.9, "the cosine", ideal=1.0), worst(COARSE, 3), "1", "[P] abstract",
          "with one label per class neurons become the averages of their class's centres (mean "
          "cosine, at the worst size)"),
    Claim("FA2", WithinDistance(0.1, "-1/2"), exponent(COARSE, 1, -0.5), "-1/2", "[P] √(d/k)",
          "and the critical radius falls like 1/√k (exponent at d = 256)"),
    Claim("FA2", WithinDistance(0.1, "1/2"), exponent(COARSE, 0, 0.5), "1/2", "[P] √(d/k)",
          "and grows like √d (exponent at k = 8)"),
    Claim("FA3", AtLeast(0.9, "the quotient", ideal=1.0), worst(COARSE, 1, 2), "1", "[P] abstract",
          "the averaged feature, blind to the network, is the attack: critical radius under PGD "
          "over that along it, at the worst size"),
    Claim("FA4", AtLeast(0.9, "the cosine", ideal=1.0), worst(FINE, 4), "1", "[P] abstract",
          "with one label per cluster neurons become single centres (mean cosine, at the worst "
          "size)"),
    Claim("FA5", WithinDistance(0.1, "0"), exponent(FINE, 1, 0.0), "0", "[P] √d",
          "and the critical radius does not depend on k (exponent at d = 256)"),
    Claim("FA5", WithinDistance(0.1, "1/2"), exponent(FINE, 0, 0.5), "1/2", "[P] √d",
          "and grows like √d (exponent at k = 8)"),
)  # fmt: skip


def draw(table: np.ndarray, path: Path) -> None:
    """Radii against d and k beside √(d/k) and √(d/2), the exact radii without noise [D]."""
    figure, panels = page(2, sharey=True)
    for panel, at, along in zip(panels, (IN_D, IN_K), (0, 1), strict=True):
        x, k = (np.array([SIZES[i][j] for i in at]) for j in (along, 1))
        for how, colour, predicted in ((0, VERMILLION, k**-0.5), (1, BLUE, 0.5**0.5 + 0 * x)):
            mean, low, high = np.array([over_seeds(v)[:3] for v in table[at, :, how, 1]]).T
            error = [mean - low, high - mean]
            panel.errorbar(x, mean, yerr=error, color=colour, marker="o", label=LABELS[how])
            panel.plot(x, predicted, ":", color=colour, label="without noise")
        panel.set_xscale("log", base=2)
        panel.set_xticks(x, map(str, x))
        panel.set_xlabel(("d, at k = 8", "k, at d = 256")[along])
    panels[0].set(ylim=(0, 0.8), ylabel="critical radius / √d")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    save(figure, path)


if __name__ == "__main__":
    options = cousin_arguments(__doc__ or "", SEEDS).parse_args()
    table = np.array([[measure(*s, seed) for seed in range(options.seeds)] for s in SIZES])
    print("| d, k | labels | " + " | ".join(MEASURES) + " |\n" + "|---" * 7 + "|")
    for (d, k), of_size in zip(SIZES, table, strict=True):
        for how, label in enumerate(LABELS):
            cells = (over_seeds(column)[:3] for column in of_size[:, how].T)
            shown = (
                f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else "")
                for mean, low, high in cells
            )
            print(f"| {d}, {k} | {label} | {' | '.join(shown)} |")
    print("\n" + scorecard(rows(cases(CLAIMS, table, "feature averaging", str))))
    draw(table, options.picture)
