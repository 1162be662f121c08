"""Trained in one norm, attacked in the other (docs/linf.md): the sparse preset at (64, 5), 5 seeds.

Each network is purified by FGM in the ball of τ = 0.3/√k or in the box of ε = τ√(π/2d), which in a
flat dictionary reaches as far, and attacked by PGD in both. Predicted [D] (docs/theory.md §5.4): in
a Haar dictionary it makes no difference which of them trains. Where M = I it does, since the box
pushes harder against mixtures than the ball and less against features.

    python experiments/linf_cross.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from panels import cell

from featpur_sim import PGD, SymmetricReLU, robust_accuracy
from featpur_sim.claims.measured import Counted
from featpur_sim.runs.build import make_problems
from featpur_sim.runs.config import RunConfig, parse, scaled
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import sparse_regime
from featpur_sim.theory.linf import box_radius

D, K, POINTS = 64, 5, 2000
RADII = {"l2": 0.3 / K**0.5, "linf": box_radius(D, 0.3 / K**0.5)}
EVALUATION = {"samples": 500, "radii": [0.0, 1.0], "pgd_steps": 20, "pgd_restarts": 1}


def settings(norm: str, dictionary: str) -> RunConfig:
    """The sparse preset in a norm and a dictionary; w* and M new for every seed."""
    given = sparse_regime(D, K).model_dump(exclude_none=True)
    given["problem"] |= {"dictionary": dictionary, "draw": "per-seed"}
    given["adversarial"] |= {"norm": norm, "radius": scaled(RADII[norm])}
    given["evaluation"] = EVALUATION | {"certify_points": 0}
    return parse(given)


def row(norm: str, dictionary: str) -> list[str]:
    """Accuracies of the purified networks, in the coordinates that the box sees."""
    config = settings(norm, dictionary)
    weights = run_experiment(config).weights
    problems, key = make_problems(config), jax.random.key(1)
    networks = eqx.filter_vmap(SymmetricReLU)(
        jnp.asarray(weights["W_adv"]), jnp.asarray(weights["b_adv"])
    )
    attacks = [None]
    for measure, radius in RADII.items():
        attacks.append(PGD(radius, measure, steps=40))
    cells = []
    for attack in attacks:
        found = robust_accuracy(networks, problems, attack, key=key, n=POINTS)
        cells.append(cell(np.asarray(found.value), Counted(float(np.mean(found.n)), 0.0)))
    return [dictionary, "ℓ2" if norm == "l2" else "ℓ∞", *cells]


def main() -> None:
    print(f"τ = {RADII['l2']:.4f}, ε = {RADII['linf']:.4f}\n")
    print(
        "| M | trained in | clean accuracy | PGD in ℓ2, at τ | PGD in ℓ∞, at ε |\n"
        + "|---" * 5
        + "|"
    )
    for dictionary in ("identity", "haar"):
        for norm in RADII:
            print("| " + " | ".join(row(norm, dictionary)) + " |", flush=True)


if __name__ == "__main__":
    main()
