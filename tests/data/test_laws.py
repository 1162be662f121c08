"""Laws of |z_j|: their moments and shapes, by integrating over the uniform variable."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from featpur_sim import SparseCoding
from featpur_sim.data.laws import GaussianTwin, Levels, TwoLevel, UniformMagnitude

GRID = (np.arange(400_000) + 0.5) / 400_000

LAWS = {
    "two-level": TwoLevel(),
    "two-level, p₁ = 2.5": TwoLevel(p_one=2.5),
    "two-level, p₁ = 0": TwoLevel(p_one=0.0),
    "uniform": UniformMagnitude(),
    "uniform, p₁ = 0": UniformMagnitude(p_one=0.0),
    "levels": Levels([0.3, 0.5, 1.0], [4.0, 2.0, 0.5]),
}


def magnitudes(law, k, D):
    return np.asarray(law.magnitude(jnp.asarray(GRID, jnp.float32), jnp.float32(k), D), float)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("k", "D"), [(4, 20), (9.5, 64)])
def test_moments_are_exact(name, k, D):
    law = LAWS[name]
    found = magnitudes(law, k, D)
    # Each of at most four jumps can sit one grid point (2.5e-6) off; a 1 % error in a rate shows.
    assert np.mean(found**2) == pytest.approx(float(law.second_moment(k, D)), abs=1.5e-5)
    assert np.mean(found > 0) == pytest.approx(float(law.nonzero_rate(k, D)), abs=1.5e-5)


@pytest.mark.parametrize("name", ["two-level", "two-level, p₁ = 2.5", "uniform"])
def test_magnitudes_lie_in_the_papers_class(name):
    found = magnitudes(LAWS[name], 9, 32)
    nonzero = found[found > 0]
    assert nonzero.min() >= (1 / 3) * (1 - 1e-6)
    assert nonzero.max() <= 1 + 1e-6


@pytest.mark.parametrize("p_one", [1.0, 2.5])
def test_two_level_second_moment_is_one_plus_p_one_over_d(p_one):
    assert float(TwoLevel(p_one).second_moment(7.0, 64)) == pytest.approx((1 + p_one) / 64)


def test_gaussian_twin_is_gaussian_with_the_two_level_variance():
    """The quantiles of |N|, which are those of the folded normal law."""
    found = magnitudes(GaussianTwin(2.0), 5, 60)
    level = np.array([0.1, 0.5, 0.9, 0.999])
    expected = np.sqrt(3 / 60) * stats.halfnorm.ppf(level)
    np.testing.assert_allclose(np.quantile(found, level), expected, rtol=2e-4)
    problem = SparseCoding(60, 5, 0.0, law=GaussianTwin(2.0))
    z = np.asarray(problem.sample(jax.random.key(0), 4000).z, float)
    assert abs(z.var() * 60 / 3 - 1) < 4 * np.sqrt(2 / z.size)
    assert stats.kstest(z[:, 0] / np.sqrt(3 / 60), "norm").pvalue > 0.01


def test_two_levels_and_their_rates():
    values, counts = np.unique(magnitudes(TwoLevel(2.0), 9, 50), return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(counts / GRID.size, [39 / 50, 9 / 50, 2 / 50], atol=5e-6)


def test_uniform_magnitudes_have_flat_densities():
    # k = 16: large level on [1/4, 1] at rate 3/60, small level on [1/4, 1/2] at rate 16/60.
    found = magnitudes(UniformMagnitude(3.0), 16, 60)
    counts, _ = np.histogram(found, bins=[0.25, 0.3, 0.4, 0.5, 0.7, 1.0])
    widths = np.diff([0.25, 0.3, 0.4, 0.5, 0.7, 1.0])
    density = np.array([3 / 60 / 0.75] * 5) + np.array([16 / 60 / 0.25] * 3 + [0, 0])
    np.testing.assert_allclose(counts / GRID.size, density * widths, atol=1e-5)


def test_levels_in_the_order_given():
    found = magnitudes(Levels([1.0, 0.2], [1.0, 3.0]), 5, 10)
    np.testing.assert_allclose(found[GRID < 0.099], 1.0)
    np.testing.assert_allclose(found[(GRID > 0.101) & (GRID < 0.399)], 0.2, rtol=1e-6)
    assert not found[GRID > 0.401].any()


def test_parameters_may_be_traced():
    def nonzero(p_one, k):
        law = LAWS["two-level"]
        law = jax.tree.map(lambda _: p_one, law)
        return jnp.mean(law.magnitude(jnp.asarray(GRID, jnp.float32), k, 40) > 0)

    rates = jax.jit(jax.vmap(nonzero))(jnp.array([1.0, 2.0]), jnp.array([3.0, 10.0]))
    np.testing.assert_allclose(rates, [4 / 40, 12 / 40], atol=1e-5)


@pytest.mark.parametrize("law", [TwoLevel, UniformMagnitude, GaussianTwin])
@pytest.mark.parametrize("p_one", [-0.5, float("nan"), float("inf"), 1e39])
def test_negative_rate_is_refused(law, p_one):
    with pytest.raises(ValueError, match=f"p_one must be ≥ 0 .*, got {re.escape(str(p_one))}"):
        law(p_one=p_one)


@pytest.mark.parametrize(
    ("values", "rates", "message"),
    [
        ([0.5], [1.0, 2.0], r"one length ≥ 1, got shapes \(1,\) and \(2,\)"),
        ([], [], r"values must be a non-empty array.* got an array of shape \(0,\)"),
        ([0.5, 1.5], [1.0, 1.0], r"values must be > 0 .*at most 1\), got 1.5 among its entries"),
        ([0.0], [1.0], "values must be > 0 .*, got 0.0 among its entries"),
        ([0.5], [float("inf")], "rates must be ≥ 0 .*, got inf among its entries"),
        ([0.5], [-1.0], "rates must be ≥ 0 .*, got -1.0 among its entries"),
    ],
)
def test_levels_refuses(values, rates, message):
    with pytest.raises(ValueError, match=message):
        Levels(values, rates)


def test_uniform_magnitudes_need_room_below_one():
    # At k < 4 the small level, up to 2/√k, would leave [1/√k, 1].
    with pytest.raises(
        ValueError, match="k=3 is too small for UniformMagnitude, which needs k ≥ 4"
    ):
        SparseCoding(d=32, k=3, sigma_x=0.3, law=UniformMagnitude())
