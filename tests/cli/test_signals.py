"""How the process of ``featpur`` starts and ends: signals, closed pipes, late imports."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
from heard import popen

import featpur_sim
from featpur_sim.cli import _signals

PACKAGE = Path(featpur_sim.__file__).parent
LAST_WORDS = "the same command goes on from what it had saved."

# Sends itself signals at the moment at which JAX is about to be imported.
AT_IMPORT = """
import importlib.abc, os, signal, sys

class Sender(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "jax":
            sys.meta_path.remove(self)
            send()

{send}

sys.meta_path.insert(0, Sender())
from featpur_sim.__main__ import main
main()
"""


def start(*command, program=None, **settings):
    """``python -m featpur_sim`` in a process of its own, or a program in its place."""
    what = ["-m", "featpur_sim"] if program is None else ["-c", program]
    return popen(
        [sys.executable, *what, *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        stderr=subprocess.PIPE,
        text=True,
        **{"stdout": subprocess.PIPE} | settings,
    )


@pytest.fixture
def settings_file(tiny, tmp_path):
    (tmp_path / "settings.toml").write_text(tomli_w.dumps(tiny(seeds=1)), encoding="utf-8")
    return tmp_path / "settings.toml"


def test_progress_in_a_log_is_plain_lines(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    mine = shutil.copytree(tiny_folder, tmp_path / "mine")
    process = start("evaluate", mine, "--samples", 100, "--steps", 2, "--restarts", 1, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and json.loads(out)
    assert not {"\r", "\x1b"} & set(err)
    first, *between, last = err.splitlines()
    assert first == "tiny: attacks 0 of 21"
    assert re.fullmatch(r"tiny: attacks 21 of 21, \d+:\d\d elapsed", last)
    assert all(line.startswith("tiny: attacks ") for line in between)


INTERRUPT = "send = lambda: signal.raise_signal(signal.SIGINT)"
# As an extension module does when its start fails: it prints the interrupt, and turns it.
IN_AN_EXTENSION = """
def send():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        raise ImportError("initialization failed")
"""


@pytest.mark.parametrize("send", [INTERRUPT, IN_AN_EXTENSION])
def test_ctrl_c_during_imports(send, settings_file, tmp_path):
    program = AT_IMPORT.format(send=send)
    process = start("run", settings_file, "--out", tmp_path / "out", program=program)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("featpur: interrupted: ") and LAST_WORDS in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Commands of a made-up command line; the first comment of each says what happens in practice.
COMMANDS = {
    "once": """
# All that the command has opened is closed.
try:
    signal.raise_signal(signal.SIGINT)
finally:
    print("closed")
""",
    "in a callback": """
# The collector runs one of JAX's callbacks: Python prints the interrupt as ignored and loses it.
import time
class Caught:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
try:
    Caught()
    for _ in range(1000):
        time.sleep(0.01)
finally:
    print("closed")
""",
    "translated": """
# A library makes another error of it.
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("closed")
    raise ValueError("no result")
""",
    "again while it unwinds": """
# Ctrl-C twice, or sent on by a wrapper that the terminal sends it to as well.
try:
    signal.raise_signal(signal.SIGINT)
finally:
    print("closed", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("not reached")
""",
}


@pytest.mark.parametrize("body", COMMANDS.values(), ids=COMMANDS.keys())
def test_ctrl_c_in_a_command(body):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    program = f"""
import signal
from featpur_sim.cli import main as cli
from featpur_sim.__main__ import main
def made_up():
{lines}
cli.app.command("made-up")(made_up)
main()
"""
    process = start("made-up", program=program)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "closed\n")
    assert err.startswith("featpur: interrupted: ") and LAST_WORDS in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "word"), [("SIGTERM", "terminated"), ("SIGHUP", "terminal closed")]
)
def test_other_signals_end_like_ctrl_c_with_their_own_code(name, word, settings_file, tmp_path):
    send = f"send = lambda: signal.raise_signal(signal.{name})"
    process = start("run", settings_file, program=AT_IMPORT.format(send=send))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name)
    assert err.startswith(f"featpur: {word}: ") and err.count("\n") == 1


def test_ignored_signals_stay_ignored(tmp_path):
    """As under nohup, or in the background of a script."""
    send = "send = lambda: [signal.raise_signal(n) for n in (signal.SIGHUP, signal.SIGINT)]"
    ignore = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    ignore += "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    process = start("run", tmp_path / "none.toml", program=ignore + AT_IMPORT.format(send=send))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "does not exist" in err


def test_nothing_is_torn_down_after_an_interrupt(settings_file):
    """A crash at exit stands for XLA's, whose threads still compute."""
    crash = "import atexit, os\natexit.register(os.abort)\n"
    program = crash + AT_IMPORT.format(send=INTERRUPT)
    process = start("run", settings_file, program=program)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.count("\n") == 1


def test_ctrl_c_after_the_end_is_not_a_failure(tmp_path):
    """The interpreter closes down for a while after the last line of a finished command."""
    late = "import atexit, signal\natexit.register(signal.raise_signal, signal.SIGINT)\n"
    program = late + "from featpur_sim.__main__ import main\nmain()\n"
    process = start("init", tmp_path / "new.toml", program=program)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_many_moments_of_a_run(number, settings_file, tmp_path):
    """From the first import to the last file; what is found is always the same end."""
    began = time.monotonic()
    whole = start("run", settings_file, "--out", tmp_path / "whole", stdout=subprocess.DEVNULL)
    whole.communicate(timeout=300)
    lasted = time.monotonic() - began
    assert whole.returncode == 0
    for part in range(1, 12):
        out = tmp_path / str(part)
        process = start("run", settings_file, "--out", out, stdout=subprocess.DEVNULL)
        time.sleep(0.1 + lasted * part / 14)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        if process.returncode != 0:  # it may be over before the signal
            assert process.returncode == 128 + number, (part, err)
            assert LAST_WORDS in err and "Traceback" not in err and "ignored" not in err
            assert not [p for p in out.glob(".*") if p.name not in (".lock", ".checkpoint")]


@pytest.mark.parametrize("command", [["--help"], ["init", "x.toml"]])
def test_a_reader_that_leaves(command, tmp_path):
    read, write = os.pipe()
    os.close(read)
    process = start(*command, stdout=write, cwd=tmp_path)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


def test_the_backend_of_a_notebook_does_not_matter(monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "module://not_installed_here.backend_inline")
    process = start("report", tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "holds no finished run" in err


@pytest.mark.parametrize("where", ["working directory", "MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_a_damaged_matplotlibrc_does_not_matter(where, monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes("font.family: Größe".encode("latin-1"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if where != "working directory":
        monkeypatch.setenv(where, str(tmp_path))
    process = start("report", "DIR", cwd=tmp_path if where == "working directory" else elsewhere)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "DIR holds no finished run" in err
    assert "decode" not in err and "matplotlib" not in err


def test_version_and_help_import_no_jax(tmp_path):
    program = """
import runpy, sys
try:
    runpy.run_module("featpur_sim", run_name="__main__")
finally:
    assert "jax" not in sys.modules and "matplotlib" not in sys.modules
"""
    for option, word in (("--version", f"featpur_sim {featpur_sim.__version__} (jax "),
                         ("--help", "Usage: featpur")):  # fmt: skip
        process = start(option, program=program)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "") and word in out


def test_a_process_of_the_command_leaves_the_terminals_signals_to_it(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        _signals.leave_to_the_command()
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
        monkeypatch.setattr("multiprocessing.parent_process", lambda: "the command")
        _signals.leave_to_the_command()
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
