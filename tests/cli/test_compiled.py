"""Compiled programs kept between commands: where, when not, and never a reason to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featpur_sim.cli import _compiled

JAX = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in (JAX, _compiled.VARIABLE, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # What keep() sets goes when the test ends.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    before = dict(os.environ)
    yield monkeypatch
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def test_the_folder_is_the_users_and_is_said_once(environment, tmp_path):
    message = _compiled.keep()
    folder = Path(os.environ[JAX])
    assert folder.parent == tmp_path / "featpur_sim" and folder.is_dir()
    assert message is not None and str(folder) in message and "FEATPUR_CACHE=off" in message
    del os.environ[JAX]
    assert _compiled.keep() is None and os.environ[JAX] == str(folder)


@pytest.mark.parametrize("name, value", [("FEATPUR_CACHE", "off"), (JAX, "/own")])
def test_the_user_decides(environment, tmp_path, name, value):
    environment.setenv(name, value)
    assert _compiled.keep() is None
    assert os.environ.get(JAX) == (value if name == JAX else None)
    assert not any(tmp_path.iterdir())


def test_another_processor_or_other_flags_have_another_folder(environment):
    names = [_compiled._machine()]
    environment.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    names.append(_compiled._machine())
    environment.setattr(_compiled.platform, "machine", lambda: "other")
    names.append(_compiled._machine())
    assert len(set(names)) == 3


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(environment, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    environment.setenv("FEATPUR_CACHE", str(tmp_path / "file" / "folder"))
    assert _compiled.keep() is None
    assert JAX not in os.environ


def test_the_oldest_programs_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(_compiled, "_LIMIT", 1000)
    for age, name in enumerate("abcdef"):
        path = tmp_path / name
        path.write_bytes(bytes(200))
        os.utime(path, (1000 + age, 1000 + age))
    _compiled._forget_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "f"]
    _compiled._forget_old(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_second_process_finds_the_programs_and_a_damaged_one_is_compiled(environment, tmp_path):
    """The damage of a process that was killed while it wrote."""
    script = (
        "from featpur_sim.cli import _compiled; _compiled.keep()\n"
        "import jax, jax.numpy as jnp\n"
        "seen = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: seen.append(event))\n"
        "print(float(jax.jit(lambda x: jnp.sin(x) * 2)(0.5)))\n"
        "print(sum(event.endswith('cache_hits') for event in seen))\n"
    )

    def run():
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8",
            check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    value, hits = run()
    assert hits == "0"
    again, hits = run()
    assert again == value and int(hits) >= 1
    for path in next((tmp_path / "featpur_sim").iterdir()).iterdir():
        path.write_bytes(path.read_bytes()[:20])
    damaged, hits = run()
    assert damaged == value
