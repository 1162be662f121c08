"""The sampler: law of z, noise, labels, independence, row addressing; and refusals.

Every statistical test draws enough that a 1 % error in the quantity it looks at would fail it, with
a fixed key and a threshold that a right sampler misses once in ten thousand.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from featpur_sim import SparseCoding
from featpur_sim.data import dictionaries as dictionary
from featpur_sim.data.laws import Levels, TwoLevel, UniformMagnitude

D, K, SIGMA_X, ROWS = 16, 4, 0.3, 400_000
ONCE_IN_TEN_THOUSAND = 1e-4


@eqx.filter_jit
def draw(problem, key, n):
    return problem.sample(key, n)


@pytest.fixture(scope="module")
def large():
    problem = SparseCoding(d=D, k=K, sigma_x=SIGMA_X, law=TwoLevel(2.0))
    batch = draw(problem, jax.random.key(10), ROWS)
    z = np.asarray(batch.z)
    return z, (np.asarray(batch.x) - z) * np.float32(np.sqrt(D) / SIGMA_X)


def test_levels_and_signs_by_chi_square(large):
    z = large[0]
    observed = [np.sum(np.abs(z - level) < 1e-6) for level in (-1, -0.5, 0, 0.5, 1)]
    rates = np.array([1.0, K / 2, D - 2 - K, K / 2, 1.0]) / D
    assert sum(observed) == z.size
    assert stats.chisquare(observed, rates * z.size).pvalue > ONCE_IN_TEN_THOUSAND
    # What a level drawn 1 % too often would give, to show that this test can fail.
    planted = np.array(observed) + np.array([0, 0, -0.01, 0, 0.01]) * observed[4]
    assert stats.chisquare(planted, rates * z.size).pvalue < ONCE_IN_TEN_THOUSAND


def test_every_column_has_the_same_second_moment(large):
    square = large[0] ** 2
    error = square.mean(0) - 3 / D
    assert np.all(np.abs(error) < 4.5 * square.std(0) / np.sqrt(ROWS))
    assert abs(square.mean() - 3 / D) < 0.002 * 3 / D


def test_noise_is_standard_normal(large):
    noise = large[1][:100_000].ravel()
    assert stats.kstest(noise, "norm").pvalue > ONCE_IN_TEN_THOUSAND
    assert stats.kstest(1.01 * noise, "norm").pvalue < ONCE_IN_TEN_THOUSAND
    assert abs(large[1].mean()) < 4 / np.sqrt(large[1].size)
    assert large[1].var() == pytest.approx(1, abs=4 * np.sqrt(2 / large[1].size))
    assert np.mean(large[1] ** 4) == pytest.approx(3, abs=4 * np.sqrt(96 / large[1].size))


@jax.jit
def _correlation(a, b):
    a, b = ((v - v.mean(0)) / v.std(0) for v in (a, b))
    return a.T @ b / a.shape[0]


def correlation(a, b):
    """Columns of a against columns of b."""
    return np.array(_correlation(jnp.asarray(a), jnp.asarray(b)))


@pytest.mark.parametrize("size", [np.asarray, np.abs], ids=["values", "magnitudes"])
@pytest.mark.parametrize(
    ("left", "right"),
    [("z", "z"), ("noise", "noise"), ("z", "noise"), ("z", "next z"), ("noise", "next noise")],
)
def test_columns_rows_and_noise_are_uncorrelated(large, left, right, size):
    z, noise = map(size, large)
    parts = {"z": z[:-1], "noise": noise[:-1], "next z": z[1:], "next noise": noise[1:]}
    found = correlation(parts[left], parts[right])
    if left == right:
        np.fill_diagonal(found, 0)
    # 256 coefficients of standard error 1/√ROWS = .0016: 5.2 of them are passed once in 20 000.
    assert np.abs(found).max() < 5.2 / np.sqrt(ROWS) < 0.01


@pytest.mark.parametrize(("first", "second"), [((0,), (1,)), ((10,), (11,)), ((10, 3), (10, 4))])
def test_keys_give_independent_samples(first, second):
    problem = SparseCoding(d=D, k=K, sigma_x=SIGMA_X)

    def sample(seed, *folds):
        key = jax.random.key(seed)
        for fold in folds:
            key = jax.random.fold_in(key, fold)
        batch = draw(problem, key, 70_000)
        return np.stack([batch.z, batch.x - batch.z], -1).reshape(-1, 2)

    found = correlation(sample(*first), sample(*second))
    assert np.abs(found).max() < 4.5 / np.sqrt(70_000 * D) < 0.01


def test_the_nonzeros_of_a_row_are_independent(large):
    # ‖z‖₀ is binomial: any coupling between coordinates of a row shows in its law.
    counts = np.bincount(np.count_nonzero(large[0], axis=1), minlength=D + 1)
    expected = stats.binom.pmf(np.arange(D + 1), D, (2 + K) / D) * ROWS
    keep = expected > 20
    tail = [[v[keep].sum(), v[~keep].sum()] for v in (counts, expected)]
    assert (
        stats.chisquare([*counts[keep], tail[0][1]], [*expected[keep], tail[1][1]]).pvalue
        > ONCE_IN_TEN_THOUSAND
    )


@pytest.mark.parametrize("law", [UniformMagnitude(2.0), Levels([0.4, 0.9], [3.0, 1.0])])
def test_other_laws_reach_the_sampler(law):
    problem = SparseCoding(d=D, k=5, sigma_x=0.0, law=law)
    z = np.asarray(draw(problem, jax.random.key(11), 200_000).z)
    second = float(law.second_moment(5.0, D))
    assert np.mean(z**2) == pytest.approx(second, abs=4 * np.std(z**2) / np.sqrt(z.size))
    rate = float(law.nonzero_rate(5.0, D))
    assert np.mean(z != 0) == pytest.approx(rate, abs=4 * np.sqrt(rate / z.size))
    assert abs(np.mean(np.sign(z))) < 4 * np.sqrt(rate / z.size)


@pytest.mark.parametrize("k", [1, 4, 9, 16])
def test_labels_and_ties_by_integer_arithmetic(k):
    problem = SparseCoding(d=64, k=k, sigma_x=0.3, key=jax.random.key(12))
    batch = draw(problem, jax.random.key(13), 100_000)
    root = round(np.sqrt(k))
    integers = np.rint(np.asarray(batch.z, float) * root).astype(int)
    score = integers @ np.asarray(problem.wstar).astype(int)
    assert np.array_equal(batch.y, np.sign(score))
    # Pr[Σ = 0] by Fourier inversion of the D-fold sum over the integers.
    t = 2 * np.pi * np.arange(4096) / 4096
    one = 1 - (1 + k) / 64 + np.cos(root * t) / 64 + k * np.cos(t) / 64
    ties = np.mean(one**64)
    assert np.mean(score == 0) == pytest.approx(ties, abs=4 * np.sqrt(ties / 100_000))


def test_irrational_levels_tie_only_where_each_level_cancels():
    problem = SparseCoding(d=64, k=5, sigma_x=0.3, key=jax.random.key(12))
    batch = draw(problem, jax.random.key(14), 100_000)
    z, wstar = np.asarray(batch.z), np.asarray(problem.wstar)
    ones, small = (np.where(z > 0.9, 1, np.where(z < -0.9, -1, 0)) @ wstar,
                   np.where(np.abs(z) < 0.9, np.sign(z), 0) @ wstar)  # fmt: skip
    assert np.array_equal(batch.y, np.sign(np.rint(1e6 * (ones + small / np.sqrt(5)))))
    assert 0.02 < np.mean(batch.y == 0) < 0.2
    assert np.array_equal(batch.labelled, np.asarray(batch.y) != 0)


@pytest.mark.parametrize("dictionary_name", ["identity", "haar", "incoherent"])
@pytest.mark.parametrize(("a", "b"), [(1, 1), (100, 157)])
def test_a_row_depends_on_its_number_alone(dictionary_name, a, b):
    problem = SparseCoding(d=12, k=4, sigma_x=0.3, dictionary=dictionary_name)
    key = jax.random.key(15)
    whole = problem.sample(key, a + b)
    parts = [problem.sample(key, a), eqx.filter_jit(problem.sample)(key, b, start=jnp.int32(a))]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    assert np.array_equal(whole.z, joined.z)
    assert np.array_equal(whole.y, joined.y)
    # A matrix product or a fused multiply-add may round the last bit of x differently.
    np.testing.assert_allclose(whole.x, joined.x, atol=1e-6)


def test_labelled_samples_are_the_labelled_rows_in_order():
    problem = SparseCoding(d=16, k=1, sigma_x=0.3)
    key = jax.random.key(16)
    found = problem.sample_labelled(key, 1000)
    stream = problem.sample(key, 3000)
    keep = np.flatnonzero(np.asarray(stream.labelled))[:1000]
    assert len(keep) == 1000 < keep[-1]
    assert np.array_equal(found.z, stream.z[keep])
    assert np.array_equal(found.y, stream.y[keep])
    np.testing.assert_allclose(found.x, stream.x[keep], atol=1e-6)


def test_a_problem_without_labels_is_an_error():
    problem = SparseCoding(d=8, k=1, sigma_x=0.3, law=Levels([0.5], [0.0]))
    with pytest.raises(ValueError, match="almost every sample is a tie"):
        problem.sample_labelled(jax.random.key(0), 1)


@pytest.mark.parametrize(
    ("d", "D_", "name"), [(12, 12, "haar"), (16, 16, "hadamard"), (12, 30, "incoherent")]
)
def test_inputs_are_features_plus_the_noise_of_the_identity(d, D_, name):
    problem = SparseCoding(d=d, k=4, sigma_x=0.5, D=D_, dictionary=name)
    key = jax.random.key(17)
    batch, plain = draw(problem, key, 500), draw(SparseCoding(d=d, k=4, sigma_x=0.5), key, 500)
    z, M = np.asarray(batch.z, float), np.asarray(problem.M, float)
    noise = np.asarray(plain.x) - np.asarray(plain.z)
    assert 0.1 < noise.std() < 0.2
    np.testing.assert_allclose(batch.x, z @ M.T + noise, atol=1e-6)


def test_the_problem_key_draws_nothing_but_wstar_and_dictionary():
    one, two = (SparseCoding(d=16, k=4, sigma_x=0.3, key=jax.random.key(s)) for s in (0, 1))
    assert not np.array_equal(one.wstar, two.wstar)
    draws = [p.sample(jax.random.key(5), 50) for p in (one, two)]
    assert np.array_equal(draws[0].z, draws[1].z)
    assert np.array_equal(draws[0].x, draws[1].x)


def test_wstar_choices():
    def wstar(choice, seed=0):
        problem = SparseCoding(d=4000, k=5, sigma_x=0.3, wstar=choice, key=jax.random.key(seed))
        return np.asarray(problem.wstar)

    signs = wstar("signs")
    assert set(signs) == {-1.0, 1.0}
    assert abs(signs.mean()) < 4 / np.sqrt(4000)
    spread = wstar((0.5, 2.0))
    assert 0.5 <= np.abs(spread).min() < np.abs(spread).max() <= 2.0
    assert stats.kstest(np.abs(spread), stats.uniform(0.5, 1.5).cdf).pvalue > 1e-4
    assert abs(np.sign(spread).mean()) < 4 / np.sqrt(4000)
    given = np.linspace(-2, 2, 4000)
    np.testing.assert_allclose(wstar(given), given, rtol=1e-6)


def test_coordinates_and_dense_direction_use_the_dictionary():
    problem = SparseCoding(d=8, k=2, sigma_x=0.1, D=11, dictionary="incoherent")
    M, w = np.asarray(problem.M), np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    np.testing.assert_allclose(problem.coordinates(jnp.asarray(w)), w @ M, atol=1e-5)
    np.testing.assert_allclose(problem.dense_direction(), M @ problem.wstar, atol=1e-5)
    assert not problem.unitary


def test_gauge_forgets_the_dictionary_only():
    problem = SparseCoding(d=12, k=4, sigma_x=0.3, dictionary="haar", key=jax.random.key(3))
    assert problem.unitary
    gauge = problem.gauge()
    assert gauge.M is None
    assert np.array_equal(gauge.wstar, problem.wstar)
    here, there = (p.sample(jax.random.key(4), 40) for p in (gauge, problem))
    assert np.array_equal(here.z, there.z) and np.array_equal(here.y, there.y)


@pytest.mark.parametrize("size", [12, 20])
def test_gauge_needs_a_unitary_dictionary(size):
    problem = SparseCoding(d=12, k=4, sigma_x=0.3, D=size, dictionary="incoherent")
    with pytest.raises(ValueError, match="gauge.. needs a unitary dictionary; this one is not"):
        problem.gauge()


def test_settings_may_be_traced():
    problems = [SparseCoding(d=16, k=k, sigma_x=s) for k, s in ((2, 0.1), (6, 0.4))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    together = eqx.filter_vmap(lambda p: p.sample(jax.random.key(1), 64))(stacked)
    for i, one in enumerate(problems):
        alone = one.sample(jax.random.key(1), 64)
        assert np.array_equal(together.z[i], alone.z)
        np.testing.assert_allclose(together.x[i], alone.x, atol=1e-6)


GOOD = {"d": 16, "k": 4, "sigma_x": 0.3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 1}, "d must be an integer ≥ 2 .*, got 1"),
        ({"d": 2.5}, "d must be an integer ≥ 2 .*, got 2.5"),
        ({"D": 0}, "D must be an integer ≥ 2 .*, got 0"),
        ({"D": 8}, "D must be ≥ d, got D=8 with d=16"),
        ({"k": 0.5}, r"k must lie in \[1, D\], got k=0.5 with D=16"),
        ({"k": 17}, r"k must lie in \[1, D\], got k=17 with D=16"),
        ({"k": float("nan")}, "k must be finite .*, got nan"),
        ({"k": 16}, r"Pr\[z_j ≠ 0\] = 1.062 > 1 at k=16, D=16: lower k or p_one"),
        ({"sigma_x": -0.1}, "sigma_x must be ≥ 0 and finite .*, got -0.1"),
        ({"sigma_x": float("inf")}, "sigma_x must be ≥ 0 and finite .*, got inf"),
        ({"wstar": "ones"}, "wstar must be 'signs'.* got 'ones'"),
        ({"wstar": (0.0, 1.0)}, "magnitude of wstar must be > 0 .*, got 0.0"),
        ({"wstar": (2.0, 1.0)}, r"0 < a ≤ b, got \(2.0, 1.0\)"),
        ({"wstar": np.ones(15)}, r"16 finite non-zero numbers .* got shape \(15,\)"),
        ({"wstar": np.zeros(16)}, "16 finite non-zero numbers"),
        ({"d": True}, "d must be an integer ≥ 2 .*, got True"),
        ({"d": "16"}, "d must be an integer ≥ 2 .*, got '16'"),
        ({"sigma_x": jnp.float32(-0.1)}, "sigma_x must be ≥ 0 and finite .*, got -0.1"),
        ({"wstar": np.full(16, 1e39)}, "wstar must be finite .*, got 1e.39 among its entries"),
        ({"wstar": np.full(16, 1e-60)}, "16 finite non-zero numbers"),
        ({"wstar": np.full(16, "1")}, "wstar must be a number or an array of numbers"),
        ({"dictionary": "fourier"}, "dictionary must be identity, .* got 'fourier'"),
        ({"dictionary": "haar", "D": 20}, "'haar' is square, but D=20 ≠ d=16"),
        ({"d": 12, "dictionary": "hadamard"}, "power of two, got d=12"),
        ({"dictionary": np.eye(12)}, r"dictionary must have shape \(16, 12\), got \(12, 12\)"),
        ({"dictionary": 2 * np.eye(16)}, "column 0 has norm 2"),
    ],
)
def test_constructor_refuses(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        SparseCoding(**{**GOOD, **change})


def test_coherent_columns_of_a_users_dictionary_are_refused():
    M = np.asarray(dictionary.incoherent(16, 20, jax.random.key(0))).copy()
    M[:, 7] = M[:, 3]
    with pytest.raises(ValueError, match="coherence is 1.000, above 0.9"):
        SparseCoding(d=16, k=4, sigma_x=0.3, dictionary=M)
