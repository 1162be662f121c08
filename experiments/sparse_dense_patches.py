"""A second cousin: sparse robust and dense non-robust features in patches (Li and Li, ICLR 2025).

B. Li and Y. Li, arXiv:2410.08503, whose abstract says: data hold features that are robust but
sparse and features that are not robust but dense; a two-layer smoothed-ReLU convolutional network
trained by gradient descent learns primarily the non-robust ones, so that perturbations along their
negative directions are adversarial; adversarial training by one step of gradient ascent strengthens
the robust features and suppresses the others. Only the abstract was read: the settings are ours.

An input has P patches of length D. One of them, at a random place, holds α u_y; J others hold
β v_y; all have noise. u_±, v_± are four coordinate vectors. The attacker moves every coordinate by
at most τ. All by the public interface: a problem, a network and an observer in `featpur_sim.train`,
claims judged by the rules of the scorecard.

    python experiments/sparse_dense_patches.py --picture docs/images/sparse-dense-patches.png
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from panels import cousin_arguments, page, save, scorecard

import featpur_sim as fp
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.claims.claim import Claim, cases, rows
from featpur_sim.claims.measured import Counted, Measured, over_seeds
from featpur_sim.claims.rule import AtLeast, AtMost, WithinDistance
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure.critical_radius import bisect_critical_radius
from featpur_sim.report._style import BLUE, VERMILLION

PATCHES, DENSE, LENGTH = 32, 24, 8  # P, J, D
ALPHA, BETA, NOISE, TAU, KNEE = 1.0, 0.42, 0.02, 0.22, 3.0
SEEDS, NEURONS, STEPS, POINTS, SIGMA_0 = 5, 64, 1000, 1024, 0.3  # neurons of each label
SETTINGS = {"learning_rate": 1.0, "weight_decay": 0.0, "batch": 64}
# Where a network of dense, or of robust, features alone falls; see the page. [D]
DENSE_RADIUS = BETA / (1 + (PATCHES / DENSE) ** (1 / 3))
ROBUST_RADIUS = ALPHA / (1 + PATCHES ** (1 / 3))
WAYS = "clean", "clean, then FGM", "FGM", "PGD"
CLEAN, AFTER, FGM, PGD = range(4)
MEASURES = "robust coefficient", "dense coefficient", "accuracy", "dense direction"
MEASURES = *MEASURES, "robust direction", "FGM", "PGD", "dense radius"
ROBUST, OF_DENSE, _, ALONG_DENSE, _, _, UNDER_PGD, RADIUS = range(len(MEASURES))


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


def phases():
    """Clean training, one-step adversarial training, and with an attack of five steps."""
    strong = fp.AdversarialPhase(fp.PGD(TAU, "linf", steps=5), STEPS, **SETTINGS)
    weak = fp.AdversarialPhase(fp.FGM(TAU, "linf"), STEPS, **SETTINGS)
    return fp.CleanPhase(STEPS, **SETTINGS), weak, strong


@eqx.filter_jit
def radius(network, problem, key):
    """Where the dense direction flips half of what the network gets right."""
    ends = {"key": key, "n": POINTS, "low": 0.01, "high": 1.0}
    along = direction(2)
    found = bisect_critical_radius(
        network, problem, lambda r: DenseMixture(r, along, "linf"), **ends
    )
    return found.value


def measure(seed: int, neurons: int) -> tuple[list[list[float]], list[np.ndarray], np.ndarray]:
    """`MEASURES` of every way to train; coefficients along clean, FGM and PGD training; steps."""
    start, train, test = jax.random.split(jax.random.key(seed), 3)
    problem = Patches()
    network = PatchNetwork(SIGMA_0 * jax.random.normal(start, (2 * neurons, LENGTH)), 0.0)
    clean, weak, strong = phases()
    runs = [
        fp.train(problem, network, way, key=train, observe=coefficients)
        for way in ([clean, weak], [weak], [strong])
    ]
    courses = [np.stack([run.records[n] for n in ("robust", "dense")], axis=1) for run in runs]
    first = runs[0].record_phase == "clean"
    ends = [courses[0][first][-1], *(course[-1] for course in courses)]
    networks = [runs[0].networks["clean"], *(run.network for run in runs)]
    blind = (DenseMixture(TAU, direction(first), "linf") for first in (2, 0))
    attacks = [None, *blind, fp.FGM(TAU, "linf"), fp.PGD(TAU, "linf", steps=40)]
    found = []
    for net, end in zip(networks, ends, strict=True):
        scores = [fp.robust_accuracy(net, problem, a, key=test, n=POINTS).value for a in attacks]
        found.append([*map(float, end), *scores, float(radius(net, problem, test))])
    return found, [courses[0][first], *courses[1:]], runs[1].record_step


def value(way: int, place: int, over: int | None = None, less: int | None = None):
    """A measure; over that of another way, or less it. Tables: [seed, way, measure]."""

    def measured(table: np.ndarray) -> Measured:
        values, fraction = table[:, way, place], Counted(POINTS, least=0.0)
        if over is not None:
            return over_seeds(values / table[:, over, place])
        if less is not None:
            return over_seeds(values - table[:, less, place], Counted(POINTS))
        return over_seeds(values, None if place == RADIUS else fraction, predicted=DENSE_RADIUS)

    return measured


def preference(table: np.ndarray) -> Measured:
    return over_seeds(table[:, CLEAN, OF_DENSE] / table[:, CLEAN, ROBUST])


CLAIMS = (
    Claim("SD1", AtLeast(2.0, "the quotient"), preference, "> 1", "[P] abstract",
          "clean training primarily learns the dense features: dense over robust coefficient"),
    Claim("SD2", AtMost(0.1, "the accuracy"), value(CLEAN, ALONG_DENSE), "0", "[P] abstract",
          "so that their negative direction, blind to the network, is adversarial: accuracy of the "
          "clean network along it at τ"),
    Claim("SD2", WithinDistance(0.01, "the prediction"), value(CLEAN, RADIUS), "{predicted:.3f}",
          "[D] β/(1 + (P/J)^⅓)", "which flips half of the points at a radius known beforehand"),
    Claim("SD3", AtLeast(2.0, "the quotient", ideal=1.0), value(FGM, ROBUST, over=CLEAN), "> 1",
          "[P] abstract", "one-step adversarial training strengthens the robust features: "
          "coefficient over that after clean training"),
    Claim("SD3", AtMost(0.5, "the quotient"), value(FGM, OF_DENSE, over=CLEAN), "< 1",
          "[P] abstract", "and suppresses the dense ones: coefficient over that after clean "
          "training"),
    Claim("SD4", AtLeast(0.9, "the accuracy", ideal=1.0), value(FGM, ALONG_DENSE), "1",
          "[P] abstract", "so that their direction does no harm: accuracy along it at τ"),
    Claim("SD5", AtLeast(0.2, "the difference"), value(FGM, UNDER_PGD, less=CLEAN), "> 0",
          "[P] abstract", "one-step adversarial training improves robustness: accuracy under PGD "
          "at τ less that of the clean network"),
    Claim("SD6", AtLeast(0.2, "the difference"), value(PGD, UNDER_PGD, less=CLEAN), "> 0",
          "[D] τ < α/(1 + P^⅓)", "and training against five steps of PGD does: same difference"),
)  # fmt: skip


def draw(courses: list[np.ndarray], steps: np.ndarray, path: Path) -> None:
    """Both coefficients along training, a line for every seed. Courses: [seed, record, which]."""
    figure, panels = page(3, sharey=True)
    for panel, course, title in zip(panels, courses, ("clean", "FGM", "PGD"), strict=True):
        for which, (name, colour) in enumerate((("robust", BLUE), ("dense", VERMILLION))):
            panel.plot(steps, course[..., which].T, color=colour, label=name)
        panel.set_title(f"{title} training")
        panel.set_xlabel("step")
    panels[0].set(ylim=(0, None), ylabel="coefficient")
    lines, names = panels[0].get_legend_handles_labels()
    one = dict(zip(names, lines, strict=True))
    figure.legend(one.values(), one.keys(), loc="outside upper center", ncols=2)
    save(figure, path)


if __name__ == "__main__":
    parser = cousin_arguments(__doc__ or "", SEEDS)
    parser.add_argument("--neurons", type=int, default=NEURONS, help="of each label")
    options = parser.parse_args()
    each = (measure(seed, options.neurons) for seed in range(options.seeds))
    found, courses, steps = zip(*each, strict=True)
    table = np.array(found)
    print(
        f"P={PATCHES} J={DENSE} D={LENGTH} neurons=2x{options.neurons} α={ALPHA} β={BETA} σ={NOISE}"
    )
    print(f"τ={TAU} ϱ={KNEE} σ₀={SIGMA_0} steps={STEPS} {SETTINGS}")
    print(f"radii without noise: dense {DENSE_RADIUS:.3f}, robust {ROBUST_RADIUS:.3f}\n")
    print("| training | " + " | ".join(MEASURES) + " |\n" + "|---" * 9 + "|")
    for way, name in enumerate(WAYS):
        cells = []
        for place, column in enumerate(table[:, way].T):
            counted = Counted(POINTS, least=0.0) if OF_DENSE < place < RADIUS else None
            mean, low, high = over_seeds(column, counted)[:3]
            cells.append(f"{mean:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else ""))
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n" + scorecard(rows(cases(CLAIMS, table, "sparse and dense patches", str))))
    draw([np.stack(c) for c in zip(*courses, strict=True)], steps[0], options.picture)
