"""Small problems and networks that many test modules share, and strict settings."""

import ctypes
import gc
import os
import runpy
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" not in os.environ:
    # Most of the time goes into compiling. Programs are kept for the other files and processes of
    # these tests and for the next ones, as between commands; FEATPUR_CACHE=off compiles all anew.
    # JAX, which even an import of the package would bring here, reads this when it is imported.
    root = Path(__file__).parents[1]
    os.environ.setdefault("FEATPUR_CACHE", str(root / ".pytest_cache" / "d" / "programs"))
    runpy.run_path(str(root / "featpur_sim" / "cli" / "_compiled.py"))["keep"]()

import hypothesis
import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from tiny_runs import tiny_settings

from featpur_sim import SparseCoding, SymmetricReLU
from featpur_sim.claims import of_run as claims
from featpur_sim.cli import main as cli
from featpur_sim.runs import dataset, evaluation
from featpur_sim.runs.config import parse
from featpur_sim.runs.experiment import run_experiment
from featpur_sim.runs.folder import save_run

# The same examples in every run: a failure is a fact about the code, not about the day.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("fixed")


def _resident():
    """The memory of this process in MB; 0 where there is no /proc (Linux)."""
    pages = Path("/proc/self/statm")
    return (
        int(pages.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        if pages.exists()
        else 0
    )


# Of a program that runs for a moment, LLVM's optimisation is a third of the cost. XLA's own passes
# are those of users' programs.
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"


def pytest_configure(config):
    """Have LLVM optimise nothing in the short and long tests, whose time is compilation.

    Slow tests and the referees run the code that users run.
    """
    chosen = config.option.markexpr
    if "not slow" in chosen and "not referees" in chosen and "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = UNOPTIMISED


LONG = Path(__file__).with_name("long.txt")


def pytest_collection_modifyitems(items):
    """Mark what tests/long.txt lists, tests or whole files, by the section that they stand in."""
    marks, section = {}, ""
    for line in LONG.read_text(encoding="utf-8").splitlines():
        if line[:1] == "[":
            section = line.strip("[]")
        elif line[:1] not in ("", "#"):
            marks[line] = getattr(pytest.mark, section)
    for item in items:
        test = item.nodeid.partition("[")[0]
        for listed in (test, test.partition("::")[0]):
            if listed in marks:
                item.add_marker(marks[listed])


@pytest.fixture(autouse=True)
def few_programs():
    """Forget compiled programs, of 2 MB each, once they are many; the cache on disk has them.

    They also take memory maps, of which Linux gives a process 65,530: XLA's compiler ends in a
    segmentation fault without one. 2,500 MB are some 15,000 maps.
    """
    yield
    if _resident() > 2500:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def problem():
    """d = 32, k = 4, M = I, w* ∈ {±1}³²; √k is an integer, so ties happen."""
    return SparseCoding(d=32, k=4, sigma_x=0.3, key=jax.random.key(0))


@pytest.fixture(scope="session")
def batch(problem):
    """200 samples of ``problem``, ties among them."""
    found = problem.sample(jax.random.key(1), 200)
    assert 0 < int(jnp.sum(found.y == 0)) < 100
    return found


@pytest.fixture(scope="session")
def mixed_network(problem):
    """Two neurons per feature, w = ±(w*_j e_j + 0.2 w*) + noise: non-robust by its dense part."""
    key = jax.random.key(2)
    pure = jnp.eye(problem.d) * problem.wstar[:, None]
    clean = pure + 0.2 * problem.wstar[None, :]
    weights = jnp.concatenate([clean, 0.8 * clean])
    return SymmetricReLU(weights + 0.01 * jax.random.normal(key, weights.shape), 0.2)


@pytest.fixture
def unchecked():
    """The package as its users run it: without the run-time type checks of the tests.

    Bad values that the type checker would stop first must meet the package's own message.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny():
    """Settings of a run that takes a second; ``tiny(seeds=3, clean={"batch": 8})`` changes some."""
    return tiny_settings


@pytest.fixture(scope="session")
def tiny_run(tiny):
    """The settings of ``tiny`` run once: results and weights, to be read only."""
    return run_experiment(parse(tiny()))


@pytest.fixture(scope="session")
def tiny_folder(tiny_run, tmp_path_factory):
    """``tiny_run`` on disk, to be read only."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    save_run(folder, tiny_run.result, tiny_run.weights, claims.scorecard(tiny_run.result))
    return folder


@pytest.fixture(scope="session")
def apart(tiny, tmp_path_factory):
    """A run each seed of which draws its own w* and M, and its folder, to be read only."""
    uniform = {"wstar": "uniform", "wstar_range": [0.5, 2.0]}
    overcomplete = {"dictionary": "incoherent", "features": 24}
    folder = tmp_path_factory.mktemp("apart") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "ATTACKS", ("dense mixture", "FGM", "PGD", "transfer"))
        patch.setattr(dataset, "REFERENCE_ATTACKS", ("PGD",))
        experiment = run_experiment(parse(tiny(problem=uniform | overcomplete)))
    save_run(folder, experiment.result, experiment.weights, [])
    return experiment, folder


@pytest.fixture
def few_attacks(monkeypatch):
    """Score under FGM and PGD alone: each attack on each shape is a program to compile."""
    monkeypatch.setattr(evaluation, "ATTACKS", ("FGM", "PGD"))
    monkeypatch.setattr(dataset, "REFERENCE_ATTACKS", ("PGD",))


@pytest.fixture
def featpur(monkeypatch, capsys):
    """Runs a command in this process: ``featpur("run", path)`` → (code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["featpur", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def read_only(monkeypatch):
    """No file can be made anywhere; chmod would not stop root."""

    def refuse(*arguments, **settings):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
