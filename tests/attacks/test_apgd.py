"""Auto-PGD: its schedule and its rules, against the paper and against a plain twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import PGD, initialise, pure_network
from featpur_sim.attacks import apgd
from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.attacks.apgd import APGD, checkpoints
from featpur_sim.attacks.gradient import Found

KEY = jax.random.key(50)
ORDER = {"l2": 2, "linf": np.inf}


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
def points(problem):
    return problem.sample_labelled(jax.random.key(51), 200)


def margins(model, points, attack):
    return np.asarray(attacked_margin(model, points, attack, key=KEY))


def test_checkpoints_are_those_of_the_paper():
    # p = 0, .22, .41, .57, .70, .80, .87, .93, .99 (Croce & Hein 2020, section 3.2).
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1000)[:3] == [220, 410, 570]
    assert checkpoints(2) == [1]
    assert checkpoints(1) == []


def plain_apgd(value_and_gradient, start, y, radius, norm, steps):
    """The algorithm for one sample, written out naively in float64."""

    def project(delta):
        if norm == "linf":
            return np.clip(delta, -radius, radius)
        return delta * min(1, radius / max(np.linalg.norm(delta), 1e-30))

    def direction(gradient):
        if norm == "linf":
            return np.sign(gradient)
        return gradient / max(np.linalg.norm(gradient), 1e-30)

    due = [0, *checkpoints(steps)]
    eta = 2 * radius
    now = previous = project(start)
    value, gradient = value_and_gradient(now)
    loss = best_loss = reviewed = -y * value
    best, best_gradient = now, gradient
    successes, halved = 0, False
    for t in range(steps):
        z = project(now - eta * y * direction(gradient))
        after = z if t == 0 else project(now + 0.75 * (z - now) + 0.25 * (now - previous))
        previous, now = now, after
        value, gradient = value_and_gradient(now)
        successes += -y * value > loss
        loss = -y * value
        if loss > best_loss:
            best, best_loss, best_gradient = now, loss, gradient
        if t + 1 in due:
            period = t + 1 - due[due.index(t + 1) - 1]
            stalled = successes < 0.75 * period or (not halved and reviewed >= best_loss)
            if stalled:
                eta /= 2
                now = previous = best
                loss, gradient = best_loss, best_gradient
            halved, reviewed, successes = stalled, best_loss, 0
    return -best_loss


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_it_is_its_plain_twin(rugged, points, norm, radius, steps):
    weights, bias = np.asarray(rugged.weights, float), float(rugged.bias)

    def value_and_gradient(x):
        u = weights @ x
        gate = np.abs(u) > bias
        return np.sum(np.sign(u) * np.maximum(np.abs(u) - bias, 0)), gate @ weights

    start = np.asarray(jax.random.normal(KEY, points.x.shape)) * radius
    found = APGD(radius, norm, steps=steps).descend(rugged, points, jnp.asarray(start), key=KEY)
    twin = [
        plain_apgd(lambda delta, x=x: value_and_gradient(x + delta), s, y, radius, norm, steps)
        for x, y, s in zip(
            np.asarray(points.x, float),
            np.asarray(points.y, float),
            start.astype(float),
            strict=True,
        )
    ]
    # The path is discontinuous in its rounding (gates, signs, conditions): a few points differ.
    close = np.isclose(found.margin, twin, atol=1e-3)
    assert close.mean() > {1: 0.99, 7: 0.98, 40: 0.9}[steps]


@pytest.mark.parametrize(
    ("successes", "reviewed", "halved", "stalls"),
    [
        (15, 2.0, False, False),  # enough steps succeeded, and the best has improved
        (14, 2.0, False, True),  # condition 1: fewer than 3/4 of 20
        (20, 1.0, False, True),  # condition 2: same step, same best over the period
        (20, 1.0, True, False),  # the step was halved a period ago: it gets its chance
    ],
)
def test_review_halves_the_step_and_returns_to_the_best(successes, reviewed, halved, stalls):
    here, best = jnp.full((1, 2), 3.0), jnp.full((1, 2), 5.0)
    state = apgd._State(
        delta=here,
        previous=-here,
        gradient=here,
        margin=jnp.array([1.5]),
        best=Found(jnp.array([1.0]), best),
        best_gradient=best,
        step=jnp.array([2.0]),
        successes=jnp.array([float(successes)]),
        reviewed_margin=jnp.array([reviewed]),
        halved=jnp.array([halved]),
    )
    after = apgd._review(state, jnp.float32(20))
    assert float(after.step[0]) == (1.0 if stalls else 2.0)
    assert np.array_equal(after.delta, best if stalls else here)
    assert np.array_equal(after.previous, best if stalls else -here)
    assert np.array_equal(after.gradient, best if stalls else here)
    assert float(after.margin[0]) == (1.0 if stalls else 1.5)
    assert bool(after.halved[0]) == stalls
    assert float(after.successes[0]) == 0 and float(after.reviewed_margin[0]) == 1.0


def test_found_margin_is_that_of_the_returned_point(rugged, points, norm, radius):
    start = jnp.full_like(points.x, 10.0)
    found = APGD(radius, norm, steps=20).descend(rugged, points, start, key=KEY)
    assert np.all(np.linalg.norm(found.delta, ORDER[norm], axis=-1) <= radius * (1 + 1e-5))
    scored = points.y * rugged(points.x + found.delta)
    np.testing.assert_allclose(found.margin, scored, atol=1e-4)


def test_the_start_counts(rugged, points):
    # Handed the best point of a long search, one step cannot return anything worse.
    long = APGD(1.0, steps=100, restarts=4)
    delta = long(rugged, points, key=KEY)
    known = np.asarray(points.y * rugged(points.x + delta))
    again = APGD(1.0, steps=1).descend(rugged, points, delta, key=KEY)
    assert np.all(np.asarray(again.margin) <= known + 1e-4)


def test_exact_on_a_linear_model(problem, points, norm):
    linear = pure_network(problem.wstar, 0.0)
    dual = {"l2": np.sqrt(problem.d), "linf": problem.d}[norm]
    found = margins(linear, points, APGD(0.1, norm, steps=10))
    np.testing.assert_allclose(found, margins(linear, points, None) - 0.1 * dual, atol=1e-5)


def test_scale_of_the_output_does_not_matter(rugged, points):
    # f(x) = ΣS_b(⟨w,x⟩) is homogeneous in (w, b): powers of two change no rounding.
    small = type(rugged)(rugged.weights * 2.0**-20, rugged.bias * 2.0**-20)
    for attack in (APGD(1.0, steps=30), APGD(0.2, "linf", steps=30)):
        assert np.array_equal(attack(rugged, points, key=KEY), attack(small, points, key=KEY))


def test_beats_pgd_of_the_same_budget_where_the_loss_is_rugged(rugged, points, norm, radius):
    usual = margins(rugged, points, PGD(radius, norm, steps=40))
    auto = margins(rugged, points, APGD(radius, norm, steps=40))
    assert auto.mean() < usual.mean()


def test_restarts_find_more(rugged, points, norm, radius):
    one, many = (margins(rugged, points, APGD(radius, norm, steps=20, restarts=r)) for r in (1, 5))
    assert np.all(many <= one + 1e-4)
    assert np.mean(many < one - 1e-2) > 0.1


def test_radius_is_data_and_vmaps(rugged, points):
    radii = jnp.array([0.0, 0.5, 1.0])
    traces = []

    def mean_margin(radius):
        traces.append(1)
        delta = APGD(radius, steps=10)(rugged, points, key=KEY)
        return jnp.mean(points.y * rugged(points.x + delta))

    together = jax.jit(jax.vmap(mean_margin))(radii)
    compiled = jax.jit(mean_margin)
    one_by_one = [compiled(radius) for radius in radii]
    assert len(traces) == 2
    np.testing.assert_allclose(together, one_by_one, rtol=1e-3)
    assert np.all(np.diff(np.asarray(together)) < 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer ≥ 1 .*, got 0"),
        ({"restarts": 0}, "restarts must be an integer ≥ 1 .*, got 0"),
    ],
)
def test_it_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        APGD(0.1, **arguments)
