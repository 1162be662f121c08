"""The tables of docs/claims.md about the headline run, and its verdicts, from the run's folder.

featpur reproduce                  # and again with --seed 1000 --out fresh
python experiments/headline.py featpur-out
python experiments/headline.py fresh
python experiments/headline.py box      # featpur reproduce --norm linf --out box
"""

import argparse
import json
from pathlib import Path

import numpy as np
import xarray as xr

from featpur_sim.claims.measured import Counted, interval
from featpur_sim.runs.folder import RESULT, SCORECARD

PHASES = ("clean", "adversarial")
COUNTS = (
    "supported",
    "contradicted",
    "inconclusive at this size",
    "outside the prediction's range",
)


class Run:
    """A finished run, and its numbers in print."""

    def __init__(self, folder: Path, rows: list[dict]):
        self.data = xr.load_dataset(folder / RESULT)
        self.verdicts = [row for row in rows if row["regime"] == self.data.attrs["name"]]
        excluded = float(self.data.excluded_fraction.mean())
        self.points = self.data.attrs["test_samples"] * (1 - excluded)

    def at(self, name: str, relative: float = 1.0, **labels: str) -> np.ndarray:
        """A variable at so many τ, one value per seed."""
        chosen = self.data[name].sel(labels)
        place = int(np.argmin(np.abs(self.data.relative_radius.values - relative)))
        return chosen.isel(radius=place).values

    def fraction(self, values: np.ndarray, least: float = 0.0) -> str:
        """A fraction of test points (least = −1: a difference of two) with its interval."""
        return _print(interval(values, Counted(self.points, least)), 3)

    def plain(self, values: np.ndarray, digits: int = 4) -> str:
        """Anything else with its interval."""
        return _print(interval(values), digits)

    def change(self, **labels) -> str:
        """Accuracy under an attack after both phases."""
        cells = (self.fraction(self.at("robust_accuracy", phase=p, **labels)) for p in PHASES)
        return " → ".join(cells)

    def overlap(self) -> str:
        names = ("theta_init_clean", "theta_init_adversarial", "theta_clean_adversarial")
        carrier = self.data.carrier.sel(phase="clean").values.astype(bool)
        medians = (
            np.mean([np.median(v[c]) for v, c in zip(self.data[n].values, carrier, strict=True)])
            for n in names
        )
        return " / ".join(_short(value, 2) for value in medians)


def _short(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _print(found: tuple[float, float, float], digits: int) -> str:
    if np.isnan(found[0]):
        return "–"
    mean, low, high = (_short(value, digits) for value in found)
    return f"{mean} [{low}, {high}]"


def rows(run: Run) -> dict[str, str]:
    """What the tables show of one regime."""
    data = run.data
    side = {
        (side, phase): run.at(f"{side}_accuracy", phase=phase)
        for side in ("certified", "attacked")
        for phase in PHASES
    }
    proved, broken = side["certified", "adversarial"], side["attacked", "clean"]
    pure = run.at("reference_accuracy", reference="pure network", reference_attack="PGD")
    start = [run.at("robust_accuracy", 0.0, phase=p, attack="FGM") for p in PHASES]
    mixture = {p: data.kappa_over_alpha.sel(phase=p).values for p in PHASES}

    def both(phase):
        return ", ".join(run.fraction(side[s, phase]) for s in ("certified", "attacked"))

    def along(name, digits):
        means = (float(data[name].sel(phase=p).mean()) for p in ("init", *PHASES))
        return " → ".join(_short(mean, digits) for mean in means)

    return {
        "clean accuracy": " → ".join(map(run.fraction, start)),
        "dense attack": run.change(attack="dense mixture"),
        "PGD": run.change(attack="PGD"),
        "PGD on the support of z": run.change(attack="PGD on support"),
        "random noise of norm τ": run.change(attack="random noise"),
        "pure network, PGD": run.fraction(pure),
        "clean: certified, attacked": both("clean"),
        "purified: certified, attacked": both("adversarial"),
        "purified certified − pure network's PGD": run.fraction(proved - pure, -1.0),
        "purified certified − clean attacked": run.fraction(proved - broken, -1.0),
        "attacked − certified, purified": run.fraction(
            side["attacked", "adversarial"] - proved, -1
        ),
        "κ/α": " → ".join(map(run.plain, mixture.values())),
        "k/d": _short(data.attrs["k"] / data.attrs["d"], 3),
        "active fraction, clean → purified": along("active_fraction", 2).split(" → ", 1)[1],
        "θ init·clean / init·adversarial / clean·adversarial": run.overlap(),
        "purity (Sun et al.): start → clean → purified": along("purity", 2),
        "distance from one feature a neuron": along("pure_distance", 2),
        "verdicts: supported, contradicted, inconclusive, outside": verdicts(run, "verdict"),
        "the same, so many rows held together": f"{verdicts(run, 'verdict_simultaneous')} of "
        f"{run.verdicts[0]['held_together']}",
    }


def verdicts(run: Run, field: str) -> str:
    given = [row[field] for row in run.verdicts]
    return ", ".join(str(given.count(word)) for word in COUNTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of 'featpur reproduce'")
    folder = parser.parse_args().folder
    # The scorecard of the command's folder has the rows of both regimes.
    scorecard = json.loads((folder / SCORECARD).read_text(encoding="utf-8"))
    dense, sparse = (Run(path, scorecard) for path in (folder, folder / "sparse-regime"))
    print("| | dense regime, d = 100, k = 5 | sparse regime, d = 64, k = 5 |\n|---|---|---|")
    for (name, one), other in zip(rows(dense).items(), rows(sparse).values(), strict=True):
        print(f"| {name} | {one} | {other} |")
    print("\n| regime | claim | measured | verdict | held together |\n|---|---|---|---|---|")
    for row in scorecard:
        measured = _print((row["measured"], *(row["ci"] or (np.nan, np.nan))), 4)
        cells = row["regime"], f"{row['id']}: {row['statement']}", measured
        print("| " + " | ".join([*cells, row["verdict"], row["verdict_simultaneous"]]) + " |")
