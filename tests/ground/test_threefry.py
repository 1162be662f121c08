"""The generator's published answers."""

import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim._ground.threefry import threefry_2x32

# The vectors of the Random123 distribution for threefry2x32 with 20 rounds: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    key, x0, x1 = (np.array(v, np.uint32) for v in (key, counter[:1], counter[1:]))
    found = threefry_2x32(jnp.asarray(key), jnp.asarray(x0), jnp.asarray(x1))
    assert tuple(int(word[0]) for word in found) == answer
