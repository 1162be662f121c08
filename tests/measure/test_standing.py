"""Points left out once they are decided: the outcome of each attack as defined, point by point."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SparseCoding, pure_network
from featpur_sim.attacks import accuracy as scoring
from featpur_sim.attacks.accuracy import attacked_margin
from featpur_sim.attacks.kinds import AttackKind
from featpur_sim.measure import standing
from featpur_sim.measure.standing import Standing
from featpur_sim.models.symmetric_relu import SymmetricReLU

D, N, LANES = 16, 300, 2
KEYS = jax.random.split(jax.random.key(5), LANES)
NAMES = ("random noise", "dense mixture", "FGM", "PGD", "PGD on support", "transfer")


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@pytest.fixture(scope="module")
def lanes():
    """Two lanes of different data, networks with a dense part, and others to transfer from."""
    problems = [SparseCoding(d=D, k=k, sigma_x=0.3, key=jax.random.key(1)) for k in (3, 4)]
    pure = pure_network(problems[0].wstar, 0.25)

    def mixed(seed, share):
        noise = 0.05 * jax.random.normal(jax.random.key(seed), pure.weights.shape)
        dense = share * problems[0].wstar[None, :]
        return eqx.tree_at(lambda n: n.weights, pure, pure.weights + dense + noise)

    networks = stacked(mixed(2, 0.05), mixed(3, 0.1))
    return stacked(*problems), networks, stacked(mixed(4, 0.2), mixed(5, 0.2))


@eqx.filter_jit
def plain(network, problem, kind, radius, key, source):
    """The definition: every point through the whole attack, in the chunks of count_robust."""
    sample_key, attack_key = jax.random.split(key)
    attack = kind(radius, direction=problem.dense_direction(), source=source)
    found = []
    for i in range(-(-N // scoring.CHUNK)):
        batch = problem.sample(sample_key, min(scoring.CHUNK, N), start=i * scoring.CHUNK)
        key = jax.random.fold_in(attack_key, i)
        found.append(batch.labelled & (attacked_margin(network, batch, attack, key=key) > 0))
    return jnp.concatenate(found)[:N]


def take(tree, lane):
    return jax.tree.map(lambda leaf: leaf[lane], tree)


def expected(lanes, kind, radii):
    problem, networks, source = lanes
    return np.stack(
        [
            plain(
                take(networks, i), take(problem, i), kind, radii[i], KEYS[i],
                take(source, i) if kind.name == "transfer" else None,
            )
            for i in range(LANES)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_is_as_defined(lanes, name):
    kind = AttackKind(name, steps=12, restarts=2 if name == "PGD" else 1)
    radii = jnp.asarray([0.1, 0.2], jnp.float32)
    points = Standing(lanes[0], KEYS, N)
    found = points.withstand(lanes[1], kind, radii, lanes[2] if name == "transfer" else None)
    np.testing.assert_array_equal(found, expected(lanes, kind, radii))
    right = points.right(lanes[1])
    assert (found != right).any() and found.any()


def test_settings_of_the_descent_count(lanes):
    radii = jnp.asarray([0.6, 0.6], jnp.float32)
    points = Standing(lanes[0], KEYS, N)
    plain_one = points.withstand(lanes[1], AttackKind("PGD", steps=6), radii)
    for change in ({"smoothing": 1.0}, {"step_size": 1.0}):
        kind = AttackKind("PGD", steps=6, **change)
        found = points.withstand(lanes[1], kind, radii)
        np.testing.assert_array_equal(found, expected(lanes, kind, radii))
        assert (found != plain_one).any(), change


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_points_of_several_chunks_keep_their_keys(lanes, norm, monkeypatch):
    monkeypatch.setattr(standing, "CHUNK", 128)
    monkeypatch.setattr(scoring, "CHUNK", 128)
    eqx.clear_caches()
    kind = AttackKind("PGD", norm, steps=6, restarts=2)
    radii = jnp.asarray([0.15, 0.2] if norm == "l2" else [0.04, 0.05], jnp.float32)
    found = Standing(lanes[0], KEYS, N).withstand(lanes[1], kind, radii)
    np.testing.assert_array_equal(found, expected(lanes, kind, radii))
    eqx.clear_caches()


def test_what_is_broken_is_left_out(lanes, monkeypatch):
    """Most points of these networks fall in the first steps: the rest of the descent is short."""
    worked = []
    advance = standing._advance

    def counted(pgd, first, last, width, *data):
        worked.append((int(last) - int(first)) * data[-1].size)
        return advance(pgd, first, last, width, *data)

    monkeypatch.setattr(standing, "_advance", counted)
    points = Standing(lanes[0], KEYS, N)
    kind = AttackKind("PGD", steps=40, restarts=2)
    alive = points.withstand(lanes[1], kind, jnp.asarray([1.0, 1.0], jnp.float32))
    assert alive.mean() < 0.1
    assert sum(worked) < 0.3 * kind.restarts * kind.steps * LANES * N


def test_perturbations_that_transfer_are_found_once(lanes, monkeypatch):
    found = []
    perturb = standing._perturb

    def counted(*arguments):
        found.append(1)
        return perturb(*arguments)

    monkeypatch.setattr(standing, "_perturb", counted)
    problem, networks, source = lanes
    points = Standing(problem, KEYS, N)
    kind, radii = AttackKind("transfer", steps=4), jnp.asarray([0.1, 0.2], jnp.float32)
    first = points.withstand(networks, kind, radii, source)
    again = points.withstand(source, kind, radii, source)
    assert len(found) == 1 and (first != again).any()
    points.withstand(networks, kind, 2 * radii, source)
    assert len(found) == 2
    points.withstand(networks, kind, radii, networks)  # another source
    assert len(found) == 3
    # What does not fit in the memory is found again.
    points.memory = 0
    for expected_calls in (4, 5):
        points.withstand(networks, kind, 3 * radii, networks)
        assert len(found) == expected_calls


def test_a_randomised_network_is_attacked_as_a_whole(lanes):
    """Its margin at a later look says nothing about the one before."""
    problem, networks, _ = lanes
    noisy = jax.vmap(
        lambda w, b: SymmetricReLU(w, b, sigma_rho=0.1, smoothing="sampled")
    )(networks.weights, networks.bias)  # fmt: skip
    kind, radii = AttackKind("PGD", steps=4), jnp.asarray([0.1, 0.1], jnp.float32)
    found = Standing(problem, KEYS, N).withstand(noisy, kind, radii)
    np.testing.assert_array_equal(found, expected((problem, noisy, noisy), kind, radii))


@pytest.mark.parametrize("counts", [(300, 10), (0, 77), (1000, 263)])
def test_every_standing_point_is_in_one_batch(counts):
    """A lane that has run out of points must not repeat one while another goes on."""
    alive = np.arange(1000) < np.array(counts)[:, None]
    batches = np.concatenate(list(standing._gathered(alive)), axis=1)
    for row, count in zip(batches, counts, strict=True):
        np.testing.assert_array_equal(np.sort(row[row < 1000]), np.arange(count))
