"""The contract of `featpur_sim.data.Problem`: where labelled inputs come from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count
from featpur_sim._ground.expected import expect_methods
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, PRNGKey
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.testing._contract import Contract, close
from featpur_sim.training.loop import replicate

_ROWS, _HALF = 24, 12
_BY_ROW = (
    "Row r must depend on (key, r) alone: draw it from jax.random.fold_in(key, r), r = start + i"
)
_BATCH = "sample returns Batch(x, y, z): x [n, d], y [n] of −1, 0 or 1, z [n, …], all float32"
_LENGTH = "Raise a ValueError exactly where weights.shape[-1] is another length than d"


@steady
def check_problem(problem: Any, *, key: PRNGKey, length: int | None = None) -> None:
    """Check a source of labelled inputs.

    That its methods are there and its arrays seen by JAX; shapes and dtypes; finite inputs and
    labels −1, 0, 1; rows that depend on (key, row) alone, so that chunks, save points and resuming
    change no sample; other samples for another key; all this traced, with several runs at once;
    weights of another length refused; and, if it is there, ``n`` labelled
    rows from ``sample_labelled(key, n)``.

    Args:
        problem: `SparseCoding`, or one of your own.
        key: PRNG key of the samples that are looked at.
        length: of weight vectors, where it is not that of the inputs: of a network that shares
            weights over patches, say.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim import SparseCoding
    >>> check_problem(SparseCoding(d=8, k=2, sigma_x=0.3), key=jax.random.key(0))
    """
    methods = "sample", "coordinates", "require_dimension"
    expect_methods("problem", problem, methods, "a problem, SparseCoding(…) say")
    of = Contract("problem", problem)
    of.require_visible_arrays()
    whole = _drawn(of, problem, key)
    _check_rows(of, problem, key, whole)
    _check_chunks(of, problem, key, whole)
    d = whole.x.shape[1] if length is None else count("length", length)
    _check_dimension(of, problem, d)
    coordinates = of.call(
        f"coordinates(weights [3, {d}]), traced,",
        eqx.filter_jit(lambda problem, weights: problem.coordinates(weights)),
        problem,
        jnp.ones((3, d)),
        fix=_COORDINATES,
    )
    shape = np.shape(coordinates)
    of.require(len(shape) == 2, f"coordinates of weights [3, {d}] are {shape}", _COORDINATES)
    of.array("coordinates", coordinates, (3, shape[1]), _COORDINATES)
    if hasattr(problem, "sample_labelled"):
        _check_labelled(of, problem, key)


_COORDINATES = "Return one row per weight vector, [m, D]; the weights as they are will do"


def _drawn(of: Contract, problem: Any, key: PRNGKey) -> Batch:
    """The first rows, from a program of their own: what Python decides, it decides anew."""

    @eqx.filter_jit
    def draw(problem: Any, key: PRNGKey, start: Array) -> Any:
        return problem.sample(key, _ROWS, start=start)

    what = f"sample(key, {_ROWS})"
    found = of.call(f"{what}, traced,", draw, problem, key, jnp.int32(0), fix=_BATCH)
    return _looked_at(of, what, found, _ROWS)


def _looked_at(of: Contract, what: str, found: Any, n: int) -> Batch:
    """The batch in NumPy, if it is one of n rows."""
    kind = type(found).__name__
    of.require(isinstance(found, Batch), f"{what} returned a {kind}, not a Batch", _BATCH)
    width = np.shape(found.x)[1:]
    of.require(len(width) == 1, f"x of {what} has shape {np.shape(found.x)}, not (n, d)", _BATCH)
    x = of.array(f"x of {what}", found.x, (n, *width), _BATCH)
    y = of.array(f"y of {what}", found.y, (n,), _BATCH)
    z = of.array(f"z of {what}", found.z, (n, *np.shape(found.z)[1:]), _BATCH)
    other = sorted({float(label) for label in y} - {-1.0, 0.0, 1.0})
    of.require(not other, f"labels of {what} hold {other[:1]}, not only −1, 0 and 1", _BATCH)
    return Batch(x, y, z)  # pyright: ignore[reportArgumentType]


def _same(one: Batch, other: Batch) -> bool:
    labels = bool(np.array_equal(one.y, other.y))
    return labels and close(np.asarray(one.x), np.asarray(other.x))


def _check_rows(of: Contract, problem: Any, key: PRNGKey, whole: Batch) -> None:
    """Samples that are named by their key, and have something to learn from."""
    again = _drawn(of, problem, key)
    of.require(_same(whole, again), "sample gave one key two different batches", _BY_ROW)
    of.require(np.ptp(whole.x, axis=0).any(), f"all {_ROWS} rows are the same", _BY_ROW)
    of.require(
        np.any(np.asarray(whole.y)),
        f"none of {_ROWS} rows has a label",
        "Give labels: rows with y = 0 are left out of training and of every average",
    )


def _check_chunks(of: Contract, problem: Any, key: PRNGKey, whole: Batch) -> None:
    """The same rows in halves, as training draws them: two runs in one program, from a first row
    that is data.
    """

    @eqx.filter_jit
    def both(problems: Any, keys: Array, start: Array) -> Any:
        def one(problem: Any, key: PRNGKey) -> Any:
            return problem.sample(key, _HALF, start=start)

        return eqx.filter_vmap(one)(problems, keys)

    keys, runs = jnp.stack([key, jax.random.fold_in(key, 1)]), replicate(problem, 2)
    for start in (0, _HALF):
        what = f"sample(key, {_HALF}, start={start})"
        found = of.call(f"{what} for two runs at once", both, runs, keys, jnp.int32(start),
                        fix=_BATCH)  # fmt: skip
        own, others = (
            _looked_at(of, what, jax.tree.map(lambda leaf, s=s: leaf[s], found), _HALF)
            for s in (0, 1)
        )
        rows = slice(start, start + _HALF)
        of.require(
            _same(jax.tree.map(lambda leaf, at=rows: leaf[at], whole), own),
            f"{what} is not rows {start} to {start + _HALF - 1} of a longer one",
            _BY_ROW,
        )
        of.require(
            not _same(own, others),
            "two keys gave the same samples: training would meet its test samples",
            _BY_ROW,
        )


def _check_dimension(of: Contract, problem: Any, d: int) -> None:
    """Weights of one network and of several at once; of the inputs' length and of another."""
    for shape in ((3, d), (2, 3, d)):
        what = f"require_dimension(weights {list(shape)}) with d = {d}"
        of.call(what, problem.require_dimension, jnp.ones(shape), fix=_LENGTH)
    for shape in ((3, d + 1), (2, d, d + 1)):
        refused = False
        try:
            problem.require_dimension(jnp.ones(shape))
        except ValueError:
            refused = True
        except Exception as error:
            raise of.breach(
                f"require_dimension raised {type(error).__name__}, not ValueError", _LENGTH
            ) from error
        found = f"require_dimension passed weights {list(shape)} with d = {d}"
        of.require(refused, found, _LENGTH)


def _check_labelled(of: Contract, problem: Any, key: PRNGKey) -> None:
    """A fixed training set."""
    what, fix = f"sample_labelled(key, {_HALF})", "Return the first n rows that have a label"
    drawn = [of.call(what, problem.sample_labelled, key, _HALF, fix=fix) for _ in range(2)]
    one, again = (_looked_at(of, what, batch, _HALF) for batch in drawn)
    missing = int(np.sum(np.asarray(one.y) == 0))
    of.require(not missing, f"{what} gave {missing} rows without a label", fix)
    of.require(_same(one, again), f"{what} gave one key two different sets", _BY_ROW)
