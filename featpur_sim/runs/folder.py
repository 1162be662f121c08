"""A run on disk: its files, read without pickles (docs/how-to/read-results).

A run's folder holds ``result.nc``, ``scorecard.json``, ``weights.npz``, ``config.toml``,
``figures/``, ``report.html`` and ``manifest.json``, the checksums of the others.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from featpur_sim import __version__
from featpur_sim._ground.disk import ResultError, atomic_path, write_text
from featpur_sim._ground.manifest import foreign, recorded, require_intact, rewriting, start_anew
from featpur_sim._ground.rows import Row
from featpur_sim.runs.schema import require_whole
from featpur_sim.training.identity import can_read

RESULT, SCORECARD, WEIGHTS, CONFIG = "result.nc", "scorecard.json", "weights.npz", "config.toml"
REPORT, FIGURES, CHECKPOINT = "report.html", "figures", ".checkpoint"
# Exists while a run writes its files: those of this name that are there are its own.
SAVING = Path(CHECKPOINT) / "saving"

# What zipfile raises on damaged bytes, besides OSError and ValueError.
_BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def require_free(directory: str | Path, overwrite: bool) -> None:
    """Refuse to write over anything but an unfinished run of ours, unless told to.

    A run is unfinished from the first file that it writes, with a mark in ``.checkpoint``, until
    its report. Other files are ours if the folder's manifest has their checksums.

    Raises:
        ResultError: the folder holds a finished run, or files of other origin with the names of
            those of a run; it is a file, or the root of the file system.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ResultError(f"{directory} is a file, not a folder: choose another with --out.")
    if directory.resolve().parent == directory.resolve():
        raise ResultError(f"{directory} is not a folder for results: choose another with --out.")
    if overwrite or not directory.is_dir():
        return
    if (directory / RESULT).exists() and (directory / REPORT).exists():
        raise ResultError(
            f"{directory} already holds a finished run: choose another folder with --out, or pass "
            "--overwrite to replace it."
        )
    if (directory / SAVING).exists():
        return
    ours = recorded(directory)
    for name in (RESULT, SCORECARD, WEIGHTS, CONFIG, REPORT, FIGURES):
        path = directory / name
        if path.is_dir():
            mine = any(at.startswith(f"{name}/") for at in ours)
        else:
            mine = not foreign(directory, name)
        if os.path.lexists(path) and not mine:
            raise ResultError(
                f"{path} exists and is not from an unfinished run: choose another folder with "
                "--out, or pass --overwrite to replace it."
            )


def is_saved(directory: str | Path) -> bool:
    """Whether a run in a folder is over: its data and figures are there, if not its report.

    Raises:
        ResultError: the manifest is damaged.
    """
    directory = Path(directory)
    whole = recorded(directory).get(RESULT) is not None
    return whole and not (directory / SAVING).exists()


def figure_files(*figures: str) -> list[str]:
    """Names, in a folder of ours, of the files of some figures."""
    return [f"{FIGURES}/{figure}.{kind}" for figure in figures for kind in ("png", "pdf")]


def save_run(
    directory: str | Path,
    result: xr.Dataset,
    weights: Mapping[str, np.ndarray],
    scorecard: list[Row],
) -> None:
    """Write a run's data files, each atomically, then ``manifest.json``, the mark of a whole run.

    Files on the manifest of a run that was there before, such as its certificate, are removed.
    """
    directory = Path(directory)
    before = start_anew(directory)
    files = (WEIGHTS, RESULT, CONFIG, SCORECARD)
    with rewriting(directory, *files):
        if directory / RESULT in before:
            for path in set(before) - {directory / name for name in files}:
                path.unlink(missing_ok=True)
        with atomic_path(directory / WEIGHTS) as temporary:
            np.savez_compressed(temporary, **weights)  # pyright: ignore[reportArgumentType]
        save_netcdf(directory / RESULT, result)
        write_text(directory / CONFIG, result.attrs["config"])
        save_scorecard(directory, scorecard)


def save_netcdf(path: str | Path, dataset: xr.Dataset) -> None:
    """Write a netCDF file atomically.

    The file is made in memory first: HDF5 that cannot flush to a full disk takes the whole process
    down at exit, while a failing write of bytes is an error like any other.

    Raises:
        OSError: the disk is full, say; nothing is written then.
    """
    image = io.BytesIO()
    with h5netcdf.File(image, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file))
    with atomic_path(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def save_scorecard(directory: str | Path, scorecard: list[Row]) -> None:
    """Write ``scorecard.json`` atomically. NaN is written as null."""
    write_text(Path(directory) / SCORECARD, to_json(scorecard, indent=2) + "\n")


def to_json(rows: list[Row] | Row, indent: int | None = None) -> str:
    """JSON text of a scorecard or a table. NaN, which JSON does not have, becomes null."""
    clean = json.loads(json.dumps(rows), parse_constant=lambda constant: None)
    return json.dumps(clean, indent=indent, ensure_ascii=False, allow_nan=False)


def load_result(directory: str | Path) -> xr.Dataset:
    """Read ``result.nc`` of a run into memory.

    Raises:
        ResultError: the folder holds no run, a damaged one, or one of another version.
    """
    path = Path(directory) / RESULT
    if not path.is_file():
        raise ResultError(
            f"{directory} holds no finished run: there is no {RESULT}. Make one with "
            "'featpur run CONFIG.toml --out DIR' or 'featpur reproduce --out DIR'."
        )
    require_intact(path)
    result = load_netcdf(path, "a run's result")
    # netCDF gives numbers back as NumPy scalars.
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in result.attrs.items()}
    result = result.assign_attrs(plain)
    _require_version(path, result.attrs.get("version"))
    try:
        require_whole(result)
    except ValueError as error:
        raise ResultError(
            f"{path} is not the result of a whole run: {error}. Restore it from a copy, or repeat "
            "the run."
        ) from None
    # Development versions had no other.
    return result.assign_attrs({"draw": "shared"} | result.attrs)


def load_netcdf(path: str | Path, what: str) -> xr.Dataset:
    """Read a netCDF file of ours into memory; HDF5 sees bytes, no path and no lock.

    Args:
        path: the file.
        what: it should be, for the message.

    Raises:
        ResultError: it cannot be read, or it is damaged.
    """
    try:
        return xr.load_dataset(io.BytesIO(Path(path).read_bytes()), engine="h5netcdf")
    except Exception as error:  # damaged bytes make HDF5, h5py and xarray raise anything
        reason = " ".join(str(error).split())
        raise ResultError(f"{path} cannot be read as {what}: {reason}.") from None


def load_weights(directory: str | Path) -> dict[str, np.ndarray]:
    """Read ``weights.npz`` of a run.

    Raises:
        ResultError: the file is missing or is not an archive of plain arrays.
    """
    path = Path(directory) / WEIGHTS
    try:
        require_intact(path)
        # Opened here: np.load leaves its own file open when the archive is damaged.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not an archive")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ResultError(f"{directory} holds no {WEIGHTS}: it is not a finished run.") from None
    except ResultError:
        raise
    except (*_BROKEN_ARCHIVE, OSError, ValueError, EOFError) as error:
        raise ResultError(f"{path} cannot be read as plain arrays: {error}.") from None


def load_rows(path: Path, needed: set[str], command: str) -> list[Row]:
    """A JSON table that a command left in a run's folder; none if there is no such file.

    Args:
        path: the file.
        needed: entries that every row must have.
        command: makes the file again, for the message.

    Raises:
        ResultError: the file is damaged, or not such a table.
    """
    if not path.exists():
        return []
    require_intact(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not all(needed <= set(row) for row in rows):
            raise ValueError("a row lacks an entry")
    except (ValueError, TypeError, OSError) as error:
        raise ResultError(
            f"{path} cannot be read: {error}. Make it again with '{command}'."
        ) from None
    return rows


def load_scorecard(directory: str | Path) -> list[Row]:
    """Read ``scorecard.json`` of a run.

    Raises:
        ResultError: the file is missing or is not JSON.
    """
    path = Path(directory) / SCORECARD
    try:
        require_intact(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{directory} holds no {SCORECARD}.") from None
    except ResultError:
        raise
    except ValueError as error:  # not UTF-8, not JSON
        raise ResultError(f"{path} is not valid JSON: {error}.") from None


def _require_version(path: Path, version: Any) -> None:
    if not can_read(version):
        raise ResultError(
            f"{path} was written by featpur_sim {version or '(unknown)'}, this is {__version__}: "
            "repeat the run from its config.toml, or install that version."
        )
