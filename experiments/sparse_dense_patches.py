"""A second cousin: sparse robust and dense non-robust features in patches (Li and Li, ICLR 2025).

B. Li and Y. Li, arXiv:2410.08503, whose abstract says: data hold features that are robust but
sparse and features that are not robust but dense; a two-layer smoothed-ReLU convolutional network
trained by gradient descent learns primarily the non-robust ones, so that perturbations along their
negative directions are adversarial; adversarial training by one step of gradient ascent strengthens
the robust features and suppresses the others. Only the abstract was read: the settings are ours.

An input has P patches of length D. One of them, at a random place, holds α u_y; J others hold
β v_y; all have noise. u_±, v_± are four coordinate vectors. The attacker moves every coordinate by
at most τ. A study (docs/how-to/own-study.md) with a problem, a network and an observer of its own.

    python experiments/sparse_dense_patches.py --picture docs/images/sparse-dense-patches.png
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from panels import cell, cousin_arguments, page, save, scorecard

import featpur_sim as fp
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.claims.claim import Claim
from featpur_sim.claims.measured import Counted, Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, AtMost, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.report._style import BLUE, VERMILLION

PATCHES, DENSE, LENGTH = 32, 24, 8  # P, J, D
ALPHA, BETA, NOISE, TAU, KNEE = 1.0, 0.42, 0.02, 0.22, 3.0
NEURONS, STEPS, POINTS, SIGMA_0 = 64, 1000, 1024, 0.3  # neurons of each label
SETTINGS = {"learning_rate": 1.0, "weight_decay": 0.0, "batch": 64}
# Where a network of dense, or of robust, features alone falls; see the page. [D]
DENSE_RADIUS = BETA / (1 + (PATCHES / DENSE) ** (1 / 3))
ROBUST_RADIUS = ALPHA / (1 + PATCHES ** (1 / 3))
# How a network is trained: point of the study, phase.
CLEAN, AFTER = ("clean, then FGM", "clean"), ("clean, then FGM", "adversarial")
FGM, PGD = ("FGM", "adversarial"), ("PGD", "adversarial")


class Patches(eqx.Module):
    """u_+, u_−, v_+, v_− are coordinates 0 to 3 of a patch; z is x without noise."""

    def sample(self, key, n, *, start=0):
        def one(row):
            label, places, noise = jax.random.split(jax.random.fold_in(key, row), 3)
            y = jax.random.rademacher(label, (), jnp.float32)
            order = jax.random.permutation(places, PATCHES)[:, None]
            u, v = (jax.nn.one_hot(jnp.where(y > 0, i, i + 1), LENGTH) for i in (0, 2))
            z = ALPHA * u * (order == 0) + BETA * v * ((order > 0) & (order <= DENSE))
            x = z + NOISE * jax.random.normal(noise, z.shape)
            return Batch(x.ravel(), y, z.ravel())

        return jax.vmap(one)(start + jnp.arange(n))

    def coordinates(self, weights):
        return weights

    def require_dimension(self, weights):
        if weights.shape[-1] != LENGTH:
            raise ValueError(f"weights of length {weights.shape[-1]} on patches of {LENGTH}.")


class PatchNetwork(fp.SymmetricReLU):
    """Σ_p Σ_i σ(⟨w_i, x_p⟩) over the neurons of label +1 less that over those of label −1; σ is
    u³/3ϱ² up to the knee ϱ, then a line of slope 1."""

    def __call__(self, x, *, key=None):
        u = jnp.einsum("npd,md->nmp", x.reshape(len(x), PATCHES, LENGTH), self.weights)
        smooth = jax.nn.relu(u) ** 3 / (3 * KNEE**2)
        each = jnp.where(u < KNEE, smooth, u - 2 * KNEE / 3).sum(axis=2)
        plus, minus = jnp.split(each, 2, axis=1)
        return plus.sum(axis=1) - minus.sum(axis=1)


def coefficients(moment):
    """Largest ⟨w_i, u_y⟩ and ⟨w_i, v_y⟩ over the neurons of label y, mean over both labels."""
    plus, minus = jnp.split(moment.network.weights, 2)
    largest = jnp.max(jnp.stack([plus[:, 0::2], minus[:, 1::2]]), axis=1).mean(axis=0)
    return {"robust": largest[0], "dense": largest[1]}


def direction(first: int) -> jax.Array:
    """u_+ − u_− (0) or v_+ − v_− (2) in every patch: an attack that never looks at the network."""
    one = jnp.zeros(LENGTH).at[first].set(1.0).at[first + 1].set(-1.0)
    return jnp.tile(one, PATCHES)


def study(seeds: int, neurons: int) -> fp.Study:
    def network(at, key):
        return PatchNetwork(SIGMA_0 * jax.random.normal(key, (2 * neurons, LENGTH)), 0.0)

    def phases(at):
        """Clean, one-step adversarial training, or both; or with an attack of five steps."""
        attack = fp.PGD(TAU, "linf", steps=5) if at.training == "PGD" else fp.FGM(TAU, "linf")
        robust = fp.AdversarialPhase(attack, STEPS, **SETTINGS)
        return [fp.CleanPhase(STEPS, **SETTINGS)] * (at.training == CLEAN[0]) + [robust]

    return fp.Study(
        "sparse and dense patches",
        points={"training": [CLEAN[0], FGM[0], PGD[0]]},
        problem=lambda at, key: Patches(), network=network, phases=phases, observe=coefficients,
        attacks={
            "dense direction": lambda radius, _: DenseMixture(radius, direction(2), "linf"),
            "robust direction": lambda radius, _: DenseMixture(radius, direction(0), "linf"),
            "FGM": lambda radius, _: fp.FGM(radius, "linf"),
            "PGD": lambda radius, _: fp.PGD(radius, "linf", steps=40),
        },
        radii=(0.0, 0.5, 1.0, 1.5), tau=TAU, critical=["dense direction"],
        seeds=seeds, records=40, samples=POINTS,
    )  # fmt: skip


def accuracy(attack: str):
    return lambda data: data.robust_accuracy.sel(attack=attack, relative_radius=1.0)


def coefficient(name: str):
    """Of the network at the end of a phase."""
    return lambda data: data[f"along_{name}"].isel(record=-1)


def dense_radius(data):
    return data.critical_radius.sel(critical_attack="dense direction")


MEASURES = {
    "robust coefficient": coefficient("robust"), "dense coefficient": coefficient("dense"),
    "accuracy": lambda data: data.clean_accuracy,
    **{name: accuracy(name) for name in ("dense direction", "robust direction", "FGM", "PGD")},
    "dense radius": dense_radius,
}  # fmt: skip


def at(data: xr.Dataset, of, way: tuple[str, str]) -> np.ndarray:
    """A measure of one way to train, seed by seed."""
    values = of(data).sel(phase=way[1])
    return values.isel(point=int(np.flatnonzero(data.training == way[0])[0])).values


def value(way, of, over=None, less=None):
    """A measure; over that of another way, or less it."""

    def measured(data: xr.Dataset) -> Measured:
        values, fraction = at(data, of, way), Counted(POINTS, least=0.0)
        if over is not None:
            return over_seeds(values / at(data, of, over))
        if less is not None:
            return over_seeds(values - at(data, of, less), Counted(POINTS))
        return over_seeds(values, None if of is dense_radius else fraction, predicted=DENSE_RADIUS)

    return measured


def preference(data: xr.Dataset) -> Measured:
    return over_seeds(
        at(data, coefficient("dense"), CLEAN) / at(data, coefficient("robust"), CLEAN)
    )


ROBUST, OF_DENSE, ALONG, UNDER_PGD = (
    MEASURES[n] for n in ("robust coefficient", "dense coefficient", "dense direction", "PGD")
)
CLAIMS = (
    Claim("SD1", AtLeast(2.0, "the quotient"), preference, "> 1", "[P] abstract",
          "clean training primarily learns the dense features: dense over robust coefficient"),
    Claim("SD2", AtMost(0.1, "the accuracy"), value(CLEAN, ALONG), "0", "[P] abstract",
          "so that their negative direction, blind to the network, is adversarial: accuracy of the "
          "clean network along it at τ"),
    Claim("SD2", WithinDistance(0.01, "the prediction"), value(CLEAN, dense_radius),
          "{predicted:.3f}", "[D] β/(1 + (P/J)^⅓)",
          "which flips half of the points at a radius known beforehand"),
    Claim("SD3", AtLeast(2.0, "the quotient", ideal=1.0), value(FGM, ROBUST, over=CLEAN), "> 1",
          "[P] abstract", "one-step adversarial training strengthens the robust features: "
          "coefficient over that after clean training"),
    Claim("SD3", AtMost(0.5, "the quotient"), value(FGM, OF_DENSE, over=CLEAN), "< 1",
          "[P] abstract", "and suppresses the dense ones: coefficient over that after clean "
          "training"),
    Claim("SD4", AtLeast(0.9, "the accuracy", ideal=1.0), value(FGM, ALONG), "1",
          "[P] abstract", "so that their direction does no harm: accuracy along it at τ"),
    Claim("SD5", AtLeast(0.2, "the difference"), value(FGM, UNDER_PGD, less=CLEAN), "> 0",
          "[P] abstract", "one-step adversarial training improves robustness: accuracy under PGD "
          "at τ less that of the clean network"),
    Claim("SD6", AtLeast(0.2, "the difference"), value(PGD, UNDER_PGD, less=CLEAN), "> 0",
          "[D] τ < α/(1 + P^⅓)", "and training against five steps of PGD does: same difference"),
)  # fmt: skip


def draw(data: xr.Dataset, path: Path) -> None:
    """Both coefficients along training, a line for every seed."""
    figure, panels = page(3, sharey=True)
    for panel, way, title in zip(panels, (CLEAN, FGM, PGD), ("clean", "FGM", "PGD"), strict=True):
        steps = at(data, lambda data: data.along_step, way)[0]
        for name, colour in (("robust", BLUE), ("dense", VERMILLION)):
            course = at(data, lambda data, name=name: data[f"along_{name}"], way)
            panel.plot(steps, course.T, color=colour, label=name)
        panel.set_title(f"{title} training")
        panel.set_xlabel("step")
    panels[0].set(ylim=(0, None), ylabel="coefficient")
    lines, names = panels[0].get_legend_handles_labels()
    one = dict(zip(names, lines, strict=True))
    figure.legend(one.values(), one.keys(), loc="outside upper center", ncols=2)
    save(figure, path)


if __name__ == "__main__":
    parser = cousin_arguments(__doc__ or "", seeds=20)
    parser.add_argument("--neurons", type=int, default=NEURONS, help="of each label")
    options = parser.parse_args()
    done = fp.run(study(options.seeds, options.neurons), options.out, claims=CLAIMS)
    print(
        f"P={PATCHES} J={DENSE} D={LENGTH} neurons=2x{options.neurons} α={ALPHA} β={BETA} σ={NOISE}"
    )
    print(f"τ={TAU} ϱ={KNEE} σ₀={SIGMA_0} steps={STEPS} {SETTINGS}")
    print(f"radii without noise: dense {DENSE_RADIUS:.3f}, robust {ROBUST_RADIUS:.3f}\n")
    print("| training | " + " | ".join(MEASURES) + " |\n" + "|---" * 9 + "|")
    ways = {"clean": CLEAN, "clean, then FGM": AFTER, "FGM": FGM, "PGD": PGD}
    for name, way in ways.items():
        cells = [
            cell(at(done.data, of, way), Counted(POINTS, least=0.0) if fraction else None)
            for of, fraction in zip(MEASURES.values(), (0, 0, 1, 1, 1, 1, 1, 0), strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n" + scorecard(done.scorecard().to_dict("records")))
    draw(done.data, options.picture)
