"""Running sweeps: every lane once, nothing lost, nothing depends on how often it was stopped."""

import errno
import json
import os
import resource
import shutil
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr
from quick_survey import noting_survey, quick_survey

from featpur_sim._ground.disk import ResultError, claim_folder
from featpur_sim.runs.config import ConfigError
from featpur_sim.sweeps import plan as sweep_plan
from featpur_sim.sweeps import run as sweep
from featpur_sim.sweeps.assemble import as_grid
from featpur_sim.sweeps.file import parse_sweep
from featpur_sim.sweeps.plan import lane_memory, make_plan, memory_budget
from featpur_sim.sweeps.run import in_process, load_sweep, run_sweep
from featpur_sim.training.identity import software

SETTINGS = {
    "name": "small",
    "seed": 3,
    "seeds": 2,
    "preset": "dense-regime",
    "axes": {"d": [16, 24], "k": [2, 2.5, 3, 3.5, 4]},
    "derived": {"tau": "0.3/sqrt(k)"},
    "run": {
        "records": 3,
        "clean": {"steps": 20, "batch": 32},
        "adversarial": {"steps": 20, "batch": 32},
    },
}

# One batch, of the same program as those of d = 16 above.
FEW = SETTINGS | {"axes": {"d": [16], "k": [2, 3]}}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Batches of at most four lanes: ten lanes a size make 4 + 4 + 2 and two of padding."""
    monkeypatch.setattr(sweep_plan, "WIDEST", {"cpu": 4})
    monkeypatch.setattr(sweep, "_survey", lambda: quick_survey)


@pytest.fixture(scope="module")
def small():
    return parse_sweep(SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    """The folder of the small sweep, run through; to be read only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_plan, "WIDEST", {"cpu": 4})
        finished = run_sweep(small, folder, survey=quick_survey)
    assert not finished.failed and not finished.damaged
    return folder


@pytest.fixture
def half_done(undisturbed, tmp_path):
    """A folder in which three of the six batches are finished."""
    folder = tmp_path / "half"
    shutil.copytree(undisturbed, folder)
    (folder / "sweep.nc").unlink()
    for number in (1, 3, 4):
        (folder / "batches" / f"batch-{number:04d}.nc").unlink()
    return folder


def bits(folder):
    """Every value of a sweep's result, as bytes."""
    with load_sweep(folder) as result:
        return {
            str(name): result[name].values.astype(str).tobytes()
            if result[name].dtype.kind == "O"
            else result[name].values.tobytes()
            for name in result.variables
        }


class Counting:
    """Computes in process, notes which batches, and stops as Ctrl-C would after ``stop``."""

    def __init__(self, stop=None):
        self.numbers, self.stop = [], stop

    def __call__(self, tasks, survey, status):
        for number, outcome in in_process(tasks, survey, status):
            if len(self.numbers) == self.stop:
                raise KeyboardInterrupt
            self.numbers.append(number)
            yield number, outcome


# --- plan -----------------------------------------------------------------------------------------


def test_every_lane_is_in_one_batch_and_batches_have_one_width(small):
    plan = make_plan(small, 2**32)
    lanes = [lane for task in plan.tasks for lane in task.lanes]
    assert sorted(lanes) == [(p, s) for p in range(10) for s in range(2)]
    assert [len(task.lanes) for task in plan.tasks] == [4, 4, 2] * 2
    assert [task.width for task in plan.tasks] == [4] * 6
    assert [group.points for group in plan.groups] == [tuple(range(5)), tuple(range(5, 10))]
    assert [group.program for group in plan.groups] == [0, 1]
    for task in plan.tasks:
        assert [small.points[p].config for p, _ in task.lanes] == list(task.configs)


@pytest.mark.parametrize(
    ("field", "values", "groups", "programs"),
    [
        # Data: one group, whatever the values.
        ("k", [2, 3], 1, 1),
        ("sigma_x", [0.1, 0.2], 1, 1),
        ("tau", [0.1, 0.2], 1, 1),
        ("p_one", [0.5, 1.0], 1, 1),
        ("sigma_0", [0.01, 0.02], 1, 1),
        ("clean.learning_rate", [0.5, 0.2], 1, 1),
        ("adversarial.weight_decay", [0.0, 1e-3], 1, 1),
        ("clean.bias.stop", [0.1, 0.2], 1, 1),
        # Lanes of a batch march in step, but the number of steps is data to the program.
        ("clean.steps", [20, 30], 2, 1),
        # Static.
        ("d", [16, 24], 2, 2),
        ("m", [32, 64], 2, 2),
        ("clean.batch", [32, 64], 2, 2),
        ("clean.microbatch", [16, 32], 2, 2),
        ("clean.dataset_size", [100, 200], 2, 2),
        ("clean.optimizer", ["sgd", "adam"], 2, 2),
        ("adversarial.norm", ["l2", "linf"], 2, 2),
        ("adversarial.attack", ["fgm", "random-noise"], 2, 2),
        ("problem.law", ["two-level", "gaussian-twin"], 2, 2),
        ("network.smoothing", ["none"], 1, 1),
        ("evaluation.samples", [200, 300], 2, 2),
        ("records", [2, 3], 2, 2),
    ],
)
def test_only_what_is_static_makes_another_group(field, values, groups, programs):
    plan = make_plan(parse_sweep({"preset": "dense-regime", "axes": {field: values}}), 2**34)
    assert len(plan.groups) == groups
    assert len({group.program for group in plan.groups}) == programs


def test_the_width_follows_from_the_memory(small, monkeypatch):
    monkeypatch.setattr(sweep_plan, "WIDEST", {"cpu": 16})
    one = max(lane_memory(point.config) for point in small.points)
    assert {task.width for task in make_plan(small, 100 * one).tasks} == {10}
    # Three fit: ten lanes are 3 + 3 + 3 + 1 in the larger size, and no batch exceeds the budget.
    tight = make_plan(small, 3 * one)
    assert tight.groups[1].width == 3
    for group in tight.groups:
        assert group.width * lane_memory(small.points[group.points[0]].config) <= 3 * one
    with pytest.raises(ConfigError, match=r"point 5: one run of it needs .* raise --memory"):
        make_plan(small, one - 1)


def test_memory_budget():
    assert memory_budget(1.5) == 1.5 * 2**30
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_budget() == have // 2
    assert memory_budget(workers=2) == pytest.approx(have / 4, rel=1e-6)


def test_what_a_run_would_refuse_is_refused_before_anything_is_computed(tmp_path):
    settings = {"preset": "dense-regime", "axes": {"problem.law": ["two-level", "levels"]}}
    with pytest.raises(ConfigError, match=r"point 1 .*: problem\.levels is missing"):
        run_sweep(parse_sweep(settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what comes out -------------------------------------------------------------------------------


def test_dimensions_and_coordinates(small, undisturbed):
    result = load_sweep(undisturbed)
    assert dict(result.sizes) == {"point": 10, "seed": 2, "phase": 3}
    assert result.alpha_max.dims == ("point", "seed", "phase")
    assert result.seed.values.tolist() == [1, 2]
    assert result.phase.values.tolist() == ["init", "clean", "adversarial"]
    for point, expected in enumerate(small.points):
        c = expected.config
        found = [float(result[name][point]) for name in ("d", "k", "m", "tau")]
        assert found == [c.problem.d, c.problem.k, c.network.neurons, c.adversarial.radius]
    assert (result.status == "ok").all() and (result.reason == "").all()
    assert np.isfinite(result.alpha_max).all()
    assert (
        result.attrs["sweep"]
        == small.text
        == (undisturbed / "sweep.toml").read_text(encoding="utf-8")
    )
    result.close()


def test_a_lane_is_the_seed_of_a_run(tiny, tiny_run, tmp_path):
    """Point k = 3 of a sweep against `featpur run` with the same settings and seed."""
    run = {name: value for name, value in tiny().items() if name not in ("name", "seed", "seeds")}
    run["problem"] = {"d": 16}
    settings = {"seed": 3, "seeds": 2, "run": run, "axes": {"k": [2, 3]}}
    result = run_sweep(parse_sweep(settings), tmp_path / "out").result
    expected = tiny_run.result
    for name in ("alpha_max", "kappa_over_alpha"):
        same, other = (result[name].values[point] for point in (1, 0))
        np.testing.assert_array_equal(same[:, 0], expected[name][:, 0])
        # 400 steps at another vmapped width differ by rounding, 800 by what becomes of it.
        np.testing.assert_allclose(same[:, 1], expected[name][:, 1], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(same[:, 2], expected[name][:, 2], rtol=1e-2, atol=1e-4)
        # The other point is not that close.
        assert not np.allclose(other[:, 1], expected[name][:, 1], rtol=1e-3, atol=1e-5)
        assert not np.allclose(other[:, 2], expected[name][:, 2], rtol=1e-2, atol=1e-4)


def test_common_random_numbers(undisturbed):
    """Points differ in what is swept alone: the start of seed s is the same at every k."""
    with load_sweep(undisturbed) as result:
        start = result.alpha_max.sel(phase="init")
        assert (start[:5] == start[0]).all() and (start[:, 0] != start[:, 1]).all()


def test_a_full_cross_product_unstacks(undisturbed):
    with load_sweep(undisturbed) as result:
        grid = as_grid(result)
        assert grid.alpha_max.dims == ("d", "k", "seed", "phase")
        assert grid.d.values.tolist() == [16, 24] and grid.k.values.tolist() == [2, 2.5, 3, 3.5, 4]
        for point in range(10):
            at = {"d": float(result.d[point]), "k": float(result.k[point])}
            assert (grid.alpha_max.sel(at) == result.alpha_max[point]).all()
            assert grid.tau.sel(at) == result.tau[point]


def test_zipped_lists_unstack_to_one_dimension():
    settings = SETTINGS | {
        "axes": {"k": [2, 3]},
        "zip": [{"clean.steps": [20, 10], "clean.learning_rate": [0.5, 1.0]}],
    }
    small = parse_sweep(settings)
    lanes = np.arange(8)
    batch = xr.Dataset(
        {"value": ("lane", lanes * 1.0), "status": ("lane", ["ok"] * 8)}, {"lane": lanes}
    )
    grid = as_grid(sweep.assemble(small, [batch], {}))
    assert grid.value.dims == ("k", "clean.steps", "seed")
    assert grid["clean.learning_rate"].dims == ("clean.steps",)
    assert grid.value.sel({"k": 3, "clean.steps": 10}).values.tolist() == [6, 7]


def test_a_sweep_of_one_point_is_a_grid_of_none(small):
    settings = {name: value for name, value in SETTINGS.items() if name not in ("axes", "derived")}
    batch = xr.Dataset({"status": ("lane", ["ok"] * 2)}, {"lane": [0, 1]})
    result = sweep.assemble(parse_sweep(settings), [batch], {})
    assert dict(as_grid(result).sizes) == {"seed": 2}


def test_batches_with_different_labels_are_padded_with_nan(small):
    settings = SETTINGS | {"axes": {"k": [2, 3]}}
    parts = [
        xr.Dataset(
            {"value": (("lane", "attack"), np.full((2, len(names)), 1.0 * first))},
            {"lane": [first, first + 1], "attack": names},
        )
        for first, names in ((2, ["b", "a"]), (0, ["c", "b"]))
    ]
    result = sweep.assemble(parse_sweep(settings), parts, {})
    assert result.attack.values.tolist() == ["b", "a", "c"]
    np.testing.assert_array_equal(result.value[0], [[0, np.nan, 0]] * 2)
    np.testing.assert_array_equal(result.value[1], [[2, 2, np.nan]] * 2)


@pytest.mark.parametrize("lanes", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 3, 3]])
def test_a_lane_that_is_missing_or_twice_is_an_error(lanes):
    small = parse_sweep(SETTINGS | {"axes": {"k": [2, 3]}})
    batch = xr.Dataset({"value": ("lane", 1.0 * np.array(lanes))}, {"lane": lanes})
    with pytest.raises(ValueError, match="every lane once"):
        sweep.assemble(small, [batch], {})


def test_a_large_result_opens_lazily(undisturbed):
    with load_sweep(undisturbed) as result:
        assert not result.alpha_max.variable._in_memory
        assert float(result.alpha_max[0, 0, 0]) > 0


# --- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_stopped_and_resumed_is_the_same_bit_for_bit(small, undisturbed, tmp_path, after):
    out = tmp_path / "out"
    first, second = Counting(after), Counting()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(small, out, execute=first)
    assert not (out / "sweep.nc").exists()
    run_sweep(small, out, execute=second, resume=True)
    # Nothing lost, nothing computed twice.
    assert sorted(first.numbers + second.numbers) == list(range(6))
    assert bits(out) == bits(undisturbed)


def test_batches_in_any_order_give_the_same_bits(small, undisturbed, half_done):
    def backwards(tasks, survey, status):
        yield from in_process(dict(reversed(tasks.items())), survey, status)

    run_sweep(small, half_done, execute=backwards, resume=True)
    assert bits(half_done) == bits(undisturbed)


def test_a_finished_folder_is_only_assembled(small, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    (out / "sweep.nc").unlink()
    counting = Counting()
    run_sweep(small, out, execute=counting, resume=True)
    assert counting.numbers == [] and bits(out) == bits(undisturbed)


def test_resume_takes_the_widths_of_the_folder(small, undisturbed, half_done, monkeypatch):
    """On a machine that would choose wider batches: one of ten lanes a size, not 4 + 4 + 2."""
    monkeypatch.setattr(sweep_plan, "WIDEST", {"cpu": 16})
    assert [group.width for group in make_plan(small, 2**32).groups] == [10, 10]
    given = {}

    def noting(tasks, survey, status):
        given.update(tasks)
        yield from in_process(tasks, survey, status)

    finished = run_sweep(small, half_done, execute=noting, resume=True)
    # On a CPU the bits alone would not tell: there a lane does not depend on those beside it.
    lanes = {
        number: [lane.point * 2 + lane.seed for lane in t.lanes] for number, t in given.items()
    }
    assert lanes == {1: [4, 5, 6, 7], 3: [10, 11, 12, 13], 4: [14, 15, 16, 17]}
    assert [task.width for task in given.values()] == [4, 4, 4] and not finished.damaged
    assert len(list((half_done / "batches").iterdir())) == 6
    assert bits(half_done) == bits(undisturbed)


def test_the_memory_reaches_the_measurements_and_a_folder_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_survey", lambda: noting_survey)
    few, given = parse_sweep(FEW), 2**32 + 1
    result = run_sweep(few, tmp_path, memory=given).result
    assert (result.memory == given).all()
    assert json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))["memory"] == given
    (tmp_path / "batches" / "batch-0000.nc").unlink()
    result = run_sweep(few, tmp_path, memory=2**33, resume=True).result
    assert (result.memory == given).all()
    # A folder that does not say was measured with 1 GiB.
    manifest = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    del manifest["memory"]
    (tmp_path / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    (tmp_path / "batches" / "batch-0000.nc").unlink()
    assert (run_sweep(few, tmp_path, memory=2**33, resume=True).result.memory == 2**30).all()


def test_resume_starts_where_there_is_nothing(small, half_done, tmp_path):
    # A kill before the first batch leaves a hidden file or two.
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".featpur-abc.json").write_text("{", encoding="utf-8")
    counting = Counting(0)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(small, out, execute=counting, resume=True)
    assert not (out / ".featpur-abc.json").exists()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    with xr.load_dataset(path, engine="h5netcdf") as batch:
        value = batch.alpha_max.values
    raw = path.read_bytes()
    at = raw.find(value.tobytes())
    assert at > 0
    path.write_bytes(raw[: at + 3] + bytes([raw[at + 3] ^ 1]) + raw[at + 4 :])


def _of_other_lanes(path):
    shutil.copy(path.with_name("batch-0000.nc"), path)


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _flip, _of_other_lanes, _empty])
def test_a_damaged_batch_is_computed_again(small, undisturbed, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    damage(out / "batches" / "batch-0002.nc")
    counting = Counting()
    finished = run_sweep(small, out, execute=counting, resume=True)
    assert counting.numbers == [2] and finished.damaged == [2]
    assert bits(out) == bits(undisturbed)


def test_leftovers_of_a_kill_in_the_middle_of_writing_go(small, half_done):
    leftover = half_done / "batches" / ".featpur-x7_y.nc"
    leftover.write_bytes(b"half")
    run_sweep(small, half_done, resume=True)
    assert not leftover.exists()


# --- folders that are refused ---------------------------------------------------------------------


def test_a_folder_with_a_sweep_needs_resume_or_overwrite(small, undisturbed):
    with pytest.raises(ResultError, match="pass --resume to go on with it, --overwrite"):
        run_sweep(small, undisturbed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 3}, "seeds 2 → 3"),
        ({"seed": 4}, "seed 3 → 4"),
        ({"axes": {"d": [16, 24], "k": [2, 3]}}, r"axes.k \[2, 2.5, 3, 3.5, 4\] → \[2, 3\]"),
        ({"derived": {"tau": "0.2/sqrt(k)"}}, "derived.tau '0.3/sqrt.k.' → '0.2/sqrt.k.'"),
        ({"preset": "sparse-regime"}, "preset 'dense-regime' → 'sparse-regime'"),
    ],
)
def test_another_sweep_is_refused_and_the_difference_named(half_done, change, words):
    before = sorted(half_done.rglob("*"))
    with pytest.raises(ResultError, match=words):
        run_sweep(parse_sweep(SETTINGS | change), half_done, resume=True)
    assert sorted(half_done.rglob("*")) == before


def test_other_software_or_presets_are_refused(small, half_done):
    manifest = json.loads((half_done / "sweep.json").read_text(encoding="utf-8"))
    for key, value, words in (
        (
            "software",
            "featpur_sim 0.0.1, jax 0.1",
            "featpur_sim 0.0.1 → .*; jax 0.1 → ",
        ),
        ("points", "0" * 64, "presets and defaults behind the points 00000000 → "),
    ):
        (half_done / "sweep.json").write_text(json.dumps(manifest | {key: value}), encoding="utf-8")
        with pytest.raises(ResultError, match=words):
            run_sweep(small, half_done, resume=True)


def test_a_damaged_manifest_is_one_message(small, half_done):
    for text in ("", "{}", "[]", "\0", "3"):
        (half_done / "sweep.json").write_text(text, encoding="utf-8")
        with pytest.raises(ResultError, match="sweep.json cannot be read"):
            run_sweep(small, half_done, resume=True)


def test_a_folder_of_something_else_is_never_written_to(small, tmp_path):
    (tmp_path / "thesis.tex").touch()
    choices: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]
    for flags in choices:
        with pytest.raises(ResultError, match="holds something other than a sweep"):
            run_sweep(small, tmp_path, **flags)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ResultError, match="is a file"):
        run_sweep(small, tmp_path / "thesis.tex")


def test_two_processes_cannot_share_a_folder(small, half_done):
    with claim_folder(half_done), pytest.raises(ResultError, match="in use by another run"):
        run_sweep(small, half_done, resume=True)


def test_overwrite_starts_anew(half_done):
    counting = Counting()
    run_sweep(parse_sweep(FEW), half_done, execute=counting, overwrite=True)
    assert counting.numbers == [0]
    assert len(list((half_done / "batches").iterdir())) == 1


def test_a_folder_without_a_sweep(tmp_path, undisturbed):
    with pytest.raises(ResultError, match="holds no finished sweep"):
        load_sweep(tmp_path)
    (tmp_path / "sweep.nc").write_bytes((undisturbed / "sweep.nc").read_bytes()[:999])
    with pytest.raises(ResultError, match="cannot be read as a sweep's result"):
        load_sweep(tmp_path)


# --- what fails -----------------------------------------------------------------------------------


def test_a_failing_batch_is_recorded_and_tried_again(small, undisturbed, tmp_path):
    out = tmp_path / "out"

    def breaks(problem, run, keys, evaluation, tau, norm):
        if problem.d == 24:
            raise RuntimeError("out of\nmemory")
        return quick_survey(problem, run, keys, evaluation, tau, norm)

    finished = run_sweep(small, out, survey=breaks)
    assert finished.failed == dict.fromkeys((3, 4, 5), "RuntimeError: out of memory")
    result = finished.result
    assert (result.status[:5] == "ok").all() and (result.status[5:] == "failed").all()
    assert result.reason[7, 1] == "batch 4: RuntimeError: out of memory"
    assert np.isfinite(result.alpha_max[:5]).all() and np.isnan(result.alpha_max[5:]).all()
    log = out / "batches" / "batch-0003.failed.txt"
    assert "Traceback" in log.read_text(encoding="utf-8")
    finished = run_sweep(small, out, resume=True)
    assert not finished.failed and not log.exists()
    assert bits(out) == bits(undisturbed)


def test_when_every_batch_fails_the_result_says_so(tmp_path):
    def breaks(*arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("no")

    result = run_sweep(parse_sweep(FEW), tmp_path, survey=breaks).result
    assert (result.status == "failed").all() and dict(result.sizes) == {"point": 2, "seed": 2}


def test_a_diverged_lane_does_not_stop_the_rest(tmp_path):
    settings = FEW | {"axes": {"clean.learning_rate": [0.5, 1e30], "d": [16], "k": [2, 3]}}
    result = run_sweep(parse_sweep(settings), tmp_path).result
    assert result.status.values.tolist() == [["ok"] * 2] * 2 + [["diverged"] * 2] * 2
    assert "diverged since step" in str(result.reason.values[2, 0])
    assert str(result.reason.values[2, 0]).endswith("of the clean phase")
    assert np.isnan(result.alpha_max[2:]).all() and np.isfinite(result.alpha_max[:2]).all()


def test_a_long_status_after_short_ones_is_whole_in_the_file(small, tmp_path):
    """A file says how long its texts are, and the first batch's are "ok"."""

    def later(tasks, survey, meter):
        for number, outcome in in_process(tasks, survey, meter):
            if number == 1:
                outcome["status"] = ("lane", np.full(outcome.sizes["lane"], "diverged"))
                outcome["reason"] = ("lane", np.full(outcome.sizes["lane"], "the loss grew"))
            yield number, outcome

    run_sweep(small, tmp_path / "out", survey=quick_survey, execute=later)
    found = load_sweep(tmp_path / "out")
    assert {*found.status.values.ravel().tolist()} == {"ok", "diverged"}
    assert {*found.reason.values.ravel().tolist()} == {"", "the loss grew"}


def test_a_full_disk_leaves_whole_files_only(small, undisturbed, tmp_path):
    """A limit on the size of files stands for the disk: the write itself fails, deep in HDF5."""
    out = tmp_path / "out"
    size = (undisturbed / "batches" / "batch-0000.nc").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(tasks, survey, status):
        for number, outcome in in_process(tasks, survey, status):
            if number == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
            yield number, outcome

    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - errno is judged below
            run_sweep(small, out, execute=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno in (errno.EFBIG, None)
    assert [p.name for p in sorted((out / "batches").iterdir())] == [
        "batch-0000.nc",
        "batch-0001.nc",
    ]
    counting = Counting()
    run_sweep(small, out, execute=counting, resume=True)
    assert counting.numbers == [2, 3, 4, 5] and bits(out) == bits(undisturbed)


def test_a_batch_of_other_software_is_a_failure(tmp_path):
    def elsewhere(tasks, survey, status):
        for number, outcome in in_process(tasks, survey, status):
            assert isinstance(outcome, xr.Dataset)
            yield number, outcome.assign_attrs(software="featpur_sim 9, jax 1")

    finished = run_sweep(parse_sweep(FEW), tmp_path, execute=elsewhere)
    assert "(featpur_sim 9 → 0.1.0; jax 1 → " in finished.failed[0]


def test_padding_does_not_reach_the_result(small, undisturbed):
    with xr.open_dataset(undisturbed / "batches" / "batch-0002.nc") as batch:
        assert batch.lane.values.tolist() == [8, 9]
        assert batch.attrs["software"] == software()


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(tomli_w.dumps(FEW), encoding="utf-8")
    return path


def test_command(featpur, sweep_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code, stdout, err = featpur("sweep", sweep_file, "--out", out, "--json", "--quiet")
    assert code == 0 and not err
    assert json.loads(stdout) == {"result": str(out / "sweep.nc"), "status": {"ok": 4}}
    code, stdout, err = featpur("sweep", sweep_file, "--out", out)
    assert code == 2 and "--resume" in err and err.count("\n") == 1
    code, stdout, err = featpur("sweep", sweep_file, "--out", out, "--resume", "--seed", 5)
    assert code == 2 and "(seed 3 → 5): undo the change to go on" in err
    code, stdout, err = featpur("sweep", sweep_file, "--out", out, "--resume")
    assert code == 0 and "sweep.nc" in err and "4 ok" in err

    def breaks(*arguments, memory, keep):
        raise RuntimeError("no memory")

    monkeypatch.setattr(sweep, "_survey", lambda: breaks)
    code, stdout, err = featpur("sweep", sweep_file, "--out", out, "--overwrite", "--quiet")
    assert code == 3 and "--quiet --resume" in err and "--overwrite" not in err
    assert "Batch 0 (d = 16, k = 2, tau = 0.212132; d = 16, k = 3," in err
    assert "): RuntimeError: no memory" in err


def test_a_read_only_folder_is_refused_before_anything_is_computed(
    featpur, sweep_file, half_done, read_only, monkeypatch
):
    monkeypatch.setattr(sweep, "compute", lambda *a: pytest.fail("computed"))
    before = {path: path.read_bytes() for path in half_done.rglob("*") if path.is_file()}
    for extra in (["--overwrite"], ["--resume"]):
        code, stdout, err = featpur("sweep", sweep_file, "--out", half_done, *extra)
        assert (code, stdout) == (2, "") and "cannot write to the folder" in err
    assert {p: p.read_bytes() for p in half_done.rglob("*") if p.is_file()} == before


def test_command_stopped(featpur, sweep_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for error, code, words in (
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device"),
        (KeyboardInterrupt(), 130, "--resume"),
    ):

        def stops(path, batch, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("featpur_sim.sweeps.batches.save_netcdf", stops)
            found = featpur("sweep", sweep_file, "--out", out, "--resume", "--quiet")
        assert found[0] == code and words in found[2] and "--resume" in found[2]
    assert featpur("sweep", sweep_file, "--out", out, "--resume", "--quiet")[0] == 0


def test_dry_run(featpur, sweep_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code, stdout, _ = featpur("sweep", sweep_file, "--out", out, "--dry-run", "--json")
    found = json.loads(stdout)
    counts = [found[name] for name in ("points", "runs", "batches", "compilations")]
    assert code == 0 and counts == [2, 4, 1, 1]
    assert found["seconds"] > 0 and found["gib"] > 0
    monkeypatch.setattr("featpur_sim.sweeps.cost._rates", lambda config, width: (1e9, 1e9))
    code, stdout, _ = featpur("sweep", sweep_file, "--out", out, "--dry-run")
    assert code == 0 and "2 points, 4 runs, 1 compilations, 1 batches" in stdout
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume", "--overwrite"], "cannot be combined"),
        (["--memory", "0"], "--memory 0"),
        (["--memory", "nan"], "--memory nan"),
        (["--memory", "1e-6"], "raise --memory"),
        (["--scheduler", "local:x"], "--scheduler local:x"),
        (["--scheduler", "local:0"], "--scheduler local:0"),
    ],
)
def test_bad_options(featpur, sweep_file, tmp_path, options, words):
    code, _, err = featpur("sweep", sweep_file, "--out", tmp_path / "out", *options)
    assert code == 2 and words in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
