"""One BLAS thread inside, what there was outside."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from featpur_sim._ground.blas import one_blas_thread
from featpur_sim.certify import certify, certify_radii


def threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


@pytest.fixture
def two():
    """Two threads, whatever the machine and the environment say."""
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("this BLAS has a fixed number of threads")
        yield


def test_one_thread_inside_and_what_there_was_after(two):
    with pytest.raises(KeyError), one_blas_thread():
        assert threads() == {1}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
        raise KeyError
    assert threads() == {2}


def test_blocks_of_two_threads_that_overlap_leave_what_there_was(two):
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def other():
        with one_blas_thread():
            seen.append(threads())
            begun.set()
            go_on.wait(60)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        begun.wait(60)
        assert threads() == {1}
    go_on.set()
    thread.join()
    assert seen == [{1}] and threads() == {2}
    with one_blas_thread():
        assert threads() == {1}


@pytest.mark.parametrize("way", ["certify", "certify_radii"])
def test_certificates_take_one(two, way, monkeypatch):
    seen, real = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda *args: seen.append(threads()) or real(*args))
    weights, points = np.eye(6), 2 * np.eye(6)
    if way == "certify":
        certify(weights, 0.1, points, 0.9)
    else:
        certify_radii(weights, 0.1, points, [0.5, 1.9])
    assert seen and set(map(tuple, seen)) == {(1,)}
    assert threads() == {2}
