"""One run end to end: settings → training → attacks → measurement → one labelled Dataset.

The order of docs/theory.md: problem (§1), network (§2), two phases (§3), weights (§4), accuracies
under attack (§5). Everything here is glue; each step has its own module.
"""

import platform
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from featpur_sim._ground.meter import SILENT, Meter
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Scalar
from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.attacks.gradient import DenseMixture
from featpur_sim.measure.stationarity import measure_stationarity
from featpur_sim.measure.weights import decompose, summarise
from featpur_sim.models.symmetric_relu import SymmetricReLU, initialise
from featpur_sim.runs import dataset, evaluation
from featpur_sim.runs.build import make_network, make_phases, make_problem, make_problems, simulated
from featpur_sim.runs.config import ConfigError, RunConfig
from featpur_sim.runs.evaluation_parts import EvaluationParts
from featpur_sim.runs.memory import require_memory
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.course import Record, TrainingRun
from featpur_sim.training.devices import spread
from featpur_sim.training.identity import identify
from featpur_sim.training.loop import (
    Moment,
    Observe,
    replicate,
    require_observed,
    train_many,
)

# Steps of the adversarial phase, as fractions, at which the distance to the pure network is read.
SNAPSHOT_FRACTIONS = (0.1, 1 / 3, 2 / 3, 1.0)
# Fresh samples at every record; twice the held-out ones cost what the two losses did together.
STATIONARITY_SAMPLES = 2048


class Experiment(NamedTuple):
    """What a run leaves: the labelled results and the weights, in the user's coordinates."""

    result: xr.Dataset
    weights: dict[str, np.ndarray]


class Watch(eqx.Module):
    """The observer of a run: weight statistics, active fraction, accuracy on the dense attack, and
    both sides of the stationarity identity of the phase's own loss.
    """

    radius: Scalar
    norm: Norm = eqx.field(static=True)
    also: Observe | None = None
    """What a user observes beside it."""

    def __call__(self, moment: Moment) -> dict[str, Scalar]:
        network, problem, batch, phase, key = moment
        dense = DenseMixture.of(problem, self.radius, self.norm)
        margin = attacked_margin(network, batch, dense, key=jax.random.key(0))
        labelled = jnp.maximum(jnp.sum(batch.labelled), 1)
        # The same samples at every record would repeat their error, and no mean would lower it.
        sample_key, attack_key = jax.random.split(key)
        fresh = problem.sample(sample_key, STATIONARITY_SAMPLES)
        rest = measure_stationarity(
            network, problem, fresh, phase.attack, weight_decay=phase.weight_decay, key=attack_key
        )
        found = {
            **summarise(decompose(network.weights, problem), problem),
            "active_fraction": jnp.mean(network.active(batch.x).astype(jnp.float32)),
            "dense_attack_accuracy": jnp.sum(margin > 0) / labelled,
            "stationarity_weights": rest.weights,
            "push_dense": rest.dense,
            "push_pure": rest.pure,
        }
        if self.also is not None:
            own = self.also(moment)
            require_observed(own, found)
            found |= own
        return found


@steady
def run_experiment(
    config: RunConfig,
    *,
    meter: Meter = SILENT,
    checkpoint: str | Path | None = None,
) -> Experiment:
    """Train, attack and measure, all seeds at once.

    Args:
        config: see `featpur_sim.runs.config` and `featpur_sim.runs.presets`.
        meter: told of the progress.
        checkpoint: folder to save training and the evaluation in and to resume from, bit for bit.

    Returns:
        An `Experiment`.

    Raises:
        ConfigError: a setting contradicts another (dictionary and size, law and k, …), or the run
            would not fit in memory.
        CheckpointError: the checkpoint belongs to other settings.
        Contradiction: an attack breaks a certified point: the certificate or the arithmetic is
            wrong.
    """
    check(config)
    began = time.perf_counter()
    given = make_problems(config)
    problems = simulated(config, given)
    init_keys, train_keys, test_keys, tuning_keys = seed_keys(config)
    trained = _train(config, problems, init_keys, train_keys, meter, checkpoint)
    trained_seconds = time.perf_counter() - began
    lanes, scores = _evaluate(config, problems, trained, test_keys, tuning_keys, meter, checkpoint)
    result = dataset.assemble(config, lanes, trained, scores)
    result.attrs |= {
        "wall_seconds": time.perf_counter() - began,
        "training_seconds": trained_seconds,
        "platform": f"{platform.platform()}, {jax.devices()[0].device_kind}, jax {jax.__version__}",
    }
    return Experiment(result, dataset.weights(config, given, problems, trained))


@steady
def check(config: RunConfig) -> None:
    """Find what is wrong with a run's settings before anything is computed.

    Raises:
        ConfigError: as for `run_experiment`.
    """
    require_memory(config)
    try:
        make_problem(config, 1)
        make_phases(config)
        if config.parts.network is not None:
            make_network(config, jax.random.key(0))
        initialise(
            2, 1, sigma_rho=config.network.sigma_rho, smoothing=config.network.smoothing,
            key=jax.random.key(0),
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from None


@steady
def seed_keys(config: RunConfig) -> tuple[Array, Array, Array, Array]:
    """Keys [S] for the start, the training samples, the test points and the tuning points.

    Seed s of a run depends on (config.seed, s) alone, not on how many seeds run beside it.
    """
    parts = _seed_keys(config.seed, config.seeds)
    return parts[0], parts[1], parts[2], parts[3]


@partial(jax.jit, static_argnums=1)
def _seed_keys(seed, seeds):
    root = jax.random.key(seed)
    keys = jax.vmap(lambda s: jax.random.fold_in(root, s))(jnp.arange(1, seeds + 1))
    parts = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    return [parts[:, i] for i in range(4)]


def _train(config, problems, init_keys, train_keys, meter, checkpoint) -> TrainingRun:
    networks = eqx.filter_vmap(lambda key: make_network(config, key))(init_keys)
    phases = replicate(make_phases(config), config.seeds)
    a = config.adversarial
    problems, networks, phases, keys = spread((problems, networks, phases, train_keys))
    # The evaluation may change under a training that goes on.
    asked = config.identity("name", "evaluation")

    def resumed(phase: str, step: int, steps: int) -> None:
        where = f"going on at step {step} of {steps} of the {phase} phase"
        meter.note(f"{config.name}: {where if step < steps else 'training is done'}.")

    return train_many(
        problems,
        networks,
        phases,
        keys=keys,
        observe=Watch(jnp.float32(a.radius), a.norm, config.parts.observe),
        records=config.records,
        snapshots={"adversarial": sorted({round(f * a.steps) for f in SNAPSHOT_FRACTIONS})},
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint, settings=asked),
        on_record=partial(_tell, meter),
        on_resume=resumed,
    )


def _tell(meter: Meter, record: Record) -> None:
    """Loss, accuracy and κ/α of a record, means over the seeds that have a value."""

    def mean(name: str) -> float:
        values = record.values[name]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    words = (
        f"loss {mean('loss'):.3f}  accuracy {mean('accuracy'):.3f}  "
        f"κ/α {mean('kappa_over_alpha'):+.4f}"
    )
    if failed := int(np.count_nonzero(record.values["status"])):
        words += f"  {failed} seed(s) dead or diverged"
    meter.at(f"{record.phase} training", record.step, record.steps, words)


def _evaluate(config, problems, trained: TrainingRun, test_keys, tuning_keys, meter, checkpoint):
    """The seeds as lanes, and every accuracy of the run, as a `Scores`."""
    networks = (trained.networks, trained.snapshots)
    compared = (evaluation.ATTACKS, dataset.REFERENCE_ATTACKS)
    asked = config.identity()
    identity = identify(
        (asked, networks, compared), settings=asked, parts={"networks": trained.networks}
    )
    parts = EvaluationParts(checkpoint, identity)
    if parts.anew:
        meter.note(f"{config.name}: the evaluation is computed anew ({parts.anew}).")
    if len(parts):
        meter.note(f"{config.name}: {len(parts)} parts of the evaluation are done.")
    clean = trained.networks["clean"]
    evaluator = evaluation.Evaluator(config, problems, test_keys, clean, parts)
    pure, pure_bias = evaluator.best_pure_network(tuning_keys, meter)
    references: dict[str, SymmetricReLU] = {
        evaluation.REFERENCES[0]: pure,
        **evaluation.surgery(trained.networks, evaluator.lanes),
    }
    scores = dataset.Scores(
        networks=evaluator.judge(trained.networks, evaluation.ATTACKS, meter),
        references=evaluator.judge(
            references, dataset.REFERENCE_ATTACKS, meter, "attacks on references"
        ),
        pure_bias=pure_bias,
        excluded=parts.kept("excluded", evaluator.lanes.excluded),
        along={
            step: parts.kept(f"step {step}", partial(evaluator.accuracy, network, "PGD"))
            for (_, step), network in trained.snapshots.items()
        },
        margins=np.stack(
            [
                parts.kept(f"{name}: margins", partial(evaluator.dense_margins, network))
                for name, network in trained.networks.items()
            ],
            axis=1,
        ),
    )
    return evaluator.lanes, scores
