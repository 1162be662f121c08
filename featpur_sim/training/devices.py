"""Work on all local devices: independent runs side by side, or one network cut in slices.

Arrays carry their placement, and the compiled programs follow. Runs that are trained together
(`featpur_sim.training.loop.train_many`) never exchange a number: `spread` changes no bit of any
result. One network too large for a device is cut across its neurons (docs/theory.md §2) by
`split_neurons`: f(x) and ∇ₓf(x) are sums over neurons, which the devices add up once each per step;
every other product stays where its neurons are.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from featpur_sim._ground.types import Array
from featpur_sim.models.trainable import AnyTrainable

_RUNS, _NEURONS = "runs", "neurons"
# XLA's default on a CPU lets each device start a program's independent exchanges in an order of its
# own. Two devices that wait for each other in different ones wait forever.
_IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"

Devices = Sequence[jax.Device]


def usable(count: int, devices: Devices | None = None) -> Devices:
    """The most devices that share ``count`` pieces of work evenly.

    Args:
        count: number of pieces, ≥ 1.
        devices: to choose from; all local ones by default.

    Returns:
        The first r of them, r the largest divisor of ``count`` that they reach.
    """
    found = jax.local_devices() if devices is None else devices
    return found[: max(r for r in range(1, len(found) + 1) if count % r == 0)]


def spread(tree: Any, devices: Devices | None = None) -> Any:
    """Place runs that are trained together on several devices, equally many on each.

    Give it the arguments of `featpur_sim.training.loop.train_many`, keys included. Where the number
    of runs S and of devices do not divide, fewer devices are used (see `usable`); on one device the
    tree comes back as it is.

    Args:
        tree: every array in it has the leading axis S; anything else is left alone.
        devices: all local ones by default.

    Raises:
        ValueError: an array has no leading axis, or two arrays disagree about its length.

    >>> import jax
    >>> from featpur_sim import CleanPhase, SparseCoding, initialise, train_many
    >>> from featpur_sim.training.loop import replicate
    >>> one = SparseCoding(32, 4, 0.3), initialise(32, 64, key=jax.random.key(0)), [CleanPhase(5)]
    >>> *four, keys = spread((*replicate(one, 4), jax.random.split(jax.random.key(1), 4)))
    >>> train_many(*four, keys=keys).network.weights.shape
    (4, 64, 32)
    """
    arrays, rest = eqx.partition(tree, eqx.is_array)
    axes = {leaf.shape[:1] for leaf in jax.tree.leaves(arrays)}
    if len(axes) != 1 or () in axes:
        raise ValueError(
            f"every array needs one leading axis, one entry per run, got leading axes "
            f"{sorted(axes)}: see featpur_sim.training.loop.replicate."
        )
    ((runs,),) = axes
    chosen = usable(runs, devices)
    if len(chosen) == 1:
        return tree
    return eqx.combine(_over(arrays, Mesh(np.array(chosen), (_RUNS,))), rest)


def _over(arrays: Any, mesh: Mesh) -> Any:
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec(_RUNS)))


def placed_like(tree: Any, like: Any, mesh: Mesh | None) -> Any:
    """Host arrays on the devices where a training run keeps them.

    A program for other placements is another program, whose last digits may differ: a run that
    goes on from a checkpoint must find its state where it would have left it.

    Args:
        tree: arrays, in the structure of ``like``.
        like: arrays placed as wanted, if they are cut across neurons.
        mesh: see `run_mesh`; every array then has the leading axis of runs.
    """
    if mesh is not None:
        return _over(tree, mesh)

    def place(array, wanted):
        cut = len(wanted.sharding.device_set) > 1
        return jax.device_put(array, wanted.sharding) if cut else jnp.asarray(array)

    return jax.tree.map(place, tree, like)


def split_neurons(network: AnyTrainable, devices: Devices | None = None) -> AnyTrainable:
    """Cut a network into slices of equally many neurons, one per device.

    Gradients, updates and the optimiser's state follow the weights. Results agree with those of
    one device to rounding: the sums over neurons are taken in another order.

    Args:
        network: weights [m, d], or [S, m, d] for S networks; the first axis of each of its arrays
            runs over neurons, if it has one.
        devices: all local ones by default; fewer are used where m does not divide (see `usable`).

    Raises:
        ValueError: an array of another first axis, or several CPU devices, without the entry of
            ``XLA_FLAGS`` that keeps their exchanges in one order: training could stand still
            forever. [M]

    >>> import jax
    >>> from featpur_sim import initialise
    >>> split_neurons(initialise(32, 64, key=jax.random.key(0))).weights.shape
    (64, 32)
    """
    chosen = usable(network.m, devices)
    if len(chosen) == 1:
        return network
    if chosen[0].platform == "cpu" and _IN_ORDER not in os.environ.get("XLA_FLAGS", "").split():
        raise ValueError(
            f"split_neurons: {len(chosen)} CPU devices can wait for each other forever. Set "
            f"XLA_FLAGS={_IN_ORDER} (beside what it holds) before JAX starts, or pass one device."
        )
    mesh = Mesh(np.array(chosen), (_NEURONS,))
    runs = (None,) * (network.weights.ndim - 2)
    for leaf in jax.tree.leaves(network):
        if leaf.shape[len(runs) :][:1] not in ((), (network.m,)):
            raise ValueError(
                f"split_neurons: {network!r} holds an array of shape {leaf.shape}, whose first "
                f"axis does not run over its {network.m} neurons: keep it on one device."
            )

    def place(leaf):
        # Thresholds and σ_ρ may be one for all neurons of a network.
        axes = (*runs, _NEURONS)[: leaf.ndim] if leaf.ndim > len(runs) else runs
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(place, network)


def run_mesh(array: Array) -> Mesh | None:
    """The devices over which `spread` placed ``array``; None if it did not."""
    mesh = getattr(array.sharding, "mesh", None)
    return mesh if isinstance(mesh, Mesh) and _RUNS in mesh.axis_names else None


def each_run(function: Callable[..., Any], runs: Any, mesh: Mesh | None) -> Any:
    """``function(*run)`` for every run, on the device that holds it; to be called under jit.

    On a CPU the runs of a device take turns: a run's activations then stay in the caches and its
    matrix products are plain ones, which is faster than one product over all runs, takes S times
    less memory, and makes a run's result independent of the runs beside it, to the bit. Elsewhere
    they run at once under vmap.

    Args:
        function: of one run; returns arrays.
        runs: its arguments, every array with a leading axis S.
        mesh: see `run_mesh`.
    """
    arrays, rest = eqx.partition(runs, eqx.is_array)

    def one(arrays):
        return function(*eqx.combine(arrays, rest))

    take_turns = jax.default_backend() == "cpu"
    many = (lambda arrays: lax.map(one, arrays)) if take_turns else jax.vmap(one)
    if mesh is not None:
        spec = PartitionSpec(_RUNS)
        many = jax.shard_map(many, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return many(arrays)
