"""The ladder: k = d^a from d = 64 to 10⁹ by three methods that overlap (docs/dynamics.md).

    direct        the simulator, preset sparse-regime with the rate scaled as below
    population    the heterogeneous closure of the same runs, from their settings alone
    homogeneous   three order parameters, scaling inside the ansatz, ρ = 0

The rate grows like d^RATE from the preset's at d = 128, steps fall accordingly and time
t′ = η·step/d, λd, m/d, τ√k and thresholds in t′ stay. RECORD keeps every finished
(method, a, d, seed), and beside it, for as long as it runs, a direct run its latest state: the same
command goes on where it was stopped. `ladder_tables.py` reads it. With --batch the noise of a step
is another one, and rows say which; name another --record (`ladder_batches.py`).

    python experiments/ladder.py --methods direct population --a 0.4 --d 128 256 512 1024
    python experiments/ladder.py --methods homogeneous
    python experiments/ladder.py --methods direct --a 0.4 --d 2048 --seeds 0    # an hour or two
    python experiments/ladder_tables.py --picture docs/images/ladder.png    # from RECORD, seconds
"""

import argparse
import dataclasses
import itertools
import math
import shutil
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from dynamics_against_direct import NAMES, observer
from lower_bound import load, save

from featpur_sim import FGM, robust_accuracy
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.runs.build import make_network, make_phases, make_problem
from featpur_sim.runs.closure import follow, law_of, start_of
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.runs.reduced import duration_of, scaling_of
from featpur_sim.theory.dynamics import population
from featpur_sim.theory.dynamics.exponents import solve
from featpur_sim.theory.dynamics.nodes import sampled_nodes
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.course import require_trained
from featpur_sim.training.loop import train

EXPONENTS, DIRECT = (0.35, 0.4, 0.45), (128, 256, 512, 1024)
HOMOGENEOUS = (64, *DIRECT, 2048, 4096, *(10**i for i in range(4, 10)))
# The rate's exponent, chosen on other seeds than those reported.
RATE, BASE, BATCH = 0.5, 128, 512
RECORDS, POINTS, LARGEST_DRAW = 4, 4000, 4096
RECORD = Path(__file__).with_suffix(".json")
PHASES = ("clean", "adversarial")


def settings(d, a, seed, rate=RATE, batch=None):
    """The run at one rung, with the preset's batch or another."""
    config = faster(sparse_regime(d, round(d**a), seeds=1, seed=seed), rate)
    if batch is None:
        return config
    changed = config.model_dump()
    for phase in PHASES:
        changed[phase]["batch"] = batch
    return parse(changed)


def faster(config, rate=RATE):
    """A run with the rate, and so the steps, of its rung."""
    factor, changed = (config.problem.d / BASE) ** rate, config.model_dump()
    for phase in PHASES:
        own = changed[phase]
        own["learning_rate"] *= factor
        own["steps"] = math.ceil(own["steps"] / factor - 1e-9)
    return parse(changed)


def noise(d, batch, rate=RATE):
    """What a step leaves in a neuron, η d/batch in t′, over that of the first rung."""
    return (d / BASE) ** (1 + rate) * BATCH / batch


def radius_at_half(accuracy_at):
    """Where the accuracy over all labelled points falls to ½, as in the homogeneous exponents."""
    low, high = np.log(1e-4), np.log(10.0)
    for _ in range(14):
        middle = (low + high) / 2
        above = float(accuracy_at(jnp.float32(np.exp(middle)))) > 0.5
        low, high = (middle, high) if above else (low, middle)
    return float(np.exp((low + high) / 2))


class Clock:
    """Progress lines: steps done, and the time left; a robust step counts as two."""

    def __init__(self, name, config, phases):
        self.name, self.began = name, time.monotonic()
        self.clean, total = config.clean.steps, config.clean.steps
        self.total = total + (2 * config.adversarial.steps if len(phases) > 1 else 0)
        self.before = 0

    def done(self, phase, step):
        return step if phase == "clean" else self.clean + 2 * step

    def resume(self, phase, step):
        self.before = self.done(phase, step)
        print(f"{self.name}: goes on from {phase} {step}", file=sys.stderr, flush=True)

    def __call__(self, phase, step):
        done = self.done(phase, step) - self.before
        left = (time.monotonic() - self.began) * ((self.total - self.before) / max(done, 1) - 1)
        tail = f", {left / 60:.1f} min left" if done else ""
        print(f"{self.name}: {phase} {step}{tail}", file=sys.stderr, flush=True)


def direct(config, phases, clock, folder):
    """Rows of one run of the simulator, which goes on from the state in the folder."""
    problem = make_problem(config, 1).gauge()
    starts, keys, test_keys, _ = seed_keys(config)
    quarters = {
        phase: np.linspace(0, getattr(config, phase).steps, RECORDS + 1).round().astype(int)[1:]
        for phase in phases
    }
    run = train(
        problem, make_network(config, starts[0]), make_phases(config)[: len(phases)], key=keys[0],
        observe=observer(config), records=4, test_samples=POINTS,
        snapshots={phase: steps.tolist() for phase, steps in quarters.items()},
        checkpoint=Checkpoint(folder), on_record=lambda record: clock(record.phase, record.step),
        on_resume=lambda phase, step, _: clock.resume(phase, step),
    )  # fmt: skip
    require_trained(run)
    for i, (phase, step) in enumerate(zip(run.record_phase, run.record_step, strict=True)):
        if step in quarters[phase]:
            found = {name: run.records[name][i] for name in NAMES}
            if step == quarters[phase][-1]:
                network = run.networks[phase]

                def under(attack, network=network):
                    key = test_keys[0]
                    return robust_accuracy(network, problem, attack, key=key, n=POINTS).value

                found["dense_radius"] = radius_at_half(
                    lambda r, under=under: under(DenseMixture.of(problem, r))
                )
                found["fgm_radius"] = radius_at_half(lambda r, under=under: under(FGM(r)))
            yield phase, step, found


def drawn(config, seed):
    """A start that no run draws: neuron by neuron, so that it needs no m×d array."""
    d, m = config.problem.d, config.network.neurons
    rng, block = np.random.default_rng(seed), 400
    parts = [
        population.at_start(config.network.sigma_0 * rng.standard_normal((block, d), np.float32))
        for _ in range(0, m, block)
    ]
    whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1)[..., :m], *parts)
    return whole._replace(profile=parts[0].profile), jax.random.key(seed)


def closure(config, phases, clock, _):
    """Rows of the population, of its own start where the run's would not fit into memory."""
    large = config.problem.d > LARGEST_DRAW
    start = drawn if large else start_of
    state, key = start(config, config.seed if large else 0)
    own, points = jax.random.fold_in(key, 2), POINTS // 4 if large else POINTS
    for phase, step, current, b in follow(config, state, key, RECORDS):
        if phase not in phases:
            break
        jax.block_until_ready(current)  # or the clock runs ahead of the work
        clock(phase, step)
        radius, law = jnp.float32(config.adversarial.radius), law_of(config, phase)
        if step:
            found = population.measure(current, b, radius, law, own, n=points)._asdict()
            found["unfollowed"] = population.unfollowed(current)
            if step == getattr(config, phase).steps:
                for attack in ("dense", "fgm"):
                    found[f"{attack}_radius"] = radius_at_half(
                        lambda r, attack=attack, current=current, b=b, law=law: population.accuracy(
                            current, b, r, law, own, attack=attack, n=points
                        )
                    )
            yield phase, step, found


def homogeneous(d, a):
    """Rows of the ansatz; a seed is one scrambling of its nodes. Durations are those of the run."""
    config = settings(BASE, a, 0)  # what is scaled is the same at every d
    scaling = dataclasses.replace(
        scaling_of(config), radius_exponent=0.0,
        clean_time=duration_of(config, "clean"),
        adversarial_time=duration_of(config, "adversarial"),
    )  # fmt: skip
    k = float(round(d**a))
    nodes = sampled_nodes(d, k, scaling.p_one, n=512, replicates=4)
    point = solve(d, k, scaling, nodes)
    if not point.arrived.all():
        raise SystemExit(f"homogeneous, d = {d}: an integration did not reach its end.")
    for seed in range(4):
        ends = (
            {
                "alpha": point.clean_alpha, "ratio": point.clean_ratio,
                "active": point.clean_active, "accuracy": point.clean_accuracy,
                "dense_accuracy": point.dense_accuracy, "dense_radius": point.dense_radius,
                "pure_radius": point.pure_radius,
            },
            {
                "alpha": point.adversarial_alpha, "ratio": point.adversarial_ratio,
                "fgm_radius": point.purified_radius,
            },
        )  # fmt: skip
        for phase, values in zip(PHASES, ends, strict=True):
            yield seed, phase, {name: value[seed] for name, value in values.items()}


def row(method, a, d, seed, phase, step, values):
    numbers = {name: float(f"{float(value):.5g}") for name, value in values.items()}
    at = {"method": method, "a": a, "d": d, "k": round(d**a), "seed": seed}
    return at | {"phase": phase, "step": int(step)} | numbers


def told(config):
    """What a rung is kept with, and compared by."""
    clean, robust = config.clean, config.adversarial
    values = {
        "rate": clean.learning_rate, "steps": clean.steps, "robust_steps": robust.steps,
        "decay": clean.weight_decay, "radius": robust.radius, "batch": clean.batch,
        "neurons": config.network.neurons, "sigma_0": config.network.sigma_0,
        "sigma_x": config.problem.sigma_x,
    }  # fmt: skip
    return {name: float(f"{value:.5g}") for name, value in values.items()}


def there(rows, wanted, config):
    """Whether a rung is kept; one of other settings is refused."""
    for found in rows:
        if wanted.items() <= found.items() and (config is None or "settings" in found):
            if config is not None and found["settings"] != told(config):
                raise SystemExit(f"{wanted}: kept with other settings; name another --record.")
            return True
    return False


def measure(rows, options):
    """Every rung asked for that is not there yet, the small ones first."""
    phases = PHASES[: 1 if options.clean else 2]
    runs = {"direct": direct, "population": closure}
    for method in options.methods:
        sizes = options.d or (HOMOGENEOUS if method == "homogeneous" else DIRECT)
        for d, seed, a in itertools.product(
            sizes, options.seeds if method in runs else (0,), options.a
        ):
            at = {"method": method, "a": a, "d": d, "seed": seed}
            config = None
            if method in runs:
                config = settings(d, a, seed, options.rate, options.batch)
                at |= {} if options.batch is None else {"batch": options.batch}
            if there(rows, at | {"phase": phases[-1]}, config):
                continue
            state = "-".join(map(str, (options.record.stem, *at.values(), phases[-1])))
            name = ", ".join(f"{key} = {value}" for key, value in at.items())
            began = time.monotonic()
            if config is None:
                found = homogeneous(d, a)
                new = [row(method, a, d, s, phase, 0, v) for s, phase, v in found]
            else:
                clock = Clock(name, config, phases)
                found = runs[method](config, phases, clock, options.record.with_name(state))
                new = [row(method, a, d, seed, *values) | at for values in found]
                new[-1]["settings"] = told(config)
            new[-1]["seconds"] = round(time.monotonic() - began)
            # A clean phase that was there comes again, the same, before its other phase.
            rows[:] = [r for r in rows if not at.items() <= r.items()] + new
            save(options.record, rows)
            shutil.rmtree(options.record.with_name(state), ignore_errors=True)
            print(name, "done", new[-1]["seconds"], "s", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("direct", "population", "homogeneous")
    parser.add_argument("--methods", nargs="*", choices=kinds, default=[], help="what to measure")
    parser.add_argument("--a", nargs="*", type=float, default=EXPONENTS)
    parser.add_argument("--d", nargs="*", type=int, help="sizes, those of each method by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--clean", action="store_true", help="the clean phase alone")
    parser.add_argument("--rate", type=float, default=RATE, help="exponent of the learning rate")
    parser.add_argument("--batch", type=int, help="another batch than the preset's")
    parser.add_argument("--record", type=Path, default=RECORD, help="JSON file of every value")
    options = parser.parse_args()
    if options.batch is not None and options.record == RECORD:
        parser.error("--batch: these are other runs than the ladder's; name another --record.")
    rows = load(options.record)
    measure(rows, options)


if __name__ == "__main__":
    main()
