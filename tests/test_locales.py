"""Files are UTF-8 whatever the locale and the terminal, and any legal path will do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

import featpur_sim
from featpur_sim.runs.folder import load_result, load_scorecard

ROOT = Path(__file__).parents[1]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def without_encoding(path):
    """Where a file opens text in the encoding of the locale."""
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        given = {keyword.arg for keyword in node.keywords}
        modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
        binary = any(isinstance(mode, str) and "b" in mode and len(mode) < 4 for mode in modes)
        if "encoding" in given:
            continue
        # `featpur_sim._ground.disk.write_text` is UTF-8.
        method = isinstance(node.func, ast.Attribute) and len(node.args) < 2
        opens = name == "open" and isinstance(node.func, ast.Name) and not binary
        if (name in ("read_text", "write_text") and method) or opens:
            yield f"{path.name}:{node.lineno}"


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    tops = ("featpur_sim", "experiments", "tests", "benchmarks")
    files = [path for top in tops for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 180
    assert [found for path in files for found in without_encoding(path)] == []


@pytest.fixture(scope="module")
def settings(tiny, tmp_path_factory):
    """The settings of ``tiny`` under another name; keyword arguments change them."""

    def write(**changes):
        path = tmp_path_factory.mktemp("settings") / "κ.toml"
        # With a BOM, as some editors write.
        path.write_bytes(b"\xef\xbb\xbf" + tomli_w.dumps(tiny(name="κ/α", **changes)).encode())
        return path

    return write


SHORT = {
    "seeds": 1,
    "clean": {"steps": 20},
    "adversarial": {"steps": 20},
    "evaluation": {"samples": 100, "radii": [0.0, 1.0], "pgd_steps": 2},
}


# Computing takes most of a run, and knows no locale; drawing is tested elsewhere.
PROGRAM = """
import sys
from featpur_sim.cli import main as cli
from featpur_sim.runs import config
from featpur_sim.report import run_figures as figures, run_page as report, reproduce
from featpur_sim._ground.disk import write_text
from featpur_sim.runs.experiment import Experiment
from featpur_sim.runs.folder import load_result, load_weights

def run_experiment(settings, **rest):
    result = load_result(source).assign_attrs(name=settings.name, config=config.dump(settings))
    return Experiment(result, load_weights(source))

source = sys.argv.pop(1)
if source:
    reproduce.run_experiment = run_experiment
figures.save_all = lambda *arguments: []
report.write_page = lambda path, *rest: write_text(path, chr(954))
cli.main()
"""


def in_locale(source, *arguments, encoding):
    """The command in a process of its own, in the locale C and with a terminal of ``encoding``.

    ``source`` is the folder of a run that the command finds where it would compute; "" for none.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "LANG" and not name.startswith(("LC_", "PYTHON"))
    }
    environment |= {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": encoding,
        "PYTHONPATH": str(Path(featpur_sim.__file__).parents[1]),
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, source, *map(os.fspath, arguments)],
        env=environment,
        capture_output=True,
        timeout=600,
    )


def require_good_end(found, out, encoding):
    assert found.returncode == 0, found.stderr
    assert b"Traceback" not in found.stderr and b"Scorecard" in found.stdout
    assert load_result(out).attrs["name"] == "κ/α"
    assert load_scorecard(out)[0]["regime"] == "κ/α"
    texts = [path for path in out.iterdir() if path.suffix in (".json", ".toml", ".html")]
    assert len(texts) == 4 and "κ" in "".join(path.read_text(encoding="utf-8") for path in texts)
    # What the terminal knows is shown as it is; the rest is a question mark.
    title = found.stdout.decode(encoding).splitlines()[0]
    assert ("?/?" if encoding in ("ascii", "latin-1") else "κ/α") in title


@pytest.mark.parametrize(
    "encoding",
    ["ascii", *(pytest.param(e, marks=pytest.mark.slow) for e in ("latin-1", "euc-jp", "gb18030"))],
)
def test_a_run_in_another_locale_writes_utf_8_and_ends_well(
    encoding, settings, tiny_folder, tmp_path
):
    out = tmp_path / "ø[1]"
    found = in_locale(tiny_folder, "run", settings(), "--out", out, encoding=encoding)
    require_good_end(found, out, encoding)


@pytest.mark.slow
def test_a_whole_run_in_another_locale(settings, tmp_path):
    found = in_locale("", "run", settings(**SHORT), "--out", tmp_path / "ø[1]", encoding="ascii")
    require_good_end(found, tmp_path / "ø[1]", "ascii")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "euc-jp", "gb18030", "utf-8"])
def test_what_a_terminal_cannot_show_is_a_question_mark(encoding, monkeypatch, tmp_path):
    import io

    from featpur_sim.cli import _options as _terminal

    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    _terminal.print_any_character()
    print("κ ø → ↯ \udcff")
    _terminal.tell("κ ø → ↯ \udcff")
    for stream in streams:
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding).count("?") >= 1


# Names that some library or some option parser has a meaning of its own for.
NAMES = ["g[1]", "a*b?", "two words\nand lines", "--dash", "~", "x://y", "κ", "a/../b", "n" * 250]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe")])
def test_any_legal_path_is_one_to_run_into(name, settings, featpur_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = featpur_here("run", settings(**SHORT), f"--out={name}", "--quiet")
    assert (code, err) == (0, "")
    assert load_result(name).attrs["name"] == "κ/α"
    code, _, err = featpur_here("evaluate", "--quiet", "--", name)
    assert (code, err) == (0, "")


@pytest.fixture
def featpur_here(featpur, monkeypatch):
    monkeypatch.setattr("featpur_sim.report.run_figures.save_all", lambda *arguments: [])
    monkeypatch.setattr(
        "featpur_sim.report.run_page.write_page", lambda path, *rest: path.write_bytes(b"")
    )
    return featpur
