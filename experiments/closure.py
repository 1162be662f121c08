"""The tables of C14, docs/claims.md: runs against the closure's prediction at their own size.

featpur dynamics DIR/config.toml --population --out DIR   # for each folder
python experiments/closure.py DIR DIR/sparse-regime
"""

import sys
from pathlib import Path

from featpur_sim.claims.claim import rows
from featpur_sim.claims.of_closure import closure_cases, load_closure
from featpur_sim.runs.folder import load_result


def main(*folders: str) -> None:
    for folder in map(Path, folders):
        result = load_result(folder)
        cases = closure_cases(result, load_closure(folder, result))
        print(f"\n{result.attrs['name']}: run, closure, run over (less) closure, verdict\n")
        for case, row in zip(cases, rows(cases), strict=True):
            what = row["statement"].partition(": ")[2].partition(" (")[0]
            words = case.found.words
            low, high = row["ci"]
            print(
                f"| {what} | {words['direct']:.3g} | {words['closure']:.3g} | "
                f"{row['measured']:.3f} [{low:.3f}, {high:.3f}] | {row['verdict']} |"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
