"""A checkpointed run for tests to interrupt; as a script, ``python interrupted.py FOLDER``."""

import sys

import jax
import jax.numpy as jnp
import optax

from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, initialise, train
from featpur_sim.training.bias import LinearRamp
from featpur_sim.training.checkpoint import Checkpoint

RECORDS = 12  # six per phase


def observe(moment):
    return {"largest": jnp.max(jnp.abs(moment.network.weights))}


def adam(rate):
    return optax.adam(rate)


def run(folder=None, *, steps=30, rate=0.5, batch=64, seed=0, radius=0.1, **changes):
    """Two phases: gradient descent on fresh samples, then Adam on a fixed set."""
    settings = {"records": 5, "test_samples": 128, "observe": observe, **changes}
    phases = [
        CleanPhase(steps, learning_rate=rate, batch=batch, bias=LinearRamp(0.1)),
        AdversarialPhase(
            FGM(radius), 20, batch=32, optimizer=adam, learning_rate=0.01, dataset_size=80
        ),
    ]
    return train(
        SparseCoding(d=20, k=4, sigma_x=0.3, key=jax.random.key(seed)),
        initialise(20, 24, key=jax.random.key(seed + 1)),
        phases,
        key=jax.random.key(seed + 2),
        snapshots={"clean": [7], "adversarial": [11]},
        checkpoint=None if folder is None else Checkpoint(folder, every=0),
        **settings,
    )


if __name__ == "__main__":
    run(sys.argv[1], on_record=lambda record: print(record.phase, record.step, flush=True))
