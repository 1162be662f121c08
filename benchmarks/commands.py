"""What each command costs a user: wall and CPU seconds, the first time and with programs kept.

Takes the folder of `featpur reproduce`; commands read copies of its sparse run (d = 64, k = 5). The
rate of matrix products beside it says what the machine gives.

    python benchmarks/commands.py DIR
    python benchmarks/commands.py DIR --only "report DIR"
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from timing import alternate, machine

FEATPUR = (sys.executable, "-m", "featpur_sim")
COMMANDS = {
    "report DIR": (*FEATPUR, "report", "run"),
    "evaluate DIR": (*FEATPUR, "evaluate", "run"),
    "evaluate DIR --protocol standard": (*FEATPUR, "evaluate", "run", "--protocol", "standard"),
    "certify DIR --stages linear,q1": (*FEATPUR, "certify", "run", "--stages", "linear,q1"),
    "compare DIR": (*FEATPUR, "compare", "run"),
    "dynamics FILE": (*FEATPUR, "dynamics", "run/config.toml"),
    "dynamics FILE --exponents --a .4": (
        *(*FEATPUR, "dynamics", "run/config.toml"),
        *("--exponents", "--a", ".4"),
    ),
}


def products() -> float:
    """float32 operations a second of a square matrix product, in units of 10⁹."""
    side = 2048
    x = jax.random.normal(jax.random.key(0), (side, side))
    product = jax.jit(jnp.matmul)
    seconds = alternate({"product": lambda: product(x, x)}, 10)["product"]
    return 2 * side**3 / float(np.median(seconds)) / 1e9


def spent(command: tuple[str, ...], folder: Path, cache: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command, which has to succeed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(name: str, run: Path) -> str:
    """A row of the table: both times of one command, each on a fresh copy of the run."""
    cells = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(run, Path(folder) / "run")
                wall, cpu = spent(COMMANDS[name], Path(folder), Path(cache))
            cells.append(f"{wall:.0f} s, {cpu:.0f} s of CPU")
    return f"| `{name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--only", action="append", choices=list(COMMANDS))
    arguments = parser.parse_args()
    print(f"On {machine()}: {products():.0f}·10⁹ operations a second in a matrix product.\n")
    print("| command | nothing kept | programs kept |\n|---|---|---|")
    for name in arguments.only or COMMANDS:
        print(measure(name, arguments.folder / "sparse-regime"), flush=True)
