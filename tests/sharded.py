"""Run by test_devices in a process with four devices: prints one JSON object of findings.

It sets no environment itself: the doctest collector imports it too.
"""

import contextlib
import json
import os
import re
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim import (
    FGM,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    initialise,
    train,
    train_many,
)
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.measure import lanes as measured
from featpur_sim.runs.experiment import Watch
from featpur_sim.training.bias import PerNeuron
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.devices import run_mesh, split_neurons, spread
from featpur_sim.training.loop import _segment_many, observe_nothing, replicate
from featpur_sim.training.step import start_phase

D, M, RUNS = 32, 64, 6
COLLECTIVE = re.compile(r" = \S+ (all-\w+|collective-\w+|reduce-scatter)\(")
PROBLEM = SparseCoding(D, 4, 0.3)


def network(key, per_neuron=False):
    return initialise(D, M, bias=0.02, sigma_0=0.05, per_neuron_bias=per_neuron, key=key)


def collectives(problem, network, phase, keys):
    """What the devices exchange in one segment of training, by the compiled program."""
    run = (start_phase(network, phase, keys), problem, phase, keys, None, keys)
    segment = _segment_many.lower(
        run, jnp.int32(0), jnp.int32(1), observe_nothing, 64, run_mesh(network.weights)
    )
    return COLLECTIVE.findall(segment.compile().compiled.as_text())


def runs():
    """Six different runs, one after another on one device and spread over three."""
    keys = jax.random.split(jax.random.key(1), RUNS)
    networks = eqx.filter_vmap(lambda key: network(key, per_neuron=True))(keys)
    schedule = PerNeuron(0.3, begin=0.1, end=0.7)
    attack = FGM(0.1)
    phases = [AdversarialPhase(attack, 30, batch=64, bias=schedule, microbatch=16, dataset_size=50)]
    problem, phases = replicate((PROBLEM, phases), RUNS)
    problem = eqx.tree_at(lambda p: p.sigma_x, problem, jnp.linspace(0.1, 0.5, RUNS))
    one = train_many(problem, networks, phases, keys=keys, records=3)
    problem, networks, phases, keys = spread((problem, networks, phases, keys))
    many = train_many(problem, networks, phases, keys=keys, records=3)
    return {
        "devices of runs": len(many.network.weights.sharding.device_set),
        "runs per device": many.network.weights.addressable_shards[0].data.shape[0],
        "runs differ by": float(jnp.abs(one.network.weights[0] - one.network.weights[1]).max()),
        "same weights": np.array_equal(one.network.weights, many.network.weights),
        "same records": all(
            np.array_equal(one.records[name], many.records[name], equal_nan=True)
            for name in one.records
        ),
        "exchanged by runs": collectives(problem, networks, phases[0], keys),
    }


def resumed():
    """Runs over three devices, interrupted twice and resumed, and the same uninterrupted."""
    keys = jax.random.split(jax.random.key(6), RUNS)
    networks = eqx.filter_vmap(network)(keys)
    phases = [CleanPhase(20, batch=64), AdversarialPhase(FGM(0.1), 30, batch=64)]
    problem, phases = replicate((PROBLEM, phases), RUNS)
    problem, networks, phases, keys = spread((problem, networks, phases, keys))

    def go(folder=None, stop_after=None):
        left = [stop_after]

        def cut(record):
            left[0] = None if left[0] is None else left[0] - 1
            if left[0] == 0:
                raise KeyboardInterrupt

        kept = None if folder is None else Checkpoint(folder, every=0)
        return train_many(
            problem, networks, phases, keys=keys, records=4, checkpoint=kept, on_record=cut
        )

    whole, compiled = go(), _segment_many._cached._cache_size()
    with tempfile.TemporaryDirectory() as folder:
        for records in (3, 5):  # inside the clean phase, and inside the next
            with contextlib.suppress(KeyboardInterrupt):
                go(folder, records)
        again = go(folder)
    both = [jax.tree.leaves((run.networks, run.snapshots)) for run in (whole, again)]
    return {
        "resumed weights": all(map(np.array_equal, *both)),
        "resumed places": [str(a.sharding) for a in both[0]] == [str(b.sharding) for b in both[1]],
        "resumed records": all(
            np.array_equal(whole.records[name], again.records[name], equal_nan=True)
            for name in whole.records
        ),
        "programs of resuming": _segment_many._cached._cache_size() - compiled,
    }


def surveyed():
    """Two measurements of six different networks, on one device and spread over three."""
    keys = jax.random.split(jax.random.key(4), RUNS)
    networks = eqx.filter_vmap(network)(keys)
    (problem,) = replicate((PROBLEM,), RUNS)
    problem = eqx.tree_at(lambda p: p.sigma_x, problem, jnp.linspace(0.1, 0.5, RUNS))
    tau = jnp.linspace(0.1, 0.2, RUNS)
    found = []
    for place in (lambda tree: tree, spread):
        nets, own, names = place((networks, problem, keys))
        fgm, dense = (AttackKind(name, "l2", 3, 1) for name in ("FGM", "dense mixture"))
        accuracy = measured.Lanes(own, names, 300).accuracy(nets, fgm, tau)
        radius = measured._critical(nets, own, tau, tau, names, dense, 300, RUNS)[0]
        found.append((np.asarray(accuracy), np.asarray(radius)))
    (accuracy, radius), (other_accuracy, other_radius) = found
    return {
        "accuracies": accuracy.tolist(),
        "same accuracies": np.array_equal(accuracy, other_accuracy),
        "critical radii": int(np.isfinite(radius).sum()),
        "same critical radii": np.allclose(radius, other_radius, rtol=1e-6, atol=0, equal_nan=True),
    }


def neurons():
    """One network on one device, and cut over four."""
    whole = network(jax.random.key(2))
    cut = split_neurons(whole)
    settings = {"key": jax.random.key(3), "records": 2}
    phases = [AdversarialPhase(FGM(0.1), 30, batch=64)]
    one, many = (train(PROBLEM, start, phases, **settings) for start in (whole, cut))
    thresholds = split_neurons(network(jax.random.key(2), per_neuron=True)).bias
    return {
        "slice": many.network.weights.addressable_shards[0].data.shape,
        "devices of neurons": len(many.network.weights.sharding.device_set),
        "slice of thresholds": thresholds.addressable_shards[0].data.shape,
        "moved": float(jnp.abs(one.network.weights - whole.weights).max()),
        "gap": float(np.abs(np.asarray(one.network.weights) - many.network.weights).max()),
    }


def thresholds():
    """The program that deadlocked: a threshold per neuron, measured along training."""
    cut = split_neurons(network(jax.random.key(2), per_neuron=True))
    attack = FGM(0.1)
    phases = [CleanPhase(40, batch=64, bias=PerNeuron(0.3, begin=0.1, end=0.7))]
    phases += [AdversarialPhase(attack, 40, batch=64, microbatch=16)]
    watch = Watch(jnp.float32(0.1), "l2")
    run = train(PROBLEM, cut, phases, key=jax.random.key(3), records=10, observe=watch)
    return {"finite records": bool(np.isfinite(run.records["kappa_over_alpha"]).all())}


def refusal():
    """What `split_neurons` says where nothing keeps exchanges in order."""
    flags, os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"], ""
    try:
        split_neurons(network(jax.random.key(2)))
    except ValueError as error:
        return {"refusal": str(error)}
    finally:
        os.environ["XLA_FLAGS"] = flags
    return {"refusal": "none"}


if __name__ == "__main__":
    print(json.dumps(runs() | resumed() | surveyed() | neurons() | thresholds() | refusal()))
