"""A survey that costs next to nothing, for tests of how sweeps are run."""

import jax
import numpy as np
import xarray as xr

from featpur_sim.measure.weights import decompose, summarise
from featpur_sim.runs.diagnosis import diagnose
from featpur_sim.training.step import Status


def quick_survey(problem, run, keys, evaluation, tau, norm, *, memory=0, keep=()):
    """The last α_max and κ/α of every lane and phase."""
    found = {}
    for name in ("alpha_max", "kappa_over_alpha"):
        columns = [
            jax.vmap(lambda w, p: summarise(decompose(w, p), p))(network.weights, problem)[name]
            for network in run.networks.values()
        ]
        values = np.stack(columns, axis=1).astype(float)
        values[run.status != Status.OK] = np.nan
        found[name] = (("lane", "phase"), values, {"long_name": name, "source": "[M]"})
    found["status"] = ("lane", np.array([Status(int(s)).name.lower() for s in run.status]))
    found["reason"] = ("lane", diagnose(
        found["status"][1].tolist(), run.status_step, run.record_phase, run.records, 0.0
    ).reason)  # fmt: skip
    found["reason"] = ("lane", np.where(run.status == Status.OK, "", found["reason"][1]))
    found["status_step"] = ("lane", run.status_step)
    return xr.Dataset(found, {"phase": list(run.networks)})


def noting_survey(*arguments, memory, keep=()):
    """The same, with the bytes that it may take."""
    found = quick_survey(*arguments)
    return found.assign(memory=("lane", np.full(found.sizes["lane"], memory)))
