"""Around both presets: every setting halved and doubled, and what is left of the headline.

The presets were picked by eye; this says what lies beside them. Seeds of its own (`--seed 2000`,
three of them). Every row trains and measures one run; rows that the file OUT holds are not run
again. Verdicts are counted as in `featpur reproduce`, each row by itself.

    python experiments/preset_scan.py scan.json
"""

import argparse
import json
from pathlib import Path

from featpur_sim.claims.of_run import scorecard
from featpur_sim.runs.config import RunConfig, parse
from featpur_sim.runs.diagnosis import only_finished
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import dense_regime, sparse_regime

PRESETS = {"dense": dense_regime, "sparse": sparse_regime}
# What is scaled, by one factor together.
SETTINGS = {
    "k": ["problem.k"],
    "σ_x": ["problem.sigma_x"],
    "m": ["network.neurons"],
    "σ₀": ["network.sigma_0"],
    "τ": ["adversarial.radius"],
    "threshold": ["clean.bias.stop"],
    "η": ["clean.learning_rate", "adversarial.learning_rate"],
    "λ": ["clean.weight_decay", "adversarial.weight_decay"],
    "batch": ["clean.batch", "adversarial.batch"],
    "clean steps": ["clean.steps"],
    "adversarial steps": ["adversarial.steps"],
}
COUNTS = (
    "supported",
    "contradicted",
    "inconclusive at this size",
    "outside the prediction's range",
)
HEAD = (
    "setting, factor",
    "clean accuracy",
    "PGD at τ",
    "certified at τ, purified",
    "κ/α",
    "verdicts: supported, contradicted, inconclusive, outside",
)


def scaled(config: RunConfig, paths: list[str], factor: float) -> RunConfig:
    """The settings with some of them multiplied; whole numbers stay whole."""
    settings = config.model_dump()
    for path in paths:
        *parents, name = path.split(".")
        section = settings
        for parent in parents:
            section = section[parent]
        value = section[name] * factor
        section[name] = round(value) if isinstance(section[name], int) else value
    return parse(settings)


def measure(config: RunConfig) -> list[str]:
    """The cells of a row after its name; what failed is said, not averaged away."""
    result = run_experiment(config).result
    ok = only_finished(result)
    failed = result.sizes["seed"] - ok.sizes["seed"]
    if not ok.sizes["seed"]:
        return [f"all {failed} seeds failed: {result.reason.values[0]}"] + [""] * 4

    def pair(name: str, digits: int = 3, **labels) -> str:
        values = (float(ok[name].sel(phase=p, **labels).mean()) for p in ("clean", "adversarial"))
        return " → ".join(f"{value:.{digits}f}" for value in values)

    tau, zero = ok.radius.values[-1], ok.radius.values[0]
    certified = float(ok.certified_accuracy.sel(phase="adversarial", radius=tau).mean())
    verdicts = [row["verdict"] for row in scorecard(result)]
    return [
        pair("robust_accuracy", attack="PGD", radius=zero),
        pair("robust_accuracy", attack="PGD", radius=tau),
        f"{certified:.3f}",
        pair("kappa_over_alpha", 4),
        ", ".join(str(verdicts.count(word)) for word in COUNTS)
        + (f" ({failed} seeds failed)" if failed else ""),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="JSON file of the rows; what it holds is kept")
    parser.add_argument("--only", nargs="*", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=2000)
    options = parser.parse_args()
    done = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    variants = {"as it is": ([], 1.0)} | {
        f"{name}, × {word}": (paths, factor)
        for name, paths in SETTINGS.items()
        for word, factor in (("½", 0.5), ("2", 2.0))
    }
    for preset in options.only:
        base = PRESETS[preset](seeds=options.seeds, seed=options.seed).model_dump()
        base["evaluation"] |= {"radii": [0.0, 1.0], "pgd_restarts": 1, "pgd_steps": 20}
        print(
            f"\n| {preset} regime: " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True
        )
        for name, (paths, factor) in variants.items():
            key = f"{preset}: {name}"
            if key not in done:
                done[key] = measure(scaled(parse(base), paths, factor))
                part = options.out.with_suffix(".part")
                part.write_text(json.dumps(done, ensure_ascii=False, indent=1), encoding="utf-8")
                part.replace(options.out)
            print("| " + " | ".join([name, *done[key]]) + " |", flush=True)
