"""Both sides of the robust accuracy of a saved run: seeds × phases × radii (docs/theory.md §8)."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from featpur_sim.certify import DEFAULT_EFFORT, STAGES, Contradiction, Effort, NotCertified
from featpur_sim.config import ConfigError
from featpur_sim.disk import atomic_path, write_text
from featpur_sim.experiment import seed_keys
from featpur_sim.protocol import STANDARD, Protocol
from featpur_sim.result import to_json
from featpur_sim.sandwich import Sandwich, require_certifiable, squeeze
from featpur_sim.saved import SavedRun
from featpur_sim.statistics import mean_interval

CERTIFICATE, CONTRADICTION = "certificate.json", "contradiction.npz"
PHASES = ("clean", "adversarial")
RADII = (0.5, 1.0, 1.5)
FUNCTION = "real arithmetic"

Row = dict[str, Any]


def certify_run(
    run: SavedRun,
    *,
    radii: Sequence[float] = RADII,
    norm: str | None = None,
    points: int = 1000,
    stages: Sequence[str] | None = None,
    seeds: int | None = None,
    phases: Sequence[str] = PHASES,
    protocol: Protocol = STANDARD,
    seed: int = 1,
    effort: Effort = DEFAULT_EFFORT,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Attack and certify the networks of a saved run on fresh points.

    The points of a seed are the same for all phases and radii, and those of
    `featpur_sim.attack_run.attack_run` with the same ``seed``: ``sample_labelled(key, points)``.

    Args:
        run: from `featpur_sim.saved.load_run`.
        radii: in units of the training radius τ.
        norm: ``"l2"`` or ``"linf"``; by default that of the run.
        points: labelled test points per seed.
        stages: of the certificate; by default all that the norm has.
        seeds: certify only the first so many.
        phases: which networks.
        protocol: the attack.
        seed: names the test points.
        effort: what the certificate may spend.
        advance: called with (done, total) after each network and radius.

    Returns:
        A row for each phase and radius: ``phase, norm, radius`` (units of x), ``relative_radius,
        n`` (points, all seeds); ``attacked, certified``, the fractions that stand and that are
        proved, with the 95 % t-intervals over seeds ``attacked_ci, certified_ci`` (None for one
        seed); ``undecided``, how many points are neither; ``by_stage``, the points that each stage
        decided; ``certified_float32``, the fraction that is proved for inference in float32 too;
        ``seconds_per_point`` by attack and stage, over the points that entered; ``seeds``, per seed
        ``seed, n, attacked, certified, certified_float32, undecided`` (indices of the points);
        ``function, protocol, warnings, stages, test_seed``.

    Raises:
        ConfigError: a setting is out of range.
        NotCertified: this run, norm or stage has no certificate; the message says why.
        Contradiction: an attack breaks a certified point; ``evidence`` names seed and phase too.
    """
    norm = run.config.adversarial.norm if norm is None else norm
    chosen = _check(run, radii, norm, points, stages, seeds, phases)
    keys = seed_keys(run.config)[2][:seeds]
    total = len(keys) * len(phases) * len(radii)
    found: dict[tuple[str, float], list[Sandwich]] = {}
    for position, test_key in enumerate(keys):
        point_key, attack_key = jax.random.split(jax.random.fold_in(test_key, seed))
        batch = run.problem.sample_labelled(point_key, points)
        for phase in phases:
            network = jax.tree.map(lambda leaf, s=position: leaf[s], run.networks[phase])
            for relative in radii:
                try:
                    both = squeeze(
                        network,
                        batch,
                        relative * run.config.adversarial.radius,
                        norm,  # pyright: ignore[reportArgumentType]
                        key=attack_key,
                        direction=run.problem.dense_direction(),
                        protocol=protocol,
                        stages=chosen,
                        effort=effort,
                    )
                except Contradiction as error:
                    error.evidence |= {"seed": position + 1, "phase": phase}
                    raise
                found.setdefault((phase, relative), []).append(both)
                advance(sum(map(len, found.values())), total)
    tau = run.config.adversarial.radius
    common = {"norm": norm, "stages": list(chosen), "test_seed": seed, "function": FUNCTION}
    return [
        {"phase": phase, "radius": relative * tau, "relative_radius": relative}
        | _row(run, sides)
        | common
        for (phase, relative), sides in found.items()
    ]


def _row(run: SavedRun, sides: list[Sandwich]) -> Row:
    """One phase and radius over the seeds."""
    names = run.result.seed.values

    def each(values: Callable[[Sandwich], np.ndarray]) -> list[float]:
        return [float(values(both).mean()) for both in sides]

    attacked = each(lambda both: both.standing)
    certified = each(lambda both: both.certified)
    float32 = each(lambda both: both.float32)
    stages = {name: sum(both.by_stage()[name] for both in sides) for name in sides[0].by_stage()}
    return {
        "n": sum(len(both.lower) for both in sides),
        "attacked": float(np.mean(attacked)),
        "attacked_ci": _interval(attacked),
        "certified": float(np.mean(certified)),
        "certified_ci": _interval(certified),
        "certified_float32": float(np.mean(float32)),
        "undecided": stages["undecided"],
        "by_stage": stages,
        "seconds_per_point": _costs(sides),
        "seeds": [
            {
                "seed": int(names[s]),
                "n": len(both.lower),
                "attacked": attacked[s],
                "certified": certified[s],
                "certified_float32": float32[s],
                "undecided": both.undecided.tolist(),
            }
            for s, both in enumerate(sides)
        ],
        "protocol": sides[0].protocol,
        "warnings": sorted({warning for both in sides for warning in both.warnings}),
    }


def _interval(values: list[float]) -> list[float] | None:
    return list(mean_interval(np.asarray(values))[1:]) if len(values) > 1 else None


def _costs(sides: list[Sandwich]) -> dict[str, float]:
    """Seconds a point by stage, over the points that the stage saw."""
    costs = {}
    for name in sides[0].seconds:
        seconds = sum(both.seconds[name] for both in sides)
        entered = sum(both.evaluated[name] for both in sides)
        costs[name] = seconds / entered if entered else 0.0
    return costs


def _check(run, radii, norm, points, stages, seeds, phases) -> tuple[str, ...]:
    """Refuse what cannot be certified before anything is computed; returns the stages."""
    if norm not in ("l2", "linf"):
        raise NotCertified(f"norm is {norm!r}: certificates exist for 'l2' and 'linf'.")
    bad = [r for r in radii if not (math.isfinite(r) and r > 0)]
    if bad or not radii or len(set(radii)) < len(radii):
        raise ConfigError(
            f"radius = {bad[0] if bad else list(radii)}: radii must be finite, > 0 and differ; "
            "they are in units of the training radius."
        )
    if points < 1:
        raise ConfigError(f"points = {points}: certify at least one point per seed.")
    if seeds is not None and not 1 <= seeds <= run.config.seeds:
        raise ConfigError(f"seeds = {seeds}: the run has {run.config.seeds}; choose 1 to that.")
    unknown = [phase for phase in phases if phase not in run.networks]
    if unknown or not phases:
        raise ConfigError(f"phases = {list(phases)}: choose among {', '.join(run.networks)}.")
    offered = STAGES if norm == "l2" else STAGES[:2]
    wrong = [name for name in stages or () if name not in offered]
    if wrong:
        raise NotCertified(
            f"stages = {wrong[0]!r} does not exist for norm {norm!r}: choose among "
            f"{', '.join(offered)}."
        )
    require_certifiable(run.networks["clean"])
    _require_own_coordinates(run, norm)
    for phase in phases:
        _require_finite(run, phase, seeds)
    return tuple(offered if not stages else (name for name in offered if name in stages))


def _require_own_coordinates(run: SavedRun, norm: str) -> None:
    rotated = run.config.attack_fits_gauge and run.config.problem.dictionary != "identity"
    if norm == "linf" and rotated:
        raise NotCertified(
            "norm is 'linf', but the run was trained in ℓ2, where its dictionary "
            f"'{run.config.problem.dictionary}' is rotated away, and ℓ∞ balls are not the same "
            "after a rotation. Train with adversarial.norm = 'linf', or certify in l2."
        )


def _require_finite(run: SavedRun, phase: str, seeds: int | None) -> None:
    weights = np.asarray(run.networks[phase].weights)[:seeds]
    broken = [s + 1 for s, w in enumerate(weights) if not np.isfinite(w).all()]
    if broken:
        raise NotCertified(
            f"the {phase} weights of seed {broken[0]} are not finite: training diverged. Choose "
            "fewer seeds, or repeat the run with a lower learning_rate."
        )


def save_certificate(directory: str | Path, rows: list[Row]) -> Path:
    """Write ``certificate.json`` atomically; returns its path."""
    path = Path(directory) / CERTIFICATE
    write_text(path, to_json(rows, indent=2) + "\n")
    return path


@contextlib.contextmanager
def keep_contradiction(directory: str | Path) -> Iterator[None]:
    """Write ``contradiction.npz``, plain arrays, if the block ends in a `Contradiction`."""
    try:
        yield
    except Contradiction as error:
        path = Path(directory) / CONTRADICTION
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **error.evidence)
        error.add_note(f"The point, the perturbation and the network are in {path}.")
        raise
