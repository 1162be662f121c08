"""Kill a sweep of 200 points ten times with SIGKILL, go on each time, and compare bit for bit.

    python benchmarks/kill_sweep.py [--kills 10] [--dask] [--seed 0]

Runs `featpur sweep` once undisturbed, then again, killed at random moments and resumed. With --dask
the second runs once on a LocalCluster of two workers, one of which is killed. Prints what happened
and exits 1 if the two results differ in one bit.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

SWEEP = """\
name = "two hundred points"
seeds = 1
preset = "dense-regime"

[axes]
d = [32, 64, 96, 128]
k = { log = [3, 9], points = 5 }
tau = { linear = [0.05, 0.2], points = 10 }

[run]
records = 5
clean = { steps = 100, batch = 128 }
adversarial = { steps = 100, batch = 128 }
evaluation = { samples = 200, radii = [0.0, 1.0], pgd_steps = 5, pgd_restarts = 1 }
"""


def command(folder: Path, out: str, *more: str) -> list[str]:
    program = "from featpur_sim.cli.main import main; main()"
    return [sys.executable, "-c", program, "sweep", str(folder / "sweep.toml"),
            "--out", str(folder / out), "--quiet", *more]  # fmt: skip


def batches(folder: Path) -> int:
    return len(list((folder / "batches").glob("batch-*.nc")))


def kill_and_resume(folder: Path, kills: int, chance: random.Random) -> None:
    """Let the sweep finish a random number of batches and run on for a moment; kill it; go on."""
    total = batches(folder / "undisturbed")
    for kill in range(kills):
        done = batches(folder / "killed")
        # What is left, shared among the kills that are left; none is a kill while compiling.
        most = max(0, round(2 * (total - 1 - done) / (kills - kill)))
        target = min(done + chance.randint(0, most), total - 1)
        process = subprocess.Popen(command(folder, "killed", "--resume"))
        while batches(folder / "killed") < target:
            time.sleep(0.05)
            assert process.poll() is None, "the sweep ended too soon"
        time.sleep(chance.uniform(0.5, 8.0))
        assert process.poll() is None, "the sweep ended too soon"
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"  killed with {batches(folder / 'killed')} of {total} batches", flush=True)
    subprocess.run(command(folder, "killed", "--resume"), check=True)


def kill_a_worker(folder: Path) -> None:
    """Run on two workers and kill one once the first batch has come in."""
    process = subprocess.Popen(command(folder, "killed", "--scheduler", "local:2"))
    while batches(folder / "killed") < 1:
        time.sleep(0.1)
        assert process.poll() is None, "the sweep ended too soon"
    victim = workers(process.pid)[0]
    subprocess.run(["kill", "-9", str(victim)], check=True)
    print(f"  killed worker {victim} after {batches(folder / 'killed')} batches", flush=True)
    assert process.wait() == 0, process.returncode


def workers(parent: int) -> list[int]:
    """Processes below ``parent`` that a Dask nanny has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes()
            above = int((path / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        if above == parent and b"spawn_main" in line:
            found.append(int(path.name))
    assert found, "no worker process"
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two sweeps hold the same bits under the same labels."""
    left, right = (xr.load_dataset(p / "sweep.nc", engine="h5netcdf") for p in (one, other))
    equal = left.identical(right)
    for name in left.data_vars:
        a, b = left[name].values, right[name].values
        bits = a.tobytes() == b.tobytes() if a.dtype.kind != "O" else np.array_equal(a, b)
        if not bits:
            print(f"  {name} differs")
            equal = False
    return equal


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--dask", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.toml").write_text(SWEEP, encoding="utf-8")
        began = time.perf_counter()
        subprocess.run(command(folder, "undisturbed"), check=True)
        seconds = time.perf_counter() - began
        print(
            f"undisturbed: {seconds:.0f} s, {batches(folder / 'undisturbed')} batches", flush=True
        )
        if arguments.dask:
            kill_a_worker(folder)
        else:
            kill_and_resume(folder, arguments.kills, random.Random(arguments.seed))
        result = xr.open_dataset(folder / "killed" / "sweep.nc")
        ok = int((result.status == "ok").sum())
        print(f"points {result.sizes['point']}, ok {ok}")
        equal = same(folder / "undisturbed", folder / "killed")
        print("bit for bit equal" if equal else "DIFFERENT")
        sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
