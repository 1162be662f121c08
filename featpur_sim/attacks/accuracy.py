"""Accuracy under attack, with its sampling error (docs/theory.md §5).

A sample counts as robust under a worst-case attack if the model is right at x *and* at x + δ (the
attacker may leave a sample alone); under random noise only x + δ counts. Samples without a label
are excluded. Attacks bound the true robust accuracy from above only.
"""

import math
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from featpur_sim._ground.checks import count
from featpur_sim._ground.expected import expect, expect_methods, expect_visible
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, Int, PRNGKey
from featpur_sim.attacks.gradient import Attack, require_attack
from featpur_sim.data.problem import Problem
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.trainable import Trainable
from featpur_sim.statistics import wilson_interval

CHUNK = 1024
Totals = tuple[Int[Array, ""], Int[Array, ""]]
Counts = tuple[Int[Array, "*S"], Int[Array, "*S"], Bool[Array, "*S"]]


class Accuracy(NamedTuple):
    """A fraction of the n labelled samples with its 95 % Wilson interval.

    Numbers; of S networks at once, arrays [S].
    """

    value: float | Float[np.ndarray, " S"]
    low: float | Float[np.ndarray, " S"]
    high: float | Float[np.ndarray, " S"]
    n: int | Int[np.ndarray, " S"]


@steady
def attacked_margin(
    model: Classifier, batch: Batch, attack: Attack | None, *, key: PRNGKey
) -> Float[Array, " n"]:
    """y f at the attacked point; for a worst-case attack the lesser of that and y f(x)."""
    clean_key, attack_key, final_key = jax.random.split(key, 3)
    clean = batch.y * model(batch.x, key=clean_key)
    if attack is None:
        return clean
    delta = attack(model, batch, key=attack_key)
    attacked = batch.y * model(batch.x + delta, key=final_key)
    return jnp.minimum(clean, attacked) if attack.worst_case else attacked


@eqx.filter_jit
def is_finite(model: Classifier) -> Bool[Array, ""]:
    """Whether every number in a model is finite; one with others has no accuracy. Traceable.

    A NaN pre-activation passes no threshold, so such a model would seem to be wrong everywhere.
    """
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


@steady
def count_robust(
    model: Classifier,
    problem: Problem,
    attack: Attack | None,
    *,
    key: PRNGKey,
    n: int,
    chunk: int = CHUNK,
) -> Totals:
    """Numbers of robust and of labelled samples among n fresh ones; memory grows with ``chunk``.

    The samples depend on ``key`` alone, so every model and attack given one key is scored on the
    same points. Traceable: vmap it over models, radii and seeds.
    """
    n, chunk = count("n", n), count("chunk", chunk)
    chunk = min(chunk, n)
    sample_key, attack_key = jax.random.split(key)

    def one_chunk(totals: Totals, i: Int[Array, ""]) -> tuple[Totals, None]:
        batch = problem.sample(sample_key, chunk, start=i * chunk)
        counted = batch.labelled & (jnp.arange(chunk) + i * chunk < n)
        margin = attacked_margin(model, batch, attack, key=jax.random.fold_in(attack_key, i))
        robust, labelled = totals
        return (robust + jnp.sum(counted & (margin > 0)), labelled + jnp.sum(counted)), None

    totals, _ = lax.scan(one_chunk, (jnp.int32(0), jnp.int32(0)), jnp.arange(-(-n // chunk)))
    return totals


@steady
def robust_accuracy(
    model: Classifier,
    problem: Problem,
    attack: Attack | None = None,
    *,
    key: PRNGKey,
    n: int = 4096,
    chunk: int = CHUNK,
) -> Accuracy:
    """Fraction of labelled samples on which ``model`` withstands ``attack`` (None: clean accuracy).

    Networks that were trained at once are scored at once: a `Trainable` whose arrays have a
    leading axis S (weights [S, m, d], bias [S] or [S, m]), a `SparseCoding` with one (k [S]), an
    attack with one (radius [S]), as `featpur_sim.training.stacking.stack` makes them, or several of
    these. What has none is shared: all networks meet the same points of one problem. They take
    turns, so that memory is one's.

    Args:
        model: any classifier, or S networks.
        problem: the distribution to sample from, or S of them.
        attack: an attack, S of them, or None.
        key: names the test samples and the attack's randomness.
        n: samples drawn; the labelled ones among them count.
        chunk: samples in memory at once.

    Returns:
        `Accuracy` with a Wilson interval over samples, each field a number, or an array [S]; NaN
        for a model with weights that are not finite.

    Raises:
        ValueError: model, problem or attack is something else, n or chunk is no integer ≥ 1, no
            drawn sample has a label, the network has another number of inputs than the problem, or
            leading axes differ.

    >>> import jax
    >>> from featpur_sim import PGD, SparseCoding, pure_network
    >>> problem = SparseCoding(d=64, k=5, sigma_x=0.3)
    >>> reference = pure_network(problem.wstar, bias=0.2)
    >>> score = robust_accuracy(reference, problem, PGD(radius=0.1), key=jax.random.key(1))
    >>> score.low < score.value < score.high
    True
    >>> from featpur_sim import stack
    >>> both = stack([reference, pure_network(problem.wstar, bias=0.4)])
    >>> robust_accuracy(both, problem, PGD(radius=0.1), key=jax.random.key(1)).value.shape
    (2,)
    """
    n, chunk = count("n", n), count("chunk", chunk)  # static for the program
    expect("model", model, Classifier, "a Classifier, the first argument of robust_accuracy")
    expect_methods("problem", problem, ("sample",), "a problem, SparseCoding(…) say")
    expect_visible("problem", problem)
    if attack is not None:
        require_attack("attack", attack)
    if isinstance(model, Trainable):
        problem.require_dimension(model.weights)
    parts = model, problem, attack
    lengths = _lengths(*parts)
    if set(lengths) == {None}:
        robust, labelled, finite = _count_jit(model, problem, attack, key=key, n=n, chunk=chunk)
        return _accuracy(int(robust), int(labelled), bool(finite), n)
    _require_one_length(parts, lengths)
    split = [_split(part, runs) for part, runs in zip(parts, lengths, strict=True)]
    many, shared = [own for own, _ in split], [common for _, common in split]
    counts = _count_each(many, shared, key=key, n=n, chunk=chunk)
    rows = [
        _accuracy(int(robust), int(labelled), bool(finite), n)
        for robust, labelled, finite in zip(*map(np.asarray, counts), strict=True)
    ]
    return Accuracy(*(np.array([row[i] for row in rows]) for i in range(len(Accuracy._fields))))


def _split(part: Any, runs: int | None) -> tuple[Any, Any]:
    """The arrays that have an axis of runs, and what is common to all."""
    return cast(Any, eqx.partition(part, eqx.is_array)) if runs else (None, part)


def _count(
    model: Classifier,
    problem: Problem,
    attack: Attack | None,
    *,
    key: PRNGKey,
    n: int,
    chunk: int,
) -> Counts:
    """`count_robust`, and whether the model is finite."""
    totals = count_robust(model, problem, attack, key=key, n=n, chunk=chunk)
    return (*totals, is_finite(model))


_count_jit = eqx.filter_jit(_count)


@eqx.filter_jit
def _count_each(many: list[Any], shared: list[Any], *, key: PRNGKey, n: int, chunk: int) -> Counts:
    """`_count` of one run after another: ``many`` holds what has a leading axis of runs."""

    def one(arrays: list[Any]) -> Counts:
        whole: list[Any] = eqx.combine(arrays, shared)
        return _count(*whole, key=key, n=n, chunk=chunk)

    return cast(Counts, lax.map(one, many))


def _accuracy(robust: int, labelled: int, finite: bool, n: int) -> Accuracy:
    if labelled == 0:
        raise ValueError(f"none of the {n} samples drawn has a label: raise n or k.")
    if not finite:
        return Accuracy(math.nan, math.nan, math.nan, labelled)
    low, high = wilson_interval(robust, labelled)
    return Accuracy(robust / labelled, low, high, labelled)


def _lengths(model: Classifier, problem: Problem, attack: Attack | None) -> tuple[int | None, ...]:
    """Of each, the length of its leading axis of runs; None where there is none."""
    weights = model.weights if isinstance(model, Trainable) else None
    # An attack or a problem of the user's own may have neither.
    radius = getattr(getattr(attack, "ball", None), "radius", None)
    return _runs(weights, 2), _runs(getattr(problem, "k", None), 0), _runs(radius, 0)


def _runs(array: Any, ndim: int) -> int | None:
    """The length of the axis in front of the ``ndim`` usual ones of an array."""
    return len(array) if getattr(array, "ndim", 0) > ndim else None


def _require_one_length(parts: tuple[Any, ...], lengths: tuple[int | None, ...]) -> None:
    """Refuse runs of different numbers, or an array without the axis that the others have."""
    several = {length for length in lengths if length is not None}
    if len(several) > 1:
        told = ", ".join(f"{part!r}" for part in parts if part is not None)
        raise ValueError(f"runs scored at once must be equally many, or one for all: got {told}.")
    (runs,) = several
    for part, length in zip(parts, lengths, strict=True):
        arrays = jax.tree.leaves(eqx.filter(part, eqx.is_array)) if length else []
        if wrong := [array.shape for array in arrays if array.shape[:1] != (runs,)]:
            raise ValueError(
                f"{part!r} holds an array of shape {wrong[0]}: where {runs} runs are scored at "
                "once, all of its arrays need that leading axis, as featpur_sim.stack and "
                "featpur_sim.replicate give it."
            )
