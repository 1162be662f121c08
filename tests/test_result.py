"""Files on disk: whole or not at all, one writer, nothing executed on reading."""

import json
import os
import pickle

import numpy as np
import pytest
import xarray as xr

from featpur_sim import __version__
from featpur_sim.result import (
    CONFIG,
    REPORT,
    RESULT,
    SCORECARD,
    WEIGHTS,
    ResultError,
    load_result,
    load_scorecard,
    load_weights,
    require_free,
    save_run,
    save_scorecard,
    to_json,
)


def listing(folder):
    """Every file below a folder with its content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("failing", [CONFIG, WEIGHTS, SCORECARD, RESULT])
def test_a_run_that_cannot_be_saved_leaves_no_mark_of_a_whole_one(
    failing, tiny_run, tmp_path, monkeypatch
):
    real = os.replace

    def replace(source, target):
        if os.path.basename(target) == failing:
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="disk full"):
        save_run(tmp_path, tiny_run.result, tiny_run.weights, [])
    assert RESULT not in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_what_is_saved_is_what_is_loaded(tiny_run, tiny_folder):
    assert set(os.listdir(tiny_folder)) == {RESULT, SCORECARD, WEIGHTS, CONFIG}
    result = load_result(tiny_folder)
    xr.testing.assert_identical(result, tiny_run.result)
    arrays = load_weights(tiny_folder)
    assert arrays.keys() == tiny_run.weights.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, tiny_run.weights[name])
        assert array.dtype == tiny_run.weights[name].dtype
    assert (tiny_folder / CONFIG).read_text() == result.attrs["config"]
    assert {"id", "verdict", "rule", "source", "ci"} <= load_scorecard(tiny_folder)[0].keys()


def test_only_a_finished_run_is_protected(tmp_path):
    require_free(tmp_path / "new", False)
    require_free(tmp_path, False)
    (tmp_path / RESULT).write_text("")
    require_free(tmp_path, False)  # a command that was cut off before its report
    (tmp_path / REPORT).write_text("")
    require_free(tmp_path, True)
    with pytest.raises(ResultError, match="already holds a finished run: .* --overwrite"):
        require_free(tmp_path, False)
    with pytest.raises(ResultError, match="is a file, not a folder"):
        require_free(tmp_path / RESULT, False)


def copy_of(folder, target, name, content):
    """``folder``'s files in ``target``, with one file's bytes replaced."""
    target.mkdir(exist_ok=True)
    for part in (RESULT, SCORECARD, WEIGHTS):
        (target / part).write_bytes((folder / part).read_bytes())
    (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize(("name", "load"), [(RESULT, load_result), (WEIGHTS, load_weights)])
def test_a_truncated_file_is_one_message(share, name, load, tiny_folder, tmp_path):
    whole = (tiny_folder / name).read_bytes()
    folder = copy_of(tiny_folder, tmp_path / "cut", name, whole[: int(share * len(whole))])
    with pytest.raises(ResultError, match=f"{name} cannot be read as") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_never_gives_other_numbers(tiny_folder, tmp_path):
    whole = (tiny_folder / WEIGHTS).read_bytes()
    true = load_weights(tiny_folder)
    refused = 0
    for at in range(0, len(whole), len(whole) // 60):
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        folder = copy_of(tiny_folder, tmp_path / "broken", WEIGHTS, bytes(broken))
        try:
            found = load_weights(folder)
        except ResultError:
            refused += 1
        else:
            for name in found.keys() & true.keys():
                np.testing.assert_array_equal(found[name], true[name])
    assert refused > 40


class Trap:
    """Unpickling it would call ``print``."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_pickles_are_refused(tiny_folder, tmp_path, capsys):
    path = tmp_path / "object.npz"
    np.savez(path, W0=np.array([Trap()], dtype=object))
    plain = tmp_path / "plain.npy"
    np.save(plain, np.zeros(3))
    for content in (path.read_bytes(), pickle.dumps(Trap()), plain.read_bytes()):
        folder = copy_of(tiny_folder, tmp_path / "trap", WEIGHTS, content)
        with pytest.raises(ResultError, match=f"{WEIGHTS} cannot be read as plain arrays"):
            load_weights(folder)
    assert capsys.readouterr().out == ""


def test_something_else_named_result_nc(tiny_folder, tmp_path):
    folder = copy_of(tiny_folder, tmp_path / "other", RESULT, b"not a netCDF file")
    with pytest.raises(ResultError, match="cannot be read as a run's result"):
        load_result(folder)


@pytest.mark.parametrize("version", ["0.0.9", "99.0.0", None])
def test_another_version_is_named(version, tiny_run, tmp_path):
    attributes = dict(tiny_run.result.attrs)
    attributes.pop("version")
    if version is not None:
        attributes["version"] = version
    other = tiny_run.result.copy()
    other.attrs = attributes
    other.to_netcdf(tmp_path / RESULT, engine="h5netcdf")
    with pytest.raises(ResultError) as caught:
        load_result(tmp_path)
    message = str(caught.value)
    assert f"featpur_sim {version or '(unknown)'}, this is {__version__}" in message
    assert "config.toml" in message


def test_a_patch_release_reads_the_results_of_its_series(tiny_run, tmp_path):
    other = tiny_run.result.copy()
    other.attrs = other.attrs | {"version": __version__.rsplit(".", 1)[0] + ".77"}
    other.to_netcdf(tmp_path / RESULT, engine="h5netcdf")
    assert load_result(tmp_path).attrs["version"].endswith(".77")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(ResultError, match="holds no finished run: .* 'featpur run"):
        load_result(tmp_path)
    with pytest.raises(ResultError, match="holds no weights.npz"):
        load_weights(tmp_path)
    with pytest.raises(ResultError, match="holds no scorecard.json"):
        load_scorecard(tmp_path)


def test_scorecard_writes_nan_as_null(tmp_path):
    rows = [{"id": "C1", "measured": float("nan"), "ci": [float("-inf"), 0.5], "verdict": "κ ≫"}]
    save_scorecard(tmp_path, rows)
    text = (tmp_path / SCORECARD).read_text()

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(text, parse_constant=refuse)
    assert read == [{"id": "C1", "measured": None, "ci": [None, 0.5], "verdict": "κ ≫"}]
    assert load_scorecard(tmp_path) == read == json.loads(to_json(rows))
    (tmp_path / SCORECARD).write_text("[{")
    with pytest.raises(ResultError, match="scorecard.json is not valid JSON"):
        load_scorecard(tmp_path)
