"""The tables of docs/claims.md, Readouts, from folders that `featpur readouts` has been in.

    featpur readouts DIR && featpur readouts DIR/sparse-regime
    python experiments/readouts.py DIR [POINTS]

Of the first seed also: how pure the purified features are, which a new task needs; and, in the
sparse regime, both sides of the robust accuracy of clean features with an adversarial readout, by
the standard protocol and every stage of the certificate on POINTS = 200 points (minutes).
"""

import sys
from pathlib import Path

import jax
import numpy as np

from featpur_sim.claims.of_readouts import intervals, load_readouts, pair_of, scorecard
from featpur_sim.measure.both_sides import squeeze
from featpur_sim.runs.build import training_attack
from featpur_sim.runs.readouts import both_tasks, frozen_features, readout_keys
from featpur_sim.runs.saved import load_run
from featpur_sim.training.readout import train_readout


def main(directory, points="200"):
    folders = [Path(directory), Path(directory) / "sparse-regime"]
    for folder in folders:
        run = load_run(folder)
        print(f"\n{run.config.name}: accuracy without attack, under PGD at τ, certified at τ\n")
        rows = load_readouts(folder)
        for row in rows:
            found = intervals(row)
            shown = (_print(*found[name]) for name in ("accuracy", "pgd", "certified"))
            print(f"| {pair_of(row)} | {' | '.join(shown)} |")
        for row in scorecard(run.result, rows):
            value = _print(row["measured"], *row["ci"])
            print(f"| {row['id']} {row['threshold']} | {value} | {row['verdict']} |")
        say_purity(np.asarray(run.networks["adversarial"].weights[0]))
    say_sides(load_run(folders[1]), int(points))


def say_purity(weights):
    """Features that some neuron holds with more than half of its norm."""
    size = np.linalg.norm(weights, axis=1)
    held = np.abs(weights).argmax(1)
    pure = np.abs(weights).max(1) > size / 2
    share = (size[pure] ** 2).sum() / (size**2).sum()
    print(
        f"\npurified: {len(set(held[pure]))} of {weights.shape[1]} features have a neuron with "
        f"more than half of its norm on them; these are {pure.mean():.2f} of the neurons and hold "
        f"{share:.2f} of Σ‖w‖²"
    )


def say_sides(run, points):
    """Clean features with an adversarial readout, from both sides."""
    radius = run.config.adversarial.radius
    fit_keys, gate_keys, sign_keys = readout_keys(run.config, 1)
    own = both_tasks(run, sign_keys)["own"]
    clean = frozen_features(run, own, gate_keys)["clean"]
    problem, features = jax.tree.map(lambda leaf: leaf[0], (own, clean))
    attack = training_attack(run.config.adversarial)(radius)
    network = train_readout(problem, features, attack, key=fit_keys[0])
    batch = problem.sample_labelled(jax.random.key(11), points)
    found = squeeze(
        network, batch, radius, key=jax.random.key(12), direction=problem.dense_direction()
    )
    print(
        f"clean features, adversarial readout, {points} points: certified "
        f"{found.certified.mean():.3f}, attacked {found.standing.mean():.3f}; {found.by_stage()}"
    )


def _print(mean, low, high):
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main(*sys.argv[1:])
