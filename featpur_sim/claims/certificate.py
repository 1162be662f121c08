"""A certificate made after the run, which claim C5 is judged by (docs/claims.md).

``featpur certify`` has stronger stages than the run itself; where it covers what C5 compares, the
claim is judged by it.
"""

import xarray as xr

from featpur_sim.claims.claim import Row
from featpur_sim.claims.run_measures import nearest
from featpur_sim.runs.certify import FUNCTION

_PHASES = ("clean", "adversarial")


def with_certificate(result: xr.Dataset, rows: list[Row]) -> xr.Dataset:
    """The result with both sides at τ as certificate.json has them, if it covers them.

    It does if it is of the run's norm, of the function in real arithmetic, of both phases at τ, of
    every seed of the result, and of no fewer labelled points than the run's own.

    Args:
        result: of a run, the seeds that count.
        rows: of certificate.json; may be empty.

    Returns:
        The result, or a copy whose ``certified_accuracy`` and ``attacked_accuracy`` [seed, phase,
        radius] hold τ alone, with the attributes ``certified_labelled`` (points per seed) and
        ``certified_by``.
    """
    seeds = [int(seed) for seed in result.seed.values]
    at_tau = {
        row["phase"]: row
        for row in rows
        if abs(row["relative_radius"] - 1) < 1e-6
        and row["norm"] == result.attrs["norm"]
        and row["function"] == FUNCTION
    }
    if not set(_PHASES) <= set(at_tau):
        return result
    found = {(p, s["seed"]): s for p in _PHASES for s in at_tau[p]["seeds"]}
    if not all((phase, seed) in found for phase in _PHASES for seed in seeds):
        return result
    least = min(found[phase, seed]["n"] for phase in _PHASES for seed in seeds)
    labelled = 1 - float(result.excluded_fraction.mean())
    if least < max(1, result.attrs.get("certify_points", 0) * labelled):
        return result
    radius = result.radius.values[[nearest(result, 1)]]
    sides = {
        f"{side}_accuracy": (
            ("seed", "phase", "radius"),
            [[[found[phase, seed][side]] for phase in _PHASES] for seed in seeds],
        )
        for side in ("certified", "attacked")
    }
    own = [name for name in sides if name in result]
    at = {"seed": seeds, "phase": list(_PHASES), "radius": radius}
    proved = xr.Dataset(sides, at).reindex(phase=result.phase, radius=result.radius)
    stages = ", ".join(at_tau["adversarial"]["stages"])
    protocol = at_tau["adversarial"]["protocol"]
    return (
        result.drop_vars(own)
        .merge(proved)
        .assign_attrs(
            certified_labelled=least,
            certified_by=f"certificate.json: {least} labelled points per seed, attack {protocol}, "
            f"stages {stages}",
        )
    )
