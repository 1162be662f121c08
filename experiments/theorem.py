"""The theorem's own algorithm: one threshold, which only grows (docs/dynamics.md).

Plain gradient descent from small random weights; one threshold b for all neurons, linear between
the points of a candidate's table (t′, b) in the clean phase and frozen at the last one in the
adversarial phase. η = .5√(d/128), batch 512, λd = .0128, m = 4d, σ_x = .3, as on the ladder.

Rules, from before the runs: the mean active fraction after clean training is within a factor 1.5 of
k/d, θ(clean, adversarial) ≥ .85 and both θ(init, ·) ≤ .5 (medians over carriers), κ/α after clean
training is within a factor 1.5 of the population closure's, the dense attack at τ leaves at most
half of the clean accuracy, and κ/α falls at least tenfold in the adversarial phase. RECORD keeps
every finished (candidate, seed, method).

    python experiments/theorem.py NAME ... --seeds 0 1
    python experiments/theorem.py              # the tables, from RECORD
"""

import argparse
import math
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from dynamics_against_direct import observer
from lower_bound import load, save

from featpur_sim import PGD, decompose, robust_accuracy
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.measure.weights import overlap
from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.closure import follow, law_of, start_of
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import theorem
from featpur_sim.statistics import mean_interval
from featpur_sim.theory.dynamics import population
from featpur_sim.training.course import require_trained
from featpur_sim.training.loop import train

RECORD = Path(__file__).with_suffix(".json")
POINTS, FACTOR = 4000, 1.5
# (t′, b) of the clean phase; its length and the adversarial one's in t′ (0: left out); reach = τ√k.
# Each was written down before it was run; seed 900 explores. The high start ends dead: no row.
BASE = {"d": 512, "k": 12, "sigma_0": 0.002, "clean": 1.5, "adversarial": 1.5, "reach": 0.3}
SMALL = {"d": 128, "k": 6, "sigma_0": 0.004, "clean": 6.25, "adversarial": 0}
TRACK = [(0, 0.008), (0.15, 0.0216)]
GROW = [*TRACK, (0.19, 0.03), (0.6, 0.03), (1, 0.045), (1.5, 0.06)]
CANDIDATES = {
    "ramp, d = 128": BASE | SMALL | {"threshold": [(0, 0.012), (0.5, 0.1021)]},
    "high start, d = 128": BASE | SMALL | {"threshold": [(0, 0.018), (0.5, 0.1021)]},
    "slow ramp, d = 128": BASE | SMALL | {"threshold": [(0, 0.012), (1, 0.1021)]},
    "high end, d = 128": BASE | SMALL | {"threshold": [(0, 0.012), (0.5, 0.1429)]},
    "small start, d = 128": BASE
    | SMALL
    | {"sigma_0": 0.001, "threshold": [(0, 0.003), (0.5, 0.1021)]},
    "track, large b": BASE
    | {"k": 17, "clean": 3, "adversarial": 2, "threshold": [*TRACK, (0.45, 0.0816)]},
    "track, hold, grow": BASE | {"threshold": GROW},
    # The preset, which is the one before with the pre-activation noise of the paper.
    "theorem": {"d": 512, "k": 12, "adversarial": 1.5},
    "theorem, d = 256": {"d": 256, "k": 9, "adversarial": 1.5},
    "theorem, d = 128": {"d": 128, "k": 7, "adversarial": 1.5},
    "theorem, d = 1024": {"d": 1024, "k": 16, "adversarial": 1.5},
}


def settings(name, seed):
    c = CANDIDATES[name]
    if "threshold" not in c:
        return theorem(c["d"], c["k"], seeds=1, seed=seed)
    d, rate = c["d"], 0.5 * math.sqrt(c["d"] / 128)
    shared = {"learning_rate": rate, "weight_decay": 0.0128 / d, "batch": 512}
    points = list(c["threshold"])
    if points[-1][0] < c["clean"]:
        points.append((c["clean"], points[-1][1]))
    bias = {
        "schedule": "tabulated",
        "fractions": [t / c["clean"] for t, _ in points],
        "values": [b for _, b in points],
    }
    network = {"neurons": 4 * d, "sigma_0": c["sigma_0"]}
    robust = {"attack": "fgm", "radius": c["reach"] / math.sqrt(c["k"])}
    return parse(
        {
            "name": "theorem", "seed": seed, "seeds": 1, "network": network,
            "problem": {"d": d, "k": c["k"], "sigma_x": 0.3},
            "clean": shared | {"steps": math.ceil(c["clean"] * d / rate), "bias": bias},
            "adversarial": shared | robust | {
                "steps": max(1, math.ceil(c["adversarial"] * d / rate))
            },
        }
    )  # fmt: skip


def rows_of(name, seed):
    """What the two networks of a run are, and its closure."""
    config, phases = settings(name, seed), 2 if CANDIDATES[name]["adversarial"] else 1
    problem = make_problem(config, 1).gauge()
    starts, keys, test_keys, _ = seed_keys(config)
    run = train(
        problem, make_network(config, starts[0]), make_phases(config)[:phases], key=keys[0],
        observe=observer(config), records=8, test_samples=POINTS, on_record=progress,
    )  # fmt: skip
    require_trained(run)
    start = run.networks["init"].weights
    for phase in ("clean", "adversarial")[:phases]:
        network = run.networks[phase]
        parts = decompose(network.weights, problem)
        carrier, index = np.asarray(parts.carrier), np.asarray(parts.pure_index)
        x = problem.sample(test_keys[0], POINTS).x
        opened = np.asarray(jnp.mean(network.active(x).astype(jnp.float32), axis=0))

        def median(values, carrier=carrier):
            return float(np.median(np.asarray(values)[carrier]))

        def under(attack, network=network, n=POINTS):
            return robust_accuracy(network, problem, attack, key=test_keys[0], n=n).value

        level = median(jnp.abs(parts.alpha))
        radius, share = config.adversarial.radius, config.problem.k / config.problem.d
        yield phase, {
            "active": opened.mean() / share,
            "open neurons": (opened > 0.1 / config.problem.d).mean(),
            "their median": np.median(opened[opened > 0.1 / config.problem.d]) / share,
            "most open 1 %": np.quantile(opened, 0.99) / share,
            "carriers": carrier.mean(),
            "covered": len(set(index[carrier])) / config.problem.d,
            "α": level,
            "b√k/α": float(network.bias) * math.sqrt(config.problem.k) / level,
            "κ/α": float(np.mean(np.asarray(parts.signed_ratio)[carrier])),
            "κ/α, median": median(parts.signed_ratio),
            "ρ/α, median": median(parts.residual_norm / jnp.abs(parts.alpha)),
            "θ(init, ·)": median(overlap(start, network.weights)),
            "θ(clean, ·)": median(overlap(run.networks["clean"].weights, network.weights)),
            "accuracy": under(None),
            "dense": under(DenseMixture.of(problem, radius)),
            "PGD": under(PGD(radius), n=POINTS // 2),
        }  # fmt: skip


def progress(record):
    values = (f"{name} {float(record.values[name][0]):.3g}" for name in ("accuracy", "active"))
    print(record.phase, record.step, *values, file=sys.stderr, flush=True)


def closure_of(name, seed):
    """κ/α, mean over carriers, and active fraction over k/d after each phase, of the closure."""
    config = settings(name, seed)
    state, key = start_of(config, 0)
    for phase, step, current, b in follow(config, state, key, 1):
        if step:
            radius, law = jnp.float32(config.adversarial.radius), law_of(config, phase)
            own = jax.random.fold_in(key, 2)
            found = population.measure(current, b, radius, law, own, n=POINTS)
            share = config.problem.k / config.problem.d
            yield phase, {"κ/α": found.ratio, "active": found.active / share,
                          "accuracy": found.accuracy, "dense": found.dense_accuracy}  # fmt: skip
            if not CANDIDATES[name]["adversarial"]:
                return


def measure(rows, names, seeds, methods):
    for name in names:
        for seed in seeds:
            for method in methods:
                at = {"candidate": name, "seed": seed, "method": method}
                if any(at.items() <= row.items() for row in rows):
                    continue
                began = time.monotonic()
                found = {"direct": rows_of, "closure": closure_of}[method](name, seed)
                new = [
                    at | {"phase": phase} | {n: float(f"{float(v):.5g}") for n, v in values.items()}
                    for phase, values in found
                ]
                new[-1]["seconds"] = round(time.monotonic() - began)
                rows += new
                save(RECORD, rows)
                print(name, seed, method, new[-1]["seconds"], "s", file=sys.stderr, flush=True)


def tables(rows):
    """One line per candidate, seed, method and phase."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [n for n in names if n != "seconds"]
    print("|", " | ".join(names), "|\n" + "|---" * len(names) + "|")
    for row in sorted(rows, key=lambda r: (list(CANDIDATES).index(r["candidate"]), r["seed"])):
        cells = (row.get(name, "") for name in names)
        print("|", " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells), "|")


def standing(rows, name):
    """Rule → (bounds, one value a seed) of a candidate, over the seeds that have what it needs."""
    own = [row for row in rows if row["candidate"] == name]
    at = {(row["seed"], row["method"], row["phase"]): row for row in own}
    clean, robust, closure = (
        {seed: row for (seed, *of), row in at.items() if tuple(of) == which}
        for which in (("direct", "clean"), ("direct", "adversarial"), ("closure", "clean"))
    )
    both, apart = sorted({*clean} & {*robust}), sorted({*clean} & {*closure})
    within = 1 / FACTOR, FACTOR
    return {
        "active over k/d": (within, [clean[s]["active"] for s in both]),
        "κ/α over the closure's": (within, [clean[s]["κ/α"] / closure[s]["κ/α"] for s in apart]),
        "θ(clean, adversarial)": ((0.85, 1), [robust[s]["θ(clean, ·)"] for s in both]),
        "θ(init, clean)": ((0, 0.5), [clean[s]["θ(init, ·)"] for s in both]),
        "θ(init, adversarial)": ((0, 0.5), [robust[s]["θ(init, ·)"] for s in both]),
        "dense attack over clean accuracy": (
            (0, 0.5), [clean[s]["dense"] / clean[s]["accuracy"] for s in both],
        ),
        "size of κ/α, after over before": (
            (0, 0.1), [abs(robust[s]["κ/α"]) / clean[s]["κ/α"] for s in both],
        ),
    }  # fmt: skip


def judge(rows):
    """The rules: means and 95 % t-intervals over seeds, and the seeds for which each holds."""
    found = {name: standing(rows, name) for name in CANDIDATES}
    found = {name: of for name, of in found.items() if any(v for _, v in of.values())}
    print("\n| rule | bounds |", " | ".join(found), "|\n|---|---" + "|---" * len(found) + "|")
    for rule, ((low, high), _) in next(iter(found.values())).items():
        cells = []
        for of in found.values():
            values = of[rule][1]
            holds = sum(low <= value <= high for value in values)
            interval = mean_interval(np.array(values)) if len(values) > 1 else values
            text = [f"{number:.3f}" for number in interval]
            spread = f" [{text[1]}, {text[2]}]" if len(text) > 1 else ""
            cells.append(f"{text[0]}{spread}: {holds} of {len(values)}" if values else "")
        print("|", " | ".join([rule, f"{low:.3g} to {high:.3g}", *cells]), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CANDIDATES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[900])
    parser.add_argument("--methods", nargs="*", choices=("direct", "closure"), default=["direct"])
    options = parser.parse_args()
    if unknown := set(options.names) - set(CANDIDATES):
        parser.error(f"no candidate is called {', '.join(sorted(unknown))}.")
    rows = load(RECORD)
    measure(rows, options.names, options.seeds, options.methods)
    tables(rows)
    judge(rows)


if __name__ == "__main__":
    main()
