"""Files written whole or not at all, and folders with one writer at a time.

What a process that was killed left half-written is removed when its folder is next claimed.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# Beginning of the names of our temporary files.
TEMPORARY = ".featpur-"
LOCK = ".lock"

# How many folders deep a claimed folder may hold files of ours: DIR/sparse-regime/figures.
_DEPTH = 2
# What the operating systems say when another process holds a lock; anything else means that there
# are no locks here: ENOSYS on Lustre, ENOLCK or EOPNOTSUPP on some network file systems.
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


class ResultError(ValueError):
    """A folder that cannot be read as a run, or must not be written to; the message says why."""


class NotWritable(ResultError):
    """A folder that no file can be made in."""


class DiskWarning(UserWarning):
    """Something about a folder that the user should know; the work goes on."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it only if the block succeeds.

    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("whole", encoding="utf-8")
    >>> target.read_text(encoding="utf-8")
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, so that any legal name has room; the suffix tells NumPy and matplotlib the format.
    suffix = path.suffix if len(os.fsencode(path.suffix)) < 16 else ""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; a result is as readable as the user's other files.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 whatever the locale.

    Raises:
        OSError: the disk is full, say; the file is then as it was.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def require_writable(directory: str | Path) -> None:
    """Make a folder if it does not exist, and see that a file can be written there.

    Raises:
        NotWritable: it cannot.
    """
    directory = Path(directory)
    try:
        if directory.is_symlink() and not directory.exists():
            raise OSError(errno.ENOENT, "it is a link to nothing")
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"0")
    except (OSError, ValueError) as error:  # ValueError: a name with a null in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise NotWritable(
            f"cannot write to the folder {directory}: {reason}. Choose another."
        ) from None


def can_write(directory: str | Path) -> bool:
    """Whether `require_writable` lets a folder pass."""
    try:
        require_writable(directory)
    except ResultError:
        return False
    return True


@contextlib.contextmanager
def claim_folder(directory: str | Path) -> Iterator[Path]:
    """Hold a folder for one process; made if it does not exist.

    Temporary files that a killed process left there are removed. On a file system without locks
    the block runs all the same, with a `DiskWarning`.

    Raises:
        ResultError: another process is writing to it, or it cannot be created or written to.
    """
    directory = Path(directory)
    require_writable(directory)
    # Appending: a file of that name may be the user's.
    with open(directory / LOCK, "ab") as lock:
        try:
            _lock(lock.fileno())
        except OSError as error:
            if error.errno in _HELD:
                raise ResultError(
                    f"the folder {directory} is in use by another run: wait for it, or choose "
                    "another."
                ) from None
            warnings.warn(
                f"the file system of {directory} has no locks ({error.strerror}): see to it that "
                "no other run writes there.",
                DiskWarning,
                stacklevel=3,
            )
        _remove_leftovers(directory)
        yield directory


@contextlib.contextmanager
def claim_or_print(directory: str | Path, printing: bool) -> Iterator[bool]:
    """`claim_folder`, but a folder that cannot be written to is no error if results are printed.

    Yields:
        Whether files can be written there; if not, a `DiskWarning` says so.

    Raises:
        ResultError: as for `claim_folder`.
    """
    with contextlib.ExitStack() as stack:
        writable = True
        try:
            stack.enter_context(claim_folder(directory))
        except NotWritable as error:
            if not printing:
                raise NotWritable(f"{error} Or pass --json to have the result printed.") from None
            writable = False
            warnings.warn(f"{error} The result is printed only.", DiskWarning, stacklevel=3)
        yield writable


# By hand, not by `filelock`: one more dependency, whose default on a file system without locks is a
# marker file, and which takes EDEADLK, another's lock, for a failure.
def _lock(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(directory: Path, depth: int = _DEPTH) -> None:
    """Remove temporary files of ours; no writer is at work, since the folder is claimed."""
    with contextlib.suppress(OSError):  # a folder that may not be listed holds nothing of ours
        for entry in list(os.scandir(directory)):
            if entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False):
                Path(entry).unlink(missing_ok=True)
            elif depth and entry.is_dir(follow_symlinks=False):
                _remove_leftovers(Path(entry), depth - 1)
