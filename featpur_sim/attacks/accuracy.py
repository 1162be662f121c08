"""Accuracy under attack, with its sampling error (docs/theory.md §5).

A sample counts as robust under a worst-case attack if the model is right at x *and* at x + δ (the
attacker may leave a sample alone); under random noise only x + δ counts. Samples without a label
are excluded. Attacks bound the true robust accuracy from above only.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.checks import count
from featpur_sim._ground.expected import expect, expect_methods
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, Int, PRNGKey
from featpur_sim.attacks.gradient import Attack, require_attack
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.statistics import wilson_interval

CHUNK = 1024
Totals = tuple[Int[Array, ""], Int[Array, ""]]


class Accuracy(NamedTuple):
    """A fraction of labelled samples with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int


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
    problem: SparseCoding,
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


_count_robust_jit = eqx.filter_jit(count_robust)


@steady
def robust_accuracy(
    model: Classifier,
    problem: SparseCoding,
    attack: Attack | None = None,
    *,
    key: PRNGKey,
    n: int = 4096,
    chunk: int = CHUNK,
) -> Accuracy:
    """Fraction of labelled samples on which ``model`` withstands ``attack`` (None: clean accuracy).

    Args:
        model: any classifier.
        problem: the distribution to sample from.
        attack: an attack, or None.
        key: names the test samples and the attack's randomness.
        n: samples drawn; the labelled ones among them count.
        chunk: samples in memory at once.

    Returns:
        `Accuracy` with a Wilson interval over samples; NaN for a model with weights that are not
        finite.

    Raises:
        ValueError: model, problem or attack is something else, n or chunk is no integer ≥ 1, no
            drawn sample has a label, or the network has another number of inputs than the problem.

    >>> import jax
    >>> from featpur_sim import PGD, SparseCoding, pure_network
    >>> problem = SparseCoding(d=64, k=5, sigma_x=0.3)
    >>> reference = pure_network(problem.wstar, bias=0.2)
    >>> score = robust_accuracy(reference, problem, PGD(radius=0.1), key=jax.random.key(1))
    >>> score.low < score.value < score.high
    True
    """
    n, chunk = count("n", n), count("chunk", chunk)  # static for the program
    expect("model", model, Classifier, "a Classifier, the first argument of robust_accuracy")
    expect_methods("problem", problem, ("sample",), "a problem, SparseCoding(…) say")
    if attack is not None:
        require_attack("attack", attack)
    if isinstance(model, SymmetricReLU):
        problem.require_dimension(model.weights)
    robust, labelled = map(
        int, _count_robust_jit(model, problem, attack, key=key, n=n, chunk=chunk)
    )
    if labelled == 0:
        raise ValueError(f"none of the {n} samples drawn has a label: raise n or k.")
    if not is_finite(model):
        return Accuracy(math.nan, math.nan, math.nan, labelled)
    low, high = wilson_interval(robust, labelled)
    return Accuracy(robust / labelled, low, high, labelled)
