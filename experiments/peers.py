"""Published verifiers beside ours, on the same points: tables of docs/certificates.md and
docs/linf.md.

    python experiments/peers.py dense
    python experiments/peers.py box --norm linf

Points certified at a radius (in units of τ) by CROWN, α-CROWN and SDP-CROWN (experiments/
peer_bounds.py) and by the stages of featpur_sim.certify, with CPU time a point, compilation
excluded. A row of Q2 adds to the row before it, and runs on what that left open. A folder that
holds no run is filled by training the dense regime. Most of the time goes to Q2's 2,000 steps.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from peer_bounds import PUBLISHED, alpha_crown, best_level, crown, pair_form, sdp_crown

from featpur_sim.certify.ascent import Pace
from featpur_sim.certify.box import q1_box_dual
from featpur_sim.certify.cascade import DEFAULT_EFFORT, HIGH_EFFORT
from featpur_sim.certify.linear import linear_dual
from featpur_sim.certify.problem import Problem
from featpur_sim.certify.q1 import q1_dual
from featpur_sim.certify.q2 import q2_dual
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.runs.experiment import run_experiment, seed_keys
from featpur_sim.runs.folder import RESULT, save_run
from featpur_sim.runs.presets import dense_regime
from featpur_sim.runs.saved import SavedRun, load_run

PHASES = ("adversarial", "clean")


class Rows:
    """The table of one network: bounds and CPU time by name, told as they come."""

    def __init__(self, phase: str, count: int):
        self.phase, self.count = phase, count
        self.proved: dict[str, np.ndarray] = {}

    def add(
        self,
        name: str,
        compute: Callable[[], np.ndarray],
        index: np.ndarray | None = None,
        done: np.ndarray | None = None,
    ):
        """Time `compute`, the bounds of the points `index`; `done` were certified before."""
        index = np.arange(self.count) if index is None else index
        print(f"{self.phase}: {name}, {len(index)} points …", file=sys.stderr, flush=True)
        begin = time.process_time()
        bound = compute()
        seconds = (time.process_time() - begin) / max(len(index), 1)
        self.proved[name] = np.zeros(self.count, bool) if done is None else done.copy()
        self.proved[name][index] |= bound > 0
        self.tell(name, self.proved[name].mean(), len(index), f"{1000 * seconds:.3g}")

    def tell(self, name: str, fraction: float, entered: int, cost: str):
        cells = (self.phase, name, f"{fraction:.3f}", str(entered), cost)
        print("| " + " | ".join(cells) + " |", flush=True)


def published(rows: Rows, net) -> None:
    """The rows of other people's bounds."""
    rows.add("CROWN", lambda: crown(net))
    rows.add("α-CROWN", lambda: alpha_crown(net))
    rows.add("SDP-CROWN, as published", lambda: sdp_crown(net, ascent=PUBLISHED).bound)
    rows.add("SDP-CROWN, λ tuned", lambda: sdp_crown(net, start=best_level(net)).bound)
    rows.add(
        "SDP-CROWN, slopes free too", lambda: sdp_crown(net, start=best_level(net), free=True).bound
    )


def ours(rows: Rows, problem: Problem, standing: np.ndarray) -> None:
    """The rows of our stages, the last two as in the cascade, from Q1's dual points."""
    one = problem.select(np.zeros(1, int))
    first_dual = q1_box_dual if problem.box else q1_dual
    warm = first_dual(one)
    q2_dual(one, -one.reach, one.reach, warm.slope, warm.curvature, Pace(1))
    rows.add("linear", lambda: problem.bound(linear_dual(problem)))
    found = []

    def first() -> np.ndarray:
        found.append(first_dual(problem))
        return problem.bound(found[0])

    rows.add("Q1", first)
    done = rows.proved["Q1"]
    for effort in (DEFAULT_EFFORT, HIGH_EFFORT):
        index = np.flatnonzero(standing & ~done)
        if not len(index):
            return
        part = problem.select(index)
        begin = -part.reach, part.reach, found[0].slope[index], found[0].curvature[index]
        rows.add(
            f"+ Q2, {effort.q2.steps:,} steps",
            lambda part=part, begin=begin, pace=effort.q2: part.bound(q2_dual(part, *begin, pace)),
            index,
            done,
        )
        done = list(rows.proved.values())[-1]


def table(run: SavedRun, seed: int, count: int, relative: float, norm: str) -> None:
    """Print the rows of both networks of one seed."""
    tau = relative * run.config.adversarial.radius
    key = jax.random.fold_in(seed_keys(run.config)[2][seed], 1)
    point_key, attack_key = jax.random.split(key)  # the points of featpur certify
    data = run.problem_of(seed)
    batch = data.sample_labelled(point_key, count)
    points = np.asarray(batch.x, np.float64) * np.asarray(batch.y)[:, None]
    for phase in PHASES:
        network = jax.tree.map(lambda leaf: leaf[seed], run.networks[phase])
        direction = data.dense_direction()
        both = squeeze(
            network, batch, tau, norm, key=attack_key, direction=direction, stages=["linear", "q1"]
        )
        problem = Problem.build(network.weights, network.bias, points, tau, norm=norm)
        rows = Rows(phase, count)
        published(rows, pair_form(problem.weights, problem.bias, points, tau, norm))
        others = np.any(list(rows.proved.values()), axis=0)
        ours(rows, problem, both.standing)
        rows.tell("attacked (standard/1)", both.standing.mean(), count, "")
        missed = int((others & ~rows.proved["Q1"]).sum())
        print(f"<!-- {phase}: {missed} points certified by a published bound and not by Q1 -->")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a run's folder, or where to put a dense run")
    parser.add_argument("--seed", type=int, default=0, help="which of the run's networks, from 0")
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--radius", type=float, default=1.0, help="in units of τ")
    parser.add_argument("--norm", choices=("l2", "linf"), default="l2")
    options = parser.parse_args()
    if not (options.folder / RESULT).exists():
        experiment = run_experiment(dense_regime(seeds=options.seed + 1, norm=options.norm))
        save_run(options.folder, experiment.result, experiment.weights, [])
    print("| network | bound | certified | points entered | CPU ms a point |")
    print("|" + "---|" * 5, flush=True)
    run = load_run(options.folder)
    table(run, options.seed, options.points, options.radius, options.norm)


if __name__ == "__main__":
    main()
