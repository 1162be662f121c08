"""A protocol at several radii, and over the networks of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from featpur_sim import SymmetricReLU, initialise
from featpur_sim.attacks.protocol import QUICK, Protocol, Stage
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.runs.attack import attack_radii, attack_run
from featpur_sim.runs.presets import dense_regime
from featpur_sim.runs.saved import SavedRun
from featpur_sim.training.loop import replicate

KEY = jax.random.key(60)


@pytest.fixture(scope="module")
def rugged(problem):
    """A random network: y f has many local minima inside the ball."""
    return initialise(problem.d, 128, sigma_0=0.5, bias=0.8, key=jax.random.key(21))


@pytest.fixture(scope="module")
def own(rugged, problem):
    """Points that the random network gets right, by labelling them with its own sign."""
    x = problem.sample(jax.random.key(61), 250).x
    x = x[rugged(x) != 0][:150]
    assert len(x) == 150
    return Batch(x, jnp.sign(rugged(x)), x)


def test_radii_rise_and_misses_are_corrected(rugged, own):
    class Forgetful(Protocol):
        """Searches only at the first radius it sees."""

        def __call__(self, model, batch, radius, norm="l2", **options):
            stages = QUICK.stages if radius < 1 else (Stage("FGM"),)
            return Protocol("forgetful", "1", stages)(model, batch, radius, norm, **options)

    proper = attack_radii(QUICK, rugged, own, [0.5, 1.0], key=KEY)
    assert not any("rises" in text for found in proper for text in found.warnings)
    small, large = attack_radii(
        Forgetful("forgetful", "1", QUICK.stages), rugged, own, [0.99, 1.0], key=KEY
    )
    assert np.all(large.robust <= small.robust)
    assert any("margin rises with the radius" in sentence for sentence in large.warnings)
    scored = np.asarray(own.y * rugged(own.x + large.delta))
    np.testing.assert_allclose(large.margin, scored, atol=1e-4)
    assert np.array_equal(large.robust, large.margin > 0)


@pytest.fixture
def saved(problem, mixed_network):
    config = dense_regime(seeds=2)
    pure = SymmetricReLU(jnp.concatenate([jnp.diag(problem.wstar)] * 2), mixed_network.bias)
    pair = {"clean": mixed_network, "adversarial": pure}
    networks = {
        phase: jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), network)
        for phase, network in pair.items()
    }
    result = xr.Dataset({"status": ("seed", ["ok", "ok"])}, {"seed": [3, 4]})
    return SavedRun(config, result, replicate(problem, 2), networks)


def test_rows_of_a_run(saved):
    rows = attack_run(saved, protocol=QUICK, radii=(0.5, 1.0), samples=100)
    assert len(rows) == 2 * 2 * 2
    tau = saved.config.adversarial.radius
    accuracy = {}
    for row in rows:
        assert row["n"] == 100 and row["protocol"] == "quick/1" and row["norm"] == "l2"
        assert row["radius"] == row["relative_radius"] * tau
        assert row["low"] <= row["attacked"] <= row["high"]
        accuracy[row["seed"], row["phase"], row["relative_radius"]] = row["attacked"]
    for seed in (3, 4):
        assert accuracy[seed, "clean", 1.0] < accuracy[seed, "clean", 0.5]
        assert accuracy[seed, "clean", 1.0] < accuracy[seed, "adversarial", 1.0]
    # Other points for another seed or another name of the test set.
    assert accuracy[3, "clean", 1.0] != accuracy[4, "clean", 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": ["trained"]}, r"phases must be among \['clean', 'adversarial'\]"),
        ({"samples": 0}, "samples must be an integer ≥ 1 .*, got 0"),
        ({"radii": (1.0, 0.5)}, "radii must be at least one and rise strictly"),
    ],
)
def test_a_run_refuses(saved, options, message):
    with pytest.raises(ValueError, match=message):
        attack_run(saved, protocol=QUICK, **{"samples": 10} | options)
