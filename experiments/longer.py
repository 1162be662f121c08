"""Does longer adversarial training close the distance to the pure network? (docs/theory.md §5.2)

Trains the dense regime four times as long as the preset in the adversarial phase and prints PGD
accuracy at τ along the way, next to the pure network's. About two minutes on two cores:

    python experiments/longer.py
"""

import numpy as np

from featpur_sim.runs.diagnosis import only_finished
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.presets import dense_regime
from featpur_sim.statistics import mean_interval


def main():
    config = dense_regime()
    longer = config.adversarial.model_copy(update={"steps": 4 * config.adversarial.steps})
    result = only_finished(run_experiment(config.model_copy(update={"adversarial": longer})).result)
    tau = int(np.argmin(np.abs(result.relative_radius.values - 1)))
    pure = result.reference_accuracy.sel(reference="pure network", reference_attack="PGD")
    along = result.accuracy_along
    rows = [(f"{step} steps", along.sel(snapshot=step)) for step in along.snapshot.values]
    rows.append(("pure network", pure.isel(radius=tau)))
    for name, values in rows:
        mean, low, high = mean_interval(np.asarray(values, float))
        print(f"{name:13} {mean:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
