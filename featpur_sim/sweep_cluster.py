"""The batches of a sweep as tasks of a Dask cluster (docs/how-to/sweep.md).

Workers send their arrays back and the client writes the files: one process holds the folder, and
the workers need not share a disk with it. A batch whose worker dies is given to another worker by
the scheduler.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from featpur_sim.config import ConfigError
from featpur_sim.sweep import Execute, Outcome
from featpur_sim.sweep_batch import Survey, Task, compute

_SECONDS_TO_CONNECT = 20


def local_workers(scheduler: str) -> int | None:
    """n of ``local:n`` (2 of ``local``); None for an address.

    Raises:
        ConfigError: n is not a number of processes.

    >>> local_workers("local:4"), local_workers("tcp://10.0.0.1:8786")
    (4, None)
    """
    kind, _, count = scheduler.partition(":")
    if kind != "local":
        return None
    if not (count.isascii() and (count.isdigit() or not count)) or count == "0":
        raise ConfigError(f"--scheduler {scheduler}: write local or local:n with n ≥ 1 processes.")
    return int(count or 2)


@contextlib.contextmanager
def cluster(scheduler: str) -> Iterator[Execute]:
    """Connect to a cluster, or start one of local processes, for `featpur_sim.sweep.run_sweep`.

    Args:
        scheduler: ``local``, ``local:n`` or the address of a Dask scheduler.

    Raises:
        ConfigError: Dask is not installed, or nobody answers at the address.
    """
    workers = local_workers(scheduler)
    try:
        import distributed
    except ImportError:
        raise ConfigError(
            "--scheduler needs Dask: python -m pip install 'featpur_sim[dask]'."
        ) from None
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if workers is not None:
            # One thread each: a batch uses all the cores it can by itself.
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address=None,  # pyright: ignore[reportArgumentType]
                )
            )
        try:
            client = distributed.Client(address, timeout=_SECONDS_TO_CONNECT)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({reason})."
            ) from None
        yield execute_on(stack.enter_context(client))


def execute_on(client: Any) -> Execute:
    """Compute batches on the workers of a connected ``distributed.Client``."""

    def execute(
        tasks: Mapping[int, Task], survey: Survey, status: Callable[[str], None]
    ) -> Iterator[tuple[int, Outcome]]:
        from distributed import as_completed

        run = uuid.uuid4().hex
        numbers = {
            client.submit(
                compute, task, survey, key=f"batch-{number:04d}-{run}", pure=False
            ): number
            for number, task in tasks.items()
        }
        status("on the cluster")
        for future in as_completed(list(numbers)):
            try:
                outcome: Outcome = future.result()
            except Exception as error:  # recorded, so that one batch does not stop the rest
                outcome = error
            yield numbers.pop(future), outcome

    return execute
