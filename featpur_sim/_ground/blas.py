"""One thread for BLAS and LAPACK, NumPy's and the ones that JAX calls on a processor.

The certificates factorise many matrices of a few hundred rows at most. Threads that share one wait
for each other longer than they work, and on a machine that does other work for many times as long.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg as _loads_the_one_that_jax_calls  # noqa: F401
from threadpoolctl import ThreadpoolController

_FREE = threading.Lock()


@cache
def _found() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread in every BLAS of the process inside a ``with`` block or a decorated function.

    Blocks may overlap, in one thread or several: the first one's end brings back what there was.
    """
    if not _FREE.acquire(blocking=False):
        yield
        return
    try:
        with _found().limit(limits=1, user_api="blas"):
            yield
    finally:
        _FREE.release()
