"""Threshold schedules: their values at known steps, their shape, and that ramps never fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim.training.bias import Frozen, LinearRamp, PerNeuron, Progress, Tabulated

COORDINATES = jnp.array([[0.1, -0.4, 0.2], [0.0, 0.05, -0.02]])
LARGEST = np.array([0.4, 0.05])


def at(step=0, steps=100, time=0.0):
    return Progress(jnp.int32(step), jnp.int32(steps), jnp.float32(time))


def test_frozen_keeps_what_it_gets():
    for bias in (jnp.float32(0.3), jnp.array([0.1, 0.7])):
        assert np.array_equal(Frozen()(at(50), bias, COORDINATES), bias)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.1), (1, 0.11), (10, 0.2), (39, 0.49), (40, 0.5), (41, 0.5), (100, 0.5)],
)
def test_linear_ramp(step, expected):
    ramp = LinearRamp(0.5, start=0.1, fraction=0.4)
    np.testing.assert_allclose(ramp(at(step), jnp.float32(0), COORDINATES), expected, rtol=1e-6)


def test_linear_ramp_reads_a_fraction_of_the_phase():
    ramp, bias = LinearRamp(1.0), jnp.float32(0)
    found = [float(ramp(at(s, steps), bias, COORDINATES)) for s, steps in ((5, 20), (500, 2000))]
    np.testing.assert_allclose(found, [0.5, 0.5])


@pytest.mark.parametrize(
    ("time", "nu"), [(0.0, 1.1), (1.2, 1.1), (1.6, 0.8), (2.0, 0.5), (9.0, 0.5)]
)
def test_per_neuron_follows_the_largest_coefficient(time, nu):
    found = PerNeuron(0.5)(at(time=time), jnp.zeros(2), COORDINATES)
    np.testing.assert_allclose(found, nu * LARGEST, rtol=1e-5)


def test_per_neuron_takes_its_own_times():
    schedule = PerNeuron(0.2, start=2.0, begin=0.0, end=10.0)
    found = schedule(at(time=5.0), jnp.zeros(2), COORDINATES)
    np.testing.assert_allclose(found, 1.1 * LARGEST, rtol=1e-5)


def test_monotone_never_falls_and_the_ceiling_caps():
    schedule = PerNeuron(0.3, monotone=True, ceiling=0.42)
    bias = jnp.array([0.0, 0.0])
    path = []
    for time in np.linspace(0, 3, 31):
        # Weights that grow, then shrink: ν max|C| falls on both counts.
        size = 1 + time if time < 1.5 else 0.5
        bias = schedule(at(time=time), bias, size * COORDINATES)
        path.append(np.asarray(bias))
    path = np.array(path)
    assert np.all(np.diff(path, axis=0) >= 0)
    assert path[-1, 0] == np.float32(0.42)
    free = PerNeuron(0.3)(at(time=3.0), bias, 0.5 * COORDINATES)
    assert np.all(np.asarray(free) < path[-1])
    # Without a ceiling the same path goes above it: the largest target is 1.1 · 0.4 · 2.2.
    peak = PerNeuron(0.3)(at(time=1.2), bias, 2.2 * COORDINATES)
    assert float(peak[0]) > 0.9


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (10, 0.05), (20, 0.1), (60, 0.2), (100, 0.3)]
)
def test_tabulated(step, expected):
    schedule = Tabulated([0, 0.2, 1], [0.0, 0.1, 0.3])
    found = schedule(at(step), jnp.float32(0), COORDINATES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "schedule", [Frozen(), LinearRamp(0.2), Tabulated([0, 1], [0.0, 1.0]), PerNeuron(0.5)]
)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_shape_is_the_networks(schedule, shape):
    bias = jnp.zeros(shape)
    if isinstance(schedule, PerNeuron) and shape == ():
        with pytest.raises(ValueError, match="one threshold per neuron.*per_neuron_bias=True"):
            schedule(at(3), bias, COORDINATES)
    else:
        found = jax.jit(lambda b: schedule(at(3), b, COORDINATES))(bias)
        assert found.shape == shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearRamp(0.1, start=0.2), "0 ≤ start ≤ stop, got 0.2 and 0.1"),
        (lambda: LinearRamp(0.1, start=-0.2), "start must be ≥ 0 .*, got -0.2"),
        (lambda: LinearRamp(0.1, fraction=0.0), "fraction must be > 0 .*, got 0.0"),
        (lambda: LinearRamp(0.1, fraction=1.5), r"fraction must be .*at most 1\), got 1.5"),
        (lambda: PerNeuron(0.0), "PerNeuron: stop must be > 0 .*, got 0.0"),
        (lambda: PerNeuron(0.5, begin=2.0, end=2.0), "0 ≤ begin < end, got 2.0 and 2.0"),
        (lambda: PerNeuron(0.5, ceiling=0.0), "ceiling must be > 0, got 0.0"),
        (lambda: Tabulated([0, 1], [0.1]), "two lists of one length ≥ 2"),
        (lambda: Tabulated([0.1, 1], [0.1, 0.2]), r"rise from 0 to 1, got \[0.1, 1\]"),
        (lambda: Tabulated([0, 0.5, 0.5, 1], [0, 0, 0, 0]), "rise from 0 to 1"),
        (
            lambda: Tabulated([0, 1], [0.1, -0.2]),
            "values must be ≥ 0 .*, got -0.2.* among its entries",
        ),
        (lambda: LinearRamp(jnp.float32(jnp.nan)), "stop must be ≥ 0 .*, got nan"),
        (lambda: LinearRamp(True), "stop must be a number .*, got True"),
        (lambda: PerNeuron(1e39), "stop must be > 0 .*, got 1e.39"),
        (lambda: Tabulated("01", [0, 1]), "fractions must be a number or an array"),
    ],
)
def test_schedules_refuse(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
