"""Our unrolled Threefry against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

jax_random = pytest.importorskip("jax.extend.random")

from featpur_sim._ground.threefry import threefry_2x32  # noqa: E402
from featpur_sim.theory.dynamics.samples import words  # noqa: E402


@pytest.mark.parametrize("seed", range(5))
def test_equal_words(seed):
    rng = np.random.default_rng(seed)
    key, x0, x1 = (jnp.asarray(rng.integers(2**32, size=n, dtype=np.uint32)) for n in (2, 99, 99))
    ours = jnp.concatenate(threefry_2x32(key, x0, x1))
    theirs = jax_random.threefry_2x32((key[0], key[1]), jnp.concatenate([x0, x1]))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_words_of_the_closure(count):
    key = jax.random.key(count)
    blocks = jnp.arange(2 * ((count + 1) // 2), dtype=jnp.uint32)
    theirs = jax_random.threefry_2x32(jax.random.key_data(key), blocks)[:count]
    assert np.array_equal(words(key, count), theirs)
