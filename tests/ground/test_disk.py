"""Files whole or not at all, folders with one writer, whatever the path and the file system."""

import errno
import multiprocessing
import os

import pytest

from featpur_sim._ground import disk
from featpur_sim._ground.disk import (
    TEMPORARY,
    DiskWarning,
    ResultError,
    atomic_path,
    claim_folder,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old" and temporary.parent == tmp_path
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a.txt"] and path.read_text(encoding="utf-8") == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new" and len(os.listdir(tmp_path)) == 1


def test_a_written_file_has_the_users_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("x", encoding="utf-8")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def hold(folder, held, release):
    with claim_folder(folder):
        held.set()
        release.wait(60)


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    # Spawned, not forked: JAX has threads.
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "run", held, release))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(ResultError, match=r"run is in use by another run: wait"):
            with claim_folder(tmp_path / "run"):
                pass
        release.set()
        other.join(60)
        with claim_folder(tmp_path / "run") as folder:
            assert folder == tmp_path / "run"
    finally:
        release.set()
        other.join(60)
        if other.is_alive():
            other.kill()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ResultError, match="cannot write to the folder .* Choose another"):
        with claim_folder(tmp_path / "file" / "run"):
            pass


def fails_with(number):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("name", ["EWOULDBLOCK", "EAGAIN", "EACCES"])
def test_a_lock_that_another_process_holds_is_contention(name, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_lock", fails_with(getattr(errno, name)))
    with pytest.raises(ResultError, match="in use by another run"), claim_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO"])
def test_a_file_system_without_locks_is_said_and_used(name, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_lock", fails_with(getattr(errno, name)))
    with pytest.warns(DiskWarning, match="has no locks .*no other run writes there"):
        with claim_folder(tmp_path) as folder:
            (folder / "result").write_bytes(b"")
    assert (tmp_path / "result").exists()


def test_a_file_named_like_the_lock_is_left_as_it_is(tmp_path):
    (tmp_path / ".lock").write_bytes(b"of the user")
    with claim_folder(tmp_path):
        pass
    assert (tmp_path / ".lock").read_bytes() == b"of the user"


def test_what_a_killed_process_left_goes_when_the_folder_is_claimed(tmp_path):
    folders = [tmp_path, tmp_path / "figures", tmp_path / "sparse-regime" / "figures"]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{TEMPORARY}ab_1.nc").write_bytes(b"half")
        (folder / "result.nc").write_bytes(b"whole")
    (tmp_path / f"{TEMPORARY}link").symlink_to(tmp_path / "result.nc")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{TEMPORARY}cd").write_bytes(b"of another folder")
    (tmp_path / "linked").symlink_to(elsewhere)
    with claim_folder(tmp_path):
        for folder in folders:
            assert not (folder / f"{TEMPORARY}ab_1.nc").exists()
            assert (folder / "result.nc").read_bytes() == b"whole"
        assert (elsewhere / f"{TEMPORARY}cd").exists()


def test_a_process_killed_while_writing_leaves_what_the_next_one_removes(tmp_path):
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=write_and_die, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == -9 and (tmp_path / "a.txt").read_bytes() == b"old"
    assert len([name for name in os.listdir(tmp_path) if name.startswith(TEMPORARY)]) == 1
    with claim_folder(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".lock", "a.txt"]


def write_and_die(folder):
    write_text(folder / "a.txt", "old")
    with atomic_path(folder / "a.txt") as temporary:
        temporary.write_bytes(b"half")
        os.kill(os.getpid(), 9)


@pytest.mark.parametrize("name", [250 * "a" + ".toml", "a." + 200 * "b", "a[1]*?\n.nc", "-r", "é"])
def test_any_legal_name_can_be_written(name, tmp_path):
    write_text(tmp_path / name, "κ")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == "κ".encode()


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for folder, reason in [
        (tmp_path / "link", "it is a link to nothing"),
        (tmp_path / (256 * "a"), "File name too long"),
        (tmp_path / "a\0b", "null"),
    ]:
        with pytest.raises(ResultError, match=f"cannot write to the folder .*{reason}"):
            with claim_folder(folder):
                pass
    # Root may write anywhere, so that a folder's permissions would not do here.
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: fails_with(errno.EROFS)(0))
    with pytest.raises(ResultError, match="Read-only file system"), claim_folder(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == ["link"]
