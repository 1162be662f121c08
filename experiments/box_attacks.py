"""What the attack protocol finds in the box, part by part, and what other searches add to it.

    python experiments/box_attacks.py box-nets

Both presets of ℓ∞ at d = 64, one seed, 500 points; what the folder does not hold yet is trained.
The first table has the robust accuracy under parts of standard/1, the second what stands under all
of it and is then searched in two ways that share nothing with descents:

- over the vertices of the box (`vertex_search`), from the protocol's δ and from random vertices;
- by a mixed-integer program (`free_gates`), on the ten points of least f that are not certified.

"Lower" is the most by which one lowers f, over what the protocol takes from f there.
"""

import argparse
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
import scipy.sparse as sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from featpur_sim.attacks.protocol import QUICK, STANDARD, Protocol
from featpur_sim.certify import certify
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import run_experiment, seed_keys
from featpur_sim.runs.folder import RESULT, save_run
from featpur_sim.runs.presets import dense_regime, sparse_regime
from featpur_sim.runs.saved import load_run

POINTS, STARTS = 500, 3
# Coordinates of which all sign patterns are tried at once; gates that the program may choose, and
# the points it is run on.
FEW, GATES, WEAKEST = 10, 10, 10
PATTERNS = (np.arange(2**FEW) >> np.arange(FEW)[:, None]) & 1
PARTS = {
    "FGM": STANDARD.stages[:1],
    "bare gradients": tuple(s for s in STANDARD.stages[2:] if not s.smoothing),
    "smoothed gates": tuple(s for s in STANDARD.stages[2:] if s.smoothing),
}
FIRST = ("network", "no attack", *PARTS, "quick/1", "standard/1", "vertices alone")
SECOND = (
    "network", "stand", "of these at a vertex", "most coordinates inside",
    "vertex search from there: broken", "lower", "from random vertices: broken", "lower",
    "neither certified (Q1) nor broken", "program: broken", "lower",
)  # fmt: skip


def soft_threshold(u, b):
    return np.sign(u) * np.maximum(np.abs(u) - b, 0)


def vertex_search(weights, bias, x, delta, radius):
    """The least Σ S_b(⟨w_i, x + δ⟩) over a walk on the vertices of the box that uses no gradient.

    A step flips that subset of the FEW coordinates whose single flips leave f least which leaves it
    least itself, so the walk ends where no flip, and no subset of those FEW, lowers f.

    Args:
        weights: [m, d].
        bias: [m].
        x: a point, [d], times its label.
        delta: where to start, [d]: at the vertex nearest to it.
        radius: half the width of the box.

    Returns:
        f there and the signs of δ, [d].
    """
    sign = np.where(delta < 0, -1.0, 1.0)
    u, b = weights @ (x + radius * sign), bias[:, None]
    least = soft_threshold(u, bias).sum()
    patterns = PATTERNS if len(x) >= FEW else PATTERNS[: len(x), : 2 ** len(x)]
    while True:
        change = -2 * radius * sign * weights
        single = soft_threshold(u[:, None] + change, b).sum(0)
        few = np.argsort(single, kind="stable")[:FEW]
        value = soft_threshold(u[:, None] + change[:, few] @ patterns, b).sum(0)
        best = value.argmin()
        # Rounding must not go round in circles.
        if not value[best] < least - 1e-9:
            return least, sign
        least = value[best]
        sign[few[patterns[:, best] == 1]] *= -1
        u = weights @ (x + radius * sign)


def free_gates(weights, bias, x, delta, radius):
    """The least f near δ, by HiGHS, with −ReLU(−u − b) = min over g ∈ {0, 1} of g (u + b).

    For given g the minimum over the box is a linear program. Here g is free for the GATES neurons
    that are nearest to −b at δ, and as at δ for the others; all of δ is free.

    Returns:
        f where the program ends, and that δ, [d].
    """
    m, d = weights.shape
    clean = weights @ x
    distance = weights @ (x + delta) + bias
    free = np.argsort(np.abs(distance))[:GATES]
    taken = (distance < 0) & ~np.isin(np.arange(m), free)
    reach = radius * np.abs(weights).sum(1)
    low, high = (clean - reach + bias)[free], (clean + reach + bias)[free]
    # Columns δ, p ≥ ReLU(u − b) [m], n ≥ g (u + b) where that is least [GATES], g.
    count = len(free)
    none, one = sparse.csr_matrix((m, count)), sparse.eye(count)
    rows = [
        (sparse.hstack([-weights, sparse.eye(m), none, none]), clean - bias),
        # n ≥ low·g and n ≥ u + b − high (1 − g): g = 0 leaves n = 0, g = 1 leaves n = u + b.
        (sparse.hstack([sparse.csr_matrix((count, d + m)), one, -sparse.diags(np.minimum(low, 0))]),
         np.zeros(count)),
        (sparse.hstack([-weights[free], sparse.csr_matrix((count, m)), one,
                        -sparse.diags(np.maximum(high, 0))]),
         (clean + bias)[free] - np.maximum(high, 0)),
    ]  # fmt: skip
    cost = np.concatenate([weights[taken].sum(0), np.ones(m + count), np.zeros(count)])
    solved = milp(
        cost,
        integrality=np.repeat([0, 1], [d + m + count, count]),
        bounds=Bounds(
            np.repeat([-radius, 0, -np.inf, 0], [d, m, count, count]),
            np.repeat([radius, np.inf, 1], [d, m + count, count]),
        ),
        constraints=[LinearConstraint(sparse.csr_matrix(part), least) for part, least in rows],
    )  # fmt: skip
    found = np.clip(solved.x[:d], -radius, radius)
    return soft_threshold(weights @ (x + found), bias).sum(), found


def trained(folder: Path):
    """Both presets in ℓ∞, from the folder if it has them."""
    for preset in (dense_regime, sparse_regime):
        name = preset.__name__.removesuffix("_regime")
        if not (folder / name / RESULT).exists():
            config = preset(64, 5, norm="linf", seeds=1).model_dump()
            config["evaluation"] |= {"samples": 300, "pgd_restarts": 1}
            done = run_experiment(parse(config))
            save_run(folder / name, done.result, done.weights, [])
        yield name, load_run(folder / name)


class Judge:
    """One network and its points times their labels."""

    def __init__(self, run, phase):
        point_key, self.key = jax.random.split(jax.random.fold_in(seed_keys(run.config)[2][0], 1))
        problem = run.problem_of(0)
        self.network = jax.tree.map(lambda leaf: leaf[0], run.networks[phase])
        self.batch = problem.sample_labelled(point_key, POINTS)
        self.radius, self.direction = run.config.adversarial.radius, problem.dense_direction()
        self.y = np.asarray(self.batch.y, float)[:, None]
        self.x = self.y * np.asarray(self.batch.x, float)
        self.weights = np.asarray(self.network.weights, float)
        self.bias = np.broadcast_to(np.asarray(self.network.bias, float), len(self.weights))
        self.clean = self.value(np.zeros_like(self.x))

    def value(self, delta):
        return soft_threshold((self.x + delta) @ self.weights.T, self.bias).sum(1)

    def attack(self, protocol):
        return protocol(
            self.network, self.batch, self.radius, "linf", key=self.key, direction=self.direction
        )

    @cached_property
    def standard(self):
        return self.attack(STANDARD)

    def searched(self, search, index, delta):
        """f where ``search`` ends on the points ``index``, each from its row of ``delta``."""
        point = self.weights, self.bias
        return np.array([search(*point, self.x[i], delta[i], self.radius)[0] for i in index])

    @cached_property
    def alone(self):
        """The least f of a few walks from random vertices; broken points are spared the next."""
        least, generator = self.clean.copy(), np.random.default_rng(0)
        for _ in range(STARTS):
            start = generator.choice([-1.0, 1.0], self.x.shape)
            index = np.flatnonzero(least > 0)
            least[index] = np.minimum(least[index], self.searched(vertex_search, index, start))
        return least

    def parts(self):
        """A row of the first table."""
        yield (self.clean > 0).mean()
        for name, stages in PARTS.items():
            yield self.attack(Protocol(name, "part", stages)).accuracy.value
        yield self.attack(QUICK).accuracy.value
        yield self.standard.accuracy.value
        yield (self.alone > 0).mean()

    def beyond(self):
        """A row of the second table."""
        delta = self.y * self.standard.delta.astype(float)
        least = self.value(delta)
        stand = np.flatnonzero(least > 0)
        inside = (np.abs(delta) < self.radius * (1 - 1e-4)).sum(1)[stand]
        yield from (str(len(stand)), f"{(inside == 0).mean():.2f}", str(inside.max()))
        network = self.weights, self.bias
        proved = certify(*network, self.x[stand], self.radius, norm="linf", stages=["linear", "q1"])
        open_ = stand[~proved.certified]
        weakest = open_[np.argsort(least[open_])[:WEAKEST]]
        for index, value in (
            (stand, self.searched(vertex_search, stand, delta)),
            (stand, self.alone[stand]),
            (weakest, self.searched(free_gates, weakest, delta)),
        ):
            if index is weakest:
                yield str(len(open_))
            taken = (self.clean - least)[index]
            yield str(int((value <= 0).sum()))
            yield f"{np.max((least[index] - value) / taken, initial=0):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the two runs")
    first, second = [FIRST, ("---",) * len(FIRST)], [SECOND, ("---",) * len(SECOND)]
    for regime, run in trained(parser.parse_args().folder):
        for phase, adjective in (("clean", "clean"), ("adversarial", "purified")):
            judge = Judge(run, phase)
            first.append((f"{regime}, {adjective}", *(f"{v:.3f}" for v in judge.parts())))
            second.append((f"{regime}, {adjective}", *judge.beyond()))
    for table in first, second:
        print("\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")


if __name__ == "__main__":
    main()
