"""Parts of a computation on several threads: in order, and under the caller's JAX."""

import os
import threading

import jax
import jax.numpy as jnp
import pytest

from featpur_sim._ground.switches import held
from featpur_sim._ground.threads import side_by_side


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core, one thread")
def test_results_are_in_the_order_of_the_items():
    began = threading.Barrier(2, timeout=20)

    def square_of_two_at_once(item: int) -> int:
        began.wait()  # passes only if the two run at once
        return item * item

    assert side_by_side(square_of_two_at_once, [3, 4]) == [9, 16]
    assert side_by_side(square_of_two_at_once, []) == []


def test_an_error_of_one_is_raised():
    with pytest.raises(ValueError, match="'x'"):
        side_by_side(int, ["1", "x"])


def test_threads_compute_as_the_caller_does():
    def found(_: int) -> tuple[object, ...]:
        names = ("jax_enable_x64", "jax_default_device", "jax_default_matmul_precision")
        return (*(getattr(jax.config, name) for name in names), jnp.arange(2.0).dtype.name)

    here = jax.devices()[0]
    with jax.default_device(here), jax.default_matmul_precision("highest"):
        assert side_by_side(found, [0, 1]) == 2 * [(False, here, "highest", "float32")]
    jax.config.update("jax_enable_x64", True)
    try:
        with held():
            assert side_by_side(found, [0]) == [(False, None, None, "float32")]
    finally:
        jax.config.update("jax_enable_x64", False)
