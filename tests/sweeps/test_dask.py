"""The same batches on a Dask cluster: the same bits, whoever computes them and whoever dies."""

import asyncio
import functools
import gc
import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any

import dask
import distributed
import pytest
import xarray as xr
from quick_survey import noting_survey, quick_survey
from test_run import SETTINGS, bits
from tornado.ioloop import IOLoop

from featpur_sim._ground.meter import SILENT, Silent
from featpur_sim.runs.config import ConfigError
from featpur_sim.sweeps import plan as sweep_plan
from featpur_sim.sweeps import run as sweep
from featpur_sim.sweeps.dask import ClusterError, _replacing, _signals_held, cluster, execute_on
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.run import run_sweep
from featpur_sim.training.identity import software

# Dask warns of ports in use and of slow starts; neither is about us.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Batches of at most four lanes: of the programs that test_sweep has compiled."""
    monkeypatch.setattr(sweep_plan, "WIDEST", {"cpu": 4})


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Whatever else a process computes with Dask goes on as if there had been no cluster."""
    yield
    assert dask.config.get("scheduler", None) is None
    with pytest.raises(ValueError, match="No client"):
        distributed.Client.current()


@pytest.fixture
def clients(monkeypatch):
    """The clients that `cluster` has made."""
    made = []

    def noting(client, **settings):
        made.append(client)
        return execute_on(client, **settings)

    monkeypatch.setattr("featpur_sim.sweeps.dask.execute_on", noting)
    return made


@functools.cache
def running_loop():
    """An event loop in a thread of its own: Dask gives one that it starts itself ten seconds only,
    which a busy machine has exceeded."""
    running = threading.Event()

    async def serve():
        made.append(IOLoop.current())
        running.set()
        await asyncio.Event().wait()

    made = []
    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    running.wait()
    return made[0]


def threads(workers):
    """A cluster of threads."""
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=":0",
        loop=running_loop(),
    )  # fmt: skip


def break_in_half(problem, run, keys, evaluation, tau, norm):
    """A survey that fails where k = 3."""
    if float(problem.k[0]) == 3:
        raise RuntimeError("no memory")
    return quick_survey(problem, run, keys, evaluation, tau, norm)


def test_batches_come_back_from_the_cluster(tmp_path, monkeypatch):
    few = parse_sweep(SETTINGS | {"axes": {"d": [16], "k": [2, 2.5, 3, 3.5]}})
    run_sweep(few, tmp_path / "here", survey=quick_survey)
    with threads(1) as local, distributed.Client(local, set_as_default=False) as client:
        there = run_sweep(few, tmp_path / "there", survey=quick_survey, execute=execute_on(client))
        assert not there.failed and bits(tmp_path / "there") == bits(tmp_path / "here")
        failed = run_sweep(few, tmp_path / "half", survey=break_in_half, execute=execute_on(client))
        monkeypatch.setattr(sweep, "_survey", lambda: noting_survey)
        own = run_sweep(few, tmp_path / "own", memory=2**32, execute=execute_on(client))
    assert (own.result.memory == 2**32).all()
    assert failed.failed == {1: "RuntimeError: no memory"}
    assert failed.result.status.values.tolist() == [["ok"] * 2] * 2 + [["failed"] * 2] * 2


def test_bad_clusters_are_one_line(monkeypatch):
    monkeypatch.setattr("featpur_sim.sweeps.dask._SECONDS_TO_CONNECT", 1)
    for scheduler, words in (
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there"),
        ("nonsense://", "no Dask scheduler answers there"),
    ):
        with pytest.raises(ConfigError, match=words) as caught, cluster(scheduler):
            pass
        assert "\n" not in str(caught.value)
        # One that is closed later, by the garbage collector, may wait for itself.
        clients = [one for one in gc.get_objects() if type(one) is distributed.Client]
        assert {client.status for client in clients} <= {"closed", "newly-created"}
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ConfigError, match=r"needs Dask: python -m pip install 'featpur_sim\[dask\]'"
    ):
        with cluster("local"):
            pass


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tmp_path, clients):
    """Two worker processes, one killed after the first batch: every batch once, the same bits."""
    some = parse_sweep(SETTINGS)
    run_sweep(some, tmp_path / "here", survey=quick_survey)
    with cluster("local:2") as execute:
        (client,) = clients
        workers = client.run(os.getpid)
        assert len(set(workers.values())) == 2

        def kill_one(tasks, survey, status):
            for count, (number, outcome) in enumerate(execute(tasks, survey, status)):
                if count == 0:
                    os.kill(next(iter(workers.values())), signal.SIGKILL)
                yield number, outcome

        found = run_sweep(some, tmp_path / "there", survey=quick_survey, execute=kill_one)
    assert not found.failed and bits(tmp_path / "there") == bits(tmp_path / "here")
    with xr.open_dataset(tmp_path / "there" / "sweep.nc") as result:
        assert (result.status == "ok").all()


# --- what ends a sweep instead of letting it stand still ------------------------------------------

FEW = parse_sweep(SETTINGS | {"axes": {"d": [16], "k": [2, 3]}})


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr("featpur_sim.sweeps.dask._SECONDS_BETWEEN_LOOKS", 0.05)


def test_without_a_worker_a_sweep_ends(quickly, tmp_path):
    told, revived = [], []

    class Told(Silent):
        def at(self, stage, done, total, detail=""):
            told.append((stage, done, total, detail))

    with threads(0) as local, distributed.Client(local, set_as_default=False) as client:
        execute = execute_on(client, patience=0.3, revive=lambda: revived.append(1))
        with pytest.raises(ClusterError, match="no worker .* for 0 s, with 1 of 1 batches to go"):
            run_sweep(FEW, tmp_path, survey=quick_survey, execute=execute, meter=Told())
    assert ("batches", 0, 1, "waiting for a worker") in told and revived


def test_a_lost_scheduler_ends_a_sweep(quickly, tmp_path):
    with threads(0) as local, distributed.Client(local, timeout=1, set_as_default=False) as client:

        class Lose(Silent):
            def at(self, stage, done, total, detail=""):
                if detail:
                    local.close()

        with pytest.raises(ClusterError, match="the scheduler of the cluster is gone"):
            run_sweep(FEW, tmp_path, execute=execute_on(client), meter=Lose())


def worker_dies(problem, run, keys, evaluation, tau, norm):
    """What Dask raises when four workers have died of a batch."""
    worker: Any = SimpleNamespace(address="tcp://1")
    raise distributed.KilledWorker("batch-0000-12ab", worker, 3)


def test_a_batch_that_kills_its_workers_is_named_by_its_points(tmp_path):
    with threads(1) as local, distributed.Client(local, set_as_default=False) as client:
        found = run_sweep(FEW, tmp_path, survey=worker_dies, execute=execute_on(client))
    assert found.points_of == {0: (0, 1)}
    assert "4 workers died of it" in found.failed[0] and "12ab" not in found.failed[0]


def answering(answers):
    """A client whose workers answer so when they are asked for their versions."""
    return SimpleNamespace(run=lambda function, on_error: answers)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"a": software(), "b": "featpur_sim 9"}, r"worker b has .* \(featpur_sim 9 → 0.1"),
        ({"a": ImportError("jax"), "b": OSError("c")}, "no worker can import this package; a: jax"),
    ],
)
def test_workers_of_other_versions_are_refused_before_anything_is_computed(answers, words):
    with pytest.raises(ClusterError, match=words):
        next(execute_on(answering(answers))({}, quick_survey, SILENT))


def test_workers_may_come_late_or_be_dying():
    for answers in ({}, {"a": software(), "b": OSError("closed")}):
        assert not list(execute_on(answering(answers))({}, quick_survey, SILENT))


def test_processes_that_do_not_start_are_one_line(monkeypatch):
    def fails(**settings):
        raise RuntimeError("Nanny failed\nto start.")

    monkeypatch.setattr(distributed, "LocalCluster", fails)
    with pytest.raises(ClusterError, match=r"3 processes .* \(Nanny failed to start\.\)"):
        with cluster("local:3"):
            pass


def test_processes_that_dask_has_given_up_are_replaced(monkeypatch):
    """One of two is not in the scheduler's list: it gets its time to restart, and is replaced."""
    now, scaled = [0.0], []
    monkeypatch.setattr("featpur_sim.sweeps.dask.time.monotonic", lambda: now[0])
    local = SimpleNamespace(
        scheduler_info={"workers": {"tcp://1": {"name": 0}}},
        workers={0: SimpleNamespace(close=None), 1: SimpleNamespace(close="close")},
        loop=SimpleNamespace(add_callback=scaled.append),
        scale=scaled.append,
    )
    replace = _replacing(local, 2)
    for now[0] in (0.0, 59.0):
        replace()
    assert list(local.workers) == [0, 1] and not scaled
    now[0] = 61.0
    replace()
    assert list(local.workers) == [0] and scaled == ["close", 2]


def test_a_signal_in_a_held_block_comes_at_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt), _signals_held():
        signal.raise_signal(signal.SIGINT)
        done.append("the block")
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_a_process_that_is_not_started_again_is_replaced(monkeypatch, tmp_path, clients):
    """Its nanny is told not to restart it; Dask then misses it for good."""
    monkeypatch.setattr("featpur_sim.sweeps.dask._SECONDS_TO_RESTART", 5.0)
    with cluster("local:1") as execute:
        (client,) = clients
        (pid,) = client.run(os.getpid).values()
        (nanny,) = client.cluster.workers.values()
        nanny.close_gracefully()
        os.kill(pid, signal.SIGKILL)
        found = run_sweep(FEW, tmp_path, survey=quick_survey, execute=execute)
    assert not found.failed and (found.result.status == "ok").all()
