"""Where the time of a run goes: its stages, the programs they compile, and its bare products.

The bare products are those of training alone, at the same sizes and in the same process: X Wᵀ and
Gᵀ X in every step, and both twice in an FGM step. Their ratio is the number to compare between
machines.

    python benchmarks/stages.py                                   # the run of the headline
    python benchmarks/stages.py --settings FILE.toml
    JAX_COMPILATION_CACHE_DIR=DIR python benchmarks/stages.py     # the second time: kept programs
"""

import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
from timing import alternate, machine, table

from featpur_sim.report.reproduce import run_into
from featpur_sim.runs.config import RunConfig, load
from featpur_sim.runs.presets import dense_regime


class Stages:
    """A meter that adds up what passes from one stage to the next."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}
        self.stage, self.programs = "set-up", 0
        self.began = time.perf_counter(), time.process_time()

    def at(self, stage: str, done: int, total: int, detail: str = "") -> None:
        self.turn(stage if done < total or stage == self.stage else self.stage)
        if total and done >= total:
            self.turn("between stages")

    def note(self, sentence: str) -> None:
        """Nothing to time."""

    def turn(self, stage: str) -> None:
        now = time.perf_counter(), time.process_time()
        row = self.seconds.setdefault(self.stage, [0.0, 0.0, 0])
        for column in range(2):
            row[column] += now[column] - self.began[column]
        row[2] += self.programs
        self.stage, self.programs, self.began = stage, 0, now

    def count(self, event: str, duration: float, **_: object) -> None:
        self.programs += event.endswith("backend_compile_duration")


def products(config: RunConfig) -> float:
    """Seconds that the bare products of both phases take."""
    seeds, size, d = config.seeds, config.clean.batch, config.problem.d
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (seeds, size, d))
    weights = jax.random.normal(keys[1], (seeds, config.network.neurons, d))

    @jax.jit
    def step(x, weights):
        u = jnp.einsum("snd,smd->snm", x, weights)
        return jnp.einsum("snm,snd->smd", u, x)

    seconds = alternate({"step": lambda: step(x, weights)}, 50)["step"]
    steps = config.clean.steps + 2 * config.adversarial.steps
    return float(jnp.median(seconds)) * steps


def measure(config: RunConfig) -> str:
    stages = Stages()
    jax.monitoring.register_event_duration_secs_listener(stages.count)
    with tempfile.TemporaryDirectory() as folder:
        run_into(Path(folder) / "run", config, lambda name: nullcontext(stages))
    stages.turn("end")
    bare = products(config)
    rows = [
        (stage, f"{wall:.1f} s, {cpu:.1f} s of CPU, {programs} programs, {wall / bare:.2f}", "")
        for stage, (wall, cpu, programs) in stages.seconds.items()
    ]
    wall, cpu, programs = map(sum, zip(*stages.seconds.values(), strict=True))
    rows.append(("all", f"{wall:.1f} s, {cpu:.1f} s of CPU, {programs} programs", ""))
    rows.append(("bare products of training", f"{bare:.1f} s", ""))
    rows.append(("all over bare products", f"{wall / bare:.2f}", "≤ 2.2"))
    return table(f"Stages of {config.name}; the last number of each is over the products", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, help="of the run; the headline's by default")
    given = parser.parse_args().settings
    print(f"Measured on {machine()}.\n")
    print(measure(dense_regime() if given is None else load(given)))
