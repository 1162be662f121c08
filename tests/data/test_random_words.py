"""The random words: row addressing, and the maps to signs and normals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from featpur_sim.data._random_words import (
    normal_from_words,
    random_words,
    sign_and_uniform_from_words,
)


@pytest.mark.parametrize("start", [0, 5, 2**31, 2**32 - 3])
def test_a_row_does_not_depend_on_where_the_block_starts(start):
    key = jax.random.key(3)
    whole = random_words(key, jnp.uint32(start), 3, 7)
    for row in range(3):
        one = random_words(key, jnp.uint32((start + row) % 2**32), 1, 7)
        assert np.array_equal(whole[0][row], one[0][0])
        assert np.array_equal(whole[1][row], one[1][0])


def test_words_differ_across_rows_columns_streams_and_keys():
    # 2 · 2 · 20 000 words: 0.75 accidental pairs expected among 32-bit words; six are too many.
    words = np.concatenate(
        [np.ravel(w) for key in (0, 1) for w in random_words(jax.random.key(key), 0, 200, 100)]
    )
    assert words.size - np.unique(words).size < 6


def words_spread_evenly(count):
    return np.linspace(0, 2**32 - 1, count).astype(np.uint64).astype(np.uint32)


def test_normals_are_the_quantiles_of_the_high_bits():
    words = words_spread_evenly(100_003)
    probability = ((words >> 8).astype(float) + 0.5) / 2**24
    found = np.asarray(normal_from_words(jnp.asarray(words)), float)
    # The single-precision erf_inv loses up to 5e-6 in the tails; a 1 % error in scale is 1e-2.
    np.testing.assert_allclose(found, special.ndtri(probability), rtol=1e-5, atol=1e-7)


def test_normals_are_odd_in_the_word_and_finite_at_its_ends():
    words = words_spread_evenly(10_001)
    found = np.asarray(normal_from_words(jnp.asarray(words)))
    assert np.array_equal(found, -np.asarray(normal_from_words(jnp.asarray(~words))))
    assert found.max() == pytest.approx(special.ndtri(1 - 2.0**-25), rel=1e-5)


def test_signs_and_uniforms():
    words = words_spread_evenly(10_001)
    sign, uniform = sign_and_uniform_from_words(jnp.asarray(words))
    assert np.array_equal(sign, np.where(words % 2 == 1, 1.0, -1.0))
    np.testing.assert_allclose(uniform, (words >> 1) / 2**31, rtol=2**-23)
    assert float(uniform.min()) == 0
    assert float(uniform.max()) < 1
