"""Both sides of the robust accuracy of a saved run: seeds × phases × radii (docs/theory.md §8)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.disk import ResultError, can_write, claim_folder
from featpur_sim._ground.manifest import require_ours
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim.attacks.protocol import STANDARD, Protocol
from featpur_sim.certify import DEFAULT_EFFORT, Effort, NotCertified
from featpur_sim.certify.cascade import chosen
from featpur_sim.measure.both_sides import Sandwich, Squeeze, require_certifiable
from featpur_sim.runs.budget import Budget
from featpur_sim.runs.campaign import Campaign, Part
from featpur_sim.runs.certificate import CERTIFICATE, save_certificate
from featpur_sim.runs.config import ConfigError
from featpur_sim.runs.diagnosis import finished, require_finished
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.runs.saved import SavedRun
from featpur_sim.statistics import fraction_interval
from featpur_sim.training.checkpoint import Checkpoint, CheckpointError
from featpur_sim.training.identity import Identity, identify

# The folder of the state to go on from; the number changes with what it holds or means.
STATE, FORMAT = "certificate-state", 2
PHASES = ("clean", "adversarial")
RADII = (0.5, 1.0, 1.5)
FUNCTION = "real arithmetic"
_NAMES = {
    "cheap": "the quick attack, linear and q1",
    "attack": "the attack",
    "q2": "q2",
    "branch": "branch and bound",
}


@steady
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
    budget: Budget | None = None,
    directory: str | Path | None = None,
    every: float = 5.0,
    meter: Meter = SILENT,
) -> list[Row]:
    """Attack and certify the networks of a saved run on fresh points.

    The points of a seed are the same for all phases and radii, and those of
    `featpur_sim.runs.attack.attack_run` with the same ``seed``: ``sample_labelled(key, points)``.

    What is done in which order: `featpur_sim.runs.campaign`.

    Args:
        run: from `featpur_sim.runs.saved.load_run`.
        radii: in units of the training radius τ.
        norm: ``"l2"`` or ``"linf"``; by default that of the run.
        points: labelled test points per seed.
        stages: of the certificate; by default all.
        seeds: certify only the first so many.
        phases: which networks.
        protocol: the attack.
        seed: names the test points.
        effort: what the certificate may spend.
        budget: when to stop, with what is decided by then; by default, when all is done.
        directory: where ``certificate.json`` and the state to resume from are written during the
            work; a state found there is resumed if it has the same settings and networks.
        every: seconds between these writes.
        meter: told of the points of a stage as they get done, and in a sentence what will be done;
            with a budget also how long it takes.

    Returns:
        A row for each phase and radius, over the seeds whose training worked: ``phase, norm,
        radius`` (units of x), ``relative_radius,
        n`` (points, all seeds); ``attacked, certified``, the fractions that stand and that are
        proved, with the 95 % t-intervals over seeds ``attacked_ci, certified_ci`` (None for one
        seed); ``undecided``, how many points are neither; ``waiting``, for which stage how many of
        them wait (``spent``: for none; ``check``: certified points that the attack has not yet
        been run against); ``by_stage``, the points that each stage
        decided; ``certified_float32``, the fraction that is proved for inference in float32 too;
        ``seconds_per_point`` by attack and stage, over the points that entered; ``seeds``, per seed
        ``seed, n, attacked, certified, certified_float32, undecided`` (indices of the points);
        ``function, protocol, warnings, stages, test_seed``.

    Raises:
        ConfigError: a setting is out of range.
        NotCertified: this run, norm or stage has no certificate; the message says why.
        ResultError: training failed in every seed, ``directory`` cannot be written to, or its
            ``certificate.json`` was not written by us or was changed since.
        Contradiction: an attack breaks a certified point; ``evidence`` names seed and phase too.
    """
    norm = run.config.adversarial.norm if norm is None else norm
    names = _check(run, radii, norm, points, stages, seeds, seed, phases)
    if directory is not None:
        require_ours(directory, CERTIFICATE)
    budget = Budget() if budget is None else budget
    used = require_finished(run.result.isel(seed=slice(seeds)))
    parts: list[Part] = []
    for position, test_key in enumerate(seed_keys(run.config)[2][:seeds]):
        if not used[position]:
            continue
        point_key, attack_key = jax.random.split(jax.random.fold_in(test_key, seed))
        problem = run.problem_of(position)
        batch = problem.sample_labelled(point_key, points)
        for phase in phases:
            network = jax.tree.map(lambda leaf, s=position: leaf[s], run.networks[phase])
            first = Squeeze(
                network,
                batch,
                radii[0] * run.config.adversarial.radius,
                norm,  # pyright: ignore[reportArgumentType]
                attack_key,
                problem.dense_direction(),
                protocol,
                names,
                effort,
            )
            for relative in radii:
                tau = relative * run.config.adversarial.radius
                squeeze = first.anew(np.arange(points), tau)
                parts.append(Part(position + 1, phase, relative, squeeze))

    def rows(campaign: Campaign) -> list[Row]:
        tau = run.config.adversarial.radius
        common = {"norm": norm, "stages": list(names), "test_seed": seed, "function": FUNCTION}
        return [
            {"phase": phase, "radius": relative * tau, "relative_radius": relative}
            | _row(run, campaign, phase, relative)
            | common
            for phase in phases
            for relative in radii
        ]

    campaign = Campaign(parts, protocol, budget, meter=meter)
    if directory is None:
        _announce(campaign, budget)
        campaign.run()
        return rows(campaign)
    identity = identify(
        [(p.squeeze.model, p.squeeze.points, p.squeeze.radius, p.squeeze.key) for p in parts],
        (norm, names, protocol, effort, FORMAT),
        settings={
            "norm": norm,
            "points": points,
            "radius": list(radii),
            "stages": names,
            "seeds": seeds,
            "phases": list(phases),
            "protocol": f"{protocol.name}/{protocol.version}",
            "seed": seed,
            "effort": effort,
        },
        parts={"networks": run.networks, "problems": run.problems, "format": FORMAT},
    )
    with _claimed(directory):
        state = Checkpoint(Path(directory) / STATE, every=every)
        _resume(campaign, state, identity)

        def save(force: bool = False) -> None:
            if state.save_if_due(0, campaign.pack, identity, force=force):
                save_certificate(directory, rows(campaign))

        campaign.saved = save
        _announce(campaign, budget)
        campaign.run()
        save(force=True)
    return rows(campaign)


@contextlib.contextmanager
def _claimed(directory: str | Path) -> Iterator[None]:
    """Hold the run's folder; where it cannot be written to, say what can be done."""
    if not can_write(directory):
        raise ResultError(
            f"cannot write to {directory}, where the certificate belongs: copy the run to a folder "
            "that can be written to, or pass --json to print the result instead."
        )
    with claim_folder(directory):
        yield


def _resume(campaign: Campaign, state: Checkpoint, identity: Identity) -> None:
    """Go on from the folder's state if it belongs to the same question."""
    try:
        found = state.restore(identity)
    except CheckpointError as error:
        campaign.meter.note(
            f"the folder's certificate is another one ({error.what}): starting anew."
        )
        return
    if found is not None:
        campaign.unpack(found[1])
        undecided = sum(int(part.squeeze.open.sum()) for part in campaign.parts)
        total = sum(len(part.squeeze.points) for part in campaign.parts)
        if campaign.stage == len(campaign.stages):
            campaign.meter.note("the work was done by an earlier command.")
        else:
            campaign.meter.note(
                f"going on where an earlier command stopped: {total - undecided} of {total} points "
                "are decided."
            )


def _announce(campaign: Campaign, budget: Budget) -> None:
    """Say how long the cheap stages will take, if there is a budget to keep to."""
    campaign.tell()  # before the first program compiles
    note = campaign.meter.note
    if not budget.limited or not (seconds := campaign.estimate()):
        return
    limit = f"the {budget.seconds / 60:g} minutes allow"
    if not budget.holds(seconds):
        advice = "a larger --minutes, or fewer --points, --seeds or radii, decide more"
        note(f"about {_time(seconds)} for attack, linear and q1, more than {limit}: {advice}.")
    else:
        note(f"about {_time(seconds)} for attack, linear and q1; the rest as far as {limit}.")


def _time(seconds: float) -> str:
    """Seconds in words.

    >>> _time(20), _time(70), _time(400)
    ('half a minute', 'a minute', '7 minutes')
    """
    if seconds < 45:
        return "half a minute" if seconds > 15 else "a few seconds"
    return "a minute" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def closing(rows: list[Row], command: str, minutes: float) -> str:
    """One line on what stayed open and why, and how to go on.

    Args:
        rows: of `certify_run`.
        command: what was typed, without ``--minutes``.
        minutes: that were allowed.

    Returns:
        The line.
    """
    waiting = {
        name: sum(row["waiting"].get(name, 0) for row in rows) for name in rows[0]["waiting"]
    }
    undecided = sum(row["undecided"] for row in rows)
    total = sum(row["n"] for row in rows)
    check, spent = waiting.pop("check", 0), waiting.pop("spent")
    cut = {_NAMES[name]: count for name, count in waiting.items() if count}
    reasons = [f"{count} wait for {name}" for name, count in cut.items()]
    if spent:
        last = rows[0]["stages"][-1]
        limit = "reached its limit of nodes" if last == "branch" else f"is past its {last}"
        reasons.append(f"at {spent} the search {limit}")
    said = f"open: {undecided} of {total} points" if undecided else f"all {total} points decided"
    said += f" ({', '.join(reasons)})" if reasons else ""
    if check:
        said += (
            f"; {check} certified points not yet attacked with {rows[0]['protocol']}, as a check"
        )
    if not (cut or check):
        return said + "."
    more = f"{3 * minutes:g}"
    return f"{said}. The {minutes:g} minutes ended; this goes on: {command} --minutes {more}"


def _row(run: SavedRun, campaign: Campaign, phase: str, relative: float) -> Row:
    """One phase and radius over the seeds."""
    places = [
        place
        for place, part in enumerate(campaign.parts)
        if (part.phase, part.relative) == (phase, relative)
    ]
    sides = [campaign.sandwich(place) for place in places]
    waiting = [campaign.waiting(place) for place in places]
    names = [run.result.seed.values[campaign.parts[place].seed - 1] for place in places]

    def each(values: Callable[[Sandwich], np.ndarray]) -> list[float]:
        return [float(values(both).mean()) for both in sides]

    attacked = each(lambda both: both.standing)
    certified = each(lambda both: both.certified)
    float32 = each(lambda both: both.float32)
    stages = {name: sum(both.by_stage()[name] for both in sides) for name in sides[0].by_stage()}
    return {
        "n": sum(len(both.lower) for both in sides),
        "attacked": float(np.mean(attacked)),
        "attacked_ci": _interval(attacked, len(sides[0].lower)),
        "certified": float(np.mean(certified)),
        "certified_ci": _interval(certified, len(sides[0].lower)),
        "certified_float32": float(np.mean(float32)),
        "undecided": stages["undecided"],
        "waiting": {name: sum(each[name] for each in waiting) for name in waiting[0]},
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


def _interval(values: list[float], points: int) -> list[float] | None:
    return list(fraction_interval(values, points)[1:]) if len(values) > 1 else None


def _costs(sides: list[Sandwich]) -> dict[str, float]:
    """Seconds a point by stage, over the points that the stage saw."""
    costs = {}
    for name in sides[0].seconds:
        seconds = sum(both.seconds[name] for both in sides)
        entered = sum(both.evaluated[name] for both in sides)
        costs[name] = seconds / entered if entered else 0.0
    return costs


def _check(run, radii, norm, points, stages, seeds, seed, phases) -> tuple[str, ...]:
    """Refuse what cannot be certified before anything is computed; returns the stages."""
    if norm not in ("l2", "linf"):
        raise NotCertified(f"norm is {norm!r}: certificates exist for 'l2' and 'linf'.")
    for radius in radii:
        number("a radius, in units of the run's own,", radius, above=0)
    if not radii or len(set(radii)) < len(radii):
        raise ConfigError(
            f"radius = {list(radii)}: give at least one radius, and each once; they are in units "
            "of the training radius."
        )
    count("points", points)
    count("seed", seed, 0)
    if seeds is not None and count("seeds", seeds) > run.config.seeds:
        raise ConfigError(f"seeds = {seeds}: the run has {run.config.seeds}; choose 1 to that.")
    unknown = [phase for phase in phases if phase not in run.networks]
    if unknown or not phases:
        raise ConfigError(f"phases = {list(phases)}: choose among {', '.join(run.networks)}.")
    wanted = chosen(stages or None)
    require_certifiable(run.networks["clean"])
    _require_own_coordinates(run, norm)
    for phase in phases:
        _require_finite(run, phase, seeds)
    return wanted


def _require_own_coordinates(run: SavedRun, norm: str) -> None:
    rotated = run.config.in_gauge and run.config.problem.dictionary != "identity"
    if norm == "linf" and rotated:
        raise NotCertified(
            "norm is 'linf', but the run was trained in ℓ2, where its dictionary "
            f"'{run.config.problem.dictionary}' is rotated away, and ℓ∞ balls are not the same "
            "after a rotation. Train with adversarial.norm = 'linf', or certify in l2."
        )


def _require_finite(run: SavedRun, phase: str, seeds: int | None) -> None:
    weights = np.asarray(run.networks[phase].weights)[:seeds]
    used = finished(run.result)
    broken = [s + 1 for s, w in enumerate(weights) if used[s] and not np.isfinite(w).all()]
    if broken:
        raise NotCertified(
            f"the {phase} weights of seed {broken[0]} are not finite: training diverged. Choose "
            "fewer seeds, or repeat the run with a lower learning_rate."
        )
