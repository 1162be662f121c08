"""Scores: an exact bracket for the pure network, planted networks for surgery and transfer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import PGD, SparseCoding, SymmetricReLU, pure_network
from featpur_sim.attacks.accuracy import count_robust
from featpur_sim.attacks.gradient import Transfer
from featpur_sim.measure.weights import dense_part
from featpur_sim.runs.build import make_problem, make_problems
from featpur_sim.runs.config import parse
from featpur_sim.runs.evaluation import ATTACKS, REFERENCES, Evaluator, attack_family, surgery
from featpur_sim.runs.experiment import seed_keys
from featpur_sim.theory.pure_network import pure_network_robust_accuracy


def stacked(*networks):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


@pytest.fixture(scope="module")
def planted(tiny):
    """An evaluator over two seeds whose clean networks are mixed along w* to different degrees."""
    config = parse(tiny(evaluation={"pgd_steps": 10, "pgd_restarts": 2}))
    problem = make_problem(config, 1)
    pure = pure_network(problem.wstar, 0.25)
    networks = stacked(
        *(
            eqx.tree_at(lambda n: n.weights, pure, pure.weights + c * problem.wstar[None, :])
            for c in (0.05, 0.3)
        )
    )
    problems, keys = make_problems(config), seed_keys(config)[2]
    return config, problem, networks, Evaluator(config, problems, keys, networks)


@pytest.mark.parametrize("multiple", [0.3, 0.6])
def test_pgd_on_the_pure_network_is_inside_its_exact_bracket(multiple):
    d, k, samples = 16, 3, 4000
    radius, bias = 0.3 / np.sqrt(k), multiple / np.sqrt(k)
    exact = pure_network_robust_accuracy(d, k, 0.3, radius, bias, n=40_000, seed=1)
    problem = SparseCoding(d, k, 0.3, key=jax.random.key(7))
    network = pure_network(problem.wstar, bias)
    attack = PGD(radius, steps=40, restarts=2)
    robust, labelled = count_robust(network, problem, attack, key=jax.random.key(8), n=samples)
    found = int(robust) / int(labelled)
    error = np.sqrt(found * (1 - found) * (1 / int(labelled) + 1 / exact.n))
    assert exact.upper - exact.lower < 0.01
    # An attack can only miss: never below the proven share, and at most a little above the other.
    assert found >= exact.lower - 4 * error
    assert found <= exact.upper + 4 * error + 0.01
    clean, _ = count_robust(network, problem, None, key=jax.random.key(8), n=samples)
    assert int(clean) / int(labelled) > exact.upper + 0.03


def test_the_best_pure_network_is_scored_on_other_points_and_is_the_best(planted):
    config, problem, _, evaluator = planted
    network, bias = evaluator.best_pure_network(seed_keys(config)[3])
    assert network.weights.shape == (2, 16, 16)
    np.testing.assert_allclose(network.bias, bias, rtol=1e-6)
    tuning = Evaluator(config, make_problems(config), seed_keys(config)[3], network)
    scores = {}
    for multiple in (0.1, 0.3, 0.5, 0.7, 0.9):
        one = pure_network(problem.wstar, multiple / np.sqrt(3))
        scores[multiple] = float(np.mean(tuning.accuracy(stacked(one, one), "PGD")))
    best = float(np.mean(tuning.accuracy(network, "PGD")))
    assert best >= max(scores.values()) and max(scores.values()) - min(scores.values()) > 0.02


def test_surgery_moves_the_clean_dense_part_and_nothing_else(planted):
    _, problem, clean, evaluator = planted
    key = jax.random.key(3)
    weights = jax.random.normal(key, clean.weights.shape)
    adversarial = jax.vmap(SymmetricReLU)(weights, jnp.asarray([0.3, 0.4]))
    found = surgery({"clean": clean, "adversarial": adversarial}, evaluator.lanes)
    assert tuple(found) == REFERENCES[1:]
    cut, put = found.values()
    for seed, share in enumerate((0.05, 0.3)):
        # w_i = w*_i e_i + c w*: own coefficient w*_i(1 + c) up to sign, κ = c for w*_i = 1.
        pure = jnp.eye(16) * (problem.wstar[:, None] + share * problem.wstar[None, :])
        np.testing.assert_allclose(cut.weights[seed], pure, atol=1e-6)
        mixture = dense_part(clean.weights[seed], problem)
        np.testing.assert_allclose(jnp.diagonal(mixture), 0, atol=1e-6)
        np.testing.assert_allclose(put.weights[seed] - weights[seed], mixture, atol=1e-6)
    np.testing.assert_array_equal(cut.bias, clean.bias)
    np.testing.assert_array_equal(put.bias, adversarial.bias)


def test_transfer_uses_the_neighbours_clean_network(planted):
    config, problem, clean, evaluator = planted
    found = evaluator.accuracy(clean, "transfer")
    radius = jnp.float32(config.adversarial.radius)
    keys = seed_keys(config)[2]

    def scored(seed, source):
        attack = Transfer(jax.tree.map(lambda leaf: leaf[source], clean), PGD(radius, steps=10))
        network = jax.tree.map(lambda leaf: leaf[seed], clean)
        robust, labelled = count_robust(network, problem, attack, key=keys[seed], n=2000)
        return int(robust) / int(labelled)

    expected = [scored(0, 1), scored(1, 0)]
    np.testing.assert_allclose(found, expected, atol=1.5 / 1700)
    assert min(abs(scored(s, s) - expected[s]) for s in (0, 1)) > 0.005


def test_all_attacks_are_scored_on_the_same_points(tiny_run, tiny):
    accuracy = tiny_run.result.robust_accuracy
    labelled = np.round(2000 * (1 - tiny_run.result.excluded_fraction))
    counts = accuracy * labelled
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-2)
    at_zero = accuracy.isel(radius=0)
    assert bool((at_zero == at_zero.isel(attack=0)).all())
    worst_case = accuracy.drop_sel(attack="random noise")
    assert bool((worst_case <= at_zero.isel(attack=0)).all())
    strong, weak = accuracy.sel(attack="PGD"), accuracy.sel(attack=["FGM", "dense mixture"])
    assert bool((strong <= weak + 0.01).all())
    assert float((weak - strong).max()) > 0.005
    inside = accuracy.sel(attack="PGD on support")
    assert bool((strong <= inside + 0.01).all()) and float((inside - strong).max()) > 0.02


def test_more_restarts_on_the_same_points_never_find_less(tiny, planted):
    _, _, clean, evaluator = planted
    config = parse(tiny(evaluation={"pgd_steps": 10, "pgd_restarts": 1}))
    single = Evaluator(config, make_problems(config), seed_keys(config)[2], clean)
    one, two = single.accuracy(clean, "PGD"), evaluator.accuracy(clean, "PGD")
    assert (two <= one).all()


def test_dense_margins_are_quantiles_of_the_attacked_margin(planted):
    config, problem, clean, evaluator = planted
    found = evaluator.dense_margins(clean)
    assert found.shape == (2, 3, 3)
    batch = problem.sample(seed_keys(config)[2][1], 2000)
    x, y = np.asarray(batch.x, float), np.asarray(batch.y, float)
    direction = np.asarray(problem.wstar) / np.sqrt(16)
    W, b = np.asarray(clean.weights[1], float), 0.25

    def margins(radius):
        u = (x - radius * y[:, None] * direction) @ W.T
        f = (np.sign(u) * np.maximum(np.abs(u) - b, 0)).sum(1)
        return (y * f)[y != 0]

    expected = np.array([np.quantile(margins(r), [0.1, 0.5, 0.9]) for r in evaluator.radii])
    np.testing.assert_allclose(found[1], expected / np.median(margins(0.0)), atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 1], 1, atol=1e-5)


def test_the_excluded_fraction_counts_ties(tiny):
    config = parse(tiny(problem={"k": 4}))
    problem = make_problem(config, 1)
    keys = seed_keys(config)[2]
    network = stacked(*[pure_network(problem.wstar, 0.2)] * 2)
    found = Evaluator(config, make_problems(config), keys, network).lanes.excluded()
    for seed in range(2):
        _, labelled = count_robust(
            jax.tree.map(lambda leaf, s=seed: leaf[s], network),
            problem, None, key=keys[seed], n=2000,
        )  # fmt: skip
        assert found[seed] == pytest.approx(1 - int(labelled) / 2000, abs=1e-6)
    assert 0.05 < found.min() < found.max() < 0.5


def test_which_attacks_apply(tiny):
    config = parse(tiny())
    assert tuple(attack_family(config, make_problems(config))) == ATTACKS
    single = parse(tiny(seeds=1))
    assert "transfer" not in attack_family(single, make_problems(single))
    apart = parse(tiny(problem={"draw": "per-seed"}))
    assert "transfer" not in attack_family(apart, make_problems(apart))
    haar = parse(tiny(problem={"dictionary": "haar"}))
    assert "PGD on support" not in attack_family(haar, make_problems(haar))


def test_radii_and_networks_of_one_shape_share_a_program(planted):
    config, _, clean, evaluator = planted
    arguments = make_problems(config), evaluator.lanes.keys, clean
    other = eqx.tree_at(lambda n: n.weights, clean, 0.5 * clean.weights)
    # A fresh one here too: programs of earlier tests may be forgotten.
    Evaluator(config, *arguments).accuracy(clean, "FGM", 0.1)
    compiled = []

    def listen(event, duration, **metadata):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    fresh = Evaluator(config, *arguments)
    found = [fresh.accuracy(network, "FGM", r) for network in (clean, other) for r in (0.1, 0.2)]
    assert compiled == [] and len(np.unique(found)) > 4
    # The listener does count: another number of test points is another program.
    fewer = parse({**fresh.config.model_dump(), "evaluation": {"samples": 137}})
    Evaluator(fewer, *arguments).accuracy(clean, "FGM", 0.1)
    assert compiled
