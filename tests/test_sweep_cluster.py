"""The same batches on a Dask cluster: the same bits, whoever computes them and whoever dies."""

import os
import signal
import sys

import distributed
import pytest
import xarray as xr
from quick_survey import quick_survey
from test_sweep import SETTINGS, bits

from featpur_sim import sweep_plan
from featpur_sim.config import ConfigError
from featpur_sim.sweep import run_sweep
from featpur_sim.sweep_cluster import cluster, execute_on
from featpur_sim.sweep_file import parse_sweep

# Dask warns of ports in use and of slow starts; neither is about us.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Batches of at most four lanes: of the programs that test_sweep has compiled."""
    monkeypatch.setattr(sweep_plan, "WIDEST", {"cpu": 4})


def break_in_half(problem, run, keys, evaluation, tau, norm):
    """A survey that fails where k = 3."""
    if float(problem.k[0]) == 3:
        raise RuntimeError("no memory")
    return quick_survey(problem, run, keys, evaluation, tau, norm)


def test_batches_come_back_from_the_cluster(tmp_path):
    few = parse_sweep(SETTINGS | {"axes": {"d": [16], "k": [2, 2.5, 3, 3.5]}})
    run_sweep(few, tmp_path / "here", survey=quick_survey)
    client = distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    )
    with client:
        there = run_sweep(few, tmp_path / "there", survey=quick_survey, execute=execute_on(client))
        assert not there.failed and bits(tmp_path / "there") == bits(tmp_path / "here")
        failed = run_sweep(few, tmp_path / "half", survey=break_in_half, execute=execute_on(client))
    assert failed.failed == {1: "RuntimeError: no memory"}
    assert failed.result.status.values.tolist() == [["ok"] * 2] * 2 + [["failed"] * 2] * 2


def test_bad_clusters_are_one_line(monkeypatch):
    monkeypatch.setattr("featpur_sim.sweep_cluster._SECONDS_TO_CONNECT", 1)
    for scheduler, words in (
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there"),
        ("nonsense://", "no Dask scheduler answers there"),
    ):
        with pytest.raises(ConfigError, match=words) as caught, cluster(scheduler):
            pass
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ConfigError, match=r"needs Dask: python -m pip install 'featpur_sim\[dask\]'"
    ):
        with cluster("local"):
            pass


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tmp_path):
    """Two worker processes, one killed after the first batch: every batch once, the same bits."""
    some = parse_sweep(SETTINGS)
    run_sweep(some, tmp_path / "here", survey=quick_survey)
    with cluster("local:2") as execute:
        client = distributed.get_client()
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
