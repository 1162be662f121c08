"""Compiled programs are kept between commands: half of a short command's time is compilation.

JAX's persistent compilation cache, in a folder of the user's. Programs found there are the very
ones that compiling would give, so results do not depend on it. JAX reads these settings from the
environment when it is imported; processes that the command starts inherit them.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

VARIABLE = "FEATPUR_CACHE"
"""``off``, or the folder to use; by default ``featpur_sim`` in the user's cache folder."""

_LIMIT = 2**30  # bytes; older programs go


def keep() -> str | None:
    """Have JAX keep compiled programs; nothing happens where the user has told JAX where to.

    Returns:
        What to tell the user, the first time; None after that.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    root = Path(wanted) if wanted else _users_folder()
    # A program of one processor may hold instructions that another lacks.
    folder = root / f"programs-{_machine()}"
    known = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        return None
    _forget_old(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # A damaged or unwritable entry is compiled again, and that is all.
    warnings.filterwarnings("ignore", message=".*persistent compilation cache")
    if known:
        return None
    return f"compiled programs are kept in {folder} for later commands; {VARIABLE}=off prevents it."


def _users_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "featpur_sim"


def _machine() -> str:
    """A name for this kind of processor and the flags that XLA compiles with."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    text = f"{platform.machine()} {features} {os.environ.get('XLA_FLAGS', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _forget_old(folder: Path) -> None:
    """Remove the oldest programs of a folder that has grown beyond the limit, to half of it."""
    found = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except OSError:  # another command has just removed it
            continue
        found.append((status.st_mtime, status.st_size, path))
    size = sum(entry[1] for entry in found)
    if size <= _LIMIT:
        return
    for _, own, path in sorted(found):
        if size <= _LIMIT // 2:
            break
        path.unlink(missing_ok=True)
        size -= own
