"""Both sides of a saved run's robust accuracy: each point decided once, and the plain way.

The plain way takes every point through every attack at every radius, and proves and attacks every
point at every radius by itself. The accuracies under the named attacks must be the same to the bit.

    python benchmarks/evaluation.py DIR                # of `featpur reproduce --out DIR`
    python benchmarks/evaluation.py DIR --points 100   # for both ways
"""

import argparse
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import machine, table

from featpur_sim.attacks.protocol import QUICK
from featpur_sim.certify import Effort
from featpur_sim.certify import radii as certify_radii_
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.measure import curve
from featpur_sim.measure.both_sides import CHEAP, squeeze
from featpur_sim.measure.standing import Standing, _margin, _perturb
from featpur_sim.runs import judged
from featpur_sim.runs.evaluation import ATTACKS, Evaluator
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.saved import SavedRun, load_run

PHASES = ("clean", "adversarial")


PARTS = (
    (curve, "prove_radii", "certificates, of all seeds' threads together"),
    (certify_radii_, "q1_dual", "of these, Q1"),
    (Standing, "_perturbed", "perturbations of one step, and transferred ones"),
    (Standing, "_descend", "descents"),
)


@contextmanager
def timed_parts(spent: dict[str, float]):
    """Adds up the seconds that pass in each of `PARTS`."""

    def timing(call, label):
        def timed(*arguments, **named):
            began = time.perf_counter()
            try:
                return jax.block_until_ready(call(*arguments, **named))
            finally:
                spent[label] = spent.get(label, 0.0) + time.perf_counter() - began

        return timed

    own = [getattr(owner, name) for owner, name, _ in PARTS]
    for (owner, name, label), call in zip(PARTS, own, strict=True):
        setattr(owner, name, timing(call, label))
    judged.prove_radii = curve.prove_radii
    try:
        yield
    finally:
        for (owner, name, _), call in zip(PARTS, own, strict=True):
            setattr(owner, name, call)
        judged.prove_radii = curve.prove_radii


def plain_attacks(evaluator: Evaluator, networks: dict[str, Any]) -> np.ndarray:
    """Accuracies [S, network, attack, radius > 0]: every point through the whole attack."""
    lanes, standing = evaluator.lanes, evaluator.lanes.standing
    found = []
    for network in networks.values():
        width = standing.width(network)
        for name in ATTACKS:
            source = evaluator.sources if name == "transfer" else None
            for radius in evaluator.radii[1:]:
                radii = jnp.full(len(lanes.keys), radius, jnp.float32)
                delta = _perturb(
                    network, lanes.problem, radii, standing.points, lanes.keys, source,
                    evaluator.family[name], width,
                )  # fmt: skip
                stands = np.asarray(_margin(network, standing.points, delta, lanes.keys, width)) > 0
                if name != "random noise":
                    stands &= standing.right(network)
                found.append(lanes.share(network, stands))
    shape = (len(networks), len(ATTACKS), len(evaluator.radii) - 1, len(lanes.keys))
    return np.moveaxis(np.reshape(found, shape), -1, 0)


def plain_sides(evaluator: Evaluator, networks: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Certified and attacked accuracy [S, network, radius > 0], radius by radius."""
    lanes = evaluator.lanes
    points = jax.tree.map(np.asarray, lanes.standing.points)
    sides = []
    for network in networks.values():
        for s in range(len(lanes.keys)):
            one = jax.tree.map(lambda leaf, s=s: np.asarray(leaf)[s], network)
            problem = jax.tree.map(lambda leaf, s=s: leaf[s], lanes.problem)
            kept = np.flatnonzero(points.y[s])
            batch = Batch(*jax.tree.map(lambda rows, s=s, kept=kept: rows[s, kept], points))
            for radius in evaluator.radii[1:]:
                both = squeeze(
                    one, batch, float(radius), evaluator.config.adversarial.norm,
                    key=jax.random.key(s), direction=problem.dense_direction(),
                    protocol=QUICK, stages=CHEAP, effort=Effort(q1_steps=100),
                )  # fmt: skip
                sides.append((both.certified.mean(), both.standing.mean()))
    shape = (len(networks), len(lanes.keys), len(evaluator.radii) - 1, 2)
    table = np.moveaxis(np.reshape(sides, shape), 0, 1)
    return table[..., 0], table[..., 1]


def measure(run: SavedRun, points: int) -> str:
    evaluation = run.config.evaluation.model_copy(
        update={"samples": points, "certify_points": points}
    )
    config = run.config.model_copy(update={"evaluation": evaluation})
    networks = {name: run.networks[name] for name in PHASES}

    def evaluator() -> Evaluator:
        return Evaluator(config, run.problems, seed_keys(config)[2], run.networks["clean"])

    def timed(call, *arguments):
        call(evaluator(), *arguments)  # compiles
        began, fresh = time.perf_counter(), evaluator()
        return call(fresh, *arguments), time.perf_counter() - began

    once, seconds = timed(lambda e: e.judge(networks, ATTACKS))
    spent: dict[str, float] = {}
    with timed_parts(spent):
        evaluator().judge(networks, ATTACKS)
    attacks, attack_seconds = timed(plain_attacks, networks)
    (certified, attacked), side_seconds = timed(plain_sides, networks)
    plain = attack_seconds + side_seconds
    same = np.array_equal(once.accuracy[..., 1:], attacks)
    rows = [
        ("each point decided once", f"{seconds:.1f} s", ""),
        *((f"– {label}", f"{part:.1f} s", "") for label, part in spent.items()),
        ("plain: named attacks", f"{attack_seconds:.1f} s", ""),
        ("plain: both sides", f"{side_seconds:.1f} s", ""),
        ("plain over once", f"{plain / seconds:.1f}", "≥ 8"),
        ("accuracies under the named attacks", "equal" if same else "DIFFERENT", "equal"),
        ("most by which the certified side is lower",
         f"{np.max(certified - once.certified[..., 1:]):.4f}", ""),
        ("and the attacked side higher", f"{np.max(once.attacked[..., 1:] - attacked):.4f}", ""),
    ]  # fmt: skip
    title = f"{config.name}: {config.seeds} seeds × {points} points × {len(PHASES)} networks × "
    return table(f"{title}{len(evaluation.radii) - 1} radii", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="of a run")
    parser.add_argument("--points", type=int, default=200, help="test points of each seed")
    given = parser.parse_args()
    print(f"Measured on {machine()}.\n")
    print(measure(load_run(given.directory), given.points))
