"""Every benchmark of this folder but the sampler's, as Markdown.

taskset -c 0,1 python benchmarks/all.py --out benchmarks/results.md   # two cores
"""

import argparse
from pathlib import Path

import runs
import scaling
import step
import throughput
from timing import machine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    out = parser.parse_args().out
    parts = [f"Measured on {machine()}. Median (quartiles).\n"]
    for benchmark in (step, runs, scaling, throughput):
        parts.append(benchmark.measure())
        print(parts[-1], flush=True)
    if out is not None:
        out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
