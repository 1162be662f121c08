"""Networks beside the theorem's: trained, attacked, stacked and resumed through one contract."""

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
    SymmetricReLU,
    TwoLayer,
    decompose,
    replicate,
    robust_accuracy,
    stack,
    train,
    train_many,
)
from featpur_sim.attacks.apgd import APGD
from featpur_sim.measure.critical_radius import bisect_critical_radius
from featpur_sim.models.trainable import Trainable
from featpur_sim.training.bias import LinearRamp
from featpur_sim.training.checkpoint import Checkpoint
from featpur_sim.training.step import Status

KEY = jax.random.key(60)
D, M = 16, 24
BOTH = ("weights", "readout")
PROBLEM = SparseCoding(d=D, k=3, sigma_x=0.2)


def start(seed=0, **settings):
    settings = {"sigma_0": 0.3, "size": 0.3, **settings}
    return TwoLayer.random(D, M, key=jax.random.key(seed), **settings)


def clean(steps=60, **settings):
    return CleanPhase(steps, **{"batch": 64, "learning_rate": 0.2, **settings})


def phases():
    robust = AdversarialPhase(
        FGM(0.1), 20, batch=64, microbatch=16, optimizer=optax.adam, learning_rate=0.01
    )
    return [clean(bias=LinearRamp(0.02)), robust]


@pytest.fixture(scope="module")
def run():
    return train(PROBLEM, start(trained=BOTH), phases(), key=KEY, records=3, test_samples=512)


def test_both_layers_learn(run):
    assert run.status == Status.OK and run.network.trained == BOTH
    before, after = run.networks["init"], run.network
    for name in BOTH:
        assert np.abs(getattr(after, name) - getattr(before, name)).max() > 0.05
    assert run.records["accuracy"][-1] > 0.85 > run.records["accuracy"][0]
    assert float(after.bias) == pytest.approx(0.02)


def test_a_fixed_readout_stays():
    found = train(PROBLEM, start(), [clean()], key=KEY, records=2).network
    assert np.array_equal(found.readout, start().readout)
    assert np.abs(found.weights - start().weights).max() > 0.05
    alone = train(PROBLEM, start(trained=("readout",)), [clean()], key=KEY, records=2).network
    assert np.array_equal(alone.weights, start().weights)
    assert np.abs(alone.readout - start().readout).max() > 0.05


def test_one_step_by_hand():
    """Descent on the loss of one batch, with each array's own decay."""
    rate, decay = 0.2, 0.5
    network = start(trained=BOTH)
    phase = clean(1, batch=50, dataset_size=50, weight_decay=decay)
    seen = jax.random.fold_in(jax.random.fold_in(KEY, 0), 2**31 - 1)
    batch = PROBLEM.sample_labelled(seen, 50)

    def loss(weights, readout):
        value = jax.nn.relu(batch.x @ weights.T) @ readout
        size = jnp.linalg.norm(weights, axis=1)
        reg = jnp.sum(size**2 / 2 + size**3 / 3) + jnp.sum(readout**2) / 2
        return jnp.mean(jnp.log1p(jnp.exp(-batch.y * value))) + decay * reg

    moved = train(PROBLEM, network, [phase], key=KEY, records=2).network
    slopes = jax.grad(loss, (0, 1))(network.weights, network.readout)
    for name, slope in zip(BOTH, slopes, strict=True):
        expected = getattr(network, name) - rate * slope
        np.testing.assert_allclose(getattr(moved, name), expected, rtol=1e-4, atol=1e-6)


def test_many_runs_are_stacked_and_scored_at_once(run):
    networks = [start(seed, trained=BOTH) for seed in (0, 1)]
    keys = jnp.stack([KEY, jax.random.key(61)])
    problem, both = replicate((PROBLEM, phases()), 2)
    many = train_many(problem, stack(networks), both, keys=keys, records=3, test_samples=512)
    np.testing.assert_allclose(many.network.readout[0], run.network.readout, atol=1e-5)
    assert np.abs(many.network.readout[0] - many.network.readout[1]).max() > 0.01
    attack = PGD(0.1, steps=5)
    scores = robust_accuracy(many.network, PROBLEM, attack, key=KEY, n=512)
    alone = robust_accuracy(run.network, PROBLEM, attack, key=KEY, n=512)
    assert scores.value.shape == (2,) and scores.value[0] == pytest.approx(alone.value, abs=0.01)
    with pytest.raises(ValueError, match=r"TwoLayer\.degree is 1 in number 0 and 3 in number 1"):
        stack([start(), start(degree=3)])


def test_attacks_and_critical_radius(run):
    scores = [
        robust_accuracy(run.network, PROBLEM, attack, key=KEY, n=1024).value
        for attack in (None, FGM(0.2), PGD(0.2, steps=20), APGD(0.2, steps=20))
    ]
    assert scores[0] > 0.85 and max(scores[1:]) < scores[0] - 0.1
    assert scores[2] <= scores[1] + 0.01 and abs(scores[3] - scores[2]) < 0.03
    radius = bisect_critical_radius(
        run.network, PROBLEM, lambda r: PGD(r, steps=10), key=KEY, n=512, low=0.01, high=2.0
    )
    assert radius.low < radius.value < radius.high and 0.05 < radius.value < 1
    parts = decompose(run.network.weights, PROBLEM)
    assert parts.alpha.shape == (M,)


def test_a_resumed_run_is_the_same_to_the_bit(run, tmp_path):
    class Killed(Exception):
        pass

    def stop(record):
        if (record.phase, record.step) == ("adversarial", 9):
            raise Killed

    settings = dict(key=KEY, records=3, test_samples=512)
    folder = Checkpoint(tmp_path, every=0)
    with pytest.raises(Killed):
        train(PROBLEM, start(trained=BOTH), phases(), checkpoint=folder, on_record=stop, **settings)
    resumed = []
    again = train(
        PROBLEM, start(trained=BOTH), phases(), checkpoint=folder, **settings,
        on_resume=lambda *where: resumed.append(where),
    )  # fmt: skip
    assert resumed and resumed[0][0] == "adversarial"
    pairs = zip(*map(jax.tree.leaves, (run.networks, again.networks)), strict=True)
    for one, other in pairs:
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="belongs to another run .*trained"):
        train(PROBLEM, start(), phases(), checkpoint=folder, **settings)


def test_divergence_and_death():
    wild = train(PROBLEM, start(trained=BOTH, degree=3), [clean(learning_rate=1e30)], key=KEY)
    assert wild.status == Status.DIVERGED
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(wild.network))
    closed = start(trained=BOTH, bias=100.0)
    dead = train(PROBLEM, closed, [clean(weight_decay=0.1)], key=KEY, records=2)
    assert dead.status == Status.DEAD
    # Decay alone: a ← (1 − ηλ)a, sixty times.
    np.testing.assert_allclose(dead.network.readout, closed.readout * 0.98**60, rtol=1e-4)


class Gated(Trainable):
    """σ(⟨v_i, x⟩) times ⟨w_i, x⟩, with v trained and an offset that stays."""

    weights: jax.Array
    bias: jax.Array
    gates: jax.Array
    offset: jax.Array
    trained = ("gates", "weights")

    def __call__(self, x, *, key=None):
        gate = jax.nn.sigmoid(x @ self.gates.T - self.bias)
        return jnp.sum(gate * (x @ self.weights.T), axis=1) + self.offset


def test_a_network_of_ones_own():
    shape = (4, D)
    parts = [0.1 * jax.random.normal(jax.random.key(i), shape) for i in range(2)]
    network = Gated(parts[0], jnp.zeros(()), parts[1], jnp.zeros(()))
    found = train(PROBLEM, network, [clean(200)], key=KEY, records=2)
    assert found.status == Status.OK and found.records["accuracy"][-1] > 0.85
    assert float(found.network.offset) == 0
    assert not np.array_equal(found.network.gates, network.gates)


def test_networks_that_cannot_be_trained_are_refused(unchecked):
    eye = jnp.eye(4, D)

    class Misnamed(Gated):
        trained = ("weights", "gate")

    low_rank = clean(rank=2)
    network, whole = start(trained=BOTH), jnp.arange(M)
    refused = [
        (start(trained=BOTH), [low_rank], "clean phase: rank=2 .* TwoLayer trains weights and rea"),
        (Misnamed(eye, jnp.zeros(()), eye, jnp.zeros(())), [clean()], "names 'gate', .* got None"),
        (eqx.tree_at(lambda n: n.readout, network, whole), [clean()], "'readout'.* array of int32"),
        (eqx.tree_at(lambda n: n.bias, network, 0.0), [clean()], "TwoLayer.bias .* Trainable"),
        (lambda x: x, [clean()], "must be a Trainable network, .* got the function"),
    ]
    for network, course, message in refused:
        with pytest.raises(ValueError, match=message) as caught:
            train(PROBLEM, network, course, key=KEY)
        assert "\n" not in str(caught.value)
    train(PROBLEM, start(), [clean(2, rank=2)], key=KEY, records=2)
    assert SymmetricReLU.trained == ("weights",)
