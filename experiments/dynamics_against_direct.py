"""The reduced dynamics against direct simulation in the sparse regime: docs/dynamics.md's table.

    python experiments/dynamics_against_direct.py --d 128 --k 8 --seeds 5 --out DIR

Three closures: "homogeneous" (three order parameters), "population" from the initial weights, and
"population (measured)", whose adversarial phase starts from the clean weights of the direct run.
Writes DIR/dynamics_<d>.json, one row per time and closure with means over seeds, and a figure.
Direct runs are kept in DIR and not repeated.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.measure.weights import decompose
from featpur_sim.models.symmetric_relu import initialise
from featpur_sim.report import dynamics_figures
from featpur_sim.runs.build import make_phases, make_problem
from featpur_sim.runs.closure import law_of, thresholds_of
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import reduced_run
from featpur_sim.theory.dynamics import population
from featpur_sim.training.course import require_trained
from featpur_sim.training.loop import replicate, train_many

NAMES = population.Statistics._fields


def observer(config):
    """What a direct run records: the entries of `population.Statistics`."""

    def observe(moment):
        network, problem, batch = moment.network, moment.problem, moment.batch
        parts = decompose(network.weights, problem)
        alpha = parts.alpha * problem.wstar[parts.pure_index]
        margin = attacked_margin(
            network, batch, DenseMixture.of(problem, config.adversarial.radius, "l2"),
            key=jax.random.key(0),
        )  # fmt: skip
        labelled = jnp.maximum(jnp.sum(batch.labelled), 1)

        def mean(values):
            return jnp.sum(jnp.where(parts.carrier, values, 0.0)) / jnp.sum(parts.carrier)

        level = mean(alpha)
        return {
            "alpha": level,
            "spread": jnp.sqrt(mean((alpha - level) ** 2)) / level,
            "ratio": mean(parts.kappa / alpha),
            "residual": mean(parts.residual_norm**2),
            "carriers": jnp.mean(parts.carrier.astype(jnp.float32)),
            "active": jnp.mean(network.active(batch.x).astype(jnp.float32)),
            "dense_accuracy": jnp.sum(margin > 0) / labelled,
        }

    return observe


def direct(config):
    """Records [phase and step, seed] and the weights of all phases."""
    problem = make_problem(config, 1).gauge()
    start, keys, _, _ = seed_keys(config)
    networks = eqx.filter_vmap(
        lambda key: initialise(
            config.problem.d, config.network.neurons, sigma_0=config.network.sigma_0,
            per_neuron_bias=True, key=key,
        )
    )(start)  # fmt: skip
    run = train_many(
        replicate(problem, config.seeds), networks, replicate(make_phases(config), config.seeds),
        keys=keys, observe=observer(config), records=60, test_samples=4000,
    )  # fmt: skip
    require_trained(run)
    wstar = np.asarray(problem.wstar)
    return {
        "phase": run.record_phase,
        "step": run.record_step,
        **{name: run.records[name] for name in NAMES},
        "start": np.asarray(run.networks["init"].weights) * wstar,
        "clean": np.asarray(run.networks["clean"].weights) * wstar,
        "bias": np.asarray(run.networks["clean"].bias),
    }


def populations(config, kept, seed, steps, measured):
    """Statistics of the population at the given steps of both phases, for one seed."""
    # A generator that is cheap on CPU: the samples are most of a step's cost.
    key, radius = jax.random.key(seed), jnp.float32(config.adversarial.radius)
    rows, b = {}, jnp.asarray(kept["bias"][seed])
    state = population.of_weights(kept["clean"][seed]) if measured else population.at_start(
        kept["start"][seed]
    )  # fmt: skip
    for number, phase in enumerate(("clean", "adversarial")):
        if measured and phase == "clean":
            continue
        law, thresholds = law_of(config, phase), thresholds_of(config, phase, b)
        own, now = jax.random.fold_in(key, number), 0
        for step in steps[phase]:
            state = population.evolve(
                state, thresholds, radius, law, own, now, step,
                batch=getattr(config, phase).batch, adversarial=phase == "adversarial",
            )  # fmt: skip
            now, b = step, population.threshold(state, thresholds, step)
            rows[phase, step] = population.measure(state, b, radius, law, jax.random.key(1))
    return rows


def homogeneous(config, steps):
    """The reduced run at the same steps, means over the replicates of its nodes."""
    run = reduced_run(config)
    rows = {}
    for phase, trajectory in (("clean", run.clean), ("adversarial", run.adversarial)):
        c = getattr(config, phase)
        for step in steps[phase]:
            time = c.learning_rate * step / config.problem.d

            def at(values, time=time, trajectory=trajectory):
                lines = zip(trajectory.time, values, strict=True)
                return float(np.mean([np.interp(time, t, v) for t, v in lines]))

            o = trajectory.order
            rows[phase, step] = {
                "alpha": at(o.alpha),
                "ratio": at(o.dense / o.alpha) / config.problem.d,
                "residual": at(o.residual),
            }
            if phase == "clean":  # the drive of the other phase is that of attacked inputs
                rows[phase, step]["active"] = at(trajectory.drive.active)
        which = 0 if phase == "clean" else 1
        last = rows[phase, steps[phase][-1]]
        last["accuracy"], last["dense_accuracy"] = map(
            float, np.asarray(run.accuracy)[:, which].mean(axis=0)
        )
    return rows


HEAD = ("phase, step", "closure", "α", "κ/α", "ρ²", "active", "clean accuracy", "dense attack")
SHOWN = {"alpha": 3, "ratio": 4, "residual": 4, "active": 3, "accuracy": 3, "dense_accuracy": 3}


def table(rows):
    """Every time and closure, as Markdown."""

    def line(row):
        cells = [f"{row[n]:.{digits}f}" if n in row else "" for n, digits in SHOWN.items()]
        return [f"{row['phase']}, {row['step']}", row["closure"], *cells]

    order = {at: i for i, at in enumerate(dict.fromkeys((r["phase"], r["step"]) for r in rows))}
    ordered = sorted(rows, key=lambda row: order[row["phase"], row["step"]])
    lines = [HEAD, ["---"] * len(HEAD), *map(line, ordered)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=128)
    parser.add_argument("--k", type=float, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--points", type=int, default=10, help="times compared per phase")
    parser.add_argument("--out", type=Path, default=Path("dynamics-against-direct"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    config = sparse_regime(given.d, given.k, seeds=given.seeds)
    store = given.out / f"direct_{given.d}_{given.k:g}_{given.seeds}.npz"
    if not store.exists():
        np.savez_compressed(store, **direct(config))  # pyright: ignore[reportArgumentType]
    with np.load(store) as archive:
        kept = {name: archive[name] for name in archive.files}
    steps, index = {}, {}
    for phase in ("clean", "adversarial"):
        inside = np.flatnonzero(kept["phase"] == phase)
        chosen = inside[
            np.unique(np.linspace(0, len(inside) - 1, given.points).round().astype(int))
        ]
        steps[phase] = [int(s) for s in kept["step"][chosen]]
        index |= {(phase, int(kept["step"][i])): i for i in chosen}
    rows = []
    path = given.out / f"dynamics_{given.d}.json"

    def add(closure, at, values, seeds):
        # The homogeneous closure has no seeds, and not every statistic.
        means = {name: float(np.mean(v)) for name, v in values.items()}
        row = {"closure": closure, "phase": at[0], "step": at[1], "seeds": seeds}
        rows.append(row | means)

    for at, i in index.items():
        add("direct", at, {name: kept[name][i] for name in NAMES}, given.seeds)
    for at, values in homogeneous(config, steps).items():
        add("homogeneous", at, values, 0)
    whole, done = list(rows), {"population": [], "population (measured)": []}
    for seed in range(given.seeds):
        rows[:] = whole
        for closure, runs in done.items():
            runs.append(populations(config, kept, seed, steps, closure != "population"))
            for at in runs[0]:
                values = {n: [float(getattr(r[at], n)) for r in runs] for n in NAMES}
                add(closure, at, values, len(runs))
        # Written after each seed: the next takes minutes.
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print("seeds done:", seed + 1, flush=True)
    print(table(rows))
    figure = dynamics_figures.against_direct(rows)
    figure.savefig(given.out / f"dynamics_{given.d}.png", dpi=200)
    print(path)


if __name__ == "__main__":
    main()
