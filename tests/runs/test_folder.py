"""Files on disk: whole or not at all, one writer, nothing executed on reading."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import xarray as xr

from featpur_sim import __version__
from featpur_sim._ground.manifest import MANIFEST, rewriting
from featpur_sim.claims.of_run import scorecard
from featpur_sim.runs.folder import (
    CHECKPOINT,
    CONFIG,
    REPORT,
    RESULT,
    SAVING,
    SCORECARD,
    WEIGHTS,
    ResultError,
    is_saved,
    load_result,
    load_scorecard,
    load_weights,
    require_free,
    save_netcdf,
    save_run,
    save_scorecard,
    to_json,
)
from featpur_sim.runs.schema import DIMENSIONS, NEW, require_whole


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
    assert not is_saved(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_what_is_saved_is_what_is_loaded(tiny_run, tiny_folder):
    assert set(os.listdir(tiny_folder)) == {RESULT, SCORECARD, WEIGHTS, CONFIG, MANIFEST}
    result = load_result(tiny_folder)
    xr.testing.assert_identical(result, tiny_run.result)
    arrays = load_weights(tiny_folder)
    assert arrays.keys() == tiny_run.weights.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, tiny_run.weights[name])
        assert array.dtype == tiny_run.weights[name].dtype
    assert (tiny_folder / CONFIG).read_text(encoding="utf-8") == result.attrs["config"]
    assert {"id", "verdict", "rule", "source", "ci"} <= load_scorecard(tiny_folder)[0].keys()


def test_only_a_finished_run_is_protected(tmp_path):
    require_free(tmp_path / "new", False)
    require_free(tmp_path, False)
    (tmp_path / RESULT).write_bytes(b"")
    (tmp_path / REPORT).write_bytes(b"")
    require_free(tmp_path, True)
    with pytest.raises(ResultError, match="already holds a finished run: .* --overwrite"):
        require_free(tmp_path, False)
    with pytest.raises(ResultError, match="is a file, not a folder"):
        require_free(tmp_path / RESULT, False)
    with pytest.raises(ResultError, match="/ is not a folder for results"):
        require_free("/", True)


@pytest.mark.parametrize("name", [RESULT, WEIGHTS, CONFIG, SCORECARD, REPORT, "figures"])
def test_files_of_other_origin_are_protected(name, tmp_path):
    path = tmp_path / name
    if name == "figures":
        path.mkdir()
        (path / "mine.png").write_bytes(b"of the user")
    else:
        path.write_bytes(b"of the user")
    (tmp_path / "notes.txt").write_bytes(b"in nobody's way")
    # A checkpoint alone says that a run is under way, not that the files are its own.
    (tmp_path / CHECKPOINT).mkdir()
    with pytest.raises(ResultError, match=f"{name} exists and is not from .* --overwrite"):
        require_free(tmp_path, False)
    require_free(tmp_path, True)
    (tmp_path / SAVING).write_bytes(b"")
    require_free(tmp_path, False)  # cut off while it wrote


def test_a_link_to_nothing_is_not_replaced(tmp_path):
    (tmp_path / CONFIG).symlink_to(tmp_path / "nothing")
    with pytest.raises(ResultError, match=f"{CONFIG} exists and is not"):
        require_free(tmp_path, False)


def test_a_run_without_its_report_is_gone_on_with_unless_it_was_changed(tiny_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_folder, folder)
    require_free(folder, False)
    (folder / CONFIG).write_bytes(b"# my comment")
    with pytest.raises(ResultError, match=f"{CONFIG} exists and is not from"):
        require_free(folder, False)


def test_what_is_replaced_takes_its_certificate_along(tiny_run, tiny_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_folder, folder)
    (folder / "mine.json").write_bytes(b"of the user")
    with rewriting(folder, "certificate.json"):
        (folder / "certificate.json").write_bytes(b"of the old networks")
    save_run(folder, tiny_run.result, tiny_run.weights, [])
    assert set(os.listdir(folder)) == set(os.listdir(tiny_folder)) | {"mine.json"}


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
    save_netcdf(tmp_path / RESULT, other)
    with pytest.raises(ResultError) as caught:
        load_result(tmp_path)
    message = str(caught.value)
    assert f"featpur_sim {version or '(unknown)'}, this is {__version__}" in message
    assert "config.toml" in message


def test_a_patch_release_reads_the_results_of_its_series(tiny_run, tmp_path):
    other = tiny_run.result.copy()
    other.attrs = other.attrs | {"version": __version__.rsplit(".", 1)[0] + ".77"}
    save_netcdf(tmp_path / RESULT, other)
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
    text = (tmp_path / SCORECARD).read_text(encoding="utf-8")

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(text, parse_constant=refuse)
    assert read == [{"id": "C1", "measured": None, "ci": [None, 0.5], "verdict": "κ ≫"}]
    assert load_scorecard(tmp_path) == read == json.loads(to_json(rows))
    (tmp_path / SCORECARD).write_bytes(b"[{")
    with pytest.raises(ResultError, match="scorecard.json is not valid JSON"):
        load_scorecard(tmp_path)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "load"), [(RESULT, load_result), (WEIGHTS, load_weights),
                                            (SCORECARD, load_scorecard)])  # fmt: skip
def test_no_flipped_bit_goes_unnoticed(name, load, tiny_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_folder, folder)
    whole = (folder / name).read_bytes()
    for at in np.random.default_rng(0).integers(8 * len(whole), size=200):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        (folder / name).write_bytes(flipped)
        with pytest.raises(ResultError, match=f"{name} is not what was written there .*again"):
            load(folder)
    (folder / name).write_bytes(whole)
    load(folder)


def test_no_flipped_bit_of_the_manifest_goes_unnoticed(tiny_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_folder, folder)
    whole = (folder / MANIFEST).read_bytes()
    true = load_result(folder)
    refused = 0
    for at in range(0, 8 * len(whole), 17):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        (folder / MANIFEST).write_bytes(flipped)
        try:
            found = load_result(folder)
        except ResultError as error:
            assert MANIFEST in str(error)
            refused += 1
        else:  # between two words
            xr.testing.assert_identical(found, true)
    assert refused > len(whole) / 4


def test_without_a_manifest_damage_is_a_message_or_harmless(tiny_folder, tmp_path):
    """Folders that were made before there were manifests; a value may differ, nothing else."""
    whole = (tiny_folder / RESULT).read_bytes()
    (tmp_path / RESULT).write_bytes(whole)
    load_result(tmp_path)
    for at in np.random.default_rng(1).integers(8 * len(whole), size=25):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        (tmp_path / RESULT).write_bytes(flipped)
        try:
            load_result(tmp_path)
        except ResultError as error:
            assert "\n" not in str(error)


def with_attributes(result, attributes):
    changed = result.copy()
    changed.attrs = attributes
    return changed


def test_a_lost_variable_is_named_or_not_needed(tiny_run):
    for name in tiny_run.result.variables:
        damaged = tiny_run.result.drop_vars(name)
        if name in DIMENSIONS:
            with pytest.raises(ValueError, match=f"the variable {name} is missing"):
                require_whole(damaged)
        else:
            require_whole(damaged)
            assert scorecard(damaged) == scorecard(tiny_run.result)


def test_a_lost_or_changed_attribute_is_named(tiny_run):
    whole = tiny_run.result.attrs
    for name, value in whole.items():
        without = {k: v for k, v in whole.items() if k != name}
        changed = without | {name: 7 if isinstance(value, str) else "7"}
        for attributes in (changed,) if name in NEW else (without, changed):
            with pytest.raises(ValueError, match=name):
                require_whole(with_attributes(tiny_run.result, attributes))


@pytest.mark.parametrize("change", [{"d": 15}, {"norm": "linf"}, {"config": "seeds ="}])
def test_an_attribute_that_contradicts_the_settings_is_one_message(change, tiny_run, tmp_path):
    damaged = with_attributes(tiny_run.result, tiny_run.result.attrs | change)
    save_netcdf(tmp_path / RESULT, damaged)
    with pytest.raises(ResultError, match="is not the result of a whole run"):
        load_result(tmp_path)


def test_a_lost_dimension_or_seed_is_named(tiny_run, tmp_path):
    for result, words in [
        (tiny_run.result.isel(seed=[0]), "1 along seed, its settings give 2"),
        (tiny_run.result.isel(seed=0), r"seed has the dimensions \(\), not \('seed',\)"),
    ]:
        save_netcdf(tmp_path / RESULT, result)
        with pytest.raises(ResultError, match=words):
            load_result(tmp_path)


def test_labels_of_variables_may_be_lost(tiny_run, tmp_path):
    bare = tiny_run.result.copy()
    for name in bare.variables:
        bare[name].attrs = {}
    save_netcdf(tmp_path / RESULT, bare)
    assert scorecard(load_result(tmp_path)) == scorecard(tiny_run.result)
