"""Every attack in one table: what each must obey, then what each is for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import UNIT, input_gradient, sign_error, unit_error, within

from featpur_sim import FGM, PGD, SparseCoding, initialise
from featpur_sim.attacks.accuracy import attacked_margin as attacked_margin_eager
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import DenseMixture, RandomNoise, Transfer
from featpur_sim.data.sparse_coding import Batch
from featpur_sim.models.symmetric_relu import pure_network

KEY = jax.random.key(20)
attacked_margin = eqx.filter_jit(attacked_margin_eager)


@eqx.filter_jit
def perturb(attack, model, batch, key=KEY):
    """Under jit, so that the radii of one attack share one program."""
    return attack(model, batch, key=key)


ATTACKS = {
    "fgm": lambda problem, radius, norm: FGM(radius, norm),
    "pgd": lambda problem, radius, norm: PGD(radius, norm, steps=10, restarts=2),
    "pgd on support": lambda problem, radius, norm: PGD(
        radius, norm, steps=10, restarts=2, on_support=True
    ),
    "dense": lambda problem, radius, norm: DenseMixture.of(problem, radius, norm),
    "random": lambda problem, radius, norm: RandomNoise(radius, norm),
    "transfer": lambda problem, radius, norm: Transfer(
        pure_network(problem.wstar, 0.2), PGD(radius, norm, steps=5)
    ),
}
ORDER = {"l2": 2, "linf": np.inf}


def length(delta, norm):
    return np.linalg.norm(np.asarray(delta, float), ORDER[norm], axis=-1)


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


@pytest.fixture(params=ATTACKS)
def make(request, problem, norm):
    return lambda radius: ATTACKS[request.param](problem, radius, norm)


def test_perturbation_stays_in_the_ball(make, norm, mixed_network, batch):
    for radius in (1e-4, 0.1, 2.0):
        attack = make(radius)
        delta = perturb(attack, mixed_network, batch)
        assert np.all(length(delta, norm) <= radius * (1 + 1e-5))
        assert length(delta, norm).max() > 0.9 * radius


def test_zero_radius_changes_nothing(make, mixed_network, batch):
    assert not np.asarray(perturb(make(0.0), mixed_network, batch)).any()


def test_worst_case_margin_is_never_above_the_clean_one(make, mixed_network, batch):
    attack = make(0.15)
    clean = np.asarray(attacked_margin(mixed_network, batch, None, key=KEY))
    attacked = np.asarray(attacked_margin(mixed_network, batch, attack, key=KEY))
    if attack.worst_case:
        assert np.all(attacked <= clean)
    assert np.any(attacked < clean)


def test_radius_and_model_are_data(make, mixed_network, batch):
    calls = []

    @eqx.filter_jit
    def run(attack, model):
        calls.append(1)
        return attack(model, batch, key=KEY)

    first = run(make(0.1), mixed_network)
    moved = eqx.tree_at(lambda n: n.weights, mixed_network, mixed_network.weights * 1.5)
    run(make(0.2), moved)
    assert len(calls) == 1
    np.testing.assert_allclose(first, perturb(make(0.1), mixed_network, batch), atol=1e-5)


def test_attacks_on_zero_gradients_are_finite(make, mixed_network, batch):
    asleep = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(1e3))
    assert np.isfinite(np.asarray(perturb(make(0.1), asleep, batch))).all()


def test_fgm_is_its_formula(problem, mixed_network, batch, norm):
    delta = perturb(FGM(0.1, norm), mixed_network, batch)
    gradient = np.asarray(jax.grad(lambda x: jnp.sum(mixed_network(x)))(batch.x), float)
    size = np.linalg.norm(gradient, axis=-1, keepdims=True)
    unit = {"l2": gradient / np.where(size > 0, size, 1), "linf": np.sign(gradient)}
    expected = -0.1 * np.asarray(batch.y)[:, None] * unit[norm]
    exact, error = input_gradient(mixed_network, batch.x)
    turned = {
        "l2": unit_error(exact, np.linalg.norm(error, axis=1))[:, None],
        "linf": sign_error(exact, error),
    }[norm]
    assert np.median(turned) < 1e-4
    # Both gradients round, and the radius does.
    within(delta, expected, 0.1 * (2 * turned + 2 * UNIT))


def test_fgm_leaves_ties_and_zero_gradients_alone(mixed_network, batch):
    tie = np.asarray(batch.y) == 0
    assert tie.any() and not np.asarray(perturb(FGM(0.1), mixed_network, batch))[tie].any()
    asleep = eqx.tree_at(lambda n: n.bias, mixed_network, jnp.float32(1e3))
    assert not np.asarray(perturb(FGM(0.1), asleep, batch)).any()


def margins(model, batch, attack):
    keep = np.asarray(batch.labelled)
    return np.asarray(attacked_margin(model, batch, attack, key=KEY))[keep]


def test_pgd_beats_fgm(rugged, batch, norm, radius):
    # With a first step of the whole radius, PGD's second iterate is FGM's δ.
    fgm = margins(rugged, batch, FGM(radius, norm))
    strong = margins(rugged, batch, PGD(radius, norm, step_size=1.0))
    assert np.all(strong <= fgm + 1e-5)
    usual = margins(rugged, batch, PGD(radius, norm))
    assert usual.mean() < fgm.mean()
    assert np.mean(usual < fgm - 1e-4) > 0.1


def test_pgd_finds_the_worst_point_of_a_linear_model(problem, batch, norm):
    # With b = 0 the network is linear: the worst case is f(x) − τ‖∇f‖_dual, sample by sample.
    linear = pure_network(problem.wstar, 0.0)
    dual = {"l2": np.sqrt(problem.d), "linf": problem.d}[norm]
    found = margins(linear, batch, PGD(0.1, norm))
    clean = margins(linear, batch, None)
    np.testing.assert_allclose(found, clean - 0.1 * dual, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 40])
def test_every_number_of_steps_reaches_the_sphere(problem, batch, norm, steps):
    linear = pure_network(problem.wstar, 0.0)
    dual = {"l2": np.sqrt(problem.d), "linf": problem.d}[norm]
    clean = margins(linear, batch, None)
    for attack in (PGD(0.1, norm, steps=steps), APGD(0.1, norm, steps=steps)):
        found = margins(linear, batch, attack)
        np.testing.assert_allclose(found, clean - 0.1 * dual, atol=1e-5)


def test_one_step_is_fgm(rugged, batch, norm, radius):
    one = perturb(PGD(radius, norm, steps=1), rugged, batch)
    fgm = perturb(FGM(radius, norm), rugged, batch)
    # PGD keeps its start where the step raises the margin.
    better = margins(rugged, batch, FGM(radius, norm)) < margins(rugged, batch, None)
    kept = np.asarray(batch.labelled).nonzero()[0][better]
    assert len(kept) > 100
    np.testing.assert_allclose(one[kept], fgm[kept], rtol=1e-5)


def test_the_usual_first_step_is_half_the_radius():
    assert all(float(PGD(0.1, steps=steps).step_size) == 0.5 for steps in (3, 10, 40))


@pytest.mark.parametrize("scale", [1e22, 1e29])
def test_attacks_hold_at_large_scales(problem, batch, norm, scale):
    linear = pure_network(problem.wstar, 0.0)
    for attack in (FGM(scale, norm), PGD(scale, norm, steps=5), PGD(scale, norm, smoothing=0.4)):
        delta = np.asarray(perturb(attack, linear, batch), float)[np.asarray(batch.labelled)]
        np.testing.assert_allclose(length(delta, norm), scale, rtol=1e-5)


def test_more_steps_and_restarts_find_more(rugged, batch, norm, radius):
    one, many = (margins(rugged, batch, PGD(radius, norm, steps=8, restarts=r)) for r in (1, 6))
    assert np.all(many <= one + 1e-5)
    assert np.any(many < one - 1e-4)
    long = margins(rugged, batch, PGD(radius, norm, steps=60))
    assert long.mean() < one.mean()


def test_pgd_keeps_its_best_iterate(mixed_network, batch):
    # Steps of ten radii jump about; the clean start is among the iterates, so no margin rises.
    wild = margins(mixed_network, batch, PGD(0.3, steps=3, step_size=10.0))
    clean = margins(mixed_network, batch, None)
    assert np.all(wild <= clean)


def test_pgd_on_the_support_stays_there(mixed_network, batch, norm, radius):
    attack = PGD(radius, norm, steps=10, restarts=3, on_support=True)
    delta = np.asarray(perturb(attack, mixed_network, batch))
    off = np.asarray(batch.z) == 0
    assert not delta[off].any()
    assert delta[~off].any()
    free = margins(mixed_network, batch, PGD(radius, norm, steps=10, restarts=3))
    assert free.mean() < margins(mixed_network, batch, attack).mean()


def test_pgd_on_the_support_needs_m_equal_to_d():
    problem = SparseCoding(d=8, k=2, sigma_x=0.1, D=12, dictionary="incoherent")
    batch = problem.sample(KEY, 5)
    model = pure_network(problem.wstar, 0.1, problem.M)
    with pytest.raises(ValueError, match="on_support=True. needs M = I"):
        PGD(0.1, on_support=True)(model, batch, key=KEY)


def test_dense_mixture_is_one_direction_that_ignores_the_model(problem, mixed_network, batch, norm):
    attack = DenseMixture.of(problem, 0.2, norm)
    delta = perturb(attack, mixed_network, batch)
    unit = np.asarray(problem.wstar) / (np.sqrt(problem.d) if norm == "l2" else 1)
    np.testing.assert_allclose(delta, -0.2 * np.asarray(batch.y)[:, None] * unit, atol=1e-6)
    other = attack(pure_network(problem.wstar, 0.1), batch, key=jax.random.key(9))
    assert np.array_equal(delta, other)


def test_dense_mixture_of_a_dictionary_points_along_mwstar(norm):
    problem = SparseCoding(d=8, k=2, sigma_x=0.1, D=12, dictionary="incoherent")
    batch = problem.sample(KEY, 5)
    direction = np.asarray(problem.M, float) @ np.asarray(problem.wstar, float)
    unit = {"l2": direction / np.linalg.norm(direction), "linf": np.sign(direction)}[norm]
    delta = DenseMixture.of(problem, 0.2, norm)(
        pure_network(problem.wstar, 0.1, problem.M), batch, key=KEY
    )
    np.testing.assert_allclose(delta, -0.2 * np.asarray(batch.y)[:, None] * unit, atol=1e-6)


def test_dense_parts_are_what_the_dense_attack_uses(problem, mixed_network, batch):
    # Claim C2 in miniature: the mixture falls to Mw* alone, and not to noise of the same norm.
    clean, dense, noise = (
        np.mean(margins(mixed_network, batch, attack) > 0)
        for attack in (None, DenseMixture.of(problem, 0.3), RandomNoise(0.3))
    )
    assert clean > 0.95 and noise > clean - 0.05
    assert dense < 0.5


def test_random_noise_has_norm_exactly_the_radius(mixed_network, batch, norm):
    delta = perturb(RandomNoise(0.2, norm), mixed_network, batch)
    np.testing.assert_allclose(length(delta, norm), 0.2, rtol=1e-5)
    other = perturb(RandomNoise(0.2, norm), mixed_network, batch, jax.random.key(1))
    assert not np.array_equal(delta, other)
    assert np.abs(np.asarray(delta).mean(0)).max() < 0.5 * 0.2


def test_transfer_is_the_attack_on_its_source(problem, mixed_network, batch, norm):
    source, attack = pure_network(problem.wstar, 0.2), PGD(0.2, norm, steps=5)
    found = perturb(Transfer(source, attack), mixed_network, batch)
    assert np.array_equal(found, perturb(attack, source, batch))
    assert not np.allclose(found, perturb(attack, mixed_network, batch), atol=1e-3)


def test_ties_do_not_steer_an_attack(mixed_network, batch):
    tied = Batch(batch.x, jnp.zeros_like(batch.y), batch.z)
    for attack in (FGM(0.1), PGD(0.1, steps=3, restarts=2)):
        assert not np.asarray(perturb(attack, mixed_network, tied)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be an integer ≥ 1 .*, got 0"),
        ({"restarts": 0}, "restarts must be an integer ≥ 1 .*, got 0"),
        ({"step_size": 0.0}, "step_size must be > 0 .*, got 0.0"),
        ({"step_size": float("nan")}, "step_size must be > 0 .*, got nan"),
        ({"steps": 2, "step_size": 0.5}, "steps=2 of step_size=0.5 ends inside its ball, 0.76"),
    ],
)
def test_pgd_refuses(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        PGD(0.1, **arguments)
