"""The equations of motion against the ansatz itself: an explicit network on explicit samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim.theory.dynamics.equations import (
    Order,
    Setting,
    accuracy,
    drive,
    radius_at,
    velocity,
)
from featpur_sim.theory.dynamics.nodes import double_precision, exact_nodes, sampled_nodes

QUANTITIES = ("pure", "mixed", "residual", "noise", "active", "loss")


def cases(count, seed=1):
    """Random parameter sets, all attacks, with active features between 0 and a few beyond k."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        k = float(rng.integers(4, 13))
        alpha = rng.uniform(0.3, 1.2)
        yield dict(
            d=int(rng.choice([96, 128, 192])), k=k, alpha=alpha, dense=alpha * rng.uniform(0, 8),
            residual=alpha**2 * rng.uniform(0, 0.2), b=alpha / np.sqrt(k) * rng.uniform(0.3, 0.8),
            tau=rng.uniform(0.1, 0.4) / np.sqrt(k), copies=rng.uniform(1, 4),
            attack=("none", "fgm", "dense")[i % 3],
        )  # fmt: skip


def brute(case, samples, batches=20, sigma_x=0.3, seed=0):
    """Means and standard errors over batches, each with fresh residuals q_j of norm ρ."""
    rng = np.random.default_rng(seed)
    d, k, b, tau = case["d"], case["k"], case["b"], case["tau"]
    c = case["dense"] / d
    rows = []
    for _ in range(batches):
        q = rng.standard_normal((d, d))
        q *= np.sqrt(case["residual"]) / np.linalg.norm(q, axis=1, keepdims=True)
        w = np.full((d, d), c)
        np.fill_diagonal(w, case["alpha"])
        w += q
        u = rng.random((samples // batches, d))
        size = np.where(u < 1 / d, 1.0, np.where(u < (1 + k) / d, 1 / np.sqrt(k), 0.0))
        z = size * rng.choice([-1.0, 1.0], u.shape)
        z = z[np.abs(z.sum(1)) > 1e-9]
        y = np.sign(z.sum(1))
        x = z + sigma_x / np.sqrt(d) * rng.standard_normal(z.shape)
        delta = 0.0
        if case["attack"] == "fgm":
            slope = (np.abs(x @ w.T) > b) @ w
            norm = np.linalg.norm(slope, axis=1, keepdims=True)
            delta = -tau * y[:, None] * slope / np.maximum(norm, 1e-12)
        if case["attack"] == "dense":
            delta = -tau * y[:, None] / np.sqrt(d)
        moved = x + delta
        v = moved @ w.T
        gate = np.abs(v) > b
        f = case["copies"] * (np.sign(v) * np.maximum(np.abs(v) - b, 0)).sum(1)
        g = 1 / (1 + np.exp(y * f))
        n, t, total = gate.sum(1), (gate * moved).sum(1), moved.sum(1)
        along = (gate * (moved @ q.T)).sum(1)
        rows.append(
            [
                np.mean(v)
                for v in (
                    g * y * t, g * y * (n * total - t), g * y * along,
                    g**2 * n * (x**2).sum(1), n / d, np.logaddexp(0, -y * f), y * f > 0,
                )
            ]
        )  # fmt: skip
    return np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(batches)


_drive = jax.jit(drive, static_argnames="attack")
_accuracy = jax.jit(accuracy, static_argnames="attack")


def reduced(case, n=1024, replicates=4):
    """The same numbers from the reduced model: mean and standard error over replicates."""
    with double_precision():
        nodes = sampled_nodes(case["d"], case["k"], n=n, replicates=replicates)
        setting = Setting(
            *(jnp.asarray(float(v)) for v in (case["d"], case["k"], 0.3, case["copies"], 0, 0))
        )
        order = Order(*(jnp.asarray(case[name]) for name in ("alpha", "dense", "residual")))
        rows = []
        for i in range(replicates):
            sample = jax.tree.map(lambda v, i=i: jnp.asarray(v[i]), nodes)
            at = (order, jnp.asarray(case["b"]), jnp.asarray(case["tau"]), sample, setting)
            force = _drive(*at, attack=case["attack"])
            score = _accuracy(*at, attack=case["attack"])
            rows.append([*(float(getattr(force, name)) for name in QUANTITIES), float(score)])
    return np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(replicates)


def agree(case, samples):
    found, error = reduced(case)
    expected, spread = brute(case, samples)
    # Seven numbers a case from 20 batches: 4.5 standard errors make a false alarm unlikely.
    z = (found - expected) / np.hypot(error, spread)
    assert (np.abs(z) < 4.5).all(), (case, z.round(1), found, expected)


@pytest.mark.parametrize("case", list(cases(6)), ids=lambda c: f"{c['attack']}-{c['d']}")
def test_expectations_against_the_ansatz_itself(case):
    agree(case, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(cases(20)), ids=lambda c: f"{c['attack']}-{c['d']}")
def test_expectations_of_twenty_parameter_sets(case):
    agree(case, 100_000)


def plain(d=128, k=8.0, copies=4.0, decay=0.0128):
    with double_precision():
        setting = Setting(*(jnp.asarray(float(v)) for v in (d, k, 0.3, copies, decay, 0.0)))
        # As many nodes as in `reduced`: programs are compiled once for both.
        nodes = jax.tree.map(lambda v: jnp.asarray(v[0]), sampled_nodes(d, k, n=1024, replicates=1))
    return setting, nodes


@pytest.mark.slow
def test_sampled_and_exact_nodes_drive_alike():
    case = dict(d=128, k=8.0, alpha=0.6, dense=3.0, residual=0.04, b=0.12, tau=0.1, copies=4.0,
                attack="fgm")  # fmt: skip
    found, error = reduced(case)
    setting, _ = plain()
    with double_precision():
        nodes = jax.tree.map(jnp.asarray, exact_nodes(128, 8.0))
        order = Order(jnp.asarray(0.6), jnp.asarray(3.0), jnp.asarray(0.04))
        force = _drive(order, 0.12, 0.1, nodes, setting, attack="fgm")
    expected = np.array([float(getattr(force, name)) for name in QUANTITIES])
    assert (np.abs(found[:6] - expected) < 5 * error[:6] + 1e-3 * np.abs(expected)).all()


def test_without_a_perturbation_all_attacks_are_the_same():
    setting, nodes = plain()
    with double_precision():
        order = Order(jnp.asarray(0.6), jnp.asarray(3.0), jnp.asarray(0.04))
        at = functools.partial(_drive, order, jnp.asarray(0.12), jnp.asarray(0.0), nodes, setting)
        for attack in ("fgm", "dense"):
            np.testing.assert_allclose(at(attack=attack), at(attack="none"), rtol=1e-9)


def test_velocity_is_the_data_less_the_decay():
    setting, nodes = plain()
    with double_precision():
        order = Order(jnp.asarray(0.6), jnp.asarray(3.0), jnp.asarray(0.04))
        force = _drive(order, jnp.asarray(0.12), jnp.asarray(0.0), nodes, setting, attack="none")
        speed = velocity(order, force, setting)
        norm = np.sqrt(0.36 + 9 * 127 / 128**2 + 0.04)
        decay = 0.0128 * (1 + norm)
        assert float(speed.alpha) == pytest.approx(float(force.pure) - decay * 0.6)
        assert float(speed.dense) == pytest.approx(128 / 127 * float(force.mixed) - decay * 3.0)
        assert float(speed.residual) == pytest.approx(2 * float(force.residual) - 2 * decay * 0.04)


def test_accuracy_falls_with_the_radius_and_the_radius_at_a_level_hits_it():
    setting, nodes = plain()
    with double_precision():
        order = Order(jnp.asarray(0.6), jnp.asarray(3.0), jnp.asarray(0.0))
        at = functools.partial(_accuracy, order, jnp.asarray(0.12), attack="dense")
        score = [float(at(jnp.asarray(t), nodes, setting)) for t in (0.0, 0.05, 0.1, 0.2)]
        assert (np.diff(score) < 0).all()
        radius = radius_at(0.5, order, 0.12, nodes, setting, "dense")
        assert float(at(radius, nodes, setting)) == pytest.approx(0.5, abs=1e-3)


def test_it_can_be_mapped_over_parameters():
    setting, nodes = plain()
    with double_precision():
        alpha = jnp.asarray([0.4, 0.6])

        def pure(a):
            order = Order(a, jnp.asarray(3.0), jnp.asarray(0.0))
            at = (order, jnp.asarray(0.12), jnp.asarray(0.1), nodes, setting)
            return _drive(*at, attack="none").pure

        both = jax.jit(jax.vmap(pure))(alpha)
        np.testing.assert_allclose(both, [pure(a) for a in alpha], rtol=1e-12)
