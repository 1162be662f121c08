"""What a notebook shows of a problem, a network, a phase, an attack and a run."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import FGM, AdversarialPhase, SparseCoding, initialise
from featpur_sim._ground.show import shown
from featpur_sim.data.laws import HiddenLaw, Levels
from featpur_sim.training.bias import LinearRamp
from featpur_sim.training.course import TrainingRun
from featpur_sim.training.loop import replicate

PROBLEM = SparseCoding(100, 5, 0.3)
NETWORK = initialise(100, 400, bias=0.04, key=jax.random.key(0))
PHASE = AdversarialPhase(FGM(0.1), 2500, bias=LinearRamp(0.1))
THINGS = [PROBLEM, NETWORK, PHASE, FGM(0.1)]
LINES = [
    "SparseCoding(d=100, k=5, two-level, σ_x=0.3)",
    "SymmetricReLU(400 neurons, d=100, b=0.04)",
    "Phase(adversarial, 2500 steps, batch=512, η=0.5, λ=0.0001, LinearRamp, FGM(τ=0.1, l2))",
    "FGM(τ=0.1, l2)",
]


def test_one_line_of_sizes():
    assert [repr(thing) for thing in THINGS] == LINES


def test_runs_trained_together_are_counted():
    several = [repr(thing) for thing in replicate(THINGS, 8)]
    assert all(text.endswith(", 8 runs)") for text in several)
    assert several[0] == "SparseCoding(d=100, k=5, two-level, σ_x=0.3, 8 runs)"
    two = eqx.filter_vmap(lambda tau: FGM(tau))(jnp.array([0.1, 0.2]))
    assert repr(two) == "FGM(τ=0.1–0.2, l2, 2 runs)"


@pytest.mark.parametrize("thing", THINGS)
def test_values_that_cannot_be_looked_at_break_nothing(thing):
    seen = []

    @eqx.filter_jit
    def trace(traced):
        seen.append(repr(traced))

    trace(thing)
    shapes = eqx.filter_eval_shape(lambda: thing)
    empty, _ = eqx.partition(thing, lambda leaf: False)
    for text in (*seen, repr(shapes), repr(empty)):
        assert text.startswith(type(thing).__name__) and "…" in text and "\n" not in text


def test_a_deleted_buffer_is_not_read():
    gone = jnp.ones(3)
    gone.delete()
    assert shown(gone) == "…"


def test_a_law_without_a_label_is_named_by_its_class():
    class Own(Levels):
        label = None

    assert HiddenLaw.label is None
    assert "Own" in repr(SparseCoding(16, 2, 0.3, law=Own([0.5], [2.0])))


@pytest.mark.parametrize(
    ("status", "end"), [(np.int32(0), "ok"), (np.array([0, 2, 0]), "3 runs, 2 ok, 1 diverged")]
)
def test_a_run_says_how_it_ended(status, end):
    steps = np.arange(4)
    run = TrainingRun({"init": NETWORK, "clean": NETWORK}, {}, steps, steps, {}, status, status)
    assert repr(run) == f"TrainingRun(init → clean, 4 records, {end})"
