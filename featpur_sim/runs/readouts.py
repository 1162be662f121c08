"""Readouts trained anew on the frozen features of a saved run (docs/theory.md §3, C12 and C13).

Which part of a network's robustness sits in its hidden weights, and which in its output weights?
Hidden weights of three kinds get a fresh readout, clean or adversarial, for the run's own labels or
for those of a new w*. What comes out are networks of the same form, attacked and certified as the
run's own are.
"""

import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count
from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.rows import Row
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array
from featpur_sim.attacks.gradient import Attack
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.measure.lanes import Lanes
from featpur_sim.models.symmetric_relu import SymmetricReLU, with_readout
from featpur_sim.runs.build import training_attack
from featpur_sim.runs.config import ConfigError, RunConfig
from featpur_sim.runs.diagnosis import require_finished
from featpur_sim.runs.evaluation import attack_family
from featpur_sim.runs.evaluation_parts import EvaluationParts
from featpur_sim.runs.judged import Judged
from featpur_sim.runs.own import require_plain_phases
from featpur_sim.runs.saved import SavedRun, point_keys
from featpur_sim.training.readout import train_readout, with_open_fraction

# Key of the readouts: no seed of a run uses it.
_STREAM = 2**31 - 3


class Pair(NamedTuple):
    """A row: hidden weights and the readout on them."""

    features: str
    """``clean``, ``purified`` or ``random``."""
    readout: str
    """``own``: that of the run, all 1; ``clean`` or ``adversarial``: trained anew."""
    task: str = "own"
    """``own``: the labels of the run; ``new``: those of another w*."""

    def __str__(self) -> str:
        task = "" if self.task == "own" else ", new labels"
        return f"{self.features} features, {self.readout} readout{task}"


PAIRS = (
    Pair("clean", "own"),
    Pair("purified", "own"),
    Pair("clean", "clean"),
    Pair("purified", "clean"),
    Pair("random", "clean"),
    Pair("clean", "adversarial"),
    Pair("purified", "adversarial"),
    Pair("random", "adversarial"),
    Pair("clean", "clean", "new"),
    Pair("purified", "clean", "new"),
)


@steady
def readout_run(
    run: SavedRun,
    *,
    samples: int | None = None,
    steps: int = 1000,
    seed: int = 1,
    meter: Meter = SILENT,
) -> list[Row]:
    """Train, attack and certify every pair of `PAIRS`, for all seeds that finished.

    Random features are the run's weights before training, with a threshold for each neuron at which
    it is open as often as a neuron of the clean network is on average. The signs of w* that make
    the new labels are drawn for each seed. The adversarial readout meets the attack of the run's
    adversarial phase.

    Args:
        run: from `load_run`.
        samples: test points per seed; the run's own number by default, and so are the attack's
            settings and the number of points that are certified.
        steps: of each readout's training.
        seed: names the test points (0: the run's own), the training samples and the new w*.
        meter: told of the progress.

    Returns:
        Rows with the fields of `Pair` and ``seeds``; ``accuracy`` and ``pgd`` (at τ) of each;
        ``certified`` and ``attacked`` (at τ, of the points that are certified; NaN if none are);
        ``points`` and ``certified_points`` with a label, of one seed; ``steps`` and ``seconds``.

    Raises:
        ResultError: training failed in every seed.
        ConfigError: the run smooths its thresholds, or a setting is out of range.
        Contradiction: an attack breaks a certified point.
    """
    config = run.config
    require_plain_phases(config, "readouts are trained as")
    used = require_finished(run.result)
    samples = config.evaluation.samples if samples is None else count("samples", samples)
    steps, seed = count("steps", steps), count("seed", seed, 0)
    if config.network.smoothing != "none":
        raise ConfigError(
            f"network.smoothing = {config.network.smoothing!r}: readouts are trained without noise "
            "on the thresholds. Take a run with smoothing = 'none'."
        )
    fit_keys, gate_keys, sign_keys = readout_keys(config, seed)
    tasks = both_tasks(run, sign_keys)
    features = frozen_features(run, tasks["own"], gate_keys)
    lanes = {
        task: Lanes(problems, point_keys(config, seed), samples) for task, problems in tasks.items()
    }
    attacks = {"clean": None, "adversarial": training_attack(config.adversarial)}
    rows = []
    for position, pair in enumerate(PAIRS):
        meter.at("readouts", position, len(PAIRS), str(pair))
        began = time.perf_counter()
        networks = features[pair.features]
        if pair.readout != "own":
            kind = attacks[pair.readout]
            attack = None if kind is None else kind(config.adversarial.radius)
            networks = _trained(tasks[pair.task], networks, attack, fit_keys, steps)
        found, counted = _judge(run, str(pair), networks, lanes[pair.task])
        rows.append(
            pair._asdict()
            | {"seeds": [int(s) for s in run.result.seed.values[used]]}
            | {name: [float(value) for value in of[used]] for name, of in found.items()}
            | {name: float(of[used].sum(1).mean()) for name, of in counted.items()}
            | {"steps": steps, "seconds": time.perf_counter() - began}
        )
    meter.at("readouts", len(PAIRS), len(PAIRS))
    return rows


@steady
def readout_keys(config: RunConfig, seed: int) -> tuple[Array, Array, Array]:
    """Keys [S] of the training samples, of the random features' thresholds, of the new signs."""
    root = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), _STREAM), seed)
    own = jax.vmap(lambda s: jax.random.fold_in(root, s))(jnp.arange(config.seeds))
    parts = jax.vmap(lambda key: jax.random.split(key, 3))(own)
    return parts[:, 0], parts[:, 1], parts[:, 2]


@steady
def both_tasks(run: SavedRun, keys: Array) -> dict[str, SparseCoding]:
    """The run's problem and that of the new labels, one for each seed: same z, fresh signs of w*.

    The law of z is symmetric, so where M = I is no loss (§1) the new problem by itself is as hard.
    """
    own = run.problems
    signs = jax.vmap(lambda key, w: jax.random.rademacher(key, w.shape, w.dtype))(keys, own.wstar)
    return {"own": own, "new": eqx.tree_at(lambda p: p.wstar, own, own.wstar * signs)}


@steady
def frozen_features(run: SavedRun, problems: SparseCoding, keys: Array) -> dict[str, SymmetricReLU]:
    """Hidden weights by name, each neuron with its own threshold, so that programs are shared."""
    open_gates = jnp.asarray(run.result.active_fraction.sel(phase="clean").values, jnp.float32)
    ones = jnp.ones(run.networks["clean"].weights.shape[:2])
    return {
        "clean": jax.vmap(with_readout)(run.networks["clean"], ones),
        "purified": jax.vmap(with_readout)(run.networks["adversarial"], ones),
        "random": jax.vmap(lambda network, problem, fraction, key: with_open_fraction(
            network, problem, fraction, key=key
        ))(run.networks["init"], problems, open_gates, keys),
    }  # fmt: skip


def _trained(
    problems: SparseCoding, features: SymmetricReLU, attack: Attack | None, keys: Array, steps: int
) -> SymmetricReLU:
    """A readout for each seed, one seed after another: a program of one serves them all."""
    found = []
    for s, key in enumerate(keys):
        problem, own = jax.tree.map(lambda leaf, s=s: leaf[s], (problems, features))
        found.append(train_readout(problem, own, attack, key=key, steps=steps))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def _judge(
    run: SavedRun, name: str, networks: SymmetricReLU, lanes: Lanes
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Accuracy without attack, under the run's PGD at τ and from both sides at τ, [S] each; which
    points these are of, [S, n] each.
    """
    config = run.config
    radius = np.array([config.adversarial.radius])
    points = min(config.evaluation.certify_points, lanes.samples)
    norm = config.adversarial.norm
    judged = Judged(name, networks, lanes, radius, norm, points, EvaluationParts())
    judged.certify()
    pgd = judged.under(attack_family(config, lanes.problem)["PGD"])[:, 0]
    certified, attacked = (side[:, 1] for side in judged.sides())
    return (
        {"accuracy": judged.clean, "pgd": pgd, "certified": certified, "attacked": attacked},
        {"points": lanes.standing.labelled, "certified_points": judged.judged},
    )
