"""Runs that differ, stacked: what may differ, and the message where too much does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from featpur_sim import (
    FGM,
    PGD,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    initialise,
    replicate,
    stack,
    train,
    train_many,
)
from featpur_sim.data.laws import Levels
from featpur_sim.training.bias import LinearRamp, PerNeuron

KEY = jax.random.key(70)


def problem(k, sigma_x=0.3, **settings):
    return SparseCoding(d=16, k=k, sigma_x=sigma_x, **settings)


def test_runs_that_differ_are_each_what_they_are_alone():
    problems = [problem(3), problem(4, 0.2, key=jax.random.key(5))]
    networks = [initialise(16, 24, sigma_0=s, key=jax.random.key(1)) for s in (0.05, 0.1)]
    phases = [
        [
            CleanPhase(15, batch=32, learning_rate=rate, bias=LinearRamp(stop)),
            AdversarialPhase(FGM(radius), 10, batch=32),
        ]
        for rate, stop, radius in ((0.5, 0.1, 0.1), (0.3, 0.2, 0.2))
    ]
    keys = jax.random.split(KEY, 2)
    many = train_many(stack(problems), stack(networks), stack(phases), keys=keys, records=3)
    for s in range(2):
        one = train(problems[s], networks[s], phases[s], key=keys[s], records=3)
        np.testing.assert_allclose(many.network.weights[s], one.network.weights, atol=1e-5)
    assert not np.allclose(many.network.weights[0], many.network.weights[1], atol=1e-2)


def test_equal_things_stacked_are_one_replicated():
    for thing in (problem(3), CleanPhase(5), [FGM(0.1), problem(3)], {"a": jnp.ones(2)}):
        twice, replicated = stack([thing, thing]), replicate(thing, 2)
        assert jax.tree.structure(twice) == jax.tree.structure(replicated)
        assert eqx.tree_equal(twice, replicated)
    keys = stack([jax.random.key(1), jax.random.key(2)])
    assert keys.shape == (2,) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)


def schedule(rate):
    return optax.sgd(rate, momentum=0.5)


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ([], "nothing is given"),
        # Sizes before the shapes that follow from them.
        ([problem(3), SparseCoding(d=32, k=3, sigma_x=0.3)],
         r"SparseCoding\.d is 16 in number 0 and 32 in number 1"),
        ([initialise(16, 8, key=KEY), initialise(16, 9, key=KEY)],
         r"SymmetricReLU\.weights is float32\[8, 16\] in number 0 and float32\[9, 16\]"),
        ([problem(3), problem(3), problem(3, dictionary="haar", key=KEY)],
         r"SparseCoding\.M is None in number 0 and float32\[16, 16\] in number 2"),
        ([problem(3), problem(3, law=Levels([0.5], [2.0]))],
         r"SparseCoding\.law is TwoLevel in number 0 and Levels in number 1"),
        ([problem(3, law=Levels([0.5], [2.0])), problem(3, law=Levels([0.5, 1.0], [2.0, 1.0]))],
         r"SparseCoding\.law\.\w+ is float32\[1\] in number 0 and float32\[2\] in number 1"),
        ([CleanPhase(5, batch=8), CleanPhase(5, batch=16)],
         r"Phase\.batch is 8 in number 0 and 16 in number 1"),
        ([CleanPhase(5), CleanPhase(5, optimizer=schedule)], r"Phase\.optimizer is <function"),
        ([CleanPhase(5, bias=LinearRamp(0.1)), CleanPhase(5, bias=PerNeuron(0.1))],
         r"Phase\.bias is LinearRamp in number 0 and PerNeuron in number 1"),
        ([[CleanPhase(5)], [CleanPhase(5), AdversarialPhase(FGM(0.1), 5)]], r"it is \[Phase"),
        ([[problem(3), FGM(0.1)], [problem(3), FGM(0.1, "linf")]],
         r"\[1\]\.ball is L2Ball in number 0 and LinfBall in number 1"),
        ([FGM(0.1), PGD(0.1)], r"it is FGM in number 0 and PGD in number 1"),
        ([PGD(0.1), PGD(0.1, steps=7)], r"PGD\.steps is 40 in number 0 and 7 in number 1"),
        ([{"a": 1.0}, {"a": 2.0}], r"\['a'\] is 1\.0 in number 0 and 2\.0 in number 1"),
        ([jnp.ones(2), jnp.ones(2, int)], r"it is float32\[2\] in number 0 and int32\[2\]"),
    ],
)  # fmt: skip
def test_what_differs_in_more_than_values_is_named(things, message):
    with pytest.raises(ValueError, match=rf"^stack: .*{message}"):
        stack(things)
