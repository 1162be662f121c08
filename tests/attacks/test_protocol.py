"""The frozen protocols: what is promised of every result, and what each part is for."""

import hashlib
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import PGD, SymmetricReLU, initialise, pure_network
from featpur_sim.attacks._search import batches, inside_ball, random_start
from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.attacks.protocol import QUICK, STANDARD, Protocol, Stage
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.classifier import Classifier

KEY = jax.random.key(60)
ORDER = {"l2": 2, "linf": np.inf}


class Steps(Classifier):
    """f = Σ_j c_j 1{⟨e_j, x⟩ > 0.1} − 1{⟨e_j, x⟩ < −0.1}: its gradient is 0 everywhere."""

    slopes: jax.Array

    def __call__(self, x, *, key=None):
        return jnp.sum(jnp.where(jnp.abs(x) > 0.1, jnp.sign(x), 0) * self.slopes, -1)

    def value_and_input_gradient(self, x, *, key=None):
        return self(x), jnp.zeros_like(x)


class SmoothSteps(Steps):
    """The same, with an approximate smoothed form."""

    def smoothed(self, width):
        return Ramps(self.slopes, width)


class Ramps(Classifier):
    slopes: jax.Array
    width: jax.Array

    def __call__(self, x, *, key=None):
        return self.value_and_input_gradient(x)[0]

    def value_and_input_gradient(self, x, *, key=None):
        up, down = (jax.nn.sigmoid((s * x - 0.1) / self.width) for s in (1, -1))
        slope = self.slopes * (up * (1 - up) + down * (1 - down)) / self.width
        return (up - down) @ self.slopes, slope


class Counting(Classifier):
    """Counts how often it is compiled."""

    model: Classifier
    traced: list = eqx.field(static=True)

    def __call__(self, x, *, key=None):
        if isinstance(x, jax.core.Tracer):
            self.traced.append(x.shape)
        return self.model(x, key=key)

    def value_and_input_gradient(self, x, *, key=None):
        return self(x), self.model.value_and_input_gradient(x, key=key)[1]


@pytest.fixture(params=["l2", "linf"])
def norm(request):
    return request.param


@pytest.fixture
def radius(norm):
    """Large enough that gates open and close on the way."""
    return {"l2": 1.0, "linf": 0.2}[norm]


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


# --- what holds for every result


def test_result_is_what_the_model_says(mixed_network, batch, problem, norm):
    size = {"l2": 0.15, "linf": 0.03}[norm]
    found = QUICK(mixed_network, batch, size, norm, key=KEY, direction=problem.dense_direction())
    y = np.asarray(batch.y)
    scored = y * np.asarray(mixed_network(batch.x + found.delta))
    kept = y != 0
    assert np.array_equal(found.labelled, kept)
    np.testing.assert_allclose(found.margin[kept], scored[kept], atol=1e-5)
    assert np.isnan(found.margin[~kept]).all() and not found.robust[~kept].any()
    assert np.array_equal(found.robust, found.margin > 0)
    assert found.accuracy.n == kept.sum()
    assert found.accuracy.value == found.robust.sum() / kept.sum()


def test_delta_is_inside_the_ball_as_exact_numbers(rugged, own, radius, norm):
    found = QUICK(rugged, own, radius, norm, key=KEY)
    length = np.linalg.norm(found.delta.astype(np.float64), ORDER[norm], axis=-1)
    assert np.all(length <= radius)
    assert np.median(length) > 0.99 * radius


def test_table_adds_up(mixed_network, batch, problem):
    found = QUICK(mixed_network, batch, 0.2, key=KEY, direction=problem.dense_direction())
    y = np.asarray(batch.y)
    right = int(np.sum(y * np.asarray(mixed_network(batch.x)) > 0))
    left = right
    for row in found.table:
        assert row["points"] == left and row["broken"] == row["new"]
        left -= row["new"]
    assert left == found.robust.sum() < right
    assert [row["attack"] for row in found.table][:2] == ["FGM", "dense mixture"]


def test_without_cascade_every_attack_meets_every_point(mixed_network, batch, problem):
    direction = problem.dense_direction()
    alone = QUICK(mixed_network, batch, 0.2, key=KEY, direction=direction, cascade=False)
    cascade = QUICK(mixed_network, batch, 0.2, key=KEY, direction=direction)
    assert len({row["points"] for row in alone.table}) == 1
    assert alone.table[1]["broken"] > alone.table[1]["new"]
    assert np.all(alone.robust <= cascade.robust)
    # Broken points are searched on, so they sink further.
    assert alone.margin[alone.labelled].mean() < cascade.margin[cascade.labelled].mean()


def test_same_key_same_result_and_survivors_do_not_matter(rugged, own):
    few = Protocol("few", "1", (Stage("APGD", "sphere", steps=5),))
    one = few(rugged, own, 1.0, key=KEY)
    assert np.array_equal(one.delta, few(rugged, own, 1.0, key=KEY).delta)
    assert not np.array_equal(one.delta, few(rugged, own, 1.0, key=jax.random.key(1)).delta)
    # Point 0 mislabelled: wrong at x, hence left out of the search of the others.
    fewer = few(rugged, own._replace(y=own.y.at[0].multiply(-1)), 1.0, key=KEY)
    assert np.allclose(fewer.delta[1:], one.delta[1:], atol=1e-6)


def test_nothing_recompiles(rugged, own):
    traced: list = []
    model = Counting(rugged, traced)
    assert QUICK(model, own, 0.2, key=KEY).table[-1]["points"] > 0
    first = len(traced)
    assert first > 0
    fewer = jax.tree.map(lambda leaf: leaf[:100], own)
    assert QUICK(model, fewer, 0.1, key=jax.random.key(1)).table[-1]["points"] > 0
    assert len(traced) == first


def test_batches_cover_every_row_once():
    for n in (1, 128, 129, 512, 513, 1024, 2100):
        pieces = batches(np.arange(n))
        assert {len(piece) for piece in pieces} <= {128, 1024}
        assert np.array_equal(np.unique(np.concatenate(pieces)), np.arange(n))
        assert np.array_equal(np.concatenate(pieces)[:n], np.arange(n))


def test_inside_ball_shrinks_only_what_sticks_out(norm):
    generator = np.random.default_rng(0)
    delta = generator.normal(size=(1000, 30)).astype(np.float32)
    length = np.linalg.norm(delta.astype(float), ORDER[norm], axis=-1)
    radius = float(np.median(length))
    shrunk = inside_ball(delta, radius, norm)
    assert np.array_equal(shrunk[length <= radius], delta[length <= radius])
    after = np.linalg.norm(shrunk.astype(float), ORDER[norm], axis=-1)
    assert np.all(after <= radius) and np.all(after[length > radius] > radius * (1 - 1e-6))


def test_random_starts_are_what_their_names_say(norm):
    generator = np.random.default_rng(0)
    starts = {
        kind: random_start(kind, (500, 64), 0.3, norm, generator)
        for kind in ("sphere", "inside", "sparse")
    }
    length = {kind: np.linalg.norm(s, ORDER[norm], axis=-1) for kind, s in starts.items()}
    np.testing.assert_allclose(length["sphere"], 0.3, rtol=1e-6)
    assert np.all(length["inside"] < 0.3) and np.all(length["inside"] > 0)
    moved = np.mean(starts["sparse"] != 0, axis=-1)
    assert 0.04 < moved.mean() < 0.12
    assert np.all(np.abs(starts["sphere"].mean(0)) < 0.06)


# --- strength


def test_standard_is_stronger_than_pgd_with_restarts(rugged, own, norm, radius):
    pgd = np.asarray(attacked_margin(rugged, own, PGD(radius, norm, restarts=4), key=KEY))
    found = STANDARD(rugged, own, radius, norm, key=KEY, cascade=False)
    assert np.mean(found.margin < pgd - 1e-3) > 10 * np.mean(found.margin > pgd + 1e-3)
    quick = QUICK(rugged, own, radius, norm, key=KEY, cascade=False)
    assert found.margin.mean() < quick.margin.mean() < pgd.mean()


def test_exact_on_a_linear_model(problem, batch, norm):
    linear = pure_network(problem.wstar, 0.0)
    dual = {"l2": np.sqrt(problem.d), "linf": problem.d}[norm]
    clean = np.asarray(batch.y * linear(batch.x))
    found = QUICK(linear, batch, 0.1, norm, key=KEY, cascade=False)
    right = clean > 0
    np.testing.assert_allclose(found.margin[right], clean[right] - 0.1 * dual, atol=1e-4)


def test_annealed_smoothing_beats_the_bare_gradient(rugged, own, norm, radius):
    # One start each, the same steps: smoothing sees the gates that are about to open.
    margin = {
        smoothing: np.asarray(
            attacked_margin(rugged, own, PGD(radius, norm, steps=100, smoothing=smoothing), key=KEY)
        )
        for smoothing in (0.0, 0.4)
    }
    assert margin[0.4].mean() < margin[0.0].mean() - 0.01


def test_smoothed_stage_breaks_a_model_without_gradients(problem, batch):
    found_by = {}
    for name, kind in (("blind", Steps), ("seeing", SmoothSteps)):
        found_by[name] = QUICK(kind(problem.wstar), batch, 0.5, key=KEY)
    right = np.sum(np.asarray(batch.y * Steps(problem.wstar)(batch.x)) > 0)
    assert found_by["blind"].robust.sum() > 0.5 * right
    assert found_by["seeing"].robust.sum() < 0.3 * right
    for found in found_by.values():
        assert "zero gradients" in found.warnings[0]


def test_smoothed_network_is_the_average_over_noisy_inputs(mixed_network, batch):
    width = 0.1
    noise = width * jax.random.normal(KEY, (4000, *batch.x[:20].shape))
    sampled = jax.vmap(lambda n: mixed_network(batch.x[:20] + n))(noise)
    error = np.asarray(sampled.std(0)) / np.sqrt(len(noise))
    smooth = mixed_network.smoothed(jnp.float32(width))
    gap = np.abs(np.asarray(smooth(batch.x[:20]) - sampled.mean(0)))
    assert np.all(gap < 4 * error)
    assert np.any(np.abs(np.asarray(mixed_network(batch.x[:20]) - sampled.mean(0))) > 6 * error)
    _, gradient = smooth.value_and_input_gradient(batch.x)
    expected = jax.grad(lambda x: jnp.sum(smooth(x)))(batch.x)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_smoothed_at_width_zero_is_the_expectation(mixed_network, batch):
    zero = mixed_network.smoothed(jnp.float32(0))
    np.testing.assert_allclose(zero(batch.x), mixed_network(batch.x), atol=1e-5)
    weights, bias = mixed_network.weights, mixed_network.bias
    sampled = SymmetricReLU(weights, bias, sigma_rho=0.1, smoothing="sampled")
    closed = SymmetricReLU(weights, bias, sigma_rho=0.1, smoothing="closed")
    np.testing.assert_allclose(
        sampled.smoothed(jnp.float32(0))(batch.x), closed(batch.x), atol=1e-5
    )
    dead = SymmetricReLU(jnp.zeros((3, 4)), 0.0).smoothed(jnp.float32(0.1))
    assert not np.asarray(dead(jnp.ones((2, 4)))).any()


# --- starts handed over


def test_given_starts_are_used_and_projected(problem, batch):
    # A model without gradients falls only to a start that already breaks it.
    model, y = Steps(problem.wstar), np.asarray(batch.y)[:, None]
    blow = (-y * np.asarray(problem.wstar) * 0.3).astype(np.float32)
    radius = 0.3 * np.sqrt(problem.d)
    with_start = QUICK(model, batch, radius, key=KEY, starts=[0 * blow, 5 * blow])
    without = QUICK(model, batch, radius, key=KEY)
    assert with_start.robust.sum() < 0.1 * without.robust.sum()
    assert sum(row["new"] for row in with_start.table if "given" in row["attack"]) > 50
    assert not any("given" in row["attack"] for row in without.table)


# --- warnings


def test_no_warning_without_a_cause(mixed_network, batch, problem):
    found = QUICK(mixed_network, batch, 0.15, key=KEY, direction=problem.dense_direction())
    assert found.warnings == []


def test_dense_mixture_beating_gradient_attacks_is_a_warning(problem, batch):
    radius = 0.3 * np.sqrt(problem.d)
    found = QUICK(Steps(problem.wstar), batch, radius, key=KEY, direction=problem.dense_direction())
    assert [sentence.split(":")[0] for sentence in found.warnings] == [
        "zero gradients",
        "weak attack beats strong ones",
    ]


def test_randomised_model_is_a_warning(mixed_network, batch):
    weights, bias = mixed_network.weights, mixed_network.bias
    for smoothing, expected in (("sampled", 1), ("closed", 0)):
        model = SymmetricReLU(weights, bias, sigma_rho=0.1, smoothing=smoothing)
        warnings = QUICK(model, batch, 0.1, key=KEY).warnings
        assert sum("randomised model" in sentence for sentence in warnings) == expected


def test_models_that_are_not_finite_are_refused(problem, batch):
    with pytest.raises(ValueError, match="weights that are not finite"):
        QUICK(Steps(problem.wstar.at[0].set(jnp.nan)), batch, 0.1, key=KEY)


# --- frozen


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [(QUICK, "cb076d5723d9a88b"), (STANDARD, "51e8568667458735")],
    ids=["quick", "standard"],
)
def test_a_version_never_changes(protocol, digest):
    text = json.dumps(protocol.describe(), sort_keys=True)
    found = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (protocol.version, found) == ("1", digest), "raise the version with any change"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius must be > 0 and finite .*, got 0"),
        ({"radius": float("nan")}, "radius must be > 0 and finite .*, got nan"),
        ({"norm": "l1"}, "norm must be 'l2' or 'linf', got 'l1'"),
        ({"starts": [np.zeros((2, 2))]}, r"starts\[0\] has shape \(2, 2\)"),
        ({"starts": [np.full((200, 32), np.inf)]}, r"starts\[0\].*must be finite"),
    ],
)
def test_it_refuses(mixed_network, batch, unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        QUICK(mixed_network, batch, **{"radius": 0.1} | options, key=KEY)


def test_it_refuses_points_without_labels(mixed_network, batch):
    tied = batch._replace(y=jnp.zeros_like(batch.y))
    with pytest.raises(ValueError, match="none of the 200 points has a label"):
        QUICK(mixed_network, tied, 0.1, key=KEY)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (("BFGS",), "method must be one of FGM, dense mixture, PGD, APGD, got 'BFGS'"),
        (("PGD", "corner"), "start must be one of zero, .*got 'corner'"),
        (("PGD", "zero", 0), "restarts must be an integer ≥ 1 .*, got 0"),
    ],
)
def test_stage_refuses(unchecked, stage, message):
    with pytest.raises(ValueError, match=message):
        Stage(*stage)
