"""Low-rank training: its gradients, its rank, and what it leaves alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from featpur_sim import (
    FGM,
    AdversarialPhase,
    CleanPhase,
    SparseCoding,
    SymmetricReLU,
    initialise,
    train,
)
from featpur_sim.models.losses import logistic_loss, regulariser
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.loop import replicate
from featpur_sim.training.low_rank import LowRankUpdate
from featpur_sim.training.step import gradient_step, start_phase

KEY = jax.random.key(70)
D, M, RANK, DECAY, RATE = 20, 30, 3, 0.05, 0.3


@pytest.fixture(scope="module")
def start():
    problem = SparseCoding(d=D, k=4, sigma_x=0.3, key=jax.random.key(1))
    return problem, initialise(D, M, sigma_0=0.3, bias=0.1, key=jax.random.key(2))


def adversarial(steps, **settings):
    settings = {"batch": 64, "rank": RANK, "weight_decay": DECAY, "learning_rate": RATE} | settings
    return AdversarialPhase(FGM(0.1), steps, **settings)


def test_a_step_is_autodiffs_step_in_the_factors(start):
    problem, network = start
    phase = adversarial(10)
    take_step = eqx.filter_jit(gradient_step)
    state = start_phase(*replicate((network, phase), 1), KEY[None])
    state = jax.tree.map(lambda leaf: leaf[0], state)
    for step in range(2):  # at step 0 A = 0 and only A moves; at step 1 both do
        sample_key, attack_key, _ = jax.random.split(jax.random.fold_in(KEY, step), 3)
        batch = problem.sample(sample_key, 64)
        x = batch.x + phase.attack(state.network, batch, key=attack_key)

        def objective(factors, x=x, batch=batch, state=state):
            weights = state.low_rank.start + factors[0] @ factors[1]
            margin = batch.y * SymmetricReLU(weights, 0.1)(x)
            loss = jnp.sum(jnp.where(batch.labelled, logistic_loss(margin), 0))
            return loss / jnp.sum(batch.labelled) + DECAY * regulariser(weights)

        before = state.low_rank.factors
        slopes = jax.grad(objective)(before)
        state, _ = take_step(state, problem, phase, None, KEY, jnp.int32(step))
        for old, slope, new in zip(before, slopes, state.low_rank.factors, strict=True):
            np.testing.assert_allclose(new, old - RATE * slope, rtol=1e-4, atol=1e-6)
        assert np.abs(slopes[0]).max() > 0.01
        assert (np.abs(slopes[1]).max() > 0.01) == (step == 1)


def test_the_update_has_the_rank_that_was_asked_for(start):
    # Adam changes the rank of a free gradient, and decay shrinks all of W in free training.
    problem, network = start
    phases = [adversarial(60, optimizer=optax.adam, learning_rate=0.05)]
    run = train(problem, network, phases, key=KEY, records=2)
    singular = np.linalg.svd(np.asarray(run.network.weights - network.weights), compute_uv=False)
    assert singular[RANK - 1] > 1e-2
    assert singular[RANK] < 1e-5 * singular[0]


def test_each_run_draws_its_own_factors_with_the_stated_law():
    weights, rank, d = jnp.zeros((4, 400)), 50, 400
    one, two = (LowRankUpdate(weights, rank, key=jax.random.key(s)).factors for s in (0, 1))
    assert not np.array_equal(one[1], two[1]) and not np.any(one[0])
    gram = np.asarray(one[1].T @ one[1])
    assert np.trace(gram) == pytest.approx(rank, rel=0.05)
    assert np.diag(gram).mean() == pytest.approx(rank / d, rel=0.05)


def test_a_low_rank_phase_is_resumed_to_the_bit(start, tmp_path):
    phases = [CleanPhase(10, batch=64), adversarial(20)]
    settings = {"key": KEY, "records": 4}
    whole = train(*start, phases, **settings)

    class Stopped(Exception):
        pass

    def stop(record):
        if record.phase == "adversarial" and 0 < record.step < 20:
            raise Stopped

    checkpoint = Checkpoint(tmp_path / "state", every=0)
    with pytest.raises(Stopped):
        train(*start, phases, checkpoint=checkpoint, on_record=stop, **settings)
    resumed = train(*start, phases, checkpoint=Checkpoint(tmp_path / "state"), **settings)
    assert np.array_equal(resumed.network.weights, whole.network.weights)


def test_a_diverged_run_keeps_its_factors(start):
    problem, network = start
    phases = [adversarial(5, learning_rate=1e30)]
    run = train(problem, network, phases, key=KEY, records=2)
    assert run.status == 2
    assert np.isfinite(np.asarray(run.network.weights)).all()


@pytest.mark.parametrize("rank", [0, 1.5, -2])
def test_a_rank_is_a_whole_number(rank, unchecked):
    with pytest.raises(ValueError, match=f"rank must be an integer ≥ 1 .*, got {rank}"):
        adversarial(5, rank=rank)


@pytest.mark.parametrize("rank", [2.5, 0, "2"])
def test_an_update_checks_its_rank(rank, unchecked):
    with pytest.raises(ValueError, match="rank must be"):
        LowRankUpdate(jnp.ones((3, 4)), rank, key=jax.random.key(0))
