"""Placement on several devices: what may not change, and what is really spread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from featpur_sim.training.devices import spread, usable


@pytest.fixture(scope="module")
def found():
    """The findings of ``sharded.py``, a process of its own: devices are set before JAX starts."""
    script = Path(__file__).parents[1] / "sharded.py"
    flags = (
        "--xla_force_host_platform_device_count=4",
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        # If devices wait for each other, the process ends soon.
        "--xla_cpu_collective_call_terminate_timeout_seconds=20",
    )
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"XLA_FLAGS": " ".join(flags)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_spread_runs_are_the_same_to_the_bit(found):
    assert found["devices of runs"] == 3 and found["runs per device"] == 2
    assert found["runs differ by"] > 0.1
    assert found["same weights"] and found["same records"]
    assert found["exchanged by runs"] == []


def test_runs_go_on_where_they_were_to_the_bit(found):
    assert found["resumed weights"] and found["resumed records"]
    # Placed elsewhere they would run another program, whose last digits differ.
    assert found["resumed places"] and found["programs of resuming"] == 0


def test_a_survey_of_spread_runs_is_the_same_but_for_rounding(found):
    assert len(set(found["accuracies"])) > 1 and found["same accuracies"]
    # The sums over kinks are compiled otherwise for several devices.
    assert found["critical radii"] >= 3 and found["same critical radii"]


def test_a_network_cut_across_its_neurons_trains_alike(found):
    assert found["devices of neurons"] == 4
    assert found["slice"] == [16, 32] and found["slice of thresholds"] == [16]
    assert found["gap"] < 1e-5 < 0.05 < found["moved"]


def test_devices_do_not_wait_for_each_other(found):
    # A deadlock ends the process of ``found`` after its limit.
    assert found["finite records"]
    assert "split_neurons: 4 CPU devices can wait for each other forever" in found["refusal"]
    assert "--xla_cpu_enable_concurrency_optimized_scheduler=false" in found["refusal"]


def test_the_number_of_devices_divides_the_work():
    four = jax.local_devices()[:1] * 4
    assert [len(usable(runs, four)) for runs in (1, 2, 3, 4, 6, 7, 8, 200)] == [
        1, 2, 3, 4, 3, 1, 4, 4,
    ]  # fmt: skip
    assert usable(5) == jax.local_devices()[:1]


def test_one_device_changes_nothing():
    tree = {"x": jnp.ones((3, 2)), "name": "kept"}
    assert spread(tree, jax.local_devices()[:1]) is tree


@pytest.mark.parametrize(
    "tree", [(jnp.ones((3, 2)), jnp.ones(4)), (jnp.ones(3), jnp.float32(1))], ids=["two", "none"]
)
def test_spread_wants_one_leading_axis(tree):
    with pytest.raises(ValueError, match="one leading axis, one entry per run"):
        spread(tree)
