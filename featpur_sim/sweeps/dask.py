"""The batches of a sweep as tasks of a Dask cluster (docs/how-to/sweep.md).

Workers send their arrays back and the client writes the files: one process holds the folder, and
the workers need not share a disk with it. A batch whose worker dies is given to another worker by
the scheduler. Dask itself waits forever when the last worker has died or the scheduler is gone:
here that ends, after a time that is stated, in a message.
"""

import contextlib
import gc
import logging
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from featpur_sim._ground.meter import Meter
from featpur_sim.runs.config import ConfigError
from featpur_sim.sweeps.batch import Survey, Task, compute
from featpur_sim.sweeps.run import Execute, Outcome
from featpur_sim.training.identity import software, software_change

PATIENCE = 600.0
"""Seconds without a worker that computes, by default, after which a sweep ends."""

_SECONDS_TO_CONNECT = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECONDS_BETWEEN_LOOKS = 2.0
# A process of ours that is started again needs 5 s [M]; after this it is replaced.
_SECONDS_TO_RESTART = 60.0


class ClusterError(OSError):
    """The cluster cannot compute what is left; what is finished is on disk."""


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
    """Connect to a cluster, or start local processes, for `featpur_sim.sweeps.run.run_sweep`.

    Args:
        scheduler: ``local``, ``local:n`` or the address of a Dask scheduler.

    Raises:
        ConfigError: Dask is not installed, or nobody answers at the address.
        ClusterError: the local processes do not start.
    """
    workers = local_workers(scheduler)
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError(
            "--scheduler needs Dask: python -m pip install 'featpur_sim[dask]'."
        ) from None
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if workers is not None:
            address = stack.enter_context(_started(workers))
        stack.enter_context(client := _connected(Client, address, scheduler))
        revive = None if workers is None else _replacing(address, workers)
        yield execute_on(client, revive=revive)


def _connected(make: Callable[..., Any], address: Any, scheduler: str) -> Any:
    """A client of the scheduler at an address; ConfigError if nobody answers there."""
    try:
        # As the default it would compute whatever else this process asks of Dask, and a client
        # that finds no scheduler would stay the default for good.
        return make(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = _line(error)
    # What is left of that client is closed by its finaliser, which takes the lock that every other
    # client or cluster holds while it starts: run during that, it would wait for itself.
    gc.collect()
    raise ConfigError(f"--scheduler {scheduler}: no Dask scheduler answers there ({reason}).")


def execute_on(
    client: Any, *, patience: float = PATIENCE, revive: Callable[[], None] | None = None
) -> Execute:
    """Compute batches on the workers of a connected ``distributed.Client``.

    Args:
        client: the client.
        patience: seconds that no worker may be computing before this ends in a `ClusterError`;
            ``math.inf`` where workers wait in the queue of a batch system.
        revive: called every few seconds, for example to start lost workers again.

    Returns:
        What `featpur_sim.sweeps.run.run_sweep` takes as ``execute``. It raises `ClusterError` when
        the scheduler is lost, the patience is over, or the workers have other versions than this
        process.
    """

    def execute(
        tasks: Mapping[int, Task], survey: Survey, meter: Meter
    ) -> Iterator[tuple[int, Outcome]]:
        _require_versions(client)
        run = uuid.uuid4().hex
        back: queue.SimpleQueue[Any] = queue.SimpleQueue()
        left = {}
        for number, task in tasks.items():
            key = f"batch-{number:04d}-{run}"
            left[client.submit(compute, task, survey, key=key, pure=False)] = number
        for future in left:
            future.add_done_callback(back.put)
        computed = time.monotonic()
        while left:
            with contextlib.suppress(queue.Empty):
                future = back.get(timeout=_SECONDS_BETWEEN_LOOKS)
                outcome = _outcome(future)
                computed = time.monotonic()
                yield left.pop(future), outcome
                continue
            workers = _computing(client)
            if workers:
                computed = time.monotonic()
            elif (idle := time.monotonic() - computed) > patience:
                raise ClusterError(
                    f"no worker of the cluster has computed for {idle:.0f} s, with {len(left)} of "
                    f"{len(tasks)} batches to go: start workers"
                )
            if revive:
                revive()
            meter.at(
                f"on the cluster, {workers} computing" if workers else "waiting for a worker", 0, 0
            )

    return execute


def _outcome(future: Any) -> Outcome:
    """What a batch came to; `ClusterError` if no worker has a part in it."""
    from distributed import KilledWorker

    if future.cancelled():
        raise ClusterError("the scheduler of the cluster is gone")
    try:
        return future.result()
    except KilledWorker as error:
        # Its own words name the task by a key of ours.
        return ClusterError(
            f"{error.allowed_failures + 1} workers died of it, one after another; most likely it "
            "needs more memory than they have: lower --memory or --width, in a new folder"
        )
    except Exception as error:  # recorded, so that one batch does not stop the rest
        return error


def _computing(client: Any) -> int:
    """How many workers have a batch."""
    try:
        return sum(map(bool, client.processing().values()))
    except Exception as error:  # of Dask's, of its loop's or of the network's, as it happens
        raise ClusterError(f"the scheduler of the cluster is gone ({_line(error)})") from None


def _require_versions(client: Any) -> None:
    """Refuse workers that would compute other bits; those that come later are seen by their work.

    Raises:
        ClusterError: a worker has other versions, or none can import this package.
    """
    answers = client.run(software, on_error="return")
    for address, theirs in answers.items():
        if isinstance(theirs, str) and (change := software_change(theirs, software())):
            raise ClusterError(
                f"worker {address} has other versions than this process ({change}): install the "
                "same there"
            )
    # Some may be dying or starting at this moment: their batches go to the others.
    if answers and not any(isinstance(theirs, str) for theirs in answers.values()):
        address, error = next(iter(answers.items()))
        raise ClusterError(
            f"no worker can import this package; {address}: {_line(error)}. Install it there, or "
            "give the workers more memory"
        )


@contextlib.contextmanager
def _started(workers: int) -> Iterator[Any]:
    """A cluster of processes on this machine."""
    import distributed

    try:
        with _signals_held():
            # One thread each: a batch uses all the cores it can by itself.
            found = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
    except Exception as error:  # Dask wraps what a process died of in errors of several types
        raise ClusterError(
            f"{workers} processes for --scheduler could not be started ({_line(error)}): there may "
            "be too little memory, or a limit (ulimit -a)"
        ) from None
    with found:
        yield found


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold the signals back until the block has ended: what it starts is whole, and can be ended.

    Outside the main thread, which alone takes signals, there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _replacing(local: Any, workers: int) -> Callable[[], None]:
    """Start processes again that have died and that Dask has given up.

    Dask restarts a process that dies in its work, and forgets one that dies while it starts.
    """
    seen: dict[Any, float] = {}

    def replace() -> None:
        alive = {worker["name"] for worker in local.scheduler_info["workers"].values()}
        now = time.monotonic()
        for name in list(local.workers):
            last = seen.setdefault(name, now)
            if name in alive:
                seen[name] = now
            elif now - last > _SECONDS_TO_RESTART:
                lost = local.workers.pop(name)
                local.loop.add_callback(lost.close)
                del seen[name]
        if len(local.workers) < workers:
            local.scale(workers)

    return replace


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
