"""What a size costs: compilation, time to the first step, time per step, peak memory.

Every size runs in a process of its own, because a process remembers its compilations and its peak.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --size 256 1024 1024   # one size (d, m, N), as JSON
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from timing import table

SIZES = [
    (128, 512, 512),
    (256, 512, 512),
    (512, 512, 512),
    (128, 1024, 512),
    (128, 2048, 512),
    (128, 512, 1024),
    (128, 512, 2048),
]


def peak_memory() -> int:
    """Bytes. Not ru_maxrss, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def one_size(d: int, m: int, batch: int) -> dict[str, float]:
    """Seconds and bytes of FGM training at one size, in this process."""
    import jax
    import numpy as np

    from featpur_sim import FGM, AdversarialPhase, SparseCoding, initialise, train

    jax.devices()
    before = peak_memory()
    problem, network = SparseCoding(d, 5.0, 0.3), initialise(d, m, bias=0.02, key=jax.random.key(0))

    def run(steps):
        began = time.perf_counter()
        phase = AdversarialPhase(FGM(0.1), steps, batch=batch)
        settings = {"key": jax.random.key(1), "records": 1, "test_samples": 32}
        train(problem, network, [phase], **settings).network.weights.block_until_ready()
        return time.perf_counter() - began

    first = run(1)
    warm = run(1)
    seconds = [(run(31) - run(1)) / 30 for _ in range(5)]
    return {
        "first": first,
        "compile": first - warm,
        "step": float(np.median(seconds)),
        "memory": peak_memory() - before,
    }


def measure(sizes=SIZES) -> str:
    rows = []
    for size in sizes:
        command = [sys.executable, __file__, "--size", *map(str, size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        d, m, batch = size
        floor = 4 * (2 * batch * m + 6 * batch * d + 8 * m * d)
        rows.append(
            (
                f"d = {d}, m = {m}, N = {batch}",
                f"compiled in {found['compile']:.1f} s, first step after {found['first']:.1f} s, "
                f"{found['step'] * 1e3:.2f} ms per step "
                f"({8 * batch * d * m / found['step'] / 1e9:.0f} Gflop/s), "
                f"peak {found['memory'] / 2**20:.0f} MiB (arrays of a step: {floor / 2**20:.0f})",
                "",
            )
        )
    return table("Cost against size (FGM, one run)", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, metavar=("D", "M", "N"))
    chosen = parser.parse_args().size
    print(json.dumps(one_size(*chosen)) if chosen else measure())
